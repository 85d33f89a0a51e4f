//! The command line. Doc comments are the help; each verb's own arguments live in its file under `command/`.

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};

use crate::command;

/// An image factory: bakes one immutable machine image per class of work, proves it, gives it a version, and rolls it out.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 110, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 the answer is no; 2 usage, spec or lock; 3 the environment (network, permission, disk); 70 a bug.
Environment: KILN_MIRROR (mirrors, tried before the host's apt sources), XDG_CACHE_HOME (the store is in kiln/ there),
http_proxy, https_proxy, no_proxy.";

/// Arguments that every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The factory: the directory with kiln.toml.
    #[arg(short = 'C', long = "factory", value_name = "DIR", default_value = ".", global = true)]
    pub(crate) factory: Utf8PathBuf,
    /// Write events and the result as JSON lines on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but warnings, errors and the result.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Use no network: what is not in the store or in a file: mirror is an error.
    #[arg(long, global = true)]
    pub(crate) offline: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a factory that locks and builds.
    Init(command::init::InitArgs),
    /// Write kiln.lock: the exact packages, indexes and downloads that kiln.toml asks for.
    Lock(command::lock::LockArgs),
    /// Bring every locked file into the store, verified.
    Fetch(command::fetch::FetchArgs),
    /// Print the JSON schema of kiln.toml, for editors.
    Schema,
    /// Print a completion script for a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}
