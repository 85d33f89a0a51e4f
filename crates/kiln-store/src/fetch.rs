//! Many files by digest: what is there is verified, what is missing is downloaded, what fails is told together.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};
use tokio::sync::Semaphore;
use url::Url;

use crate::client::ProxySettings;
use crate::download::{Arrival, WaitNotice, bring};
use crate::failure::{FetchError, FetchFailure, Halt};
use crate::session::{self, Session};
use crate::store::{Presence, Store, StoreError, is_full};

/// A file to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// What it is to the user: a package with its version, an index with its suite.
    pub name: String,
    /// Its digest.
    pub digest: Sha256,
    /// Its size, where known: an answer of another size is refused before it comes.
    pub size_bytes: Option<u64>,
    /// Where it may be, tried in this order: `http`, `https`, `file`.
    pub urls: Vec<Url>,
}

/// How to download.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Never use the network. `file:` addresses still work.
    pub offline: bool,
    /// Hash files that are there already, so that a damaged one is found and fetched again.
    pub verify_present: bool,
    /// Most downloads at once.
    pub connections: usize,
    /// Most downloads at once from one host: mirrors refuse those who ask for too many.
    pub connections_per_host: usize,
    /// How often to ask for a file that fails in a way that may pass.
    pub attempts: u32,
    /// The pause after the first failed attempt; each further one doubles it.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// The longest that a server can make us wait with `Retry-After`.
    pub longest_wait: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a server may say nothing.
    pub idle_timeout: Duration,
    /// The most that is taken of a file whose size is not known.
    pub unknown_size_limit_bytes: u64,
    /// Which proxies to use.
    pub proxy: ProxySettings,
}

/// What a fetch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files that this process downloaded.
    pub downloaded_files: u64,
    /// Bytes that came for them in this run: less than their sizes where something was resumed.
    pub downloaded_bytes: u64,
    /// Files that were there already, or that another process downloaded meanwhile.
    pub present_files: u64,
    /// Their size together.
    pub present_bytes: u64,
    /// From the first look to the last file.
    pub took: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            offline: false,
            verify_present: true,
            connections: 12,
            connections_per_host: 8,
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
            longest_wait: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            unknown_size_limit_bytes: 16 << 30,
            proxy: ProxySettings::default(),
        }
    }
}

impl Store {
    /// Brings every wanted file into the store. A file wanted twice comes once.
    ///
    /// # Errors
    /// [`FetchError::Failed`] with every file that could not be had, after all others came; [`FetchError::Offline`] before
    /// anything is done; [`FetchError::Full`] and [`FetchError::Store`] at once. Whatever came whole is kept, always.
    pub fn fetch(&self, wants: &[Want], options: &FetchOptions, report: &dyn Report) -> Result<Fetched, FetchError> {
        let started = Instant::now();
        let mut fetched = Fetched::default();
        let missing = self.missing(merge(wants), options, report, &mut fetched)?;
        report.event(plan(&missing, &fetched));
        refuse_offline(&missing, options)?;
        if !missing.is_empty() {
            self.download(&missing, options, report, &mut fetched)?;
        }
        fetched.took = started.elapsed();
        Ok(fetched)
    }

    /// The wanted files that are not there, largest first; counts those that are.
    fn missing(
        &self,
        wants: Vec<Want>,
        options: &FetchOptions,
        report: &dyn Report,
        fetched: &mut Fetched,
    ) -> Result<Vec<Want>, FetchError> {
        let found = self.look(&wants, options.verify_present)?;
        let mut missing = Vec::new();
        for (want, found) in wants.into_iter().zip(found) {
            match found {
                Found::Present { size_bytes } => {
                    fetched.present_files += 1;
                    fetched.present_bytes += size_bytes;
                    continue;
                }
                Found::Corrupt(warning) => report.event(corrupt_warning(&want, &warning)),
                Found::Absent => {}
            }
            missing.push(want);
        }
        // The largest first: a large file that begins last would be waited for alone.
        missing.sort_by_key(|want| Reverse(want.size_bytes.unwrap_or(u64::MAX)));
        Ok(missing)
    }

    /// Looks at every wanted file, on all processors when they are to be hashed.
    fn look(&self, wants: &[Want], verify: bool) -> Result<Vec<Found>, StoreError> {
        let threads = if verify { std::thread::available_parallelism().map_or(1, NonZero::get) } else { 1 };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Found)>, StoreError> {
            let mut found = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(want) = wants.get(index) else { return Ok(found) };
                found.push((index, self.look_at(want, verify)?));
            }
        };
        let mut found = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.min(wants.len())).map(|_| scope.spawn(work)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        })?
        .concat();
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }

    fn look_at(&self, want: &Want, verify: bool) -> Result<Found, StoreError> {
        let Some(size_bytes) = self.size(&want.digest) else { return Ok(Found::Absent) };
        let fits = want.size_bytes.is_none_or(|expected| expected == size_bytes);
        if fits && !verify {
            return Ok(Found::Present { size_bytes });
        }
        Ok(match self.verify(&want.digest)? {
            Presence::Present if fits => Found::Present { size_bytes },
            // The bytes are good, so the size that is asked for is wrong: the download will say so, and they stay.
            Presence::Present | Presence::Absent => Found::Absent,
            Presence::Corrupt { moved_to } => Found::Corrupt(moved_to.into_string()),
        })
    }

    fn download(
        &self,
        wants: &[Want],
        options: &FetchOptions,
        report: &dyn Report,
        fetched: &mut Fetched,
    ) -> Result<(), FetchError> {
        let run = session::run(async || {
            let urls = wants.iter().flat_map(|want| &want.urls);
            let session = Session::new(self, options, report, urls)
                .map_err(|source| FetchError::Client { source: Box::new(source) })?;
            let result = download_all(&session, wants, fetched).await;
            fetched.downloaded_bytes += session.received_bytes.get();
            result
        });
        run.map_err(|source| FetchError::Client { source: Box::new(source) })?
    }
}

/// What is there of a wanted file.
#[derive(Debug, Clone)]
enum Found {
    Present {
        size_bytes: u64,
    },
    Absent,
    /// Where it was moved.
    Corrupt(String),
}

/// Downloads side by side. A failed file lets the others go on; a failed disk stops all.
async fn download_all(session: &Session<'_>, wants: &[Want], fetched: &mut Fetched) -> Result<(), FetchError> {
    let active = Semaphore::new(session.options.connections.max(1));
    let notice = WaitNotice::default();
    let mut running: FuturesUnordered<_> = wants.iter().map(|want| bring(session, &active, &notice, want)).collect();
    let mut failures = Vec::new();
    while let Some(result) = running.next().await {
        match result {
            Ok(Arrival::Downloaded { .. }) => fetched.downloaded_files += 1,
            Ok(Arrival::Shared { size_bytes }) => {
                fetched.present_files += 1;
                fetched.present_bytes += size_bytes;
            }
            Err(Halt::Failure(failure)) => failures.push(failure),
            Err(Halt::Disk(error)) => return Err(disk_error(session.store, wants, error)),
        }
    }
    all_came(failures)
}

fn all_came(mut failures: Vec<FetchFailure>) -> Result<(), FetchError> {
    if failures.is_empty() {
        return Ok(());
    }
    failures.sort_by(|a, b| (&a.name, &a.url).cmp(&(&b.name, &b.url)));
    Err(FetchError::Failed(failures))
}

/// What to say when the store could not be written; with a full disk, how much is still to come.
pub(crate) fn disk_error(store: &Store, wants: &[Want], source: std::io::Error) -> FetchError {
    if !is_full(&source) {
        return FetchError::Store(store.error(source));
    }
    let absent = wants.iter().filter(|want| store.size(&want.digest).is_none());
    let needed_bytes = absent.filter_map(|want| want.size_bytes).sum();
    FetchError::Full { root: store.root().to_owned(), needed_bytes, source }
}

/// One want for each digest, in the order given; later ones add their addresses.
fn merge(wants: &[Want]) -> Vec<Want> {
    let mut merged: Vec<Want> = Vec::new();
    let mut places = BTreeMap::new();
    for want in wants {
        let place = *places.entry(want.digest).or_insert(merged.len());
        let Some(first) = merged.get_mut(place) else {
            merged.push(want.clone());
            continue;
        };
        first.size_bytes = first.size_bytes.or(want.size_bytes);
        for url in &want.urls {
            if !first.urls.contains(url) {
                first.urls.push(url.clone());
            }
        }
    }
    merged
}

fn plan(missing: &[Want], fetched: &Fetched) -> Event {
    Event::DownloadsPlanned {
        files: missing.len() as u64,
        size_bytes: missing.iter().filter_map(|want| want.size_bytes).sum(),
        present_files: fetched.present_files,
        present_bytes: fetched.present_bytes,
    }
}

fn corrupt_warning(want: &Want, moved_to: &str) -> Event {
    Event::Warning {
        message: format!("the stored bytes of {} have changed; moved to {moved_to}, to be fetched again", want.name),
        hint: Some("if this happens often, check the disk and the memory".to_owned()),
    }
}

fn refuse_offline(missing: &[Want], options: &FetchOptions) -> Result<(), FetchError> {
    if !options.offline {
        return Ok(());
    }
    let is_local = |want: &&Want| want.urls.iter().any(|url| url.scheme() == "file");
    let mut missing: Vec<_> = missing.iter().filter(|want| !is_local(want)).map(|want| want.name.clone()).collect();
    missing.sort_unstable();
    if missing.is_empty() { Ok(()) } else { Err(FetchError::Offline { missing }) }
}
