//! Removes what a plan says.

use kiln_store::{Alone, Layers, Remove, Store, StoreError};

use super::{GcError, GcPlan, Thing, Verdict};

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many things.
    pub count: u64,
    /// Their size together.
    pub size_bytes: u64,
    /// Things that were to go and that somebody has begun to use: they stay.
    pub spared: u64,
}

/// Removes what the plan says, and what is left over from before. It may be interrupted at any moment: the next time it
/// goes on. `alone` is given back as soon as nothing has a name any more that is to go.
///
/// # Errors
/// If the store cannot be changed.
pub fn carry_out(
    plan: &GcPlan,
    store: &Store,
    layers: &Layers<'_>,
    alone: Option<Alone<'_>>,
    remove: Remove<'_>,
) -> Result<Freed, GcError> {
    let mut freed = Freed::default();
    for Verdict { thing, size_bytes, .. } in plan.verdicts.iter().filter(|verdict| verdict.goes) {
        if take(thing, store, layers)? {
            freed.count += 1;
            freed.size_bytes += size_bytes;
        } else {
            freed.spared += 1;
        }
    }
    drop(alone);
    layers.sweep(remove)?;
    Ok(freed)
}

/// Takes one thing out of the store; false if somebody uses it.
fn take(thing: &Thing, store: &Store, layers: &Layers<'_>) -> Result<bool, StoreError> {
    match thing {
        Thing::File(digest) => store.remove(digest).map(|_| true),
        Thing::Derived(kind, key) => store.remove_derived(kind, key).map(|()| true),
        Thing::Layer(name) => layers.discard(name),
        Thing::Failed(name) => layers.forget_failed_named(name).map(|()| true),
        Thing::Leftover(leftover) => store.remove_leftover(leftover),
        Thing::Factory(directory) => store.forget_factory(directory).map(|()| true),
        Thing::Build(directory, class) => store.forget_build(directory, class).map(|()| true),
    }
}
