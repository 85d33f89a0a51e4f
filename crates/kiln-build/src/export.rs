//! A directory that serves a lock's files for ever: `kiln fetch --to DIR`.
//!
//! It is an ordinary mirror: `dists/SUITE/InRelease` and the indexes byte for byte as they were signed, `pool/` with the
//! locked packages. Named as `KILN_MIRROR=file:///DIR` it answers everything that a lock asks, without a network. Beside
//! that it has
//!
//! ```text
//! DIR/dists/SUITE/COMPONENT/.../by-hash/SHA256/...   every locked generation of an index, by digest
//! DIR/repositories/NAME/...                          the same for each extra repository
//! DIR/by-hash/SHA256/...                             downloads and packages that come from an address of their own
//! ```
//!
//! Every file is copied aside, flushed and renamed, so that a directory may be filled again after any interruption.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::digest::Sha256;
use kiln_model::lock::{ARCHIVE, Lock, LockedIndex, LockedPackage, Origin, SECURITY};
use kiln_model::spec::Spec;
use kiln_store::{FetchError, StoreError, Want};
use serde::Serialize;

use crate::Environment;
use crate::factory::Factory;
use crate::fetch::{FetchFailure, Places};
use crate::index::index_urls;
use crate::mirror::{EXPORTED_REPOSITORIES, by_hash};
use crate::pin;

/// A directory could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A signed Release or an index that is no longer to be had as it was locked.
    #[error("bring the locked indexes into the store")]
    Indexes(#[source] FetchError),
    /// The places of files.
    #[error(transparent)]
    Fetch(#[from] FetchFailure),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory refuses.
    #[error("write to {directory}")]
    Write {
        /// The directory.
        directory: Utf8PathBuf,
        /// What the system said, with the path.
        #[source]
        source: std::io::Error,
    },
}

impl ExportError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Indexes(_) => Some(
                "the mirrors have moved on since this lock was made, and this store never had its indexes: \
                 `kiln lock --update` locks today's"
                    .to_owned(),
            ),
            Self::Fetch(error) => error.hint(),
            Self::Store(_) => None,
            Self::Write { .. } => Some("is there room, and is the directory yours to write?".to_owned()),
        }
    }
}

/// What was written.
#[derive(Debug, Default, Serialize)]
pub struct Exported {
    /// Files the directory has now.
    pub files: u64,
    /// Their size.
    pub size_bytes: u64,
    /// How many of them were not there before.
    pub new_files: u64,
}

/// Writes the lock's files, which must be in the store, and the indexes that vouch for them, to `directory`.
///
/// # Errors
/// If an index is not to be had as it was locked, or the directory cannot be written.
pub fn export(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    directory: &Utf8Path,
    environment: &Environment<'_>,
) -> Result<Exported, ExportError> {
    bring_indexes(factory, spec, lock, environment)?;
    let mut exported = Exported::default();
    for (path, digest) in plan(lock, &environment.host.architecture) {
        copy(environment, &digest, &directory.join(&path), &mut exported)
            .map_err(|source| ExportError::Write { directory: directory.to_owned(), source })?;
    }
    Ok(exported)
}

fn bring_indexes(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    environment: &Environment<'_>,
) -> Result<(), ExportError> {
    let places = Places::new(factory, spec, lock, &[], environment)?;
    let mut wants = Vec::new();
    for (name, distribution) in &lock.distributions {
        for index in &distribution.indexes {
            let mirrors: Vec<_> = places.mirrors(name, &index.repository).collect();
            wants.push(Want {
                name: format!("Release of {}", index.suite),
                digest: index.release,
                size_bytes: None,
                urls: mirrors.iter().map(|mirror| mirror.release(&index.suite)).collect(),
            });
            wants.push(Want {
                name: format!("index {}", index.name()),
                digest: index.sha256,
                size_bytes: Some(index.size),
                urls: mirrors
                    .iter()
                    .flat_map(|mirror| index_urls(mirror, &index.suite, &index.path, &index.sha256))
                    .collect(),
            });
        }
    }
    environment.store.fetch(&wants, environment.fetch, environment.report).map_err(ExportError::Indexes)?;
    Ok(())
}

/// Every file of the directory, by its path there. Pure: the same lock, the same directory.
fn plan(lock: &Lock, architecture: &str) -> BTreeMap<String, Sha256> {
    let mut files = BTreeMap::new();
    let mut indexes: Vec<&LockedIndex> =
        lock.distributions.values().flat_map(|distribution| &distribution.indexes).collect();
    // Of several generations the newest has the plain names.
    indexes.sort_by_key(|index| index.date);
    for index in indexes {
        let LockedIndex { suite, path, release, sha256, .. } = index;
        let root = root(&index.repository);
        let component = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        files.insert(format!("{root}dists/{suite}/InRelease"), *release);
        files.insert(format!("{root}dists/{suite}/{path}"), *sha256);
        files.insert(format!("{root}dists/{suite}/{component}/{}", by_hash(sha256)), *sha256);
    }
    for class in lock.classes.values() {
        add_packages(&mut files, lock, &class.distribution, class.packages_and_tools());
        files.extend(class.downloads.iter().map(|download| (by_hash(&download.sha256), download.sha256)));
    }
    if let Some(toolbox) = lock.toolboxes.get(architecture) {
        add_packages(&mut files, lock, &toolbox.distribution, toolbox.packages.iter());
    }
    files
}

fn add_packages<'a>(
    files: &mut BTreeMap<String, Sha256>,
    lock: &Lock,
    distribution: &str,
    packages: impl Iterator<Item = &'a LockedPackage>,
) {
    let indexes = lock.distributions.get(distribution).map_or(&[][..], |distribution| &distribution.indexes);
    for package in packages {
        let path = match &package.origin {
            Origin::Archive { index: name, path } => {
                let repository =
                    indexes.iter().find(|index| index.name() == *name).map_or(ARCHIVE, |index| &index.repository);
                format!("{}{path}", root(repository))
            }
            Origin::Url(_) => by_hash(&package.sha256),
            // A file of the factory travels with the factory.
            Origin::File(_) => continue,
        };
        files.insert(path, package.sha256);
    }
}

/// The distribution's own repositories share one root, as their files have different names.
fn root(repository: &str) -> String {
    match repository {
        ARCHIVE | SECURITY => String::new(),
        extra => format!("{EXPORTED_REPOSITORIES}/{extra}/"),
    }
}

/// Copies a file out of the store unless it is there with the right bytes.
fn copy(environment: &Environment<'_>, digest: &Sha256, to: &Utf8Path, exported: &mut Exported) -> std::io::Result<()> {
    let is_there = to.exists() && pin::measure(to).is_ok_and(|(found, _)| found == *digest);
    if !is_there {
        let directory = to.parent().unwrap_or(to);
        fs_err::create_dir_all(directory)?;
        let aside = Utf8PathBuf::from(format!("{to}.kiln-new"));
        let copied = copy_flushed(&environment.store.path(digest), &aside).and_then(|()| fs_err::rename(&aside, to));
        if copied.is_err() {
            let _ = fs_err::remove_file(&aside);
        }
        copied?;
        fs_err::File::open(directory)?.sync_all()?;
        exported.new_files += 1;
    }
    exported.files += 1;
    exported.size_bytes += fs_err::metadata(to)?.len();
    Ok(())
}

fn copy_flushed(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    let mut target = fs_err::File::create(to)?;
    std::io::copy(&mut fs_err::File::open(from)?, &mut target)?;
    target.sync_all()
}
