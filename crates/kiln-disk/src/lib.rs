//! The tree as a value, and what is written from it.
//!
//! 1. A [`Layer`] is what one stage changed: new and changed files, and what is gone.
//! 2. [`Tree::of`] lays layers over each other, as the kernel's overlayfs would.
//!
//! Architecture invariant: this crate opens no file and knows no clock. Bytes come from readers that callers give.

mod tree;

pub use tree::{Change, Layer, Node, NodeKind, PathBytes};
