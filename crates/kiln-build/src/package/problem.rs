//! What can go wrong inside the sandbox, in a form that survives the way out.

use std::fmt::Display;
use std::io;

use kiln_sandbox::{Ending, StartError};
use serde::{Deserialize, Serialize};

/// Why a package stage ended early.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Problem {
    /// dpkg failed; what it wrote says why.
    Dpkg { ending: Ending },
    /// A script that Kiln ran itself failed.
    Script { program: String, ending: Ending },
    /// A package cannot be placed, or the tree is not as it should be.
    Refused { message: String, hint: Option<String> },
    /// A file could not be read or written.
    Io { doing: String, kind: Kind, message: String },
}

/// Kinds of errors that somebody asks for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Kind {
    Full,
    Other,
}

impl Problem {
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: None }
    }
}

/// The error again that was taken apart.
pub(crate) fn cause(kind: Kind, message: String) -> io::Error {
    let kind = match kind {
        Kind::Full => io::ErrorKind::StorageFull,
        Kind::Other => io::ErrorKind::Other,
    };
    io::Error::new(kind, message)
}

/// Says what was being done when something failed.
pub(crate) trait Doing<T> {
    /// The result, with `doing`, which fits after "failed to", on failure.
    fn doing<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T, Problem>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T, Problem> {
        self.map_err(|error| {
            let error = error.into();
            let kind = if error.kind() == io::ErrorKind::StorageFull { Kind::Full } else { Kind::Other };
            Problem::Io { doing: doing().to_string(), kind, message: error.to_string() }
        })
    }
}

impl From<StartError> for Problem {
    fn from(StartError { program, source }: StartError) -> Self {
        Self::Io { doing: format!("start {program} in the tree"), kind: Kind::Other, message: source.to_string() }
    }
}
