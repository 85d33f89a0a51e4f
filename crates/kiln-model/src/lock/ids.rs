//! `[ids]`: what is appended to it, between the lines and comments of people.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use super::Ids;

impl Ids {
    /// Adds names that were never seen; those that are there keep their ids, and every line and comment its place. Where
    /// names are in order, new ones go where they belong; otherwise to the end.
    pub fn append(&mut self, users: &BTreeMap<String, u32>, groups: &BTreeMap<String, u32>) {
        let mut document: DocumentMut = self.text.parse().unwrap_or_default();
        let ids = document.entry("ids").or_insert_with(implicit_table);
        if !ids.is_table_like() {
            *ids = implicit_table();
        }
        if let Some(ids) = ids.as_table_like_mut() {
            append(ids, "users", &mut self.users, users);
            append(ids, "groups", &mut self.groups, groups);
        }
        self.text = document.to_string();
    }
}

fn append(ids: &mut dyn TableLike, key: &str, known: &mut BTreeMap<String, u32>, new: &BTreeMap<String, u32>) {
    for (name, id) in new {
        known.entry(name.clone()).or_insert(*id);
    }
    if known.is_empty() {
        return;
    }
    let table = ids.entry(key).or_insert_with(|| Item::Table(Table::new()));
    if !table.is_table_like() {
        *table = Item::Table(Table::new());
    }
    fill(table, known);
}

fn fill(item: &mut Item, known: &BTreeMap<String, u32>) {
    let Some(table) = item.as_table_like_mut() else { return };
    let is_sorted = table.iter().map(|(name, _)| name).is_sorted();
    for (name, id) in known.iter() {
        if !table.contains_key(name) {
            table.insert(name, value(i64::from(*id)));
        }
    }
    if is_sorted {
        table.sort_values();
    }
    if let Some(table) = item.as_inline_table_mut() {
        table.fmt();
    }
}

/// A table that needs no header of its own.
fn implicit_table() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs<'a> = &'a [(&'a str, u32)];

    fn map(pairs: Pairs<'_>) -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
    }

    /// The tables that a text holds.
    fn read(text: &str) -> (BTreeMap<String, u32>, BTreeMap<String, u32>) {
        let value: toml::Table = text.parse().unwrap();
        let of = |key: &str| match value.get("ids").and_then(|ids| ids.get(key)) {
            Some(table) => table.clone().try_into().unwrap(),
            None => BTreeMap::new(),
        };
        (of("users"), of("groups"))
    }

    fn check(text: &str, users: Pairs<'_>, groups: Pairs<'_>, expected: &str) {
        let (old_users, old_groups) = read(text);
        let mut ids = Ids { users: old_users, groups: old_groups, text: text.to_owned() };
        ids.append(&map(users), &map(groups));
        assert_eq!(ids.text, expected);
        assert_eq!(read(&ids.text), (ids.users, ids.groups));
    }

    #[test]
    fn the_first_names_make_the_section() {
        check(
            "",
            &[("sshd", 101), ("_apt", 100)],
            &[("crontab", 101)],
            "[ids.users]\n_apt = 100\nsshd = 101\n\n[ids.groups]\ncrontab = 101\n",
        );
        check("", &[], &[("machine$", 101)], "[ids.groups]\n\"machine$\" = 101\n");
        check("", &[], &[], "");
    }

    #[test]
    fn comments_and_order_are_kept() {
        check(
            "[ids.users]\n# by hand\nb = 101 # why\nd=103\n\n# groups\n[ids.groups]\n",
            &[("a", 1), ("c", 102), ("b", 7)],
            &[("g", 104)],
            "[ids.users]\na = 1\n# by hand\nb = 101 # why\nc = 102\nd=103\n\n# groups\n[ids.groups]\ng = 104\n",
        );
        check("[ids.users]\nz = 101\na = 102\n", &[("m", 103)], &[], "[ids.users]\nz = 101\na = 102\nm = 103\n");
    }

    #[test]
    fn other_ways_to_write_it_are_kept() {
        check("[ids]\nusers = { a = 100 }\n", &[("b", 101)], &[], "[ids]\nusers = { a = 100, b = 101 }\n");
        check("[ids]\nusers.a = 100\n", &[("b", 101)], &[], "[ids]\nusers.a = 100\nusers.b = 101\n");
    }

    proptest! {
        #[test]
        fn what_is_appended_is_read_back_and_nothing_is_lost(
            old in prop::collection::btree_map("[a-zA-Z_][a-z0-9_.$-]{0,6}", any::<u32>(), 0..6),
            new in prop::collection::btree_map("\\PC{1,6}", any::<u32>(), 0..6),
        ) {
            let mut ids = Ids::default();
            ids.append(&old, &new);
            ids.append(&new, &old);
            let union = |first: &BTreeMap<String, u32>, second: &BTreeMap<String, u32>| {
                second.clone().into_iter().chain(first.clone()).collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(&ids.users, &union(&old, &new));
            prop_assert_eq!(&ids.groups, &union(&new, &old));
            prop_assert_eq!(read(&ids.text), (ids.users, ids.groups));
        }
    }
}
