//! A web server, a store, and a recorder of events: one for each test.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};
use kiln_store::{FetchError, FetchOptions, Fetched, Store, Want};
use kiln_testkit::web::Web;

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) web: Web,
    pub(crate) store: Store,
    pub(crate) options: FetchOptions,
    pub(crate) events: Recorder,
}

#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Report for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Recorder {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| matches(event)).count()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        fs::create_dir(root.join("mirror")).unwrap();
        let web = Web::serve(&root.join("mirror"));
        let store = Store::open(&root.join("store")).unwrap();
        Self { web, store, options: options(), events: Recorder::default(), directory }
    }

    pub(crate) fn root(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).unwrap()
    }

    pub(crate) fn mirror_path(&self, name: &str) -> Utf8PathBuf {
        self.root().join("mirror").join(name)
    }

    /// Puts a file on the mirror.
    pub(crate) fn offer(&self, name: &str, bytes: &[u8]) -> Want {
        fs::write(self.mirror_path(name), bytes).unwrap();
        self.want(name, bytes)
    }

    pub(crate) fn want(&self, name: &str, bytes: &[u8]) -> Want {
        Want {
            name: name.to_owned(),
            digest: Sha256::of(bytes),
            size_bytes: Some(bytes.len() as u64),
            urls: vec![format!("{}{name}", self.web.url()).parse().unwrap()],
        }
    }

    pub(crate) fn fetch(&self, wants: &[Want]) -> Result<Fetched, FetchError> {
        self.store.fetch(wants, &self.options, &self.events)
    }

    /// Why the one file did not come, causes included; checks that nothing of it is taken for whole.
    pub(crate) fn failure(&self, want: &Want) -> String {
        let error = self.fetch(std::slice::from_ref(want)).unwrap_err();
        assert_eq!(self.store.size(&want.digest), None);
        assert_eq!(self.left("tmp"), Vec::<String>::new());
        let text = error.to_string();
        let (_, reason) = text.split_once(": ").unwrap();
        reason.to_owned()
    }

    pub(crate) fn assert_here(&self, bytes: &[u8]) {
        assert!(self.store.read(&Sha256::of(bytes)).unwrap() == bytes);
        assert_eq!(self.left("tmp"), Vec::<String>::new());
        assert_eq!(self.left("partial"), Vec::<String>::new());
    }

    /// Names of the files in one of the store's directories.
    pub(crate) fn left(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.store.root().join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What a killed process would have left of a download.
    pub(crate) fn leave_partial(&self, digest: &Sha256, bytes: &[u8]) {
        fs::write(self.store.root().join("partial").join(digest.to_string()), bytes).unwrap();
    }
}

/// As usual, but nobody waits long.
pub(crate) fn options() -> FetchOptions {
    FetchOptions {
        attempts: 3,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        longest_wait: Duration::from_millis(4),
        ..FetchOptions::default()
    }
}

/// Bytes that look like nothing and are always the same.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
