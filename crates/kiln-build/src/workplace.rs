//! Where a stage is carried out, and what can go wrong there.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_debian::deb::DebError;
use kiln_sandbox::{CancelToken, Ending, Identity, Sandbox, SandboxError, Tree, Upper};
use kiln_store::{Store, StoreError};

/// All that a stage is given: the tree below it, where its changes go, and what must be constant.
pub(crate) struct Workplace<'a> {
    /// Where packages and downloads are.
    pub(crate) store: &'a Store,
    /// The factory's directory, absolute.
    pub(crate) factory: &'a Utf8Path,
    /// Who root inside is outside.
    pub(crate) identity: Identity,
    /// The layers of the tree below, from bottom to top.
    pub(crate) lowers: Vec<Utf8PathBuf>,
    /// Where changes go.
    pub(crate) upper: Upper,
    /// The time that programs are told it is, and that new files get: that of the newest file of the packages so far, in
    /// seconds since 1970.
    pub(crate) epoch: i64,
    /// Ids that the lock has given out.
    pub(crate) ids: &'a FixedIds,
    /// How many threads may work at once.
    pub(crate) threads: usize,
    /// Who watches.
    pub(crate) watcher: &'a dyn Watcher,
    /// Ends the work early.
    pub(crate) cancel: &'a CancelToken,
}

/// Numeric ids that names must get if anything makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FixedIds {
    /// User name to uid.
    pub(crate) users: BTreeMap<String, u32>,
    /// Group name to gid.
    pub(crate) groups: BTreeMap<String, u32>,
}

/// Sees what happens in one stage.
pub(crate) trait Watcher: Sync {
    /// A program wrote this line.
    fn line(&self, line: &str);
    /// This is being done now; `done` of `total` packages are finished.
    fn advanced(&self, doing: &str, done: usize, total: usize);
    /// A named part of the stage took this long: `decompress`, `place`, `configure nginx`.
    fn part(&self, part: &str, took: std::time::Duration);
}

/// Why a stage could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A program of the distribution or of the user did not end well.
    #[error("{program} {ending}")]
    Program {
        /// What ran: `postinst of nginx-common`, `script setup.sh`.
        program: String,
        /// How it ended.
        ending: Ending,
        /// The last lines it wrote.
        last_lines: Vec<String>,
        /// What to do about it, where that is known.
        hint: Option<String>,
    },
    /// What is asked for cannot be done, or what is there is not as it should be.
    #[error("{message}")]
    Refused {
        /// What and why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A package is damaged, or dpkg would not take it.
    #[error("unpack {package}")]
    Package {
        /// Its name and version.
        package: String,
        /// Why.
        #[source]
        source: Box<DebError>,
    },
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error("{doing}")]
    Io {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Workplace<'_> {
    /// A sandbox on the tree, with the environment that every program of a build gets.
    pub(crate) fn sandbox(&self) -> Sandbox {
        let tree = Tree { lowers: self.lowers.clone(), upper: self.upper.clone() };
        let mut sandbox = Sandbox::new(tree, self.identity);
        sandbox.environment.extend(environment(self.epoch));
        sandbox
    }
}

/// What every program of a build finds in its environment besides the sandbox's.
pub(crate) fn environment(epoch: i64) -> impl Iterator<Item = (String, String)> {
    let variables = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("INITRD", "No"),
        ("SYSTEMD_OFFLINE", "1"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    variables.into_iter().chain([("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string())])
}
