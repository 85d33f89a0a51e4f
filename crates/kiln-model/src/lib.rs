//! The nouns everybody in Kiln shares, parsed and validated from text.
//!
//! - [`digest`]: SHA-256, the only name Kiln has for bytes.
//! - [`diagnostic`]: a mistake in a text that a person wrote: file, line, column, the line itself, a hint.
//! - [`units`]: durations and sizes as people write them.
//! - [`event`]: recorded facts; bars, plain lines and JSON lines are readers of them.
//! - [`spec`]: `kiln.toml`, what is asked for.
//! - [`lock`]: `kiln.lock`, the exact answer.
//!
//! Architecture invariant: this crate opens no file and knows no clock, environment, network or random source.

pub mod diagnostic;
pub mod digest;
pub mod event;
pub mod lock;
pub mod spec;
pub mod units;
