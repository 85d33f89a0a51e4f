//! Looks at the store and at the factories that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use camino::Utf8Path;
use jiff::Timestamp;
use kiln_model::digest::Sha256;
use kiln_model::lock::Lock;
use kiln_store::{Build, FailedTree, KnownFactory, Layers, Store, StoredLayer};

use super::{FactoryFacts, FactoryState, Facts, FailedFacts, GcError, LayerFacts};
use crate::factory::{Factory, SPEC_FILE};

/// Everything that [`super::plan`] decides by. `others_at_work` is to be true unless [`Store::alone`] is held.
///
/// # Errors
/// If the store cannot be read. A factory that cannot be read is a fact.
pub fn gather(store: &Store, layers: &Layers<'_>, others_at_work: bool, now: Timestamp) -> Result<Facts, GcError> {
    // Layers before builds: a build that ends between the two is seen as the one that claims, not only as one that used.
    let layers_there = layers.all()?;
    let failed = layers.all_failed()?.into_iter().map(|failed| failed_facts(store, failed));
    Ok(Facts {
        now,
        others_at_work,
        files: store.entries()?,
        derived: store.derived_entries()?,
        layers: layers_there.into_iter().map(layer).collect(),
        failed: failed.collect(),
        leftovers: store.leftovers()?,
        factories: store.factories()?.into_iter().map(factory).collect(),
    })
}

fn layer(StoredLayer { name, record, in_use }: StoredLayer) -> LayerFacts {
    let size_bytes = record.as_ref().map_or(0, |record| record.facts.size_bytes);
    LayerFacts { name, class: record.map(|record| record.facts.class), size_bytes, in_use }
}

fn failed_facts(store: &Store, (name, failed): (Sha256, Option<FailedTree>)) -> FailedFacts {
    FailedFacts {
        name,
        below: failed.iter().flat_map(|failed| &failed.below).copied().collect(),
        of: failed.map(|failed| (failed.factory, failed.class, failed.at)),
        size_bytes: size_of(&store.root().join("failed").join(name.to_string())),
    }
}

fn factory(KnownFactory { directory, builds }: KnownFactory) -> FactoryFacts {
    let layers = |build: Build| {
        let layers = build.layers_and_tools().copied().collect();
        (build.class, layers)
    };
    FactoryFacts { state: state(&directory), builds: builds.into_iter().map(layers).collect(), directory }
}

fn state(directory: &Utf8Path) -> FactoryState {
    if is_gone(&directory.join(SPEC_FILE)) && is_gone(&directory.join(kiln_model::lock::FILE_NAME)) {
        return FactoryState::Gone;
    }
    let factory = Factory::new(directory);
    let spec = factory.spec().ok().map(|spec| spec.classes.keys().map(ToString::to_string).collect::<BTreeSet<_>>());
    match factory.lock() {
        Err(_) => FactoryState::There { classes: None, files: None },
        Ok(None) => FactoryState::There { classes: spec, files: Some(BTreeSet::new()) },
        Ok(Some(lock)) => {
            let locked = lock.classes.keys().cloned();
            let classes = spec.map(|classes| classes.into_iter().chain(locked).collect());
            FactoryState::There { classes, files: Some(files(&lock)) }
        }
    }
}

/// Certainly not there: not merely out of reach.
fn is_gone(path: &Utf8Path) -> bool {
    let found = fs_err::symlink_metadata(path);
    found.is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

/// Every file that a lock names.
fn files(lock: &Lock) -> BTreeSet<Sha256> {
    let indexes = lock.distributions.values().flat_map(|distribution| &distribution.indexes);
    let classes = lock.classes.values();
    let packages = classes.clone().flat_map(|class| class.packages_and_tools());
    let toolboxes = lock.toolboxes.values().flat_map(|toolbox| &toolbox.packages);
    indexes
        .flat_map(|index| [index.sha256, index.release])
        .chain(packages.chain(toolboxes).map(|package| package.sha256))
        .chain(classes.flat_map(|class| &class.downloads).map(|download| download.sha256))
        .collect()
}

/// Bytes of the regular files below, as far as they may be seen; a file with several names counts once.
fn size_of(directory: &Utf8Path) -> u64 {
    let mut sizes = BTreeMap::new();
    let mut waiting = vec![directory.as_std_path().to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs_err::read_dir(next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) if metadata.is_file() => {
                    sizes.insert(std::os::unix::fs::MetadataExt::ino(&metadata), metadata.len());
                }
                _ => {}
            }
        }
    }
    sizes.values().sum()
}
