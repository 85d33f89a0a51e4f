//! The complete engine: the choices as a SAT problem for resolvo, which finds an answer wherever there is one.
//!
//! - A name is one of ours at most once; its solvables are the versions offered.
//! - A dependency is a union of version sets in order of preference, one for each name that has a target, so that virtual
//!   packages need no place in the problem. What is preferred (the greedy picks, the lock) comes first.
//! - A conflict forbids, for each name that it hits, the versions that it hits.
//!
//! All dependencies are declared available at once: then everything that follows of necessity is known before the first
//! choice, and fewer packages are chosen. The conflict that resolvo reports is not used; see [`super::explain`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver,
    SolverCache, StringId, VersionSetId, VersionSetUnionId,
};

use super::choices::{Choices, Root};
use crate::universe::PackageId;

/// The packages of an answer, in no order that means anything; nothing if there is no answer.
pub(super) fn solve(choices: &Choices<'_>, roots: &[Root], preferred: &BTreeSet<PackageId>) -> Option<Vec<PackageId>> {
    let provider = Provider { choices, preferred, tables: RefCell::default() };
    let requirements = roots.iter().map(|root| provider.requirement(&root.targets).into()).collect();
    let mut solver = Solver::new(provider);
    let found = solver.solve(Problem::new().requirements(requirements)).ok()?;
    let tables = solver.provider().tables.borrow();
    Some(found.into_iter().map(|solvable| tables.package(solvable)).collect())
}

struct Provider<'a, 'u> {
    choices: &'a Choices<'u>,
    preferred: &'a BTreeSet<PackageId>,
    tables: RefCell<Tables<'u>>,
}

/// resolvo's numbers for our nouns, given as they are met.
#[derive(Default)]
struct Tables<'u> {
    names: Vec<&'u str>,
    name_ids: BTreeMap<&'u str, NameId>,
    /// Each with its name.
    packages: Vec<(PackageId, NameId)>,
    package_ids: BTreeMap<PackageId, SolvableId>,
    sets: Vec<VersionSet>,
    set_ids: BTreeMap<(NameId, Rc<[PackageId]>), VersionSetId>,
    unions: Vec<Rc<[VersionSetId]>>,
}

/// Some versions of one name.
struct VersionSet {
    name: NameId,
    packages: Rc<[PackageId]>,
}

impl<'u> Tables<'u> {
    fn name(&mut self, name: &'u str) -> NameId {
        let next = NameId::from_raw(number(self.names.len()));
        let id = *self.name_ids.entry(name).or_insert(next);
        if id == next {
            self.names.push(name);
        }
        id
    }

    fn solvable(&mut self, package: PackageId, name: &'u str) -> SolvableId {
        let name = self.name(name);
        let next = SolvableId::from_raw(number(self.packages.len()));
        let id = *self.package_ids.entry(package).or_insert(next);
        if id == next {
            self.packages.push((package, name));
        }
        id
    }

    fn set(&mut self, name: &'u str, packages: Rc<[PackageId]>) -> VersionSetId {
        let name = self.name(name);
        let next = VersionSetId(number(self.sets.len()));
        let id = *self.set_ids.entry((name, Rc::clone(&packages))).or_insert(next);
        if id == next {
            self.sets.push(VersionSet { name, packages });
        }
        id
    }

    fn union(&mut self, sets: Vec<VersionSetId>) -> VersionSetUnionId {
        let id = VersionSetUnionId(number(self.unions.len()));
        self.unions.push(sets.into());
        id
    }

    fn package(&self, solvable: SolvableId) -> PackageId {
        self.packages[index(solvable.into_raw())].0
    }
}

/// A table holds fewer entries than there are packages, whose numbers are as small.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn index(number: u32) -> usize {
    number as usize
}

impl<'u> Provider<'_, 'u> {
    fn name_of(&self, package: PackageId) -> &'u str {
        self.choices.universe().name(package)
    }

    fn requirement(&self, targets: &[PackageId]) -> Requirement {
        let mut by_name: Vec<(&'u str, Vec<PackageId>)> = Vec::new();
        for &target in targets {
            let name = self.name_of(target);
            match by_name.iter_mut().find(|(known, _)| *known == name) {
                Some((_, packages)) => packages.push(target),
                None => by_name.push((name, vec![target])),
            }
        }
        by_name.sort_by_key(|(_, packages)| !packages.iter().any(|package| self.preferred.contains(package)));
        let mut tables = self.tables.borrow_mut();
        let mut sets: Vec<VersionSetId> =
            by_name.into_iter().map(|(name, packages)| tables.set(name, packages.into())).collect();
        match sets.len() {
            // Nothing satisfies it: the empty set of a name that no package has.
            0 => Requirement::Single(tables.set("", Rc::default())),
            1 => Requirement::Single(sets.remove(0)),
            _ => Requirement::Union(tables.union(sets)),
        }
    }

    /// For each name that a conflict of `package` hits, the versions that it spares.
    fn constrains(&self, package: PackageId) -> Vec<VersionSetId> {
        let package = self.choices.package(package);
        let mut hit: BTreeMap<&'u str, BTreeSet<PackageId>> = BTreeMap::new();
        for conflict in &package.conflicts {
            for other in self.choices.hit_by(package.name, &conflict.relation) {
                hit.entry(self.name_of(other)).or_default().insert(other);
            }
        }
        let spared = |name, hit: BTreeSet<PackageId>| {
            let offered = self.choices.offered(name);
            let spared: Rc<[PackageId]> = offered.iter().copied().filter(|package| !hit.contains(package)).collect();
            self.tables.borrow_mut().set(name, spared)
        };
        hit.into_iter().map(|(name, hit)| spared(name, hit)).collect()
    }
}

impl Interner for Provider<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl fmt::Display + '_ {
        let package = self.tables.borrow().package(solvable);
        self.choices.universe().display(package)
    }

    fn display_name(&self, name: NameId) -> impl fmt::Display + '_ {
        self.tables.borrow().names[index(name.into_raw())]
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl fmt::Display + '_ {
        let packages = Rc::clone(&self.tables.borrow().sets[index(version_set.0)].packages);
        fmt::from_fn(move |f| {
            let mut versions = f.debug_set();
            for &package in packages.iter() {
                versions.entry(&self.choices.universe().stanza(package).version);
            }
            versions.finish()
        })
    }

    fn display_string(&self, _: StringId) -> impl fmt::Display + '_ {
        "excluded"
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.tables.borrow().sets[index(version_set.0)].name
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.tables.borrow().packages[index(solvable.into_raw())].1
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        let sets = Rc::clone(&self.tables.borrow().unions[index(union.0)]);
        (0..sets.len()).map(move |position| sets[position])
    }

    fn resolve_condition(&self, _: ConditionId) -> Condition {
        unreachable!("no requirement of ours has a condition")
    }
}

impl DependencyProvider for Provider<'_, '_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let tables = self.tables.borrow();
        let packages = &tables.sets[index(version_set.0)].packages;
        let fits = |solvable: &SolvableId| packages.contains(&tables.package(*solvable)) != inverse;
        candidates.iter().copied().filter(fits).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let name = self.tables.borrow().names[index(name.into_raw())];
        let offered = self.choices.offered(name);
        if offered.is_empty() {
            return None;
        }
        let mut tables = self.tables.borrow_mut();
        let candidates = offered.iter().map(|&package| tables.solvable(package, name)).collect();
        Some(Candidates {
            candidates,
            hint_dependencies_available: HintDependenciesAvailable::All,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        let tables = self.tables.borrow();
        solvables.sort_by_key(|&solvable| {
            let (package, name) = tables.packages[index(solvable.into_raw())];
            let offered = self.choices.offered(tables.names[index(name.into_raw())]);
            offered.iter().position(|&other| other == package)
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let id = self.tables.borrow().package(solvable);
        let package = self.choices.package(id);
        let requirements = package.dependencies.iter().filter(|dependency| !dependency.targets.contains(&id));
        let requirements: Vec<ConditionalRequirement> =
            requirements.map(|dependency| self.requirement(&dependency.targets).into()).collect();
        Dependencies::Known(KnownDependencies { requirements, constrains: self.constrains(id) })
    }
}
