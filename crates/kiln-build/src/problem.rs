//! What went wrong in a process that acted for a user's root, in words that survive the way out of it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Something that could not be done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// Fits after "failed to".
    pub(crate) message: String,
    /// What the system said: its number, where there is one, and its words.
    cause: Option<(Option<i32>, String)>,
    /// The layer of a tree, counted from the bottom, that is not what it was.
    pub(crate) damaged: Option<usize>,
}

impl Problem {
    /// Something that is not as it should be; the system has no complaint.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None, damaged: None }
    }

    /// Something that the system refused.
    pub(crate) fn of(message: impl Into<String>, error: &io::Error) -> Self {
        Self { message: message.into(), cause: Some((error.raw_os_error(), error.to_string())), damaged: None }
    }

    /// A file of a layer whose content is not what it was.
    pub(crate) fn damaged(message: impl Into<String>, layer: usize) -> Self {
        Self { message: message.into(), cause: None, damaged: Some(layer) }
    }

    /// The message, and the cause as an error again.
    pub(crate) fn into_parts(self) -> (String, Option<io::Error>) {
        let cause = self
            .cause
            .map(|(number, words)| number.map_or_else(|| io::Error::other(words), io::Error::from_raw_os_error));
        (self.message, cause)
    }
}

/// Says what was being done, and to which file, when a system call failed.
pub(crate) trait Doing<T> {
    /// `verb` and the path fit after "failed to".
    fn doing(self, verb: &str, path: &Path) -> Result<T, Problem>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, verb: &str, path: &Path) -> Result<T, Problem> {
        self.map_err(|error| Problem::of(format!("{verb} {}", path.display()), &error.into()))
    }
}
