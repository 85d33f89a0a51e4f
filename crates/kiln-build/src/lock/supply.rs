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
use crate::index::{self, LoadedIndex, Refresh, Refreshing};
use crate::mirror::{self, Repository};
use crate::{Environment, with_causes};

/// The indexes of one distribution and what is kept from them.
pub(super) struct Supply {
    /// The distribution's name in the lock.
    pub(super) distribution: String,
    architecture: String,
    current: Vec<LoadedIndex>,
    /// Indexes that are no longer current, with only the packages that are kept from them.
    older: Vec<LoadedIndex>,
    /// Versions to keep, by owner (a class, a toolbox), then by package.
    kept: BTreeMap<String, BTreeMap<String, String>>,
    /// Which of the names that were to be updated are locked here.
    pub(super) updated: BTreeSet<String>,
}

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
        let current = refreshing.load(environment)?;
        let mut supply = Self {
            distribution: name.to_owned(),
            architecture: architecture.to_owned(),
            current,
            older: Vec::new(),
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
        Universe::new(&self.architecture, index::sources(&self.current, &self.older), local)
    }

    /// The date of the newest index.
    pub(super) fn date(&self) -> Timestamp {
        self.current.iter().map(|index| index.locked.date).max().unwrap_or(Timestamp::UNIX_EPOCH)
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
        let is_older = |package: &&LockedPackage| !self.current.iter().any(|index| index.has(package));
        let kept: Vec<&LockedPackage> = packages.filter(is_older).collect();
        let older = self.older.iter().filter(|index| kept.iter().any(|package| index.has(package)));
        LockedDistribution {
            family: mirror::facts(distribution.family).name.to_owned(),
            architecture: self.architecture.clone(),
            snapshot: distribution.snapshot,
            indexes: self.current.iter().chain(older).map(|index| index.locked.clone()).collect(),
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
        let mut security = self.current.iter().filter(|index| index.locked.suite.ends_with("-security"));
        let is_newer = |stanza: Stanza<'_>| version::compare(stanza.version, &package.version).is_gt();
        security.any(|index| index.stanzas(&package.name).any(is_newer))
    }

    fn stanzas(&self, name: &str) -> impl Iterator<Item = Stanza<'_>> {
        self.current.iter().flat_map(move |index| index.stanzas(name))
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
        let vanished = self.vanished(packages);
        let came_from = |index: &LockedIndex| {
            let name = index.name();
            let is_from =
                |package: &&LockedPackage| matches!(&package.origin, Origin::Archive { index, .. } if *index == name);
            vanished.iter().any(is_from)
        };
        let is_current = |index: &LockedIndex| self.current.iter().any(|current| current.locked.sha256 == index.sha256);
        for index in locked.indexes.iter().filter(|index| came_from(index) && !is_current(index)) {
            let loaded = index::locked(std::slice::from_ref(index), repositories, &self.architecture, environment);
            let loaded = loaded.and_then(|loaded| loaded.into_iter().map(|loaded| loaded.only(&vanished)).collect());
            match loaded {
                Ok(loaded) => self.older.extend::<Vec<_>>(loaded),
                Err(error) => environment.report.event(Event::Warning {
                    message: format!(
                        "packages that only {} of {} has cannot be kept: {}",
                        index.name(),
                        index.date,
                        with_causes(&error)
                    ),
                    hint: Some(
                        "a store or a directory from `kiln fetch --to` that has this index keeps them".to_owned(),
                    ),
                }),
            }
        }
    }

    /// Kept packages that the current indexes no longer have.
    fn vanished<'p>(&self, packages: &BTreeMap<String, Vec<&'p LockedPackage>>) -> BTreeSet<&'p LockedPackage> {
        let is_kept = |owner: &String, package: &LockedPackage| {
            self.kept.get(owner).is_some_and(|kept| kept.contains_key(&package.name))
        };
        let owned = packages.iter().flat_map(|(owner, packages)| packages.iter().map(move |&package| (owner, package)));
        let kept = owned.filter(|(owner, package)| is_kept(owner, package)).map(|(_, package)| package);
        let is_from_archive = |package: &&LockedPackage| matches!(package.origin, Origin::Archive { .. });
        kept.filter(is_from_archive).filter(|package| !self.current.iter().any(|index| index.has(package))).collect()
    }

    /// The package as the old lock has it, where that is still so: the same bytes may have come to another index too, as
    /// at each point release, and that is no change.
    pub(super) fn steady(&self, package: LockedPackage, old: Option<&LockedPackage>) -> LockedPackage {
        let is_still_there = |old: &&LockedPackage| match &old.origin {
            Origin::Archive { index: name, .. } => {
                let mut indexes = self.current.iter().chain(&self.older).filter(|index| index.locked.name() == *name);
                indexes.any(|index| index.has(old))
            }
            Origin::File(_) | Origin::Url(_) => false,
        };
        let is_same = |old: &&LockedPackage| old.version == package.version && old.sha256 == package.sha256;
        old.filter(is_same).filter(is_still_there).cloned().unwrap_or(package)
    }
}

/// How the tools of a class's steps are called among the owners of packages: no class can be called so.
pub(super) fn tools_owner(class: &str, request: &[String]) -> String {
    format!("{class} with {}", request.join(", "))
}

/// What each class of a distribution has, with what it inherits, each set of its steps' tools, and each toolbox.
fn packages_by_owner<'a>(old: &'a Lock, distribution: &str) -> BTreeMap<String, Vec<&'a LockedPackage>> {
    let classes = old.classes.iter().filter(|(_, class)| class.distribution == distribution);
    let classes = classes.flat_map(|(name, class)| {
        let tools = class.tools.iter().map(|tools| {
            (tools_owner(name, &tools.request), tools.waves.iter().flatten().collect::<Vec<&LockedPackage>>())
        });
        std::iter::once((name.clone(), old.packages_of(name))).chain(tools)
    });
    let toolboxes = old.toolboxes.values().filter(|toolbox| toolbox.distribution == distribution);
    classes.chain(toolboxes.map(|toolbox| (toolbox.distribution.clone(), toolbox.packages.iter().collect()))).collect()
}
