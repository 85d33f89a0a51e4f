//! What becomes of the tables of accounts: pure.
//!
//! - Ids: what the step says, else what the lock has given out, else the first that is free, from 100 for system accounts
//!   and from 1000 for others (or as the tree's `/etc/login.defs` says). Nobody gets an id that the lock has for another.
//! - Lines: as shadow's `useradd` and `groupadd` write them. Passwords are locked. The day of the last change is the epoch's.
//! - Homes: as `adduser` makes them: for people with the files of `/etc/skel`; for system accounts only where the step
//!   names one, and empty.

use std::collections::BTreeSet;
use std::path::Path;

use camino::Utf8PathBuf;
use kiln_model::spec::{AddGroup, AddUser};

use super::table::{Accounts, Table};
use crate::step::Problem;
use crate::step::root::{Ownership, Root};
use crate::workplace::FixedIds;

/// The id that stands for nobody in every tree.
const NOBODY: u32 = 65_534;

/// The home of accounts that have none, by Debian's policy (9.2.3).
const NO_HOME: &str = "/nonexistent";

/// What `adduser` gives a system account's home.
const SYSTEM_HOME_MODE: u32 = 0o755;

/// What the tree's own files say about new accounts: login.defs(5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Defaults {
    /// `/etc/login.defs`: a key and a value a line.
    text: String,
    /// Whether the tree has bash.
    has_bash: bool,
}

/// A home directory that the tree must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) path: Utf8PathBuf,
    pub(super) ownership: Ownership,
    pub(super) mode: u32,
    /// Whether it begins with the files of `/etc/skel`.
    pub(super) skeleton: bool,
}

/// Numbers from the first to the last.
type Range = std::ops::RangeInclusive<u32>;

impl Defaults {
    pub(super) fn read(root: &Root) -> Result<Self, Problem> {
        let text = root.read("/etc/login.defs")?.unwrap_or_default();
        let has_bash = root.exists(Path::new("/bin/bash"));
        Ok(Self { text: String::from_utf8_lossy(&text).into_owned(), has_bash })
    }

    /// The number that a key has: decimal, or octal with a leading zero.
    fn number(&self, key: &str) -> Option<u32> {
        let pairs = self.text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
        let value = pairs.filter(|(name, _)| *name == key).last()?.1.trim();
        match value.strip_prefix('0').filter(|rest| !rest.is_empty()) {
            Some(octal) => u32::from_str_radix(octal, 8).ok(),
            None => value.parse().ok(),
        }
    }

    /// The ids for new users (`UID`) or groups (`GID`).
    fn range(&self, kind: &str, system: bool) -> Range {
        let first = self.number(&format!("{kind}_MIN")).unwrap_or(1000);
        let last = self.number(&format!("{kind}_MAX")).unwrap_or(59_999);
        match system {
            false => first..=last,
            true => {
                let first_system = self.number(&format!("SYS_{kind}_MIN")).unwrap_or(100);
                first_system..=self.number(&format!("SYS_{kind}_MAX")).unwrap_or(first.saturating_sub(1))
            }
        }
    }

    fn shell(&self, system: bool) -> &'static str {
        match (system, self.has_bash) {
            (true, _) => "/usr/sbin/nologin",
            (false, true) => "/bin/bash",
            (false, false) => "/bin/sh",
        }
    }

    /// How long a person's password is good: the last fields of shadow(5).
    fn aging(&self) -> String {
        let number = |key, otherwise| self.number(key).unwrap_or(otherwise);
        let (least, most) = (number("PASS_MIN_DAYS", 0), number("PASS_MAX_DAYS", 99_999));
        format!("{least}:{most}:{}", number("PASS_WARN_AGE", 7))
    }
}

/// Makes sure that a group is there.
pub(super) fn add_group(
    accounts: &mut Accounts,
    group: &AddGroup,
    defaults: &Defaults,
    fixed: &FixedIds,
) -> Result<(), Problem> {
    let AddGroup { name, gid, system } = group;
    if let Some(id) = accounts.group.id(name) {
        let differs = gid.filter(|gid| *gid != id);
        return differs.map_or(Ok(()), |gid| Err(other("group", name, &[format!("id {id}, not {gid}")])));
    }
    let wanted = gid.or_else(|| fixed.groups.get(name).copied());
    let gid = match wanted {
        Some(gid) => check_free(&accounts.group, "group", name, gid)?,
        None => first_free(defaults.range("GID", *system), "group", name, &[(&accounts.group, &fixed.groups)])?,
    };
    append_group(accounts, name, gid);
    Ok(())
}

/// Makes sure that a user is there. Returns the home directory that it must have.
pub(super) fn add_user(
    accounts: &mut Accounts,
    user: &AddUser,
    defaults: &Defaults,
    fixed: &FixedIds,
    day: i64,
) -> Result<Option<Home>, Problem> {
    for group in user.groups.iter().chain(&user.group) {
        accounts.group.id(group).ok_or_else(|| missing_group(group, &user.name))?;
    }
    let home = match accounts.passwd.find(&user.name) {
        Some(fields) => check_same(user, &fields, accounts).map(|()| None)?,
        None => append_user(accounts, user, defaults, fixed, day).map(Some)?,
    };
    for group in &user.groups {
        accounts.group.add_member(group, &user.name);
        accounts.gshadow.iter_mut().for_each(|gshadow| gshadow.add_member(group, &user.name));
    }
    Ok(home.flatten())
}

fn missing_group(group: &str, user: &str) -> Problem {
    Problem::refused(format!("there is no group `{group}` for the user `{user}`"))
        .hint("make it with a `group` step before this one")
}

/// Refuses an account that is there with other properties than the step's.
fn check_same(user: &AddUser, fields: &[&str], accounts: &Accounts) -> Result<(), Problem> {
    let is = |index: usize| fields.get(index).copied().unwrap_or_default();
    let group = user.group.as_ref().and_then(|group| accounts.group.id(group));
    let wanted = [
        ("id", 2, user.uid.map(|uid| uid.to_string())),
        ("group id", 3, group.map(|gid| gid.to_string())),
        ("comment", 4, user.comment.clone()),
        ("home", 5, user.home.as_ref().map(ToString::to_string)),
        ("shell", 6, user.shell.as_ref().map(ToString::to_string)),
    ];
    let wanted = wanted.into_iter().filter_map(|(what, index, wanted)| Some((what, is(index), wanted?)));
    let differences: Vec<String> = wanted
        .filter(|(_, is, wanted)| is != wanted)
        .map(|(what, is, wanted)| format!("{what} {}, not {}", quoted(is), quoted(&wanted)))
        .collect();
    match differences.is_empty() {
        true => Ok(()),
        false => Err(other("user", &user.name, &differences)),
    }
}

fn quoted(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

fn other(noun: &str, name: &str, differences: &[String]) -> Problem {
    let program = if noun == "user" { "usermod" } else { "groupmod" };
    Problem::refused(format!("there is a {noun} `{name}` already, with {}", differences.join("; ")))
        .hint(format!("leave the key out to take it as it is, or change it with {program} in a `shell` step"))
}

fn append_user(
    accounts: &mut Accounts,
    user: &AddUser,
    defaults: &Defaults,
    fixed: &FixedIds,
    day: i64,
) -> Result<Option<Home>, Problem> {
    let AddUser { name, system, .. } = user;
    // Without a group of the step's, the group with the user's own name is the primary one, and is made if need be.
    let group = accounts.group.id(user.group.as_ref().unwrap_or(name));
    let fixed_gid = fixed.groups.get(name).copied();
    let uid = user_id(accounts, user, defaults, fixed, group.or(fixed_gid).is_none())?;
    let gid = match (group, fixed_gid) {
        (Some(gid), _) => gid,
        (None, Some(gid)) => check_free(&accounts.group, "group", name, gid)?,
        (None, None) => group_id(accounts, user, defaults, fixed, uid)?,
    };
    if group.is_none() {
        append_group(accounts, name, gid);
    }
    let home = home_path(user);
    let shell = user.shell.as_ref().map_or(defaults.shell(*system), |shell| shell.as_str());
    let comment = user.comment.as_deref().unwrap_or_default();
    let password = if accounts.shadow.is_some() { "x" } else { "!" };
    accounts.passwd.append(format!("{name}:{password}:{uid}:{gid}:{comment}:{home}:{shell}"));
    let aging = if *system { "::".to_owned() } else { defaults.aging() };
    accounts.shadow.iter_mut().for_each(|shadow| shadow.append(format!("{name}:!:{day}:{aging}:::")));
    if !*system {
        append_subordinate(&mut accounts.subuid, "UID", name, defaults)?;
        append_subordinate(&mut accounts.subgid, "GID", name, defaults)?;
    }
    Ok(home_to_make(user, defaults, home, Ownership { uid, gid }))
}

fn append_group(accounts: &mut Accounts, name: &str, gid: u32) {
    accounts.group.append(format!("{name}:x:{gid}:"));
    accounts.gshadow.iter_mut().for_each(|gshadow| gshadow.append(format!("{name}:!::")));
}

/// A new user's id; one that is free for its group too, where that is made and may have any.
fn user_id(
    accounts: &Accounts,
    user: &AddUser,
    defaults: &Defaults,
    fixed: &FixedIds,
    with_group: bool,
) -> Result<u32, Problem> {
    if let Some(uid) = user.uid.or_else(|| fixed.users.get(&user.name).copied()) {
        return check_free(&accounts.passwd, "user", &user.name, uid);
    }
    let users = (&accounts.passwd, &fixed.users);
    let groups = (&accounts.group, &fixed.groups);
    let taken = if with_group { vec![users, groups] } else { vec![users] };
    first_free(defaults.range("UID", user.system), "user", &user.name, &taken)
}

/// The id of a new user's own group: the user's number, if it is free.
fn group_id(
    accounts: &Accounts,
    user: &AddUser,
    defaults: &Defaults,
    fixed: &FixedIds,
    uid: u32,
) -> Result<u32, Problem> {
    let taken = [(&accounts.group, &fixed.groups)];
    first_free(uid..=uid, "group", &user.name, &taken)
        .or_else(|_| first_free(defaults.range("GID", user.system), "group", &user.name, &taken))
}

fn check_free(table: &Table, noun: &str, name: &str, id: u32) -> Result<u32, Problem> {
    match table.name(id) {
        None => Ok(id),
        Some(other) => Err(Problem::refused(format!("the {noun} `{name}` cannot get the id {id}: `{other}` has it"))),
    }
}

/// Ids in a tree, and those that the lock has for names that may not be there yet.
type Taken<'a> = (&'a Table, &'a std::collections::BTreeMap<String, u32>);

fn first_free(range: Range, noun: &str, name: &str, taken: &[Taken<'_>]) -> Result<u32, Problem> {
    let in_trees = taken.iter().flat_map(|(table, _)| table.ids().map(|(_, id)| id));
    let in_lock =
        taken.iter().flat_map(|(_, fixed)| fixed.iter().filter(|(other, _)| *other != name).map(|(_, id)| *id));
    let taken: BTreeSet<u32> = in_trees.chain(in_lock).chain([NOBODY]).collect();
    let (first, last) = (*range.start(), *range.end());
    range
        .into_iter()
        .find(|id| !taken.contains(id))
        .ok_or_else(|| Problem::refused(format!("no id from {first} to {last} is free for the {noun} `{name}`")))
}

/// Gives a person a range of subordinate ids, as `useradd` does, in a tree that has such ranges: subuid(5).
fn append_subordinate(table: &mut Option<Table>, kind: &str, name: &str, defaults: &Defaults) -> Result<(), Problem> {
    let Some(table) = table.as_mut().filter(|table| table.find(name).is_none()) else { return Ok(()) };
    let number = |key: &str, otherwise| defaults.number(&format!("SUB_{kind}_{key}")).unwrap_or(otherwise);
    let (count, last) = (number("COUNT", 65_536), number("MAX", 600_100_000));
    if count == 0 {
        return Ok(());
    }
    let mut first = number("MIN", 100_000);
    let mut taken: Vec<(u32, u32)> = table.entries().filter_map(|fields| subordinate(&fields)).collect();
    taken.sort_unstable();
    for (start, length) in taken {
        if start >= first && start - first >= count {
            break;
        }
        first = first.max(start.saturating_add(length));
    }
    if u64::from(first) + u64::from(count) > u64::from(last) + 1 {
        return Err(Problem::refused(format!("no range of subordinate ids is free for the user `{name}`")));
    }
    table.append(format!("{name}:{first}:{count}"));
    Ok(())
}

/// First and count of one line of subuid(5).
fn subordinate(fields: &[&str]) -> Option<(u32, u32)> {
    Some((fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?))
}

fn home_path(user: &AddUser) -> Utf8PathBuf {
    match (&user.home, user.system) {
        (Some(home), _) => home.clone(),
        (None, true) => NO_HOME.into(),
        (None, false) => format!("/home/{}", user.name).into(),
    }
}

fn home_to_make(user: &AddUser, defaults: &Defaults, path: Utf8PathBuf, ownership: Ownership) -> Option<Home> {
    if (user.system && user.home.is_none()) || path == NO_HOME || path == "/" {
        return None;
    }
    let mode = if user.system { SYSTEM_HOME_MODE } else { defaults.number("HOME_MODE").unwrap_or(0o700) };
    Some(Home { path, ownership, mode, skeleton: !user.system })
}
