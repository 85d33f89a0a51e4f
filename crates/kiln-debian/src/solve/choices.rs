//! What may be chosen for one request; every answer is remembered while it is solved.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::explain::{self, Unsolvable};
use super::{Request, Wanted, Why};
use crate::index::RelationField;
use crate::relation::{Group, Relation};
use crate::universe::{PackageId, Preference, Universe, fits};

/// How many versions of a name are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breadth {
    /// The candidate, as apt does.
    Candidates,
    /// All, the candidate first.
    AllVersions,
}

/// The choices of one request.
pub(super) struct Choices<'u> {
    universe: &'u Universe,
    request: &'u Request,
    breadth: Breadth,
    base: BTreeMap<&'u str, PackageId>,
    excluded: BTreeSet<&'u str>,
    constrained: BTreeMap<&'u str, Vec<&'u Wanted>>,
    /// These come first among the targets of an or-group.
    foremost: BTreeSet<PackageId>,
    offered: RefCell<BTreeMap<&'u str, Rc<[PackageId]>>>,
    targets: RefCell<BTreeMap<&'u str, Rc<[PackageId]>>>,
    packages: RefCell<BTreeMap<PackageId, Rc<Package<'u>>>>,
}

/// A package with its relations read.
pub(super) struct Package<'u> {
    pub(super) id: PackageId,
    pub(super) name: &'u str,
    pub(super) version: &'u str,
    /// `Pre-Depends`, then `Depends`.
    pub(super) dependencies: Vec<Dependency<'u>>,
    pub(super) recommended: Vec<Dependency<'u>>,
    pub(super) conflicts: Vec<Conflict<'u>>,
    pub(super) provided: Vec<(&'u str, Option<&'u str>)>,
}

/// One or-group and what is offered for it, the best first.
pub(super) struct Dependency<'u> {
    pub(super) field: RelationField,
    pub(super) group: Group<'u>,
    pub(super) targets: Rc<[PackageId]>,
}

/// One relation of `Conflicts` or `Breaks`.
#[derive(Clone, Copy)]
pub(super) struct Conflict<'u> {
    pub(super) field: RelationField,
    pub(super) relation: Relation<'u>,
}

/// One thing that must be there: one of `targets`, which are versions of one name.
pub(super) struct Root {
    pub(super) why: Why,
    pub(super) targets: Rc<[PackageId]>,
}

impl<'u> Choices<'u> {
    pub(super) fn new(universe: &'u Universe, request: &'u Request, breadth: Breadth) -> Self {
        let mut constrained: BTreeMap<&str, Vec<&Wanted>> = BTreeMap::new();
        for wanted in request.wanted.iter().filter(|wanted| wanted.constraint.is_some()) {
            constrained.entry(&wanted.name).or_default().push(wanted);
        }
        Self {
            universe,
            request,
            breadth,
            base: request.base.iter().map(|&package| (universe.name(package), package)).collect(),
            excluded: request.exclude.iter().map(String::as_str).collect(),
            constrained,
            foremost: BTreeSet::new(),
            offered: RefCell::default(),
            targets: RefCell::default(),
            packages: RefCell::default(),
        }
    }

    /// The same choices, with these packages before all other targets of an or-group.
    pub(super) fn with_foremost(self, foremost: &BTreeSet<PackageId>) -> Self {
        Self { foremost: foremost.clone(), ..self }
    }

    pub(super) fn universe(&self) -> &'u Universe {
        self.universe
    }

    pub(super) fn request(&self) -> &'u Request {
        self.request
    }

    pub(super) fn is_excluded(&self, name: &str) -> bool {
        self.excluded.contains(name) && !self.base.contains_key(name)
    }

    pub(super) fn is_base(&self, package: PackageId) -> bool {
        self.base.get(self.universe.name(package)) == Some(&package)
    }

    /// The versions of `name` that may be chosen, the best first.
    pub(super) fn offered(&self, name: &'u str) -> Rc<[PackageId]> {
        if let Some(known) = self.offered.borrow().get(name) {
            return Rc::clone(known);
        }
        let offered: Rc<[PackageId]> = self.offer(name).into();
        self.offered.borrow_mut().insert(name, Rc::clone(&offered));
        offered
    }

    fn offer(&self, name: &str) -> Vec<PackageId> {
        if let Some(&kept) = self.base.get(name) {
            return vec![kept];
        }
        if self.is_excluded(name) {
            return Vec::new();
        }
        let mut versions = self.universe.versions(name);
        let version = |package: PackageId| self.universe.stanza(package).version;
        if let Some(constraints) = self.constrained.get(name) {
            versions
                .retain(|&package| constraints.iter().all(|wanted| fits(wanted.constraint.as_ref(), version(package))));
        }
        if let Some(locked) = self.request.locked.get(name) {
            versions.sort_by_key(|&package| version(package) != locked);
        }
        if self.breadth == Breadth::Candidates {
            versions.truncate(1);
        }
        versions
    }

    /// What is offered for an or-group: what is foremost, then the alternatives in the order written, each in order of
    /// preference.
    pub(super) fn targets(&self, group: Group<'u>) -> Rc<[PackageId]> {
        if let Some(known) = self.targets.borrow().get(group.text()) {
            return Rc::clone(known);
        }
        let mut targets: Vec<PackageId> = Vec::new();
        for relation in group.alternatives() {
            for target in self.universe.targets_among(&relation, self) {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        targets.sort_by_key(|target| !self.foremost.contains(target));
        let targets: Rc<[PackageId]> = targets.into();
        self.targets.borrow_mut().insert(group.text(), Rc::clone(&targets));
        targets
    }

    pub(super) fn package(&self, id: PackageId) -> Rc<Package<'u>> {
        if let Some(known) = self.packages.borrow().get(&id) {
            return Rc::clone(known);
        }
        let package = Rc::new(self.read(id));
        self.packages.borrow_mut().insert(id, Rc::clone(&package));
        package
    }

    fn read(&self, id: PackageId) -> Package<'u> {
        let stanza = self.universe.stanza(id);
        let dependencies =
            |field| stanza.groups(field).map(move |group| Dependency { field, group, targets: self.targets(group) });
        let conflicts = |field| {
            let relations = stanza.groups(field).flat_map(|group| group.alternatives());
            let relations = relations.filter(|relation| self.universe.is_for_us(relation));
            relations.map(move |relation| Conflict { field, relation })
        };
        let recommended =
            if self.request.recommends { dependencies(RelationField::Recommends).collect() } else { Vec::new() };
        Package {
            id,
            name: stanza.name,
            version: stanza.version,
            dependencies: dependencies(RelationField::PreDepends).chain(dependencies(RelationField::Depends)).collect(),
            recommended,
            conflicts: conflicts(RelationField::Conflicts).chain(conflicts(RelationField::Breaks)).collect(),
            provided: stanza.provided().collect(),
        }
    }

    /// Everything offered that a conflict of the package `name` hits. Its own versions are no conflict: a package may
    /// conflict with what it provides itself, to be the only one that does.
    pub(super) fn hit_by(&self, name: &str, relation: &Relation<'u>) -> Vec<PackageId> {
        let universe = self.universe;
        let mut hit: Vec<PackageId> = self.offered(relation.name).to_vec();
        hit.extend(universe.providers(relation.name).map(|(package, _)| package));
        hit.sort_unstable();
        hit.dedup();
        hit.retain(|&package| {
            let other = universe.name(package);
            other != name && universe.matches(relation, package) && self.offered(other).contains(&package)
        });
        hit
    }

    /// The base and those locked packages that still exist; nothing where none is locked.
    pub(super) fn locked_packages(&self) -> Option<Vec<PackageId>> {
        let locked = self.request.locked.iter().filter(|(name, _)| !self.base.contains_key(name.as_str()));
        let found = locked.filter_map(|(name, version)| {
            let first = self.offered(name).first().copied()?;
            (self.universe.stanza(first).version == version).then_some(first)
        });
        let found: Vec<PackageId> = found.collect();
        (!found.is_empty()).then(|| self.base.values().copied().chain(found).collect())
    }

    /// What must be there: the base, the essential packages, then what is wanted, in the order written.
    pub(super) fn roots(&self) -> Result<Vec<Root>, Unsolvable> {
        let kept = self.request.base.iter().map(|&package| Root { why: Why::Base, targets: Rc::from([package]) });
        let mut roots: Vec<Root> = kept.collect();
        if self.request.essential {
            let names = self.universe.essential_names().into_iter().filter(|name| !self.is_excluded(name));
            roots.extend(names.map(|name| Root { why: Why::Essential, targets: self.offered(name) }));
        }
        for wanted in &self.request.wanted {
            let targets = self.wanted_targets(wanted)?;
            roots.push(Root { why: Why::Wanted { label: wanted.label }, targets });
        }
        Ok(roots)
    }

    fn wanted_targets(&self, wanted: &'u Wanted) -> Result<Rc<[PackageId]>, Unsolvable> {
        let offered = self.offered(&wanted.name);
        let fitting = |package: &PackageId| fits(wanted.constraint.as_ref(), self.universe.stanza(*package).version);
        if offered.iter().any(fitting) {
            return Ok(offered);
        }
        if self.is_excluded(&wanted.name) {
            return Err(explain::excluded(wanted));
        }
        if let Some(&kept) = offered.first() {
            return Err(explain::kept(self.universe, wanted, kept));
        }
        if !self.universe.versions(&wanted.name).is_empty() {
            return Err(explain::no_version(self.universe, wanted));
        }
        self.only_provider(wanted)
    }

    /// Who answers a request for something that no package is called: the one package that provides it.
    fn only_provider(&self, wanted: &'u Wanted) -> Result<Rc<[PackageId]>, Unsolvable> {
        let constraint = wanted.constraint.as_ref().map(|(operator, version)| (*operator, version.as_str()));
        let relation = Relation { name: &wanted.name, qualifier: None, constraint };
        let targets = self.universe.targets_among(&relation, self);
        let names: BTreeSet<&str> = targets.iter().map(|&package| self.universe.name(package)).collect();
        match names.len() {
            0 => Err(explain::unknown(self.universe, wanted)),
            1 => Ok(targets.into()),
            _ => Err(explain::several_providers(wanted, names)),
        }
    }
}

impl<'u> Preference<'u> for Choices<'u> {
    fn offered(&self, name: &'u str) -> Rc<[PackageId]> {
        Choices::offered(self, name)
    }

    fn keeps(&self, name: &str) -> bool {
        self.request.locked.contains_key(name)
    }
}
