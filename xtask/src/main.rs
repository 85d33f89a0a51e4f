//! Developer commands: `cargo xtask COMMAND`.
//!
//! - [`mod@bench`]: Kiln against the tools it replaces, as ratios.
//! - [`ci`]: every check and every test; what `make test` runs.
//! - [`conformance`]: selections and version order against apt, dpkg and dose.
//! - [`generate`]: files in the repository that are made from the code.

mod bench;
mod ci;
mod conformance;
mod generate;
mod oracle;
mod parallel;
mod reference;

use std::io::Write as _;
use std::process::ExitCode;

use camino::Utf8Path;
use clap::Parser;

/// Developer commands for Kiln.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    /// Measure Kiln against the tools it replaces.
    Bench(bench::Arguments),
    /// Run every check and every test.
    Ci(ci::Ci),
    /// Compare selections and version order with apt's, dpkg's and dose's.
    Conformance(conformance::Conformance),
    /// Write the generated files, or check that they are current.
    Generate(generate::Generate),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Ci(arguments) => ci::run(&arguments),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    say(&format!("error: {error:#}"));
    ExitCode::FAILURE
}

/// Writes a line to standard error, which keeps its place between the output of the programs that are run.
fn say(line: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The directory of the workspace.
fn root() -> &'static Utf8Path {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}
