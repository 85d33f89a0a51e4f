//! What was found, for people and for machines.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::archive::Archive;
use super::compare::{Case, Outcome};
use super::draw::Kind;
use super::versions::Versions;
use crate::oracle::{Dose, Package};

/// Of a thousand sets with an answer, so many may have another one than apt's.
const DIFFERENT_PER_MILLE_MAX: usize = 5;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    sets_per_configuration: usize,
    pub(super) suites: Vec<SuiteUsed>,
    pub(super) configurations: Vec<Configuration>,
    pub(super) versions: Option<Versions>,
}

/// A suite, and the tool that knows it.
#[derive(Debug, Serialize)]
pub(super) struct SuiteUsed {
    pub(super) suite: String,
    pub(super) apt_version: String,
    /// Distinct names.
    pub(super) packages: usize,
    pub(super) indexes: Vec<IndexUsed>,
}

/// The exact index both sides chose from.
#[derive(Debug, Serialize)]
pub(super) struct IndexUsed {
    pub(super) name: String,
    pub(super) date: Timestamp,
    pub(super) sha256: String,
}

/// One suite, with or without Recommends.
#[derive(Debug, Serialize)]
pub(super) struct Configuration {
    suite: String,
    recommends: bool,
    counts: Counts,
    kiln_us: Spread,
    apt_us: Spread,
    /// Sets that both refuse though dose knows an answer.
    refused_wrongly: Vec<String>,
    /// All comparisons that did not end with the same selection.
    remarkable: Vec<Case>,
    #[serde(skip)]
    cases: Vec<Case>,
}

/// How often.
#[derive(Debug, Default, Serialize)]
struct Counts {
    sets: usize,
    identical: usize,
    different: usize,
    both_refuse: usize,
    only_apt_refuses: usize,
    only_kiln_refuses: usize,
    /// Selections of Kiln's that dose does not accept.
    invalid: usize,
    /// Selections that the complete engine had to find.
    complete_engine: usize,
}

/// Of many durations.
#[derive(Debug, Serialize)]
struct Spread {
    median: u64,
    percentile_95: u64,
    longest: u64,
}

impl Report {
    pub(super) fn new(seed: u64, sets_per_configuration: usize) -> Self {
        Self { seed, sets_per_configuration, suites: Vec::new(), configurations: Vec::new(), versions: None }
    }

    /// The goals that were not reached.
    pub(super) fn missed(&self) -> Vec<String> {
        let mut missed: Vec<String> = self.configurations.iter().flat_map(Configuration::missed).collect();
        let wrong = self.versions.as_ref().map_or(0, |versions| versions.differences.len());
        if wrong > 0 {
            missed.push(format!("dpkg orders {wrong} pairs of versions otherwise"));
        }
        missed
    }
}

impl Configuration {
    pub(super) fn new(suite: &str, recommends: bool, cases: Vec<Case>) -> Self {
        let is_remarkable = |case: &&Case| !matches!(case.outcome, Outcome::Identical { .. }) || case.invalid.is_some();
        Self {
            suite: suite.to_owned(),
            recommends,
            counts: count(&cases),
            kiln_us: Spread::of(cases.iter().map(|case| case.kiln_us).collect()),
            apt_us: Spread::of(cases.iter().map(|case| case.apt_us).collect()),
            refused_wrongly: Vec::new(),
            remarkable: cases.iter().filter(is_remarkable).cloned().collect(),
            cases,
        }
    }

    /// Asks dose about the sets that both refuse. What is only provided is left out: both refuse to choose a provider.
    pub(super) fn judge_refusals(&mut self, archive: &Archive, dose: &Dose<'_>) -> anyhow::Result<()> {
        let is_refused =
            |case: &&Case| case.kind != Kind::Provided && matches!(case.outcome, Outcome::BothRefuse { .. });
        let refused = self.cases.iter().filter(is_refused).map(|case| archive.with_essential(&case.names));
        let refused: Vec<Vec<Package>> = refused.collect();
        let solvable = dose.solvable(&archive.candidates(), &refused)?;
        self.refused_wrongly = solvable.into_iter().map(list).collect();
        Ok(())
    }

    fn missed(&self) -> Vec<String> {
        let Counts { identical, different, only_kiln_refuses, invalid, .. } = self.counts;
        // One difference in a few dozen sets says nothing about the rate.
        let allowed = ((identical + different) * DIFFERENT_PER_MILLE_MAX / 1000).max(1);
        let failures = [
            (different > allowed, format!("{different} selections differ")),
            (only_kiln_refuses > 0, format!("{only_kiln_refuses} sets are refused that apt can install")),
            (invalid > 0, format!("{invalid} selections cannot be installed")),
            (!self.refused_wrongly.is_empty(), format!("{} refused sets have an answer", self.refused_wrongly.len())),
        ];
        let missed = failures.into_iter().filter(|(is_missed, _)| *is_missed);
        missed.map(|(_, what)| format!("{}: {what}", self.name())).collect()
    }

    fn name(&self) -> String {
        format!("{} {} Recommends", self.suite, if self.recommends { "with" } else { "without" })
    }
}

fn count(cases: &[Case]) -> Counts {
    let mut counts = Counts { sets: cases.len(), ..Counts::default() };
    for case in cases {
        counts.invalid += usize::from(case.invalid.is_some());
        counts.complete_engine += usize::from(case.complete);
        *match case.outcome {
            Outcome::Identical { .. } => &mut counts.identical,
            Outcome::Different { .. } => &mut counts.different,
            Outcome::BothRefuse { .. } => &mut counts.both_refuse,
            Outcome::AptRefuses { .. } => &mut counts.only_apt_refuses,
            Outcome::KilnRefuses { .. } => &mut counts.only_kiln_refuses,
        } += 1;
    }
    counts
}

impl Spread {
    fn of(mut durations: Vec<u64>) -> Self {
        durations.sort_unstable();
        let at = |per_cent: usize| durations.get(durations.len() * per_cent / 100).copied().unwrap_or_default();
        Self { median: at(50), percentile_95: at(95), longest: durations.last().copied().unwrap_or_default() }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
        let (median, percentile_95, longest) =
            (milliseconds(self.median), milliseconds(self.percentile_95), milliseconds(self.longest));
        write!(f, "{median:.1} ms (95 % under {percentile_95:.1}, longest {longest:.1})")
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.remarkable {
            describe(case, f)?;
        }
        for packages in &self.refused_wrongly {
            writeln!(f, "  refused by both, though dose knows an answer: {packages}")?;
        }
        let Counts {
            sets,
            identical,
            different,
            both_refuse,
            only_apt_refuses,
            only_kiln_refuses,
            invalid,
            complete_engine,
        } = &self.counts;
        let answered = identical + different;
        writeln!(
            f,
            "{}: {identical} of {answered} selections are identical; of {sets} sets both refuse {both_refuse}, only apt {only_apt_refuses}, only Kiln {only_kiln_refuses}",
            self.name()
        )?;
        writeln!(f, "  invalid, says dose: {invalid}; found by the complete engine: {complete_engine}")?;
        write!(f, "  a selection takes Kiln {}, apt {}", self.kiln_us, self.apt_us)
    }
}

fn describe(case: &Case, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let names = case.names.join(" ");
    match &case.outcome {
        Outcome::Identical { .. } => {}
        Outcome::Different { only_kiln, only_apt } => {
            writeln!(f, "  different: {names}\n    only Kiln: {}\n    only apt: {}", list(only_kiln), list(only_apt))?;
        }
        // There are many, and they agree; the report has them.
        Outcome::BothRefuse { .. } => {}
        Outcome::AptRefuses { apt } => writeln!(f, "  only apt refuses: {names}\n    {}", indented(apt))?,
        Outcome::KilnRefuses { kiln } => writeln!(f, "  only Kiln refuses: {names}\n    {}", indented(kiln))?,
    }
    match &case.invalid {
        Some(reason) => writeln!(f, "  invalid: {names}\n    {}", indented(reason)),
        None => Ok(()),
    }
}

fn list(packages: &[Package]) -> String {
    let one = |Package { name, version }: &Package| format!("{name}={version}");
    packages.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn indented(text: &str) -> String {
    text.trim().replace('\n', "\n    ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |count: fn(&Counts) -> usize| -> usize {
            self.configurations.iter().map(|configuration| count(&configuration.counts)).sum()
        };
        let tools = self.suites.iter().map(|suite| format!("{} (apt {})", suite.suite, suite.apt_version));
        let (identical, different) = (total(|counts| counts.identical), total(|counts| counts.different));
        write!(
            f,
            "seed {}, {}: {identical} of {} selections are identical, {} invalid",
            self.seed,
            tools.collect::<Vec<_>>().join(", "),
            identical + different,
            total(|counts| counts.invalid)
        )?;
        let Some(versions) = &self.versions else { return Ok(()) };
        let Versions { distinct, neighbours, random_pairs, differences } = versions;
        write!(
            f,
            "\n{distinct} distinct versions: dpkg agrees on {} of {neighbours} neighbours and {random_pairs} random pairs",
            neighbours + random_pairs - differences.len()
        )?;
        differences.iter().try_for_each(|difference| write!(f, "\n  dpkg does not hold that {difference}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(outcomes: Vec<(Outcome, bool)>) -> Configuration {
        let case = |(number, (outcome, is_invalid)): (usize, (Outcome, bool))| Case {
            number,
            kind: Kind::Random,
            names: vec!["a".to_owned()],
            outcome,
            complete: false,
            invalid: is_invalid.then(|| "because".to_owned()),
            kiln_us: 1,
            apt_us: 1,
        };
        Configuration::new("trixie", false, outcomes.into_iter().enumerate().map(case).collect())
    }

    fn check_missed(outcomes: Vec<(Outcome, bool)>, expected: &[&str]) {
        assert_eq!(configuration(outcomes).missed(), expected);
    }

    fn identical(count: usize) -> Vec<(Outcome, bool)> {
        vec![(Outcome::Identical { packages: 1 }, false); count]
    }

    fn different(count: usize) -> Vec<(Outcome, bool)> {
        vec![(Outcome::Different { only_kiln: Vec::new(), only_apt: Vec::new() }, false); count]
    }

    #[test]
    fn goals() {
        check_missed(identical(10), &[]);
        check_missed([identical(30), different(1)].concat(), &[]);
        check_missed([identical(30), different(2)].concat(), &["trixie without Recommends: 2 selections differ"]);
        check_missed([identical(995), different(5)].concat(), &[]);
        check_missed([identical(994), different(6)].concat(), &["trixie without Recommends: 6 selections differ"]);
        check_missed(
            vec![(Outcome::Identical { packages: 1 }, true)],
            &["trixie without Recommends: 1 selections cannot be installed"],
        );
        check_missed(
            vec![(Outcome::KilnRefuses { kiln: String::new() }, false)],
            &["trixie without Recommends: 1 sets are refused that apt can install"],
        );
    }

    #[test]
    fn spread_of_durations() {
        let Spread { median, percentile_95, longest } = Spread::of((1..=100).rev().collect());
        assert_eq!((median, percentile_95, longest), (51, 96, 100));
    }
}
