//! Follows what a request forces, until something forced is impossible: the proof that [`super::explain`] tells.
//!
//! 1. [`Web`]: every package that the roots could bring in, who depends on it and who conflicts with it.
//! 2. [`Facts::propagate`]: a root's only target is forced; so is the only target left of a forced package's dependency.
//!    What conflicts with something forced is impossible; so is a package one of whose dependencies has no target left.
//! 3. [`prove`]: where that does not suffice, alternatives of forced packages are assumed, one at a time, and those that
//!    cannot be are ruled out.
//!
//! Facts are found breadth first, so that the proof is short. It is no search: a proof may exist and not be found.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::choices::{Choices, Package, Root};
use crate::universe::PackageId;

/// More alternatives than this are not tried one by one: the text would be too long to read.
const ALTERNATIVES_MAX: usize = 6;
/// Assumptions tried before giving up; each costs about as much as a solve.
const ASSUMPTIONS_MAX: usize = 100;

/// Why a package must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is what is left of the root of that number.
    Root(usize),
    /// It is what is left of the dependency of that number.
    Needed { by: PackageId, dependency: usize },
    /// It was assumed.
    Assumed,
}

/// Why a package cannot be there.
#[derive(Debug, Clone)]
pub(super) enum Obstacle {
    /// It and `with`, which must be there, exclude each other; one of the two declares it.
    Conflict { with: PackageId, declarer: PackageId, conflict: usize },
    /// Another version of it must be there.
    OtherVersion { chosen: PackageId },
    /// Nothing is left for its dependency of that number.
    Hopeless { dependency: usize },
    /// Assumed to be there, it led to a contradiction.
    Refuted { by: Rc<Proof> },
}

/// What is known, and what contradicts itself.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub(super) facts: Facts,
    pub(super) end: End,
}

/// Where the contradiction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The package must be there and cannot.
    Package(PackageId),
    /// Nothing is left for the root of that number.
    Root(usize),
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) forced: BTreeMap<PackageId, Cause>,
    pub(super) impossible: BTreeMap<PackageId, Obstacle>,
    /// In the order forced.
    order: Vec<PackageId>,
    open: VecDeque<Fact>,
}

#[derive(Debug, Clone, Copy)]
enum Fact {
    Forced(PackageId),
    Impossible(PackageId),
}

/// A proof that the roots cannot be met, if one is found.
pub(super) fn prove(choices: &Choices<'_>, roots: &[Root]) -> Option<Proof> {
    let web = Web::new(choices, roots);
    let mut facts = Facts::default();
    let mut end = facts.start(&web).or_else(|| facts.propagate(&web));
    let mut assumptions = 0;
    while end.is_none() {
        end = facts.rule_out_one(&web, &mut assumptions)?;
    }
    end.map(|end| Proof { facts, end })
}

/// Everything the roots could bring in, with its relations in both directions.
struct Web<'a, 'u> {
    choices: &'a Choices<'u>,
    roots: &'a [Root],
    members: BTreeSet<PackageId>,
    /// Whose dependency of which number has it for a target.
    dependents: BTreeMap<PackageId, Vec<(PackageId, usize)>>,
    /// Which roots have it for a target.
    root_of: BTreeMap<PackageId, Vec<usize>>,
    /// Between two packages: the declarer, the other, the number of the conflict.
    conflicts: BTreeMap<PackageId, Vec<Clash>>,
}

#[derive(Clone, Copy)]
struct Clash {
    declarer: PackageId,
    other: PackageId,
    conflict: usize,
}

impl<'a, 'u> Web<'a, 'u> {
    fn new(choices: &'a Choices<'u>, roots: &'a [Root]) -> Self {
        let (members, dependents, root_of) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let mut web = Self { choices, roots, members, dependents, root_of, conflicts: BTreeMap::new() };
        web.find_members();
        web.find_conflicts();
        web
    }

    fn find_members(&mut self) {
        let mut open: Vec<PackageId> = Vec::new();
        for (number, root) in self.roots.iter().enumerate() {
            for &target in root.targets.iter() {
                self.root_of.entry(target).or_default().push(number);
                open.push(target);
            }
        }
        while let Some(package) = open.pop() {
            if !self.members.insert(package) {
                continue;
            }
            for (number, dependency) in self.choices.package(package).dependencies.iter().enumerate() {
                for &target in dependency.targets.iter() {
                    self.dependents.entry(target).or_default().push((package, number));
                    open.push(target);
                }
            }
        }
    }

    fn find_conflicts(&mut self) {
        for &declarer in &self.members {
            let package = self.choices.package(declarer);
            for (number, conflict) in package.conflicts.iter().enumerate() {
                for other in self.choices.hit_by(package.name, &conflict.relation) {
                    let clash = Clash { declarer, other, conflict: number };
                    self.conflicts.entry(declarer).or_default().push(clash);
                    self.conflicts.entry(other).or_default().push(clash);
                }
            }
        }
    }
}

impl Facts {
    fn start(&mut self, web: &Web<'_, '_>) -> Option<End> {
        for &package in &web.members {
            for number in 0..web.choices.package(package).dependencies.len() {
                if web.choices.package(package).dependencies[number].targets.is_empty() {
                    self.forbid(package, || Obstacle::Hopeless { dependency: number });
                }
            }
        }
        (0..web.roots.len()).find_map(|number| self.check_root(web, number))
    }

    /// Draws all conclusions; where the contradiction is, if there is one.
    fn propagate(&mut self, web: &Web<'_, '_>) -> Option<End> {
        while let Some(fact) = self.open.pop_front() {
            let end = match fact {
                Fact::Forced(package) => self.follow_forced(web, package),
                Fact::Impossible(package) => self.follow_impossible(web, package),
            };
            if end.is_some() {
                return end;
            }
        }
        None
    }

    fn follow_forced(&mut self, web: &Web<'_, '_>, id: PackageId) -> Option<End> {
        let package = web.choices.package(id);
        for &other in web.choices.offered(package.name).iter().filter(|&&other| other != id) {
            if let Some(end) = self.forbid(other, || Obstacle::OtherVersion { chosen: id }) {
                return Some(end);
            }
        }
        let clashes = web.conflicts.get(&id).into_iter().flatten();
        // Where both declare it, the one that was forced first tells.
        let own = clashes.clone().filter(|clash| clash.declarer == id);
        for &Clash { declarer, other, conflict } in own.chain(clashes.filter(|clash| clash.declarer != id)) {
            let loser = if declarer == id { other } else { declarer };
            if let Some(end) = self.forbid(loser, || Obstacle::Conflict { with: id, declarer, conflict }) {
                return Some(end);
            }
        }
        (0..package.dependencies.len()).find_map(|number| self.check_dependency(&package, number))
    }

    fn follow_impossible(&mut self, web: &Web<'_, '_>, id: PackageId) -> Option<End> {
        let dependents = web.dependents.get(&id).into_iter().flatten();
        let end = dependents.map(|&(package, number)| self.check_dependency(&web.choices.package(package), number));
        let end = end.flatten().next();
        let mut roots = web.root_of.get(&id).into_iter().flatten();
        end.or_else(|| roots.find_map(|&number| self.check_root(web, number)))
    }

    fn check_root(&mut self, web: &Web<'_, '_>, number: usize) -> Option<End> {
        let targets = &web.roots[number].targets;
        match (&*self.left_of(targets), &**targets) {
            (&[only], _) | ([], &[only]) => self.force(only, Cause::Root(number)),
            ([], _) => Some(End::Root(number)),
            _ => None,
        }
    }

    fn check_dependency(&mut self, package: &Package<'_>, number: usize) -> Option<End> {
        let targets = &package.dependencies[number].targets;
        if targets.contains(&package.id) {
            return None;
        }
        match *self.left_of(targets) {
            [] => self.forbid(package.id, || Obstacle::Hopeless { dependency: number }),
            [only] if self.forced.contains_key(&package.id) => {
                self.force(only, Cause::Needed { by: package.id, dependency: number })
            }
            _ => None,
        }
    }

    fn left_of(&self, targets: &[PackageId]) -> Vec<PackageId> {
        targets.iter().copied().filter(|target| !self.impossible.contains_key(target)).collect()
    }

    fn force(&mut self, package: PackageId, cause: Cause) -> Option<End> {
        if let Entry::Vacant(unknown) = self.forced.entry(package) {
            unknown.insert(cause);
            self.order.push(package);
            self.open.push_back(Fact::Forced(package));
        }
        self.impossible.contains_key(&package).then_some(End::Package(package))
    }

    fn forbid(&mut self, package: PackageId, obstacle: impl FnOnce() -> Obstacle) -> Option<End> {
        if let Entry::Vacant(unknown) = self.impossible.entry(package) {
            unknown.insert(obstacle());
            self.open.push_back(Fact::Impossible(package));
        }
        self.forced.contains_key(&package).then_some(End::Package(package))
    }

    /// Assumes alternatives until one is refuted, and draws the conclusions; the outer `None` where none can be.
    #[expect(clippy::option_option, reason = "gave up, no contradiction yet, contradiction")]
    fn rule_out_one(&mut self, web: &Web<'_, '_>, assumptions: &mut usize) -> Option<Option<End>> {
        for target in self.alternatives(web) {
            *assumptions += 1;
            if *assumptions > ASSUMPTIONS_MAX {
                return None;
            }
            let mut assumed = self.clone();
            let end = assumed.force(target, Cause::Assumed).or_else(|| assumed.propagate(web));
            if let Some(end) = end {
                let by = Rc::new(Proof { facts: assumed, end });
                let end = self.forbid(target, || Obstacle::Refuted { by });
                return Some(end.or_else(|| self.propagate(web)));
            }
        }
        None
    }

    /// What is left of the open dependencies of forced packages, and of the roots.
    fn alternatives(&self, web: &Web<'_, '_>) -> Vec<PackageId> {
        let mut alternatives: Vec<PackageId> = Vec::new();
        let mut add = |targets: &[PackageId]| {
            let left = self.left_of(targets);
            if left.len() <= ALTERNATIVES_MAX && !left.iter().any(|target| self.forced.contains_key(target)) {
                alternatives.extend(left);
            }
        };
        web.roots.iter().for_each(|root| add(&root.targets));
        for &package in &self.order {
            web.choices.package(package).dependencies.iter().for_each(|dependency| add(&dependency.targets));
        }
        let mut seen = BTreeSet::new();
        alternatives.retain(|&target| seen.insert(target));
        alternatives
    }
}

impl Proof {
    /// The roots that the proof rests on.
    pub(super) fn roots(&self, choices: &Choices<'_>, roots: &[Root]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut seen: BTreeSet<*const Self> = BTreeSet::new();
        let mut open: Vec<Rc<Self>> = Vec::new();
        Walk::new(choices, &self.facts).back_from(self.end, roots, &mut found, &mut open);
        while let Some(proof) = open.pop() {
            if seen.insert(Rc::as_ptr(&proof)) {
                Walk::new(choices, &proof.facts).back_from(proof.end, roots, &mut found, &mut open);
            }
        }
        found
    }
}

/// Goes back from a contradiction to the roots it rests on, and to the proofs about assumptions.
struct Walk<'a, 'u> {
    choices: &'a Choices<'u>,
    facts: &'a Facts,
    /// Whether something is forced, or impossible.
    open: Vec<(PackageId, bool)>,
}

impl<'a, 'u> Walk<'a, 'u> {
    fn new(choices: &'a Choices<'u>, facts: &'a Facts) -> Self {
        Self { choices, facts, open: Vec::new() }
    }

    fn back_from(mut self, end: End, roots: &[Root], found: &mut BTreeSet<usize>, proofs: &mut Vec<Rc<Proof>>) {
        match end {
            End::Package(package) => self.open.extend([(package, true), (package, false)]),
            End::Root(number) => {
                found.insert(number);
                self.open.extend(roots[number].targets.iter().map(|&target| (target, false)));
            }
        }
        let mut seen = BTreeSet::new();
        while let Some((package, is_forced)) = self.open.pop() {
            if !seen.insert((package, is_forced)) {
                continue;
            }
            if is_forced {
                found.extend(self.follow_cause(package));
            } else {
                proofs.extend(self.follow_obstacle(package));
            }
        }
    }

    /// The root, if it is what forces the package.
    fn follow_cause(&mut self, package: PackageId) -> Option<usize> {
        match *self.facts.forced.get(&package)? {
            Cause::Root(number) => Some(number),
            Cause::Needed { by, dependency } => {
                self.open.push((by, true));
                let dependent = self.choices.package(by);
                let others = dependent.dependencies[dependency].targets.iter().filter(|&&target| target != package);
                self.open.extend(others.map(|&target| (target, false)));
                None
            }
            Cause::Assumed => None,
        }
    }

    /// The proof, if it is one about an assumption that makes the package impossible.
    fn follow_obstacle(&mut self, package: PackageId) -> Option<Rc<Proof>> {
        match self.facts.impossible.get(&package)? {
            Obstacle::Conflict { with, .. } => self.open.push((*with, true)),
            Obstacle::OtherVersion { chosen } => self.open.push((*chosen, true)),
            Obstacle::Hopeless { dependency } => {
                let dependent = self.choices.package(package);
                let targets = &dependent.dependencies[*dependency].targets;
                self.open.extend(targets.iter().map(|&target| (target, false)));
            }
            Obstacle::Refuted { by } => return Some(Rc::clone(by)),
        }
        None
    }
}
