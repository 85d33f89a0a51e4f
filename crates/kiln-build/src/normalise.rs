//! Takes out of a tree what is not the same every time, and what belongs to one machine.
//!
//! At the end of each stage that runs programs, inside the sandbox. [`RULES`] is the whole of it, a table for people: logs,
//! caches, backups, identities, secrets. What is removed and will be missed is in [`FIRST_BOOT`], with how to make it.
//!
//! Only what the stage made or changed is touched: what was there before is another stage's, which kept it on purpose.
//! Modification times are no business of this module: whoever reads the layer sets them.

mod keystore;
mod pattern;
mod rules;
mod shadow;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;

pub use rules::{Action, FIRST_BOOT, FirstBoot, RULES, Rule, print};

/// Who works in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// Maintainer scripts of packages.
    Packages,
    /// A step of the user's.
    Step,
}

/// Remembers what was there before a stage.
#[derive(Debug)]
pub(crate) struct Before {
    maker: Maker,
    files: BTreeMap<PathBuf, State>,
}

/// What tells whether a file is the same. Its inode number does not: overlayfs may change that at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Before {
    /// Looks at the tree before the stage's programs run. `root` is the tree without anything mounted in it.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub(crate) fn read(root: &Path, maker: Maker) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for pattern in RULES.iter().flat_map(|rule| rule.files) {
            for path in pattern::find(root, pattern)? {
                let state = State::of(&path)?;
                files.insert(path, state);
            }
        }
        Ok(Self { maker, files })
    }

    /// Applies every rule to what has been made or changed since. `epoch` is in seconds since 1970.
    ///
    /// # Errors
    /// If a file cannot be read, written or removed.
    pub(crate) fn clean(&self, root: &Path, epoch: i64) -> io::Result<()> {
        for rule in RULES {
            for pattern in rule.files {
                for path in pattern::find(root, pattern)? {
                    if self.files.get(&path) != Some(&State::of(&path)?) {
                        self.apply(rule.action, root, &path, epoch)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn apply(&self, action: Action, root: &Path, path: &Path, epoch: i64) -> io::Result<()> {
        match action {
            Action::Remove => remove(path),
            Action::RemoveOfPackages if self.maker == Maker::Packages => remove(path),
            Action::RemoveOfPackages => Ok(()),
            Action::RemoveLinkTo(name) if is_link_to(path, name)? => remove(path),
            Action::RemoveLinkTo(_) => Ok(()),
            Action::Empty => change(path, |content| (!content.is_empty()).then(Vec::new)),
            Action::EmptyUnlessShipped if is_empty(path)? || is_shipped(root, path)? => Ok(()),
            Action::EmptyUnlessShipped => change(path, |_| Some(Vec::new())),
            Action::Days => change(path, |content| shadow::with_days(content, epoch)),
            Action::Dates => change(path, |content| keystore::with_dates(content, epoch)),
        }
    }
}

impl State {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn is_link_to(path: &Path, name: &str) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_symlink()
        && fs::read_link(path)?.file_name().is_some_and(|target| target == name))
}

/// Whether it has nothing in it; so does what is no regular file.
fn is_empty(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(!metadata.is_file() || metadata.len() == 0)
}

/// Whether a package lists the file as its own.
fn is_shipped(root: &Path, path: &Path) -> io::Result<bool> {
    let Ok(relative) = path.strip_prefix(root) else { return Ok(false) };
    let line = [b"/", relative.as_os_str().as_encoded_bytes()].concat();
    for list in pattern::find(root, "var/lib/dpkg/info/*.list")? {
        if fs::read(list)?.split(|byte| *byte == b'\n').any(|other| other == line) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the file anew in its place if there is something to change; owner, mode and other names stay.
fn change(path: &Path, changed: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(());
    }
    let Some(content) = changed(&fs::read(path)?) else { return Ok(()) };
    let mut options = fs::OpenOptions::new();
    options.write(true).truncate(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options.open(path)?.write_all(&content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const EPOCH: i64 = 20_000 * 86_400;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    /// Every file with its content, and every directory that is empty.
    fn read(root: &Path) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if entries.is_empty() {
                files.insert(name(&directory) + "/", String::new());
            }
            for path in entries {
                match fs::symlink_metadata(&path).unwrap() {
                    metadata if metadata.is_dir() => directories.push(path),
                    metadata if metadata.is_symlink() => drop(files.insert(name(&path), "link".to_owned())),
                    _ => drop(files.insert(name(&path), fs::read_to_string(&path).unwrap())),
                }
            }
        }
        files
    }

    /// Writes `before`, then `made`, and cleans.
    fn check(maker: Maker, before: &[(&str, &str)], made: &[(&str, &str)], expected: &[(&str, &str)]) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, before);
        let looked = Before::read(root, maker).unwrap();
        write(root, made);
        looked.clean(root, EPOCH).unwrap();
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect();
        assert_eq!(read(root), expected);
        looked.clean(root, EPOCH).unwrap();
        assert_eq!(read(root), expected, "the second time");
    }

    #[test]
    fn what_is_not_the_same_every_time_goes() {
        let made = [
            ("etc/machine-id", "0123\n"),
            ("etc/passwd", "root"),
            ("etc/passwd-", "old"),
            ("etc/shadow", "root:*:20001:0:99999:7:::\n"),
            ("etc/ssh/ssh_host_rsa_key", "secret"),
            ("etc/ssh/ssh_host_rsa_key.pub", "public"),
            ("etc/ssh/sshd_config", "Port 22"),
            ("run/lock/x", "x"),
            ("tmp/.X/y", "y"),
            ("var/cache/apt/pkgcache.bin", "x"),
            ("var/cache/debconf/config.dat", "x"),
            ("var/cache/debconf/config.dat-old", "x"),
            ("var/lib/apt/lists/lock", ""),
            ("var/lib/apt/lists/mirror.example_dists_trixie_InRelease", "x"),
            ("var/lib/apt/lists/partial/y", "x"),
            ("var/lib/dbus/machine-id", "0123\n"),
            ("var/lib/dpkg/status", "x"),
            ("var/lib/dpkg/status-old", "x"),
            ("var/lib/mysql/debian-11.8.flag", ""),
            ("var/lib/mysql/ibdata1", "x"),
            ("var/lib/mysql/mysql/db.frm", "x"),
            ("var/lib/postgresql/17/main/PG_VERSION", "17"),
            ("var/lib/postgresql/17/main/base/1/1", "x"),
            ("var/log/dpkg.log", "x"),
        ];
        let expected = [
            ("etc/machine-id", ""),
            ("etc/passwd", "root"),
            ("etc/shadow", "root:*:20000:0:99999:7:::\n"),
            ("etc/ssh/sshd_config", "Port 22"),
            ("run/", ""),
            ("tmp/", ""),
            ("var/cache/apt/", ""),
            ("var/cache/debconf/config.dat", "x"),
            ("var/lib/apt/lists/partial/", ""),
            ("var/lib/dbus/", ""),
            ("var/lib/dpkg/status", "x"),
            ("var/lib/mysql/debian-11.8.flag", ""),
            ("var/lib/postgresql/17/main/", ""),
            ("var/log/", ""),
        ];
        check(Maker::Packages, &[], &made, &expected);
    }

    #[test]
    fn what_another_stage_kept_stays_while_it_is_the_same() {
        let before = [
            ("etc/ssh/ssh_host_rsa_key", "on purpose"),
            ("etc/passwd-", "on purpose"),
            ("var/lib/postgresql/17/main/PG_VERSION", "17"),
            ("var/log/app.log", "on purpose"),
        ];
        let made = [("etc/passwd-", "changed now"), ("var/log/other.log", "x")];
        let expected = [
            ("etc/ssh/ssh_host_rsa_key", "on purpose"),
            ("var/lib/postgresql/17/main/PG_VERSION", "17"),
            ("var/log/app.log", "on purpose"),
            ("var/log/other.log", ""),
        ];
        check(Maker::Packages, &before, &made, &expected);
    }

    #[test]
    fn what_a_step_makes_is_meant() {
        let files = [("var/lib/mysql/ibdata1", "x"), ("var/lib/postgresql/17/main/base/1/1", "x")];
        check(Maker::Step, &[], &files, &files);
    }

    #[test]
    fn logs_stay_empty_with_owner_and_mode_unless_a_package_ships_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let looked = Before::read(root, Maker::Packages).unwrap();
        write(
            root,
            &[
                ("var/lib/dpkg/info/odd.list", "/.\n/var/log/odd/README\n"),
                ("var/log/nginx/error.log", "x"),
                ("var/log/odd/README", "x"),
                ("var/log/odd/READ", "x"),
            ],
        );
        let log = root.join("var/log/nginx/error.log");
        fs::set_permissions(&log, std::fs::Permissions::from_mode(0o640)).unwrap();
        looked.clean(root, EPOCH).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o7777, 0o640);
        let content = |name: &str| fs::read_to_string(root.join("var/log").join(name)).unwrap();
        assert_eq!(["nginx/error.log", "odd/README", "odd/READ"].map(content), ["", "x", ""]);
    }

    #[test]
    fn nothing_outside_the_tree_is_touched() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), &[("wtmp", "x"), ("machine-id", "x"), ("ssh_host_rsa_key", "x")]);
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let looked = Before::read(root, Maker::Packages).unwrap();
        write(root, &[("etc/hosts", ""), ("var/lib/x", "")]);
        let link = |to: &Path, name: &str| fs::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link(outside.path(), "var/log");
        link(outside.path(), "etc/ssh");
        link(outside.path(), "tmp");
        link(&outside.path().join("machine-id"), "etc/machine-id");
        let files = read(root);
        looked.clean(root, EPOCH).unwrap();
        assert_eq!(read(root), files);
        assert_eq!(read(outside.path()).len(), 3);
        assert!(read(outside.path()).values().all(|content| content == "x"));
    }

    #[test]
    fn the_snake_oil_goes_with_the_link_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let looked = Before::read(root, Maker::Packages).unwrap();
        write(root, &[("etc/ssl/certs/ssl-cert-snakeoil.pem", "x"), ("etc/ssl/certs/ca.pem", "x")]);
        for (name, to) in [("0a775a30.0", "ca.pem"), ("62742064.0", "ssl-cert-snakeoil.pem")] {
            fs::os::unix::fs::symlink(to, root.join("etc/ssl/certs").join(name)).unwrap();
        }
        looked.clean(root, EPOCH).unwrap();
        let names: Vec<_> = read(root).into_keys().collect();
        assert_eq!(names, ["etc/ssl/certs/0a775a30.0", "etc/ssl/certs/ca.pem"]);
    }

    #[test]
    fn the_tables_are_in_the_documentation() {
        let page = include_str!("../../../docs/determinism.md");
        assert!(page.contains(&print()), "docs/determinism.md has not this:\n{}", print());
    }
}
