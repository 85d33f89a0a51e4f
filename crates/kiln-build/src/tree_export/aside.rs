//! What is written beside its place, and takes it when it is whole.
//!
//! The name is `.NAME.kiln-PART`, in the same directory. It is locked while it is written, so that the next export to the
//! same place knows what a killed one left, and removes it.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::TreeExportError;

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// Something that is being written. Dropped before it is published, it is gone.
#[derive(Debug)]
pub(super) struct Aside {
    place: Utf8PathBuf,
    path: Utf8PathBuf,
    kind: Kind,
    published: bool,
    _lock: fs::File,
}

/// Whether something may be written to a place.
///
/// # Errors
/// If there is something that must stay.
pub(super) fn check(place: &Utf8Path, force: bool) -> Result<(), TreeExportError> {
    let not_replaced = |reason| TreeExportError::NotReplaced { path: place.to_owned(), reason };
    let metadata = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(|source| TreeExportError::Write { path: place.to_owned(), source })?,
    };
    if !force {
        return Err(TreeExportError::Exists { path: place.to_owned() });
    }
    if !metadata.is_dir() {
        return if metadata.is_file() { Ok(()) } else { Err(not_replaced("it is no regular file")) };
    }
    let is_empty = fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    let has = |name: &str| fs::symlink_metadata(place.join(name)).is_ok();
    let is_export = has("oci-layout") || (has("usr") && has("etc"));
    let is_mount = fs::metadata(place.join("..")).is_ok_and(|parent| parent.dev() != metadata.dev());
    match (is_empty || is_export, is_mount) {
        (_, true) => Err(not_replaced("it is the root of a file system")),
        (false, _) => Err(not_replaced("it is a directory that is neither a tree nor an image")),
        (true, false) => Ok(()),
    }
}

impl Aside {
    /// Makes an empty file or directory beside the place, and removes what killed exports left there.
    pub(super) fn new(place: &Utf8Path, kind: Kind) -> Result<Self, TreeExportError> {
        let failed = |source| TreeExportError::Write { path: place.to_owned(), source };
        let name = place.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let parent = match place.parent() {
            Some(parent) if parent != "" => parent,
            _ => Utf8Path::new("."),
        };
        let prefix = format!(".{name}.kiln-");
        sweep(parent, &prefix);
        let path = make(parent, &prefix, kind).map_err(failed)?;
        let lock = fs::File::open(&path).and_then(|file| file.file().lock().map(|()| file)).map_err(failed)?;
        Ok(Self { place: place.to_owned(), path, kind, published: false, _lock: lock })
    }

    /// Where it is until it is published.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Opens a file for writing: this one, or a new one in this directory.
    pub(super) fn create(&self, path: &Utf8Path) -> Result<fs::File, TreeExportError> {
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).map_err(self.failed())
    }

    /// Flushes a file to the disk.
    pub(super) fn sync(&self, file: &fs::File) -> Result<(), TreeExportError> {
        file.sync_all().map_err(self.failed())
    }

    /// An error of writing.
    pub(super) fn failed(&self) -> impl Fn(io::Error) -> TreeExportError {
        let path = self.place.clone();
        move |source| TreeExportError::Write { path: path.clone(), source }
    }

    /// Puts it in its place. What was there, if it may be replaced, is given to `remove` under another name.
    pub(super) fn publish<E: Into<TreeExportError>>(
        self,
        force: bool,
        remove: impl FnOnce(&Utf8Path) -> Result<(), E>,
    ) -> Result<(), TreeExportError> {
        match self.publish_keeping_old(force)? {
            Some(old) => remove(&old).map_err(Into::into),
            None => Ok(()),
        }
    }

    /// Puts it in its place; returns where that is now which was there.
    pub(super) fn publish_keeping_old(mut self, force: bool) -> Result<Option<Utf8PathBuf>, TreeExportError> {
        check(&self.place, force)?;
        let renamed = renameat_with(CWD, self.path.as_str(), CWD, self.place.as_str(), RenameFlags::NOREPLACE);
        let old = match renamed {
            Err(Errno::EXIST) if force => Some(self.exchange()?),
            // A file system that cannot promise it, after we have just looked.
            Err(Errno::INVAL) => {
                fs::rename(&self.path, &self.place).map_err(self.failed())?;
                None
            }
            Err(Errno::EXIST) => return Err(TreeExportError::Exists { path: self.place.clone() }),
            result => {
                result.map_err(|error| self.failed()(error.into()))?;
                None
            }
        };
        self.published = true;
        let parent = self.path.parent().unwrap_or(Utf8Path::new("."));
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(self.failed())?;
        Ok(old)
    }

    /// Swaps it with what is in its place, so that at no moment there is nothing.
    fn exchange(&self) -> Result<Utf8PathBuf, TreeExportError> {
        let swapped = renameat_with(CWD, self.path.as_str(), CWD, self.place.as_str(), RenameFlags::EXCHANGE);
        swapped.map_err(|error| self.failed()(error.into()))?;
        Ok(self.path.clone())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed by the next export.
            let _ = match self.kind {
                Kind::File => fs::remove_file(&self.path),
                Kind::Directory => fs::remove_dir_all(&self.path),
            };
        }
    }
}

fn make(parent: &Utf8Path, prefix: &str, kind: Kind) -> io::Result<Utf8PathBuf> {
    (0..1000_u32)
        .map(|number| parent.join(format!("{prefix}{number}")))
        .map(|path| make_at(&path, kind).map(|()| path))
        .find(|made| !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists))
        .unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))
}

fn make_at(path: &Utf8Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::File => fs::OpenOptions::new().write(true).create_new(true).open(path).map(|_| ()),
        Kind::Directory => fs::create_dir(path),
    }
}

/// Removes what nobody writes any more. What cannot be removed is in nobody's way.
fn sweep(parent: &Utf8Path, prefix: &str) {
    let entries = parent.read_dir_utf8().into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().starts_with(prefix)) {
        let Ok(file) = fs::File::open(entry.path()) else { continue };
        if file.file().try_lock().is_ok() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let _ = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}
