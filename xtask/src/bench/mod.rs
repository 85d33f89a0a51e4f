//! Kiln against the tools it replaces: the same work, on the same machine, in the same run, as ratios.
//!
//! 1. trixie's own apt is made ready beside a root where nothing is installed ([`crate::oracle`]).
//! 2. `kiln` and apt do the same work in turns, each as often; the median counts ([`measure`]).
//! 3. What has no peer is a plain figure: memory, the loading of an index, a solve ([`figures`]).
//!
//! Nothing here fails because something is slow: the table says which goals are missed. What is measured, how, and the
//! last figures are in docs/benchmarks.md.

mod figures;
mod machine;
mod measure;
mod shop;

use std::fmt;

use anyhow::ensure;
use camino::Utf8PathBuf;
use fs_err as fs;
use serde::Serialize;

use crate::oracle::Network;
use crate::{root, say};
use figures::Figure;
use machine::Machine;
use measure::{Comparison, Pace};
use shop::Bench;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often each side does each work; works that download are done half as often.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    #[command(flatten)]
    network: Network,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    apt_version: String,
    comparisons: Vec<Comparison>,
    figures: Vec<Figure>,
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
    let results = Results {
        apt_version: bench.apt_version().to_owned(),
        comparisons: vec![
            bench.lock_with_indexes(pace)?,
            bench.first_lock(pace.halved())?,
            bench.fetch(pace.halved())?,
        ],
        figures: [bench.memory()?, figures::index_and_solver(&bench)?].concat(),
        load_after: machine::load()?,
        machine,
    };
    let path = keep(&results)?;
    say(&format!("\n{results}\n\nkept in {path}"));
    Ok(())
}

fn keep(results: &Results) -> anyhow::Result<Utf8PathBuf> {
    let directory = root().join("bench/results");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{}.json", results.machine.date));
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
        write!(f, "{}", lines.join("\n"))
    }
}
