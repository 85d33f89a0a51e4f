//! Judges a set of packages: complete, free of conflicts, and what was asked for.
//!
//! It shares nothing with the engines but the meaning of a relation, so that a mistake in one of them is found here.
//! It is linear in the size of the set and needs no solver, so a lock that is read back is judged the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Request, Wanted};
use crate::index::RelationField;
use crate::relation::Relation;
use crate::universe::{PackageId, Universe, fits};

/// What is wrong with a set of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Two packages of one name.
    Twice {
        /// The one.
        package: PackageId,
        /// The other.
        other: PackageId,
    },
    /// A dependency that nothing in the set satisfies.
    Unmet {
        /// Who needs it.
        package: PackageId,
        /// The field that says so.
        field: RelationField,
        /// The or-group, as Debian writes it.
        relation: String,
    },
    /// Two packages that cannot be together.
    Conflict {
        /// Who says so.
        package: PackageId,
        /// In which field.
        field: RelationField,
        /// The relation, as Debian writes it.
        relation: String,
        /// What it hits.
        other: PackageId,
    },
    /// A request without an answer in the set.
    WantedAbsent {
        /// [`Wanted::label`].
        label: usize,
        /// What was asked for.
        name: String,
    },
    /// An essential package is not there.
    EssentialAbsent {
        /// Its name.
        name: String,
    },
    /// A package of the parent is not there, or in another version.
    BaseAbsent {
        /// The parent's.
        package: PackageId,
    },
    /// Something is there that was excluded.
    Excluded {
        /// It.
        package: PackageId,
    },
}

/// Everything that is wrong with `packages` as an answer to `request`; nothing, if it is one.
#[must_use]
pub fn verify(universe: &Universe, packages: &[PackageId], request: &Request) -> Vec<Violation> {
    let set = Set::new(universe, packages);
    let mut violations = set.twice.clone();
    for &package in &set.members {
        violations.extend(set.unmet(package));
        violations.extend(set.conflicts(package));
    }
    violations.extend(set.missing(request));
    violations.extend(set.excluded(request));
    violations
}

struct Set<'u> {
    universe: &'u Universe,
    members: BTreeSet<PackageId>,
    /// Who answers to a name, as its own or as a provided one.
    answering: BTreeMap<&'u str, Vec<PackageId>>,
    by_name: BTreeMap<&'u str, PackageId>,
    twice: Vec<Violation>,
}

impl<'u> Set<'u> {
    fn new(universe: &'u Universe, packages: &[PackageId]) -> Self {
        let members = packages.iter().copied().collect();
        let mut set =
            Self { universe, members, answering: BTreeMap::new(), by_name: BTreeMap::new(), twice: Vec::new() };
        for &package in &set.members {
            let stanza = universe.stanza(package);
            if let Some(other) = set.by_name.insert(stanza.name, package) {
                set.twice.push(Violation::Twice { package, other });
            }
            let names: BTreeSet<&str> = stanza.provided().map(|(name, _)| name).chain([stanza.name]).collect();
            for name in names {
                set.answering.entry(name).or_default().push(package);
            }
        }
        set
    }

    fn answering(&self, relation: &Relation<'_>) -> impl Iterator<Item = PackageId> {
        self.answering.get(relation.name).into_iter().flatten().copied()
    }

    fn unmet(&self, package: PackageId) -> impl Iterator<Item = Violation> {
        let stanza = self.universe.stanza(package);
        let met =
            |relation: Relation<'_>| self.answering(&relation).any(|other| self.universe.satisfies(&relation, other));
        [RelationField::PreDepends, RelationField::Depends].into_iter().flat_map(move |field| {
            let unmet = stanza.groups(field).filter(move |group| !group.alternatives().any(met));
            unmet.map(move |group| Violation::Unmet { package, field, relation: group.to_string() })
        })
    }

    fn conflicts(&self, package: PackageId) -> Vec<Violation> {
        let stanza = self.universe.stanza(package);
        let mut found = Vec::new();
        for field in [RelationField::Conflicts, RelationField::Breaks] {
            for relation in stanza.groups(field).flat_map(|group| group.alternatives()) {
                let others = self.answering(&relation).filter(|&other| other != package);
                for other in others.filter(|&other| self.universe.matches(&relation, other)) {
                    found.push(Violation::Conflict { package, field, relation: relation.to_string(), other });
                }
            }
        }
        found
    }

    fn missing(&self, request: &Request) -> Vec<Violation> {
        let mut missing: Vec<Violation> = Vec::new();
        let base = request.base.iter().copied().filter(|package| !self.members.contains(package));
        missing.extend(base.map(|package| Violation::BaseAbsent { package }));
        if request.essential {
            let names = self.universe.essential_names().into_iter().filter(|name| !self.by_name.contains_key(name));
            let names = names.filter(|name| !request.exclude.iter().any(|excluded| excluded == name));
            missing.extend(names.map(|name| Violation::EssentialAbsent { name: name.to_owned() }));
        }
        let wanted = request.wanted.iter().filter(|wanted| !self.answers(wanted));
        missing.extend(wanted.map(|wanted| Violation::WantedAbsent { label: wanted.label, name: wanted.name.clone() }));
        missing
    }

    fn answers(&self, wanted: &Wanted) -> bool {
        let version = |package: PackageId| self.universe.stanza(package).version;
        let constraint = wanted.constraint.as_ref();
        match self.by_name.get(wanted.name.as_str()) {
            Some(&package) => fits(constraint, version(package)),
            None if !self.universe.versions(&wanted.name).is_empty() => false,
            None => {
                let constraint = constraint.map(|(operator, version)| (*operator, version.as_str()));
                let relation = Relation { name: &wanted.name, qualifier: None, constraint };
                self.answering(&relation).any(|package| self.universe.satisfies(&relation, package))
            }
        }
    }

    fn excluded(&self, request: &Request) -> impl Iterator<Item = Violation> {
        let present = request.exclude.iter().filter_map(|name| self.by_name.get(name.as_str()).copied());
        let chosen = present.filter(|package| !request.base.contains(package));
        chosen.map(|package| Violation::Excluded { package })
    }
}

impl Violation {
    /// The violation in words: a lower-case fragment.
    pub fn display<'a>(&'a self, universe: &'a Universe) -> impl fmt::Display + 'a {
        let show = |package: &PackageId| universe.display(*package);
        fmt::from_fn(move |f| match self {
            Self::Twice { package, other } => write!(f, "{} is there twice, also as {}", show(package), show(other)),
            Self::Unmet { package, field, relation } => {
                write!(f, "{} {} {relation}, which nothing satisfies", show(package), verb(*field))
            }
            Self::Conflict { package, field, relation, other } => {
                write!(f, "{} {} {relation}, which {} is", show(package), verb(*field), show(other))
            }
            Self::WantedAbsent { name, .. } => write!(f, "{name} was asked for and is not there"),
            Self::EssentialAbsent { name } => write!(f, "{name} is essential and not there"),
            Self::BaseAbsent { package } => write!(f, "{} of the parent is not there", show(package)),
            Self::Excluded { package } => write!(f, "{} is there though it is excluded", show(package)),
        })
    }
}

/// What a package does to another by a field, in a sentence.
pub(super) fn verb(field: RelationField) -> &'static str {
    match field {
        RelationField::PreDepends => "pre-depends on",
        RelationField::Depends => "depends on",
        RelationField::Recommends => "recommends",
        RelationField::Suggests => "suggests",
        RelationField::Conflicts => "conflicts with",
        RelationField::Breaks => "breaks",
        RelationField::Provides => "provides",
        RelationField::Replaces => "replaces",
    }
}
