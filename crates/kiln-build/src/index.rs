//! A distribution's package indexes: fetched by the digest that a verified Release gives them, parsed once, cached.

use std::collections::BTreeSet;

use kiln_debian::compression::{Compression, decompress};
use kiln_debian::index::{Index, Stanza};
use kiln_debian::release::{IndexDownload, NoIndexError, Release};
use kiln_debian::universe::Source;
use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_model::lock::{LockedIndex, LockedPackage, PRIORITY_DEFAULT};
use kiln_store::{FailureReason, FetchError, StoreError, Want};
use url::Url;

use crate::Environment;
use crate::mirror::{Mirror, Repository};
use crate::release::{SuiteError, VerifiedRelease, verified_release};

/// Kind and format of the parsed indexes in the store; the architecture follows.
pub(crate) const PARSED: &str = "packages-v1";

/// The largest index known is 60 MB of text; this bounds what a hostile one can make us write.
const INDEX_BYTES_MAX: u64 = 2 << 30;

/// Indexes could not be had or not be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexesError {
    /// A suite's Release.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The suite lacks what the spec asks for.
    #[error(transparent)]
    NoIndex(#[from] NoIndexError),
    /// An index could not be downloaded.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An index has the right digest and cannot be read.
    #[error("read the index {name}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl IndexesError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Suite(error) => Some(error.hint()),
            Self::Fetch(FetchError::Failed(failures))
                if failures.iter().all(|failure| is_of_mirror(&failure.reason)) =>
            {
                Some(
                    "the mirror may be in the middle of an update: try again in some minutes, or name another"
                        .to_owned(),
                )
            }
            Self::Fetch(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::NoIndex(_) => None,
            Self::Read { .. } => Some("the mirror publishes what cannot be read: name another".to_owned()),
        }
    }
}

/// Whether the mirror answers and does not have what its own Release lists.
fn is_of_mirror(reason: &FailureReason) -> bool {
    matches!(reason, FailureReason::Gone { .. } | FailureReason::Digest { .. } | FailureReason::Size { .. })
}

/// An index that is loaded, as the lock records it.
#[derive(Debug, Clone)]
pub(crate) struct LoadedIndex {
    pub(crate) locked: LockedIndex,
    pub(crate) index: Index,
}

impl LoadedIndex {
    /// The same index with only these packages in it.
    pub(crate) fn only(self, packages: &BTreeSet<&LockedPackage>) -> Result<Self, IndexesError> {
        let is_wanted = |stanza: &Stanza<'_>| packages.iter().any(|package| is_same(stanza, package));
        let unreadable = |source| IndexesError::Read { name: self.locked.name(), source: Box::new(source) };
        let index = self.index.only(is_wanted).map_err(unreadable)?;
        Ok(Self { index, ..self })
    }

    /// The versions of a package that it has.
    pub(crate) fn stanzas<'a>(&'a self, name: &str) -> impl Iterator<Item = Stanza<'a>> {
        self.index.versions_of(name).filter_map(|place| self.index.stanza(place))
    }

    /// Whether it has exactly this package.
    pub(crate) fn has(&self, package: &LockedPackage) -> bool {
        self.stanzas(&package.name).any(|stanza| is_same(&stanza, package))
    }

    pub(crate) fn source(&self) -> Source {
        Source { name: self.locked.name(), index: self.index.clone(), priority: self.locked.priority }
    }
}

/// What there is to choose from: of indexes that are no longer current only certain packages, but those before all
/// others, so that the kept bytes of a version win over rebuilt ones.
pub(crate) fn sources(current: &[LoadedIndex], older: &[LoadedIndex]) -> Vec<Source> {
    older.iter().chain(current).map(LoadedIndex::source).collect()
}

fn is_same(stanza: &Stanza<'_>, package: &LockedPackage) -> bool {
    stanza.name == package.name && stanza.version == package.version && stanza.sha256 == package.sha256
}

/// Which suites to ask the mirrors for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// All of them.
    All,
    /// The security suites; the others stay as they are locked.
    Security,
}

/// What one index will be once it is in the store.
struct Wanted {
    locked: LockedIndex,
    want: Want,
}

/// What a distribution's indexes are brought up to date from.
pub(crate) struct Refreshing<'a> {
    pub(crate) repositories: &'a [Repository],
    pub(crate) architecture: &'a str,
    /// What was locked: a suite may not be older than that, unless `allow_older`.
    pub(crate) locked: &'a [LockedIndex],
    pub(crate) which: Refresh,
    pub(crate) allow_older: bool,
}

impl Refreshing<'_> {
    /// The current indexes, in the order of the repositories.
    pub(crate) fn load(&self, environment: &Environment<'_>) -> Result<Vec<LoadedIndex>, IndexesError> {
        let suites = self.repositories.iter();
        let suites =
            suites.flat_map(|repository| repository.suites.iter().map(move |suite| (repository, suite.as_str())));
        // One request a suite, all at once: most of the time they take is waiting.
        let wanted: Vec<Vec<Wanted>> = std::thread::scope(|scope| {
            let threads: Vec<_> = suites
                .map(|(repository, suite)| scope.spawn(move || self.suite(repository, suite, environment)))
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Result<_, IndexesError>>()
        })?;
        load(wanted.into_iter().flatten().collect(), self.architecture, environment)
    }

    /// The indexes of one suite: as they are locked, if they are to stay and are still to be had, else of today.
    fn suite(
        &self,
        repository: &Repository,
        suite: &str,
        environment: &Environment<'_>,
    ) -> Result<Vec<Wanted>, IndexesError> {
        let locked: Vec<&LockedIndex> =
            self.locked.iter().filter(|index| index.repository == repository.name && index.suite == suite).collect();
        let is_locked = |component: &String| locked.iter().any(|index| index.component == *component);
        let may_stay = self.which == Refresh::Security && !suite.ends_with("-security");
        if may_stay && repository.components.iter().all(is_locked) {
            let kept: Vec<Wanted> =
                newest_of_each(&locked).into_iter().map(|index| by_digest(index, repository)).collect();
            match fetch_missing(&kept, environment) {
                Ok(()) if !kept.is_empty() => return Ok(kept),
                Ok(()) => {}
                Err(error) => environment.report.event(Event::Warning {
                    message: format!(
                        "the locked indexes of {suite} are no longer to be had, today's are taken: {error}"
                    ),
                    hint: None,
                }),
            }
        }
        let not_before = locked.iter().map(|index| index.date).max().filter(|_| !self.allow_older);
        let release = verified_release(repository, suite, not_before, environment)?;
        wanted(repository, suite, &release, self.architecture)
    }
}

/// Of several generations of an index the newest; the lock has it first.
fn newest_of_each<'a>(indexes: &[&'a LockedIndex]) -> Vec<&'a LockedIndex> {
    let mut seen = BTreeSet::new();
    indexes.iter().copied().filter(|index| seen.insert(&index.path)).collect()
}

/// Exactly the indexes that a lock names, from the store or from a mirror that still has them.
pub(crate) fn locked(
    indexes: &[LockedIndex],
    repositories: &[Repository],
    architecture: &str,
    environment: &Environment<'_>,
) -> Result<Vec<LoadedIndex>, IndexesError> {
    let repository = |index: &LockedIndex| repositories.iter().find(|repository| repository.name == index.repository);
    let wanted = indexes.iter().filter_map(|index| repository(index).map(|repository| by_digest(index, repository)));
    load(wanted.collect(), architecture, environment)
}

/// An index that is known by digest; any mirror that has these bytes will do.
fn by_digest(index: &LockedIndex, repository: &Repository) -> Wanted {
    let urls =
        repository.mirrors.iter().flat_map(|mirror| index_urls(mirror, &index.suite, &index.path, &index.sha256));
    let want = Want {
        name: format!("index {}", index.name()),
        digest: index.sha256,
        size_bytes: Some(index.size),
        urls: urls.collect(),
    };
    Wanted { locked: index.clone(), want }
}

/// By digest first: it is right even while the mirror is being updated.
pub(crate) fn index_urls(mirror: &Mirror, suite: &str, path: &str, digest: &Sha256) -> [Url; 2] {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    [
        mirror.file(&format!("dists/{suite}/{directory}/by-hash/SHA256/{digest}")),
        mirror.file(&format!("dists/{suite}/{path}")),
    ]
}

/// apt's priority of a repository that nobody pinned: backports and their like do not put themselves forward.
fn priority_of(release: &Release) -> i32 {
    match (release.not_automatic, release.but_automatic_upgrades) {
        (false, _) => PRIORITY_DEFAULT,
        (true, true) => 100,
        (true, false) => 1,
    }
}

/// The indexes of a suite as its Release lists them.
fn wanted(
    repository: &Repository,
    suite: &str,
    release: &VerifiedRelease,
    architecture: &str,
) -> Result<Vec<Wanted>, IndexesError> {
    let mut all = Vec::new();
    for component in &repository.components {
        for index in release.release.packages_indexes(component, architecture)? {
            // The forms are in a fixed order of preference, so that every Kiln locks the same one.
            let Some(IndexDownload { path, by_hash_path, file, .. }) = index.downloads.into_iter().next() else {
                continue;
            };
            let locked = LockedIndex {
                repository: repository.name.clone(),
                suite: suite.to_owned(),
                component: component.clone(),
                priority: repository.priority.unwrap_or_else(|| priority_of(&release.release)),
                date: release.release.date,
                key: release.key.clone(),
                release: release.digest,
                path: path.clone(),
                size: file.size_bytes,
                sha256: file.sha256,
            };
            let paths = by_hash_path.into_iter().chain([path]);
            let want = Want {
                name: format!("index {}", locked.name()),
                digest: file.sha256,
                size_bytes: Some(file.size_bytes),
                urls: paths.map(|path| release.mirror.file(&format!("dists/{suite}/{path}"))).collect(),
            };
            all.push(Wanted { locked, want });
        }
    }
    Ok(all)
}

fn load(
    wanted: Vec<Wanted>,
    architecture: &str,
    environment: &Environment<'_>,
) -> Result<Vec<LoadedIndex>, IndexesError> {
    fetch_missing(&wanted, environment)?;
    let load = |wanted: Wanted| {
        let index = match parsed(&wanted.locked, architecture, environment) {
            // The damaged file was moved away; one fetch brings a good one.
            Err(IndexesError::Store(StoreError::Corrupt { .. })) => {
                fetch_missing(std::slice::from_ref(&wanted), environment)?;
                parsed(&wanted.locked, architecture, environment)?
            }
            result => result?,
        };
        Ok(LoadedIndex { locked: wanted.locked, index })
    };
    wanted.into_iter().map(load).collect()
}

fn fetch_missing(wanted: &[Wanted], environment: &Environment<'_>) -> Result<(), IndexesError> {
    let is_there = |wanted: &&Wanted| environment.store.contains(&wanted.locked.sha256, wanted.locked.size);
    let missing: Vec<Want> =
        wanted.iter().filter(|wanted| !is_there(wanted)).map(|wanted| wanted.want.clone()).collect();
    if !missing.is_empty() {
        environment.store.fetch(&missing, environment.fetch, environment.report)?;
    }
    Ok(())
}

/// The parsed form, from this run, from the store, or made now.
fn parsed(locked: &LockedIndex, architecture: &str, environment: &Environment<'_>) -> Result<Index, IndexesError> {
    if let Some(index) = environment.memory.index(architecture, &locked.sha256) {
        return Ok(index);
    }
    let kind = format!("{PARSED}-{architecture}");
    let cached = environment.store.derived(&kind, &locked.sha256).and_then(|blob| Index::load(blob).ok());
    let index = match cached {
        Some(index) => index,
        None => parse(locked, architecture, &kind, environment)?,
    };
    environment.memory.keep_index(architecture, &locked.sha256, &index);
    Ok(index)
}

fn parse(
    locked: &LockedIndex,
    architecture: &str,
    kind: &str,
    environment: &Environment<'_>,
) -> Result<Index, IndexesError> {
    environment.report.event(Event::PhaseStarted { phase: format!("parsing index {}", locked.name()) });
    let unreadable =
        |source: Box<dyn std::error::Error + Send + Sync>| IndexesError::Read { name: locked.name(), source };
    let compression = Compression::of_name(&locked.path).map_err(|error| unreadable(Box::new(error)))?;
    let blob = {
        let bytes = environment.store.read(&locked.sha256)?;
        let text = decompress(compression, bytes.as_slice(), INDEX_BYTES_MAX);
        Index::build(text, architecture).map_err(|error| unreadable(Box::new(error)))?
    };
    environment.store.put_derived(kind, &locked.sha256, &blob)?;
    Index::load(blob).map_err(|error| unreadable(Box::new(error)))
}
