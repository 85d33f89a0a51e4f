//! What a distribution offers to choose from: its indexes, and the locked versions that stay.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kiln_debian::index::Stanza;
use kiln_debian::universe::{LocalPackage, Universe, UniverseError};
use kiln_debian::version;
use kiln_model::event::Event;
use kiln_model::lock::{Lock, LockedDistribution, LockedIndex, LockedPackage, Origin};
use kiln_model::spec::Distribution;

use super::{LockFailure, Update, Work, locked_distribution};
use crate::Environment;
use crate::index::{self, LoadedIndex, Refresh, Refreshing};
use crate::mirror::{self, Repository};

/// The indexes of one distribution and what is kept from them.
pub(super) struct Supply {
    /// The distribution's name in the lock.
    pub(super) distribution: String,
    architecture: String,
    /// Current indexes, then older ones that still have a kept package.
    indexes: Vec<LoadedIndex>,
    /// How many of them are current.
    current: usize,
    /// Versions to keep, by owner (a class, a toolbox), then by package.
    kept: BTreeMap<String, BTreeMap<String, String>>,
    /// Which of the names that were to be updated are locked here.
    pub(super) updated: BTreeSet<String>,
}

/// apt's priority of an index that is no longer current: everything current comes before it.
const PRIORITY_OLDER: i32 = 1;

impl Supply {
    pub(super) fn prepare(
        work: &Work<'_>,
        name: &str,
        distribution: &Distribution,
        architecture: &str,
    ) -> Result<Self, LockFailure> {
        let Work { factory, old, options, environment, .. } = work;
        environment.report.event(Event::PhaseStarted { phase: format!("reading the indexes of {name}") });
        let repositories = mirror::repositories(name, distribution, factory, environment.host)?;
        let locked = locked_distribution(*old, name).filter(|locked| locked.architecture == architecture);
        let which = match (&options.update, locked) {
            (Update::Security, Some(_)) => Refresh::Security,
            _ => Refresh::All,
        };
        let refreshing = Refreshing {
            repositories: &repositories,
            architecture,
            locked: locked.map_or(&[], |locked| &locked.indexes),
            which,
            allow_older: options.allow_older,
        };
        let indexes = refreshing.load(environment)?;
        let mut supply = Self {
            distribution: name.to_owned(),
            architecture: architecture.to_owned(),
            current: indexes.len(),
            indexes,
            kept: BTreeMap::new(),
            updated: BTreeSet::new(),
        };
        if let (Some(old), Some(locked)) = (old, locked) {
            let packages = packages_by_owner(old, name);
            supply.keep(&packages, &options.update);
            supply.add_older(&packages, locked, &repositories, environment);
        }
        Ok(supply)
    }

    /// Everything there is to choose from, with the local files that a class names.
    pub(super) fn universe(&self, local: Vec<LocalPackage>) -> Result<Universe, UniverseError> {
        Universe::new(&self.architecture, self.indexes.iter().map(LoadedIndex::source).collect(), local)
    }

    /// The date of the newest index.
    pub(super) fn date(&self) -> Timestamp {
        self.indexes[..self.current].iter().map(|index| index.locked.date).max().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The versions that an owner keeps: its own, or, if it is new, those of the factory's other classes.
    pub(super) fn kept_by(&self, owner: &str) -> BTreeMap<String, String> {
        match self.kept.get(owner) {
            Some(kept) => kept.clone(),
            None => self.kept.values().flatten().map(|(name, version)| (name.clone(), version.clone())).collect(),
        }
    }

    /// What the lock records: the current indexes, and those older ones that a package is from.
    pub(super) fn locked<'p>(
        &self,
        distribution: &Distribution,
        packages: impl Iterator<Item = &'p LockedPackage>,
    ) -> LockedDistribution {
        let (current, older) = self.indexes.split_at(self.current);
        let kept: Vec<&LockedPackage> =
            packages.filter(|package| !current.iter().any(|index| has(index, package))).collect();
        let older = older.iter().filter(|index| kept.iter().any(|package| has(index, package)));
        LockedDistribution {
            family: mirror::facts(distribution.family).name.to_owned(),
            architecture: self.architecture.clone(),
            indexes: current.iter().chain(older).map(|index| index.locked.clone()).collect(),
        }
    }

    fn keep(&mut self, packages: &BTreeMap<String, Vec<&LockedPackage>>, update: &Update) {
        for (owner, packages) in packages {
            let mut kept = BTreeMap::new();
            for package in packages {
                if !self.gives_up(package, update) {
                    kept.insert(package.name.clone(), package.version.clone());
                }
            }
            self.kept.insert(owner.clone(), kept);
        }
    }

    fn gives_up(&mut self, package: &LockedPackage, update: &Update) -> bool {
        match update {
            Update::Nothing => false,
            Update::Everything => true,
            Update::Security => self.has_security_update(package),
            Update::Named(names) => {
                let source = self.stanzas(&package.name).next().map(|stanza| stanza.source_name().to_owned());
                let is_meant = |name: &&String| **name == package.name || Some(*name) == source.as_ref();
                let meant: Vec<String> = names.iter().filter(is_meant).cloned().collect();
                let gives_up = !meant.is_empty();
                self.updated.extend(meant);
                gives_up
            }
        }
    }

    fn has_security_update(&self, package: &LockedPackage) -> bool {
        let security = self.indexes.iter().filter(|index| index.locked.suite.ends_with("-security"));
        let is_newer = |stanza: Stanza<'_>| version::compare(stanza.version, &package.version).is_gt();
        security.into_iter().any(|index| stanzas(index, &package.name).any(is_newer))
    }

    fn stanzas(&self, name: &str) -> impl Iterator<Item = Stanza<'_>> {
        self.indexes.iter().flat_map(move |index| stanzas(index, name))
    }

    /// Adds the locked indexes that have kept packages which the current ones no longer have. Where such an index is not
    /// to be had any more, those packages must move, and that is said.
    fn add_older(
        &mut self,
        packages: &BTreeMap<String, Vec<&LockedPackage>>,
        locked: &LockedDistribution,
        repositories: &[Repository],
        environment: &Environment<'_>,
    ) {
        let needed = self.indexes_needed(packages);
        let is_current = |index: &LockedIndex| self.indexes.iter().any(|current| current.locked.sha256 == index.sha256);
        let older = locked.indexes.iter().filter(|index| needed.contains(&index.name()) && !is_current(index));
        for index in older.collect::<Vec<_>>() {
            match index::locked(std::slice::from_ref(index), repositories, &self.architecture, environment) {
                Ok(loaded) => {
                    let loaded = loaded.into_iter().map(|loaded| LoadedIndex { priority: PRIORITY_OLDER, ..loaded });
                    self.indexes.extend(loaded);
                }
                Err(error) => environment.report.event(Event::Warning {
                    message: format!(
                        "packages that only {} of {} has cannot be kept: {error}",
                        index.name(),
                        index.date
                    ),
                    hint: Some(
                        "a store or a directory from `kiln fetch --to` that has this index keeps them".to_owned(),
                    ),
                }),
            }
        }
    }

    /// Names of the indexes that kept packages came from and that no longer have them.
    fn indexes_needed(&self, packages: &BTreeMap<String, Vec<&LockedPackage>>) -> BTreeSet<String> {
        let is_kept = |owner: &String, package: &LockedPackage| {
            self.kept.get(owner).is_some_and(|kept| kept.contains_key(&package.name))
        };
        let kept = packages
            .iter()
            .flat_map(|(owner, packages)| packages.iter().filter(move |package| is_kept(owner, package)));
        let vanished = kept.filter(|package| !self.indexes.iter().any(|index| has(index, package)));
        vanished
            .filter_map(|package| match &package.origin {
                Origin::Archive { index, .. } => Some(index.clone()),
                Origin::File(_) | Origin::Url(_) => None,
            })
            .collect()
    }
}

fn stanzas<'a>(index: &'a LoadedIndex, name: &str) -> impl Iterator<Item = Stanza<'a>> {
    index.index.versions_of(name).filter_map(|place| index.index.stanza(place))
}

fn has(index: &LoadedIndex, package: &LockedPackage) -> bool {
    stanzas(index, &package.name).any(|stanza| stanza.version == package.version && stanza.sha256 == package.sha256)
}

/// What each class and toolbox of a distribution has, with what it inherits.
fn packages_by_owner<'a>(old: &'a Lock, distribution: &str) -> BTreeMap<String, Vec<&'a LockedPackage>> {
    let classes = old.classes.iter().filter(|(_, class)| class.distribution == distribution);
    let classes = classes.map(|(name, class)| {
        let tools = class.tools.iter().flat_map(|tools| tools.waves.iter().flatten());
        (name.clone(), old.packages_of(name).into_iter().chain(tools).collect())
    });
    let toolboxes = old.toolboxes.values().filter(|toolbox| toolbox.distribution == distribution);
    classes.chain(toolboxes.map(|toolbox| (toolbox.distribution.clone(), toolbox.packages.iter().collect()))).collect()
}
