//! Developer commands: `cargo xtask COMMAND`.
//!
//! - [`ci`]: every check and every test; what `make test` runs.
//! - [`generate`]: files in the repository that are made from the code.

mod ci;
mod generate;

use camino::Utf8Path;
use clap::Parser;

/// Developer commands for Kiln.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    /// Run every check and every test.
    Ci(ci::Ci),
    /// Write the generated files, or check that they are current.
    Generate(generate::Generate),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Ci(arguments) => ci::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
    }
}

/// The directory of the workspace.
fn root() -> &'static Utf8Path {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}
