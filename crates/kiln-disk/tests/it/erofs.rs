//! Images: what is read back is what went in.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use kiln_disk::erofs::{BLOCK_BYTES, Check, Image, Layout, WriteError};
use kiln_disk::tar::Content;
use kiln_disk::{Change, Layer, Node, NodeKind, Tree};
use kiln_model::digest::Sha256;
use proptest::prelude::*;

use crate::layer::{directory, link, node, symlink};

/// A tree, and the contents of its files by path.
#[derive(Debug, Clone, Default)]
struct Sample {
    layer: Layer,
    contents: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Sample {
    fn of(changes: impl IntoIterator<Item = (&'static str, Change)>) -> Self {
        let mut sample = Self::default();
        for (path, change) in changes {
            sample.layer.changes.insert(path.as_bytes().to_vec(), change);
        }
        sample
    }

    /// Adds a file of so many bytes, none of which are like those of another size.
    fn with_file(mut self, path: &[u8], size_bytes: usize) -> Self {
        let content: Vec<u8> =
            (0..size_bytes).map(|index| u8::try_from(index % 251 + size_bytes % 5).unwrap()).collect();
        self.layer.changes.insert(path.to_vec(), Change::Node(file_of(&content)));
        self.contents.insert(path.to_vec(), content);
        self
    }

    fn with_attributes(mut self, path: &[u8], attributes: &[(&[u8], Vec<u8>)]) -> Self {
        let attributes = attributes.iter().map(|(name, value)| (name.to_vec(), value.clone())).collect();
        self.layer.changes.insert(path.to_vec(), Change::Node(Node { attributes, ..directory() }));
        self
    }

    fn tree(&self) -> Tree {
        Tree::of([&self.layer])
    }

    fn open(&self, content: Content<'_>) -> std::io::Result<Cursor<Vec<u8>>> {
        Ok(Cursor::new(self.contents.get(content.path).cloned().unwrap_or_default()))
    }

    fn image(&self) -> Vec<u8> {
        self.grouped(|_| 0_u8)
    }

    fn grouped<G: Ord>(&self, group: impl FnMut(&[u8]) -> G) -> Vec<u8> {
        let tree = self.tree();
        let layout = Layout::measure(&tree, group).unwrap();
        let mut image = Vec::new();
        layout.write(Check::Digest, |content| self.open(content), &mut image).unwrap();
        assert_eq!(image.len() as u64, layout.size_bytes());
        image
    }

    /// Why there is no image of it.
    fn refusal(&self) -> String {
        Layout::measure(&self.tree(), |_| 0_u8).unwrap_err().to_string()
    }
}

fn file_of(content: &[u8]) -> Node {
    node(NodeKind::File { size_bytes: content.len() as u64, sha256: Sha256::of(content) }, 0o644)
}

fn read_back(image: &[u8]) -> Tree {
    Image::open(Cursor::new(image)).unwrap().tree().unwrap()
}

#[track_caller]
fn check_reads_back(sample: &Sample) {
    assert_eq!(read_back(&sample.image()).to_text(), sample.tree().to_text());
}

/// Every kind of file, times, owners, links.
fn everything() -> Sample {
    let far = Node { modified: i64::MAX, uid: u32::MAX, gid: 1 << 16, ..file_of(b"") };
    let mut sample = Sample::of([
        ("", Change::Node(Node { mode: 0o1777, ..directory() })),
        ("dev", Change::Node(directory())),
        ("dev/null", Change::Node(node(NodeKind::CharacterDevice { major: 1, minor: 3 }, 0o666))),
        ("dev/disk", Change::Node(node(NodeKind::BlockDevice { major: 4095, minor: 1_048_575 }, 0o660))),
        ("dev/pipe", Change::Node(node(NodeKind::Fifo, 0o600))),
        ("dev/socket", Change::Node(node(NodeKind::Socket, 0o755))),
        ("far", Change::Node(far)),
        ("old", Change::Node(Node { modified: -5, mode: 0o4755, ..file_of(b"") })),
        ("link", Change::Node(symlink(b"usr/bin"))),
        ("long", Change::Node(symlink(&[b't'; 4095]))),
        ("middle", Change::Node(symlink(&[b't'; 2500]))),
        ("!before", Change::Node(directory())),
        ("...", Change::Node(directory())),
        ("0", link("-first")),
        ("dev/one more", link("-first")),
    ]);
    let list = vec![2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255];
    sample = sample.with_attributes(b"lists", &[(b"system.posix_acl_default", list)]);
    sample.with_file(b"-first", 5000)
}

#[test]
fn every_kind_of_file_reads_back() {
    check_reads_back(&everything());
}

#[test]
fn contents_of_all_sizes_read_back() {
    let sizes = [1, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 8191, 8192, 1_048_575, 1_048_576, 1_050_000, 3_000_000];
    let name = |size: usize| format!("file-{size}").into_bytes();
    let sample = sizes.iter().fold(Sample::default(), |sample, size| sample.with_file(&name(*size), *size));
    check_reads_back(&sample);
    let image = sample.image();
    let mut image = Image::open(Cursor::new(image.as_slice())).unwrap();
    for size in sizes {
        let mut content = Vec::new();
        image.content(&name(size)).unwrap().read_to_end(&mut content).unwrap();
        assert!(content == sample.contents[&name(size)], "{size}");
    }
    assert!(image.content(b"").is_err() && image.content(b"other").is_err());
}

#[test]
fn attributes_at_the_limit_read_back_and_larger_ones_are_refused() {
    let large = |bytes| vec![(&b"user.large"[..], vec![7; bytes])];
    check_reads_back(&Sample::default().with_attributes(b"d", &large(65_535)));
    let refusal = Sample::default().with_attributes(b"d", &large(65_536)).refusal();
    assert_eq!(refusal, "put /d into an image: an extended attribute has more than 65,535 bytes");
    let names: Vec<Vec<u8>> = (0..300).map(|number| format!("trusted.n{number:0244}").into_bytes()).collect();
    let many: Vec<(&[u8], Vec<u8>)> = names.iter().map(|name| (name.as_slice(), name.clone())).collect();
    // Shared by two, and beyond 255 of them in each inode.
    check_reads_back(&Sample::default().with_attributes(b"d", &many).with_attributes(b"e", &many));
    let huge: Vec<(&[u8], Vec<u8>)> = names.iter().map(|name| (name.as_slice(), vec![1; 65_535])).collect();
    let refusal = Sample::default().with_attributes(b"d", &huge).refusal();
    assert_eq!(refusal, "put /d into an image: its extended attributes are too large together");
}

#[test]
fn what_nobody_could_read_is_refused() {
    let deep = |levels: usize| {
        let paths = (1..=levels).map(|level| vec![vec![b'n'; 255]; level].join(&b'/'));
        let changes = paths.map(|path| (path, Change::Node(directory()))).collect();
        Sample { layer: Layer { changes }, ..Sample::default() }
    };
    check_reads_back(&deep(16));
    assert!(deep(17).refusal().ends_with("its path has more than 4095 bytes"), "{}", deep(17).refusal());
    let refused = |path: &str, change| {
        let mut sample = Sample::default();
        sample.layer.changes.insert(path.as_bytes().to_vec(), change);
        sample.refusal()
    };
    let device = |major, minor| Change::Node(node(NodeKind::CharacterDevice { major, minor }, 0o666));
    insta::assert_snapshot!(
        [
            refused("..", Change::Node(directory())),
            refused("a\0b", Change::Node(directory())),
            refused(&"n".repeat(256), Change::Node(directory())).split(": ").last().unwrap().to_owned(),
            refused("device", device(4096, 0)),
            refused("device", device(0, 1 << 20)),
            refused("link", Change::Node(symlink(b""))),
            refused("link", Change::Node(symlink(&[b't'; 4096]))),
            Sample::default().with_attributes(b"d", &[(b"system.other", vec![])]).refusal(),
            Sample::default().with_attributes(b"d", &[(b"user.", vec![])]).refusal(),
        ]
        .join("\n"), @r"
    put /.. into an image: that is no name of a file
    put /a\x00b into an image: that is no name of a file
    its name has more than 255 bytes
    put /device into an image: Linux has no device of such a number
    put /device into an image: Linux has no device of such a number
    put /link into an image: a symbolic link points to between 1 and 4095 bytes that are not zero
    put /link into an image: a symbolic link points to between 1 and 4095 bytes that are not zero
    put /d into an image: an extended attribute has a name that EROFS does not know
    put /d into an image: an extended attribute has a name that EROFS does not know
    ");
}

#[test]
fn large_directories_read_back() {
    let mut sample = Sample::default();
    for number in 0..20_000 {
        let path = format!("{}{number}", "n".repeat(number % 240));
        sample.layer.changes.insert(path.into_bytes(), Change::Node(directory()));
    }
    check_reads_back(&sample);
}

#[test]
fn a_hundred_thousand_files_read_back() {
    let mut sample = Sample::default();
    for number in 0..100_000_usize {
        let path = format!("{}/{number}", number % 300).into_bytes();
        sample.layer.changes.entry((number % 300).to_string().into_bytes()).or_insert(Change::Node(directory()));
        sample.layer.changes.insert(path, Change::Node(node(NodeKind::Fifo, 0o600)));
    }
    check_reads_back(&sample);
}

#[test]
fn content_that_changed_is_noticed() {
    let sample = Sample::default().with_file(b"small", 10).with_file(b"large", 9000);
    let check = |path: &str, content: Vec<u8>, check| {
        let mut changed = sample.clone();
        changed.contents.insert(path.as_bytes().to_vec(), content);
        let tree = sample.tree();
        let layout = Layout::measure(&tree, |_| 0_u8).unwrap();
        match layout.write(check, |content| changed.open(content), std::io::sink()) {
            Err(WriteError::Changed { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{path}: {other:?}"),
        }
    };
    for (path, size) in [("small", 10), ("large", 9000)] {
        check(path, vec![0; size], Check::Digest);
        check(path, vec![0; size - 1], Check::Size);
        check(path, vec![0; size + 1], Check::Size);
        check(path, vec![], Check::Size);
    }
}

#[test]
fn a_group_that_changes_a_little_moves_no_other() {
    let packages = |changed: usize| {
        let sizes = [(b"a/one", 400_000), (b"b/two", 300_000 + changed), (b"c/few", 200_000), (b"d/end", 5000)];
        let directories = ["a", "b", "c", "d"].map(|name| (name, Change::Node(directory())));
        sizes.iter().fold(Sample::of(directories), |sample, (path, size)| sample.with_file(*path, *size))
    };
    let group = |path: &[u8]| path.first().copied();
    let (old, new) = (packages(0), packages(4000));
    let (old_tree, new_tree) = (old.tree(), new.tree());
    let places = |tree| {
        let layout = Layout::measure(tree, group).unwrap();
        let places: Vec<_> =
            layout.extents().map(|extent| (extent.content.path.to_vec(), extent.first_block)).collect();
        places
    };
    assert_eq!(places(&old_tree), places(&new_tree));
    let (old, new) = (old.grouped(group), new.grouped(group));
    assert_eq!(old.len(), new.len());
    let differing = old.chunks(BLOCK_BYTES).zip(new.chunks(BLOCK_BYTES)).filter(|(old, new)| old != new).count();
    // The file itself, the superblock, the one block of inodes that has it.
    assert!(differing <= 300_000_usize.div_ceil(BLOCK_BYTES) + 3, "{differing}");
}

#[test]
fn the_order_of_groups_is_the_order_of_contents() {
    let sample = Sample::default().with_file(b"a", 5000).with_file(b"b", 5000).with_file(b"c", 5000);
    let tree = sample.tree();
    let layout = Layout::measure(&tree, |path| path != b"b").unwrap();
    let order: Vec<_> = layout.extents().map(|extent| extent.content.path).collect();
    assert_eq!(order, [b"b", b"a", b"c"]);
    assert_eq!(read_back(&sample.grouped(|path| path != b"b")).to_text(), tree.to_text());
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'a'), 1 => 1_u8..=255].prop_filter("a slash", |byte| *byte != b'/');
    let length = prop_oneof![8 => 1..4_usize, 1 => 250..=255_usize];
    let name = length.prop_flat_map(move |length| prop::collection::vec(byte.clone(), length));
    name.prop_filter("no name", |name| name != b"." && name != b"..")
}

fn kind() -> impl Strategy<Value = NodeKind> {
    let size = prop_oneof![0..20_usize, 2040..2060_usize, 4090..4100_usize, 0..20_000_usize];
    prop_oneof![
        3 => Just(NodeKind::Directory),
        4 => size.prop_map(|size| file_of(&vec![b'x'; size]).kind),
        1 => prop::collection::vec(1_u8..=255, 1..4095).prop_map(|target| NodeKind::Symlink { target }),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| NodeKind::BlockDevice { major, minor }),
        1 => Just(NodeKind::Fifo),
        1 => Just(NodeKind::Socket),
    ]
}

fn attributes() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let rest = prop::collection::vec(1_u8..=255, 1..6);
    let name = (prop::sample::select(vec!["user.", "trusted.", "security."]), rest)
        .prop_map(|(prefix, rest)| [prefix.as_bytes(), &rest].concat());
    let name = prop_oneof![Just(b"user.same".to_vec()), name];
    let value = prop_oneof![4 => Just(vec![1; 20]), 1 => prop::collection::vec(any::<u8>(), 0..3000)];
    prop_oneof![3 => Just(BTreeMap::new()), 1 => prop::collection::btree_map(name, value, 0..4)]
}

/// A file at a path whose missing directories come with it; a second name for it perhaps.
fn samples() -> impl Strategy<Value = Sample> {
    let owner = prop_oneof![Just(0), Just(65_535), Just(65_536), any::<u32>()];
    let time = prop_oneof![3 => Just(1_700_000_000_i64), 1 => any::<i64>()];
    let node = (kind(), 0..0o10_000_u32, owner.clone(), owner, time, attributes());
    let node = node.prop_map(|(kind, mode, uid, gid, modified, attributes)| Node {
        kind,
        mode,
        uid,
        gid,
        modified,
        attributes,
    });
    let entry = (prop::collection::vec(name(), 1..6), node, prop::option::of(name()));
    prop::collection::vec(entry, 0..40).prop_map(|entries| {
        let mut sample = Sample::default();
        for (names, node, second) in entries {
            add(&mut sample, &names, node, second);
        }
        sample
    })
}

fn add(sample: &mut Sample, names: &[Vec<u8>], node: Node, second: Option<Vec<u8>>) {
    let changes = &mut sample.layer.changes;
    for length in 1..names.len() {
        let parent = names[..length].join(&b'/');
        if !changes.entry(parent).or_insert(Change::Node(directory())).node().is_some_and(Node::is_directory) {
            return;
        }
    }
    let path = names.join(&b'/');
    if changes.contains_key(&path) {
        return;
    }
    if let NodeKind::File { size_bytes, .. } = node.kind {
        sample.contents.insert(path.clone(), vec![b'x'; usize::try_from(size_bytes).unwrap()]);
    }
    let is_directory = node.is_directory();
    changes.insert(path.clone(), Change::Node(node));
    // A second name in the root directory, if it comes after the first.
    if let Some(second) = second.filter(|second| !is_directory && *second > path && !changes.contains_key(second)) {
        changes.insert(second, Change::HardLink { to: path });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_goes_in_comes_out(sample in samples(), groups in 1_usize..5) {
        let image = sample.grouped(|path| path.len() % groups);
        prop_assert_eq!(&image, &sample.grouped(|path| path.len() % groups));
        prop_assert_eq!(read_back(&image).to_text(), sample.tree().to_text());
    }

    #[test]
    fn damage_is_an_error_or_another_tree(
        sample in samples(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
    ) {
        let mut image = sample.image();
        // Whole again as far as its checksum goes: what lies behind that check is to be reached.
        image[1032] = 0;
        for (place, byte) in damage {
            let place = place.index(image.len());
            image[place] = byte;
        }
        let _ = Image::open(Cursor::new(&image)).and_then(|mut image| image.tree());
        let mut image = sample.image();
        image.truncate(end.index(image.len()));
        prop_assert!(Image::open(Cursor::new(&image)).is_err());
    }
}
