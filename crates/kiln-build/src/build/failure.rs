//! What is told of a stage that failed.

use std::error::Error as _;
use std::io;

use kiln_model::spec::Place;

use crate::workplace::StageError;

/// What to do about a full disk.
const MAKE_ROOM: &str = "make room on the file system of the store, or choose another directory for it; kiln doctor says where \
                         it is and how much room there is";

/// What to do about a file that root of a user's sandbox may not open: it has no power over files of groups that are not
/// among its ids, and of the user's groups only the primary one is.
const OPEN_UP: &str = "an ordinary user's build can open a file that everybody may read, or one of the user's own primary \
                       group: chmod o+r, or chgrp, what it names";

/// A stage that failed.
#[derive(Debug)]
pub struct StageFailure {
    /// The class that it belongs to.
    pub class: String,
    /// What it is: `step 2: shell apt-get install foo`.
    pub stage: String,
    /// Where the spec asks for it.
    pub place: Option<Place>,
    /// Why.
    pub error: StageError,
    /// The classes that are not built because of it, by name.
    pub classes: Vec<String>,
    /// Whether its tree is kept for a look.
    pub is_kept: bool,
}

impl StageFailure {
    /// What failed.
    #[must_use]
    pub fn message(&self) -> String {
        self.error.to_string()
    }

    /// Why, from the nearest cause to the last.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = self.error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match &self.error {
            StageError::Program { hint, .. } | StageError::Refused { hint, .. } => hint.clone(),
            StageError::Sandbox(error) => error.hint(),
            StageError::Store(error) => error.hint(),
            StageError::Package { .. } | StageError::Io { .. } if self.is_for_want_of_room() => {
                Some(MAKE_ROOM.to_owned())
            }
            StageError::Io { .. } if self.has_cause(&[io::ErrorKind::PermissionDenied]) => Some(OPEN_UP.to_owned()),
            StageError::Package { .. } | StageError::Io { .. } => None,
        }
    }

    /// Whether a disk, or the share of it that the caller may fill, is full.
    fn is_for_want_of_room(&self) -> bool {
        self.has_cause(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded])
    }

    /// Whether one of these is among the causes.
    fn has_cause(&self, kinds: &[io::ErrorKind]) -> bool {
        let mut next = self.error.source();
        while let Some(cause) = next {
            if cause.downcast_ref::<io::Error>().is_some_and(|error| kinds.contains(&error.kind())) {
                return true;
            }
            next = cause.source();
        }
        false
    }

    /// The last lines that its programs wrote.
    #[must_use]
    pub fn last_lines(&self) -> &[String] {
        match &self.error {
            StageError::Program { last_lines, .. } => last_lines,
            StageError::Sandbox(error) => error.last_lines(),
            StageError::Refused { .. } | StageError::Package { .. } | StageError::Store(_) | StageError::Io { .. } => {
                &[]
            }
        }
    }

    /// Whether the machine is to blame: it lacks room, permission, memory.
    #[must_use]
    pub fn is_about_this_machine(&self) -> bool {
        let is_machine = matches!(self.error, StageError::Sandbox(_) | StageError::Store(_) | StageError::Io { .. });
        is_machine || self.is_for_want_of_room()
    }

    /// Whether what the spec asks for cannot be done.
    #[must_use]
    pub fn is_about_the_spec(&self) -> bool {
        let is_spec = matches!(self.error, StageError::Refused { .. } | StageError::Package { .. });
        is_spec && !self.is_for_want_of_room()
    }
}

#[cfg(test)]
mod tests {
    use kiln_debian::deb::DebError;

    use super::*;

    fn check(kind: io::ErrorKind, is_machine: bool, hint: Option<&str>) {
        let source = DebError::Read { part: "data.tar".to_owned(), source: io::Error::new(kind, "no") };
        let error = StageError::Package { package: "libc6 2.41".to_owned(), source: Box::new(source) };
        let (class, stage) = ("base".to_owned(), "packages".to_owned());
        let failure = StageFailure { class, stage, place: None, error, classes: Vec::new(), is_kept: false };
        let found = (failure.is_about_this_machine(), failure.is_about_the_spec(), failure.hint());
        assert_eq!(found, (is_machine, !is_machine, hint.map(str::to_owned)), "{kind:?}");
    }

    #[test]
    fn a_package_is_not_to_blame_for_a_full_disk() {
        check(io::ErrorKind::StorageFull, true, Some(MAKE_ROOM));
        check(io::ErrorKind::QuotaExceeded, true, Some(MAKE_ROOM));
        check(io::ErrorKind::InvalidData, false, None);
    }
}
