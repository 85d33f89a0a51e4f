//! Carries out one step of a class in its tree.
//!
//! 1. [`run`] looks at what the step does.
//! 2. Steps that place files and accounts are our own code, run in the tree by [`in_tree`]: `copy`, `template`, `account`,
//!    `unit`, `download`. Paths are resolved in the tree (`root`), so that no link of the tree leads out of it.
//! 3. Steps that run programs of the user are `program`'s.
//!
//! Files of the factory are seen inside below [`FACTORY`], read-only, and are hashed once more while they are read: what is
//! placed is what the plan's key says. Nothing here depends on times, the umask or the order of directories.

use std::collections::VecDeque;
use std::io;

use camino::Utf8Path;
use kiln_model::spec::Action;
use kiln_sandbox::{Bind, Ending, Inside, LAST_LINES};
use serde::{Deserialize, Serialize};

use crate::stage::StepWork;
use crate::step::root::Root;
use crate::step::unit::Verb;
use crate::workplace::{StageError, Workplace};

mod account;
mod ansible;
mod archive;
mod boot;
mod clue;
mod content;
mod copy;
mod download;
#[cfg(test)]
pub(crate) mod ground;
mod program;
mod puppet;
mod repository;
mod root;
mod sources;
mod template;
mod unit;

/// Where the factory is seen inside.
const FACTORY: &str = "/run/kiln/factory";

/// Carries out the step on the tree below it. Its changes are in the workplace's upper layer afterwards.
///
/// # Errors
/// If the step cannot be done as the spec asks for it, a program of it fails, or the machine cannot do it.
pub(crate) fn run(place: &Workplace<'_>, work: &StepWork) -> Result<(), StageError> {
    match &work.step.action {
        Action::Copy(step) => copy::run(place, work, step),
        Action::Template(step) => template::run(place, work, step),
        Action::User(step) => account::add_user(place, step),
        Action::Group(step) => account::add_group(place, step),
        Action::Enable(units) => unit::run(place, Verb::Enable, units),
        Action::Disable(units) => unit::run(place, Verb::Disable, units),
        Action::Mask(units) => unit::run(place, Verb::Mask, units),
        Action::Download(step) => download::run(place, work, step),
        Action::Shell(_) | Action::Script(_) | Action::Ansible(_) | Action::Puppet(_) => program::run(place, work),
    }
}

/// Why our own code in a tree stopped, in the form in which it leaves the sandbox.
#[derive(Debug, Serialize, Deserialize)]
enum Problem {
    /// What is asked for cannot be done, or what is there is not as it should be.
    Refused {
        /// What and why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The system refused something.
    Io {
        /// What was being done.
        doing: String,
        /// The system's number for the reason.
        errno: Option<i32>,
        /// The reason in words.
        message: String,
    },
    /// A program of the tree did not end well.
    Program {
        /// What ran.
        program: String,
        /// How it ended.
        ending: Ending,
    },
}

impl Problem {
    fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: None }
    }

    fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        Self::Io { doing: doing.into(), errno: error.raw_os_error(), message: error.to_string() }
    }

    /// The same refusal, with what to do about it.
    fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Refused { message, .. } => Self::Refused { message, hint: Some(hint.into()) },
            other => other,
        }
    }

    fn into_error(self, last_lines: &[String]) -> StageError {
        match self {
            Self::Refused { message, hint } => StageError::Refused { message, hint },
            Self::Io { doing, errno, message } => {
                let source = errno.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error);
                StageError::Io { doing, source }
            }
            Self::Program { program, ending } => {
                StageError::Program { program, ending, last_lines: last_lines.to_vec(), hint: None }
            }
        }
    }
}

/// What the system refused, as a [`Problem`] that says what was being done.
trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Problem>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Problem> {
        self.map_err(|error| Problem::io(doing(), &error.into()))
    }
}

/// Runs our own code in the tree. What programs that it starts write goes to the workplace's watcher.
fn in_tree(
    place: &Workplace<'_>,
    binds: Vec<Bind>,
    work: impl FnOnce(&Inside<'_>, &Root) -> Result<(), Problem>,
) -> Result<(), StageError> {
    let mut sandbox = place.sandbox();
    sandbox.binds = binds;
    let mut last_lines = VecDeque::new();
    let mut on_line = |line: &str| {
        place.watcher.line(line);
        last_lines.push_back(line.to_owned());
        if last_lines.len() > LAST_LINES {
            last_lines.pop_front();
        }
    };
    let inside = |inside: &Inside<'_>| Root::open(&inside.tree()).and_then(|root| work(inside, &root));
    let outcome = sandbox.call(inside, &mut on_line, place.cancel)?;
    outcome.map_err(|problem| problem.into_error(last_lines.make_contiguous()))
}

/// The factory, to be read inside.
fn factory_bind(factory: &Utf8Path) -> Bind {
    Bind { from: factory.to_owned(), to: FACTORY.into(), read_only: true }
}
