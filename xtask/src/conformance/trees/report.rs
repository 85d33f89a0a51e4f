//! What was found in trees, for people and for machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::compare::{Difference, compare};
use super::manifest::Manifest;
use super::rules::{RULES, Rule};

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    mmdebstrap: String,
    pub(super) cases: Vec<Case>,
    /// What is wrong besides.
    pub(super) complaints: Vec<String>,
    /// Rules that allowed nothing.
    unused: Vec<String>,
}

/// One set in one suite.
#[derive(Debug, Default, Serialize)]
pub(super) struct Case {
    class: String,
    files: usize,
    /// How many differences each rule allowed, by the rule's number.
    allowed: BTreeMap<usize, usize>,
    /// What no rule allows.
    wrong: Vec<Difference>,
    /// In which two runs of mmdebstrap differ, and no rule says so.
    unstable: Vec<Difference>,
    /// What the tree's own programs say and should not.
    complaints: Vec<String>,
    took_ms: u128,
}

impl Report {
    pub(super) fn new(mmdebstrap: &str) -> Self {
        Self { mmdebstrap: mmdebstrap.to_owned(), cases: Vec::new(), complaints: Vec::new(), unused: Vec::new() }
    }

    /// To be called when all sets were compared.
    pub(super) fn find_unused_rules(&mut self) {
        let used: BTreeSet<usize> = self.cases.iter().flat_map(|case| case.allowed.keys().copied()).collect();
        let unused = RULES.iter().enumerate().filter(|(number, _)| !used.contains(number));
        self.unused = unused.map(|(_, rule)| rule.paths.join(", ")).collect();
    }

    pub(super) fn failures(&self) -> usize {
        let of_case = |case: &Case| case.wrong.len() + case.unstable.len() + case.complaints.len();
        self.cases.iter().map(of_case).sum::<usize>() + self.complaints.len() + self.unused.len()
    }
}

impl Case {
    /// Compares Kiln's tree with the peer's; both have been asked already.
    pub(super) fn new(class: &str, kiln: &Manifest, peer: &Manifest, complaints: Vec<String>, took_ms: u128) -> Self {
        let mut case =
            Self { class: class.to_owned(), files: kiln.entries.len(), complaints, took_ms, ..Self::default() };
        case.wrong = case.not_allowed(compare(kiln, peer));
        case
    }

    /// There is no tree to compare.
    pub(super) fn failed(class: &str, reason: String) -> Self {
        Self { class: class.to_owned(), complaints: vec![reason], ..Self::default() }
    }

    /// Two runs of mmdebstrap may differ only in what rules allow.
    pub(super) fn judge_peer(&mut self, first: &Manifest, second: &Manifest) {
        self.unstable = self.not_allowed(compare(first, second));
    }

    fn not_allowed(&mut self, differences: Vec<Difference>) -> Vec<Difference> {
        let is_wrong = |difference: &Difference| match RULES.iter().position(|rule| rule.allows(difference)) {
            Some(number) => {
                *self.allowed.entry(number).or_default() += 1;
                false
            }
            None => true,
        };
        differences.into_iter().filter(is_wrong).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, files, allowed, wrong, unstable, complaints, took_ms } = self;
        write!(
            f,
            "  {class}: {files} files, {} differences, {} of them not allowed; Kiln took {:.1} s",
            allowed.values().sum::<usize>() + wrong.len(),
            wrong.len(),
            *took_ms as f64 / 1000.0
        )?;
        wrong.iter().try_for_each(|difference| write!(f, "\n    {difference}"))?;
        for difference in unstable {
            write!(f, "\n    two runs of mmdebstrap differ, and no rule says so: {difference}")?;
        }
        complaints.iter().try_for_each(|complaint| write!(f, "\n    {}", complaint.trim_end()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: usize = self.cases.iter().map(|case| case.files).sum();
        let wrong: usize = self.cases.iter().map(|case| case.wrong.len()).sum();
        let count = self.cases.len();
        write!(f, "{count} trees, {files} files, {wrong} differences from mmdebstrap {} not allowed", self.mmdebstrap)?;
        self.complaints.iter().try_for_each(|complaint| write!(f, "\n{complaint}"))?;
        self.unused.iter().try_for_each(|rule| write!(f, "\nno difference needs the rule for {rule}"))
    }
}

/// The table of all rules, for docs/conformance.md.
pub(crate) fn rules_page() -> String {
    let mut page = "| where | what may differ | why |\n|---|---|---|\n".to_owned();
    for rule @ Rule { paths, reason, .. } in RULES {
        let paths: Vec<String> = paths.iter().map(|path| format!("`/{path}`")).collect();
        let _ = writeln!(page, "| {} | {} | {reason} |", paths.join(", "), rule.what());
    }
    page
}
