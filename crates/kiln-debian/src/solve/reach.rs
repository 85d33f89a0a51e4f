//! Why each package is there: breadth first from the roots, so that every package names the shortest way to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Why;
use super::choices::{Choices, Dependency, Root};
use crate::universe::PackageId;

/// The packages of a set that its roots need or recommend, each with the first reason. Every member that satisfies a
/// dependency counts as needed, as it does for apt.
pub(super) fn reach(choices: &Choices<'_>, roots: &[Root], packages: &[PackageId]) -> BTreeMap<PackageId, Why> {
    let members: BTreeSet<PackageId> = packages.iter().copied().collect();
    let mut reached = Reached { members, why: BTreeMap::new(), open: VecDeque::new() };
    for root in roots {
        for &target in root.targets.iter() {
            reached.add(target, || root.why.clone());
        }
    }
    while let Some(id) = reached.open.pop_front() {
        let package = choices.package(id);
        for dependency in package.dependencies.iter().chain(&package.recommended) {
            for &target in dependency.targets.iter() {
                reached.add(target, || because(id, dependency));
            }
        }
    }
    reached.why
}

struct Reached {
    members: BTreeSet<PackageId>,
    why: BTreeMap<PackageId, Why>,
    open: VecDeque<PackageId>,
}

impl Reached {
    fn add(&mut self, package: PackageId, why: impl FnOnce() -> Why) {
        if self.members.contains(&package) && !self.why.contains_key(&package) {
            self.why.insert(package, why());
            self.open.push_back(package);
        }
    }
}

fn because(dependent: PackageId, dependency: &Dependency<'_>) -> Why {
    Why::Dependency { dependent, field: dependency.field, relation: dependency.group.to_string() }
}
