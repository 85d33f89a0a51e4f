//! Why each package is there: breadth first from the roots, so that every package names the shortest way to it.
//!
//! What an evicted package or a failed alternative had brought along is needed by nobody. apt lets it go too, but for
//! what a package that stays recommends or suggests, and so does [`Leftovers::Suggested`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Why;
use super::choices::{Choices, Dependency, Root};
use crate::index::RelationField;
use crate::relation::Group;
use crate::universe::PackageId;

/// What becomes of packages of a set that are needed by no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// They go.
    None,
    /// Those stay that another package recommends or suggests.
    Suggested,
}

/// The packages of a set that its roots need or recommend, each with the first reason. Every member that satisfies a
/// dependency counts as needed, as it does for apt.
pub(super) fn reach(
    choices: &Choices<'_>,
    roots: &[Root],
    packages: &[PackageId],
    leftovers: Leftovers,
) -> BTreeMap<PackageId, Why> {
    let members: BTreeSet<PackageId> = packages.iter().copied().collect();
    let mut reached =
        Reached { choices, members, why: BTreeMap::new(), open: VecDeque::new(), unasked: VecDeque::new() };
    for root in roots {
        for &target in root.targets.iter() {
            reached.add(target, || root.why.clone());
        }
    }
    reached.follow_needs();
    if leftovers == Leftovers::Suggested {
        reached.follow_suggestions();
    }
    reached.why
}

struct Reached<'c, 'u> {
    choices: &'c Choices<'u>,
    members: BTreeSet<PackageId>,
    why: BTreeMap<PackageId, Why>,
    /// Whose needs are not followed yet.
    open: VecDeque<PackageId>,
    /// Whose suggestions are not followed yet.
    unasked: VecDeque<PackageId>,
}

impl Reached<'_, '_> {
    fn follow_needs(&mut self) {
        while let Some(id) = self.open.pop_front() {
            let package = self.choices.package(id);
            for Dependency { field, group, targets } in package.dependencies.iter().chain(&package.recommended) {
                self.add_targets(id, *field, *group, targets);
            }
        }
    }

    fn follow_suggestions(&mut self) {
        // Mostly there is nothing left, and then nothing is to be asked.
        while self.why.len() < self.members.len()
            && let Some(id) = self.unasked.pop_front()
        {
            let stanza = self.choices.universe().stanza(id);
            for field in [RelationField::Recommends, RelationField::Suggests] {
                for group in stanza.groups(field) {
                    self.add_targets(id, field, group, &self.choices.targets(group));
                }
            }
            self.follow_needs();
        }
    }

    fn add_targets(&mut self, dependent: PackageId, field: RelationField, group: Group<'_>, targets: &[PackageId]) {
        for &target in targets {
            self.add(target, || Why::Dependency { dependent, field, relation: group.to_string() });
        }
    }

    fn add(&mut self, package: PackageId, why: impl FnOnce() -> Why) {
        if self.members.contains(&package) && !self.why.contains_key(&package) {
            self.why.insert(package, why());
            self.open.push_back(package);
            self.unasked.push_back(package);
        }
    }
}
