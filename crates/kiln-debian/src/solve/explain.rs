//! Why a request has no answer, in words that a person can act on.

use std::collections::BTreeSet;
use std::fmt;

use super::{Request, Wanted};
use crate::relation::Relation;
use crate::universe::{PackageId, Universe};

/// A request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unsolvable {
    /// What kind of reason it is.
    pub kind: UnsolvableKind,
    /// The reason in one line.
    pub headline: String,
    /// How it comes about, a line each; may be empty.
    pub details: Vec<String>,
    /// The [`Wanted::label`]s without any one of which there would be an answer; else all that take part.
    pub labels: Vec<usize>,
    /// What would help.
    pub hint: Option<String>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsolvableKind {
    /// Nothing is called so.
    UnknownName,
    /// No version fits.
    NoVersion,
    /// Only provided, by several packages.
    SeveralProviders,
    /// Asked for and excluded.
    Excluded,
    /// The parent has another version, which stays.
    Kept,
    /// Packages that cannot be together, or cannot be at all.
    Conflict,
}

impl fmt::Display for Unsolvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline)?;
        self.details.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Unsolvable {
    fn of(wanted: &Wanted, kind: UnsolvableKind, headline: String) -> Self {
        Self { kind, headline, details: Vec::new(), labels: vec![wanted.label], hint: None }
    }
}

/// Somebody asked for it and excluded it.
pub(super) fn excluded(wanted: &Wanted) -> Unsolvable {
    let headline = format!("{} is requested and excluded", wanted.name);
    let hint = Some("remove the request or the exclusion".to_owned());
    Unsolvable { hint, ..Unsolvable::of(wanted, UnsolvableKind::Excluded, headline) }
}

/// The parent has it in a version that does not fit.
pub(super) fn kept(universe: &Universe, wanted: &Wanted, kept: PackageId) -> Unsolvable {
    let headline = format!("{} cannot be installed: the parent has {}", show(wanted), universe.display(kept));
    let hint = Some("request that version where the parent is defined".to_owned());
    Unsolvable { hint, ..Unsolvable::of(wanted, UnsolvableKind::Kept, headline) }
}

/// There are versions, and none fits.
pub(super) fn no_version(universe: &Universe, wanted: &Wanted) -> Unsolvable {
    let headline = format!("no version of {} fits {}", wanted.name, show(wanted));
    let details =
        universe.listed_versions(&wanted.name).into_iter().map(|version| format!("there is {version}")).collect();
    let hint = Some("relax the version, or add a repository that has it".to_owned());
    Unsolvable { details, hint, ..Unsolvable::of(wanted, UnsolvableKind::NoVersion, headline) }
}

/// Nothing is called so, and nothing provides it.
pub(super) fn unknown(universe: &Universe, wanted: &Wanted) -> Unsolvable {
    let headline = format!("there is no package {}", show(wanted));
    let near = universe.nearest_name(&wanted.name).map(|name| format!("did you mean {name}?"));
    let hint = near.or_else(|| Some("add the component or repository that has it".to_owned()));
    Unsolvable { hint, ..Unsolvable::of(wanted, UnsolvableKind::UnknownName, headline) }
}

/// No package is called so, and several provide it.
pub(super) fn several_providers(wanted: &Wanted, names: BTreeSet<&str>) -> Unsolvable {
    let headline = format!("{} is not a package; several packages provide it", wanted.name);
    let details = names.into_iter().map(str::to_owned).collect();
    let hint = Some("request one of them".to_owned());
    Unsolvable { details, hint, ..Unsolvable::of(wanted, UnsolvableKind::SeveralProviders, headline) }
}

fn show(wanted: &Wanted) -> impl fmt::Display {
    let constraint = wanted.constraint.as_ref().map(|(operator, version)| (*operator, version.as_str()));
    Relation { name: &wanted.name, qualifier: None, constraint }
}

/// The reason why no answer exists, and who is to blame.
pub(super) fn explain(universe: &Universe, request: &Request) -> Unsolvable {
    let labels = request.wanted.iter().map(|wanted| wanted.label).collect();
    let headline = "the requests cannot be met together".to_owned();
    let _ = universe;
    Unsolvable { kind: UnsolvableKind::Conflict, headline, details: Vec::new(), labels, hint: None }
}
