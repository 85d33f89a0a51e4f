//! Small documents that change under one name, such as the `InRelease` of a mirror and suite.
//!
//! A slot holds the last document with what its server said to recognise it by. It is replaced as a whole; of two
//! processes that replace it at once, one wins. The file is a header of two lines (`etag`, `last-modified`; empty when
//! unknown), the document, and the digest of all that.

use camino::Utf8PathBuf;
use fs_err as fs;
use kiln_model::digest::Sha256;

use crate::document::Validators;
use crate::store::{DOCUMENT_MODE, Store, StoreError};
use crate::{aside, envelope};

/// The place of one document.
#[derive(Debug, Clone)]
pub struct Slot<'a> {
    store: &'a Store,
    path: Utf8PathBuf,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDocument {
    /// The document.
    pub bytes: Vec<u8>,
    /// What to send with the next request for it.
    pub validators: Validators,
}

impl Store {
    /// The slot called `name`: any text. Only its digest appears in a path, so that an address in it may carry a password.
    #[must_use]
    pub fn slot(&self, name: &str) -> Slot<'_> {
        Slot { store: self, path: self.directory("slot").join(Sha256::of(name.as_bytes()).to_string()) }
    }
}

impl Slot<'_> {
    /// The document, if there is one and it is whole. A damaged one is dropped.
    #[must_use]
    pub fn load(&self) -> Option<SlotDocument> {
        let document = fs::read(&self.path).ok().map(|bytes| envelope::open(bytes).and_then(parse))?;
        if document.is_none() {
            // Best effort: what cannot be removed now is overwritten by the next `save`.
            drop(aside::remove_if_there(&self.path));
        }
        document
    }

    /// Replaces the document.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn save(&self, bytes: &[u8], validators: &Validators) -> Result<(), StoreError> {
        let mut contents = header(validators).into_bytes();
        contents.extend_from_slice(bytes);
        let trailer = envelope::trailer(&contents);
        contents.extend_from_slice(&trailer);
        self.store.write_aside(&contents, &self.path, DOCUMENT_MODE)
    }

    /// Forgets the document.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn clear(&self) -> Result<(), StoreError> {
        aside::remove_if_there(&self.path).map_err(|source| self.store.error(source))
    }
}

fn header(validators: &Validators) -> String {
    let line = |value: &Option<String>| value.as_deref().filter(|value| !value.contains('\n')).unwrap_or("").to_owned();
    format!("{}\n{}\n", line(&validators.etag), line(&validators.last_modified))
}

fn parse(contents: Vec<u8>) -> Option<SlotDocument> {
    let mut parts = contents.splitn(3, |byte| *byte == b'\n');
    let mut line = || {
        let text = std::str::from_utf8(parts.next()?).ok()?;
        Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
    };
    let validators = Validators { etag: line()?, last_modified: line()? };
    Some(SlotDocument { bytes: parts.next()?.to_vec(), validators })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_back(bytes: Vec<u8>, etag in "(\"[a-z0-9]{1,8}\")?", last_modified in "([A-Z][a-z0-9 :,]{1,30})?") {
            let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let validators = Validators { etag: known(&etag), last_modified: known(&last_modified) };
            let contents = [header(&validators).as_bytes(), &bytes].concat();
            prop_assert_eq!(parse(contents), Some(SlotDocument { bytes, validators }));
        }
    }
}
