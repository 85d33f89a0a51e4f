//! The real tools that Kiln is compared with, brought by Kiln itself.
//!
//! 1. [`Workshop`] locks and fetches their packages, and the indexes to choose from, like those of any class.
//! 2. [`Tree`] is a class unpacked by the host's `dpkg-deb`; its programs run through its own dynamic linker, so that
//!    neither root nor a namespace is needed, and the host's own libraries have no part in it.
//! 3. [`Apt`] is a suite's own apt on a root of its own, in which nothing is installed; [`Dose`] judges selections.
//! 4. [`Mmdebstrap`] makes whole trees, in a sandbox whose root directory is its own unpacked tree, from a repository of
//!    exactly the locked packages ([`Stanzas`]).
//!
//! Nothing of the host's apt is read but the address of its mirror.

mod apt;
mod dose;
mod mmdebstrap;
mod repository;
mod tree;
mod workshop;

pub(crate) use apt::{Answer, Apt, List, Package};
pub(crate) use dose::Dose;
pub(crate) use mmdebstrap::{Format, Mmdebstrap, Order, PACKAGES as MMDEBSTRAP_PACKAGES};
pub(crate) use repository::Stanzas;
pub(crate) use tree::Tree;
pub(crate) use workshop::{Network, Workshop};

use anyhow::{Context as _, bail};
use std::process::{Command, Output};

/// Runs a program to its end, whatever the end is.
fn output(command: &mut Command) -> anyhow::Result<Output> {
    let program = command.get_program().to_owned();
    command.output().with_context(|| format!("run {}", program.display()))
}

/// Runs a program that must succeed, and takes what it printed.
pub(crate) fn printed(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", program.display(), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {} printed", program.display()))
}
