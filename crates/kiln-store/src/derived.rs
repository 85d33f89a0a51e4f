//! What was computed from files and would be slow to compute again, such as a parsed index.
//!
//! A derived value is only ever a shortcut: when it is missing, damaged or of another format, it is made anew.

use std::io::Write as _;

use camino::Utf8PathBuf;
use fs_err as fs;
use kiln_model::digest::Sha256;

use crate::store::{DOCUMENT_MODE, Store, StoreError};
use crate::{aside, envelope};

impl Store {
    /// The value that was put under `key`, if it is there and whole. A damaged one is dropped.
    ///
    /// `name` is the kind of value with the version of its format, `packages-v1`; `key` is the digest of all it was
    /// computed from.
    #[must_use]
    pub fn derived(&self, name: &str, key: &Sha256) -> Option<Vec<u8>> {
        let path = self.derived_path(name, key).ok()?;
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
        let path = self.derived_path(name, key)?;
        let mut file = self.create_aside()?;
        let written = file.write_all(value).and_then(|()| file.write_all(&envelope::trailer(value)));
        written.map_err(|source| self.error(source))?;
        self.publish(file, &path, DOCUMENT_MODE)
    }

    fn derived_path(&self, name: &str, key: &Sha256) -> Result<Utf8PathBuf, StoreError> {
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
