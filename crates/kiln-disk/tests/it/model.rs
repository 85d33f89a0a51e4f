//! A naive model of what overlayfs does: directories within directories, merged one at a time. It shares no code with the
//! real one, which works on sorted paths.

use std::collections::BTreeMap;

use kiln_disk::{Change, Entry, Layer, Tree};
use proptest::prelude::*;

use crate::layer::{directory, file};

/// What one layer has under one name.
#[derive(Debug, Clone)]
pub(crate) enum Upper {
    Gone,
    /// A file with this number; files of one layer with equal numbers are one file with several names.
    File(u8),
    Directory {
        opaque: bool,
        mode: u32,
        children: BTreeMap<String, Self>,
    },
}

/// What a tree has under one name.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    File { layer: usize, number: u8 },
    Directory { mode: u32, children: BTreeMap<String, Self> },
}

/// What is seen when `upper` of this layer lies over `lower`.
fn merge(lower: Option<&Seen>, upper: &Upper, layer: usize) -> Option<Seen> {
    match upper {
        Upper::Gone => None,
        Upper::File(number) => Some(Seen::File { layer, number: *number }),
        Upper::Directory { opaque, mode, children } => {
            let mut merged = match lower {
                Some(Seen::Directory { children, .. }) if !opaque => children.clone(),
                _ => BTreeMap::new(),
            };
            for (name, child) in children {
                match merge(merged.get(name), child, layer) {
                    Some(seen) => drop(merged.insert(name.clone(), seen)),
                    None => drop(merged.remove(name)),
                }
            }
            Some(Seen::Directory { mode: *mode, children: merged })
        }
    }
}

/// What is seen of all layers, by path: a directory's mode, or a file's layer and number.
pub(crate) fn seen(layers: &[Upper]) -> BTreeMap<String, Result<u32, (usize, u8)>> {
    let empty = Seen::Directory { mode: 0o755, children: BTreeMap::new() };
    let lay = |lower: Seen, (number, upper): (usize, &Upper)| merge(Some(&lower), upper, number).unwrap();
    let mut paths = BTreeMap::new();
    list("", &layers.iter().enumerate().fold(empty, lay), &mut paths);
    paths
}

fn list(path: &str, seen: &Seen, paths: &mut BTreeMap<String, Result<u32, (usize, u8)>>) {
    match seen {
        Seen::File { layer, number } => drop(paths.insert(path.to_owned(), Err((*layer, *number)))),
        Seen::Directory { mode, children } => {
            paths.insert(path.to_owned(), Ok(*mode));
            for (name, child) in children {
                list(&below(path, name), child, paths);
            }
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The same of a real tree.
pub(crate) fn seen_in(tree: &Tree) -> BTreeMap<String, Result<u32, (usize, u8)>> {
    let mut numbers = BTreeMap::new();
    let mut paths = BTreeMap::new();
    for (path, entry) in tree.entries() {
        let path = String::from_utf8(path.to_vec()).unwrap();
        let what = match entry {
            Entry::Node { node, .. } if node.is_directory() => Ok(node.mode),
            Entry::Node { node, layer } => Err((*layer, u8::try_from(node.size_bytes()).unwrap())),
            Entry::HardLink { to } => numbers[to],
        };
        numbers.insert(path.clone().into_bytes(), what);
        paths.insert(path, what);
    }
    paths
}

/// Groups of names of one file, in a real tree.
pub(crate) fn groups_in(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for (path, entry) in tree.entries() {
        let path = String::from_utf8(path.to_vec()).unwrap();
        let first = match entry {
            Entry::Node { node, .. } if node.is_directory() => continue,
            Entry::Node { .. } => path.clone(),
            Entry::HardLink { to } => String::from_utf8(to.clone()).unwrap(),
        };
        groups.entry(first).or_default().push(path);
    }
    groups
}

/// The layer as Kiln has it.
pub(crate) fn layer_of(upper: &Upper) -> Layer {
    let mut paths = BTreeMap::new();
    flatten("", upper, &mut paths);
    let mut first_names: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let changes = paths.into_iter().map(|(path, upper)| {
        let change = match upper {
            Upper::Gone => Change::Gone,
            Upper::Directory { opaque, mode, .. } => {
                let node = kiln_disk::Node { mode: *mode, ..directory() };
                if *opaque { Change::Opaque(node) } else { Change::Node(node) }
            }
            Upper::File(number) => match first_names.get(number) {
                Some(to) => Change::HardLink { to: to.clone() },
                None => {
                    first_names.insert(*number, path.clone());
                    Change::Node(file(&"x".repeat((*number).into())))
                }
            },
        };
        (path, change)
    });
    Layer { changes: changes.collect() }
}

fn flatten<'a>(path: &str, upper: &'a Upper, paths: &mut BTreeMap<Vec<u8>, &'a Upper>) {
    paths.insert(path.as_bytes().to_vec(), upper);
    if let Upper::Directory { children, .. } = upper {
        for (name, child) in children {
            flatten(&below(path, name), child, paths);
        }
    }
}

/// Any layer. Few names, so that layers meet; some sort before and some after the slash.
pub(crate) fn any_layer() -> impl Strategy<Value = Upper> {
    let leaf = prop_oneof![Just(Upper::Gone), (0..6_u8).prop_map(Upper::File)];
    let below = leaf.prop_recursive(3, 24, 5, |inner| {
        let name = prop::sample::select(vec!["a", "a-", "a0", "b", "ü"]);
        let children = prop::collection::btree_map(name.prop_map(str::to_owned), inner, 0..5);
        let mode = prop::sample::select(vec![0o755, 0o700, 0o1777]);
        (prop::bool::weighted(0.2), mode, children).prop_map(|(opaque, mode, children)| Upper::Directory {
            opaque,
            mode,
            children,
        })
    });
    below.prop_map(|upper| match upper {
        Upper::Directory { .. } => upper,
        other => Upper::Directory { opaque: false, mode: 0o755, children: [("a".to_owned(), other)].into() },
    })
}
