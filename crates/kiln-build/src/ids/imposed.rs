//! Has programs give accounts the lock's ids, without a trace in the tree.
//!
//! - `adduser`, `addgroup`, `useradd` and `groupadd` are covered by `account.sh`, which calls the real one with a range that
//!   holds the wanted id alone. (adduser's own UID_POOL would need a change to `/etc/adduser.conf`, which belongs to a
//!   package and to the user, would not cover `useradd`, and before version 3.139 does not keep other names off its ids.)
//! - `systemd-sysusers NAME.conf` prefers `/run/sysusers.d/NAME.conf` to the package's: it is written from that one, with
//!   ids in place of `-`.
//!
//! Covers are mounts, and `/run` is in memory: the layer that is being written has no part in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::Inside;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::{DYNAMIC_FIRST, REGULAR_FIRST, REGULAR_LAST, sysusers};
use crate::workplace::FixedIds;

/// Where everything is while ids are imposed; `account.sh` names it too.
const PLACE: &str = "/run/kiln/ids";

/// What stands before the programs that make accounts.
const ACCOUNT: &str = include_str!("account.sh");

/// The programs that it stands before.
const PROGRAMS: &[&str] = &["adduser", "groupadd", "useradd"];

/// Where they are.
const PROGRAMS_DIRECTORY: &str = "/usr/sbin";

/// Where packages say which accounts they need, the directory that wins first: sysusers.d(5).
const SYSUSERS_DIRECTORIES: &[&str] = &["/etc/sysusers.d", "/usr/local/lib/sysusers.d", "/usr/lib/sysusers.d"];

/// Where what they say is overridden.
const SYSUSERS_OVERRIDES: &str = "/run/sysusers.d";

/// Ids are imposed while this lives.
#[derive(Debug)]
#[must_use = "ids are imposed while this lives"]
pub(crate) struct Imposed {
    /// Mounts, in the order in which they were made.
    mounts: Vec<Utf8PathBuf>,
    /// Files and directories to remove.
    made: Vec<Utf8PathBuf>,
}

impl Imposed {
    /// Begins to impose ids, in the tree that this process is inside of. Packages that bring the programs or the files of
    /// sysusers.d must have been placed before, and none of them can be replaced before the end.
    ///
    /// # Errors
    /// If something cannot be written or mounted.
    pub(crate) fn begin(_inside: &Inside<'_>, fixed: &FixedIds) -> io::Result<Self> {
        let mut imposed = Self { mounts: Vec::new(), made: Vec::new() };
        if fixed.users.is_empty() && fixed.groups.is_empty() {
            return Ok(imposed);
        }
        let ranges = Ranges::beside(fixed);
        imposed.cover_programs(fixed, &ranges)?;
        imposed.override_sysusers(fixed, &ranges)?;
        Ok(imposed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// If something cannot be unmounted or removed.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.undo()
    }

    fn undo(&mut self) -> io::Result<()> {
        while let Some(path) = self.mounts.pop() {
            unmount(path.as_str(), UnmountFlags::DETACH)?;
        }
        while let Some(path) = self.made.pop() {
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    fn cover_programs(&mut self, fixed: &FixedIds, ranges: &Ranges) -> io::Result<()> {
        let place = Utf8Path::new(PLACE);
        fs::create_dir_all(place.join("real"))?;
        self.made.push(place.to_owned());
        fs::write(place.join("users"), lines(&fixed.users))?;
        fs::write(place.join("groups"), lines(&fixed.groups))?;
        fs::write(place.join("ranges"), ranges.print())?;
        let account = place.join("account");
        fs::write(&account, ACCOUNT)?;
        fs::set_permissions(&account, std::fs::Permissions::from_mode(0o755))?;
        fs::os::unix::fs::symlink("adduser", place.join("real/addgroup"))?;
        for name in PROGRAMS {
            let program = Utf8Path::new(PROGRAMS_DIRECTORY).join(name);
            if program.is_file() {
                let real = place.join("real").join(name);
                fs::write(&real, "")?;
                self.mount(&program, real)?;
                self.mount(&account, program)?;
            }
        }
        Ok(())
    }

    fn mount(&mut self, from: &Utf8Path, to: Utf8PathBuf) -> io::Result<()> {
        mount_bind(from.as_str(), to.as_str())
            .map_err(|error| io::Error::other(format!("mount {from} on {to}: {error}")))?;
        self.mounts.push(to);
        Ok(())
    }

    fn override_sysusers(&mut self, fixed: &FixedIds, ranges: &Ranges) -> io::Result<()> {
        let overrides = Utf8Path::new(SYSUSERS_OVERRIDES);
        for (name, path) in sysusers_files()? {
            let file = overrides.join(name);
            let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
            if let Some(text) = sysusers::with_ids(&text, fixed, &ranges.system)
                && !file.exists()
            {
                fs::create_dir_all(overrides)?;
                fs::write(&file, text)?;
                self.made.push(file);
            }
        }
        Ok(())
    }
}

impl Drop for Imposed {
    fn drop(&mut self) {
        // On the way out of an error: the sandbox ends with it, and what is left goes with the sandbox.
        let _ = self.undo();
    }
}

/// The files that say which accounts there should be, by name, but those of `/etc`, which win over any override.
fn sysusers_files() -> io::Result<BTreeMap<String, Utf8PathBuf>> {
    let mut files = BTreeMap::new();
    for directory in SYSUSERS_DIRECTORIES {
        let entries = match Utf8Path::new(directory).read_dir_utf8() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().ends_with(".conf") && entry.path().is_file() {
                files.entry(entry.file_name().to_owned()).or_insert_with(|| entry.path().to_owned());
            }
        }
    }
    files.retain(|_, path| !path.starts_with("/etc"));
    Ok(files)
}

fn lines(ids: &BTreeMap<String, u32>) -> String {
    ids.iter().fold(String::new(), |mut text, (name, id)| {
        let _ = writeln!(text, "{name}:{id}");
        text
    })
}

/// From where names that the lock does not know may take their ids: the widest ranges in which it has none.
#[derive(Debug, PartialEq, Eq)]
struct Ranges {
    system: RangeInclusive<u32>,
    regular: RangeInclusive<u32>,
}

impl Ranges {
    fn beside(fixed: &FixedIds) -> Self {
        let taken: BTreeSet<u32> = fixed.users.values().chain(fixed.groups.values()).copied().collect();
        Self {
            system: widest(DYNAMIC_FIRST..=REGULAR_FIRST - 1, &taken),
            regular: widest(REGULAR_FIRST..=REGULAR_LAST, &taken),
        }
    }

    /// As variables of the shell.
    fn print(&self) -> String {
        let Self { system, regular } = self;
        format!(
            "system_first={}\nsystem_last={}\nregular_first={}\nregular_last={}\n",
            system.start(),
            system.end(),
            regular.start(),
            regular.end()
        )
    }
}

/// The widest range in `all` without an id that is taken, the first of equals; `all` itself if none is free.
fn widest(all: RangeInclusive<u32>, taken: &BTreeSet<u32>) -> RangeInclusive<u32> {
    let mut best: Option<RangeInclusive<u32>> = None;
    let mut first = *all.start();
    for &id in taken.range(all.clone()).chain([&(all.end() + 1)]) {
        let width = |range: &RangeInclusive<u32>| range.end() - range.start() + 1;
        if id > first && best.as_ref().is_none_or(|best| width(best) < id - first) {
            best = Some(first..=id - 1);
        }
        first = id + 1;
    }
    best.unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_no_id_that_is_taken() {
        let check = |taken: &[u32], expected: RangeInclusive<u32>| {
            assert_eq!(widest(100..=199, &taken.iter().copied().collect()), expected, "{taken:?}");
        };
        check(&[], 100..=199);
        check(&[100, 101, 199], 102..=198);
        check(&[150], 100..=149);
        check(&[120, 99, 200, 5000], 121..=199);
        check(&(100..=199).collect::<Vec<_>>(), 100..=199);
    }
}
