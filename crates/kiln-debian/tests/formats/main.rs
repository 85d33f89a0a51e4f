//! The formats of this crate, judged by the tools whose formats they are: gpgv, dpkg, dpkg-deb and apt.
//!
//! They are part of every Debian but gpgv, which `make test` asks for; a test that does not find its tool fails and
//! says so.

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod deb;
mod forge;
mod openpgp;
mod sources;
mod version;

use std::process::{Command, Output};

/// Runs a tool of the host to its end, in the C locale.
fn run(command: &mut Command) -> Output {
    let output = command.env("LC_ALL", "C").env("TZ", "UTC").output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install gpgv dpkg apt"))
}
