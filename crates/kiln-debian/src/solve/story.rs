//! Tells a [`Proof`] to a person: from each request the chain of dependencies, a line each, to the two that clash.
//!
//! ```text
//! exim4-daemon-light and postfix cannot be installed together
//!   exim4-daemon-light 4.98.2-1+deb13u5 (requested)  conflicts with mail-transport-agent
//!   postfix 3.10.13-0+deb13u1 (requested)            provides mail-transport-agent
//! ```

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::choices::{Choices, Dependency, Package, Root};
use super::propagate::{Cause, End, Facts, Obstacle, Proof};
use super::verify::verb;
use super::{Request, Why};
use crate::relation::Relation;
use crate::universe::PackageId;

/// How many alternatives of one dependency are told about.
const ALTERNATIVES_TOLD_MAX: usize = 4;
/// Where names and versions are longer than this, what follows is not aligned.
const LEFT_WIDTH_MAX: usize = 60;

/// A proof in words.
pub(super) struct Story {
    pub(super) headline: String,
    pub(super) details: Vec<String>,
    /// What the proof ends in, where that is something that no index has.
    pub(super) missing: Option<String>,
}

impl Story {
    /// No proof was found that is short enough to be told.
    pub(super) fn untold(request: &Request) -> Self {
        let names: Vec<&str> = request.wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        let headline = match *names {
            [] => "the essential packages cannot be installed together".to_owned(),
            [name] => format!("{name} cannot be installed"),
            _ => "the requested packages cannot be installed together".to_owned(),
        };
        let details = vec!["each way to meet their dependencies ends in a conflict".to_owned()];
        Self { headline, details, missing: None }
    }
}

/// The proof in words.
pub(super) fn tell(choices: &Choices<'_>, roots: &[Root], proof: &Proof) -> Story {
    let mut teller =
        Teller { choices, roots, facts: &proof.facts, lines: Vec::new(), ends: BTreeSet::new(), missing: None };
    match proof.end {
        End::Package(package) => teller.tell_package(package),
        End::Root(number) => teller.tell_root(number),
    }
    Story { headline: teller.headline(), details: teller.details(), missing: teller.missing }
}

struct Teller<'a, 'u> {
    choices: &'a Choices<'u>,
    roots: &'a [Root],
    facts: &'a Facts,
    lines: Vec<Line>,
    /// The roots at which the chains begin.
    ends: BTreeSet<usize>,
    missing: Option<String>,
}

/// One line: who, and what it does.
#[derive(Clone, PartialEq, Eq)]
enum Line {
    Step { who: String, what: String },
    Remark(String),
}

impl<'u> Teller<'_, 'u> {
    /// Its own chain, goes on from it to where nothing is left, then the chain of what is in the way there.
    fn tell_package(&mut self, package: PackageId) {
        self.tell_chain(package);
        let last = self.tell_descent(package);
        self.tell_obstacle(package, last);
    }

    fn tell_root(&mut self, number: usize) {
        self.ends.insert(number);
        for &target in self.roots[number].targets.iter().take(ALTERNATIVES_TOLD_MAX) {
            let reason = self.reason(target);
            self.step(target, reason);
        }
    }

    /// From a root to what forces `package`, a line for each dependency.
    fn tell_chain(&mut self, package: PackageId) {
        let mut steps: Vec<(PackageId, usize, PackageId)> = Vec::new();
        let mut at = package;
        while let Some(&Cause::Needed { by, dependency }) = self.facts.forced.get(&at) {
            steps.push((by, dependency, at));
            at = by;
        }
        if let Some(&Cause::Root(number)) = self.facts.forced.get(&at) {
            self.ends.insert(number);
        }
        for (by, dependency, chosen) in steps.into_iter().rev() {
            self.tell_dependency(by, dependency, Some(chosen));
        }
    }

    /// From an impossible package along dependencies with one target to the one that is really in trouble.
    fn tell_descent(&mut self, package: PackageId) -> PackageId {
        let mut at = package;
        let mut seen = BTreeSet::from([package]);
        while let Some(&Obstacle::Hopeless { dependency }) = self.facts.impossible.get(&at) {
            let targets = self.package(at).dependencies[dependency].targets.clone();
            let [only] = *targets else { break };
            if !seen.insert(only) {
                break;
            }
            self.tell_dependency(at, dependency, Some(only));
            at = only;
        }
        at
    }

    /// What is in the way of `package`, which the chain told so far, from `start` on, leads to.
    fn tell_obstacle(&mut self, start: PackageId, package: PackageId) {
        match self.facts.impossible.get(&package) {
            Some(&Obstacle::Conflict { with, declarer, conflict }) => {
                let declared = self.package(declarer).conflicts[conflict];
                let other = if declarer == package { with } else { package };
                let declares = format!("{} {}", verb(declared.field), declared.relation);
                let answers = self.how_it_answers(other, &declared.relation);
                let (what, what_with) = if declarer == package { (declares, answers) } else { (answers, declares) };
                self.step(package, what);
                self.tell_other_side(start, with, what_with, declarer == package);
            }
            Some(&Obstacle::OtherVersion { chosen }) => {
                self.step(package, "is another version of the same package".to_owned());
                self.tell_other_side(start, chosen, String::new(), true);
            }
            Some(&Obstacle::Hopeless { dependency }) => self.tell_dependency(package, dependency, None),
            Some(Obstacle::Refuted { .. }) => {
                let reason = self.reason(package);
                self.step(package, reason);
            }
            None => {}
        }
    }

    /// The chain to the other of two that clash; the one whose request was written first comes first, of the same
    /// request the one that `is_declarer`.
    fn tell_other_side(&mut self, start: PackageId, other: PackageId, what: String, is_declarer: bool) {
        let own = std::mem::take(&mut self.lines);
        self.tell_chain(other);
        self.step(other, what);
        let theirs = std::mem::take(&mut self.lines);
        let own_first = match self.root_of(start).cmp(&self.root_of(other)) {
            Ordering::Less => true,
            Ordering::Equal => is_declarer,
            Ordering::Greater => false,
        };
        let (first, second) = if own_first { (own, theirs) } else { (theirs, own) };
        self.lines = first;
        // What both chains have in common is told once.
        let new: Vec<Line> = second.into_iter().filter(|line| !self.lines.contains(line)).collect();
        self.lines.extend(new);
    }

    fn root_of(&self, package: PackageId) -> Option<usize> {
        let mut at = package;
        loop {
            match self.facts.forced.get(&at)? {
                Cause::Root(number) => return Some(*number),
                Cause::Needed { by, .. } => at = *by,
                Cause::Assumed => return None,
            }
        }
    }

    /// A dependency, and why no other of its alternatives than `chosen` is possible.
    fn tell_dependency(&mut self, by: PackageId, number: usize, chosen: Option<PackageId>) {
        let package = self.package(by);
        let dependency = &package.dependencies[number];
        self.step(by, format!("{} {}", verb(dependency.field), dependency.group));
        let others = dependency.targets.iter().copied().filter(|&target| Some(target) != chosen);
        let others: Vec<PackageId> = others.collect();
        for &other in others.iter().take(ALTERNATIVES_TOLD_MAX) {
            let remark = format!("{} {}", self.choices.universe().display(other), self.reason(other));
            self.lines.push(Line::Remark(remark));
        }
        if others.len() > ALTERNATIVES_TOLD_MAX {
            let more = others.len() - ALTERNATIVES_TOLD_MAX;
            self.lines.push(Line::Remark(format!("{more} more alternatives are impossible too")));
        }
        if dependency.targets.is_empty() {
            self.tell_missing(dependency);
        }
    }

    fn tell_missing(&mut self, dependency: &Dependency<'u>) {
        for relation in dependency.group.alternatives() {
            let remark = self.absence(&relation);
            self.lines.push(Line::Remark(remark));
        }
        if dependency.group.alternatives().all(|relation| self.is_nowhere(&relation)) {
            self.missing = Some(dependency.group.to_string());
        }
    }

    /// Whether no index has it; else something keeps it out.
    fn is_nowhere(&self, relation: &Relation<'u>) -> bool {
        let universe = self.choices.universe();
        let mut providers = universe.providers(relation.name).map(|(package, _)| package);
        let mut named = universe.versions(relation.name).into_iter();
        !named.any(|package| universe.satisfies(relation, package))
            && !providers.any(|package| universe.satisfies(relation, package))
    }

    /// Why nothing answers to a relation.
    fn absence(&self, relation: &Relation<'u>) -> String {
        let universe = self.choices.universe();
        let name = relation.name;
        if self.choices.is_excluded(name) {
            return format!("{name} is excluded");
        }
        let offered = self.choices.offered(name);
        if let Some(&kept) = offered.first().filter(|&&package| self.choices.is_base(package)) {
            return format!("the parent has {}, which stays", universe.display(kept));
        }
        let versions = universe.versions(name);
        if versions.iter().any(|&package| universe.satisfies(relation, package)) {
            return match self.restriction(name) {
                Some(restriction) => restriction,
                None => format!("only {} is a candidate", universe.display(versions[0])),
            };
        }
        if !versions.is_empty() {
            return format!("there is {name} {}", universe.listed_versions(name).join(", "));
        }
        let providers: BTreeSet<&str> = universe.providers(name).map(|(package, _)| universe.name(package)).collect();
        if providers.is_empty() {
            return format!("there is no package {name}");
        }
        let list: Vec<&str> = providers.into_iter().take(ALTERNATIVES_TOLD_MAX).collect();
        format!("{name} is only provided, by {}, and not so", list.join(", "))
    }

    /// The request that leaves a fitting version out.
    fn restriction(&self, name: &str) -> Option<String> {
        let mut wanted = self.choices.request().wanted.iter().filter(|wanted| wanted.name == name);
        let (operator, version) = wanted.find_map(|wanted| wanted.constraint.as_ref())?;
        Some(format!("{name} ({operator} {version}) is requested"))
    }

    /// Why a package is impossible, in a clause that follows its name.
    fn reason(&self, package: PackageId) -> String {
        let universe = self.choices.universe();
        match self.facts.impossible.get(&package) {
            Some(&Obstacle::Conflict { with, declarer, conflict }) => {
                let declared = self.package(declarer).conflicts[conflict];
                if declarer == package {
                    let answers = self.how_it_answers(with, &declared.relation);
                    let answers = if answers.is_empty() {
                        String::new()
                    } else {
                        format!(", which {} provides", universe.name(with))
                    };
                    format!("{} {}{answers}", verb(declared.field), declared.relation)
                } else {
                    format!(
                        "is in conflict with {}, which {} {}",
                        universe.display(with),
                        verb(declared.field),
                        declared.relation
                    )
                }
            }
            Some(&Obstacle::OtherVersion { chosen }) => format!("is not {}", universe.display(chosen)),
            Some(&Obstacle::Hopeless { dependency }) => {
                let package = self.package(package);
                let dependency = &package.dependencies[dependency];
                format!("{} {}, which is impossible too", verb(dependency.field), dependency.group)
            }
            Some(Obstacle::Refuted { by }) => self.refutation(by),
            None => "is possible".to_owned(),
        }
    }

    /// What an assumption leads to.
    fn refutation(&self, by: &Proof) -> String {
        let inner = Teller {
            facts: &by.facts,
            choices: self.choices,
            roots: self.roots,
            lines: Vec::new(),
            ends: BTreeSet::new(),
            missing: None,
        };
        match by.end {
            End::Package(end) => {
                format!("leads to {}, which {}", self.choices.universe().display(end), inner.reason(end))
            }
            End::Root(_) => "leaves nothing for another request".to_owned(),
        }
    }

    /// How a package comes to be meant by a relation; empty where it is by its name.
    fn how_it_answers(&self, package: PackageId, relation: &Relation<'_>) -> String {
        let stanza = self.choices.universe().stanza(package);
        if stanza.name == relation.name && relation.accepts(stanza.version) {
            return String::new();
        }
        let mut provided = stanza.provided();
        match provided.find(|(name, version)| *name == relation.name && relation.accepts_provided(*version)) {
            Some((name, Some(version))) => format!("provides {name} (= {version})"),
            _ => format!("provides {}", relation.name),
        }
    }

    fn step(&mut self, package: PackageId, what: String) {
        let root = self.facts.forced.get(&package).and_then(|cause| match cause {
            Cause::Root(number) => Some(*number),
            _ => None,
        });
        let why = root.map_or("", |number| match self.roots[number].why {
            Why::Wanted { .. } => " (requested)",
            Why::Essential => " (essential)",
            Why::Base => " (in the parent)",
            Why::Dependency { .. } => "",
        });
        self.lines.push(Line::Step { who: format!("{}{why}", self.choices.universe().display(package)), what });
    }

    fn headline(&self) -> String {
        let (wanted, others): (Vec<usize>, Vec<usize>) =
            self.ends.iter().partition(|&&number| matches!(self.roots[number].why, Why::Wanted { .. }));
        let names: Vec<String> = wanted.iter().map(|&number| self.root_name(number)).collect();
        let others: Vec<String> = others.iter().map(|&number| self.root_name(number)).collect();
        match (names.as_slice(), others.as_slice()) {
            ([first, second, ..], _) if first != second => format!("{first} and {second} cannot be installed together"),
            ([name, ..], [other, ..]) => format!("{name} cannot be installed beside {other}"),
            ([name, ..], []) => format!("{name} cannot be installed"),
            ([], [first, second, ..]) => format!("{first} and {second} cannot be installed together"),
            ([], [name]) => format!("{name} cannot be installed"),
            ([], []) => "the requests cannot be met".to_owned(),
        }
    }

    fn root_name(&self, number: usize) -> String {
        let root = &self.roots[number];
        let name = root.targets.first().map_or("", |&target| self.choices.universe().name(target));
        match root.why {
            Why::Base => format!("{name} of the parent"),
            Why::Essential => format!("the essential package {name}"),
            _ => name.to_owned(),
        }
    }

    fn details(&self) -> Vec<String> {
        let width = |line: &Line| match line {
            Line::Step { who, what } if !what.is_empty() => who.len(),
            _ => 0,
        };
        let width = self.lines.iter().map(width).max().unwrap_or(0).min(LEFT_WIDTH_MAX);
        let show = |line: &Line| match line {
            Line::Step { who, what } => format!("{who:width$}  {what}").trim_end().to_owned(),
            Line::Remark(remark) => format!("  {remark}"),
        };
        self.lines.iter().map(show).collect()
    }

    fn package(&self, package: PackageId) -> Rc<Package<'u>> {
        self.choices.package(package)
    }
}
