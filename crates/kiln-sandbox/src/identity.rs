//! Who root inside is outside: real root, or a range of subordinate ids of an ordinary user.
//!
//! For a user, the ids 0 to 65535 inside are the first 65536 of the user's subordinate ids, so that files have real,
//! different owners; the user's own id is 65536 inside, so that root inside may go through the user's own directories.
//! The kernel lets only root write such a mapping: the set-user-id programs of Debian's `uidmap` do it for a user, and
//! check the range in `/etc/subuid` and `/etc/subgid` (subuid(5)). If Kiln itself is root it writes the mapping itself.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::{Gid, Pid, Uid, geteuid, getgid, getuid};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::system;

/// How many ids a tree may use: Debian's policy ends at 65535.
pub const IDS: u32 = 65536;

/// Where the first range goes on a machine that has none yet: what `adduser` does.
const FIRST_RANGE: u32 = 100_000;

/// Where the programs of `uidmap` may be.
const PROGRAM_DIRECTORIES: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"];

/// Who root inside is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Root, with ids that are the same inside and outside.
    Root,
    /// An ordinary user's subordinate ids.
    User(Subordinate),
}

/// An ordinary user and the ids it may use besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subordinate {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The first of [`IDS`] subordinate user ids.
    pub first_uid: u32,
    /// The first of [`IDS`] subordinate group ids.
    pub first_gid: u32,
}

/// Why the calling user cannot be root inside.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The user has no range of subordinate ids that is large enough.
    #[error("{file} gives {user} no range of {IDS} subordinate ids")]
    NoRange {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The user's name, or its number.
        user: String,
        /// The first id after all ranges that are given.
        free: u32,
    },
    /// A program of Debian's `uidmap` is missing.
    #[error("{program} is not installed")]
    NoProgram {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
    },
    /// A program of `uidmap` refused, or the kernel did.
    #[error("map the subordinate ids: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// A file could not be read or written.
    #[error("map the subordinate ids")]
    Io(#[from] io::Error),
}

impl IdentityError {
    /// The command that mends it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRange { user, free, .. } => {
                let last = free.saturating_add(IDS - 1);
                Some(format!("as root: usermod --add-subuids {free}-{last} --add-subgids {free}-{last} {user}"))
            }
            Self::NoProgram { .. } => Some("as root: apt-get install uidmap".to_owned()),
            Self::Refused { .. } => Some("kiln doctor says what is missing".to_owned()),
            Self::Io(_) => None,
        }
    }
}

impl Identity {
    /// The best identity of the calling user: root if it is root, its subordinate ids if not.
    ///
    /// # Errors
    /// If an ordinary user has no range of ids, or nothing to map it with.
    pub fn of_caller() -> Result<Self, IdentityError> {
        if geteuid().is_root() {
            return Ok(Self::Root);
        }
        for program in ["newuidmap", "newgidmap"] {
            helper(program)?;
        }
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let user = user_name(&read("/etc/passwd")?, uid).unwrap_or_else(|| uid.to_string());
        let first = |file| first_of_range(&read(file)?, file, &user, uid);
        let (first_uid, first_gid) = (first("/etc/subuid")?, first("/etc/subgid")?);
        Ok(Self::User(Subordinate { uid, gid, first_uid, first_gid }))
    }

    /// Whether ids inside differ from ids outside.
    pub(crate) fn is_user(self) -> bool {
        matches!(self, Self::User(_))
    }

    /// In the child: become the user and enter a namespace of ids, which has no mapping yet.
    pub(crate) fn enter_namespace(self) -> io::Result<()> {
        let Self::User(subordinate) = self else { return Ok(()) };
        if geteuid().is_root() {
            become_user(subordinate.uid, subordinate.gid)?;
        }
        system::unshare(UnshareFlags::NEWUSER)
    }

    /// In the child: become root of the namespace, whose mapping is there now.
    pub(crate) fn become_root(self) -> io::Result<()> {
        if self.is_user() { become_user(0, 0) } else { Ok(set_thread_groups(&[])?) }
    }

    /// In the parent: write the mapping of the child's namespace.
    pub(crate) fn map(self, child: Pid) -> Result<(), IdentityError> {
        let Self::User(Subordinate { uid, gid, first_uid, first_gid }) = self else { return Ok(()) };
        map("uid_map", "newuidmap", child, first_uid, uid)?;
        map("gid_map", "newgidmap", child, first_gid, gid)
    }
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

fn map(file: &str, program: &'static str, child: Pid, first: u32, own: u32) -> Result<(), IdentityError> {
    let pid = child.as_raw_nonzero();
    if geteuid().is_root() {
        return Ok(fs::write(format!("/proc/{pid}/{file}"), format!("0 {first} {IDS}\n{IDS} {own} 1\n"))?);
    }
    let fields = [i64::from(pid.get()), 0, first.into(), IDS.into(), IDS.into(), own.into(), 1];
    let mut command = std::process::Command::new(helper(program)?.as_str());
    let output = command.args(fields.map(|field| field.to_string())).env_clear().output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(IdentityError::Refused { message: String::from_utf8_lossy(output.stderr.trim_ascii()).into_owned() })
}

fn helper(program: &'static str) -> Result<Utf8PathBuf, IdentityError> {
    let places = PROGRAM_DIRECTORIES.iter().map(|directory| Utf8Path::new(directory).join(program));
    places.into_iter().find(|path| path.is_file()).ok_or(IdentityError::NoProgram { program })
}

/// A file that may be missing: then it says nothing.
fn read(path: &str) -> Result<String, IdentityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// The name of a user id in the text of passwd(5).
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2).and_then(|field| field.parse().ok()) == Some(uid))?;
    user.first().map(|name| (*name).to_owned())
}

/// The first id of the first range of at least [`IDS`] ids that the text of subuid(5) gives the user.
fn first_of_range(text: &str, file: &'static str, user: &str, uid: u32) -> Result<u32, IdentityError> {
    let ranges: Vec<(&str, u32, u32)> = text.lines().filter_map(range).collect();
    let is_users = |owner: &str| owner == user || owner.parse() == Ok(uid);
    let mut large = ranges.iter().filter(|(owner, _, count)| is_users(owner) && *count >= IDS);
    let free = ranges.iter().map(|(_, first, count)| first.saturating_add(*count)).max();
    large.next().map(|(_, first, _)| *first).ok_or_else(|| IdentityError::NoRange {
        file,
        user: user.to_owned(),
        free: free.unwrap_or_default().max(FIRST_RANGE),
    })
}

/// One line of subuid(5): `name:first:count`.
fn range(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.trim().split(':');
    let (owner, first, count) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((owner, first, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range(text: &str, expected: Result<u32, &str>) {
        let found = first_of_range(text, "/etc/subuid", "ann", 1000);
        let found = found.map_err(|error| error.hint().unwrap_or_default());
        assert_eq!(found.as_ref().copied().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn a_range_is_found_by_name_or_number() {
        check_range("bob:100000:65536\nann:165536:65536\n", Ok(165_536));
        check_range("1000:300000:70000\n", Ok(300_000));
        check_range("ann:1:10\nann:100000:65536\n", Ok(100_000));
    }

    #[test]
    fn without_a_range_the_hint_gives_one_that_is_free() {
        let first = "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ann";
        for text in ["", "ann:100000\n", "ann:x:y\n", "ann:1000:10\n"] {
            check_range(text, Err(first));
        }
        let after = "as root: usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann";
        check_range("bob:100000:65536\n", Err(after));
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0::/:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
    }
}
