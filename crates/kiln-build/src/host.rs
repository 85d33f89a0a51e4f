//! The machine Kiln runs on, as far as a lock depends on it, and all else that the pipeline is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use kiln_debian::index::Index;
use kiln_model::digest::Sha256;
use kiln_model::event::Report;
use kiln_store::{FailureReason, FetchOptions, Store};

/// What the host says about mirrors, keys and itself.
#[derive(Debug, Clone)]
pub struct Host {
    /// Debian's name of the host's architecture.
    pub architecture: String,
    /// Mirrors from `KILN_MIRROR`.
    pub mirrors: Vec<String>,
    /// apt's source files, by path and content, in apt's order.
    pub apt_sources: Vec<(Utf8PathBuf, Vec<u8>)>,
    /// Where the host keeps archive keyrings.
    pub keyring_directory: Utf8PathBuf,
}

/// All that the pipeline is given instead of taking it.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Where every byte goes.
    pub store: &'a Store,
    /// How to reach servers.
    pub fetch: &'a FetchOptions,
    /// This machine.
    pub host: &'a Host,
    /// Who watches.
    pub report: &'a dyn Report,
    /// What this run has learned.
    pub memory: &'a Memory,
    /// The time by which signatures and dates are judged.
    pub now: Timestamp,
}

/// What one run has asked and read already: classes and toolbox often have the same indexes.
#[derive(Debug, Default)]
pub struct Memory {
    /// Signed Releases as their mirrors sent them, by address.
    releases: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Why a mirror gave no Release, by address: nobody waits twice for a mirror that is dead.
    failures: Mutex<BTreeMap<String, Arc<FailureReason>>>,
    /// Parsed indexes, by architecture and digest.
    indexes: Mutex<BTreeMap<(String, Sha256), Index>>,
}

impl Memory {
    pub(crate) fn release(&self, address: &str) -> Option<Vec<u8>> {
        held(&self.releases).get(address).cloned()
    }

    pub(crate) fn keep_release(&self, address: &str, bytes: &[u8]) {
        held(&self.releases).insert(address.to_owned(), bytes.to_vec());
    }

    pub(crate) fn failure(&self, address: &str) -> Option<Arc<FailureReason>> {
        held(&self.failures).get(address).cloned()
    }

    pub(crate) fn keep_failure(&self, address: &str, reason: FailureReason) -> Arc<FailureReason> {
        let reason = Arc::new(reason);
        held(&self.failures).insert(address.to_owned(), Arc::clone(&reason));
        reason
    }

    pub(crate) fn index(&self, architecture: &str, digest: &Sha256) -> Option<Index> {
        held(&self.indexes).get(&(architecture.to_owned(), *digest)).cloned()
    }

    pub(crate) fn keep_index(&self, architecture: &str, digest: &Sha256, index: &Index) {
        held(&self.indexes).insert((architecture.to_owned(), *digest), index.clone());
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("host", self.host).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Host {
    /// Reads apt's sources below `apt_directory` (`/etc/apt`); files that cannot be read are left out, as apt leaves out
    /// what it may not read.
    #[must_use]
    pub fn read(mirrors: Vec<String>, apt_directory: &Utf8Path, keyring_directory: &Utf8Path) -> Self {
        let mut paths = vec![apt_directory.join("sources.list")];
        let parts = fs_err::read_dir(apt_directory.join("sources.list.d")).into_iter().flatten().flatten();
        let mut parts: Vec<Utf8PathBuf> =
            parts.filter_map(|entry| Utf8PathBuf::from_path_buf(entry.path()).ok()).collect();
        parts.retain(|path| matches!(path.extension(), Some("list" | "sources")));
        parts.sort();
        paths.append(&mut parts);
        let read = |path: Utf8PathBuf| fs_err::read(&path).ok().map(|text| (path, text));
        Self {
            architecture: architecture().to_owned(),
            mirrors,
            apt_sources: paths.into_iter().filter_map(read).collect(),
            keyring_directory: keyring_directory.to_owned(),
        }
    }
}

/// Debian's name for the architecture this Kiln was built for.
fn architecture() -> &'static str {
    match (std::env::consts::ARCH, cfg!(target_endian = "little")) {
        ("x86_64", _) => "amd64",
        ("aarch64", _) => "arm64",
        ("x86", _) => "i386",
        ("arm", _) => "armhf",
        ("powerpc64", true) => "ppc64el",
        (other, _) => other,
    }
}
