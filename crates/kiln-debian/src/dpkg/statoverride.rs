//! Overrides of owner and mode (`/var/lib/dpkg/statoverride`, `lib/dpkg/db-fsys-override.c`).

use std::collections::BTreeMap;

use super::account::Accounts;
use super::list::to_path;
use super::{DatabaseError, lines};

const FILE: &str = "/var/lib/dpkg/statoverride";

/// All overrides of a tree, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<Vec<u8>, Override>);

/// What counts instead of what the package says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Overrides {
    /// Reads the file: `USER GROUP MODE PATH` a line; ids are names, or numbers after a `#`.
    ///
    /// # Errors
    /// When a line breaks the format, or names a user or group that the tree does not know.
    pub fn parse(text: &[u8], users: &Accounts, groups: &Accounts) -> Result<Self, DatabaseError> {
        let mut overrides = BTreeMap::new();
        for (line, written) in lines(text) {
            let wrong = |reason| DatabaseError { file: FILE, line, reason };
            let fields: Vec<&[u8]> = written.splitn(4, |byte| *byte == b' ').collect();
            let [user, group, mode, name] = fields[..] else {
                return Err(wrong("a line has a user, a group, a mode and a path"));
            };
            let uid = id(user, users).ok_or_else(|| wrong("the tree has no such user"))?;
            let gid = id(group, groups).ok_or_else(|| wrong("the tree has no such group"))?;
            let mode = parse_mode(mode).ok_or_else(|| wrong("the mode is not an octal number up to 7777"))?;
            if overrides.insert(to_path(name).to_vec(), Override { uid, gid, mode }).is_some() {
                return Err(wrong("the path has an override already"));
            }
        }
        Ok(Self(overrides))
    }

    /// The override of a path, if there is one.
    #[must_use]
    pub fn of(&self, path: &[u8]) -> Option<&Override> {
        self.0.get(path)
    }
}

fn id(field: &[u8], accounts: &Accounts) -> Option<u32> {
    match field.strip_prefix(b"#") {
        Some(number) => std::str::from_utf8(number).ok()?.parse().ok(),
        None => accounts.number(field),
    }
}

fn parse_mode(field: &[u8]) -> Option<u32> {
    let mode = u32::from_str_radix(std::str::from_utf8(field).ok()?, 8).ok()?;
    (mode <= 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Overrides, DatabaseError> {
        let (users, groups) = (Accounts::parse(b"root:x:0:0:"), Accounts::parse(b"root:x:0:\nssl-cert:x:104:"));
        Overrides::parse(text.as_bytes(), &users, &groups)
    }

    #[test]
    fn names_and_numbers() {
        let overrides = parse("root ssl-cert 4750 /usr/bin/a b\n#7 #8 0640 /etc/x\n").unwrap();
        assert_eq!(overrides.of(b"usr/bin/a b"), Some(&Override { uid: 0, gid: 104, mode: 0o4750 }));
        assert_eq!(overrides.of(b"etc/x"), Some(&Override { uid: 7, gid: 8, mode: 0o640 }));
        assert_eq!(overrides.of(b"etc"), None);
    }

    #[test]
    fn damage_is_named() {
        let reason = |text: &str| parse(text).unwrap_err().reason;
        assert_eq!(reason("root root 0640\n"), "a line has a user, a group, a mode and a path");
        assert_eq!(reason("nobody root 0640 /a\n"), "the tree has no such user");
        assert_eq!(reason("root nobody 0640 /a\n"), "the tree has no such group");
        assert_eq!(reason("root root 17777 /a\n"), "the mode is not an octal number up to 7777");
        assert_eq!(reason("root root 1 /a\nroot root 2 /a\n"), "the path has an override already");
    }
}
