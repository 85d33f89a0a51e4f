//! The tree as a value, and what is written from it.
//!
//! 1. A [`Layer`] is what one stage changed: new and changed files, and what is gone.
//! 2. [`Tree::of`] lays layers over each other, as the kernel's overlayfs would.
//! 3. [`tar::write`] and [`tar::write_layer`] write a tree or one layer as an archive.
//!
//! Architecture invariant: this crate opens no file and knows no clock. Bytes come from readers that callers give.

mod layer;
pub mod tar;
mod text;
mod tree;

pub use layer::{Change, Layer, Node, NodeKind, PathBytes};
pub use text::LayerError;
pub use tree::{Entry, Tree};
