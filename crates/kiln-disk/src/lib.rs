//! The tree as a value, and what is written from it.
//!
//! 1. A [`Layer`] is what one stage changed: new and changed files, and what is gone.
//! 2. [`Tree::of`] lays layers over each other, as the kernel's overlayfs would.
//! 3. [`tar::write`] and [`tar::write_layer`] write a tree or one layer as an archive.
//! 4. [`erofs`] writes a tree as the read-only file system that an image's root is, and reads it back.
//! 5. [`verity`] is the tree of hashes by which the kernel checks each block of that file system.
//!
//! Architecture invariant: this crate opens no file and knows no clock. Bytes come from readers that callers give.

pub mod erofs;
mod layer;
pub mod tar;
mod text;
mod tree;
pub mod verity;

pub use layer::{Change, Layer, Node, NodeKind, PathBytes};
pub use text::LayerError;
pub use tree::{Entry, Tree};
