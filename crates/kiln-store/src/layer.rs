//! Layers: what each stage of a build changed, made once and shared by every class, factory and process of the user.
//!
//! ```text
//! layer/NAME/tree/        the directory that overlayfs reads; its owners may be the user's subordinate ids
//! layer/NAME/manifest     what is in it, as its maker describes it
//! layer/NAME/record       [`LayerRecord`], sealed with its digest: a directory without one is no layer
//! layer/NAME/use          locked, shared, by everybody who uses the layer
//! layer/NAME/flushed      there once the layer is on the disk, and not only in the machine's memory
//! stage/BASEKEY/NAME      an empty file for each layer of a stage: its variants
//! draft/BASEKEY/          a layer that is being made, by the one who holds `claim/BASEKEY`
//! failed/KEY/             the tree of a stage that failed, of one class of one factory
//! trash/UNIQUE/           what is to be removed; nothing in it is ever used again
//! ```
//!
//! 1. [`Layers::find`] gives the variants that a stage has; each is a [`LayerUse`], which no garbage collection removes.
//! 2. [`Layers::begin`] makes the caller the only one, of all processes, who carries out a stage.
//! 3. [`LayerDraft::keep`] publishes what it made by one rename, [`LayerDraft::fail`] keeps it for a look.
//!
//! A file system's crash may tear what was not flushed, and flushing thousands of files costs more than making them. A
//! layer therefore counts if it was made since the machine was started (the kernel's boot id says so), or if it was flushed
//! afterwards: [`Layers::flush`] does that for all at once. All others are removed.
//!
//! Whole directories go by a rename into `trash/`; [`Layers::sweep`] empties it. Only that needs the power over subordinate
//! ids, which its caller brings along. This module never removes what somebody uses, and never believes half of anything.

mod draft;
mod failed;
mod sweep;

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io;
use std::str::FromStr as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::{Hasher, Sha256};
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};
use crate::{aside, envelope};

pub use draft::LayerDraft;
pub use failed::{FailedTree, FailedUse};
pub use sweep::Remove;

const TREE: &str = "tree";
const MANIFEST: &str = "manifest";
const RECORD: &str = "record";
const USE: &str = "use";
const FLUSHED: &str = "flushed";

/// The layers of a store, as they are to be judged since this machine was started.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    store: &'a Store,
    /// The kernel's boot id; empty where it is not known, and then each layer is flushed when it is made.
    boot: &'a str,
}

/// What a layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRecord {
    /// Its name: the digest of its base key and of the ids it made.
    pub name: Sha256,
    /// The key of its stage: the digest of everything that the stage read.
    pub base_key: Sha256,
    /// What its maker says.
    pub facts: LayerFacts,
    /// Digest of its manifest.
    pub manifest: Sha256,
    /// The boot id of the machine when it was made.
    pub boot: String,
}

/// What the maker of a layer says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFacts {
    /// The class that it was made for; others may share it.
    pub class: String,
    /// What its stage is to the user: `packages`, `step 2: copy site`.
    pub label: String,
    /// What its stage read, by name and value.
    pub inputs: Vec<(String, String)>,
    /// The time of the newest file in the packages so far, in seconds since 1970.
    pub epoch: i64,
    /// The users and groups that its stage made.
    pub made: MadeIds,
    /// Bytes of its files together.
    pub size_bytes: u64,
}

/// Users and groups with their numeric ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeIds {
    /// User name to uid.
    pub users: BTreeMap<String, u32>,
    /// Group name to gid.
    pub groups: BTreeMap<String, u32>,
}

/// A layer that stays where it is for as long as this value lives.
#[derive(Debug)]
pub struct LayerUse {
    record: LayerRecord,
    directory: Utf8PathBuf,
    _lock: fs::File,
}

/// One directory under `layer/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its name.
    pub name: Sha256,
    /// What it is; `None` if it is none that counts: torn, or never flushed before the machine stopped.
    pub record: Option<LayerRecord>,
    /// Whether somebody uses it at this moment.
    pub in_use: bool,
}

impl MadeIds {
    /// The name of the layer with this key whose stage made these ids.
    #[must_use]
    pub fn layer_name(&self, base_key: &Sha256) -> Sha256 {
        let mut hasher = Hasher::new();
        hasher.update(base_key.as_bytes());
        for (kind, ids) in [("user", &self.users), ("group", &self.groups)] {
            for (name, id) in ids {
                hasher.update(format!("{kind} {} {name} {id}\n", name.len()).as_bytes());
            }
        }
        hasher.finish()
    }
}

impl LayerUse {
    /// What it is.
    #[must_use]
    pub fn record(&self) -> &LayerRecord {
        &self.record
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Sha256 {
        &self.record.name
    }

    /// The directory that overlayfs reads.
    #[must_use]
    pub fn tree(&self) -> Utf8PathBuf {
        self.directory.join(TREE)
    }

    /// Its manifest; `None` if its bytes have changed: then the layer is to be [discarded](Layers::discard).
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn manifest(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.directory.join(MANIFEST)) {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| Sha256::of(bytes) == self.record.manifest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Store {
    /// The layers, judged by the boot id of the running kernel (`/proc/sys/kernel/random/boot_id`).
    #[must_use]
    pub fn layers<'a>(&'a self, boot: &'a str) -> Layers<'a> {
        Layers { store: self, boot }
    }
}

impl Layers<'_> {
    /// The layers of the stage with this key, by name: one for each set of ids that it made so far.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn find(&self, base_key: &Sha256) -> Result<Vec<LayerUse>, StoreError> {
        let names = names_in(&self.variants(base_key)).map_err(|source| self.store.error(source))?;
        let layers = names.iter().map(|name| self.get(name));
        let layers: Vec<Option<LayerUse>> = layers.collect::<Result<_, _>>()?;
        Ok(layers.into_iter().flatten().filter(|layer| layer.record.base_key == *base_key).collect())
    }

    /// The layer with this name, if there is one that counts and nobody is removing it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn get(&self, name: &Sha256) -> Result<Option<LayerUse>, StoreError> {
        self.take(name).map_err(|source| self.store.error(source))
    }

    fn take(&self, name: &Sha256) -> io::Result<Option<LayerUse>> {
        let directory = self.directory(name);
        let Some(lock) = share(&directory)? else { return Ok(None) };
        let record = self.record(&directory)?.filter(|record| record.name == *name);
        Ok(record.map(|record| LayerUse { record, directory, _lock: lock }))
    }

    /// The record of the layer in `directory`, if it counts.
    fn record(&self, directory: &Utf8Path) -> io::Result<Option<LayerRecord>> {
        let Some(record) = read_sealed::<LayerRecord>(&directory.join(RECORD))? else { return Ok(None) };
        let is_of_this_boot = !self.boot.is_empty() && record.boot == self.boot;
        Ok(Some(record).filter(|_| is_of_this_boot || directory.join(FLUSHED).exists()))
    }

    /// Every directory under `layer/`, by name, also those that do not count.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn all(&self) -> Result<Vec<StoredLayer>, StoreError> {
        let list = || {
            let names = names_in(&self.store.directory("layer"))?;
            names.into_iter().map(|name| self.stored(name)).collect::<io::Result<Vec<_>>>()
        };
        list().map_err(|source| self.store.error(source))
    }

    fn stored(&self, name: Sha256) -> io::Result<StoredLayer> {
        let directory = self.directory(&name);
        let record = self.record(&directory)?.filter(|record| record.name == name);
        let in_use = matches!(exclude(&directory)?, Exclusion::InUse);
        Ok(StoredLayer { name, record, in_use })
    }

    /// Takes a layer out of the store unless somebody uses it; whether it is gone. [`Layers::sweep`] frees its room.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn discard(&self, name: &Sha256) -> Result<bool, StoreError> {
        let discard = || {
            let directory = self.directory(name);
            let base_key = read_sealed::<LayerRecord>(&directory.join(RECORD))?.map(|record| record.base_key);
            let is_gone = self.retire(&directory)?;
            if let (true, Some(base_key)) = (is_gone, base_key) {
                self.forget_variant(&base_key, name)?;
            }
            Ok(is_gone)
        };
        discard().map_err(|source| self.store.error(source))
    }

    fn forget_variant(&self, base_key: &Sha256, name: &Sha256) -> io::Result<()> {
        let variants = self.variants(base_key);
        aside::remove_if_there(variants.join(name.to_string()))?;
        // It stays when there are other variants.
        let _ = fs::remove_dir(variants);
        Ok(())
    }

    fn directory(&self, name: &Sha256) -> Utf8PathBuf {
        self.store.directory("layer").join(name.to_string())
    }

    fn variants(&self, base_key: &Sha256) -> Utf8PathBuf {
        self.store.directory("stage").join(base_key.to_string())
    }

    /// Moves a directory out of the way, unless somebody uses it; true if it is not there any more.
    fn retire(&self, directory: &Utf8Path) -> io::Result<bool> {
        match exclude(directory)? {
            Exclusion::InUse => Ok(false),
            Exclusion::Absent => Ok(true),
            Exclusion::Ours(_lock) => self.trash(directory).map(|()| true),
        }
    }

    /// Moves a directory out of the way. It must belong to the user: only then may it change its parent.
    fn trash(&self, directory: &Utf8Path) -> io::Result<()> {
        if fs::remove_dir(directory).is_ok() {
            return Ok(());
        }
        let place = tempfile::tempdir_in(self.store.directory("trash"))?.keep();
        match fs::rename(directory, &place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir(place),
            result => result,
        }
    }
}

/// The right to remove a directory.
enum Exclusion {
    /// Nobody else uses it, and nobody can until this is dropped. There is nothing to lock in a torn one.
    Ours(Option<fs::File>),
    /// Somebody uses it, or is removing it.
    InUse,
    /// It is not there.
    Absent,
}

/// Locks the directory so that nobody may use it.
fn exclude(directory: &Utf8Path) -> io::Result<Exclusion> {
    let path = directory.join(USE);
    match fs::OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && directory.exists() => Ok(Exclusion::Ours(None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Exclusion::Absent),
        Err(error) => Err(error),
        Ok(file) => match file.file().try_lock() {
            Err(TryLockError::WouldBlock) => Ok(Exclusion::InUse),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) if aside::names(&path, file.file())? => Ok(Exclusion::Ours(Some(file))),
            // Another directory has this name now, or none.
            Ok(()) => exclude(directory),
        },
    }
}

/// Locks the directory so that nobody may remove it; nothing if it is not there. Who looks whether it is in use, or moves
/// it away, holds it for a moment only: that is waited for, or a look would make a layer seem to be missing.
fn share(directory: &Utf8Path) -> io::Result<Option<fs::File>> {
    let path = directory.join(USE);
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    loop {
        match file.file().lock_shared() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            // It may have been moved away before.
            Ok(()) => return Ok(aside::names(&path, file.file())?.then_some(file)),
        }
    }
}

/// The entries of a directory that are digests, sorted; none if it is not there.
pub(crate) fn names_in(directory: &Utf8Path) -> io::Result<Vec<Sha256>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| Sha256::from_str(name).ok()));
    }
    names.sort_unstable();
    Ok(names)
}

/// A value in a file as [`sealed`] wrote it; `None` if it is not there or not whole.
pub(crate) fn read_sealed<T: serde::de::DeserializeOwned>(path: &Utf8Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(envelope::open(bytes).and_then(|json| serde_json::from_slice(&json).ok())),
        // A component that is no directory is damage too.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A value as JSON, with its digest.
pub(crate) fn sealed(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    let trailer = envelope::trailer(&bytes);
    bytes.extend_from_slice(&trailer);
    Ok(bytes)
}
