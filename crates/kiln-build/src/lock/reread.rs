//! A lock's distribution with the very indexes that the lock names, from the store or from a mirror that still has them.

use std::collections::BTreeSet;

use kiln_debian::openpgp::{self, Problem, SignatureError, Verified};
use kiln_debian::release::Release;
use kiln_debian::universe::{LocalPackage, Universe, UniverseError};
use kiln_model::lock::{LockedDistribution, LockedIndex, LockedPackage, Origin};
use kiln_model::spec::Spec;
use kiln_store::Want;

use crate::factory::Factory;
use crate::index::{self, IndexesError, LoadedIndex};
use crate::mirror::{self, MirrorError, Repository, public_line, release_urls};
use crate::pin::{self, PinError};
use crate::release::check_identity;
use crate::{Environment, toolbox, with_causes};

/// The locked indexes, loaded again.
pub(super) struct Reread<'a> {
    locked: &'a LockedDistribution,
    repositories: Vec<Repository>,
    /// In the lock's order: current ones, then older generations.
    indexes: Vec<LoadedIndex>,
    factory: &'a Factory,
    environment: &'a Environment<'a>,
}

/// What a lock was made from is no longer to be had.
#[derive(Debug, thiserror::Error)]
pub enum RereadError {
    /// The spec no longer has the distribution.
    #[error("the spec no longer has it")]
    Gone,
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
    #[error("{0}")]
    Universe(String),
}

impl From<UniverseError> for RereadError {
    /// As text: a file's name may be an address with secrets.
    fn from(error: UniverseError) -> Self {
        Self::Universe(public_line(&with_causes(&error)))
    }
}

impl<'a> Reread<'a> {
    pub(super) fn load(
        name: &str,
        locked: &'a LockedDistribution,
        factory: &'a Factory,
        spec: &Spec,
        environment: &'a Environment<'a>,
    ) -> Result<Self, RereadError> {
        let distribution = toolbox::distribution_of(spec, name).ok_or(RereadError::Gone)?;
        let repositories = mirror::repositories(name, &distribution, factory, environment.host)?;
        let indexes = index::locked(&locked.indexes, &repositories, &locked.architecture, environment)?;
        Ok(Self { locked, repositories, indexes, factory, environment })
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
        let mut seen = BTreeSet::new();
        let (current, older): (Vec<LoadedIndex>, Vec<LoadedIndex>) = self
            .indexes
            .iter()
            .cloned()
            .partition(|index| seen.insert((index.locked.name(), index.locked.path.clone())));
        let wanted =
            packages.iter().copied().filter(|package| !current.iter().any(|index| index.has(package))).collect();
        let older = older.into_iter().map(|index| index.only(&wanted)).collect::<Result<Vec<_>, _>>()?;
        Ok(Universe::new(&self.locked.architecture, index::sources(&current, &older), local)?)
    }

    /// Whether the signed Release that the lock names for an index is there, is what the lock says of it, and lists the
    /// index. Its date is not judged: what was true when it was locked stays locked.
    pub(super) fn vouch(&self, index: &LockedIndex) -> Voucher {
        let Some(repository) = self.repositories.iter().find(|repository| repository.name == index.repository) else {
            return Voucher::Unknown("the spec no longer has its repository".to_owned());
        };
        let bytes = match self.signed_release(repository, index) {
            Ok(bytes) => bytes,
            Err(reason) => return Voucher::Unknown(format!("its signed Release is no longer to be had: {reason}")),
        };
        let verified = match openpgp::verify_inline(&bytes, &repository.keyring, self.environment.now) {
            Ok(verified) => verified,
            Err(error) if has_expired(&error) => return Voucher::Unknown(error.to_string()),
            Err(error) => return Voucher::Bad(format!("its Release cannot be believed: {}", with_causes(&error))),
        };
        match check_release(repository, index, &verified) {
            Ok(()) => Voucher::Good,
            Err(reason) => Voucher::Bad(reason),
        }
    }

    fn signed_release(&self, repository: &Repository, index: &LockedIndex) -> Result<Vec<u8>, String> {
        let store = self.environment.store;
        if store.size(&index.release).is_none() {
            let mirrors = repository.mirrors.iter();
            let want = Want {
                name: format!("Release of {}", index.suite),
                digest: index.release,
                size_bytes: None,
                urls: mirrors.flat_map(|mirror| release_urls(mirror, &index.suite, &index.release)).collect(),
            };
            let fetched = store.fetch(&[want], self.environment.fetch, self.environment.report);
            fetched.map_err(|error| with_causes(&error))?;
        }
        store.read(&index.release).map_err(|error| with_causes(&error))
    }
}

/// What the signed Release says of an index.
pub(super) enum Voucher {
    /// It lists exactly this index.
    Good,
    /// It cannot be asked.
    Unknown(String),
    /// It says otherwise, or is not to be believed.
    Bad(String),
}

/// A key whose time is over vouched while it lasted.
fn has_expired(error: &SignatureError) -> bool {
    let is_expired = |problem: &Problem| matches!(problem, Problem::KeyExpired(_) | Problem::Expired(_));
    matches!(error, SignatureError::Untrusted { rejected } if rejected.iter().any(|rejected| is_expired(&rejected.problem)))
}

fn check_release(repository: &Repository, index: &LockedIndex, verified: &Verified) -> Result<(), String> {
    let release = Release::parse(&verified.text).map_err(|error| with_causes(&error))?;
    check_identity(repository, &index.suite, &release).map_err(|error| error.to_string())?;
    if !verified.signers.iter().any(|signer| signer.fingerprint == index.key) {
        return Err(format!("its Release is not signed by {}", index.key));
    }
    if release.date != index.date {
        return Err(format!("its Release is dated {}, not {}", release.date, index.date));
    }
    match release.files.get(&index.path) {
        Some(file) if file.sha256 == index.sha256 && file.size_bytes == index.size => Ok(()),
        _ => Err(format!("its Release lists another {}", index.path)),
    }
}

impl RereadError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mirror(error) => Some(error.hint().to_owned()),
            Self::Indexes(error) => error.hint(),
            Self::Pin(error) => error.hint(),
            Self::Gone => Some("kiln lock brings the lock up to date".to_owned()),
            Self::Universe(_) => None,
        }
    }
}
