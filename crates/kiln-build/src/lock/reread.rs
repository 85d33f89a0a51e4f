//! A lock's distribution with the very indexes that the lock names, from the store or from a mirror that still has them.

use kiln_debian::universe::{LocalPackage, Source, Universe, UniverseError};
use kiln_model::lock::{LockedDistribution, LockedPackage, Origin};
use kiln_model::spec::Spec;

use crate::factory::Factory;
use crate::index::{self, IndexesError, LoadedIndex};
use crate::mirror::{self, MirrorError};
use crate::pin::{self, PinError};
use crate::{Environment, toolbox};

/// The locked indexes, loaded again.
pub(super) struct Reread<'a> {
    locked: &'a LockedDistribution,
    indexes: Vec<LoadedIndex>,
    factory: &'a Factory,
    environment: &'a Environment<'a>,
}

/// What a lock was made from is no longer to be had.
#[derive(Debug, thiserror::Error)]
pub enum RereadError {
    /// No mirror or no keys.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// No indexes.
    #[error(transparent)]
    Indexes(#[from] IndexesError),
    /// A local file or a download.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The sources of packages do not fit together.
    #[error(transparent)]
    Universe(#[from] UniverseError),
}

impl<'a> Reread<'a> {
    pub(super) fn load(
        name: &str,
        locked: &'a LockedDistribution,
        factory: &'a Factory,
        spec: &Spec,
        environment: &'a Environment<'a>,
    ) -> Result<Self, RereadError> {
        let distribution = spec.distributions.get(name).cloned().unwrap_or_else(|| toolbox::distribution(spec));
        let repositories = mirror::repositories(name, &distribution, factory, environment.host)?;
        let indexes = index::locked(&locked.indexes, &repositories, &locked.architecture, environment)?;
        Ok(Self { locked, indexes, factory, environment })
    }

    /// Everything that these packages were chosen from, with those among them that are files of their own.
    pub(super) fn universe(&self, packages: &[&LockedPackage]) -> Result<Universe, RereadError> {
        let mut local: Vec<LocalPackage> = Vec::new();
        for package in packages {
            match &package.origin {
                Origin::Archive { .. } => {}
                Origin::File(path) => local.push(pin::local_package(self.factory, path)?),
                Origin::Url(url) => {
                    local.push(pin::remote_package(url, Some((package.sha256, package.size)), self.environment)?);
                }
            }
        }
        let sources: Vec<Source> = self.indexes.iter().map(LoadedIndex::source).collect();
        Ok(Universe::new(&self.locked.architecture, sources, local)?)
    }
}
