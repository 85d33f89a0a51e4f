//! For tests: a store of its own for each identity that this machine allows, and layers in it, made by hand.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_disk::Layer;
use kiln_model::digest::Sha256;
use kiln_model::event::Silent;
use kiln_sandbox::{CancelToken, Identity, Sandbox, Subordinate, Tree, Upper, layer};
use kiln_store::{LayerFacts, LayerUse, MadeIds, Store};

use crate::scan;

/// An ordinary user that no machine has, and its ids.
const NOBODY: Subordinate =
    Subordinate { uid: 54_321, gid: 54_321, first_uid: 1_900_000_000, first_gid: 1_900_000_000 };

/// The time of all that the layers hold.
pub(crate) const EPOCH: i64 = 1_700_000_000;

/// Does `test` for each identity: root can be everyone; a user must have subordinate ids, and is told how to get them.
pub(crate) fn for_each_identity(test: impl Fn(&Ground)) {
    if rustix::process::geteuid().is_root() {
        test(&Ground::new(Identity::Root));
        test(&Ground::new(Identity::User(NOBODY)));
        return;
    }
    match Identity::of_caller() {
        Ok(identity) => test(&Ground::new(identity)),
        Err(error) => panic!("{error}; to run these tests, {}", error.hint().unwrap_or_default()),
    }
}

/// A directory with a store, that belongs to the identity and is removed with all that its root made there.
pub(crate) struct Ground {
    pub(crate) identity: Identity,
    pub(crate) path: Utf8PathBuf,
    store: Store,
    directory: Option<tempfile::TempDir>,
}

impl Ground {
    fn new(identity: Identity) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let store = Store::open(&path.join("store")).unwrap();
        let ground = Self { identity, path, store, directory: Some(directory) };
        ground.give(&ground.path);
        ground.give(&ground.path.join("store"));
        for entry in ground.path.join("store").read_dir_utf8().unwrap() {
            ground.give(entry.unwrap().path());
        }
        ground
    }

    /// Gives a file of the caller to the user.
    fn give(&self, path: &Utf8Path) {
        if let (Identity::User(user), true) = (self.identity, rustix::process::geteuid().is_root()) {
            fs::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }

    /// A directory in which the identity may write.
    pub(crate) fn directory(&self, name: &str) -> Utf8PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap();
        self.give(&path);
        path
    }

    /// A layer that `work`, which is given the tree, wrote on top of others.
    pub(crate) fn layer(&self, label: &str, lowers: &[Arc<LayerUse>], work: impl FnOnce(&Utf8Path)) -> Arc<LayerUse> {
        let layers = self.store.layers("this boot");
        let draft = layers.begin(&Sha256::of(label.as_bytes()), label, &Silent, &|| false).unwrap().unwrap();
        self.give(draft.tree().parent().unwrap());
        let value = self.write(lowers, draft.tree(), work);
        let facts = LayerFacts {
            class: "web".to_owned(),
            label: label.to_owned(),
            inputs: Vec::new(),
            epoch: EPOCH,
            made: MadeIds::default(),
            size_bytes: 0,
        };
        Arc::new(draft.keep(facts, value.to_text().as_bytes()).unwrap())
    }

    /// Has `work` write a layer into a directory, and finishes it.
    pub(crate) fn write(
        &self,
        lowers: &[Arc<LayerUse>],
        directory: Utf8PathBuf,
        work: impl FnOnce(&Utf8Path),
    ) -> Layer {
        self.call(lowers, Upper::Directory(directory.clone()), |root| work(root));
        scan::finish(&directory, EPOCH, self.identity, 2).unwrap()
    }

    /// Runs our code in a tree; it is given the tree without mounts.
    pub(crate) fn call<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        lowers: &[Arc<LayerUse>],
        upper: Upper,
        work: impl FnOnce(&Utf8Path) -> T,
    ) -> T {
        let lowers = lowers.iter().map(|layer| layer.tree()).collect();
        let sandbox = Sandbox::new(Tree { lowers, upper }, self.identity);
        sandbox.call(|inside| work(&inside.tree()), &mut |_| {}, &CancelToken::new().unwrap()).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What belongs to the user's ids first, then what root made beside it. Not twice a panic when a test fails.
        let removed = layer::remove_tree(&self.path, self.identity).is_ok() || fs::remove_dir_all(&self.path).is_ok();
        if let Some(directory) = self.directory.take() {
            let _ = directory.keep();
        }
        assert!(removed || std::thread::panicking(), "{} cannot be removed", self.path);
    }
}
