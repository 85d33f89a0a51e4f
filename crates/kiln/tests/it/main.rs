//! The `kiln` binary, driven as a person drives it, against the testkit's signed repository.
//!
//! One file a subject. Nothing here reaches a network but `real` and what uses it, from the host's own mirror.

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod build;
mod build_failures;
mod check;
mod choose;
mod cli;
mod damaged;
mod deterministic;
mod doctor;
mod export;
mod fetch;
mod fixture;
mod gc;
mod ids;
mod indexes;
mod init;
mod interrupted;
mod kept;
mod living;
mod lock;
mod mirrors;
mod pin;
mod real;
mod reproducible;
mod steps_programs;
mod update;
mod vanished;
