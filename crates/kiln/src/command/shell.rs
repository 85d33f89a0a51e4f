//! `kiln shell`: a shell, or a command, in a throw-away copy of a class's tree.

use std::io::Write as _;

use camino::Utf8Path;
use kiln_build::Environment;
use kiln_build::factory::Factory;
use kiln_build::shell::{At, entrance};
use kiln_sandbox::Ending;

use crate::error::CommandError;
use crate::output::Output;
use crate::settings::Settings;

/// Open a shell in a throw-away copy of a class's tree, as the last build left it.
///
/// Changes are forgotten when it ends; there is no network. With a command after `--` that is run instead, and its exit code
/// is kiln's.
#[derive(Debug, clap::Args)]
pub(crate) struct ShellArgs {
    /// The class.
    class: String,
    /// The tree as it was after this stage; a number that there is not lists them.
    #[arg(long, value_name = "N", conflicts_with = "failed")]
    stage: Option<usize>,
    /// The tree as the stage that failed last left it.
    #[arg(long)]
    failed: bool,
    /// A command to run instead of a shell.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the verb; returns the exit code.
///
/// # Errors
/// If there is no such tree, or the environment refuses.
pub(crate) fn run(
    args: &ShellArgs,
    factory: &Utf8Path,
    settings: &Settings,
    environment: &Environment<'_>,
    output: &Output,
) -> Result<u8, CommandError> {
    let at = match (args.failed, args.stage) {
        (true, _) => At::Failed,
        (false, Some(number)) => At::Stage(number),
        (false, None) => At::End,
    };
    let entrance = entrance(&Factory::new(factory), &args.class, at, &settings.boot, environment)?;
    if let (Some((stage, reason)), true) = (entrance.failure(), args.command.is_empty() && !output.is_json()) {
        // A shell is entered by a person, who wants to know where it is.
        let _ = writeln!(std::io::stderr(), "{stage} failed: {reason}");
    }
    let ending = entrance.run(&args.command, settings.terminal.as_deref())?;
    Ok(match ending {
        Ending::Code(code) => code,
        // As shells say it.
        Ending::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Ending::TimedOut | Ending::Cancelled => u8::MAX,
    })
}
