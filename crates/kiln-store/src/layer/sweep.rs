//! What is left over: emptying the trash, drafts of killed processes, layers that do not count; and flushing those that do.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_model::digest::Sha256;

use super::{Exclusion, FLUSHED, Layers, RECORD, exclude, names_in};
use crate::aside;
use crate::claim::{Claim, claim};
use crate::store::StoreError;

/// Removes a directory and all in it, whoever owns it.
pub type Remove<'a> = &'a dyn Fn(&Utf8Path) -> io::Result<()>;

impl Layers<'_> {
    /// Removes what is left over: of killed processes, of crashes of the machine, of everything that was discarded. Nothing
    /// is done while another process does it. What somebody still uses stays until the next time.
    ///
    /// # Errors
    /// If the system refuses; what could be removed is removed then.
    pub fn sweep(&self, remove: Remove<'_>) -> Result<(), StoreError> {
        let sweep = || {
            let Some(claimed) = try_claim(self.store.directory("claim").join(CLAIM))? else { return Ok(()) };
            self.retire_drafts()?;
            self.retire_invalid()?;
            self.forget_variants()?;
            let emptied = self.empty_trash(remove);
            claimed.give_up().and(emptied)
        };
        sweep().map_err(|source| self.store.error(source))
    }

    /// Drafts and claims of those who died.
    fn retire_drafts(&self) -> io::Result<()> {
        let mut base_keys = names_in(&self.store.directory("draft"))?;
        base_keys.extend(names_in(&self.store.directory("claim"))?);
        for base_key in base_keys {
            if let Some(claimed) = try_claim(self.claim_path(&base_key))? {
                let draft = self.store.directory("draft").join(base_key.to_string());
                if draft.exists() {
                    self.trash(&draft)?;
                }
                claimed.give_up()?;
            }
        }
        Ok(())
    }

    fn retire_invalid(&self) -> io::Result<()> {
        for name in names_in(&self.store.directory("layer"))? {
            let directory = self.directory(&name);
            if self.record(&directory)?.is_none_or(|record| record.name != name) {
                self.retire(&directory)?;
            }
        }
        Ok(())
    }

    /// Names of variants that are no longer there. While a stage is carried out its variants are left alone: they may be
    /// there in a moment.
    fn forget_variants(&self) -> io::Result<()> {
        for base_key in names_in(&self.store.directory("stage"))? {
            let variants = names_in(&self.variants(&base_key))?;
            let gone: Vec<&Sha256> = variants.iter().filter(|name| !self.directory(name).exists()).collect();
            if gone.is_empty() && !variants.is_empty() {
                continue;
            }
            if let Some(claimed) = try_claim(self.claim_path(&base_key))? {
                gone.into_iter()
                    .filter(|name| !self.directory(name).exists())
                    .try_for_each(|name| self.forget_variant(&base_key, name))?;
                let _ = fs::remove_dir(self.variants(&base_key));
                claimed.give_up()?;
            }
        }
        Ok(())
    }

    fn empty_trash(&self, remove: Remove<'_>) -> io::Result<()> {
        let mut result = Ok(());
        for entry in fs::read_dir(self.store.directory("trash"))? {
            let path = Utf8PathBuf::try_from(entry?.path()).map_err(|error| error.into_io_error())?;
            match exclude(&path)? {
                Exclusion::InUse | Exclusion::Absent => {}
                // Somebody is about to move a directory here: it is only removed if it stays empty.
                Exclusion::Ours(None) if fs::remove_dir(&path).is_ok() => {}
                Exclusion::Ours(_lock) => result = result.and(remove(&path)),
            }
        }
        result
    }

    /// Brings every layer that counts, was made before that time, and is not on the disk yet, there: one flush of the file
    /// system for all. What was written long ago the kernel has written back by itself, and a flush is quick; one of what was
    /// written just now is slow, and holds up even a process that ends.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn flush(&self, made_before: Timestamp) -> Result<(), StoreError> {
        let flush = || {
            let mut waiting = Vec::new();
            for name in names_in(&self.store.directory("layer"))? {
                let directory = self.directory(&name);
                let is_due = !directory.join(FLUSHED).exists() && is_made_before(&directory, made_before)?;
                if is_due && self.record(&directory)?.is_some() {
                    waiting.push(directory);
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            self.sync()?;
            waiting.iter().try_for_each(|directory| mark_flushed(directory))
        };
        flush().map_err(|source| self.store.error(source))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fs::File::open(self.store.root())?.file())?)
    }
}

/// Whether the layer's record, its last file, is from before that time. A layer that is gone meanwhile is not.
fn is_made_before(directory: &Utf8Path, time: Timestamp) -> io::Result<bool> {
    match fs::metadata(directory.join(RECORD)) {
        Ok(metadata) => Ok(Timestamp::try_from(metadata.modified()?).is_ok_and(|made| made < time)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// In `claim/`, held by the one who sweeps.
const CLAIM: &str = "sweep";

/// A claim that is held for a moment.
struct Claimed {
    path: Utf8PathBuf,
    _file: fs::File,
}

fn try_claim(path: Utf8PathBuf) -> io::Result<Option<Claimed>> {
    match claim(&path)? {
        Claim::Ours(_file) => Ok(Some(Claimed { path, _file })),
        Claim::Held => Ok(None),
    }
}

impl Claimed {
    fn give_up(self) -> io::Result<()> {
        aside::remove_if_there(&self.path)
    }
}

/// The layer may have been discarded meanwhile.
fn mark_flushed(directory: &Utf8Path) -> io::Result<()> {
    match fs::write(directory.join(FLUSHED), "") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
