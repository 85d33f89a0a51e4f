//! The tree of a class: its layers in the store, as one value, and the bytes of its files.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fs_err as fs;
use kiln_disk::tar::Content;
use kiln_disk::{Layer, LayerError, Tree};
use kiln_model::digest::Sha256;
use kiln_store::LayerUse;

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
pub(crate) fn value(layer: &LayerUse) -> Result<Layer, TreeError> {
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
            Self::Damaged { class, .. } => Some(format!("kiln export {class} gives the layer up and builds it again")),
            Self::Read { .. } => None,
        }
    }
}
