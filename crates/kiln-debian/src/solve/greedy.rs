//! apt's classic way to choose: depth first, in the order of the fields, the first alternative that works.
//!
//! 1. Every root is selected, and protected, before any dependency is looked at.
//! 2. Then, for each root, its dependencies in order: what something selected satisfies is passed over; otherwise the
//!    targets are tried in order of preference. A target that cannot be beside something selected is skipped; one
//!    whose own dependencies fail is taken back, with all that it brought, and the next is tried.
//! 3. Protection spreads from a protected package over the dependencies that have exactly one target.
//! 4. Where a dependency has exactly one target and nothing protected is in its way, what is in the way is evicted; it
//!    may come back once.
//! 5. At the end, what lost a dependency by an eviction is dropped, unless it is protected.
//!
//! This is no search: it may be stuck where an answer exists, and after an eviction its answer may be none. The caller
//! verifies it and has another engine.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::choices::{Choices, Dependency, Package, Root};
use super::selected::Selected;
use crate::universe::PackageId;

/// How far dependencies are followed before the greedy way gives up, as apt does at some depth too; the deepest way
/// through Debian's archive is below 200. It bounds the stack.
const DEPTH_MAX: usize = 400;
/// How many packages are tried before it gives up: where each failure has alternatives, the number of ways to fail
/// doubles with each. A thousand packages at once take fewer than ten thousand.
const ATTEMPTS_MAX: usize = 30_000;
/// How often a package may be evicted; else two that have no alternative would evict each other for ever.
const EVICTIONS_MAX: usize = 2;

/// Selects everything the roots need; where it is stuck, what was selected until then.
pub(super) fn solve(choices: &Choices<'_>, roots: &[Root]) -> Result<Vec<PackageId>, Vec<PackageId>> {
    let mut greedy = Greedy::new(choices, true);
    if greedy.select_roots(roots) && greedy.expand_roots(roots) {
        greedy.bring_back_abandoned();
        greedy.drop_broken();
        return Ok(greedy.packages());
    }
    Err(greedy.packages())
}

/// Adds to a sound set what its packages recommend, as far as that fits beside it.
pub(super) fn add_recommended(choices: &Choices<'_>, packages: &[PackageId]) -> Vec<PackageId> {
    let mut greedy = Greedy::new(choices, false);
    for &package in packages {
        greedy.select(package);
        greedy.protected.insert(package);
    }
    for &package in packages {
        for dependency in &choices.package(package).recommended {
            greedy.satisfy(dependency, Strength::Recommended, 0);
        }
    }
    greedy.packages()
}

struct Greedy<'a, 'u> {
    choices: &'a Choices<'u>,
    selected: Selected<'u>,
    protected: BTreeSet<PackageId>,
    /// How often each was evicted.
    evictions: BTreeMap<PackageId, usize>,
    attempts: usize,
    /// What was selected, in that order, to be taken back.
    trail: Vec<PackageId>,
    /// What was taken back.
    abandoned: Vec<PackageId>,
    /// Whether something selected may be given up for what has no alternative.
    evicts: bool,
}

/// How much a dependency matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    /// Of a protected package.
    Protected,
    Required,
    Recommended,
}

impl<'a, 'u> Greedy<'a, 'u> {
    fn new(choices: &'a Choices<'u>, evicts: bool) -> Self {
        Self {
            choices,
            selected: Selected::default(),
            protected: BTreeSet::new(),
            evictions: BTreeMap::new(),
            attempts: 0,
            trail: Vec::new(),
            abandoned: Vec::new(),
            evicts,
        }
    }

    fn packages(&self) -> Vec<PackageId> {
        self.selected.packages().map(|package| package.id).collect()
    }

    fn select_roots(&mut self, roots: &[Root]) -> bool {
        roots.iter().all(|root| {
            let Some(&target) = root.targets.first() else { return false };
            if !self.selected.contains(target) {
                if !self.selected.in_the_way_of(&self.choices.package(target)).is_empty() {
                    return false;
                }
                self.select(target);
            }
            self.protected.insert(target);
            true
        })
    }

    fn expand_roots(&mut self, roots: &[Root]) -> bool {
        roots.iter().filter_map(|root| root.targets.first()).all(|&target| self.expand(target, 0))
    }

    /// Brings in what a selected package needs, then what it recommends.
    fn expand(&mut self, id: PackageId, depth: usize) -> bool {
        if depth > DEPTH_MAX {
            return false;
        }
        let package = self.choices.package(id);
        let strength =
            |greedy: &Self| if greedy.protected.contains(&id) { Strength::Protected } else { Strength::Required };
        if !package.dependencies.iter().all(|dependency| self.satisfy(dependency, strength(self), depth)) {
            return false;
        }
        for dependency in &package.recommended {
            self.satisfy(dependency, Strength::Recommended, depth);
        }
        true
    }

    fn satisfy(&mut self, dependency: &Dependency<'u>, strength: Strength, depth: usize) -> bool {
        let is_only = dependency.targets.len() == 1;
        if let Some(satisfier) = self.selected.satisfier(dependency) {
            if is_only && strength == Strength::Protected {
                self.protect(satisfier);
            }
            return true;
        }
        dependency.targets.iter().any(|&target| self.attempt(target, is_only, strength, depth))
    }

    fn attempt(&mut self, target: PackageId, is_only: bool, strength: Strength, depth: usize) -> bool {
        let may_evict = is_only && self.evicts;
        let mark = self.trail.len();
        self.attempts += 1;
        if self.attempts > ATTEMPTS_MAX || !self.may_come_back(target) || !self.make_room(target, may_evict) {
            return false;
        }
        self.select(target);
        if is_only && strength == Strength::Protected {
            self.protected.insert(target);
        }
        if self.expand(target, depth + 1) {
            return true;
        }
        self.take_back(mark);
        false
    }

    fn may_come_back(&self, target: PackageId) -> bool {
        self.evictions.get(&target).is_none_or(|&evictions| evictions < EVICTIONS_MAX)
    }

    fn make_room(&mut self, target: PackageId, may_evict: bool) -> bool {
        let in_the_way = self.selected.in_the_way_of(&self.choices.package(target));
        let free = in_the_way.is_empty() || may_evict && in_the_way.iter().all(|other| !self.protected.contains(other));
        if free {
            in_the_way.iter().for_each(|&other| self.selected.remove(other));
            in_the_way.into_iter().for_each(|other| *self.evictions.entry(other).or_default() += 1);
        }
        free
    }

    fn select(&mut self, package: PackageId) {
        self.selected.insert(self.choices.package(package));
        self.trail.push(package);
    }

    fn take_back(&mut self, mark: usize) {
        for package in self.trail.drain(mark..) {
            self.selected.remove(package);
            self.protected.remove(&package);
            self.abandoned.push(package);
        }
    }

    /// apt lets everything lie that a failed alternative brought, until it removes at the end what nobody needs. What was
    /// taken back here thus may still stay, beside what was selected, if [`super::reach`] finds somebody who suggests it.
    fn bring_back_abandoned(&mut self) {
        for id in std::mem::take(&mut self.abandoned) {
            let package = self.choices.package(id);
            if !self.selected.contains(id) && self.selected.in_the_way_of(&package).is_empty() {
                self.selected.insert(package);
            }
        }
    }

    /// Drops what an eviction broke, and what that breaks in turn: recommended packages and what they brought, mostly.
    fn drop_broken(&mut self) {
        loop {
            let is_broken = |package: &Rc<Package<'u>>| {
                !self.protected.contains(&package.id)
                    && package.dependencies.iter().any(|dependency| self.selected.satisfier(dependency).is_none())
            };
            let broken: Vec<PackageId> =
                self.selected.packages().filter(|package| is_broken(package)).map(|package| package.id).collect();
            if broken.is_empty() {
                return;
            }
            broken.into_iter().for_each(|package| self.selected.remove(package));
        }
    }

    /// Protects a selected package, and whatever it leaves no choice about.
    fn protect(&mut self, package: PackageId) {
        let mut open = vec![package];
        while let Some(package) = open.pop() {
            if !self.protected.insert(package) {
                continue;
            }
            for dependency in &self.choices.package(package).dependencies {
                if let [only] = *dependency.targets
                    && self.selected.contains(only)
                {
                    open.push(only);
                }
            }
        }
    }
}
