//! Every check and every test, in one order, on every machine.
//!
//! 1. What the tests ask of the host is there, or is installed if we are root.
//! 2. The checks: format, lints, documentation, generated files, dependencies, spelling, examples in documentation.
//! 3. The tests, last, so that the output ends with their summary.
//!
//! A check that fails does not stop the others: one run shows everything that is wrong. An optional tool that is not
//! installed is said, never skipped in silence.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::{generate, root, say};

/// Arguments of `cargo xtask ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ci {
    /// Set on machines that build for others: longer time limits, shorter output.
    #[arg(long, env = "CI", hide_env_values = true)]
    ci: Option<OsString>,
}

/// Programs that the tests compare Kiln with, and the Debian package of each.
const REQUIRED: &[(&str, &str)] = &[("dpkg", "dpkg"), ("dpkg-deb", "dpkg"), ("apt-get", "apt"), ("gpgv", "gpgv")];

/// What one check came to.
enum Outcome {
    Passed,
    Failed(String),
    /// The tool is not installed.
    Skipped(&'static str),
}

/// Runs everything; an error if anything failed.
pub(crate) fn run(arguments: &Ci) -> anyhow::Result<()> {
    provide_requirements()?;
    let failed = run_checks();
    let tests = run_tests(arguments.ci.as_ref().is_some_and(|value| !value.is_empty() && value != "false"));
    let failed: Vec<&str> = failed.into_iter().chain(tests.is_err().then_some("tests")).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// The names of the checks that failed.
fn run_checks() -> Vec<&'static str> {
    type Check = fn() -> Outcome;
    const CHECKS: &[(&str, Check)] = &[
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("lints", || cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("documentation", document),
        ("generated files", || generate::check_all().into()),
        ("dependencies", || optional("cargo-deny", &["deny", "--locked", "check"])),
        ("spelling", || optional("typos", &[])),
        ("conformance", conformance),
        ("documented examples", || cargo(&["test", "--locked", "--quiet", "--workspace", "--doc"])),
    ];
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        say(&format!("== {name}"));
        match check() {
            Outcome::Passed => {}
            Outcome::Failed(reason) => {
                say(&format!("failed: {name}: {reason}"));
                failed.push(*name);
            }
            Outcome::Skipped(tool) => say(&format!("skipped: {name}: {tool} is not installed")),
        }
    }
    failed
}

/// Runs the tests through cargo-nextest, or through cargo where it is not installed.
fn run_tests(ci: bool) -> anyhow::Result<()> {
    say("== tests");
    let profile = if ci { "ci" } else { "default" };
    let nextest = ["nextest", "run", "--locked", "--workspace", "--profile", profile];
    let plain = ["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"];
    let arguments: &[&str] = if is_installed("cargo-nextest") { &nextest } else { &plain };
    status(Command::new("cargo").args(arguments))
}

/// Another command of this program.
fn itself(arguments: &[&str]) -> Outcome {
    let program = std::env::current_exe().context("find this program");
    program.and_then(|program| status(Command::new(program).args(arguments))).into()
}

fn cargo(arguments: &[&str]) -> Outcome {
    status(Command::new("cargo").args(arguments)).into()
}

/// Of the binary that this very tree builds, beside this program.
fn conformance() -> Outcome {
    match cargo(&["build", "--locked", "--quiet", "--package", "kiln"]) {
        Outcome::Passed => itself(&["conformance", "--quick"]),
        other => other,
    }
}

fn document() -> Outcome {
    let arguments = ["doc", "--locked", "--workspace", "--no-deps"];
    status(Command::new("cargo").args(arguments).env("RUSTDOCFLAGS", "-D warnings")).into()
}

/// Runs a tool that need not be there; a cargo subcommand is run through cargo.
fn optional(tool: &'static str, arguments: &[&str]) -> Outcome {
    if !is_installed(tool) {
        return Outcome::Skipped(tool);
    }
    let program = if tool.starts_with("cargo-") { "cargo" } else { tool };
    status(Command::new(program).args(arguments)).into()
}

/// Installs the programs that tests need if we may, or says how to.
fn provide_requirements() -> anyhow::Result<()> {
    let missing = REQUIRED.iter().filter(|(program, _)| !is_installed(program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !is_installed("apt-get") || !rustix::process::geteuid().is_root() {
        bail!("the tests need what is not installed; as root: {install}");
    }
    say(&format!("== {install}"));
    let run = |arguments: &str| status(Command::new("apt-get").args(arguments.split(' ').skip(1)));
    run("apt-get update")?;
    run(&install)
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$1\"", "sh", program]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn status(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let status = command.current_dir(root()).status().with_context(|| format!("run {}", program.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    Ok(())
}

impl From<anyhow::Result<()>> for Outcome {
    fn from(result: anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}
