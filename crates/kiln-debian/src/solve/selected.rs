//! A growing set of packages that knows what fits beside it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::choices::{Dependency, Package};
use crate::relation::Relation;
use crate::universe::PackageId;

/// The packages chosen so far, and what they provide and refuse.
#[derive(Default)]
pub(super) struct Selected<'u> {
    packages: BTreeMap<PackageId, Rc<Package<'u>>>,
    by_name: BTreeMap<&'u str, PackageId>,
    providers: BTreeMap<&'u str, Vec<(PackageId, Option<&'u str>)>>,
    /// Who conflicts with something of that name, and how.
    refusals: BTreeMap<&'u str, Vec<(PackageId, Relation<'u>)>>,
}

impl<'u> Selected<'u> {
    pub(super) fn contains(&self, package: PackageId) -> bool {
        self.packages.contains_key(&package)
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &Rc<Package<'u>>> {
        self.packages.values()
    }

    /// The first target of a dependency that is there.
    pub(super) fn satisfier(&self, dependency: &Dependency<'_>) -> Option<PackageId> {
        dependency.targets.iter().copied().find(|&target| self.contains(target))
    }

    pub(super) fn insert(&mut self, package: Rc<Package<'u>>) {
        self.by_name.insert(package.name, package.id);
        for &(name, version) in &package.provided {
            self.providers.entry(name).or_default().push((package.id, version));
        }
        for conflict in &package.conflicts {
            self.refusals.entry(conflict.relation.name).or_default().push((package.id, conflict.relation));
        }
        self.packages.insert(package.id, package);
    }

    pub(super) fn remove(&mut self, id: PackageId) {
        let Some(package) = self.packages.remove(&id) else { return };
        self.by_name.remove(package.name);
        for (name, _) in &package.provided {
            self.providers.entry(name).or_default().retain(|(provider, _)| *provider != id);
        }
        for conflict in &package.conflicts {
            self.refusals.entry(conflict.relation.name).or_default().retain(|(refuser, _)| *refuser != id);
        }
    }

    /// What is there and cannot be beside `package`: another version of it, what it refuses, what refuses it.
    pub(super) fn in_the_way_of(&self, package: &Package<'u>) -> Vec<PackageId> {
        let mut found: Vec<PackageId> = self.by_name.get(package.name).copied().into_iter().collect();
        for conflict in &package.conflicts {
            found.extend(self.matching(&conflict.relation));
        }
        found.extend(self.refusing(package.name, Some(package.version)));
        for &(name, version) in &package.provided {
            found.extend(self.refusing(name, version));
        }
        found.retain(|&other| other != package.id);
        found.sort_unstable();
        found.dedup();
        found
    }

    fn matching(&self, relation: &Relation<'u>) -> impl Iterator<Item = PackageId> {
        let named = self.by_name.get(relation.name).and_then(|id| self.packages.get(id));
        let named = named.filter(|package| relation.accepts(package.version)).map(|package| package.id);
        let providers = self.providers.get(relation.name).into_iter().flatten();
        named.into_iter().chain(providers.filter(|(_, version)| relation.accepts_provided(*version)).map(|(id, _)| *id))
    }

    fn refusing(&self, name: &str, version: Option<&str>) -> impl Iterator<Item = PackageId> {
        let refusals = self.refusals.get(name).into_iter().flatten();
        refusals.filter(move |(_, relation)| relation.accepts_provided(version)).map(|(refuser, _)| *refuser)
    }
}
