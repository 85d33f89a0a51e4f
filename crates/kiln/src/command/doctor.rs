//! `kiln doctor`: what this machine allows, and the command that mends what it does not.

use anyhow::anyhow;
use camino::Utf8Path;
use kiln_sandbox::{Finding, State, Survey};

use crate::error::{CommandError, Kind};
use crate::output::{Output, table};

/// Say what this machine allows Kiln to do, and how to mend what it does not.
///
/// Everything is tried, not guessed: namespaces are made, and layers written where the store is. Exit code 3 means that
/// Kiln cannot build here; `slower` and `weaker` are no obstacle.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {}

/// Runs the verb.
///
/// # Errors
/// If something that Kiln needs is missing.
pub(crate) fn run(store: &Utf8Path, output: &Output) -> Result<(), CommandError> {
    let survey = Survey::of(store);
    output.result("doctor", &survey, &describe(&survey));
    if survey.can_work() {
        return Ok(());
    }
    let error = CommandError::new(Kind::Environment, anyhow!("this machine lacks what Kiln needs to build"));
    let missing = survey.findings.into_iter().filter(|finding| finding.state == State::Missing);
    Err(missing.filter_map(|finding| finding.cure).fold(error, CommandError::with_hint))
}

/// A line for each finding, and the cures below those that have one.
fn describe(survey: &Survey) -> String {
    let rows = survey.findings.iter().map(|finding| {
        let Finding { name, state, detail, .. } = finding;
        [word(*state).to_owned(), (*name).to_owned(), detail.clone()].into()
    });
    let lines = table(&rows.collect::<Vec<Vec<String>>>());
    let cures = survey.findings.iter().map(|finding| finding.cure.as_ref());
    let cures = cures.map(|cure| cure.map(|cure| format!("        cure: {cure}\n")).unwrap_or_default());
    lines.lines().zip(cures).map(|(line, cure)| format!("{line}\n{cure}")).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Slower => "slower",
        State::Weaker => "weaker",
        State::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_finding_and_its_cure() {
        let finding = |name, state, detail: &str, cure: Option<&str>| Finding {
            name,
            state,
            detail: detail.to_owned(),
            cure: cure.map(str::to_owned),
        };
        let findings = vec![
            finding("kernel", State::Ok, "Linux 6.12", None),
            finding("ids", State::Missing, "no range", Some("usermod")),
            finding("kvm", State::Slower, "no /dev/kvm", Some("modprobe kvm")),
        ];
        insta::assert_snapshot!(describe(&Survey { findings }), @r"
        ok       kernel  Linux 6.12
        missing  ids     no range
                cure: usermod
        slower   kvm     no /dev/kvm
                cure: modprobe kvm
        ");
    }
}
