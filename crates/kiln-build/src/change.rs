//! What changes from one lock to the next: the part of a lock's diff that a person reviews.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kiln_model::lock::{Lock, LockedPackage, Origin};
use serde::Serialize;

use crate::mirror::public_text;

/// Everything that differs between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Changes {
    /// By package name, then by version.
    pub packages: Vec<PackageChange>,
    /// By name.
    pub indexes: Vec<IndexChange>,
    /// Files of `download` steps, by URL.
    pub downloads: Vec<DownloadChange>,
    /// Classes whose epoch moved or that came or went, by name.
    pub classes: Vec<ClassChange>,
}

/// One package, in all classes where it makes the same move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Binary package name.
    pub name: String,
    /// What was locked; nothing if the package is new.
    pub from: Option<PackageState>,
    /// What is locked; nothing if the package goes.
    pub to: Option<PackageState>,
    /// The classes that hold it themselves, by name; `CLASS (tools)` for what only steps use; `toolbox.ARCHITECTURE` for Kiln's own tools.
    pub classes: Vec<String>,
}

/// A version, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PackageState {
    /// Debian version.
    pub version: String,
    /// Index, file or URL.
    pub source: String,
    /// Digest of the `.deb`, so that a rebuilt package of equal version is a change too.
    pub sha256: kiln_model::digest::Sha256,
}

/// An index that is newer, new or no longer used, in all distributions where it makes the same move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexChange {
    /// As packages name it: `trixie-security/main`.
    pub name: String,
    /// Its date before.
    pub from: Option<Timestamp>,
    /// Its date now.
    pub to: Option<Timestamp>,
    /// The distributions that it is of, by name.
    pub distributions: Vec<String>,
}

/// A downloaded file whose bytes changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DownloadChange {
    /// As the spec names it, without secrets.
    pub url: String,
    /// Digest before.
    pub from: Option<kiln_model::digest::Sha256>,
    /// Digest now.
    pub to: Option<kiln_model::digest::Sha256>,
}

/// A class that came, went, or whose image changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassChange {
    /// Class name.
    pub name: String,
    /// Epoch before.
    pub from: Option<Timestamp>,
    /// Epoch now.
    pub to: Option<Timestamp>,
}

impl Changes {
    /// Whether the two locks have the same packages, indexes and downloads.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.indexes.is_empty() && self.downloads.is_empty() && self.classes.is_empty()
    }
}

/// What changes from `old` (nothing, if there was no lock) to `new`.
#[must_use]
pub fn changes(old: Option<&Lock>, new: &Lock) -> Changes {
    let before = old.map(Facts::of).unwrap_or_default();
    let after = Facts::of(new);
    Changes {
        packages: shared_moves(&before.packages, &after.packages)
            .map(|(name, from, to, classes)| PackageChange { name, from, to, classes })
            .collect(),
        indexes: shared_moves(&before.indexes, &after.indexes)
            .map(|(name, from, to, distributions)| IndexChange { name, from, to, distributions })
            .collect(),
        downloads: moves(&before.downloads, &after.downloads)
            .map(|(url, from, to)| DownloadChange { url: public_text(&url), from, to })
            .collect(),
        classes: moves(&before.epochs, &after.epochs).map(|(name, from, to)| ClassChange { name, from, to }).collect(),
    }
}

/// A lock, turned so that two of them can be compared key by key.
#[derive(Default)]
struct Facts {
    /// By owner (class or toolbox) and package name.
    packages: BTreeMap<(String, String), PackageState>,
    /// By distribution and index name.
    indexes: BTreeMap<(String, String), Timestamp>,
    downloads: BTreeMap<String, kiln_model::digest::Sha256>,
    epochs: BTreeMap<String, Timestamp>,
}

impl Facts {
    fn of(lock: &Lock) -> Self {
        let mut facts = Self::default();
        for (name, distribution) in &lock.distributions {
            // The first index of a name is the current one; older ones only explain what was kept.
            for index in distribution.indexes.iter().rev() {
                facts.indexes.insert((name.clone(), index.name()), index.date);
            }
        }
        for (name, class) in &lock.classes {
            facts.epochs.insert(name.clone(), class.epoch);
            facts.downloads.extend(class.downloads.iter().map(|download| (download.url.clone(), download.sha256)));
            facts.add_packages(name, class.packages());
            for tools in &class.tools {
                facts.add_packages(&tools_label(name), tools.waves.iter().flatten());
            }
        }
        for (architecture, toolbox) in &lock.toolboxes {
            facts.add_packages(&format!("toolbox.{architecture}"), toolbox.packages.iter());
        }
        facts
    }

    fn add_packages<'a>(&mut self, owner: &str, packages: impl Iterator<Item = &'a LockedPackage>) {
        let states = packages.map(|package| ((owner.to_owned(), package.name.clone()), PackageState::of(package)));
        self.packages.extend(states);
    }
}

/// How a class's list of tools is called where classes are listed.
#[must_use]
pub fn tools_label(class: &str) -> String {
    format!("{class} (tools)")
}

impl PackageState {
    /// The version and source of a locked package.
    #[must_use]
    pub fn of(package: &LockedPackage) -> Self {
        let source = match &package.origin {
            Origin::Archive { index, .. } => index.clone(),
            Origin::File(path) => path.to_string(),
            Origin::Url(url) => public_text(url),
        };
        Self { version: package.version.clone(), source, sha256: package.sha256 }
    }
}

/// Same name, from and to: one move, all owners.
fn shared_moves<V: Ord + Clone>(
    before: &BTreeMap<(String, String), V>,
    after: &BTreeMap<(String, String), V>,
) -> impl Iterator<Item = (String, Option<V>, Option<V>, Vec<String>)> {
    let mut shared: BTreeMap<(String, Option<V>, Option<V>), Vec<String>> = BTreeMap::new();
    for ((owner, name), from, to) in moves(before, after) {
        shared.entry((name, from, to)).or_default().push(owner);
    }
    shared.into_iter().map(|((name, from, to), owners)| (name, from, to, owners))
}

/// The keys whose values differ, with both values.
fn moves<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> impl Iterator<Item = (K, Option<V>, Option<V>)> {
    let keys: BTreeSet<K> = before.keys().chain(after.keys()).cloned().collect();
    keys.into_iter().filter_map(|key| {
        let (from, to) = (before.get(&key).cloned(), after.get(&key).cloned());
        (from != to).then_some((key, from, to))
    })
}

#[cfg(test)]
mod tests {
    use kiln_model::digest::Sha256;
    use kiln_model::lock::{Ids, LockedClass, LockedRequest, OUTPUT_VERSION};

    use super::*;

    fn package(name: &str, version: &str) -> LockedPackage {
        let origin = Origin::Archive { index: "trixie/main".into(), path: format!("pool/{name}.deb") };
        let sha256 = Sha256::of(version.as_bytes());
        LockedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            origin,
            size: 1,
            sha256,
        }
    }

    /// A lock of classes with packages, each `name version`.
    fn lock(classes: &[(&str, &[&str])]) -> Lock {
        let class = |packages: &[&str]| LockedClass {
            distribution: "trixie".into(),
            request: LockedRequest::default(),
            epoch: Timestamp::UNIX_EPOCH,
            essential: Vec::new(),
            waves: vec![
                packages
                    .iter()
                    .filter_map(|text| text.split_once(' '))
                    .map(|(name, version)| package(name, version))
                    .collect(),
            ],
            downloads: Vec::new(),
            tools: Vec::new(),
        };
        Lock {
            output: OUTPUT_VERSION,
            solver: "test".into(),
            distributions: BTreeMap::new(),
            classes: classes.iter().map(|(name, packages)| ((*name).to_owned(), class(packages))).collect(),
            toolboxes: BTreeMap::new(),
            ids: Ids::default(),
        }
    }

    /// Changes as `name from to classes`.
    fn check(old: &[(&str, &[&str])], new: &[(&str, &[&str])], expected: &[&str]) {
        let version =
            |state: &Option<PackageState>| state.as_ref().map_or("-".to_owned(), |state| state.version.clone());
        let changes = changes(Some(&lock(old)), &lock(new));
        let line = |change: &PackageChange| {
            format!("{} {} {} {}", change.name, version(&change.from), version(&change.to), change.classes.join(","))
        };
        assert_eq!(changes.packages.iter().map(line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn equal_locks_have_no_changes() {
        let one = lock(&[("web", &["nginx 1"])]);
        assert!(changes(Some(&one), &one).is_empty());
        assert!(!changes(None, &one).is_empty());
    }

    #[test]
    fn the_same_move_in_several_classes_is_one_line() {
        check(
            &[("db", &["libc6 1", "pg 1"]), ("web", &["libc6 1"])],
            &[("db", &["libc6 2", "pg 1"]), ("web", &["libc6 2"])],
            &["libc6 1 2 db,web"],
        );
    }

    #[test]
    fn other_moves_are_apart() {
        check(
            &[("db", &["libc6 1"]), ("web", &["libc6 2", "old 1"])],
            &[("db", &["libc6 3"]), ("web", &["libc6 3", "new 1"])],
            &["libc6 1 3 db", "libc6 2 3 web", "new - 1 web", "old 1 - web"],
        );
    }

    #[test]
    fn a_rebuilt_package_of_equal_version_is_a_change() {
        let (old, mut new) = (lock(&[("web", &["agent 1"])]), lock(&[("web", &["agent 1"])]));
        if let Some(class) = new.classes.get_mut("web") {
            class.waves[0][0].sha256 = Sha256::of(b"rebuilt");
        }
        assert_eq!(changes(Some(&old), &new).packages.len(), 1);
    }
}
