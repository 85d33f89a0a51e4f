//! Layers that are there already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_model::digest::Sha256;
use kiln_store::{LayerUse, Layers};

use super::BuildError;
use super::ids::{self, SharedIds};
use crate::stage::{StageId, Stages};
use crate::workplace::FixedIds;

/// The layers of the stages in `needed` that the store has, each on those of its parents, and all with ids that go together.
/// What a stage below a missing one has is not known: its key is the digest of a name that nobody knows yet.
pub(super) fn layers(
    plan: &Stages,
    needed: &BTreeSet<StageId>,
    layers: &Layers<'_>,
    ids: &SharedIds<'_>,
) -> Result<BTreeMap<StageId, Arc<LayerUse>>, BuildError> {
    let mut found: BTreeMap<StageId, Arc<LayerUse>> = BTreeMap::new();
    // Classes that were built one by one, each with a lock without ids, may have given one number to two names.
    let mut beside = FixedIds::default();
    for &id in needed {
        let Some(stage) = plan.stages.get(id) else { continue };
        let parent = match stage.parent {
            None => None,
            Some(parent) => match found.get(&parent) {
                Some(layer) => Some(*layer.name()),
                None => continue,
            },
        };
        if let Some(layer) = fitting(layers, &key(plan, id, parent.as_ref()), ids, &beside)? {
            beside = ids::merged(beside, &ids::fixed(&layer.record().facts.made));
            found.insert(id, Arc::new(layer));
        }
    }
    Ok(found)
}

/// The key of a stage, on a parent's layer of this name.
pub(super) fn key(plan: &Stages, id: StageId, parent: Option<&Sha256>) -> Sha256 {
    let Some(stage) = plan.stages.get(id) else { return Sha256::of(&[]) };
    let tools = stage.tools.and_then(|tools| plan.stages.get(tools));
    stage.key(parent, tools.map(|tools| tools.key(parent, None)).as_ref())
}

/// The layer of this key whose ids the lock agrees with, and those `beside`.
pub(super) fn fitting(
    layers: &Layers<'_>,
    key: &Sha256,
    ids: &SharedIds<'_>,
    beside: &FixedIds,
) -> Result<Option<LayerUse>, BuildError> {
    Ok(layers.find(key)?.into_iter().find(|layer| ids.allow(&layer.record().facts.made, beside)))
}
