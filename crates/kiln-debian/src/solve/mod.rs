//! Chooses the packages of an image.
//!
//! 0. A lock that still is an answer is kept. Else `regain` brings back what would be lost of it for an alternative.
//! 1. `choices`: what may be chosen at all for this request: one version a name, or all where versions are pinned.
//! 2. `greedy`: apt's classic way, depth first, the first alternative that works. Its answer is what every user of
//!    Debian would get, so it is taken whenever there is one.
//! 3. `complete`: a SAT solver, where the greedy way is stuck; it finds an answer if there is one.
//! 4. `reach`: what is not needed by any request is dropped, and every package learns why it is there.
//! 5. [`verify`]: whatever was chosen is checked, by rules written a second time.
//! 6. `explain`: where there is no answer, `propagate` finds a short proof of that, and `story` tells it.
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
mod regain;
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
use reach::Leftovers;

/// How often an answer is solved again with itself as the lock until it stays; in practice once or never.
const ROUNDS_MAX: usize = 5;

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
    /// Neither: the lock is still an answer.
    Kept,
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

/// Chooses the packages that satisfy a request.
///
/// A lock that still is an answer is the answer, whatever the indexes offer since. Where it is none, each of its
/// packages stays that still answers, though Debian's order has another alternative first. What is chosen anew is such
/// that, once locked, it stays.
///
/// # Errors
/// When there is no such choice: why not, and which requests are to blame.
pub fn solve(universe: &Universe, request: &Request) -> Result<Selection, Unsolvable> {
    if let Some(kept) = keep_locked(universe, request) {
        return Ok(kept);
    }
    let selection = regain::choose(universe, request)?;
    // Without recommended packages it does, being verified and without superfluous packages.
    Ok(if request.recommends { steady(universe, request, selection) } else { selection })
}

/// Chooses again, with the answer as the lock, until it stays.
fn steady(universe: &Universe, request: &Request, mut selection: Selection) -> Selection {
    for _ in 0..ROUNDS_MAX {
        let again = Request { locked: as_lock(universe, &selection), ..request.clone() };
        if keep_locked(universe, &again).is_some() {
            break;
        }
        // Without a lock of the user's, what apt does is all that counts.
        let next = if request.locked.is_empty() {
            choose(universe, &again, &BTreeSet::new())
        } else {
            regain::choose(universe, &again)
        };
        match next {
            Ok(next) if next.packages != selection.packages => selection = next,
            _ => break,
        }
    }
    selection
}

/// The locked packages, if just they are an answer.
fn keep_locked(universe: &Universe, request: &Request) -> Option<Selection> {
    let choices = Choices::new(universe, request, Breadth::Candidates);
    let mut locked = choices.locked_packages()?;
    let kept = settle(&choices, &choices.roots().ok()?, &locked, Engine::Kept)?;
    locked.sort_by_key(|&package| universe.name(package));
    (kept.packages == locked).then_some(kept)
}

fn as_lock(universe: &Universe, selection: &Selection) -> BTreeMap<String, String> {
    let exact = |&package: &PackageId| {
        let stanza = universe.stanza(package);
        (stanza.name.to_owned(), stanza.version.to_owned())
    };
    selection.packages.iter().map(exact).collect()
}

/// Chooses anew, with `foremost` before all other alternatives.
fn choose(universe: &Universe, request: &Request, foremost: &BTreeSet<PackageId>) -> Result<Selection, Unsolvable> {
    let choices = Choices::new(universe, request, Breadth::Candidates).with_foremost(foremost);
    let roots = choices.roots()?;
    let picked = match greedy::solve(&choices, &roots) {
        Ok(packages) => match settle(&choices, &roots, &packages, Engine::Greedy) {
            Some(selection) => return Ok(selection),
            None => packages,
        },
        Err(picked) => picked,
    };
    let breadth = if versions_matter(universe, request) { Breadth::AllVersions } else { Breadth::Candidates };
    let choices = Choices::new(universe, request, breadth).with_foremost(foremost);
    let roots = choices.roots()?;
    let preferred = choices.locked_packages().unwrap_or(picked).into_iter().collect();
    let found = complete::solve(&choices, &roots, &preferred)
        .and_then(|packages| settle(&choices, &roots, &packages, Engine::Complete));
    found.ok_or_else(|| explain::explain(universe, request, breadth))
}

/// Whether a request may need another version than the candidate: apt would give up where we need not.
fn versions_matter(universe: &Universe, request: &Request) -> bool {
    let constrained = request.wanted.iter().any(|wanted| wanted.constraint.is_some());
    constrained || !request.locked.is_empty() || !request.base.is_empty() || universe.has_local()
}

/// Adds what is recommended, drops what is not needed, says why the rest is there; nothing if it does not verify.
fn settle(choices: &Choices<'_>, roots: &[Root], packages: &[PackageId], engine: Engine) -> Option<Selection> {
    let packages = match engine {
        Engine::Complete | Engine::Kept if choices.request().recommends => greedy::add_recommended(choices, packages),
        _ => packages.to_vec(),
    };
    // Only what the greedy engine brought in just now may stay for a suggestion: what a lock has, and nobody needs any
    // more, goes.
    let leftovers = if engine == Engine::Greedy { Leftovers::Suggested } else { Leftovers::None };
    let why = reach::reach(choices, roots, &packages, leftovers);
    let mut packages: Vec<PackageId> = why.keys().copied().collect();
    packages.sort_by_key(|&package| choices.universe().name(package));
    let sound = verify(choices.universe(), &packages, choices.request()).is_empty();
    sound.then_some(Selection { packages, engine, why })
}
