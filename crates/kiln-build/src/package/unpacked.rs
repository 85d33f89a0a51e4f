//! Packages in their plain form: decompressed beside all other work, once per store.
//!
//! 1. [`Unpacked::start`] has threads that go through the packages in the order in which they will be needed.
//! 2. [`Unpacked::forms`] gives those of one stage, waits for what is being made, and makes itself what nobody has begun.
//!
//! A form is made aside and renamed, so that processes may share a store; at worst two make the same one. The `.deb` is
//! hashed while it is decompressed, and nothing is kept of one that is not what the lock says.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use camino::Utf8PathBuf;
use fs_err as fs;
use kiln_debian::deb::DebError;
use kiln_model::digest::{Hasher, Sha256};
use kiln_model::lock::LockedPackage;
use kiln_store::{Presence, Store, StoreError};

use super::form::{self, Form, KIND};
use crate::workplace::StageError;

/// What is read of a `.deb` at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Packages in their plain form, some of them still being made. Dropping it ends the work that nobody waits for.
#[derive(Debug)]
pub(crate) struct Unpacked {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    queue: Vec<LockedPackage>,
    next: AtomicUsize,
    stopped: AtomicBool,
    forms: Mutex<BTreeMap<Sha256, State>>,
    changed: Condvar,
}

#[derive(Debug, Clone)]
enum State {
    /// Somebody makes it.
    Working,
    Ready(Arc<Form>),
    /// The `.deb` had other bytes, and is gone.
    Corrupt {
        actual: Sha256,
        moved_to: Utf8PathBuf,
    },
}

impl Unpacked {
    /// Begins to decompress `packages`, which are in the store, in this order, with so many threads; none is no error.
    pub(crate) fn start(store: &Store, packages: impl IntoIterator<Item = LockedPackage>, threads: usize) -> Self {
        let shared = Arc::new(Shared {
            store: store.clone(),
            queue: packages.into_iter().collect(),
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            forms: Mutex::default(),
            changed: Condvar::new(),
        });
        let workers = (0..threads.min(shared.queue.len())).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.work())
        });
        Self { workers: workers.collect(), shared }
    }

    /// The forms of these packages, in the same order.
    ///
    /// # Errors
    /// If a package is missing or damaged, or the store cannot be written.
    pub(crate) fn forms(&self, packages: &[&LockedPackage]) -> Result<Vec<Arc<Form>>, StageError> {
        // First what nobody has begun, so that this thread works while others do.
        for package in packages {
            self.shared.take(package)?;
        }
        packages.iter().map(|package| self.shared.wait_for(package)).collect()
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // A panic of a worker was reported where its package was asked for.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// What a thread does: one package of the queue after the other.
    fn work(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            let Some(package) = self.queue.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
            // Whoever needs the package tries again, and then the error is its own.
            let _ = self.take(package);
        }
    }

    /// Makes the form, unless it is there or somebody makes it.
    fn take(&self, package: &LockedPackage) -> Result<(), StageError> {
        {
            let mut forms = self.lock();
            if forms.contains_key(&package.sha256) {
                return Ok(());
            }
            forms.insert(package.sha256, State::Working);
        }
        let claim = Claim { shared: self, digest: package.sha256 };
        match self.form(package) {
            Ok(form) => claim.settle(State::Ready(Arc::new(form))),
            Err(StageError::Store(StoreError::Corrupt { actual, moved_to, .. })) => {
                claim.settle(State::Corrupt { actual, moved_to });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn wait_for(&self, package: &LockedPackage) -> Result<Arc<Form>, StageError> {
        loop {
            let mut forms = self.lock();
            while matches!(forms.get(&package.sha256), Some(State::Working)) {
                forms = self.changed.wait(forms).unwrap_or_else(PoisonError::into_inner);
            }
            match forms.get(&package.sha256).cloned() {
                Some(State::Ready(form)) => return Ok(form),
                Some(State::Corrupt { actual, moved_to }) => {
                    return Err(StoreError::Corrupt { digest: package.sha256, actual, moved_to }.into());
                }
                Some(State::Working) | None => drop(forms),
            }
            self.take(package)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Sha256, State>> {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn form(&self, package: &LockedPackage) -> Result<Form, StageError> {
        let path = self.store.derived_file(KIND, &package.sha256)?;
        match form::read(&path) {
            Some(form) => Ok(form),
            None => self.make(package),
        }
    }

    fn make(&self, package: &LockedPackage) -> Result<Form, StageError> {
        let digest = &package.sha256;
        let file = match fs::File::open(self.store.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Absent { digest: *digest }.into());
            }
            result => {
                result.map_err(|source| failed(package, DebError::Read { part: "the file".to_owned(), source }))?
            }
        };
        let mut reader = Hashing { reader: file, hasher: Hasher::new(), stopped: &self.stopped };
        let mut draft = self.store.begin_derived(KIND, digest)?;
        let made = form::make(&mut reader, BufWriter::with_capacity(BLOCK_BYTES, &mut draft));
        let actual = reader.finish();
        if let Some(actual) = actual.ok().filter(|actual| actual != digest) {
            // Whatever else went wrong, it went wrong because of this.
            return Err(self.corrupt(*digest, actual)?.into());
        }
        let form = made.map_err(|error| failed(package, error))?;
        draft.keep()?;
        Ok(form)
    }

    /// Moves a `.deb` with wrong bytes away.
    fn corrupt(&self, digest: Sha256, actual: Sha256) -> Result<StoreError, StoreError> {
        Ok(match self.store.verify(&digest)? {
            Presence::Corrupt { moved_to } => StoreError::Corrupt { digest, actual, moved_to },
            // Another process was faster.
            Presence::Absent | Presence::Present => StoreError::Absent { digest },
        })
    }
}

fn failed(package: &LockedPackage, source: DebError) -> StageError {
    StageError::Package { package: format!("{} {}", package.name, package.version), source: Box::new(source) }
}

/// The right to make a form; given back when dropped.
struct Claim<'a> {
    shared: &'a Shared,
    digest: Sha256,
}

impl Claim<'_> {
    fn settle(self, state: State) {
        self.shared.lock().insert(self.digest, state);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut forms = self.shared.lock();
        if matches!(forms.get(&self.digest), Some(State::Working)) {
            forms.remove(&self.digest);
        }
        self.shared.changed.notify_all();
    }
}

/// Hashes what it reads, and ends early when nobody needs the result any more.
struct Hashing<'a, R> {
    reader: R,
    hasher: Hasher,
    stopped: &'a AtomicBool,
}

impl<R: Read> Hashing<'_, R> {
    /// The digest of all there is, the unread rest included.
    fn finish(mut self) -> io::Result<Sha256> {
        let mut block = vec![0; BLOCK_BYTES];
        while self.read(&mut block)? > 0 {}
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("it is not needed any more"));
        }
        loop {
            match self.reader.read(block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let length = result?;
                    self.hasher.update(block.get(..length).unwrap_or_default());
                    return Ok(length);
                }
            }
        }
    }
}
