//! Layers over each other.

use std::collections::{BTreeMap, BTreeSet};

use kiln_disk::{Change, Entry, Layer, Tree};
use proptest::prelude::*;

use crate::layer::{directory, file, layer, link};
use crate::model::{any_layer, groups_in, layer_of, seen, seen_in};

/// The tree as one layer.
fn flat(tree: &Tree) -> Layer {
    let change = |entry: &Entry| match entry {
        Entry::Node { node, .. } => Change::Node(node.clone()),
        Entry::HardLink { to } => Change::HardLink { to: to.clone() },
    };
    Layer { changes: tree.entries().map(|(path, entry)| (path.to_vec(), change(entry))).collect() }
}

/// The paths of a layer that are chosen, with their directories and the other names of their files.
fn part(layer: &Layer, is_chosen: impl Fn(&[u8]) -> bool) -> Layer {
    let first = |path: &[u8]| match &layer.changes[path] {
        Change::HardLink { to } => to.clone(),
        _ => path.to_vec(),
    };
    let mut kept: BTreeSet<Vec<u8>> = BTreeSet::from([Vec::new()]);
    for path in layer.changes.keys().filter(|path| is_chosen(&first(path))) {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| slash);
        kept.extend(slashes.chain([path.len()]).map(|end| path[..end].to_vec()));
    }
    Layer { changes: kept.into_iter().map(|path| (path.clone(), layer.changes[&path].clone())).collect() }
}

proptest! {
    #[test]
    fn layers_lie_over_each_other_as_the_model_says(uppers in prop::collection::vec(any_layer(), 0..5)) {
        let layers: Vec<Layer> = uppers.iter().map(layer_of).collect();
        let tree = Tree::of(&layers);
        let expected = seen(&uppers);
        prop_assert_eq!(&seen_in(&tree), &expected);
        let mut groups = BTreeMap::<(usize, u8), Vec<String>>::new();
        for (path, what) in expected {
            if let Err(file) = what {
                groups.entry(file).or_default().push(path);
            }
        }
        let expected: BTreeMap<String, Vec<String>> = groups.into_values().map(|names| (names[0].clone(), names)).collect();
        prop_assert_eq!(groups_in(&tree), expected);
    }

    #[test]
    fn one_tree_has_one_digest_however_it_is_split(
        uppers in prop::collection::vec(any_layer(), 1..4),
        below in any_layer(),
        chosen in any::<u64>(),
    ) {
        let layers: Vec<Layer> = uppers.iter().map(layer_of).collect();
        let tree = Tree::of(&layers);
        let whole = flat(&tree);
        prop_assert_eq!(Tree::of([&whole]).digest(), tree.digest());
        let is_chosen = |path: &[u8]| chosen >> (path.iter().map(|byte| u32::from(*byte)).sum::<u32>() % 64) & 1 == 1;
        let (one, other) = (part(&whole, is_chosen), part(&whole, |path| !is_chosen(path)));
        prop_assert_eq!(Tree::of([&one, &other]).digest(), tree.digest());
        let mut opaque = whole.clone();
        opaque.changes.insert(Vec::new(), Change::Opaque(whole.node(b"").unwrap().clone()));
        prop_assert_eq!(Tree::of([&layer_of(&below), &opaque]).digest(), tree.digest());
    }

    #[test]
    fn a_layer_reads_back_from_its_text(upper in any_layer()) {
        let layer = layer_of(&upper);
        prop_assert_eq!(Layer::parse(&layer.to_text()).unwrap(), layer);
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(lines in "(kiln layer 1\n)?([dfolcbpsh-] [0-7]{1,5} 0 0 -?[0-9]{0,3} /?[a./\\\\x0]{0,6}( [^ ]{0,9}){0,3}\n?){0,4}") {
        if let Ok(layer) = Layer::parse(&lines) {
            prop_assert_eq!(Layer::parse(&layer.to_text()).unwrap(), layer);
        }
    }
}

#[test]
fn a_file_whose_first_name_is_hidden_keeps_the_others() {
    let below = layer([("a", Change::Node(file("a"))), ("b", link("a")), ("c", link("a"))]);
    let above = layer([("a", Change::Node(file("other")))]);
    let tree = Tree::of([&below, &above]);
    assert_eq!(
        groups_in(&tree),
        [("a", vec!["a"]), ("b", vec!["b", "c"])]
            .map(|(first, names)| { (first.to_owned(), names.into_iter().map(str::to_owned).collect()) })
            .into()
    );
    assert_eq!(tree.node(b"c").unwrap(), &file("a"));
}

#[test]
fn equal_files_of_two_layers_are_two_files() {
    let one = layer([("a", Change::Node(file("a")))]);
    let other = layer([("b", Change::Node(file("a")))]);
    assert!(tree_has_no_links(&Tree::of([&one, &other])));
    assert_ne!(
        Tree::of([&one, &other]).digest(),
        Tree::of([&layer([("a", Change::Node(file("a"))), ("b", link("a"))])]).digest()
    );
}

fn tree_has_no_links(tree: &Tree) -> bool {
    tree.entries().all(|(_, entry)| matches!(entry, Entry::Node { .. }))
}

#[test]
fn the_digest_sees_everything_but_layers_and_what_is_later_than_the_epoch() {
    let with = |change: fn(&mut kiln_disk::Node)| {
        let mut node = file("content");
        change(&mut node);
        Tree::of([&layer([("a", Change::Node(node))])]).clamped(1_700_000_000).digest()
    };
    let plain = with(|_| ());
    assert_eq!(with(|node| node.modified += 5), plain);
    let changes: [fn(&mut kiln_disk::Node); 6] = [
        |node| node.modified -= 1,
        |node| node.mode = 0o4644,
        |node| node.uid = 1,
        |node| node.gid = 1,
        |node| drop(node.attributes.insert(b"user.a".to_vec(), Vec::new())),
        |node| node.kind = file("CONTENT").kind,
    ];
    for change in changes {
        assert_ne!(with(change), plain);
    }
}

#[test]
fn the_text_of_a_layer() {
    let capability = (b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 0x20]);
    let ping = kiln_disk::Node { mode: 0o4755, gid: 44, attributes: [capability].into(), ..file("ping") };
    let layer = layer([
        ("bin", Change::Opaque(directory())),
        ("bin/ping", Change::Node(ping)),
        ("bin/ping4", link("bin/ping")),
        ("gone", Change::Gone),
        ("line\nend \\ ü", Change::Node(crate::layer::symlink(b"to \xff"))),
    ]);
    insta::assert_snapshot!(layer.to_text(), @r"
    kiln layer 1
    d 755 0 0 1700000000 /
    o 755 0 0 1700000000 /bin
    f 4755 0 44 1700000000 /bin/ping 4 758d61f26a44448384e5c4468a0dcb7a2abe456067b0f7b505bc28b9411fe931 security.capability=010000020020
    h /bin/ping4 /bin/ping
    - /gone
    l 777 0 0 1700000000 /line\x0aend\x20\x5c\x20\xc3\xbc to\x20\xff
    ");
    assert_eq!(Layer::parse(&layer.to_text()).unwrap(), layer);
    assert_eq!(Tree::of([&layer]).to_text().lines().count(), 6, "a header, and all but what is gone");
}

fn check_refused(lines: &str, expected: &str) {
    let text = format!("kiln layer 1\nd 755 0 0 0 /\n{lines}");
    assert_eq!(Layer::parse(&text).unwrap_err().to_string(), format!("read a layer: {expected}"), "{lines}");
}

#[test]
fn what_no_directory_could_hold_is_refused() {
    check_refused("d 755 0 0 0 /a/b\n", "line 3: its directory is not in the layer");
    check_refused("p 755 0 0 0 /a\np 755 0 0 0 /a/b\n", "line 4: it is not in a directory");
    check_refused("p 755 0 0 0 /b\np 755 0 0 0 /a\n", "line 4: not in order");
    check_refused("p 755 0 0 0 /a\np 755 0 0 0 /a\n", "line 4: not in order");
    check_refused("d 755 0 0 0 /..\n", "line 3: a path that leads elsewhere");
    check_refused("d 755 0 0 0 //a\n", "line 3: a path that leads elsewhere");
    check_refused("d 755 0 0 0 /a\\x00\n", "line 3: a path that leads elsewhere");
    check_refused("d 755 0 0 0 a\n", "line 3: not a path");
    check_refused("d 755 0 0 0 /a\\y\n", "line 3: not an escape");
    check_refused("d 10000 0 0 0 /a\n", "line 3: not a mode");
    check_refused("d 755 0 -1 0 /a\n", "line 3: not a number");
    check_refused("f 755 0 0 0 /a 1 abc\n", "line 3: not a digest");
    check_refused("x 755 0 0 0 /a\n", "line 3: not a kind of file");
    check_refused("d 755 0 0 0 /a b\n", "line 3: not an attribute");
    check_refused("d 755 0 0 0 /a b=1\n", "line 3: not hexadecimal");
    check_refused("d 755 0 0\n", "line 3: too short");
    check_refused("- /a b\n", "line 3: too long");
    check_refused("h /a /b\np 755 0 0 0 /b\n", "line 3: not a name of a file before it");
    check_refused("d 755 0 0 0 /a\nh /b /a\n", "line 4: not a name of a file before it");
    assert_eq!(
        Layer::parse("kiln layer 1\n- /\n").unwrap_err().to_string(),
        "read a layer: line 2: the root is no directory"
    );
    assert!(Layer::parse("kiln layer 2\n").is_err());
    assert_eq!(Layer::parse("kiln layer 1\n").unwrap(), Layer::default());
}
