//! Files written aside, then renamed: a reader sees the old file or the new one, never half of one.
//!
//! A writer holds a lock on its file in `tmp/` until the rename. A file there that nobody locks belongs to a process that
//! died, and [`sweep`] removes it.

use std::fs::{Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use tempfile::NamedTempFile;

/// A new, empty, locked file in `directory`. It is removed when dropped, unless it is renamed.
pub(crate) fn create(directory: &Utf8Path) -> io::Result<NamedTempFile> {
    loop {
        let file = NamedTempFile::new_in(directory)?;
        file.as_file().lock()?;
        // A sweep may have come between creation and lock; the file then has no name any more.
        if names(file.path(), file.as_file())? {
            return Ok(file);
        }
    }
}

/// A new, empty directory in `directory`, and what locks it.
pub(crate) fn create_directory(directory: &Utf8Path) -> io::Result<(Utf8PathBuf, fs::File)> {
    loop {
        let path = tempfile::Builder::new().tempdir_in(directory)?.keep();
        let path = Utf8PathBuf::from_path_buf(path).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?;
        let lock = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result?,
        };
        lock.file().lock()?;
        // A sweep may have come between creation and lock.
        if names(&path, lock.file())? {
            return Ok((path, lock));
        }
    }
}

/// Gives `file` the name `target` and the permissions `mode`, for good: bytes and name are flushed to the disk.
pub(crate) fn publish(file: NamedTempFile, target: &Utf8Path, mode: u32) -> io::Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    sync_parent(target)
}

/// Gives `file` the name `target` without flushing anything: for what can be made again and is checked when it is read.
pub(crate) fn publish_unflushed(file: NamedTempFile, target: &Utf8Path, mode: u32) -> io::Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.persist(target).map_err(|error| error.error)?;
    Ok(())
}

/// Flushes the directory that holds `path`, so that a rename into it survives a power failure.
fn sync_parent(path: &Utf8Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// Removes the files and directories of `directory` whose writer died.
pub(crate) fn sweep(directory: &Utf8Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match fs::File::open(&path) {
            Ok(file) => remove_unless_locked(&path, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remove_unless_locked(path: &std::path::Path, file: &fs::File) -> io::Result<()> {
    match file.file().try_lock() {
        Ok(()) if file.metadata()?.is_dir() => match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Ok(()) => remove_if_there(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_there(path: impl AsRef<std::path::Path>) -> io::Result<()> {
    match fs::remove_file(path.as_ref()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether `path` is, at this moment, the name of the open `file`.
pub(crate) fn names(path: impl AsRef<std::path::Path>, file: &std::fs::File) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path.as_ref()) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_takes_what_nobody_locks() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let held = create(directory).unwrap();
        fs::write(directory.join("left-by-a-dead-process"), "x").unwrap();
        let (path, lock) = create_directory(directory).unwrap();
        fs::write(path.join("in it"), "x").unwrap();
        sweep(directory).unwrap();
        assert!(path.join("in it").exists());
        drop(lock);
        sweep(directory).unwrap();
        let left: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [held.path()]);
    }

    #[test]
    fn dropped_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(create(Utf8Path::from_path(directory.path()).unwrap()).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
