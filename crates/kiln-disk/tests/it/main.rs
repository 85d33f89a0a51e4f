//! Layers and trees against a naive model, archives against other people's programs.

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod archive;
mod erofs;
mod layer;
mod model;
mod stack;
mod verity;
