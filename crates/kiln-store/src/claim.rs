//! One download for many processes: whoever locks the partial file downloads, the others wait and look again.

use std::fs::TryLockError;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;

use crate::aside;
use crate::store::Store;

/// What became of the wish to download a file.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The partial file, locked for as long as it is open; it may hold bytes from before.
    Ours(fs::File),
    /// Somebody else downloads it.
    Held,
}

/// Where the unfinished bytes of `digest` are kept.
pub(crate) fn partial_path(store: &Store, digest: &Sha256) -> Utf8PathBuf {
    store.directory("partial").join(digest.to_string())
}

/// Tries to become the one who downloads into `path`.
pub(crate) fn claim(path: &Utf8Path) -> io::Result<Claim> {
    loop {
        let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.file().try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(Claim::Held),
            Err(TryLockError::Error(error)) => return Err(error),
            // Its holder may have finished between our opening and locking: the file then has another name, or none.
            Ok(()) if aside::names(path, file.file())? => return Ok(Claim::Ours(file)),
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("partial");
        let first = claim(&path).unwrap();
        assert!(matches!(first, Claim::Ours(_)));
        assert!(matches!(claim(&path).unwrap(), Claim::Held));
        drop(first);
        assert!(matches!(claim(&path).unwrap(), Claim::Ours(_)));
    }

    #[test]
    fn finished_download_is_not_claimed_again_under_its_new_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("partial");
        let Claim::Ours(first) = claim(&path).unwrap() else { panic!("nobody else is here") };
        fs::rename(&path, directory.path().join("whole")).unwrap();
        let Claim::Ours(second) = claim(&path).unwrap() else { panic!("the new file is free") };
        assert!(aside::names(&path, second.file()).unwrap());
        drop(first);
    }
}
