//! Garbage collection over layers that a sandbox wrote, whose files belong to many.

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_build::gc::{carry_out, gather, plan};
use kiln_model::digest::Sha256;
use kiln_model::event::Silent;
use kiln_sandbox::{CancelToken, Identity, Sandbox, Subordinate, Tree, Upper, layer};
use kiln_store::{LayerFacts, Store};

/// An ordinary user that no machine has, and its ids.
const NOBODY: Subordinate =
    Subordinate { uid: 54_322, gid: 54_322, first_uid: 1_900_100_000, first_gid: 1_900_100_000 };

const BOOT: &str = "boot";

/// Who the tests are run as: root can be everyone; a user must have subordinate ids, and is told how to get them.
fn identities() -> Vec<Identity> {
    if rustix::process::geteuid().is_root() {
        return vec![Identity::Root, Identity::User(NOBODY)];
    }
    match Identity::of_caller() {
        Ok(identity) => vec![identity],
        Err(error) => panic!("{error}; to run these tests, {}", error.hint().unwrap_or_default()),
    }
}

/// Where this process is root and plays an ordinary user, what it made becomes the user's.
fn give(path: &Utf8Path, identity: Identity) {
    if let (Identity::User(user), true) = (identity, rustix::process::geteuid().is_root()) {
        fs::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Carries out a stage whose files have several owners and may be read by none but them.
fn make(store: &Store, identity: Identity) -> Sha256 {
    let layers = store.layers(BOOT);
    let draft = layers.begin(&Sha256::of(b"stage"), "stage", &Silent, &|| false).unwrap().unwrap();
    give(draft.tree().parent().unwrap(), identity);
    let tree = Tree { lowers: Vec::new(), upper: Upper::Directory(draft.tree()) };
    let write = |root: &Utf8Path| -> io::Result<()> {
        for (directory, id) in [("a", 0), ("a/b", 33), ("a/b/c", 1000)] {
            let path = root.join(directory);
            fs::create_dir(&path)?;
            fs::write(path.join("secret"), "x")?;
            fs::os::unix::fs::chown(path.join("secret"), Some(id), Some(id))?;
            fs::os::unix::fs::chown(&path, Some(id), Some(id))?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        }
        Ok(())
    };
    let written = Sandbox::new(tree, identity).call(
        |inside| write(&inside.tree()).map_err(|error| error.to_string()),
        &mut |_| {},
        &CancelToken::new().unwrap(),
    );
    written.unwrap().unwrap();
    let facts = LayerFacts { class: "web".to_owned(), size_bytes: 3, ..LayerFacts::default() };
    *draft.keep(facts, b"").unwrap().name()
}

fn list(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect()
}

#[test]
fn layers_of_many_owners_go_whole() {
    for identity in identities() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        give(root, identity);
        let store = Store::open(&root.join("store")).unwrap();
        for path in [store.root(), &store.root().join("trash")] {
            give(path, identity);
        }
        let name = make(&store, identity);
        let layers = store.layers(BOOT);
        assert!(layers.get(&name).unwrap().is_some());
        let alone = store.alone().unwrap().unwrap();
        let plan = plan(&gather(&store, &layers, false, Timestamp::UNIX_EPOCH).unwrap());

        // Who cannot remove what is in it leaves it in the trash, and there is no layer any more all the same.
        let refuse = |_: &Utf8Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(carry_out(&plan, &store, &layers, Some(alone), &refuse).is_err());
        assert!(layers.get(&name).unwrap().is_none());
        assert_eq!(list(&store.root().join("trash")).len(), 1);

        let remove = |path: &Utf8Path| layer::remove_tree(path, identity).map_err(io::Error::other);
        let freed = carry_out(&plan, &store, &layers, None, &remove).unwrap();
        assert_eq!((freed.spared, freed.size_bytes), (0, 3));
        for name in ["layer", "stage", "draft", "trash"] {
            assert_eq!(list(&store.root().join(name)), [""; 0], "{name}");
        }
    }
}
