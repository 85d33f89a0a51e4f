//! What has no peer: how long Kiln's own parts take.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kiln_debian::index::Index;
use kiln_debian::solve::{Request, Wanted, solve};
use kiln_debian::universe::{Source, Universe};
use kiln_model::lock::LockedIndex;
use serde::Serialize;

use super::measure::{median, milliseconds};
use super::shop::Bench;

/// One measured value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// The value stays below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<f64>,
}

const REPETITIONS: usize = 21;

/// What a distribution's indexes have in common.
const PRIORITY: i32 = 500;

impl Figure {
    pub(super) fn new(what: &str, value: f64, unit: &'static str, goal: Option<f64>) -> Self {
        Self { what: what.to_owned(), value: (value * 1000.0).round() / 1000.0, unit, goal }
    }
}

/// Parsing and loading the indexes of trixie, and choosing the packages of the shop from them.
pub(super) fn index_and_solver(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let distribution = bench.lock.distributions.get("trixie").context("find trixie in the lock")?;
    let indexes = &distribution.indexes;
    let texts = indexes.iter().map(|index| bench.workshop.packages(index)).collect::<anyhow::Result<Vec<_>>>()?;
    let build = || {
        let blobs = texts.iter().map(|text| Index::build(text.as_slice(), &distribution.architecture));
        Ok(blobs.collect::<Result<Vec<_>, _>>()?)
    };
    let (parse_ms, blobs) = repeat(3, build)?;
    let (load_ms, loaded) = repeat(REPETITIONS, || load(&blobs))?;
    let universe = universe(indexes, loaded, &distribution.architecture)?;
    let wanted = bench.requests.iter().enumerate();
    let wanted = wanted.map(|(label, name)| Wanted { name: name.clone(), constraint: None, label }).collect();
    let request = Request { essential: true, wanted, ..Request::default() };
    let (solve_ms, selection) = repeat(REPETITIONS, || Ok(solve(&universe, &request)?))?;
    let size = |blobs: &[Vec<u8>]| blobs.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    Ok(vec![
        Figure::new("text of trixie's indexes", size(&texts), "MB", None),
        Figure::new("parsed form of them", size(&blobs), "MB", None),
        Figure::new("parsing them", parse_ms, "ms", None),
        Figure::new("loading the parsed form", load_ms, "ms", None),
        Figure::new(&format!("choosing the shop's {} packages", selection.packages.len()), solve_ms, "ms", None),
    ])
}

fn load(blobs: &[Vec<u8>]) -> anyhow::Result<Vec<Index>> {
    blobs.iter().map(|blob| Ok(Index::load(blob.clone())?)).collect()
}

fn universe(indexes: &[LockedIndex], loaded: Vec<Index>, architecture: &str) -> anyhow::Result<Universe> {
    let sources = indexes.iter().zip(loaded);
    let sources = sources.map(|(locked, index)| Source { name: locked.name(), index, priority: PRIORITY });
    Ok(Universe::new(architecture, sources.collect(), Vec::new())?)
}

/// The median time, and the last result.
fn repeat<T>(times: usize, mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<(f64, T)> {
    let mut durations: Vec<f64> = Vec::with_capacity(times);
    loop {
        let started = Instant::now();
        let result = work()?;
        let took: Duration = started.elapsed();
        durations.push(milliseconds(took));
        if durations.len() >= times {
            return Ok((median(&durations), result));
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, unit, goal } = self;
        write!(f, "{what:44} {value:>10.1} {unit}")?;
        match goal {
            Some(goal) if value < goal => write!(f, "  under {goal}"),
            Some(goal) => write!(f, "  under {goal}, MISSED"),
            None => Ok(()),
        }
    }
}
