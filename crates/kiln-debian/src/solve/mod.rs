//! Chooses the packages of an image.
//!
//! 1. [`choices`]: what may be chosen at all for this request: one version a name, or all where versions are pinned.
//! 2. [`greedy`]: apt's classic way, depth first, the first alternative that works. Its answer is what every user of
//!    Debian would get, so it is taken whenever there is one.
//! 3. [`complete`]: a SAT solver, where the greedy way is stuck; it finds an answer if there is one.
//! 4. [`reach`]: what is not needed by any request is dropped, and every package learns why it is there.
//! 5. [`verify`]: whatever was chosen is checked, by rules written a second time.
//! 6. [`explain`]: where there is no answer, [`propagate`] finds a short proof of that, and [`story`] tells it.
//!
//! The answer depends on the universe and the request alone: there is no randomness and no order but the names'.
//! `Replaces` has no part in it: it only says which files may be overwritten. Recommended packages are taken where
//! that is possible, and never a reason to fail.

mod choices;
mod complete;
mod explain;
mod greedy;
mod propagate;
mod reach;
mod selected;
mod story;
mod verify;

use std::collections::{BTreeMap, BTreeSet};

pub use explain::{Unsolvable, UnsolvableKind};
pub use verify::{Violation, verify};

use crate::index::RelationField;
use crate::relation::Operator;
use crate::universe::{PackageId, Universe};
use choices::{Breadth, Choices, Root};

/// What an image must contain.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The essential packages too, as every root file system needs; apt is one of them.
    pub essential: bool,
    /// What somebody asked for, in the order written.
    pub wanted: Vec<Wanted>,
    /// The parent's packages, exactly: they stay as they are.
    pub base: Vec<PackageId>,
    /// Names that are never chosen, not even where they are essential.
    pub exclude: Vec<String>,
    /// Recommended packages too, wherever possible.
    pub recommends: bool,
    /// Versions to keep where possible, by name: those of the last lock.
    pub locked: BTreeMap<String, String>,
}

/// One thing that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Name of a package; of something provided, if just one package does.
    pub name: String,
    /// Which versions will do; all, where there is none.
    pub constraint: Option<(Operator, String)>,
    /// The caller's number for the line that asks; given back in [`Why::Wanted`] and [`Unsolvable::labels`].
    pub label: usize,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Everything that will be there, the base included, sorted by name.
    pub packages: Vec<PackageId>,
    /// Who found it.
    pub engine: Engine,
    /// Why each package is there: the shortest way from a request.
    pub why: BTreeMap<PackageId, Why>,
}

/// The algorithm that found a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// apt's classic way.
    Greedy,
    /// The SAT solver.
    Complete,
}

/// What brought a package in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The parent has it.
    Base,
    /// It is essential.
    Essential,
    /// Somebody asked for it.
    Wanted {
        /// [`Wanted::label`].
        label: usize,
    },
    /// Another package needs it.
    Dependency {
        /// That package.
        dependent: PackageId,
        /// The field that says so.
        field: RelationField,
        /// The or-group, as Debian writes it.
        relation: String,
    },
}

impl Engine {
    /// Its name in the lock, with a version that is raised when it may choose otherwise.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "apt-classic/1",
            Self::Complete => "resolvo/1",
        }
    }
}

/// Chooses the packages that satisfy a request.
///
/// # Errors
/// When there is no such choice: why not, and which requests are to blame.
pub fn solve(universe: &Universe, request: &Request) -> Result<Selection, Unsolvable> {
    let breadth = if versions_matter(universe, request) { Breadth::AllVersions } else { Breadth::Candidates };
    let candidates = Choices::new(universe, request, Breadth::Candidates);
    let roots = candidates.roots()?;
    let attempt = greedy::solve(&candidates, &roots);
    if let Ok(packages) = &attempt
        && let Some(selection) = settle(&candidates, &roots, packages, Engine::Greedy)
    {
        return Ok(selection);
    }
    if let Some(selection) = keep_locked(&candidates, &roots) {
        return Ok(selection);
    }
    let picked = attempt.unwrap_or_else(|picked| picked);
    let choices = Choices::new(universe, request, breadth);
    let roots = choices.roots()?;
    let found = complete::solve(&choices, &roots, &preferences(&candidates, picked))
        .and_then(|packages| settle(&choices, &roots, &packages, Engine::Complete));
    found
        .map(|selection| steady(universe, request, selection))
        .ok_or_else(|| explain::explain(universe, request, breadth))
}

/// Whether a request may need another version than the candidate: apt would give up where we need not.
fn versions_matter(universe: &Universe, request: &Request) -> bool {
    let constrained = request.wanted.iter().any(|wanted| wanted.constraint.is_some());
    constrained || !request.locked.is_empty() || !request.base.is_empty() || universe.has_local()
}

/// Adds what is recommended, drops what is not needed, says why the rest is there; nothing if it does not verify.
fn settle(choices: &Choices<'_>, roots: &[Root], packages: &[PackageId], engine: Engine) -> Option<Selection> {
    let packages = match engine {
        Engine::Complete if choices.request().recommends => greedy::add_recommended(choices, packages),
        _ => packages.to_vec(),
    };
    let why = reach::reach(choices, roots, &packages);
    let mut packages: Vec<PackageId> = why.keys().copied().collect();
    packages.sort_by_key(|&package| choices.universe().name(package));
    let sound = verify(choices.universe(), &packages, choices.request()).is_empty();
    sound.then_some(Selection { packages, engine, why })
}

/// The locked packages themselves, where they still are an answer: a lock that the complete engine found stays as it
/// is while nothing that it depends on changes.
fn keep_locked(choices: &Choices<'_>, roots: &[Root]) -> Option<Selection> {
    let locked = choices.locked_packages();
    if locked.is_empty() {
        return None;
    }
    settle(choices, roots, &locked, Engine::Complete)
}

/// What the complete engine tries first among alternatives: what the greedy one picked, or else what is locked.
fn preferences(choices: &Choices<'_>, picked: Vec<PackageId>) -> BTreeSet<PackageId> {
    let locked = choices.locked_packages();
    if locked.is_empty() { picked.into_iter().collect() } else { locked.into_iter().collect() }
}

/// Solves once more with the answer as lock, so that the next solve, which starts from that lock, ends there too.
fn steady(universe: &Universe, request: &Request, selection: Selection) -> Selection {
    let locked = selection.packages.iter().map(|&package| {
        let stanza = universe.stanza(package);
        (stanza.name.to_owned(), stanza.version.to_owned())
    });
    let again = Request { locked: locked.collect(), ..request.clone() };
    let choices = Choices::new(universe, &again, Breadth::Candidates);
    let Ok(roots) = choices.roots() else { return selection };
    let settled =
        greedy::solve(&choices, &roots).ok().and_then(|packages| settle(&choices, &roots, &packages, Engine::Greedy));
    settled.map_or(selection, |settled| Selection { engine: Engine::Complete, ..settled })
}
