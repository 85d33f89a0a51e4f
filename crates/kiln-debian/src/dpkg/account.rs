//! Numbers of users and groups by name, from passwd(5) and group(5).

use std::collections::BTreeMap;

use crate::deb::data::Owner;

/// The users or the groups that a tree knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts(BTreeMap<Vec<u8>, u32>);

impl Accounts {
    /// Reads `/etc/passwd` or `/etc/group`: the name is the first field, the number the third. Lines that make no sense
    /// are passed over, as the C library does; of two lines with the same name the first counts.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut accounts = BTreeMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':');
            let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(parse_number));
            if let Some(number) = number.filter(|_| !name.is_empty()) {
                accounts.entry(name.to_vec()).or_insert(number);
            }
        }
        Self(accounts)
    }

    /// The number of a name.
    #[must_use]
    pub fn number(&self, name: &[u8]) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// The number of an owner that a package names: its name's, if the tree knows it, else its own.
    #[must_use]
    pub fn resolve(&self, owner: &Owner) -> u32 {
        self.number(&owner.name).unwrap_or(owner.id)
    }
}

fn parse_number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, id: u32) -> Owner {
        Owner { id, name: name.into() }
    }

    #[test]
    fn the_name_counts_where_it_is_known() {
        let accounts = Accounts::parse(b"root:x:0:0::/:/bin/sh\nbroken\n:x:9\nmail:x:8:\nmail:x:18:\nbad:x:-1:\n");
        assert_eq!(accounts.resolve(&owner("mail", 12)), 8);
        assert_eq!(accounts.resolve(&owner("news", 12)), 12);
        assert_eq!(accounts.resolve(&owner("", 7)), 7);
        assert_eq!(accounts.resolve(&owner("bad", 3)), 3);
    }
}
