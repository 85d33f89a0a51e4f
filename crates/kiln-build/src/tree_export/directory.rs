//! A tree as a directory, written by root of the identity that built it.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_disk::tar::Content;
use kiln_disk::{Entry, Node, NodeKind};
use kiln_model::digest::Hasher;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, syncfs, utimensat,
};

use super::aside::{Aside, Kind};
use super::{BUFFER_BYTES, TreeExportError};
use crate::problem::{Doing as _, Problem};
use crate::tree::ClassTree;

/// Writes the tree to a place; returns where that is now which was there before and may be removed.
///
/// To be called by root of the identity that built the tree.
pub(super) fn write(tree: &ClassTree, place: &Utf8Path, force: bool) -> Result<Option<Utf8PathBuf>, Problem> {
    let aside = Aside::new(place, Kind::Directory).map_err(outward)?;
    let root = aside.path().as_std_path();
    let mut directories = Vec::new();
    let mut piece = vec![0; BUFFER_BYTES];
    for (path, entry) in tree.tree().entries() {
        let to = root.join(OsStr::from_bytes(path));
        match entry {
            Entry::HardLink { to: first } => {
                fs::hard_link(root.join(OsStr::from_bytes(first)), &to).doing("link", &to)?;
            }
            Entry::Node { node, layer } => {
                make(tree, node, Content { layer: *layer, path }, &to, &mut piece)?;
                match node.kind {
                    NodeKind::Directory => directories.push((to, node)),
                    _ => dress(&to, node)?,
                }
            }
        }
    }
    // What is put into a directory changes its time.
    directories.iter().rev().try_for_each(|(path, node)| dress(path, node))?;
    let flushed = fs::File::open(root).and_then(|root| Ok(syncfs(&root)?));
    flushed.doing("flush", root)?;
    aside.publish_keeping_old(force).map_err(outward)
}

/// An error on its way out of this process.
fn outward(error: TreeExportError) -> Problem {
    match &error {
        TreeExportError::Write { source, .. } => Problem::of(error.to_string(), source),
        _ => Problem::refused(error.to_string()),
    }
}

/// Makes a file with its content, not yet with its owner and mode.
fn make(tree: &ClassTree, node: &Node, from: Content<'_>, to: &PathBuf, piece: &mut [u8]) -> Result<(), Problem> {
    let special = |kind, device| mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), device).doing("make", to);
    match &node.kind {
        // The root is there.
        NodeKind::Directory if from.path.is_empty() => Ok(()),
        NodeKind::Directory => fs::create_dir(to).doing("make", to),
        NodeKind::File { .. } => copy(tree, node, from, to, piece),
        NodeKind::Symlink { target } => fs::os::unix::fs::symlink(OsStr::from_bytes(target), to).doing("make", to),
        NodeKind::CharacterDevice { major, minor } => special(FileType::CharacterDevice, makedev(*major, *minor)),
        NodeKind::BlockDevice { major, minor } => special(FileType::BlockDevice, makedev(*major, *minor)),
        NodeKind::Fifo => special(FileType::Fifo, 0),
        NodeKind::Socket => special(FileType::Socket, 0),
    }
}

/// Copies a file's content, which must be what it was when its layer was made.
fn copy(tree: &ClassTree, node: &Node, from: Content<'_>, to: &Path, piece: &mut [u8]) -> Result<(), Problem> {
    let NodeKind::File { size_bytes, sha256 } = &node.kind else { return Ok(()) };
    let mut source = tree.open(from).doing("read", to)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(to).doing("write", to)?;
    let (mut hasher, mut copied_bytes) = (Hasher::new(), 0);
    loop {
        let length = source.read(piece).doing("read", source.path())?;
        if length == 0 {
            break;
        }
        let read = piece.get(..length).unwrap_or_default();
        hasher.update(read);
        copied_bytes += length as u64;
        file.write_all(read).doing("write", to)?;
    }
    if copied_bytes == *size_bytes && hasher.finish() == *sha256 {
        return Ok(());
    }
    let path = from.path.escape_ascii();
    Err(Problem::damaged(format!("read /{path}: its content has changed since its layer was made"), from.layer))
}

/// Owner, mode, extended attributes and time, in the order in which one does not undo another.
fn dress(path: &Path, node: &Node) -> Result<(), Problem> {
    fs::os::unix::fs::lchown(path, Some(node.uid), Some(node.gid)).doing("set the owner of", path)?;
    if !matches!(node.kind, NodeKind::Symlink { .. }) {
        fs::set_permissions(path, std::fs::Permissions::from_mode(node.mode)).doing("set the mode of", path)?;
    }
    for (name, value) in &node.attributes {
        lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty()).doing("set an attribute of", path)?;
    }
    let modified = Timespec { tv_sec: node.modified, tv_nsec: 0 };
    let times = Timestamps { last_access: modified, last_modification: modified };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).doing("set the time of", path)
}
