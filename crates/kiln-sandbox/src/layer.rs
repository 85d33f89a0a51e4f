//! Layers: directories that hold what one stage changed, in the form in which overlayfs reads them.
//!
//! The form is the same whoever wrote the layer and is the kernel's own (Documentation/filesystems/overlayfs.rst):
//!
//! - a file that is gone is a character device 0:0, which an ordinary user may make too;
//! - a directory that hides those below it has `user.overlay.opaque` = `y`;
//! - on a file system that refuses such devices (an overlay, in a container) a file that is gone is an empty file with
//!   `user.overlay.whiteout`, its directory and the layer's root then have `user.overlay.opaque` = `x`; kernels since 6.7
//!   can lay such layers over each other;
//! - no other `user.overlay.*`: what overlayfs notes for itself says where a file came from on this machine.
//!
//! Owners are those of the host: a user's layers belong to the user's subordinate ids, and only [`remove_tree`], which
//! becomes their root, can delete them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use fs_err as fs;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr,
    mknodat, utimensat,
};
use rustix::io::Errno;

use crate::identity::Identity;
use crate::message::Doing as _;
use crate::sandbox::SandboxError;

const MARKS: &[u8] = b"user.overlay.";
const OPAQUE: &CStr = c"user.overlay.opaque";
const WHITEOUT: &CStr = c"user.overlay.whiteout";

/// An extended attribute may have this many bytes: the kernel's limit.
const XATTR_BYTES_MAX: usize = 65536;

/// Magic numbers of file systems that cannot carry the layer that is being written: overlay, NFS, FUSE, 9p, eCryptfs.
const NO_UPPER: &[u64] = &[0x794c_7630, 0x6969, 0x6573_5546, 0x0102_1997, 0xf15f];

/// Whether the entry of a layer says that a file of this name, in the layers below, is gone.
///
/// # Errors
/// If its extended attributes cannot be read.
pub fn is_whiteout(path: &Path, metadata: &std::fs::Metadata) -> io::Result<bool> {
    if metadata.file_type().is_char_device() {
        return Ok(metadata.rdev() == 0);
    }
    Ok(metadata.is_file() && metadata.len() == 0 && attribute(path, WHITEOUT)?.is_some())
}

/// Whether the directory of a layer hides the directory of this name in the layers below.
///
/// # Errors
/// If its extended attributes cannot be read.
pub fn is_opaque(directory: &Path) -> io::Result<bool> {
    Ok(attribute(directory, OPAQUE)?.is_some_and(|value| value == b"y"))
}

/// Removes a file, or a directory and all in it, whoever owns it: root, the user, or the user's subordinate ids.
///
/// # Errors
/// If the identity cannot be taken, or something cannot be removed.
pub fn remove_tree(path: &Utf8Path, identity: Identity) -> Result<(), SandboxError> {
    let remove = || match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    let result = match identity {
        Identity::Root => remove(),
        // What the user may not remove belongs to the subordinate ids.
        Identity::User(_) => identity.act(|| remove().doing(String::new))?.map_err(|failure| failure.into_cause().1),
    };
    result.map_err(|source| SandboxError::Remove { path: path.to_owned(), source })
}

/// Whether the layer that is being written can lie in this directory, which exists.
///
/// # Errors
/// If the directory's file system cannot be asked.
pub(crate) fn carries_upper(directory: &Utf8Path) -> io::Result<bool> {
    let magic = rustix::fs::statfs(directory.as_std_path())?.f_type;
    Ok(!NO_UPPER.contains(&u64::try_from(magic).unwrap_or_default()))
}

/// Brings a layer that overlayfs wrote in place into its form.
pub(crate) fn clean(layer: &Path) -> io::Result<()> {
    for mark in attribute_names(layer)?.iter().filter(|name| is_passing_mark(name)) {
        lremovexattr(layer, mark.as_c_str())?;
    }
    let metadata = fs::symlink_metadata(layer)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(layer)? {
            clean(&entry?.path())?;
        }
    }
    Ok(())
}

/// Copies a layer that overlayfs wrote into a new directory, in its form.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::create_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(to)?.next().is_some() {
                return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
            }
        }
        result => result?,
    }
    let mut copy = Copy { links: BTreeMap::new(), marked: false };
    copy.contents(from, to)?;
    attributes(from, to, &fs::symlink_metadata(from)?)?;
    if copy.marked { mark(to) } else { Ok(()) }
}

/// One copy of a layer.
struct Copy {
    /// Where files with several names were copied to, by inode.
    links: BTreeMap<u64, PathBuf>,
    /// Whether a whiteout had to be written as an attribute.
    marked: bool,
}

impl Copy {
    fn contents(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut marked = false;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            marked |= self.entry(&entry.path(), &to.join(entry.file_name()))?;
        }
        self.marked |= marked;
        if marked && !is_opaque(from)? { mark(to) } else { Ok(()) }
    }

    /// Copies one entry; true if it is a whiteout that the directory must have a mark for.
    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<bool> {
        let metadata = fs::symlink_metadata(from)?;
        if is_whiteout(from, &metadata)? {
            return write_whiteout(to);
        }
        if metadata.nlink() > 1 && !metadata.is_dir() {
            if let Some(first) = self.links.get(&metadata.ino()) {
                fs::hard_link(first, to)?;
                return Ok(false);
            }
            self.links.insert(metadata.ino(), to.to_owned());
        }
        self.node(from, to, &metadata)?;
        attributes(from, to, &metadata)?;
        Ok(false)
    }

    fn node(&mut self, from: &Path, to: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::create_dir(to)?;
            self.contents(from, to)
        } else if kind.is_file() {
            fs::copy(from, to).map(|_| ())
        } else if kind.is_symlink() {
            fs::os::unix::fs::symlink(fs::read_link(from)?, to)
        } else {
            let kind = FileType::from_raw_mode(metadata.mode());
            Ok(mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), metadata.rdev())?)
        }
    }
}

/// Owner, mode, extended attributes and time, in the order in which one does not undo another.
fn attributes(from: &Path, to: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
    fs::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.is_symlink() {
        fs::set_permissions(to, std::fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    for name in attribute_names(from)?.iter().filter(|name| !is_passing_mark(name)) {
        if let Some(value) = attribute(from, name)? {
            lsetxattr(to, name.as_c_str(), &value, XattrFlags::empty())?;
        }
    }
    let modified = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: modified, last_modification: modified };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Writes a whiteout; true if only as an attribute.
fn write_whiteout(path: &Path) -> io::Result<bool> {
    match mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {
            fs::write(path, "")?;
            lsetxattr(path, WHITEOUT, b"y", XattrFlags::empty())?;
            Ok(true)
        }
        result => Ok(result.map(|()| false)?),
    }
}

/// Tells overlayfs to look for whiteouts that are attributes.
fn mark(directory: &Path) -> io::Result<()> {
    Ok(lsetxattr(directory, OPAQUE, b"x", XattrFlags::empty())?)
}

/// Whether it is a mark of overlayfs that means nothing outside the mount it was made in.
fn is_passing_mark(name: &CStr) -> bool {
    name.to_bytes().starts_with(MARKS) && name != OPAQUE && name != WHITEOUT
}

fn attribute_names(path: &Path) -> io::Result<Vec<std::ffi::CString>> {
    let mut buffer = vec![0; 1024];
    let length = match llistxattr(path, &mut buffer[..]) {
        Err(Errno::RANGE) => {
            buffer.resize(XATTR_BYTES_MAX, 0);
            llistxattr(path, &mut buffer[..])?
        }
        Err(Errno::OPNOTSUPP) => 0,
        result => result?,
    };
    buffer.truncate(length);
    let names = buffer.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| std::ffi::CString::new(name).map_err(io::Error::other)).collect()
}

fn attribute(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 256];
    let length = match lgetxattr(path, name, &mut buffer[..]) {
        Err(Errno::RANGE) => {
            buffer.resize(XATTR_BYTES_MAX, 0);
            lgetxattr(path, name, &mut buffer[..])?
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        result => result?,
    };
    buffer.truncate(length);
    Ok(Some(buffer))
}
