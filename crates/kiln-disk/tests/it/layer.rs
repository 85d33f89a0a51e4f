//! Nodes and layers in one line each, for tests.

use std::collections::BTreeMap;

use kiln_disk::{Change, Layer, Node, NodeKind};
use kiln_model::digest::Sha256;

pub(crate) fn node(kind: NodeKind, mode: u32) -> Node {
    Node { kind, mode, uid: 0, gid: 0, modified: 1_700_000_000, attributes: BTreeMap::new() }
}

pub(crate) fn directory() -> Node {
    node(NodeKind::Directory, 0o755)
}

pub(crate) fn file(content: &str) -> Node {
    let kind = NodeKind::File { size_bytes: content.len() as u64, sha256: Sha256::of(content.as_bytes()) };
    node(kind, 0o644)
}

pub(crate) fn symlink(target: &[u8]) -> Node {
    node(NodeKind::Symlink { target: target.to_vec() }, 0o777)
}

/// A layer with a root directory and these changes.
pub(crate) fn layer<P: AsRef<[u8]>>(changes: impl IntoIterator<Item = (P, Change)>) -> Layer {
    let changes = changes.into_iter().map(|(path, change)| (path.as_ref().to_vec(), change));
    Layer { changes: [(Vec::new(), Change::Node(directory()))].into_iter().chain(changes).collect() }
}

pub(crate) fn link(to: &str) -> Change {
    Change::HardLink { to: to.as_bytes().to_vec() }
}
