//! What was computed from files and would be slow to compute again, such as a parsed index.
//!
//! A derived value is only ever a shortcut: when it is missing, damaged or of another format, it is made anew. Small ones
//! are sealed with a digest ([`Store::put_derived`]); a large one is a file that its reader checks as it reads
//! ([`Store::begin_derived`]), and that is not flushed to the disk.

use std::io::{self, Write};

use camino::Utf8PathBuf;
use fs_err as fs;
use kiln_model::digest::Sha256;
use tempfile::NamedTempFile;

use crate::store::{DOCUMENT_MODE, Store, StoreError, make_parent};
use crate::{aside, envelope};

/// A large derived value that is being written. Nothing is left of it unless it is kept.
#[derive(Debug)]
pub struct DerivedDraft {
    file: NamedTempFile,
    target: Utf8PathBuf,
    store: Store,
}

impl DerivedDraft {
    /// Gives it its name, in place of what was there. After a power failure it may have other bytes than were written.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep(self) -> Result<(), StoreError> {
        let kept = aside::publish_unflushed(self.file, &self.target, DOCUMENT_MODE);
        kept.map_err(|source| self.store.error(source))
    }
}

impl Write for DerivedDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store {
    /// Begins a large value of the kind `name`, which will be the file [`Store::derived_file`].
    ///
    /// # Errors
    /// When the store cannot be written, or `name` is no plain name.
    pub fn begin_derived(&self, name: &str, key: &Sha256) -> Result<DerivedDraft, StoreError> {
        let target = self.derived_file(name, key)?;
        make_parent(&target).map_err(|source| self.error(source))?;
        Ok(DerivedDraft { file: self.create_aside()?, target, store: self.clone() })
    }

    /// The value that was put under `key`, if it is there and whole. A damaged one is dropped.
    ///
    /// `name` is the kind of value with the version of its format, `packages-v1`; `key` is the digest of all it was
    /// computed from.
    #[must_use]
    pub fn derived(&self, name: &str, key: &Sha256) -> Option<Vec<u8>> {
        let path = self.derived_file(name, key).ok()?;
        let value = fs::read(&path).ok().map(envelope::open)?;
        if value.is_none() {
            // Best effort: what cannot be removed now is overwritten by the next `put_derived`.
            drop(aside::remove_if_there(&path));
        }
        value
    }

    /// Keeps `value` under `key`, in place of what was there.
    ///
    /// # Errors
    /// When the store cannot be written, or `name` is no plain name.
    pub fn put_derived(&self, name: &str, key: &Sha256, value: &[u8]) -> Result<(), StoreError> {
        let path = self.derived_file(name, key)?;
        let mut file = self.create_aside()?;
        let written = file.write_all(value).and_then(|()| file.write_all(&envelope::trailer(value)));
        written.map_err(|source| self.error(source))?;
        self.publish(file, &path, DOCUMENT_MODE)
    }

    /// Where the value of the kind `name` is, if it was kept. Whether it is whole its reader must tell.
    ///
    /// # Errors
    /// When `name` is no plain name.
    pub fn derived_file(&self, name: &str, key: &Sha256) -> Result<Utf8PathBuf, StoreError> {
        if !is_plain(name) {
            return Err(StoreError::Name { name: name.to_owned() });
        }
        Ok(self.directory("derived").join(name).join(key.to_string()))
    }
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}
