//! One set of packages, given to both; what comes of it.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{bail, ensure};
use kiln_debian::solve::{Engine, Request, Wanted, solve};
use serde::Serialize;

use super::archive::Archive;
use super::draw::{Kind, Set};
use crate::oracle::{Answer, Apt, Dose, Package};
use crate::parallel;

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Case {
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) names: Vec<String>,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
    /// Found by the complete engine, because the greedy one was stuck.
    pub(super) complete: bool,
    /// Why dose says that Kiln's selection cannot be installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invalid: Option<String>,
    pub(super) kiln_us: u64,
    pub(super) apt_us: u64,
}

/// What the two say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// The same packages in the same versions.
    Identical {
        /// How many.
        packages: usize,
    },
    /// Other packages or versions.
    Different { only_kiln: Vec<Package>, only_apt: Vec<Package> },
    /// Neither finds an answer.
    BothRefuse { kiln: String },
    /// Kiln has an answer, apt has none.
    AptRefuses { apt: String },
    /// apt has an answer, Kiln has none.
    KilnRefuses { kiln: String },
}

/// Who is asked, and who judges.
pub(super) struct Sides<'a> {
    pub(super) archive: &'a Archive,
    pub(super) apt: &'a Apt,
    pub(super) dose: &'a Dose<'a>,
}

impl Sides<'_> {
    /// A judge that never says no would prove nothing: it must refuse the essential set without the C library.
    pub(super) fn check_judge(&self) -> anyhow::Result<()> {
        let Answer::Selected(mut packages) = self.apt.select(&[], false)? else {
            bail!("apt refuses the essential set")
        };
        ensure!(self.dose.judge(&packages, 0)?.is_none(), "dose refuses apt's essential set");
        packages.retain(|package| package.name != "libc6");
        ensure!(self.dose.judge(&packages, 0)?.is_some(), "dose accepts a set that lacks libc6");
        Ok(())
    }

    /// Compares all sets; an error is a tool that failed, never a difference.
    pub(super) fn compare(&self, sets: &[Set], recommends: bool) -> anyhow::Result<Vec<Case>> {
        let numbered: Vec<(usize, &Set)> = sets.iter().enumerate().collect();
        let cases = parallel::map(&numbered, |&(number, set)| self.compare_one(number, set, recommends));
        cases.into_iter().collect()
    }

    fn compare_one(&self, number: usize, set: &Set, recommends: bool) -> anyhow::Result<Case> {
        let started = Instant::now();
        let (answer, complete) = ask_kiln(self.archive, set, recommends);
        let kiln_us = microseconds(started);
        let started = Instant::now();
        let apt_answer = self.apt.select(&set.names, recommends)?;
        let apt_us = microseconds(started);
        let invalid = match &answer {
            Answer::Selected(packages) => self.dose.judge(packages, number)?,
            Answer::Refused(_) => None,
        };
        let outcome = outcome(answer, apt_answer);
        Ok(Case { number, kind: set.kind, names: set.names.clone(), outcome, complete, invalid, kiln_us, apt_us })
    }
}

/// Kiln's answer, and whether its complete engine gave it.
fn ask_kiln(archive: &Archive, set: &Set, recommends: bool) -> (Answer, bool) {
    let wanted = set.names.iter().enumerate();
    let wanted = wanted.map(|(label, name)| Wanted { name: name.clone(), constraint: None, label });
    let request = Request { essential: true, wanted: wanted.collect(), recommends, ..Request::default() };
    match solve(&archive.universe, &request) {
        Ok(selection) => {
            let packages = selection.packages.iter().map(|&package| archive.package(package));
            (Answer::Selected(packages.collect()), selection.engine == Engine::Complete)
        }
        Err(unsolvable) => (Answer::Refused(unsolvable.to_string()), false),
    }
}

fn outcome(kiln: Answer, apt: Answer) -> Outcome {
    let only = |left: &BTreeSet<Package>, right: &BTreeSet<Package>| left.difference(right).cloned().collect();
    match (kiln, apt) {
        (Answer::Selected(kiln), Answer::Selected(apt)) if kiln == apt => Outcome::Identical { packages: kiln.len() },
        (Answer::Selected(kiln), Answer::Selected(apt)) => {
            Outcome::Different { only_kiln: only(&kiln, &apt), only_apt: only(&apt, &kiln) }
        }
        (Answer::Refused(kiln), Answer::Refused(_)) => Outcome::BothRefuse { kiln },
        (Answer::Selected(_), Answer::Refused(apt)) => Outcome::AptRefuses { apt },
        (Answer::Refused(kiln), Answer::Selected(_)) => Outcome::KilnRefuses { kiln },
    }
}

fn microseconds(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(packages: &[(&str, &str)]) -> Answer {
        let package = |&(name, version): &(&str, &str)| Package { name: name.to_owned(), version: version.to_owned() };
        Answer::Selected(packages.iter().map(package).collect())
    }

    #[test]
    fn a_version_makes_a_difference() {
        let (one, two) = (selected(&[("a", "1"), ("b", "1")]), selected(&[("a", "1"), ("b", "2")]));
        assert_eq!(outcome(one.clone(), one.clone()), Outcome::Identical { packages: 2 });
        let Outcome::Different { only_kiln, only_apt } = outcome(one.clone(), two) else { panic!("no difference") };
        assert_eq!((only_kiln[0].version.as_str(), only_apt[0].version.as_str()), ("1", "2"));
        let refused = Answer::Refused("no".to_owned());
        assert!(matches!(outcome(one.clone(), refused.clone()), Outcome::AptRefuses { .. }));
        assert!(matches!(outcome(refused, one), Outcome::KilnRefuses { .. }));
    }
}
