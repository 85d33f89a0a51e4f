//! Users and groups of a tree: owners by name, and which numbers the names have.

use std::collections::BTreeMap;

use super::manifest::Manifest;

/// Who has which number.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) users: BTreeMap<String, String>,
    pub(super) groups: BTreeMap<String, String>,
}

pub(super) const PASSWD: &str = "etc/passwd";
pub(super) const GROUP: &str = "etc/group";

impl Accounts {
    pub(super) fn of(manifest: &Manifest) -> Self {
        let read = |path: &str| manifest.texts.get(path).map(|text| numbers(text)).unwrap_or_default();
        Self { users: read(PASSWD), groups: read(GROUP) }
    }

    pub(super) fn user(&self, uid: u64) -> String {
        name(&self.users, uid)
    }

    pub(super) fn group(&self, gid: u64) -> String {
        name(&self.groups, gid)
    }
}

/// The third field of each line, by the first.
fn numbers(text: &str) -> BTreeMap<String, String> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
    };
    text.lines().filter_map(account).collect()
}

fn name(accounts: &BTreeMap<String, String>, number: u64) -> String {
    let number = number.to_string();
    let found = accounts.iter().find(|(_, id)| **id == number);
    found.map_or(format!("#{number}"), |(name, _)| name.clone())
}

/// A file of accounts without their numbers, each line by the name of its account.
pub(super) fn without_numbers(path: &str, text: &str, accounts: &Accounts) -> String {
    let line = |line: &str| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if let Some(number) = fields.get_mut(2) {
            *number = "number".to_owned();
        }
        if path == PASSWD
            && let Some(group) = fields.get_mut(3)
        {
            *group = group.parse().map_or(group.clone(), |gid| accounts.group(gid));
        }
        fields.join(":") + "\n"
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names() {
        let mut manifest = Manifest::default();
        manifest.texts.insert(PASSWD.to_owned(), "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/:/bin/false\n".to_owned());
        manifest.texts.insert(GROUP.to_owned(), "root:x:0:\nweb:x:102:\n".to_owned());
        let accounts = Accounts::of(&manifest);
        assert_eq!([accounts.user(101), accounts.group(102), accounts.user(7)], ["web", "web", "#7"]);
        let text = without_numbers(PASSWD, &manifest.texts[PASSWD], &accounts);
        assert_eq!(text, "root:x:number:root::/root:/bin/sh\nweb:x:number:web::/:/bin/false\n");
    }
}
