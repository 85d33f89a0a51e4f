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
Exit codes:
  0   done
  1   the answer is no: --check found that the lock does not fit, a step or script of a build failed
  2   the command line, the spec or the lock is wrong
  3   the environment refuses: network, permission, disk
  70  a bug in Kiln
  130 interrupted

Environment:
  KILN_MIRROR        mirrors, separated by blanks, tried before the host's apt sources
  KILN_HTTP_TIMEOUT  how long a server may say nothing (30s)
  KILN_HTTP_RETRIES  how often a request that failed is made again (4)
  CI                 if set, kiln build is --locked
  XDG_CACHE_HOME     the store is in kiln/ there (~/.cache)
  http_proxy, https_proxy, all_proxy, no_proxy";

/// What heads the arguments that every verb takes.
const GLOBAL: &str = "Global options";

/// Arguments that every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The factory: the directory with kiln.toml.
    #[arg(short = 'C', long = "factory", value_name = "DIR", default_value = ".", global = true, help_heading = GLOBAL)]
    pub(crate) factory: Utf8PathBuf,
    /// Write events and the result as JSON lines on standard output.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Say nothing but warnings, errors and the result.
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Use no network: what is not in the store or in a file: mirror is an error.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) offline: bool,
}

/// What to do; a verb's help is the documentation of its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Init(command::init::InitArgs),
    Lock(command::lock::LockArgs),
    Fetch(command::fetch::FetchArgs),
    Build(command::build::BuildArgs),
    Why(command::why::WhyArgs),
    Shell(command::shell::ShellArgs),
    Gc(command::gc::GcArgs),
    Export(command::export::ExportArgs),
    Doctor(command::doctor::DoctorArgs),
    /// Print the JSON schema of kiln.toml, for editors.
    Schema,
    /// Print a completion script for a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}
