//! Selections and version order, compared with apt's and dpkg's; judged by dose.
//!
//! 1. Each suite's indexes are locked and fetched, its own apt unpacked beside a root where nothing is installed.
//! 2. Sets of packages are drawn from the archive with a seed ([`draw`]), and given to both ([`compare`]).
//! 3. Every selection of Kiln's is judged by dose, and so is every refusal.
//! 4. Every neighbour in the order of all versions of the archives is shown to dpkg ([`versions`]).
//!
//! The report goes to `target/conformance/report.json`; a missed goal is an error. What each kind of difference means is
//! in docs/conformance.md.

mod archive;
mod compare;
mod draw;
mod images;
mod report;
mod trees;
mod versions;

pub(crate) use trees::rules_page;

use std::collections::BTreeSet;

use anyhow::bail;
use camino::Utf8PathBuf;
use fs_err as fs;

use crate::oracle::{Dose, Network, Workshop};
use crate::{root, say};
use archive::Archive;
use compare::Sides;
use report::{Configuration, Report};

/// Arguments of `cargo xtask conformance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Conformance {
    /// Only this suite of Debian; may be given again.
    #[arg(long = "suite", value_name = "SUITE", default_values = ["bookworm", "trixie"])]
    suites: Vec<String>,
    /// How many sets of packages for each suite, without Recommends and again with them.
    #[arg(long, default_value_t = 250)]
    sets: usize,
    /// Which sets: the same seed and the same archive give the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A part that takes a minute: few sets, a sample of the versions.
    #[arg(long)]
    quick: bool,
    /// Compare only this.
    #[arg(long)]
    only: Option<Part>,
    #[command(flatten)]
    trees: trees::Options,
    #[command(flatten)]
    network: Network,
}

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Which packages are chosen, and the order of versions.
    Selections,
    /// What becomes of the packages.
    Trees,
    /// What others make of an exported image.
    Images,
}

/// How much is compared with `--quick`.
const QUICK_SETS: usize = 16;
const QUICK_VERSIONS: usize = 1500;

/// The suite that dose comes from.
const JUDGE_SUITE: &str = "trixie";

/// Compares, writes the reports, and fails if a goal was missed.
pub(crate) fn run(arguments: &Conformance) -> anyhow::Result<()> {
    let Conformance { suites, quick, network, only, trees, .. } = arguments;
    let workshop = Workshop::open(&root().join("target/conformance"), network)?;
    let selections = match only {
        Some(Part::Trees | Part::Images) => Ok(()),
        _ => compare_selections(&workshop, arguments),
    };
    let trees = match only {
        Some(Part::Selections | Part::Images) => Ok(()),
        _ => trees::run(&workshop, suites, *quick, trees),
    };
    // The trees of CI are enough for CI.
    let images = match only {
        Some(Part::Selections | Part::Trees) => Ok(()),
        None if *quick => Ok(()),
        _ => images::run(&workshop, &arguments.trees),
    };
    let trees = match (trees, images) {
        (Err(trees), Err(images)) => Err(trees.context(format!("{images:#}"))),
        (trees, images) => trees.and(images),
    };
    match (selections, trees) {
        (Err(selections), Err(trees)) => bail!("{selections:#}; {trees:#}"),
        (selections, trees) => selections.and(trees),
    }
}

fn compare_selections(workshop: &Workshop, arguments: &Conformance) -> anyhow::Result<()> {
    let Conformance { suites, seed, quick, .. } = arguments;
    let sets = if *quick { arguments.sets.min(QUICK_SETS) } else { arguments.sets };
    let lock = workshop.provide(&spec(suites))?;
    let judge = workshop.unpack(&lock, "judge")?;
    let mut report = Report::new(*seed, sets);
    let mut all_versions = BTreeSet::new();
    for suite in suites {
        let archive = Archive::load(workshop, &lock, suite)?;
        let apt = archive.apt(workshop, workshop.unpack(&lock, suite)?)?;
        report.suites.push(archive.describe(&apt));
        let dose = Dose::new(judge.clone(), archive.universe.architecture(), &archive.texts, workshop.directory());
        let sides = Sides { archive: &archive, apt: &apt, dose: &dose };
        sides.check_judge()?;
        for recommends in [false, true] {
            report.configurations.push(compare_configuration(&sides, arguments, sets, recommends)?);
        }
        all_versions.extend(archive.versions());
    }
    say("comparing the order of versions with dpkg's");
    let sample = if *quick { QUICK_VERSIONS } else { usize::MAX };
    report.versions = Some(versions::compare(&all_versions, sample, *seed)?);
    finish(&report, &workshop.directory().join("report.json"))
}

/// A suite, without Recommends or with them.
fn compare_configuration(
    sides: &Sides<'_>,
    arguments: &Conformance,
    count: usize,
    recommends: bool,
) -> anyhow::Result<Configuration> {
    let Sides { archive, apt, dose } = sides;
    say(&format!("comparing {count} sets of {} with apt {}", archive.suite, apt.version));
    let sets = draw::sets(archive, count, &format!("{} {} {recommends}", arguments.seed, archive.suite));
    let mut configuration = Configuration::new(&archive.suite, recommends, sides.compare(&sets, recommends)?);
    if !arguments.quick {
        configuration.judge_refusals(archive, dose)?;
    }
    say(&configuration.to_string());
    Ok(configuration)
}

fn finish(report: &Report, path: &Utf8PathBuf) -> anyhow::Result<()> {
    fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
    say(&format!("{report}\nthe whole report is in {path}"));
    let missed = report.missed();
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// The suites with their own apt, and dose.
fn spec(suites: &[String]) -> String {
    let mut names: BTreeSet<&str> = suites.iter().map(String::as_str).collect();
    names.insert(JUDGE_SUITE);
    let mut spec = "[factory]\nname = \"conformance\"\n".to_owned();
    for name in names {
        spec.push_str(&format!("[distribution.{name}]\nfamily = \"debian\"\nsuite = \"{name}\"\n"));
        spec.push_str(&format!("[class.{name}]\ndistribution = \"{name}\"\npackages = [\"apt\"]\n"));
    }
    spec + &format!("[class.judge]\nfrom = \"{JUDGE_SUITE}\"\npackages = [\"dose-distcheck\"]\n")
}
