//! The directory: opening, adding, reading, damage.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_store::{Entry, Presence, Store, StoreError, Validators};

use crate::world::{World, noise};

fn damage(path: &Utf8Path, bytes: &[u8]) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Every regular file of the store, so that each can be damaged in turn.
fn only_file(directory: &Utf8Path) -> Utf8PathBuf {
    let mut path = directory.to_owned();
    while path.is_dir() {
        let mut entries = fs::read_dir(&path).unwrap();
        path = Utf8PathBuf::try_from(entries.next().unwrap().unwrap().path()).unwrap();
        assert!(entries.next().is_none(), "{path}");
    }
    path
}

fn check_refused(prepare: impl Fn(&Utf8Path), message: &str, has_hint: bool) {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap().join("store");
    prepare(&root);
    let error = Store::open(&root).unwrap_err();
    assert_eq!(error.to_string(), message.replace("ROOT", root.as_str()));
    assert_eq!(error.hint().is_some(), has_hint);
}

#[test]
fn new_store_is_private_and_opens_again() {
    let world = World::new();
    let mode = fs::metadata(world.store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let (digest, _) = world.store.insert(b"kept").unwrap();
    let again = Store::open(world.store.root()).unwrap();
    assert_eq!(again.read(&digest).unwrap(), b"kept");
}

#[test]
fn other_peoples_directories_are_refused() {
    check_refused(|root| fs::write(root, "").unwrap(), "open the store at ROOT: it is not a directory", true);
    check_refused(
        |root| {
            fs::create_dir(root).unwrap();
            fs::write(root.join("thesis.tex"), "").unwrap();
        },
        "open the store at ROOT: it holds `thesis.tex`, which is not a store's",
        true,
    );
    check_refused(
        |root| {
            fs::create_dir(root).unwrap();
            fs::write(root.join("layout"), "99\n").unwrap();
        },
        "open the store at ROOT: its layout is version `99`; this Kiln knows version 1",
        true,
    );
    check_refused(
        |root| {
            std::os::unix::fs::symlink("nowhere", root).unwrap();
        },
        "open the store at ROOT: it is not a directory",
        true,
    );
}

#[test]
fn root_below_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap().join("file/store");
    fs::write(directory.path().join("file"), "").unwrap();
    let error = Store::open(&root).unwrap_err();
    assert_eq!(error.to_string(), format!("use the store at {root}"));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("file"));
}

#[test]
fn existing_directory_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).unwrap();
    Store::open(root).unwrap();
    assert_eq!(fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn store_opens_while_others_open_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap().join("deep/store");
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let root = &root;
            scope.spawn(move || Store::open(root).unwrap().insert(&[number]).unwrap());
        }
    });
    assert_eq!(Store::open(&root).unwrap().entries().unwrap().len(), 8);
}

#[test]
fn leftovers_of_dead_writers_are_swept() {
    let world = World::new();
    fs::write(world.store.root().join("tmp/left"), "x").unwrap();
    Store::open(world.store.root()).unwrap();
    assert_eq!(world.left("tmp"), Vec::<String>::new());
}

#[test]
fn every_way_in_gives_the_same_entry() {
    let world = World::new();
    let bytes = noise(1, 700_000);
    let expected = (Sha256::of(&bytes), 700_000);
    fs::write(world.root().join("file"), &bytes).unwrap();
    assert_eq!(world.store.insert(&bytes).unwrap(), expected);
    assert_eq!(world.store.insert_reader(bytes.as_slice()).unwrap(), expected);
    assert_eq!(world.store.import(&world.root().join("file")).unwrap(), expected);
    assert_eq!(world.store.entries().unwrap(), [Entry { digest: expected.0, size_bytes: 700_000 }]);
    assert!(world.store.contains(&expected.0, 700_000) && !world.store.contains(&expected.0, 699_999));
    assert_eq!(fs::metadata(world.store.path(&expected.0)).unwrap().permissions().mode() & 0o777, 0o444);
    assert!(world.store.remove(&expected.0).unwrap() && !world.store.remove(&expected.0).unwrap());
    assert!(matches!(world.store.read(&expected.0), Err(StoreError::Absent { .. })));
    world.assert_no_junk();
}

impl World {
    fn assert_no_junk(&self) {
        assert_eq!(self.left("tmp"), Vec::<String>::new());
    }
}

#[test]
fn failing_reader_leaves_nothing() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the tape tore"))
        }
    }
    let world = World::new();
    let error = world.store.insert_reader(Broken).unwrap_err();
    assert!(matches!(error, StoreError::Input { .. }), "{error}");
    assert!(world.store.entries().unwrap().is_empty());
    world.assert_no_junk();
}

#[test]
fn corrupt_entry_is_quarantined_once_read() {
    let world = World::new();
    let (digest, _) = world.store.insert(b"good").unwrap();
    damage(&world.store.path(&digest), b"evil");
    let error = world.store.read(&digest).unwrap_err();
    let quarantined = world.store.root().join("quarantine").join(digest.to_string());
    assert_eq!(
        error.to_string(),
        format!(
            "read {digest} from the store: its bytes have changed (their digest is {}); moved to {quarantined}",
            Sha256::of(b"evil")
        )
    );
    assert!(error.hint().unwrap().starts_with("it will be fetched again"));
    assert_eq!(fs::read(quarantined).unwrap(), b"evil");
    assert_eq!(world.store.verify(&digest).unwrap(), Presence::Absent);
}

fn check_verify(stored: &[u8], is_present: bool) {
    let world = World::new();
    let (digest, _) = world.store.insert(b"good").unwrap();
    damage(&world.store.path(&digest), stored);
    let found = world.store.verify(&digest).unwrap();
    assert_eq!(found == Presence::Present, is_present);
    assert_eq!(matches!(found, Presence::Corrupt { .. }), !is_present);
    assert_eq!(world.store.size(&digest).is_some(), is_present);
}

#[test]
fn verify_hashes_what_is_there() {
    check_verify(b"good", true);
    check_verify(b"evil", false);
    check_verify(b"goo", false);
    check_verify(b"", false);
}

#[test]
fn insert_heals_a_corrupt_entry() {
    let world = World::new();
    let (digest, _) = world.store.insert(b"good").unwrap();
    damage(&world.store.path(&digest), b"evil");
    world.store.insert(b"good").unwrap();
    assert_eq!(world.store.read(&digest).unwrap(), b"good");
}

#[test]
fn derived_values_are_whole_or_absent() {
    let world = World::new();
    let key = Sha256::of(b"index");
    assert_eq!(world.store.derived("packages-v1", &key), None);
    world.store.put_derived("packages-v1", &key, b"parsed").unwrap();
    assert_eq!(world.store.derived("packages-v1", &key).as_deref(), Some(&b"parsed"[..]));
    assert_eq!(world.store.derived("packages-v2", &key), None);
    let path = only_file(&world.store.root().join("derived"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[2] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(world.store.derived("packages-v1", &key), None);
    assert!(!path.exists());
    for name in ["", "../sha256", "a/b", "A", "1", "a b"] {
        assert!(matches!(world.store.put_derived(name, &key, b""), Err(StoreError::Name { .. })), "{name}");
    }
}

#[test]
fn slots_keep_document_and_validators_together() {
    let world = World::new();
    let slot = world.store.slot("http://user:s3cret@mirror.example/debian trixie InRelease");
    let validators = Validators { etag: Some("\"abc\"".to_owned()), last_modified: None };
    assert_eq!(slot.load(), None);
    slot.save(b"one\ntwo\n\nthree", &validators).unwrap();
    let document = slot.load().unwrap();
    assert_eq!((document.bytes.as_slice(), document.validators), (&b"one\ntwo\n\nthree"[..], validators));
    slot.save(b"", &Validators::default()).unwrap();
    assert_eq!(slot.load().unwrap().bytes, b"");
    let path = only_file(&world.store.root().join("slot"));
    assert!(!path.as_str().contains("s3cret"));
    fs::write(&path, "torn").unwrap();
    assert_eq!(slot.load(), None);
    assert!(!path.exists());
    slot.clear().unwrap();
}

#[test]
fn a_large_derived_value_is_there_once_it_is_kept() {
    let world = World::new();
    let key = Sha256::of(b"a package");
    let path = world.store.derived_file("unpacked-v1", &key).unwrap();
    let mut draft = world.store.begin_derived("unpacked-v1", &key).unwrap();
    draft.write_all(b"half").unwrap();
    drop(draft);
    assert!(!path.exists());
    let mut draft = world.store.begin_derived("unpacked-v1", &key).unwrap();
    draft.write_all(b"whole").unwrap();
    assert!(!path.exists());
    draft.keep().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(fs::read_dir(world.store.root().join("tmp")).unwrap().count(), 0);
    assert!(matches!(world.store.begin_derived("../x", &key), Err(StoreError::Name { .. })));
}
