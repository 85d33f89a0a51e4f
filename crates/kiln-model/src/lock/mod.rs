//! `kiln.lock`: the exact answer to `kiln.toml`, written by `kiln lock`, reviewed and committed.
//!
//! The text is TOML with one package a line, so that a changed version is a changed line. Its first key is `digest`, the
//! SHA-256 of everything after that line up to `[ids]`: a lock that was damaged, or merged by hand, is noticed before it
//! is believed. `[ids]` comes last, belongs to `kiln build` and to people, and is carried over byte for byte.
//!
//! Where a file comes from is an [`Origin`]; which mirror serves it is never in the lock.

mod ids;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;
use crate::digest::Sha256;

/// The file's name, beside `kiln.toml`.
pub const FILE_NAME: &str = "kiln.lock";

/// Version of the lock's own syntax.
pub const FORMAT_VERSION: u32 = 1;

/// Kiln's output version: raised only when the same lock would give other bytes.
pub const OUTPUT_VERSION: u32 = 1;

/// What a lock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Kiln's [`OUTPUT_VERSION`] when it was written.
    pub output: u32,
    /// The algorithm that chose the packages, with its version: `apt-classic/1`.
    pub solver: String,
    /// The indexes everything was chosen from, by distribution.
    pub distributions: BTreeMap<String, LockedDistribution>,
    /// The exact packages of each class.
    pub classes: BTreeMap<String, LockedClass>,
    /// Kiln's own tools, by the architecture of the host that runs them.
    pub toolboxes: BTreeMap<String, LockedToolbox>,
    /// The numeric ids of system users and groups.
    pub ids: Ids,
}

/// A distribution's indexes at the moment of locking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDistribution {
    /// `debian` or `ubuntu`.
    pub family: String,
    /// Debian's name of the images' architecture.
    pub architecture: String,
    /// The spec's `snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Timestamp>,
    /// Current indexes in the order of the spec, then older ones that still explain a locked package.
    pub indexes: Vec<LockedIndex>,
}

/// One Packages file, and the signed Release that vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedIndex {
    /// `archive`, `security`, or the name of an extra repository.
    pub repository: String,
    /// Suite: `trixie-security`.
    pub suite: String,
    /// Component: `main`.
    pub component: String,
    /// apt's pin priority.
    #[serde(default = "priority_default")]
    pub priority: i32,
    /// The Release file's own date.
    pub date: Timestamp,
    /// Fingerprint of the key whose signature was verified.
    pub key: String,
    /// The signed Release (InRelease) as the mirror sent it.
    pub release: Sha256,
    /// The index's path below `dists/SUITE/`.
    pub path: String,
    /// Size of the (compressed) index.
    pub size: u64,
    /// The (compressed) index as Release lists it.
    pub sha256: Sha256,
}

/// What one class asked for, and its exact packages beyond its parent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedClass {
    /// The class's distribution, also where it comes from its parent.
    pub distribution: String,
    /// The spec's words that the packages answer.
    pub request: LockedRequest,
    /// Date of the newest index when this class's packages last changed; every timestamp in the image is clamped to it.
    pub epoch: Timestamp,
    /// The essential set, in the order in which it is unpacked and configured; empty for a child class.
    pub essential: Vec<LockedPackage>,
    /// The other packages: a wave is unpacked in order, then configured in order, before the next begins.
    pub waves: Vec<Vec<LockedPackage>>,
    /// What the class's `download` steps fetch.
    pub downloads: Vec<LockedDownload>,
    /// Packages that are there for some steps only, by what the steps ask for.
    pub tools: Vec<LockedTools>,
}

/// Packages added to a class's own for the steps that ask for them, and gone afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedTools {
    /// The steps' `tools`, as written.
    pub request: Vec<String>,
    /// What comes on top of the class's packages, in waves as there.
    pub waves: Vec<Vec<LockedPackage>>,
}

/// The part of a class's spec that decides its packages; when it changes, the lock no longer fits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRequest {
    /// Parent class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Requests as written.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Packages never to be chosen.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether Recommends are followed.
    #[serde(default)]
    pub recommends: bool,
}

/// The tools Kiln runs on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedToolbox {
    /// Which of the lock's distributions they come from.
    pub distribution: String,
    /// The packages Kiln asked for.
    pub request: Vec<String>,
    /// The exact packages, by name; unpacked, never configured.
    pub packages: Vec<LockedPackage>,
}

/// One exact package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LockedPackage {
    /// Binary package name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
    /// The package's own architecture, or `all`.
    pub architecture: String,
    /// Where the file comes from.
    pub origin: Origin,
    /// Size of the `.deb`.
    pub size: u64,
    /// Digest of the `.deb`.
    pub sha256: Sha256,
}

/// Where a locked package's file comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An archive, at `path` below the mirror's root.
    Archive {
        /// `SUITE/COMPONENT`, with `REPOSITORY:` before it for an extra repository.
        index: String,
        /// Path below the mirror's root: `pool/main/n/nginx/…deb`.
        path: String,
    },
    /// A file of the factory, by its path in it.
    File(Utf8PathBuf),
    /// A URL from the spec.
    Url(String),
}

/// One file that a `download` step places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDownload {
    /// As the spec names it.
    pub url: String,
    /// Size.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// Numeric ids given to system users and groups, so that a rebuilt image never changes the owner of files on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ids {
    /// User name to uid.
    pub users: BTreeMap<String, u32>,
    /// Group name to gid.
    pub groups: BTreeMap<String, u32>,
    /// The section's own bytes, comments included.
    #[serde(skip)]
    pub text: String,
}

/// The text is not a lock that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not TOML, or a key that does not belong; shows the place.
    #[error(transparent)]
    Syntax(Box<Diagnostic>),
    /// Written by a newer Kiln.
    #[error("{FILE_NAME} has format {format}, this Kiln reads {FORMAT_VERSION}")]
    Newer {
        /// The lock's format.
        format: u32,
    },
    /// Written by a Kiln whose images have other bytes.
    #[error("{FILE_NAME} is for output version {output}, this Kiln has {OUTPUT_VERSION}")]
    NewerOutput {
        /// The lock's output version.
        output: u32,
    },
    /// The text is not what `kiln lock` wrote.
    #[error("{FILE_NAME} was changed by hand or damaged: its digest says {expected}, its text is {actual}")]
    Damaged {
        /// The digest in the text.
        expected: Sha256,
        /// The digest of the text.
        actual: Sha256,
    },
    /// Intact, but it contradicts itself.
    #[error("{FILE_NAME} contradicts itself: {0}")]
    Inconsistent(String),
}

impl LockError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Newer { .. } | Self::NewerOutput { .. } => "use the Kiln that wrote it, or a newer one",
            Self::Syntax(_) | Self::Damaged { .. } | Self::Inconsistent(_) => {
                "restore kiln.lock from version control; after a merge, take one side and run `kiln lock` again; \
                 or remove it and run `kiln lock` to choose anew"
            }
        }
    }
}

impl LockedIndex {
    /// `SUITE/COMPONENT`, with `REPOSITORY:` before it for an extra repository; packages name their index by it.
    #[must_use]
    pub fn name(&self) -> String {
        index_name(&self.repository, &self.suite, &self.component)
    }
}

/// apt's priority of an archive that says nothing else, and so the lock's.
pub const PRIORITY_DEFAULT: i32 = 500;

fn priority_default() -> i32 {
    PRIORITY_DEFAULT
}

/// See [`LockedIndex::name`].
#[must_use]
pub fn index_name(repository: &str, suite: &str, component: &str) -> String {
    match repository {
        ARCHIVE | SECURITY => format!("{suite}/{component}"),
        extra => format!("{extra}:{suite}/{component}"),
    }
}

/// The distribution's main archive: the suite itself and its `-updates`.
pub const ARCHIVE: &str = "archive";

/// The archive of the `-security` suite.
pub const SECURITY: &str = "security";

impl LockedClass {
    /// Every package of this class beyond its parent's, in order.
    pub fn packages(&self) -> impl Iterator<Item = &LockedPackage> {
        self.essential.iter().chain(self.waves.iter().flatten())
    }

    /// Every package that this class's files are fetched for: its own and its steps' tools.
    pub fn packages_and_tools(&self) -> impl Iterator<Item = &LockedPackage> {
        self.packages().chain(self.tools.iter().flat_map(|tools| tools.waves.iter().flatten()))
    }
}

impl Lock {
    /// Every package of a class and its parents, in the order in which they are installed.
    #[must_use]
    pub fn packages_of<'a>(&'a self, class: &'a str) -> Vec<&'a LockedPackage> {
        self.lineage(class)
            .into_iter()
            .filter_map(|name| self.classes.get(name))
            .flat_map(LockedClass::packages)
            .collect()
    }

    /// The class's ancestors and itself, the root first.
    #[must_use]
    pub fn lineage<'a>(&'a self, class: &'a str) -> Vec<&'a str> {
        let parent = |name: &str| self.classes.get(name).and_then(|class| class.request.from.as_deref());
        let mut names: Vec<&str> =
            std::iter::successors(Some(class), |name| parent(name)).take(self.classes.len() + 1).collect();
        names.reverse();
        names
    }

    /// What the types cannot say: every name that is referred to exists, no package is there twice.
    fn check_references(&self) -> Result<(), String> {
        for (name, class) in &self.classes {
            let distribution = self.known_distribution(&class.distribution, &format!("class {name}"))?;
            if let Some(parent) = &class.request.from
                && !self.classes.contains_key(parent)
            {
                return Err(format!("class {name} is from `{parent}`, which it does not hold"));
            }
            if self.lineage(name).len() > self.classes.len() {
                return Err(format!("class {name} is its own ancestor"));
            }
            let own = self.packages_of(name);
            check_packages(&format!("class {name}"), distribution, &own)?;
            for tools in &class.tools {
                let all: Vec<_> = own.iter().copied().chain(tools.waves.iter().flatten()).collect();
                check_packages(&format!("class {name} with {}", tools.request.join(", ")), distribution, &all)?;
            }
        }
        for (architecture, toolbox) in &self.toolboxes {
            let owner = format!("toolbox {architecture}");
            let distribution = self.known_distribution(&toolbox.distribution, &owner)?;
            check_packages(&owner, distribution, &toolbox.packages.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn known_distribution(&self, name: &str, owner: &str) -> Result<&LockedDistribution, String> {
        self.distributions
            .get(name)
            .ok_or_else(|| format!("{owner} is of distribution `{name}`, which it does not hold"))
    }
}

fn check_packages(owner: &str, distribution: &LockedDistribution, packages: &[&LockedPackage]) -> Result<(), String> {
    let indexes: BTreeSet<String> = distribution.indexes.iter().map(LockedIndex::name).collect();
    let mut seen = BTreeSet::new();
    for package in packages {
        if !seen.insert(&package.name) {
            return Err(format!("{owner} has package {} twice", package.name));
        }
        if let Origin::Archive { index, path } = &package.origin {
            if !indexes.contains(index) {
                return Err(format!(
                    "{owner}: package {} is from index `{index}`, which it does not hold",
                    package.name
                ));
            }
            if !is_plain_path(path) {
                return Err(format!(
                    "{owner}: package {} has the path `{path}`, which leaves the mirror",
                    package.name
                ));
            }
        }
    }
    Ok(())
}

/// Whether a path stays below the directory it is resolved in.
#[must_use]
pub fn is_plain_path(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\\')
}
