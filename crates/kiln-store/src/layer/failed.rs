//! The tree of a stage that failed: one for each class of a factory, for a shell in it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_model::digest::{Hasher, Sha256};
use serde::{Deserialize, Serialize};

use super::{Layers, RECORD, TREE, names_in, read_sealed, share};
use crate::store::StoreError;

/// A stage that failed, and where its tree lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedTree {
    /// The factory's directory.
    pub factory: Utf8PathBuf,
    /// The class.
    pub class: String,
    /// What the stage is to the user.
    pub label: String,
    /// Names of the layers below it, from bottom to top, tools included.
    pub below: Vec<Sha256>,
    /// What went wrong, for people.
    pub reason: String,
    /// The time that its programs were told, in seconds since 1970.
    pub epoch: i64,
    /// When it failed.
    pub at: Timestamp,
}

/// A failed tree that stays for as long as this value lives.
#[derive(Debug)]
pub struct FailedUse {
    /// What failed.
    pub failed: FailedTree,
    /// The stage's own layer, as far as it came; missing if it did not come that far.
    pub tree: Utf8PathBuf,
    _lock: fs::File,
}

impl Layers<'_> {
    /// The failed tree of a class, if there is one.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn failed(&self, factory: &Utf8Path, class: &str) -> Result<Option<FailedUse>, StoreError> {
        let find = || {
            let directory = self.failed_directory(factory, class);
            let Some(lock) = share(&directory)? else { return Ok(None) };
            let failed = read_sealed::<FailedTree>(&directory.join(RECORD))?;
            Ok(failed.map(|failed| FailedUse { failed, tree: directory.join(TREE), _lock: lock }))
        };
        find().map_err(|source| self.store.error(source))
    }

    /// Every failed tree, with the time of those that can be read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn all_failed(&self) -> Result<Vec<(Sha256, Option<FailedTree>)>, StoreError> {
        let list = || {
            let directory = self.store.directory("failed");
            let read = |name: Sha256| Ok((name, read_sealed(&directory.join(name.to_string()).join(RECORD))?));
            names_in(&directory)?.into_iter().map(read).collect::<io::Result<Vec<_>>>()
        };
        list().map_err(|source| self.store.error(source))
    }

    /// Forgets the failed tree of a class, which was built well since.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn forget_failed(&self, factory: &Utf8Path, class: &str) -> Result<(), StoreError> {
        self.forget_failed_named(&key(factory, class))
    }

    /// Forgets a failed tree that [`Layers::all_failed`] named.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn forget_failed_named(&self, name: &Sha256) -> Result<(), StoreError> {
        let directory = self.store.directory("failed").join(name.to_string());
        // Somebody's shell in it goes on: what is in use is moved, and removed later.
        let forget = || if directory.exists() { self.trash(&directory) } else { Ok(()) };
        forget().map_err(|source| self.store.error(source))
    }

    /// Makes a directory the failed tree of its class.
    pub(super) fn replace_failed(&self, directory: &Utf8Path, failed: &FailedTree) -> io::Result<()> {
        let target = self.failed_directory(&failed.factory, &failed.class);
        loop {
            if target.exists() {
                self.trash(&target)?;
            }
            match fs::rename(directory, &target) {
                // Another process put its own there meanwhile; the last one stays.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
                result => return result,
            }
        }
    }

    fn failed_directory(&self, factory: &Utf8Path, class: &str) -> Utf8PathBuf {
        self.store.directory("failed").join(key(factory, class).to_string())
    }
}

fn key(factory: &Utf8Path, class: &str) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update(format!("{} {factory} {class}", factory.as_str().len()).as_bytes());
    hasher.finish()
}
