//! A directory in which some entries of the store have names that people and programs know them by.
//!
//! They are hard links: nothing is copied, and what is removed from the store meanwhile stays readable here. The directory
//! lies in `tmp/` and is locked while it is used, so that what a killed process leaves is swept away.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;

use crate::aside;
use crate::store::{Store, StoreError};

/// Everybody may look: programs in a sandbox are nobody that the store's directory knows.
const MODE: u32 = 0o755;

/// Entries of the store under other names, while this lives.
#[derive(Debug)]
pub struct Links {
    directory: Utf8PathBuf,
    /// Locked until it is closed.
    _lock: fs::File,
}

impl Links {
    /// The directory that holds them.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        &self.directory
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // What stays is swept away when the store is opened next.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Store {
    /// Makes a directory with these entries by other names, which are plain names of files.
    ///
    /// # Errors
    /// [`StoreError::Absent`] for what is not there; when the store cannot be written.
    pub fn links<'a>(&self, entries: impl IntoIterator<Item = (&'a Sha256, &'a str)>) -> Result<Links, StoreError> {
        let (directory, lock) = aside::create_directory(&self.directory("tmp")).map_err(|source| self.error(source))?;
        let links = Links { directory, _lock: lock };
        fs::set_permissions(&links.directory, std::fs::Permissions::from_mode(MODE))
            .map_err(|source| self.error(source))?;
        for (digest, name) in entries {
            match fs::hard_link(self.path(digest), links.directory.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(StoreError::Absent { digest: *digest });
                }
                result => result.map_err(|source| self.error(source))?,
            }
        }
        Ok(links)
    }
}
