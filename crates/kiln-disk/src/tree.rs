//! A tree as a value: layers laid over each other.

use std::collections::{BTreeMap, BTreeSet};

use kiln_model::digest::Sha256;

use crate::layer::{Change, Layer, Node, NodeKind, PathBytes, parent};
use crate::text;

const TREE_HEADER: &str = "kiln tree 1\n";

/// A whole root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<PathBytes, Entry>,
}

/// What a tree has at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file of any kind, by its first name in the order of bytes.
    Node {
        /// What it is.
        node: Node,
        /// Which layer, counted from the bottom, has its bytes: at the same path.
        layer: usize,
    },
    /// One more name of a file.
    HardLink {
        /// That file's first name, where its [`Node`] is.
        to: PathBytes,
    },
}

/// What is seen at one path while layers are laid over each other.
#[derive(Clone, Copy)]
struct Seen<'a> {
    node: &'a Node,
    layer: usize,
    /// The first name that the file has in its layer.
    first: &'a [u8],
}

impl Tree {
    /// Lays layers, from bottom to top, over each other as overlayfs does. A tree that has no root directory of its own has
    /// one like that of any Debian system.
    ///
    /// Entries that break the rules of a layer (see [`Layer::parse`]) are not in the tree.
    #[must_use]
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a Layer>) -> Self {
        let root =
            Node { kind: NodeKind::Directory, mode: 0o755, uid: 0, gid: 0, modified: 0, attributes: BTreeMap::new() };
        let mut seen = BTreeMap::from([(&b""[..], Seen { node: &root, layer: 0, first: b"" })]);
        for (number, layer) in layers.into_iter().enumerate() {
            for (path, change) in &layer.changes {
                apply(&mut seen, number, layer, path, change);
            }
        }
        Self { entries: with_links(&seen) }
    }

    /// Everything in it, in the order of the bytes of the paths: directories come before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_slice(), entry))
    }

    /// What is at a path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The file at a path, by whichever of its names. Symbolic links are not followed.
    #[must_use]
    pub fn node(&self, path: &[u8]) -> Option<&Node> {
        match self.entries.get(path)? {
            Entry::Node { node, .. } => Some(node),
            Entry::HardLink { to } => match self.entries.get(to)? {
                Entry::Node { node, .. } => Some(node),
                Entry::HardLink { .. } => None,
            },
        }
    }

    /// The same tree with no time of modification after `epoch`, in seconds since 1970.
    #[must_use]
    pub fn clamped(mut self, epoch: i64) -> Self {
        for entry in self.entries.values_mut() {
            if let Entry::Node { node, .. } = entry {
                node.modified = node.modified.min(epoch);
            }
        }
        self
    }

    /// The digest of all that a person or program could see in it: paths, kinds, modes, owners, times of modification,
    /// contents, links of both kinds, extended attributes. Not the layers that it is made of.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.to_text().as_bytes())
    }

    /// The tree as text, whose form is that of a layer (see the crate's `text` module); [`Tree::digest`] is its digest.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = TREE_HEADER.to_owned();
        for (path, entry) in &self.entries {
            match entry {
                Entry::Node { node, .. } => text::write_node(&mut text, text::letter(&node.kind), path, node),
                Entry::HardLink { to } => text::write_link(&mut text, path, to),
            }
            text.push('\n');
        }
        text
    }

    /// How many paths it has, its root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing but the root directory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() <= 1
    }

    /// Bytes of content of all regular files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let nodes = self.entries.values().filter_map(|entry| match entry {
            Entry::Node { node, .. } => Some(node.size_bytes()),
            Entry::HardLink { .. } => None,
        });
        nodes.sum()
    }
}

/// Lays one change over what is seen so far.
fn apply<'a>(
    seen: &mut BTreeMap<&'a [u8], Seen<'a>>,
    layer_number: usize,
    layer: &'a Layer,
    path: &'a [u8],
    change: &'a Change,
) {
    let first: &[u8] = if let Change::HardLink { to } = change { to } else { path };
    let is_placed = parent(path).is_none_or(|parent| seen.get(parent).is_some_and(|seen| seen.node.is_directory()));
    match layer.node(path) {
        Some(node) if is_placed => {
            let is_merged = node.is_directory() && !matches!(change, Change::Opaque(_));
            if !is_merged {
                remove_contents(seen, path);
            }
            seen.insert(path, Seen { node, layer: layer_number, first });
        }
        Some(_) => {}
        None => {
            remove_contents(seen, path);
            seen.remove(path);
        }
    }
}

/// Removes everything below a path.
fn remove_contents(seen: &mut BTreeMap<&[u8], Seen<'_>>, path: &[u8]) {
    if !seen.get(path).is_some_and(|seen| seen.node.is_directory()) {
        return;
    }
    let mut first = path.to_vec();
    // Of all names that are not empty, the first in the order of bytes.
    first.push(if path.is_empty() { 0 } else { b'/' });
    let below = seen.range(first.as_slice()..).map(|(path, _)| *path);
    let below: Vec<&[u8]> = below.take_while(|below| path.is_empty() || below.starts_with(&first)).collect();
    for path in below {
        seen.remove(path);
    }
}

/// What is seen in the end, with the names that a file still has tied together.
fn with_links(seen: &BTreeMap<&[u8], Seen<'_>>) -> BTreeMap<PathBytes, Entry> {
    let others = seen.iter().filter(|(path, seen)| **path != seen.first).map(|(_, seen)| (seen.layer, seen.first));
    let linked: BTreeSet<(usize, &[u8])> = others.collect();
    let mut names: BTreeMap<(usize, &[u8]), &[u8]> = BTreeMap::new();
    let entries = seen.iter().map(|(path, Seen { node, layer, first })| {
        let file = (*layer, *first);
        let name = if linked.contains(&file) { *names.entry(file).or_insert(path) } else { path };
        let entry = if name == *path {
            Entry::Node { node: (*node).clone(), layer: *layer }
        } else {
            Entry::HardLink { to: name.to_vec() }
        };
        (path.to_vec(), entry)
    });
    entries.collect()
}
