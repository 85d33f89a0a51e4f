//! Numeric ids: who made which, whether the lock agrees, and how the lock's are imposed on what runs in a tree.
//!
//! 1. [`Accounts::read`] before and after a stage, [`made`] between them: what the stage gave out.
//! 2. [`check`] against the lock: [`Agreement`] says what to append, or what to impose and run again, or what is wrong.
//! 3. [`Imposed`] is put around every run of programs: `adduser`, `useradd`, `groupadd` and `systemd-sysusers` then take
//!    the lock's ids by themselves. Accounts are never made beforehand: scripts test whether theirs exists.
//!
//! Ids below 100 are Debian's own and the same everywhere (base-passwd), so they never enter a lock.

mod imposed;
mod sysusers;

use std::collections::{BTreeMap, BTreeSet};

use crate::workplace::FixedIds;

pub(crate) use imposed::Imposed;

/// The first id that is given out when it is asked for: Debian Policy 9.2.2.
const DYNAMIC_FIRST: u32 = 100;

/// The first id of regular users.
const REGULAR_FIRST: u32 = 1000;

/// The last id of regular users: Debian Policy 9.2.2.
const REGULAR_LAST: u32 = 59_999;

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// Everybody in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// User name to uid.
    pub(crate) users: BTreeMap<String, u32>,
    /// Group name to gid.
    pub(crate) groups: BTreeMap<String, u32>,
}

/// What the lock has to say about the ids that a stage made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// They are the lock's.
    Fine,
    /// The lock agrees, and is to learn these.
    Append(FixedIds),
    /// The lock has given the ids of new names to others: the stage is to run again with these imposed as well.
    Collision(FixedIds),
    /// Names of the lock have other ids here, although theirs were imposed.
    Wrong(Vec<Disagreement>),
}

/// A name with two ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disagreement {
    /// `user` or `group`.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// The id that it has in the tree.
    pub(crate) has: u32,
    /// The id that it has in the lock.
    pub(crate) locked: u32,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, name, has, locked } = self;
        write!(f, "{kind} {name} has id {has}, and id {locked} in [ids] of kiln.lock")
    }
}

impl Accounts {
    /// Reads `/etc/passwd` and `/etc/group`; lines that are none are nobody.
    pub(crate) fn read(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: names(passwd), groups: names(group) }
    }
}

/// Name and number of each line: its first and third field, as in passwd(5) and group(5).
fn names(text: &[u8]) -> BTreeMap<String, u32> {
    let text = String::from_utf8_lossy(text);
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    // As the C library does: the first line of a name counts.
    text.lines().rev().filter_map(entry).collect()
}

/// What was given out between two moments of a tree.
pub(crate) fn made(before: &Accounts, after: &Accounts) -> FixedIds {
    FixedIds { users: made_names(&before.users, &after.users), groups: made_names(&before.groups, &after.groups) }
}

fn made_names(before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let is_made = |name: &str, id: u32| id >= DYNAMIC_FIRST && id != NOBODY && before.get(name) != Some(&id);
    after.iter().filter(|(name, id)| is_made(name, **id)).map(|(name, id)| (name.clone(), *id)).collect()
}

/// Holds what a stage made against the lock. `tree` is everybody in the tree after the stage.
pub(crate) fn check(made: &FixedIds, locked: &FixedIds, tree: &Accounts) -> Agreement {
    let users = Compared::of(&made.users, &locked.users);
    let groups = Compared::of(&made.groups, &locked.groups);
    if !users.colliding.is_empty() || !groups.colliding.is_empty() {
        return Agreement::Collision(free(&users.colliding, &groups.colliding, made, locked, tree));
    }
    let wrong: Vec<_> = users.wrong("user").chain(groups.wrong("group")).collect();
    if !wrong.is_empty() {
        return Agreement::Wrong(wrong);
    }
    if users.new.is_empty() && groups.new.is_empty() {
        return Agreement::Fine;
    }
    Agreement::Append(FixedIds { users: users.new, groups: groups.new })
}

/// Names of one kind, by what the lock says about them.
struct Compared {
    /// Not in the lock, and their ids neither.
    new: BTreeMap<String, u32>,
    /// Not in the lock, but their ids are, for others.
    colliding: BTreeMap<String, u32>,
    /// In the lock with another id: name, id here, id there.
    other: Vec<(String, u32, u32)>,
}

impl Compared {
    fn of(made: &BTreeMap<String, u32>, locked: &BTreeMap<String, u32>) -> Self {
        let taken: BTreeSet<u32> = locked.values().copied().collect();
        let mut compared = Self { new: BTreeMap::new(), colliding: BTreeMap::new(), other: Vec::new() };
        for (name, &id) in made {
            match locked.get(name) {
                Some(&there) if there == id => {}
                Some(&there) => compared.other.push((name.clone(), id, there)),
                None if taken.contains(&id) => drop(compared.colliding.insert(name.clone(), id)),
                None => drop(compared.new.insert(name.clone(), id)),
            }
        }
        compared
    }

    fn wrong(&self, kind: &'static str) -> impl Iterator<Item = Disagreement> {
        self.other.iter().map(move |(name, has, locked)| Disagreement {
            kind,
            name: name.clone(),
            has: *has,
            locked: *locked,
        })
    }
}

/// The first ids that neither the lock nor the tree has. A user and a group of one name and number stay so.
fn free(
    users: &BTreeMap<String, u32>,
    groups: &BTreeMap<String, u32>,
    made: &FixedIds,
    locked: &FixedIds,
    tree: &Accounts,
) -> FixedIds {
    let mut taken_users: BTreeSet<u32> = locked.users.values().chain(tree.users.values()).copied().collect();
    let mut taken_groups: BTreeSet<u32> = locked.groups.values().chain(tree.groups.values()).copied().collect();
    let is_pair = |name: &String| made.users.get(name) == made.groups.get(name) && !locked.groups.contains_key(name);
    let mut found = FixedIds::default();
    for (name, id) in users {
        let is_taken = |id| taken_users.contains(&id) || (is_pair(name) && taken_groups.contains(&id));
        let Some(id) = first_free(*id, is_taken) else { continue };
        taken_users.insert(id);
        found.users.insert(name.clone(), id);
        if is_pair(name) {
            taken_groups.insert(id);
            found.groups.insert(name.clone(), id);
        }
    }
    for (name, id) in groups.iter().filter(|(name, _)| !is_pair(name) || !users.contains_key(*name)) {
        let Some(id) = first_free(*id, |id| taken_groups.contains(&id)) else { continue };
        taken_groups.insert(id);
        found.groups.insert(name.clone(), id);
    }
    found
}

/// The first free id of the kind that `like` is: of the system, or regular.
fn first_free(like: u32, is_taken: impl Fn(u32) -> bool) -> Option<u32> {
    let mut range = if like < REGULAR_FIRST { DYNAMIC_FIRST..=REGULAR_FIRST - 1 } else { REGULAR_FIRST..=REGULAR_LAST };
    range.find(|id| !is_taken(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, u32)];

    fn ids(users: Pairs<'_>, groups: Pairs<'_>) -> FixedIds {
        let of = |pairs: Pairs<'_>| pairs.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        FixedIds { users: of(users), groups: of(groups) }
    }

    fn accounts(users: Pairs<'_>, groups: Pairs<'_>) -> Accounts {
        let FixedIds { users, groups } = ids(users, groups);
        Accounts { users, groups }
    }

    #[test]
    fn files_are_read_as_the_c_library_does() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n\n# no:x:1:\nbroken:x\nbad:x:-1:0\n\xff:x:7:7::/:\nroot:x:5:5::/:\n:x:9:9\n";
        let users = [("# no", 1), ("\u{fffd}", 7), ("root", 0)];
        assert_eq!(Accounts::read(passwd, b"adm:*:4:a,b"), accounts(&users, &[("adm", 4)]));
    }

    #[test]
    fn what_a_stage_made_is_what_is_new_and_not_debians_own() {
        let before = accounts(&[("root", 0), ("moved", 105)], &[("users", 100)]);
        let after = accounts(
            &[("root", 0), ("moved", 106), ("games", 5), ("nobody", 65_534), ("sshd", 997), ("me", 1000)],
            &[("users", 100), ("nogroup", 65_534), ("crontab", 101)],
        );
        let expected = ids(&[("me", 1000), ("moved", 106), ("sshd", 997)], &[("crontab", 101)]);
        assert_eq!(made(&before, &after), expected);
    }

    fn check_agreement(made: &FixedIds, locked: &FixedIds, expected: Agreement) {
        let tree = Accounts { users: made.users.clone(), groups: made.groups.clone() };
        assert_eq!(check(made, locked, &tree), expected, "{made:?} {locked:?}");
    }

    #[test]
    fn ids_agree_with_the_lock_or_are_new_to_it() {
        let locked = ids(&[("sshd", 101)], &[("crontab", 101)]);
        check_agreement(&ids(&[], &[]), &locked, Agreement::Fine);
        check_agreement(&locked, &locked, Agreement::Fine);
        let new = ids(&[("nginx", 102)], &[("sshd", 102)]);
        check_agreement(&new, &locked, Agreement::Append(new.clone()));
        let both = ids(&[("nginx", 102), ("sshd", 101)], &[("crontab", 101)]);
        check_agreement(&both, &locked, Agreement::Append(ids(&[("nginx", 102)], &[])));
    }

    #[test]
    fn new_names_give_way_to_the_lock() {
        let locked = ids(&[("sshd", 100), ("me", 1000)], &[("crontab", 101)]);
        let check =
            |made: &FixedIds, expected: FixedIds| check_agreement(made, &locked, Agreement::Collision(expected));
        check(&ids(&[("nginx", 100)], &[]), ids(&[("nginx", 101)], &[]));
        // A pair stays one, and goes where both are free.
        check(&ids(&[("nginx", 100)], &[("nginx", 100)]), ids(&[("nginx", 102)], &[("nginx", 102)]));
        check(&ids(&[("b", 100), ("c", 101)], &[("d", 101)]), ids(&[("b", 102)], &[("d", 100)]));
        check(&ids(&[("you", 1000)], &[("you", 1000)]), ids(&[("you", 1001)], &[("you", 1001)]));
        // Others that are wrong may be so only because of this one.
        check(&ids(&[("nginx", 100), ("sshd", 105)], &[]), ids(&[("nginx", 101)], &[]));
    }

    #[test]
    fn a_name_with_another_id_is_named() {
        let locked = ids(&[("sshd", 100)], &[("crontab", 101)]);
        let made = ids(&[("new", 300), ("sshd", 150)], &[("crontab", 102)]);
        let Agreement::Wrong(wrong) = check(&made, &locked, &Accounts::default()) else { panic!("agrees") };
        let words: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "user sshd has id 150, and id 100 in [ids] of kiln.lock",
                "group crontab has id 102, and id 101 in [ids] of kiln.lock"
            ]
        );
    }
}
