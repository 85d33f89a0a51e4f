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

/// What tells whether a file is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    inode: u64,
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
            inode: metadata.ino(),
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
