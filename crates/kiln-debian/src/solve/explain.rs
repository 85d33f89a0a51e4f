//! Why a request has no answer, in words that a person can act on.

use std::collections::BTreeSet;
use std::fmt;

use super::choices::{Breadth, Choices, Root};
use super::propagate::prove;
use super::story::{self, Story};
use super::{Request, Wanted, Why, complete};
use crate::relation::Relation;
use crate::universe::{PackageId, Universe};

/// More requests than this are not tried one by one; each costs a solve.
const BLAMED_MAX: usize = 50;
/// How many older versions a hint lists.
const VERSIONS_SHOWN_MAX: usize = 5;

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

/// Why the roots cannot be met together, who is to blame, and what would help.
pub(super) fn explain(universe: &Universe, request: &Request, breadth: Breadth) -> Unsolvable {
    let told = [breadth, Breadth::Candidates].into_iter().find_map(|breadth| {
        let choices = Choices::new(universe, request, breadth);
        let roots = choices.roots().ok()?;
        let proof = prove(&choices, &roots)?;
        let involved: Vec<usize> = proof.roots(&choices, &roots).into_iter().collect();
        let labels = involved.iter().filter_map(|&number| label(&roots[number])).collect();
        Some((story::tell(&choices, &roots, &proof), labels))
    });
    let all = || request.wanted.iter().map(|wanted| wanted.label).collect();
    let (story, involved) = told.unwrap_or_else(|| (Story::untold(request), all()));
    let labels = to_blame(universe, request, breadth, involved);
    let hint = older_versions(universe, request, breadth).or_else(|| remove_one(request, &labels, story.missing));
    Unsolvable { kind: UnsolvableKind::Conflict, headline: story.headline, details: story.details, labels, hint }
}

fn label(root: &Root) -> Option<usize> {
    match root.why {
        Why::Wanted { label } => Some(label),
        _ => None,
    }
}

/// Those of `involved` without any one of which there would be an answer; if there is none such, all of them.
fn to_blame(universe: &Universe, request: &Request, breadth: Breadth, involved: BTreeSet<usize>) -> Vec<usize> {
    // A request that leaves out the version that another needs takes part in no step of the proof.
    let constrained = request.wanted.iter().filter(|wanted| wanted.constraint.is_some()).map(|wanted| wanted.label);
    let suspects: BTreeSet<usize> = involved.iter().copied().chain(constrained).collect();
    let would_help = |label: &usize| {
        let label = *label;
        let wanted = request.wanted.iter().filter(|wanted| wanted.label != label).cloned().collect();
        is_solvable(universe, &Request { wanted, ..request.clone() }, breadth)
    };
    let helpful: Vec<usize> = suspects.into_iter().take(BLAMED_MAX).filter(would_help).collect();
    if helpful.is_empty() { involved.into_iter().collect() } else { helpful }
}

fn is_solvable(universe: &Universe, request: &Request, breadth: Breadth) -> bool {
    let choices = Choices::new(universe, request, breadth);
    choices.roots().is_ok_and(|roots| complete::solve(&choices, &roots, &BTreeSet::new()).is_some())
}

/// Where apt would take the newest of everything and fail: the older versions with which it works.
fn older_versions(universe: &Universe, request: &Request, breadth: Breadth) -> Option<String> {
    if breadth == Breadth::AllVersions {
        return None;
    }
    let choices = Choices::new(universe, request, Breadth::AllVersions);
    let mut packages = complete::solve(&choices, &choices.roots().ok()?, &BTreeSet::new())?;
    packages.retain(|&package| universe.candidate(universe.name(package)) != Some(package));
    packages.sort_by_key(|&package| universe.name(package));
    let exact = |&package: &PackageId| {
        let stanza = universe.stanza(package);
        format!("{}={}", stanza.name, stanza.version)
    };
    let list: Vec<String> = packages.iter().take(VERSIONS_SHOWN_MAX).map(exact).collect();
    Some(format!("it works with older versions: request {}", list.join(", ")))
}

fn remove_one(request: &Request, labels: &[usize], missing: Option<String>) -> Option<String> {
    let name = |label: usize| request.wanted.iter().find(|wanted| wanted.label == label).map(|wanted| &wanted.name);
    match (labels, missing) {
        ([], _) => None,
        ([_, ..], Some(missing)) => Some(format!("add the repository that has {missing}, or remove the request")),
        ([one], None) => name(*one).map(|name| format!("remove the request for {name}")),
        ([_, _], None) => Some("remove one of the two requests".to_owned()),
        (labels, None) => Some(format!("remove one of the {} requests", labels.len())),
    }
}
