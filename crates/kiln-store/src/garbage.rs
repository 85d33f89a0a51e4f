//! What else lies in the store, for the one who decides what may go: derived values, unfinished downloads, damaged files.

use std::io;

use camino::Utf8PathBuf;
use fs_err as fs;
use jiff::Timestamp;
use kiln_model::digest::Sha256;

use crate::aside;
use crate::claim::{Claim, claim};
use crate::store::{Store, StoreError};

/// Follows the name of an unfinished download in the name of the file that tells where it came from.
const ORIGIN: &str = ".origin";

/// One derived value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DerivedEntry {
    /// Its kind, with the version of its format.
    pub kind: String,
    /// The digest of what it was computed from.
    pub key: Sha256,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// A file that is no use as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// Why it is there.
    pub kind: LeftoverKind,
    /// Its name there.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last written.
    pub modified: Timestamp,
}

/// Why a leftover is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftoverKind {
    /// A download that did not come to its end, and would be resumed.
    Partial,
    /// A file whose bytes had changed.
    Quarantined,
}

impl Store {
    /// Every derived value, sorted.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn derived_entries(&self) -> Result<Vec<DerivedEntry>, StoreError> {
        let list = || {
            let mut entries = Vec::new();
            for (kind, _) in files(&self.directory("derived"))? {
                for (name, metadata) in files(&self.directory("derived").join(&kind))? {
                    if let Ok(key) = name.parse() {
                        let (size_bytes, modified) = (metadata.len(), modified(&metadata)?);
                        entries.push(DerivedEntry { kind: kind.clone(), key, size_bytes, modified });
                    }
                }
            }
            entries.sort_unstable();
            Ok(entries)
        };
        list().map_err(|source| self.error(source))
    }

    /// Forgets a derived value.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove_derived(&self, kind: &str, key: &Sha256) -> Result<(), StoreError> {
        let path = self.directory("derived").join(kind).join(key.to_string());
        aside::remove_if_there(path).map_err(|source| self.error(source))
    }

    /// Unfinished downloads and damaged files, sorted.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, StoreError> {
        let list = || {
            let mut leftovers = Vec::new();
            for kind in [LeftoverKind::Partial, LeftoverKind::Quarantined] {
                for (name, metadata) in files(&self.directory(kind.directory()))? {
                    if !name.ends_with(ORIGIN) {
                        let (size_bytes, modified) = (metadata.len(), modified(&metadata)?);
                        leftovers.push(Leftover { kind, name, size_bytes, modified });
                    }
                }
            }
            leftovers.sort_unstable();
            Ok(leftovers)
        };
        list().map_err(|source| self.error(source))
    }

    /// Removes a leftover; false if it is being downloaded at this moment.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove_leftover(&self, leftover: &Leftover) -> Result<bool, StoreError> {
        let path = self.directory(leftover.kind.directory()).join(&leftover.name);
        let remove = || match leftover.kind {
            LeftoverKind::Quarantined => aside::remove_if_there(&path).map(|()| true),
            LeftoverKind::Partial => match claim(&path)? {
                Claim::Held => Ok(false),
                Claim::Ours(_file) => {
                    aside::remove_if_there(format!("{path}{ORIGIN}"))?;
                    aside::remove_if_there(&path).map(|()| true)
                }
            },
        };
        remove().map_err(|source| self.error(source))
    }
}

impl LeftoverKind {
    fn directory(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Quarantined => "quarantine",
        }
    }
}

/// Name and metadata of what is in a directory now.
fn files(directory: &Utf8PathBuf) -> io::Result<Vec<(String, std::fs::Metadata)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What is gone meanwhile, or has no name of ours, is not listed.
        if let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) {
            files.push((name, metadata));
        }
    }
    Ok(files)
}

fn modified(metadata: &std::fs::Metadata) -> io::Result<Timestamp> {
    Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)
}
