//! The pipeline from spec to image. So far its first half: the lock and the fetch.
//!
//! 1. [`factory`] reads `kiln.toml` and `kiln.lock` from a directory, and writes the lock whole or not at all.
//! 2. [`lock::reasons`] says why a lock no longer fits its spec; it asks nothing of the network.
//! 3. [`lock::lock`] makes a lock: mirrors are found (`mirror`), Releases verified (`release`), indexes loaded
//!    (`index`), local files and downloads pinned (`pin`), each class solved on top of its parent.
//! 4. [`change::changes`] is what a person reviews.
//! 5. [`fetch`] brings every locked file into the store, and writes directories that serve as mirrors for ever.
//!
//! Architecture invariant: nothing here reads the clock or the environment; they come in with [`Environment`].

pub mod build;
pub mod change;
pub mod export;
pub mod factory;
pub mod fetch;
pub mod gc;
#[cfg(test)]
mod ground;
mod host;
mod ids;
mod index;
pub mod lock;
mod mirror;
pub mod normalise;
mod package;
mod pin;
mod problem;
mod release;
mod scan;
pub mod shell;
pub mod stage;
mod step;
mod toolbox;
mod tools;
pub mod tree;
pub mod tree_export;
pub mod why_build;
mod workplace;

pub use host::{Environment, Host, Memory};
pub use index::IndexesError;
pub use mirror::MirrorError;
pub use pin::PinError;
pub use release::SuiteError;
pub use workplace::StageError;

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
