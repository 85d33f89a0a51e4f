//! What may leave the store, what stays, and because of what.
//!
//! 1. [`gather`] looks at the store and at every factory that uses it.
//! 2. [`plan`] decides. It is pure: each thing in the store gets a verdict and a reason that a person can read.
//! 3. [`carry_out`] removes what is to go, and nothing else.
//!
//! What counts: the `kiln.lock` of each known factory (packages, indexes, Releases, downloads, toolboxes), the last build of
//! each of its classes, failed trees for a while, and whatever a running process uses. A factory whose directory is gone
//! claims nothing. Where a lock cannot be read, no file goes: it may claim any of them.
//!
//! Beside other processes that use the store only layers, failed trees and leftovers go: a file that nothing claims may be
//! one that a running `kiln lock` is about to claim. Nothing that a process holds is ever taken from it.

mod carry_out;
mod gather;
mod reason;

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};
use kiln_model::digest::Sha256;
use kiln_store::{DerivedEntry, Entry, Leftover, LeftoverKind, StoreError};

pub use carry_out::{Freed, carry_out};
pub use gather::gather;
pub use reason::Reason;

use crate::index;
use crate::package::KIND as UNPACKED;

/// So long a failed tree, and a download that did not come to its end, may be looked at again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// So long a shortcut stays whose use cannot be told from its name.
const SHORTCUT_PATIENCE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What there is, and who claims it.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Now.
    pub now: Timestamp,
    /// Whether other processes use the store.
    pub others_at_work: bool,
    /// Those who claim.
    pub factories: Vec<FactoryFacts>,
    /// Verified files.
    pub files: Vec<Entry>,
    /// Derived values.
    pub derived: Vec<DerivedEntry>,
    /// Layers.
    pub layers: Vec<LayerFacts>,
    /// Failed trees.
    pub failed: Vec<FailedFacts>,
    /// Unfinished downloads and damaged files.
    pub leftovers: Vec<Leftover>,
}

/// A factory that used the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryFacts {
    /// Its directory.
    pub directory: Utf8PathBuf,
    /// What it is now.
    pub state: FactoryState,
    /// Layers of the last build of each class, those of tools included.
    pub builds: BTreeMap<String, BTreeSet<Sha256>>,
}

/// What a factory is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactoryState {
    /// There is none in its directory, or no such directory.
    Gone,
    /// It is there.
    There {
        /// Its classes, by spec or lock; `None` if neither tells.
        classes: Option<BTreeSet<String>>,
        /// Digests of every file that its lock names; `None` if it cannot be read.
        files: Option<BTreeSet<Sha256>>,
    },
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// Its name.
    pub name: Sha256,
    /// The class that it was made for; `None` if the layer does not count.
    pub class: Option<String>,
    /// Its size, as far as known.
    pub size_bytes: u64,
    /// Whether somebody uses it now.
    pub in_use: bool,
}

/// One failed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedFacts {
    /// Its name.
    pub name: Sha256,
    /// Factory, class and time of the failure; `None` if it cannot be read.
    pub of: Option<(Utf8PathBuf, String, Timestamp)>,
    /// The layers below it.
    pub below: BTreeSet<Sha256>,
    /// Its size, as far as it can be seen.
    pub size_bytes: u64,
}

/// Something in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A verified file.
    File(Sha256),
    /// A derived value: its kind, and what it was computed from.
    Derived(String, Sha256),
    /// A layer.
    Layer(Sha256),
    /// A failed tree.
    Failed(Sha256),
    /// An unfinished download or a damaged file.
    Leftover(Leftover),
    /// All that is known of a factory.
    Factory(Utf8PathBuf),
    /// The last build of a class.
    Build(Utf8PathBuf, String),
}

/// What things are to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Factories that used the store.
    Factories,
    /// Last builds of classes.
    Builds,
    /// Packages, indexes, Releases and downloads.
    Files,
    /// Packages as they are placed in trees.
    Unpacked,
    /// Indexes in the form in which they are read.
    Indexes,
    /// Other shortcuts.
    Shortcuts,
    /// Layers.
    Layers,
    /// Trees of stages that failed.
    Failed,
    /// Downloads that did not come to their end.
    Partial,
    /// Files whose bytes had changed.
    Damaged,
}

/// What becomes of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The thing.
    pub thing: Thing,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it goes.
    pub goes: bool,
    /// Because of what.
    pub reason: Reason,
}

/// What becomes of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// One for each thing.
    pub verdicts: Vec<Verdict>,
}

/// The things of one group that share their fate and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What they are.
    pub group: Group,
    /// Whether they go.
    pub goes: bool,
    /// Because of what.
    pub reason: Reason,
    /// How many they are.
    pub count: u64,
    /// Their size together.
    pub size_bytes: u64,
}

/// The store cannot be looked at, or not be changed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Thing {
    /// What it is to people.
    #[must_use]
    pub fn group(&self) -> Group {
        match self {
            Self::Factory(_) => Group::Factories,
            Self::Build(..) => Group::Builds,
            Self::File(_) => Group::Files,
            Self::Derived(kind, _) => group_of(kind),
            Self::Layer(_) => Group::Layers,
            Self::Failed(_) => Group::Failed,
            Self::Leftover(leftover) => match leftover.kind {
                LeftoverKind::Partial => Group::Partial,
                LeftoverKind::Quarantined => Group::Damaged,
            },
        }
    }
}

/// The group of a kind of derived values, whatever the version of its format.
fn group_of(kind: &str) -> Group {
    let is_of =
        |current: &str| kind.split_once("-v").map(|(name, _)| name) == current.split_once("-v").map(|(name, _)| name);
    if is_of(UNPACKED) {
        Group::Unpacked
    } else if is_of(index::PARSED) {
        Group::Indexes
    } else {
        Group::Shortcuts
    }
}

/// Decides about everything in the store.
#[must_use]
pub fn plan(facts: &Facts) -> GcPlan {
    let claims = Claims::of(facts);
    let factories = facts.factories.iter().flat_map(factory_verdicts);
    let files = facts.files.iter().map(|file| {
        let reason = claims.file(facts, &file.digest);
        verdict(Thing::File(file.digest), file.size_bytes, reason)
    });
    let derived = facts.derived.iter().map(|entry| {
        let reason = claims.derived(facts, entry);
        verdict(Thing::Derived(entry.kind.clone(), entry.key), entry.size_bytes, reason)
    });
    let layers =
        facts.layers.iter().map(|layer| verdict(Thing::Layer(layer.name), layer.size_bytes, claims.layer(layer)));
    let failed = facts
        .failed
        .iter()
        .map(|failed| verdict(Thing::Failed(failed.name), failed.size_bytes, claims.failed(facts, failed)));
    let leftovers = facts.leftovers.iter().map(|leftover| {
        verdict(Thing::Leftover(leftover.clone()), leftover.size_bytes, leftover_reason(facts.now, leftover))
    });
    GcPlan { verdicts: factories.chain(files).chain(derived).chain(layers).chain(failed).chain(leftovers).collect() }
}

fn verdict(thing: Thing, size_bytes: u64, reason: Reason) -> Verdict {
    Verdict { thing, size_bytes, goes: reason.lets_go(), reason }
}

fn factory_verdicts(factory: &FactoryFacts) -> Vec<Verdict> {
    let thing = Thing::Factory(factory.directory.clone());
    let reason = match &factory.state {
        FactoryState::Gone => Reason::Gone(factory.directory.clone()),
        FactoryState::There { files: None, .. } => Reason::Unreadable(factory.directory.clone()),
        FactoryState::There { .. } => Reason::Factory(factory.directory.clone()),
    };
    let builds = factory.builds.keys().filter(|_| factory.is_there()).map(|class| {
        let reason =
            if factory.has_class(class) { Reason::LastBuild(factory.directory.clone()) } else { Reason::ClassGone };
        verdict(Thing::Build(factory.directory.clone(), class.clone()), 0, reason)
    });
    std::iter::once(verdict(thing, 0, reason)).chain(builds).collect()
}

fn leftover_reason(now: Timestamp, leftover: &Leftover) -> Reason {
    match leftover.kind {
        LeftoverKind::Quarantined => Reason::Damaged,
        LeftoverKind::Partial if is_older(now, leftover.modified, PATIENCE) => Reason::Abandoned,
        LeftoverKind::Partial => Reason::Recent,
    }
}

fn is_older(now: Timestamp, then: Timestamp, than: SignedDuration) -> bool {
    now.duration_since(then) > than
}

impl FactoryFacts {
    fn is_there(&self) -> bool {
        self.state != FactoryState::Gone
    }

    /// Whether it has the class; also if that cannot be told.
    fn has_class(&self, class: &str) -> bool {
        match &self.state {
            FactoryState::Gone => false,
            FactoryState::There { classes, .. } => classes.as_ref().is_none_or(|classes| classes.contains(class)),
        }
    }
}

/// Everything that is claimed, and one of those who do.
struct Claims<'a> {
    files: BTreeMap<&'a Sha256, &'a FactoryFacts>,
    layers: BTreeMap<&'a Sha256, &'a FactoryFacts>,
    /// Layers below failed trees that stay.
    below_failed: BTreeSet<&'a Sha256>,
    /// A factory that may claim any file.
    unreadable: Option<&'a FactoryFacts>,
    factories: &'a [FactoryFacts],
}

impl<'a> Claims<'a> {
    fn of(facts: &'a Facts) -> Self {
        let mut claims = Self {
            files: BTreeMap::new(),
            layers: BTreeMap::new(),
            below_failed: BTreeSet::new(),
            unreadable: None,
            factories: &facts.factories,
        };
        for factory in &facts.factories {
            claims.add(factory);
        }
        let failed = facts.failed.iter().filter(|failed| !claims.failed(facts, failed).lets_go());
        claims.below_failed = failed.flat_map(|failed| &failed.below).collect();
        claims
    }

    fn add(&mut self, factory: &'a FactoryFacts) {
        let FactoryState::There { files, .. } = &factory.state else { return };
        match files {
            None => self.unreadable = self.unreadable.or(Some(factory)),
            Some(files) => {
                for digest in files {
                    self.files.entry(digest).or_insert(factory);
                }
            }
        }
        let builds = factory.builds.iter().filter(|(class, _)| factory.has_class(class));
        for layer in builds.flat_map(|(_, layers)| layers) {
            self.layers.entry(layer).or_insert(factory);
        }
    }

    fn file(&self, facts: &Facts, digest: &Sha256) -> Reason {
        if let Some(factory) = self.files.get(digest) {
            return Reason::Locked(factory.directory.clone());
        }
        if let Some(factory) = self.unreadable {
            return Reason::Unreadable(factory.directory.clone());
        }
        if facts.others_at_work { Reason::OthersAtWork } else { Reason::NotLocked }
    }

    fn derived(&self, facts: &Facts, entry: &DerivedEntry) -> Reason {
        let is_current = match group_of(&entry.kind) {
            Group::Unpacked => entry.kind == UNPACKED,
            Group::Indexes => entry.kind.starts_with(index::PARSED),
            _ if is_older(facts.now, entry.modified, SHORTCUT_PATIENCE) => return Reason::Abandoned,
            _ => return Reason::Recent,
        };
        match self.file(facts, &entry.key) {
            Reason::Locked(_) if !is_current && !facts.others_at_work => Reason::OtherVersion,
            reason => reason,
        }
    }

    fn layer(&self, layer: &LayerFacts) -> Reason {
        if layer.in_use {
            return Reason::InUse;
        }
        let Some(class) = &layer.class else { return Reason::DoesNotCount };
        match self.layers.get(&layer.name) {
            Some(factory) => Reason::LastBuild(factory.directory.clone()),
            None if self.below_failed.contains(&layer.name) => Reason::BelowFailed,
            None if self.factories.iter().any(|factory| factory.is_there() && factory.has_class(class)) => {
                Reason::Replaced(class.clone())
            }
            None => Reason::NoClass(class.clone()),
        }
    }

    fn failed(&self, facts: &Facts, failed: &FailedFacts) -> Reason {
        let Some((directory, class, at)) = &failed.of else { return Reason::DoesNotCount };
        let factory = self.factories.iter().find(|factory| factory.directory == *directory);
        match factory {
            Some(factory) if !factory.is_there() => Reason::FactoryGone,
            Some(factory) if !factory.has_class(class) => Reason::ClassGone,
            _ if is_older(facts.now, *at, PATIENCE) => Reason::Abandoned,
            _ => Reason::Recent,
        }
    }
}

impl GcPlan {
    /// The same in short: things of one group with one fate and reason are one.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        let mut shares: BTreeMap<(Group, bool, &Reason), (u64, u64)> = BTreeMap::new();
        for Verdict { thing, size_bytes, goes, reason } in &self.verdicts {
            let (count, total) = shares.entry((thing.group(), *goes, reason)).or_default();
            *count += 1;
            *total += size_bytes;
        }
        let share = |((group, goes, reason), (count, size_bytes)): ((Group, bool, &Reason), (u64, u64))| Share {
            group,
            goes,
            reason: reason.clone(),
            count,
            size_bytes,
        };
        shares.into_iter().map(share).collect()
    }

    /// Bytes of all that goes.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.verdicts.iter().filter(|verdict| verdict.goes).map(|verdict| verdict.size_bytes).sum()
    }
}

#[cfg(test)]
mod tests;
