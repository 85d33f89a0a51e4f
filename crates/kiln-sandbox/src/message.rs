//! What the processes of a sandbox tell the one that started it: one JSON value a line, over a pipe.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

/// One thing to tell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Something could not be done; the sandbox ends.
    Failed(Failure),
    /// Our function returned this, as JSON.
    Value(String),
    /// Our function panicked, or was killed by a signal, before it could return anything.
    Died { signal: Option<i32> },
}

/// Something that could not be done in a sandbox, in words that survive a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Fits after "failed to".
    pub(crate) doing: String,
    /// The system's error number, where there is one.
    pub(crate) errno: Option<i32>,
    /// The cause, where there is no number.
    pub(crate) message: String,
}

impl Failure {
    /// The cause as an error again.
    pub(crate) fn into_cause(self) -> (String, io::Error) {
        let cause = self.errno.map_or_else(|| io::Error::other(self.message), io::Error::from_raw_os_error);
        (self.doing, cause)
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    /// The result, with `doing`, which fits after "failed to", on failure.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            let errno = error.raw_os_error();
            Failure { doing: doing(), errno, message: error.to_string() }
        })
    }
}

/// The writing end of the pipe.
#[derive(Debug)]
pub(crate) struct Reporter(std::fs::File);

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self(pipe.into())
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Tells it. If nobody listens any more there is nobody to tell that to either.
    pub(crate) fn send(&self, message: &Message) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            let _ = (&self.0).write_all(&line);
        }
    }
}
