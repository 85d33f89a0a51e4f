//! What is told of a stage that failed.

use std::error::Error as _;

use kiln_model::spec::Place;

use crate::workplace::StageError;

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
            StageError::Package { .. } | StageError::Io { .. } => None,
        }
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
        matches!(self.error, StageError::Sandbox(_) | StageError::Store(_) | StageError::Io { .. })
    }

    /// Whether what the spec asks for cannot be done.
    #[must_use]
    pub fn is_about_the_spec(&self) -> bool {
        matches!(self.error, StageError::Refused { .. } | StageError::Package { .. })
    }
}
