//! Brings back the locked packages that a new choice would give up for an alternative.
//!
//! 1. The request is solved in Debian's order. Where that loses no locked package that still answers, it is done.
//! 2. Else all that was lost comes first among the alternatives, and the request is solved again.
//! 3. Of all the choices made so, that one is taken which loses the fewest packages; among equals, the first.
//!
//! Locked packages do not come first from the start: what the greedy way brings in and then evicts leaves traces, as it
//! does for apt, which would be gone when a lock is solved again. What nobody needs any more is lost for good.

use std::collections::BTreeSet;

use super::choices::{Breadth, Choices};
use super::{ROUNDS_MAX, Request, Selection, Unsolvable};
use crate::universe::{PackageId, Universe};

/// Chooses what satisfies a request, with as much as possible of its lock.
pub(super) fn choose(universe: &Universe, request: &Request) -> Result<Selection, Unsolvable> {
    let mut foremost = BTreeSet::new();
    let mut best = super::choose(universe, request, &foremost)?;
    let mut lost = lost(universe, request, &best);
    let mut fewest = lost.packages.len();
    for _ in 0..ROUNDS_MAX {
        if !lost.answers || lost.packages.is_subset(&foremost) {
            break;
        }
        foremost.append(&mut lost.packages);
        let Ok(next) = super::choose(universe, request, &foremost) else { break };
        lost = self::lost(universe, request, &next);
        if lost.packages.len() < fewest {
            fewest = lost.packages.len();
            best = next;
        }
    }
    Ok(best)
}

/// What a selection lacks of the lock.
struct Lost {
    packages: BTreeSet<PackageId>,
    /// Whether one of them is an alternative of something that is there.
    answers: bool,
}

fn lost(universe: &Universe, request: &Request, selection: &Selection) -> Lost {
    let choices = Choices::new(universe, request, Breadth::Candidates);
    let present: BTreeSet<PackageId> = selection.packages.iter().copied().collect();
    let locked = choices.locked_packages().unwrap_or_default();
    let packages: BTreeSet<PackageId> = locked.into_iter().filter(|package| !present.contains(package)).collect();
    let answers = !packages.is_empty() && present.iter().any(|&package| has_target_among(&choices, package, &packages));
    Lost { packages, answers }
}

fn has_target_among(choices: &Choices<'_>, package: PackageId, lost: &BTreeSet<PackageId>) -> bool {
    let package = choices.package(package);
    let mut dependencies = package.dependencies.iter().chain(&package.recommended);
    dependencies.any(|dependency| dependency.targets.iter().any(|target| lost.contains(target)))
}
