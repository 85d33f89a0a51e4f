//! Kiln against the tools it replaces: the same work, on the same machine, in the same run, as ratios.
//!
//! 1. trixie's own apt is made ready beside a root where nothing is installed ([`crate::oracle`]).
//! 2. `kiln` and apt do the same work in turns, each as often; the median counts ([`measure`]).
//! 3. What has no peer is a plain figure: memory, the loading of an index, a solve ([`figures`]).
//! 4. The same for trees, against mmdebstrap, in memory and on the disk ([`mod@tree`]).
//!
//! Nothing here fails because something is slow: the table says which goals are missed. What is measured, how, and the
//! last figures are in docs/benchmarks.md.

mod figures;
mod machine;
mod measure;
mod shop;
mod tree;

use std::fmt;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Serialize;

use crate::oracle::Network;
use crate::{root, say};
use figures::Figure;
use machine::Machine;
use measure::{Comparison, Pace};
use shop::Bench;
use tree::Trees;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often each side does each work; works that download are done half as often.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Measure only this.
    #[arg(long)]
    only: Option<Part>,
    /// How often each tree is made.
    #[arg(long, default_value_t = 5)]
    tree_runs: usize,
    #[command(flatten)]
    network: Network,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Locks and fetches, against apt.
    Lock,
    /// Trees, against mmdebstrap.
    Tree,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    apt_version: String,
    comparisons: Vec<Comparison>,
    figures: Vec<Figure>,
    mmdebstrap_version: Option<String>,
    trees: Vec<Trees>,
    /// Average number of running processes in the last minute, when the work was done.
    load_after: f64,
}

/// Measures, prints a table, and keeps the results below `bench/results`.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let kiln = root().join("target/release/kiln");
    ensure!(kiln.exists(), "there is no {kiln}: `make build` makes it, and `make bench` does all");
    let directory = root().join("target/bench");
    fs::create_dir_all(&directory)?;
    let machine = Machine::describe(&directory)?;
    say(&machine.to_string());
    let bench = Bench::prepare(kiln, directory, &arguments.network)?;
    let pace = Pace { runs: arguments.runs };
    let mut results = Results {
        apt_version: bench.apt_version().to_owned(),
        comparisons: Vec::new(),
        figures: Vec::new(),
        mmdebstrap_version: None,
        trees: Vec::new(),
        load_after: 0.0,
        machine,
    };
    if arguments.only != Some(Part::Tree) {
        results.comparisons =
            vec![bench.lock_with_indexes(pace)?, bench.first_lock(pace.halved())?, bench.fetch(pace.halved())?];
        results.figures = [bench.memory()?, figures::index_and_solver(&bench)?].concat();
    }
    if arguments.only != Some(Part::Lock) {
        let sides = tree::Sides::prepare(&bench)?;
        results.mmdebstrap_version = Some(sides.mmdebstrap.version.clone());
        results.trees = measure_trees(&sides, &bench, Pace { runs: arguments.tree_runs })?;
    }
    results.load_after = machine::load()?;
    let path = keep(&results, arguments.only)?;
    say(&format!("\n{results}\n\nkept in {path}"));
    Ok(())
}

/// In memory, where files can be kept there, and on the disk.
fn measure_trees(sides: &tree::Sides<'_>, bench: &Bench, pace: Pace) -> anyhow::Result<Vec<Trees>> {
    let mut trees = Vec::new();
    if let Ok(memory) = tempfile::Builder::new().prefix("kiln-bench-").tempdir_in(SHARED_MEMORY) {
        let directory = Utf8Path::from_path(memory.path()).context("the name of a temporary directory is text")?;
        trees.push(measure_place(sides, &directory.join("trees"), true, pace)?);
    }
    trees.push(measure_place(sides, &bench.directory.join("trees"), false, pace)?);
    Ok(trees)
}

fn measure_place(sides: &tree::Sides<'_>, directory: &Utf8Path, is_memory: bool, pace: Pace) -> anyhow::Result<Trees> {
    say(&format!("making trees in {directory}"));
    let measured = sides.measure(directory, is_memory, pace)?;
    say(&measured.to_string());
    Ok(measured)
}

/// Where Linux has files in memory, for programs.
const SHARED_MEMORY: &str = "/dev/shm";

fn keep(results: &Results, only: Option<Part>) -> anyhow::Result<Utf8PathBuf> {
    let directory = root().join("bench/results");
    fs::create_dir_all(&directory)?;
    let part = match only {
        None => "",
        Some(Part::Lock) => "-lock",
        Some(Part::Tree) => "-tree",
    };
    let path = directory.join(format!("{}{part}.json", results.machine.date));
    fs::write(&path, serde_json::to_string_pretty(results)? + "\n")?;
    Ok(path)
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:44} {:>10} {:>10} {:>7}  goal", "median of the wall time", "Kiln", "apt", "ratio")?;
        for comparison in &self.comparisons {
            writeln!(f, "{comparison}")?;
        }
        writeln!(f)?;
        let lines: Vec<String> = self.figures.iter().map(Figure::to_string).collect();
        write!(f, "{}", lines.join("\n"))?;
        self.trees.iter().try_for_each(|trees| write!(f, "\n\n{trees}"))
    }
}
