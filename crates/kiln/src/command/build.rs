//! `kiln build`: the trees of classes, of which only what changed is built.

use std::fmt::Write as _;
use std::num::NonZero;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use camino::Utf8Path;
use kiln_build::Environment;
use kiln_build::build::{BuildOptions, Built, BuiltClass, StageFailure, build};
use kiln_build::factory::Factory;
use kiln_model::digest::Sha256;
use kiln_sandbox::CancelToken;
use serde::Serialize;

use super::existing_lock;
use crate::error::{CommandError, Kind};
use crate::output::{Output, bytes, count, seconds, table};
use crate::settings::Settings;

/// How long a build that is asked to end may take for it.
const GRACE: Duration = Duration::from_secs(3);

/// Build the trees of classes: packages, then steps, exactly as kiln.lock has them.
///
/// Only stages that read something else than before are carried out; `kiln why build CLASS` says which these would be. What
/// was finished is kept, also when the build is interrupted. New numeric ids of users and groups are added to the ids at the
/// end of kiln.lock: commit them.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// Only these classes; every class if none is named.
    #[arg(value_name = "CLASS")]
    classes: Vec<String>,
    /// Make the tree and no image. This version of Kiln makes no images yet.
    #[arg(long)]
    tree_only: bool,
    /// Make it an error if kiln.lock lacks a numeric id. The default where CI is set.
    #[arg(long, overrides_with = "no_locked")]
    locked: bool,
    /// Add missing numeric ids to kiln.lock. The default where CI is not set.
    #[arg(long, overrides_with = "locked")]
    no_locked: bool,
    /// How many stages may be carried out at a time. Default: as many as there are processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
}

#[derive(Serialize)]
struct Result<'a> {
    classes: Vec<Row<'a>>,
    failures: Vec<Failed<'a>>,
    new_ids: &'a [String],
    took_ms: u64,
}

/// A class that is complete.
#[derive(Serialize)]
struct Row<'a> {
    class: &'a str,
    tree: Sha256,
    files: u64,
    size_bytes: u64,
    layers: Vec<Sha256>,
    built: usize,
    cached: usize,
    took_ms: u64,
}

/// A stage that failed.
#[derive(Serialize)]
struct Failed<'a> {
    class: &'a str,
    stage: &'a str,
    file: Option<&'a str>,
    line: Option<usize>,
    error: String,
    last_lines: &'a [String],
    classes: &'a [String],
}

/// Runs the verb.
///
/// # Errors
/// If the lock does not fit, a stage fails, or the environment refuses.
pub(crate) fn run(
    args: &BuildArgs,
    factory: &Utf8Path,
    settings: &Settings,
    environment: &Environment<'_>,
    output: &Output,
) -> std::result::Result<(), CommandError> {
    if !args.tree_only {
        let error = anyhow!("this version of Kiln makes trees, and no images of them yet");
        return Err(CommandError::new(Kind::Usage, error).with_hint("kiln build --tree-only makes the trees"));
    }
    let started = Instant::now();
    let factory = Factory::new(factory);
    let spec = factory.spec()?;
    let lock = existing_lock(&factory)?;
    let cancel = cancel_token()?;
    let options = BuildOptions {
        classes: args.classes.clone(),
        locked: args.locked || (settings.is_ci && !args.no_locked),
        jobs: args.jobs.map_or_else(processors, usize::from),
        boot: &settings.boot,
        cancel: &cancel,
    };
    let built = build(&factory, &spec, &lock, &options, environment)?;
    let took = started.elapsed();
    output.result("build", &result(&built, took), &describe(&built, took));
    failure(&built.failures).map_or(Ok(()), Err)
}

/// A token that Ctrl-C throws.
pub(super) fn cancel_token() -> std::result::Result<CancelToken, CommandError> {
    let token = CancelToken::new().and_then(|token| token.heed_signals(GRACE).map(|()| token));
    token.map_err(|error| CommandError::new(Kind::Environment, error))
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

pub(super) fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn result(built: &Built, took: Duration) -> Result<'_> {
    Result {
        classes: built.classes.iter().map(Row::of).collect(),
        failures: built.failures.iter().map(Failed::of).collect(),
        new_ids: &built.new_ids,
        took_ms: milliseconds(took),
    }
}

impl<'a> Row<'a> {
    fn of(built: &'a BuiltClass) -> Self {
        Self {
            class: &built.class,
            tree: built.tree.digest,
            files: built.tree.files,
            size_bytes: built.tree.size_bytes,
            layers: built.layers.iter().map(|layer| *layer.name()).collect(),
            built: built.built,
            cached: built.cached,
            took_ms: milliseconds(built.took),
        }
    }
}

impl<'a> Failed<'a> {
    fn of(failure: &'a StageFailure) -> Self {
        Self {
            class: &failure.class,
            stage: &failure.stage,
            file: failure.place.as_ref().map(|place| place.file.as_str()),
            line: failure.place.as_ref().map(|place| place.line),
            error: failure.message(),
            last_lines: failure.last_lines(),
            classes: &failure.classes,
        }
    }
}

/// How much of a tree's digest is shown to people.
const DIGITS: usize = 16;

fn describe(built: &Built, took: Duration) -> String {
    let row = |built: &BuiltClass| {
        let stages = match (built.built, built.cached) {
            (0, cached) => format!("{cached} cached"),
            (made, 0) => format!("{made} built"),
            (made, cached) => format!("{made} built, {cached} cached"),
        };
        let took = if built.built > 0 { seconds(built.took) } else { String::new() };
        let digest: String = built.tree.digest.to_string().chars().take(DIGITS).collect();
        let size = bytes(built.tree.size_bytes);
        vec![built.class.clone(), format!("sha256:{digest}"), count(built.tree.files, "file"), size, stages, took]
    };
    let mut text = table(&built.classes.iter().map(row).collect::<Vec<_>>());
    if !built.new_ids.is_empty() {
        let names = built.new_ids.join(", ");
        let _ = writeln!(text, "added to [ids] of kiln.lock: {names}; commit it");
    }
    if built.failures.is_empty() {
        let _ = writeln!(text, "{} in {}", count(built.classes.len() as u64, "tree"), seconds(took));
    }
    text
}

/// All that failed, as one error.
pub(super) fn failure(failures: &[StageFailure]) -> Option<CommandError> {
    let first = failures.first()?;
    let text = failures.iter().map(show).collect::<Vec<_>>().join("\n\n");
    let kind = if first.is_about_this_machine() {
        Kind::Environment
    } else if first.is_about_the_spec() {
        Kind::Usage
    } else {
        Kind::No
    };
    let error = CommandError::new(kind, anyhow!(text));
    let kept = failures.iter().filter(|failure| failure.is_kept);
    let hints = kept.map(|failure| format!("kiln shell {} --failed shows its tree", failure.class));
    Some(hints.fold(error, CommandError::with_hint))
}

/// A failure with the line of the spec, what was written last, and which classes it takes along.
fn show(failure: &StageFailure) -> String {
    let StageFailure { class, stage, place, classes, .. } = failure;
    let message = format!("build class {class}: {stage}: {}", failure.message());
    let mut text = match place {
        Some(place) => place.diagnostic(message).to_string(),
        None => format!("error: {message}"),
    };
    for cause in failure.causes() {
        let _ = write!(text, "\n  because: {}", cause.replace('\n', "\n    "));
    }
    let lines = failure.last_lines();
    if !lines.is_empty() {
        text.push_str("\n  its last lines:");
        text.extend(lines.iter().map(|line| format!("\n    {line}")));
    }
    let others: Vec<&str> = classes.iter().map(String::as_str).filter(|other| other != class).collect();
    if !others.is_empty() {
        let _ = write!(text, "\n  not built because of it: {}", others.join(", "));
    }
    if let Some(hint) = failure.hint() {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}
