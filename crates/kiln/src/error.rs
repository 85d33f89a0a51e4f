//! What a person sees when a command fails, and the exit code it ends with.
//!
//! Every library error becomes a [`CommandError`] here and nowhere else: its kind decides the exit code, its chain of
//! causes is printed one to a line, and its hints say what to do.

use std::fmt::Write as _;

use kiln_build::build::BuildError;
use kiln_build::export::ExportError;
use kiln_build::factory::FactoryError;
use kiln_build::fetch::FetchFailure;
use kiln_build::gc::GcError;
use kiln_build::lock::{LockFailure, WhyError};
use kiln_build::shell::ShellError;
use kiln_build::tree::TreeError;
use kiln_build::tree_export::TreeExportError;
use kiln_build::{IndexesError, MirrorError, PinError};
use kiln_sandbox::IdentityError;
use kiln_store::{ProxyError, StoreError};
use serde::Serialize;

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// 1: the question was understood and the answer is no.
    No,
    /// 2: the command line, the spec or the lock is wrong.
    Usage,
    /// 3: network, permission, disk.
    Environment,
    /// 70: a bug in Kiln.
    Internal,
    /// 130: somebody pressed Ctrl-C.
    Interrupted,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    /// What failed, with its causes.
    pub(crate) error: anyhow::Error,
    /// What to do.
    pub(crate) hints: Vec<String>,
}

impl Kind {
    /// The process's exit code.
    #[must_use]
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::No => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Internal => 70,
            Self::Interrupted => 130,
        }
    }
}

impl CommandError {
    /// A failure of the given kind.
    pub(crate) fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: error.into(), hints: Vec::new() }
    }

    fn hinted(kind: Kind, error: impl Into<anyhow::Error>, hint: Option<String>) -> Self {
        Self { kind, error: error.into(), hints: hint.into_iter().collect() }
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The text for a terminal or a log: readable without colour.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let message = self.error.to_string();
        // Mistakes in a spec render themselves, each with its own place and hint.
        if message.starts_with("error: ") {
            text.push_str(&message);
        } else {
            let _ = write!(text, "error: {message}");
        }
        for cause in self.error.chain().skip(1) {
            let _ = write!(text, "\n  because: {}", cause.to_string().replace('\n', "\n    "));
        }
        if self.kind == Kind::Internal {
            text.push_str("\nhint: this is a bug in Kiln; please report it with the command and the text above");
        }
        for hint in &self.hints {
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }
}

impl From<FactoryError> for CommandError {
    fn from(error: FactoryError) -> Self {
        let hint = match &error {
            FactoryError::NoSpec { .. } => Some("kiln init writes one; -C names another directory".to_owned()),
            FactoryError::Lock(error) => Some(error.hint().to_owned()),
            FactoryError::NotText { file } => Some(format!("restore {file} from version control")),
            FactoryError::Spec(_) | FactoryError::Io { .. } | FactoryError::Unsound(_) => None,
        };
        let kind = match &error {
            FactoryError::Io { .. } => Kind::Environment,
            FactoryError::Unsound(_) => Kind::Internal,
            _ => Kind::Usage,
        };
        Self::hinted(kind, error, hint)
    }
}

impl From<LockFailure> for CommandError {
    fn from(error: LockFailure) -> Self {
        let kind = match &error {
            LockFailure::Unsolvable { .. }
            | LockFailure::UnknownUpdate { .. }
            | LockFailure::Replaces { .. }
            | LockFailure::Universe(_) => Kind::Usage,
            LockFailure::Mirror(error) => mirror_kind(error),
            LockFailure::Indexes(IndexesError::NoIndex(_)) => Kind::Usage,
            LockFailure::Pin(PinError::Deb { .. } | PinError::Address(_) | PinError::Digest { .. }) => Kind::Usage,
            LockFailure::Indexes(_) | LockFailure::Pin(_) | LockFailure::NoToolbox(_) => Kind::Environment,
        };
        let hint = error.hint();
        Self::hinted(kind, error, hint)
    }
}

impl From<WhyError> for CommandError {
    fn from(error: WhyError) -> Self {
        let (kind, hint) = match &error {
            WhyError::NotLocked { .. } => (Kind::No, Some("kiln lock --list shows what is locked".to_owned())),
            WhyError::Reread(error) => (Kind::Environment, error.hint()),
            WhyError::Unsolvable { .. } => {
                (Kind::Usage, Some("kiln lock --check says where spec and lock part".to_owned()))
            }
        };
        Self::hinted(kind, error, hint)
    }
}

impl From<FetchFailure> for CommandError {
    fn from(error: FetchFailure) -> Self {
        let hint = error.hint();
        Self::hinted(fetch_kind(&error), error, hint)
    }
}

impl From<BuildError> for CommandError {
    fn from(error: BuildError) -> Self {
        let hint = error.hint();
        match error {
            BuildError::Factory(error) => error.into(),
            BuildError::Store(error) => error.into(),
            BuildError::Fetch(error) => error.into(),
            error => Self::hinted(build_kind(&error), error, hint),
        }
    }
}

fn build_kind(error: &BuildError) -> Kind {
    match error {
        BuildError::Stale(_) => Kind::No,
        BuildError::Plan(_) | BuildError::Source(_) => Kind::Usage,
        BuildError::Interrupted => Kind::Interrupted,
        _ => Kind::Environment,
    }
}

impl From<ShellError> for CommandError {
    fn from(error: ShellError) -> Self {
        let hint = error.hint();
        match error {
            ShellError::Factory(error) => error.into(),
            ShellError::Store(error) => error.into(),
            ShellError::NotBuilt { .. }
            | ShellError::Unfinished { .. }
            | ShellError::NothingFailed { .. }
            | ShellError::Gone { .. } => Self::hinted(Kind::No, error, hint),
            ShellError::NoStage { .. } => Self::hinted(Kind::Usage, error, hint),
            ShellError::Identity(_) | ShellError::Sandbox(_) => Self::hinted(Kind::Environment, error, hint),
        }
    }
}

impl From<ExportError> for CommandError {
    fn from(error: ExportError) -> Self {
        let kind = match &error {
            ExportError::Fetch(error) => fetch_kind(error),
            ExportError::Collision { .. } | ExportError::Path { .. } => Kind::Usage,
            _ => Kind::Environment,
        };
        let hint = error.hint();
        Self::hinted(kind, error, hint)
    }
}

impl From<TreeError> for CommandError {
    fn from(error: TreeError) -> Self {
        Self::new(Kind::Environment, error)
    }
}

impl From<TreeExportError> for CommandError {
    fn from(error: TreeExportError) -> Self {
        let kind = match &error {
            TreeExportError::Exists { .. } | TreeExportError::NotReplaced { .. } => Kind::Usage,
            TreeExportError::Refused { .. } => Kind::No,
            TreeExportError::Interrupted => Kind::Interrupted,
            _ => Kind::Environment,
        };
        let hint = error.hint();
        Self::hinted(kind, error, hint)
    }
}

impl From<IdentityError> for CommandError {
    fn from(error: IdentityError) -> Self {
        let hint = error.hint();
        Self::hinted(Kind::Environment, error, hint)
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        // The store does not know where its directory comes from; a user can only choose it so.
        let hint = error.hint().unwrap_or_else(|| "is the store yours to write?".to_owned());
        Self::hinted(Kind::Environment, error, Some(format!("{hint} (XDG_CACHE_HOME says where it is)")))
    }
}

impl From<GcError> for CommandError {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Store(error) => error.into(),
        }
    }
}

impl From<ProxyError> for CommandError {
    fn from(error: ProxyError) -> Self {
        Self::new(Kind::Usage, error)
    }
}

fn mirror_kind(error: &MirrorError) -> Kind {
    match error {
        MirrorError::None { .. } | MirrorError::NoKeyring { .. } => Kind::Environment,
        MirrorError::Address { .. } | MirrorError::Keyring { .. } => Kind::Usage,
    }
}

fn fetch_kind(error: &FetchFailure) -> Kind {
    match error {
        FetchFailure::Mirror(error) => mirror_kind(error),
        FetchFailure::UnknownClass { .. } | FetchFailure::Place(_) | FetchFailure::Left { .. } => Kind::Usage,
        FetchFailure::Changed { .. } => Kind::No,
        _ => Kind::Environment,
    }
}
