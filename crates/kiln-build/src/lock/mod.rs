//! The lock: made from the spec and the indexes, compared with the spec, examined against the indexes.
//!
//! [`lock`] is a function of the spec, the files it names, the indexes and what was locked before:
//!
//! 1. each distribution's indexes are brought up to date, or kept as they are where only others are to change; a locked
//!    version that the current ones no longer have stays possible through the index that had it (`supply`);
//! 2. classes are solved, parents first, each on top of its parent's exact packages, and put in order (`class`);
//! 3. a class whose packages are what they were keeps its epoch.
//!
//! [`reasons`] asks nothing of the network: it says where spec and lock part. [`examine`] judges a lock as its reader:
//! every package against the index that has it, every dependency by the linear verifier. [`why`] finds again what brought
//! a package in.

mod class;
mod examine;
mod fit;
mod request;
mod reread;
mod supply;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use kiln_debian::solve::Unsolvable;
use kiln_debian::universe::UniverseError;
use kiln_model::diagnostic::nearest;
use kiln_model::digest::Sha256;
use kiln_model::lock::{Lock, LockedClass, LockedDistribution, LockedPackage, OUTPUT_VERSION, Origin};
use kiln_model::spec::{Distribution, Place, Spec};

pub use examine::{Examination, examine};
pub use fit::{Reason, reasons};
pub(crate) use request::tool_names;
pub use reread::RereadError;
pub use why::{Explanation, WhyError, why};

use crate::factory::Factory;
use crate::index::IndexesError;
use crate::mirror::{MirrorError, public_line};
use crate::pin::PinError;
use crate::{Environment, toolbox, with_causes};
use class::Solver;
use supply::Supply;

/// The algorithms that choose packages, with their versions: apt's order of preference, then a complete solver.
pub const SOLVER: &str = "apt-classic/1, resolvo/1";

/// How a lock is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// What may change beyond what the spec makes change.
    pub update: Update,
    /// Take indexes that are older than the lock's.
    pub allow_older: bool,
}

/// Which locked versions are given up for newer ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// None: only what the spec makes change.
    Nothing,
    /// Those of these binary or source packages.
    Named(Vec<String>),
    /// Those for which the security suite has something newer.
    Security,
    /// All.
    Everything,
}

/// There is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockFailure {
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
    /// A class whose packages cannot be together.
    #[error("solve {owner}: {unsolvable}{}", lines(places))]
    Unsolvable {
        /// `class web`, `the toolbox`.
        owner: String,
        /// Why.
        unsolvable: Box<Unsolvable>,
        /// The lines of the spec that ask for it.
        places: Vec<Place>,
    },
    /// A file of a class that would replace what its parent has.
    #[error("solve class {class}: {package} comes from class {parent}, and {other} would replace it")]
    Replaces {
        /// The class.
        class: String,
        /// The class that has the package.
        parent: String,
        /// Its name and version.
        package: String,
        /// What would replace it.
        other: String,
    },
    /// A package to update that is not locked.
    #[error("no locked package is called `{name}`, nor built from a source of that name")]
    UnknownUpdate {
        /// As given.
        name: String,
        /// A locked package of a similar name.
        nearest: Option<String>,
    },
    /// A host that has no toolbox.
    #[error("Kiln has no toolbox for hosts of architecture {0}")]
    NoToolbox(String),
}

/// Each line of the spec once, however many requests stand in it.
fn lines(places: &[Place]) -> String {
    let mut lines: Vec<String> =
        places.iter().map(|place| format!("\n  {place}: {}", public_line(place.snippet.trim()))).collect();
    lines.dedup();
    lines.concat()
}

impl From<UniverseError> for LockFailure {
    /// As text: a file's name may be an address with secrets.
    fn from(error: UniverseError) -> Self {
        Self::Universe(public_line(&with_causes(&error)))
    }
}

impl LockFailure {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mirror(error) => Some(error.hint().to_owned()),
            Self::Indexes(error) => error.hint(),
            Self::Unsolvable { unsolvable, .. } => unsolvable.hint.clone(),
            Self::UnknownUpdate { nearest, .. } => {
                let near = nearest.as_ref().map(|name| format!("did you mean `{name}`?"));
                near.or_else(|| Some("kiln lock --list shows what is locked".to_owned()))
            }
            Self::Replaces { parent, .. } => {
                Some(format!("a child adds to its parent's finished tree: ask for the other one in class {parent}"))
            }
            Self::NoToolbox(_) => Some("run Kiln on amd64 or arm64".to_owned()),
            Self::Pin(error) => error.hint(),
            Self::Universe(_) => None,
        }
    }
}

/// Makes a lock for a spec, keeping from `old` what `options` do not give up.
///
/// # Errors
/// If a mirror, an index, a file or an answer is not to be had; nothing is written in any case.
pub fn lock(
    factory: &Factory,
    spec: &Spec,
    old: Option<&Lock>,
    options: &LockOptions,
    environment: &Environment<'_>,
) -> Result<Lock, LockFailure> {
    let work = Work { factory, spec, old, options, environment };
    let mut new = Lock {
        output: OUTPUT_VERSION,
        solver: SOLVER.to_owned(),
        distributions: BTreeMap::new(),
        classes: BTreeMap::new(),
        toolboxes: BTreeMap::new(),
        ids: old.map(|old| old.ids.clone()).unwrap_or_default(),
    };
    let mut updated = BTreeSet::new();
    for distribution in spec.distributions.values() {
        work.lock_classes(distribution, &mut new, &mut updated)?;
    }
    work.lock_toolbox(&mut new, &mut updated)?;
    if let Update::Named(names) = &options.update {
        check_updated(names, &updated, old)?;
    }
    work.keep_epochs(&mut new);
    Ok(new)
}

/// What every part of the locking needs.
#[derive(Clone, Copy)]
struct Work<'a> {
    factory: &'a Factory,
    spec: &'a Spec,
    old: Option<&'a Lock>,
    options: &'a LockOptions,
    environment: &'a Environment<'a>,
}

impl Work<'_> {
    fn lock_classes(
        &self,
        distribution: &Distribution,
        new: &mut Lock,
        updated: &mut BTreeSet<String>,
    ) -> Result<(), LockFailure> {
        let classes: Vec<_> =
            self.spec.classes.values().filter(|class| self.spec.distribution_of(class) == Some(distribution)).collect();
        if classes.is_empty() {
            return Ok(());
        }
        let name = distribution.name.as_str();
        let architecture = architecture_of(distribution, self.old, self.environment);
        let mut supply = Supply::prepare(self, name, distribution, &architecture)?;
        let mut solver = Solver::new(*self, &supply);
        for class in classes {
            solver.solve_class(class)?;
        }
        let solved = solver.finish();
        let packages = solved.values().flat_map(LockedClass::packages_and_tools);
        new.distributions.insert(name.to_owned(), supply.locked(distribution, packages));
        new.classes.extend(solved);
        updated.append(&mut supply.updated);
        Ok(())
    }

    fn lock_toolbox(&self, new: &mut Lock, updated: &mut BTreeSet<String>) -> Result<(), LockFailure> {
        self.keep_other_toolboxes(new);
        let architecture = &self.environment.host.architecture;
        let request = toolbox::packages(architecture).ok_or_else(|| LockFailure::NoToolbox(architecture.clone()))?;
        let name = toolbox::distribution_name(architecture);
        let distribution = toolbox::distribution(self.spec);
        let mut supply = Supply::prepare(self, &name, &distribution, architecture)?;
        let toolbox = Solver::new(*self, &supply).solve_toolbox(&name, request)?;
        let locked = supply.locked(&distribution, toolbox.packages.iter());
        new.distributions.insert(name, locked);
        new.toolboxes.insert(architecture.clone(), toolbox);
        updated.append(&mut supply.updated);
        Ok(())
    }

    /// Toolboxes of hosts of other architectures are those hosts' affair.
    fn keep_other_toolboxes(&self, new: &mut Lock) {
        let others =
            self.old.into_iter().flat_map(|old| old.toolboxes.iter().map(move |(name, toolbox)| (old, name, toolbox)));
        for (old, architecture, toolbox) in others.filter(|(_, name, _)| **name != self.environment.host.architecture) {
            if let Some(distribution) = old.distributions.get(&toolbox.distribution) {
                new.distributions.insert(toolbox.distribution.clone(), distribution.clone());
                new.toolboxes.insert(architecture.clone(), toolbox.clone());
            }
        }
    }

    /// A class whose packages are what they were is as old as it was, however new the indexes are.
    fn keep_epochs(&self, new: &mut Lock) {
        let Some(old) = self.old else { return };
        let unchanged = |name: &String| {
            let (before, after) = (old.packages_of(name), new.packages_of(name));
            old.classes.contains_key(name)
                && before.iter().map(|package| identity(package)).eq(after.iter().map(|package| identity(package)))
        };
        let names: Vec<String> = new.classes.keys().filter(|name| unchanged(name)).cloned().collect();
        for name in names {
            if let (Some(class), Some(before)) = (new.classes.get_mut(&name), old.classes.get(&name)) {
                class.epoch = before.epoch;
            }
        }
    }
}

/// What makes a package this one, wherever it comes from.
fn identity(package: &LockedPackage) -> (&str, &str, &str, Sha256) {
    (&package.name, &package.version, &package.architecture, package.sha256)
}

/// The spec's word, else what was locked, else this host's.
pub(crate) fn architecture_of(
    distribution: &Distribution,
    old: Option<&Lock>,
    environment: &Environment<'_>,
) -> String {
    let said = distribution.architecture.map(|architecture| architecture.as_str().to_owned());
    let locked = || locked_distribution(old, distribution.name.as_str()).map(|locked| locked.architecture.clone());
    said.or_else(locked).unwrap_or_else(|| environment.host.architecture.clone())
}

fn locked_distribution<'a>(old: Option<&'a Lock>, name: &str) -> Option<&'a LockedDistribution> {
    old.and_then(|old| old.distributions.get(name))
}

/// Whether every name that was to be updated meant something.
fn check_updated(names: &[String], updated: &BTreeSet<String>, old: Option<&Lock>) -> Result<(), LockFailure> {
    let classes = || old.into_iter().flat_map(|old| old.classes.values());
    let packages = || classes().flat_map(LockedClass::packages_and_tools);
    let addresses = packages().filter_map(|package| match &package.origin {
        Origin::Url(url) => Some(url),
        Origin::Archive { .. } | Origin::File(_) => None,
    });
    let downloads = classes().flat_map(|class| &class.downloads).map(|download| &download.url);
    let addresses: BTreeSet<&String> = addresses.chain(downloads).collect();
    let is_known = |name: &&String| updated.contains(*name) || addresses.contains(*name);
    let Some(name) = names.iter().find(|name| !is_known(name)) else { return Ok(()) };
    let known: BTreeSet<&str> = packages().map(|package: &LockedPackage| package.name.as_str()).collect();
    let nearest = nearest(name, known).map(str::to_owned);
    Err(LockFailure::UnknownUpdate { name: name.clone(), nearest })
}
