//! Stages: what a lock and a spec mean, as a plan that can be read, compared and carried out.
//!
//! Stages form a chain: the essential set, the class's packages, then each step; a child class goes on where its parent
//! ends. A stage's key is the digest of its parent's key and of everything it reads ([`Stage::inputs`]): package digests,
//! the bytes and modes of files, script text, declared variables, the engine's own version for that kind of stage. The
//! dates of indexes and of files enter no key.

mod inputs;
mod plan;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use kiln_model::digest::{Hasher, Sha256};
use kiln_model::lock::{LockedDownload, LockedPackage};
use kiln_model::spec::{Place, Step};
use serde::{Deserialize, Serialize};

pub use plan::{PlanError, asked_for, stages, with_ancestors};
pub use sources::{SourceError, Sources, read_sources};

/// All stages of some classes, parents before their children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stages {
    /// Each stage once, also where classes share it.
    pub stages: Vec<Stage>,
    /// The stages of each class, from the bottom to the top of its tree.
    pub classes: BTreeMap<String, Vec<StageId>>,
}

/// A stage's place in [`Stages::stages`].
pub type StageId = usize;

/// One cached unit of building.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The class that it was planned for; another with the same stages shares it.
    pub class: String,
    /// What it is to the user: `essential set`, `packages`, `step 2: copy site`, `tools of step 3`.
    pub label: String,
    /// The stage below it.
    pub parent: Option<StageId>,
    /// The stage that holds its tools: seen while it runs, gone afterwards. Its parent is this stage's parent.
    pub tools: Option<StageId>,
    /// Where the spec asks for it.
    pub place: Option<Place>,
    /// Everything that it reads, besides its parent and its tools, in order.
    pub inputs: Vec<Input>,
    /// What there is to do.
    pub work: Work,
}

/// One thing that a stage reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is: `package nginx`, `file site/index.html`, `engine`.
    pub name: String,
    /// What it says: a digest, a version, a text.
    pub value: String,
}

/// What there is to do in a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Packages are installed.
    Packages(PackageWork),
    /// A step is carried out.
    Step(Box<StepWork>),
}

/// Packages to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageWork {
    /// Debian's name of the architecture of the tree.
    pub architecture: String,
    /// Whether this is the essential set, in a tree that is empty.
    pub essential: bool,
    /// A wave is unpacked in order, then configured in order, before the next begins. The essential set is one wave.
    pub waves: Vec<Vec<LockedPackage>>,
    /// Names of those that were asked for; the others came along, and apt may take them away again.
    pub manual: BTreeSet<String>,
}

/// A step to carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct StepWork {
    /// What it does, and where it is written.
    pub step: Step,
    /// The files of the factory that it reads.
    pub sources: Vec<Source>,
    /// The file that it places.
    pub download: Option<LockedDownload>,
    /// What apt finds inside: exactly the packages of the class and the tools of the step.
    pub repository: Vec<LockedPackage>,
    /// The class and its ancestors, the root first.
    pub lineage: Vec<String>,
}

/// One file or directory of the factory as it was when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Relative to the factory.
    pub path: Utf8PathBuf,
    /// What it was.
    pub kind: SourceKind,
}

/// What a source is. Of the mode, whether its owner may execute it: all else is the user's umask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A directory; what is in it are sources of their own.
    Directory,
    /// A regular file.
    File {
        /// Digest of its content.
        sha256: Sha256,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link, which is copied as it is.
    Symlink {
        /// Where it points.
        target: Utf8PathBuf,
    },
}

impl Stage {
    /// The stage's key, given the name of its parent's layer and the key of its tools.
    #[must_use]
    pub fn key(&self, parent: Option<&Sha256>, tools: Option<&Sha256>) -> Sha256 {
        let mut hasher = Hasher::default();
        let mut add = |name: &str, value: &str| {
            hasher.update(format!("{} {name} {} ", name.len(), value.len()).as_bytes());
            hasher.update(value.as_bytes());
            hasher.update(b"\n");
        };
        add("parent", &parent.map(ToString::to_string).unwrap_or_default());
        add("tools", &tools.map(ToString::to_string).unwrap_or_default());
        for Input { name, value } in &self.inputs {
            add(name, value);
        }
        hasher.finish()
    }
}
