//! What the processes of a sandbox tell the one that started it: one JSON value a line, over a pipe.

use std::any::Any;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

/// One thing to tell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Something could not be done; the sandbox ends.
    Failed(Failure),
    /// Our function returned this, as JSON.
    Value(String),
    /// Our function panicked, with this message.
    Panicked(String),
    /// Our function was killed by this signal, if by one, before it could return anything.
    Died { signal: Option<i32> },
}

impl Message {
    /// What `work` returns as JSON, or how it failed.
    pub(crate) fn of<T: Serialize>(work: impl FnOnce() -> T) -> Self {
        let value = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => value,
            Err(panic) => return Self::Panicked(panic_text(panic.as_ref())),
        };
        let written = serde_json::to_string(&value).map_err(io::Error::other);
        written.doing(|| "write the result".to_owned()).map_or_else(Self::Failed, Self::Value)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// Something that could not be done in a sandbox, in words that survive a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Fits after "failed to".
    pub(crate) doing: String,
    /// The system's error number, where there is one.
    pub(crate) errno: Option<i32>,
    /// The cause in words, which may name a path.
    pub(crate) message: String,
}

impl Failure {
    /// The cause as an error again.
    pub(crate) fn into_cause(self) -> (String, io::Error) {
        let cause = self.errno.map(io::Error::from_raw_os_error);
        let same = cause.filter(|cause| cause.to_string() == self.message);
        let kind = self.errno.map_or(io::ErrorKind::Other, |number| io::Error::from_raw_os_error(number).kind());
        (self.doing, same.unwrap_or_else(|| io::Error::new(kind, self.message)))
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
            let errno = error_number(&error);
            Failure { doing: doing(), errno, message: error.to_string() }
        })
    }
}

/// Kinds of errors that somebody asks for, with a number of the system that has this kind.
const KINDS: [(io::ErrorKind, i32); 4] = [
    (io::ErrorKind::NotFound, libc::ENOENT),
    (io::ErrorKind::PermissionDenied, libc::EPERM),
    (io::ErrorKind::StorageFull, libc::ENOSPC),
    (io::ErrorKind::DirectoryNotEmpty, libc::ENOTEMPTY),
];

/// The system's number of an error; of an error that names a path, and so hides its number, one of the same kind.
fn error_number(error: &io::Error) -> Option<i32> {
    let same_kind = KINDS.iter().find(|(kind, _)| *kind == error.kind());
    error.raw_os_error().or(same_kind.map(|(_, number)| *number))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn survives(error: io::Error) -> io::Error {
        Err::<(), _>(error).doing(String::new).unwrap_err().into_cause().1
    }

    #[test]
    fn kind_number_and_path_of_an_error_survive() {
        let error = survives(io::Error::from_raw_os_error(libc::EBUSY));
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        let error = survives(fs_err::read("/no/such/file").unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/no/such/file"), "{error}");
        assert_eq!(survives(io::Error::other("words")).to_string(), "words");
    }
}
