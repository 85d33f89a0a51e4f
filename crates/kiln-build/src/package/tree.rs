//! A tree as a place to put a package's files: the system calls, relative to its root.
//!
//! Symbolic links on the way to a file are followed, as dpkg follows them; the process is inside the tree's sandbox, so none
//! leads out.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use kiln_debian::deb::data::EntryKind;
use kiln_debian::dpkg::decision::{Existing, New};
use kiln_debian::dpkg::list;
use md5::{Digest as _, Md5};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid, chmodat, chownat, linkat, makedev,
    mkdirat, mknodat, openat, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

/// The most symbolic links that lead from one to the next: dpkg's limit for configuration files.
const LINKS_MAX: usize = 25;

/// The root of a tree.
pub(crate) struct Tree {
    root: OwnedFd,
}

/// Whose a file is, what may be done with it, and when it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metadata {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// In seconds since 1970.
    pub(crate) modified: i64,
}

/// The root itself has no name.
fn name(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

impl Tree {
    /// The tree at `path`.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: openat(rustix::fs::CWD, path, flags, Mode::empty())? })
    }

    /// What is at a path, if there is something.
    pub(crate) fn look(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        found(statat(&self.root, name(path), AtFlags::SYMLINK_NOFOLLOW))
    }

    /// What is at a path, or behind the link that is there.
    pub(crate) fn look_behind(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        found(statat(&self.root, name(path), AtFlags::empty()))
    }

    /// What is in the way of an entry.
    pub(crate) fn existing(&self, path: &[u8], kind: &EntryKind) -> io::Result<Existing> {
        let Some(found) = self.look(path)? else { return Ok(Existing::Nothing) };
        Ok(match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Existing::Directory,
            FileType::RegularFile => Existing::File,
            FileType::Symlink => match self.look_behind(path)?.filter(is_directory) {
                Some(behind) => Existing::LinkToDirectory { same: self.leads_to(path, kind, &behind)? },
                None => Existing::Other,
            },
            _ => Existing::Other,
        })
    }

    /// Whether the link that is to be placed would lead to this directory.
    fn leads_to(&self, path: &[u8], kind: &EntryKind, directory: &Stat) -> io::Result<bool> {
        let EntryKind::Symlink { target } = kind else { return Ok(false) };
        let behind = self.look_behind(&beside(path, target))?;
        Ok(behind.is_some_and(|behind| (behind.st_dev, behind.st_ino) == (directory.st_dev, directory.st_ino)))
    }

    /// The file that a configuration file is behind all links
    /// (`conffderef` in `src/main/configure.c`). `None` if the links go round in circles, or lead to something else.
    pub(crate) fn behind_links(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut path = path.to_vec();
        for _ in 0..LINKS_MAX {
            let Some(found) = self.look(&path)? else { return Ok(Some(path)) };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => return Ok(Some(path)),
                FileType::Symlink => path = beside(&path, readlinkat(&self.root, &path[..], Vec::new())?.as_bytes()),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// A new directory, whose metadata is still to be set.
    pub(crate) fn make_directory(&self, path: &[u8], metadata: Metadata) -> io::Result<()> {
        Ok(mkdirat(&self.root, name(path), mode(metadata.mode & 0o755))?)
    }

    /// A new file, whose metadata is still to be set.
    pub(crate) fn make_file(&self, path: &[u8], metadata: Metadata) -> io::Result<std::fs::File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = if is_plain(metadata.mode) { mode(metadata.mode) } else { Mode::empty() };
        Ok(openat(&self.root, path, flags, mode)?.into())
    }

    pub(crate) fn link(&self, to: &[u8], path: &[u8]) -> io::Result<()> {
        Ok(linkat(&self.root, to, &self.root, path, AtFlags::empty())?)
    }

    pub(crate) fn symlink(&self, target: &[u8], path: &[u8]) -> io::Result<()> {
        Ok(symlinkat(target, &self.root, path)?)
    }

    pub(crate) fn make_node(&self, path: &[u8], kind: FileType, major: u32, minor: u32) -> io::Result<()> {
        Ok(mknodat(&self.root, path, kind, Mode::empty(), makedev(major, minor))?)
    }

    pub(crate) fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        Ok(renameat(&self.root, from, &self.root, to)?)
    }

    /// Removes a file, or a directory and all in it; nothing is no error.
    pub(crate) fn remove(&self, path: &[u8]) -> io::Result<()> {
        match unlinkat(&self.root, path, AtFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) | Ok(()) => Ok(()),
            Err(Errno::ISDIR) => self.remove_directory(path),
            Err(error) => Err(error.into()),
        }
    }

    fn remove_directory(&self, path: &[u8]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&self.root, path, flags, Mode::empty())?;
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.remove(&[path, b"/", name].concat())?;
            }
        }
        Ok(unlinkat(&self.root, path, AtFlags::REMOVEDIR)?)
    }

    /// The MD5 of a file, as dpkg writes it.
    pub(crate) fn md5(&self, path: &[u8]) -> io::Result<String> {
        let mut file: std::fs::File = openat(&self.root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(list::hexadecimal(&Md5::digest(&bytes).into()))
    }

    /// Sets of the metadata of a directory or link that was just made what it has not by itself; `has_other_group` if the
    /// group may be another than root's.
    pub(crate) fn set_new_metadata(
        &self,
        path: &[u8],
        kind: &EntryKind,
        metadata: Metadata,
        has_other_group: bool,
    ) -> io::Result<()> {
        let is_link = matches!(kind, EntryKind::Symlink { .. });
        let is_root = (metadata.uid, metadata.gid) == (0, 0) && !has_other_group;
        if !is_root || !(is_link || is_plain(metadata.mode)) {
            return self.set_metadata(path, kind, metadata);
        }
        Ok(utimensat(&self.root, name(path), &times(metadata.modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets owner, mode and time, in the order in which one does not undo another.
    pub(crate) fn set_metadata(&self, path: &[u8], kind: &EntryKind, metadata: Metadata) -> io::Result<()> {
        let path = name(path);
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        chownat(&self.root, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(kind, EntryKind::Symlink { .. }) {
            chmodat(&self.root, path, mode(metadata.mode), AtFlags::empty())?;
        }
        Ok(utimensat(&self.root, path, &times(metadata.modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Sets owner, mode and time of a file that was just made; `has_other_group` if the group may be another than root's.
pub(crate) fn set_file_metadata(file: &std::fs::File, metadata: Metadata, has_other_group: bool) -> io::Result<()> {
    if has_other_group || (metadata.uid, metadata.gid) != (0, 0) {
        rustix::fs::fchown(file, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))?;
    }
    if !is_plain(metadata.mode) {
        rustix::fs::fchmod(file, mode(metadata.mode))?;
    }
    Ok(rustix::fs::futimens(file, &times(metadata.modified))?)
}

/// Whether a file gets this mode just by being made so: with the sandbox's umask of 022, and without special bits.
fn is_plain(mode: u32) -> bool {
    mode & !0o755 == 0
}

/// What the decision about an entry wants to know of it.
pub(crate) fn new(kind: &EntryKind) -> New {
    match kind {
        EntryKind::Directory => New::Directory,
        EntryKind::Symlink { .. } => New::Symlink,
        _ => New::Other,
    }
}

fn found(result: rustix::io::Result<Stat>) -> io::Result<Option<Stat>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// Where a link at `path` leads. An absolute one begins at the root of the process, which is the tree's.
fn beside(path: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => [path.get(..=slash).unwrap_or_default(), target].concat(),
        None => target.to_vec(),
    }
}

fn mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as RawMode)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_on_from_where_they_are() {
        assert_eq!(beside(b"etc/a", b"b"), b"etc/b");
        assert_eq!(beside(b"a", b"../b"), b"../b");
        assert_eq!(beside(b"etc/a", b"/run/b"), b"/run/b");
    }
}
