//! What a finished tree is: its digest and its size. Found once, then remembered by what the tree is made of.

use std::sync::Arc;

use kiln_model::digest::Sha256;
use kiln_store::{LayerUse, Store};
use serde::{Deserialize, Serialize};

use super::BuildError;
use crate::tree::ClassTree;

/// Kind and format of what is remembered.
const DERIVED: &str = "tree-facts-v1";

/// What a finished tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeFacts {
    /// Digest of all that can be seen in it.
    pub digest: Sha256,
    /// How many paths it has.
    pub files: u64,
    /// Bytes of content of its files together.
    pub size_bytes: u64,
}

/// What the tree of these layers is, from bottom to top, with no time of modification after `epoch`.
pub(super) fn of(store: &Store, layers: &[Arc<LayerUse>], epoch: i64) -> Result<TreeFacts, BuildError> {
    let key = key(layers, epoch);
    let known = store.derived(DERIVED, &key).and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(facts) = known {
        return Ok(facts);
    }
    let tree = ClassTree::read(layers, epoch)?;
    let tree = tree.tree();
    let facts = TreeFacts { digest: tree.digest(), files: tree.len() as u64, size_bytes: tree.size_bytes() };
    // What cannot be remembered is found again.
    if let Ok(json) = serde_json::to_vec(&facts) {
        store.put_derived(DERIVED, &key, &json)?;
    }
    Ok(facts)
}

/// A layer's name stands for all that are below it.
fn key(layers: &[Arc<LayerUse>], epoch: i64) -> Sha256 {
    let top = layers.last().map(|layer| layer.name().to_string()).unwrap_or_default();
    Sha256::of(format!("{top} {epoch}").as_bytes())
}
