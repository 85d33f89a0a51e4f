//! One verb, one file: its arguments and what it does.

pub(crate) mod build;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod gc;
pub(crate) mod init;
pub(crate) mod lock;
pub(crate) mod shell;
pub(crate) mod why;

use anyhow::anyhow;
use kiln_build::factory::Factory;
use kiln_model::lock::Lock;

use crate::error::{CommandError, Kind};

/// The factory's lock, for verbs that cannot do without.
fn existing_lock(factory: &Factory) -> Result<Lock, CommandError> {
    let missing = || CommandError::new(Kind::No, anyhow!("there is no kiln.lock")).with_hint("kiln lock writes it");
    factory.lock()?.ok_or_else(missing)
}
