//! The tree of a class: its layers in the store, as one value, and the bytes of its files.
//!
//! Only [`facts`] is asked on every build; what it says is kept under the topmost layer's name, so that nothing is read
//! when nothing changed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fs_err as fs;
use kiln_disk::tar::Content;
use kiln_disk::{Layer, LayerError, Tree};
use kiln_model::digest::Sha256;
use kiln_store::{LayerUse, Store, StoreError};
use serde::{Deserialize, Serialize};

/// The kind of derived value that keeps facts; raised with their form.
const FACTS: &str = "tree-facts-1";

/// What a tree is, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeFacts {
    /// The digest of everything that is seen in it: [`Tree::digest`].
    pub digest: Sha256,
    /// How many paths it has.
    pub files: u64,
    /// Bytes of content of its files together.
    pub size_bytes: u64,
}

/// A tree and the layers that it is made of. They stay in the store while this value lives.
#[derive(Debug)]
pub struct ClassTree {
    layers: Vec<Arc<LayerUse>>,
    values: Vec<Layer>,
    tree: Tree,
    epoch: i64,
}

/// Why a tree cannot be had from its layers.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A layer's description is damaged.
    #[error("read the layer of `{label}` of class {class}: its description is damaged")]
    Damaged {
        /// The layer, which is of no use any more.
        layer: Sha256,
        /// The class that it was made for.
        class: String,
        /// Its stage.
        label: String,
        /// What is wrong in it, if its bytes are those that were written.
        #[source]
        source: Option<LayerError>,
    },
    /// A layer's description could not be read.
    #[error("read the layer of `{label}` of class {class}")]
    Read {
        /// The class that it was made for.
        class: String,
        /// Its stage.
        label: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the tree of these layers is, from bottom to top, with no time of modification after `epoch`.
///
/// # Errors
/// If a layer's description cannot be read.
pub fn facts(store: &Store, layers: &[Arc<LayerUse>], epoch: i64) -> Result<TreeFacts, TreeError> {
    // A layer's name stands for all that are below it.
    let top = layers.last().map(|layer| layer.name().to_string()).unwrap_or_default();
    let key = Sha256::of(format!("tree {top} {epoch}").as_bytes());
    let kept = store.derived(FACTS, &key).and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(facts) = kept {
        return Ok(facts);
    }
    let facts = ClassTree::read(layers, epoch)?.facts();
    // What cannot be kept is computed again.
    if let Ok(json) = serde_json::to_vec(&facts) {
        store.put_derived(FACTS, &key, &json)?;
    }
    Ok(facts)
}

impl ClassTree {
    /// Lays the layers of a class, from bottom to top, over each other. No time of modification is after `epoch`, the
    /// class's in the lock.
    ///
    /// # Errors
    /// If a layer's description cannot be read.
    pub fn read(layers: &[Arc<LayerUse>], epoch: i64) -> Result<Self, TreeError> {
        let values: Vec<Layer> = layers.iter().map(|layer| value(layer)).collect::<Result<_, _>>()?;
        let tree = Tree::of(&values).clamped(epoch);
        Ok(Self { layers: layers.to_vec(), values, tree, epoch })
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Its layers, from bottom to top, with what they hold.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = (&LayerUse, &Layer)> {
        self.layers.iter().map(AsRef::as_ref).zip(&self.values)
    }

    /// No file is newer, in seconds since 1970.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn facts(&self) -> TreeFacts {
        let Self { tree, .. } = self;
        TreeFacts { digest: tree.digest(), files: tree.len() as u64, size_bytes: tree.size_bytes() }
    }

    /// Opens the content of a file. To be called by root of the identity that built the layers, in
    /// [`kiln_sandbox::Identity::act`] or [`stream`](kiln_sandbox::Identity::stream): a user's files are their owners' alone.
    ///
    /// # Errors
    /// If there is no such layer, or the file cannot be opened.
    pub fn open(&self, content: Content<'_>) -> io::Result<fs::File> {
        let layer = self.layers.get(content.layer).ok_or(io::ErrorKind::NotFound)?;
        // The path is one of the layer's own: nothing on it is a link.
        fs::File::open(layer.tree().as_std_path().join(OsStr::from_bytes(content.path)))
    }
}

/// What is in a layer.
fn value(layer: &LayerUse) -> Result<Layer, TreeError> {
    let facts = &layer.record().facts;
    let (class, label) = (|| facts.class.clone(), || facts.label.clone());
    let damaged = |source| TreeError::Damaged { layer: *layer.name(), class: class(), label: label(), source };
    let bytes = layer.manifest().map_err(|source| TreeError::Read { class: class(), label: label(), source })?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| damaged(None))?;
    Layer::parse(&text).map_err(|error| damaged(Some(error)))
}

impl TreeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some("kiln gc removes it, and kiln build makes it again".to_owned()),
            Self::Store(error) => error.hint(),
            Self::Read { .. } => None,
        }
    }
}
