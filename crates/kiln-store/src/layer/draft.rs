//! A layer that is being made.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};

use super::{
    FLUSHED, FailedTree, LayerFacts, LayerRecord, LayerUse, Layers, MANIFEST, RECORD, TREE, USE, sealed, share,
};
use crate::aside;
use crate::claim::{Claim, claim};
use crate::store::StoreError;

/// How soon a process that waits sees that it may go on.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

/// The right to carry out a stage, and the directory to do it in. Dropped, it leaves nothing that counts.
#[derive(Debug)]
pub struct LayerDraft<'a> {
    layers: Layers<'a>,
    base_key: Sha256,
    directory: Utf8PathBuf,
    claim: fs::File,
    waited: bool,
}

impl<'a> Layers<'a> {
    /// Becomes the only one who carries out the stage with this key. Who had to wait for another finds its layer with
    /// [`Layers::find`] now: look again, before doing the work.
    ///
    /// `label` says in an [`Event::Waiting`] what is waited for; nothing is returned if `cancelled` while waiting.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn begin(
        &self,
        base_key: &Sha256,
        label: &str,
        report: &dyn Report,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<LayerDraft<'a>>, StoreError> {
        let draft = || {
            let Some((claim, waited)) = self.claim(base_key, label, report, cancelled)? else { return Ok(None) };
            let directory = self.store.directory("draft").join(base_key.to_string());
            let draft = LayerDraft { layers: *self, base_key: *base_key, directory, claim, waited };
            draft.start_over()?;
            Ok(Some(draft))
        };
        draft().map_err(|source| self.store.error(source))
    }

    fn claim(
        &self,
        base_key: &Sha256,
        label: &str,
        report: &dyn Report,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Option<(fs::File, bool)>> {
        let path = self.claim_path(base_key);
        let mut waited = false;
        loop {
            if let Claim::Ours(file) = claim(&path)? {
                return Ok(Some((file, waited)));
            }
            if cancelled() {
                return Ok(None);
            }
            if !waited {
                report.event(Event::Waiting { reason: format!("another process is building {label}") });
            }
            waited = true;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub(super) fn claim_path(&self, base_key: &Sha256) -> Utf8PathBuf {
        self.store.directory("claim").join(base_key.to_string())
    }

    /// Gives a finished draft its name. If there is a layer of that name, that one stays: they are the same.
    fn publish(&self, draft: &Utf8Path, name: &Sha256) -> io::Result<LayerUse> {
        let target = self.directory(name);
        loop {
            match fs::rename(draft, &target) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
                {
                    if let Some(there) = self.take(name)? {
                        return Ok(there);
                    }
                    // It does not count, or is on its way out. What does not count is used by nobody of this machine.
                    if !self.retire(&target)? {
                        std::thread::sleep(LOOK_EVERY);
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => return self.take(name)?.ok_or_else(|| io::Error::other("a new layer does not count")),
            }
        }
    }
}

impl LayerDraft<'_> {
    /// Where the layer is to be made: in a directory that exists and holds nothing else.
    #[must_use]
    pub fn tree(&self) -> Utf8PathBuf {
        self.directory.join(TREE)
    }

    /// Whether another process held the stage before.
    #[must_use]
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// Forgets what was made so far; [`LayerDraft::tree`] does not exist again.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn restart(&self) -> Result<(), StoreError> {
        self.start_over().map_err(|source| self.layers.store.error(source))
    }

    /// What a killed process left here is not in the way either.
    fn start_over(&self) -> io::Result<()> {
        if self.directory.exists() {
            self.layers.trash(&self.directory)?;
        }
        fs::create_dir(&self.directory)
    }

    /// Makes it a layer, with this manifest, in use from the first moment on.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn keep(self, facts: LayerFacts, manifest: &[u8]) -> Result<LayerUse, StoreError> {
        let record = LayerRecord {
            name: facts.made.layer_name(&self.base_key),
            base_key: self.base_key,
            facts,
            manifest: Sha256::of(manifest),
            boot: self.layers.boot.to_owned(),
        };
        self.write(&record, manifest).map_err(|source| self.layers.store.error(source))
    }

    fn write(&self, record: &LayerRecord, manifest: &[u8]) -> io::Result<LayerUse> {
        let directory = &self.directory;
        fs::symlink_metadata(directory.join(TREE))?;
        fs::write(directory.join(MANIFEST), manifest)?;
        fs::write(directory.join(USE), "")?;
        fs::write(directory.join(RECORD), sealed(record)?)?;
        if self.layers.boot.is_empty() {
            self.layers.sync()?;
            fs::write(directory.join(FLUSHED), "")?;
        }
        let variants = self.layers.variants(&self.base_key);
        fs::create_dir_all(&variants)?;
        fs::write(variants.join(record.name.to_string()), "")?;
        // Nobody may remove it between the rename and our first look at it.
        let _in_use = share(directory)?;
        self.layers.publish(directory, &record.name)
    }

    /// Keeps what was made, in place of the last failed tree of the same class and factory. There may be no tree at all.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn fail(self, failed: &FailedTree) -> Result<(), StoreError> {
        let keep = || {
            let directory = &self.directory;
            fs::write(directory.join(USE), "")?;
            fs::write(directory.join(RECORD), sealed(failed)?)?;
            self.layers.replace_failed(directory, failed)
        };
        keep().map_err(|source| self.layers.store.error(source))
    }
}

impl Drop for LayerDraft<'_> {
    fn drop(&mut self) {
        // Best effort: what stays is in nobody's way, and swept later.
        if self.directory.exists() {
            let _ = self.layers.trash(&self.directory);
        }
        let path = self.layers.claim_path(&self.base_key);
        if aside::names(&path, self.claim.file()).unwrap_or(false) {
            let _ = aside::remove_if_there(path);
        }
    }
}
