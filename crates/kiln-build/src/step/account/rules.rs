//! What becomes of the tables of accounts: pure.
//!
//! - Ids: what the step says, else what the lock has given out, else as `adduser` chooses: the first that is free, from 100
//!   for system accounts and from 1000 for others (or as the tree's `/etc/login.defs` says); a person and the group of that
//!   name get one number. Nobody gets an id that the lock has for another.
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
        let value = pairs.rev().find(|(name, _)| *name == key)?.1.trim();
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

    /// How long a person's password is good: fields 4 to 6 of shadow(5).
    fn aging(&self) -> String {
        let number = |key| self.number(key).map(|number| number.to_string()).unwrap_or_default();
        ["PASS_MIN_DAYS", "PASS_MAX_DAYS", "PASS_WARN_AGE"].map(number).join(":")
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
    let uid = user_id(accounts, user, defaults, fixed, !*system && group.or(fixed_gid).is_none())?;
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

/// The id of a new user's own group: the user's number, if it is free; for system accounts only if the step says the number.
fn group_id(
    accounts: &Accounts,
    user: &AddUser,
    defaults: &Defaults,
    fixed: &FixedIds,
    uid: u32,
) -> Result<u32, Problem> {
    let free_in = |range| first_free(range, "group", &user.name, &[(&accounts.group, &fixed.groups)]);
    let range = defaults.range("GID", user.system);
    match user.system && user.uid.is_none() {
        true => free_in(range),
        false => free_in(uid..=uid).or_else(|_| free_in(range)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nmail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n\
        _apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nmail:x:8:\nusers:x:100:\nssl-cert:x:101:postgres\n";

    fn accounts() -> Accounts {
        let file = |path, text| Some(Table::parse(path, text));
        Accounts {
            passwd: Table::parse("/etc/passwd", PASSWD),
            group: Table::parse("/etc/group", GROUP),
            shadow: file("/etc/shadow", "root:*:1:0:99999:7:::\n"),
            gshadow: file("/etc/gshadow", "root:*::\nssl-cert:!::postgres\n"),
            subuid: file("/etc/subuid", "bob:100000:65536\ncarl:300000:65536\n"),
            subgid: None,
        }
    }

    fn user(name: &str, system: bool) -> AddUser {
        let (uid, group, groups, home, shell, comment) = (None, None, Vec::new(), None, None, None);
        AddUser { name: name.to_owned(), uid, group, groups, home, shell, system, comment }
    }

    fn fixed(users: &[(&str, u32)], groups: &[(&str, u32)]) -> FixedIds {
        let map = |pairs: &[(&str, u32)]| pairs.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        FixedIds { users: map(users), groups: map(groups) }
    }

    fn refusal<T>(result: Result<T, Problem>) -> String {
        match result {
            Err(Problem::Refused { message, hint }) => {
                hint.map_or(message.clone(), |hint| format!("{message} / {hint}"))
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => "fine".to_owned(),
        }
    }

    /// The last lines of passwd and group after a user was added.
    fn check_user(user: &AddUser, fixed: &FixedIds, passwd: &str, group: &str) {
        let mut accounts = accounts();
        add_user(&mut accounts, user, &Defaults::default(), fixed, 20_000).unwrap();
        let last = |table: &Table| table.text().lines().last().unwrap_or_default().to_owned();
        assert_eq!((last(&accounts.passwd).as_str(), last(&accounts.group).as_str()), (passwd, group));
    }

    #[test]
    fn ids_are_the_step_s_then_the_lock_s_then_the_first_free() {
        let none = FixedIds::default();
        let nologin = ":/nonexistent:/usr/sbin/nologin";
        check_user(&user("a", true), &none, &format!("a:x:101:102:{nologin}"), "a:x:102:");
        check_user(&user("a", false), &none, "a:x:1000:1000::/home/a:/bin/sh", "a:x:1000:");
        let locked = fixed(&[("a", 500)], &[("a", 600)]);
        check_user(&user("a", true), &locked, &format!("a:x:500:600:{nologin}"), "a:x:600:");
        let others = fixed(&[("b", 102), ("a", 500)], &[("c", 500)]);
        check_user(&user("a", true), &others, &format!("a:x:500:102:{nologin}"), "a:x:102:");
        let others = fixed(&[("b", 1000)], &[("c", 1001)]);
        check_user(&user("a", false), &others, "a:x:1002:1002::/home/a:/bin/sh", "a:x:1002:");
        let given = AddUser { uid: Some(700), ..user("a", true) };
        check_user(&given, &locked, &format!("a:x:700:600:{nologin}"), "a:x:600:");
        check_user(&given, &none, &format!("a:x:700:700:{nologin}"), "a:x:700:");
    }

    #[test]
    fn a_group_is_used_where_it_is_there() {
        let none = FixedIds::default();
        let of_its_name = user("ssl-cert", true);
        let line = "ssl-cert:x:101:101::/nonexistent:/usr/sbin/nologin";
        check_user(&of_its_name, &none, line, "ssl-cert:x:101:postgres");
        let named = AddUser { group: Some("mail".to_owned()), ..user("a", true) };
        check_user(&named, &none, "a:x:101:8::/nonexistent:/usr/sbin/nologin", "ssl-cert:x:101:postgres");
        let member = AddUser { group: Some("mail".to_owned()), groups: vec!["ssl-cert".to_owned()], ..user("a", true) };
        check_user(&member, &none, "a:x:101:8::/nonexistent:/usr/sbin/nologin", "ssl-cert:x:101:postgres,a");
        let missing = AddUser { groups: vec!["zebra".to_owned()], ..user("a", true) };
        let error = add_user(&mut accounts(), &missing, &Defaults::default(), &none, 0);
        let hint = "make it with a `group` step before this one";
        assert_eq!(refusal(error), format!("there is no group `zebra` for the user `a` / {hint}"));
    }

    #[test]
    fn other_files_get_their_lines() {
        let mut changed = accounts();
        let ann = AddUser { groups: vec!["ssl-cert".to_owned()], ..user("ann", false) };
        let defaults = Defaults { text: "PASS_MAX_DAYS\t99999\nPASS_MIN_DAYS 0".to_owned(), has_bash: true };
        add_user(&mut changed, &ann, &defaults, &FixedIds::default(), 20_000).unwrap();
        add_user(&mut changed, &user("s", true), &Defaults::default(), &FixedIds::default(), 20_000).unwrap();
        let text = |table: &Option<Table>| table.as_ref().map(Table::text).unwrap_or_default();
        assert_eq!(text(&changed.shadow), "root:*:1:0:99999:7:::\nann:!:20000:0:99999::::\ns:!:20000::::::\n");
        assert_eq!(text(&changed.gshadow), "root:*::\nssl-cert:!::postgres,ann\nann:!::\ns:!::\n");
        assert_eq!(text(&changed.subuid), "bob:100000:65536\ncarl:300000:65536\nann:165536:65536\n");
        assert_eq!(changed.subgid, None);
    }

    #[test]
    fn what_is_there_with_equal_properties_stays() {
        let mut same = accounts();
        let apt = AddUser { uid: Some(100), shell: Some("/usr/sbin/nologin".into()), ..user("_apt", true) };
        add_user(&mut same, &apt, &Defaults::default(), &FixedIds::default(), 0).unwrap();
        let group = AddGroup { name: "users".to_owned(), gid: Some(100), system: false };
        add_group(&mut same, &group, &Defaults::default(), &FixedIds::default()).unwrap();
        assert_eq!(same, accounts());
        let other = AddUser { shell: Some("/bin/sh".into()), comment: Some("APT".to_owned()), ..apt };
        assert_eq!(
            refusal(add_user(&mut same, &other, &Defaults::default(), &FixedIds::default(), 0)),
            "there is a user `_apt` already, with comment (none), not APT; shell /usr/sbin/nologin, not /bin/sh / \
             leave the key out to take it as it is, or change it with usermod in a `shell` step"
        );
        let group = AddGroup { gid: Some(7), ..group };
        assert_eq!(
            refusal(add_group(&mut same, &group, &Defaults::default(), &FixedIds::default())),
            "there is a group `users` already, with id 100, not 7 / \
             leave the key out to take it as it is, or change it with groupmod in a `shell` step"
        );
        let joins = AddUser { groups: vec!["mail".to_owned()], ..user("_apt", false) };
        add_user(&mut same, &joins, &Defaults::default(), &FixedIds::default(), 0).unwrap();
        assert!(same.group.text().contains("mail:x:8:_apt\n"));
    }

    #[test]
    fn ids_that_are_taken_or_used_up_are_refused() {
        let given = AddUser { uid: Some(8), ..user("a", true) };
        let error = add_user(&mut accounts(), &given, &Defaults::default(), &FixedIds::default(), 0);
        assert_eq!(refusal(error), "the user `a` cannot get the id 8: `mail` has it");
        let group = AddGroup { name: "a".to_owned(), gid: None, system: true };
        let error = add_group(&mut accounts(), &group, &Defaults::default(), &fixed(&[], &[("a", 101)]));
        assert_eq!(refusal(error), "the group `a` cannot get the id 101: `ssl-cert` has it");
        let narrow = Defaults { text: "SYS_UID_MIN 100\nSYS_UID_MAX\t100\n".to_owned(), has_bash: false };
        let error = add_user(&mut accounts(), &user("a", true), &narrow, &FixedIds::default(), 0);
        assert_eq!(refusal(error), "no id from 100 to 100 is free for the user `a`");
    }

    #[test]
    fn homes() {
        let home = |user: &AddUser| {
            let text = "# HOME_MODE 0750\nHOME_MODE\t0711\n".to_owned();
            let defaults = Defaults { text, has_bash: true };
            let home = add_user(&mut accounts(), user, &defaults, &FixedIds::default(), 0).unwrap();
            home.map(|home| format!("{} {:o} {}", home.path, home.mode, home.skeleton))
        };
        assert_eq!(home(&user("a", false)).as_deref(), Some("/home/a 711 true"));
        assert_eq!(home(&user("a", true)), None);
        let system = AddUser { home: Some("/var/lib/a".into()), ..user("a", true) };
        assert_eq!(home(&system).as_deref(), Some("/var/lib/a 755 false"));
        assert_eq!(home(&AddUser { home: Some("/nonexistent".into()), ..user("a", false) }), None);
        assert_eq!(home(&user("_apt", false)), None);
    }
}
