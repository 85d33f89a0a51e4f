//! Every locked file into the store, each verified against the lock's digest.
//!
//! Packages come from the distribution's mirrors, or from any place that the user names: the digest decides, so it does
//! not matter who has the file. A version that no mirror has any more is named, with the ways out.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use kiln_model::digest::Sha256;
use kiln_model::lock::{
    Lock, LockedClass, LockedDistribution, LockedDownload, LockedIndex, LockedPackage, LockedToolbox, Origin,
};
use kiln_model::spec::Spec;
use kiln_store::{FailureReason, FetchError, Fetched, StoreError, Want, public_url};
use url::Url;

use crate::factory::Factory;
use crate::mirror::{self, Mirror, MirrorError, Repository, by_hash, exported_root, public_text};
use crate::pin::PinError;
use crate::{Environment, toolbox};

/// Which of the locked files, and where else they may be.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Only these classes, with what they inherit; all of them if empty.
    pub classes: Vec<String>,
    /// Kiln's own tools for this host too.
    pub toolbox: bool,
    /// Further places, asked first: a mirror's root, or a directory that holds `.deb` files.
    pub from: Vec<String>,
}

/// Not every locked file is in the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchFailure {
    /// No mirror or no keys.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A class that is not locked.
    #[error("kiln.lock has no class `{name}`")]
    UnknownClass {
        /// As given.
        name: String,
        /// Those it has.
        known: String,
    },
    /// A distribution of the lock that the spec has no longer.
    #[error("kiln.lock has distribution {distribution}, which is no longer in kiln.toml")]
    Left {
        /// Its name in the lock.
        distribution: String,
    },
    /// Files that are nowhere any more.
    #[error(
        "find {} that {} no longer where {} locked from{}",
        count(vanished),
        verb(vanished, "is", "are"),
        verb(vanished, "it was", "they were"),
        list(vanished)
    )]
    Vanished {
        /// They, by name.
        vanished: Vec<Vanished>,
    },
    /// A file of the factory that is not what was locked.
    #[error("{path} has changed since it was locked")]
    Changed {
        /// In the factory.
        path: Utf8PathBuf,
    },
    /// A file of the factory that cannot be read.
    #[error(transparent)]
    Local(#[from] PinError),
    /// An address given with `--from` that is none.
    #[error("`{0}` is neither a directory nor an address")]
    Place(String),
    /// The downloads failed otherwise.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A locked file that left its place.
#[derive(Debug)]
pub struct Vanished {
    /// Name and version of a package, the address of a download without secrets.
    pub file: String,
    /// What it was locked from.
    pub source: LockedFrom,
    /// The address that should have it, without secrets.
    pub url: String,
}

/// What a file was locked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockedFrom {
    /// An index of the archive.
    Index {
        /// `SUITE/COMPONENT`, with the repository's name before it if it is an extra one.
        name: String,
        /// When the index that has it was made.
        since: Option<Timestamp>,
    },
    /// An address that a class names in the spec.
    Address {
        /// The class.
        class: String,
    },
}

fn count(vanished: &[Vanished]) -> String {
    if vanished.len() == 1 { "a locked file".to_owned() } else { format!("{} locked files", vanished.len()) }
}

fn verb<'a>(vanished: &[Vanished], one: &'a str, many: &'a str) -> &'a str {
    if vanished.len() == 1 { one } else { many }
}

fn list(vanished: &[Vanished]) -> String {
    let line = |Vanished { file, source, url }: &Vanished| match source {
        LockedFrom::Index { name, since } => {
            let since = since.map(|since| format!(" of {since}")).unwrap_or_default();
            format!("\n  {file}, locked from {name}{since}, is not at {url}")
        }
        LockedFrom::Address { class } if file == url => format!("\n  {url}, which class {class} names, is not there"),
        LockedFrom::Address { class } => format!("\n  {file}, which class {class} names, is not at {url}"),
    };
    vanished.iter().map(line).collect()
}

/// The ways out, for what an archive had and for what was at an address: only the first can be updated by a name that
/// is short and has no secrets.
fn ways_out(vanished: &[Vanished]) -> String {
    let indexed = vanished.iter().find_map(|Vanished { file, source, .. }| match source {
        LockedFrom::Index { .. } => file.split(' ').next(),
        LockedFrom::Address { .. } => None,
    });
    let addressed = vanished.iter().find_map(|vanished| match &vanished.source {
        LockedFrom::Address { class } => Some(class),
        LockedFrom::Index { .. } => None,
    });
    let newer = indexed.map(|name| {
        format!(
            "take the newer version with `kiln lock --update {name}`, or name a mirror or directory that still has it \
             with `kiln fetch --from`"
        )
    });
    let moved = addressed.map(|class| {
        format!(
            "if the file has moved, correct its address in class {class}; `kiln lock --update` locks what is there today, \
             and `kiln fetch --from` takes the old file from a directory that `kiln fetch --to` wrote"
        )
    });
    newer.into_iter().chain(moved).collect::<Vec<_>>().join("; ")
}

impl FetchFailure {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mirror(error) => Some(error.hint().to_owned()),
            Self::UnknownClass { known, .. } => Some(format!("it has {known}")),
            Self::Left { .. } => Some("`kiln lock` brings kiln.lock up to date".to_owned()),
            Self::Vanished { vanished } => Some(ways_out(vanished)),
            Self::Changed { .. } => Some("kiln lock takes the new file; review what changes".to_owned()),
            Self::Fetch(FetchError::Offline { .. }) => {
                Some("run once without --offline, or give a directory with --from".to_owned())
            }
            Self::Fetch(error) => error.hint().or_else(|| {
                Some("another mirror may have it: name one in KILN_MIRROR, or a directory with --from".to_owned())
            }),
            Self::Store(error) => error.hint(),
            Self::Local(error) => error.hint(),
            Self::Place(_) => {
                Some("--from takes a directory, or a mirror's address such as file:///srv/mirror".to_owned())
            }
        }
    }
}

/// A locked file as the store is asked for it.
struct Wanted {
    want: Want,
    source: LockedFrom,
}

/// Brings the locked files into the store.
///
/// # Errors
/// If one of them cannot be had; all others are fetched all the same.
pub fn fetch(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    options: &FetchOptions,
    environment: &Environment<'_>,
) -> Result<Fetched, FetchFailure> {
    let places = Places::new(factory, spec, lock, &options.from, environment)?;
    let mut wanted: BTreeMap<Sha256, Wanted> = BTreeMap::new();
    for (name, class) in classes(lock, options)? {
        for file in of_class(name, class, factory, lock, &places, environment)? {
            wanted.entry(file.want.digest).or_insert(file);
        }
    }
    if let Some(toolbox) = lock.toolboxes.get(&environment.host.architecture).filter(|_| options.toolbox) {
        for file in of_toolbox(toolbox, lock, &places) {
            wanted.entry(file.want.digest).or_insert(file);
        }
    }
    let wants: Vec<Want> = wanted.values().map(|wanted| wanted.want.clone()).collect();
    let result = environment.store.fetch(&wants, environment.fetch, environment.report);
    result.map_err(|error| explain(error, &wanted))
}

/// What is to be asked for a class; files of the factory are stored right away.
fn of_class(
    name: &str,
    class: &LockedClass,
    factory: &Factory,
    lock: &Lock,
    places: &Places,
    environment: &Environment<'_>,
) -> Result<Vec<Wanted>, FetchFailure> {
    let mut wanted = Vec::new();
    for package in class.packages_and_tools() {
        match &package.origin {
            Origin::File(path) => import(factory, path, package, environment)?,
            Origin::Archive { index, path } => {
                wanted.push(places.archived(lock, &class.distribution, index, path, package));
            }
            Origin::Url(url) => {
                wanted.push(places.addressed(name, package_name(package), url, package.sha256, package.size));
            }
        }
    }
    for LockedDownload { url, size, sha256 } in &class.downloads {
        wanted.push(places.addressed(name, public_text(url), url, *sha256, *size));
    }
    Ok(wanted)
}

/// What is to be asked for the toolbox: Kiln asks for its own tools by name, so that all of them are of the archive.
fn of_toolbox(toolbox: &LockedToolbox, lock: &Lock, places: &Places) -> Vec<Wanted> {
    let archived = |package: &LockedPackage| match &package.origin {
        Origin::Archive { index, path } => Some(places.archived(lock, &toolbox.distribution, index, path, package)),
        Origin::File(_) | Origin::Url(_) => None,
    };
    toolbox.packages.iter().filter_map(archived).collect()
}

fn package_name(package: &LockedPackage) -> String {
    format!("{} {}", package.name, package.version)
}

/// The classes that are asked for, with their parents, by name.
fn classes<'a>(
    lock: &'a Lock,
    options: &FetchOptions,
) -> Result<impl Iterator<Item = (&'a str, &'a LockedClass)>, FetchFailure> {
    let unknown = options.classes.iter().find(|name| !lock.classes.contains_key(*name));
    if let Some(name) = unknown {
        let known = lock.classes.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(FetchFailure::UnknownClass { name: name.clone(), known });
    }
    let chosen = lock.classes.keys().filter(|name| options.classes.is_empty() || options.classes.contains(name));
    let names: BTreeSet<&str> = chosen.flat_map(|name| lock.lineage(name)).collect();
    let classes = lock.classes.iter().map(|(name, class)| (name.as_str(), class));
    Ok(classes.filter(move |(name, _)| names.contains(name)))
}

/// The distributions whose files this host needs: not those of other hosts' toolboxes.
pub(crate) fn distributions<'a>(
    lock: &'a Lock,
    architecture: &str,
) -> impl Iterator<Item = (&'a str, &'a LockedDistribution)> {
    let of_classes = lock.classes.values().map(|class| class.distribution.as_str());
    let of_toolbox = lock.toolboxes.get(architecture).map(|toolbox| toolbox.distribution.as_str());
    let names: BTreeSet<&str> = of_classes.chain(of_toolbox).collect();
    let all = lock.distributions.iter().map(|(name, locked)| (name.as_str(), locked));
    all.filter(move |(name, _)| names.contains(name))
}

/// A file of the factory is stored like any other. What is stored is what was hashed, even while the file changes.
fn import(
    factory: &Factory,
    path: &Utf8Path,
    package: &LockedPackage,
    environment: &Environment<'_>,
) -> Result<(), FetchFailure> {
    let (digest, _) = environment.store.import(&factory.path(path)).map_err(|error| match error {
        StoreError::Input { source } => FetchFailure::Local(PinError::Read(source)),
        error => FetchFailure::Store(error),
    })?;
    if digest == package.sha256 { Ok(()) } else { Err(FetchFailure::Changed { path: path.to_owned() }) }
}

/// Where files may be.
pub(crate) struct Places {
    /// By distribution, then by repository.
    mirrors: BTreeMap<String, Vec<Repository>>,
    /// By distribution and index name.
    indexes: BTreeMap<(String, String), IndexPlace>,
    /// Directories and mirrors from `--from`.
    further: Vec<Url>,
    /// Directories written by `kiln fetch --to`.
    exported: Vec<Mirror>,
}

/// Where the files of an index are.
struct IndexPlace {
    /// Its repository.
    repository: String,
    /// The root of that in a directory written by `kiln fetch --to`.
    exported_root: String,
}

impl Places {
    pub(crate) fn new(
        factory: &Factory,
        spec: &Spec,
        lock: &Lock,
        from: &[String],
        environment: &Environment<'_>,
    ) -> Result<Self, FetchFailure> {
        let mut mirrors = BTreeMap::new();
        let mut indexes = BTreeMap::new();
        for (name, locked) in distributions(lock, &environment.host.architecture) {
            let distribution = toolbox::distribution_of(spec, name)
                .ok_or_else(|| FetchFailure::Left { distribution: name.to_owned() })?;
            mirrors.insert(name.to_owned(), mirror::repositories(name, &distribution, factory, environment.host)?);
            for index in &locked.indexes {
                let repository = index.repository.clone();
                let exported_root = exported_root(name, locked, &repository);
                indexes.insert((name.to_owned(), index.name()), IndexPlace { repository, exported_root });
            }
        }
        let further = from.iter().map(|text| place(text)).collect::<Result<_, _>>()?;
        let exported = mirror::exported(environment.host)?;
        Ok(Self { mirrors, indexes, further, exported })
    }

    /// The mirrors that may serve an index's repository.
    pub(crate) fn mirrors(&self, distribution: &str, repository: &str) -> impl Iterator<Item = &Mirror> {
        let repositories = self.mirrors.get(distribution).into_iter().flatten();
        repositories.filter(move |candidate| candidate.name == repository).flat_map(|repository| &repository.mirrors)
    }

    /// A package of an archive.
    fn archived(&self, lock: &Lock, distribution: &str, index: &str, path: &str, package: &LockedPackage) -> Wanted {
        let want = Want {
            name: package_name(package),
            digest: package.sha256,
            size_bytes: Some(package.size),
            urls: self.archive_urls(distribution, index, path, package),
        };
        let since = oldest_index(lock, distribution, index).map(|index| index.date);
        Wanted { want, source: LockedFrom::Index { name: index.to_owned(), since } }
    }

    /// What a class has from an address of its own.
    fn addressed(&self, class: &str, name: String, url: &str, digest: Sha256, size_bytes: u64) -> Wanted {
        let want = Want { name, digest, size_bytes: Some(size_bytes), urls: self.url_urls(url, &digest) };
        Wanted { want, source: LockedFrom::Address { class: class.to_owned() } }
    }

    fn archive_urls(&self, distribution: &str, index: &str, path: &str, package: &LockedPackage) -> Vec<Url> {
        let place = self.indexes.get(&(distribution.to_owned(), index.to_owned()));
        let exported = place.map(|place| format!("{}{path}", place.exported_root));
        let names: Vec<String> = exported.into_iter().chain(flat_names(package, path)).collect();
        let further = self.further.iter().flat_map(|root| names.iter().map(move |name| join(root, name)));
        let mirrors = place.into_iter().flat_map(|place| self.mirrors(distribution, &place.repository));
        further.chain(mirrors.map(|mirror| mirror.file(path))).collect()
    }

    fn url_urls(&self, url: &str, digest: &Sha256) -> Vec<Url> {
        let exported = self.exported.iter().map(|mirror| mirror.file(&by_hash(digest)));
        let further = self.further.iter().map(|root| join(root, &by_hash(digest)));
        further.chain(exported).chain(Url::parse(url).ok()).collect()
    }
}

/// What a package's file may be called below a place that the user names: as on its mirror, as there without the
/// directories, as apt keeps it in its cache.
fn flat_names(package: &LockedPackage, path: &str) -> [String; 3] {
    let file = path.rsplit('/').next().unwrap_or(path).to_owned();
    let LockedPackage { name, version, architecture, .. } = package;
    [path.to_owned(), file, format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"))]
}

fn place(text: &str) -> Result<Url, FetchFailure> {
    let error = || FetchFailure::Place(public_text(text));
    if text.contains("://") || text.starts_with("file:") {
        return Url::parse(text).map_err(|_| error());
    }
    let absolute = camino::absolute_utf8(text).map_err(|_| error())?;
    if !absolute.is_dir() {
        return Err(FetchFailure::Place(text.to_owned()));
    }
    Url::from_directory_path(absolute).map_err(|()| error())
}

fn join(root: &Url, path: &str) -> Url {
    let mut url = root.clone();
    // `set_path` takes a percent sign as it is; apt's cache really has `%3a` in its file names.
    url.set_path(&format!("{}/{}", root.path().trim_end_matches('/'), path.replace('%', "%25")));
    url
}

/// Files that are gone are named with what the lock knows of them; everything else stays as the store says it.
fn explain(error: FetchError, wanted: &BTreeMap<Sha256, Wanted>) -> FetchFailure {
    let FetchError::Failed(failures) = error else { return FetchFailure::Fetch(error) };
    let is_gone = |failure: &kiln_store::FetchFailure| matches!(failure.reason, FailureReason::Gone { .. });
    let sources: Option<Vec<LockedFrom>> =
        failures.iter().map(|failure| source_of(failure, wanted).filter(|_| is_gone(failure)).cloned()).collect();
    let Some(sources) = sources else { return FetchFailure::Fetch(FetchError::Failed(failures)) };
    let vanished = failures.into_iter().zip(sources);
    let vanished = vanished.map(|(failure, source)| Vanished { file: failure.name, source, url: failure.url });
    FetchFailure::Vanished { vanished: vanished.collect() }
}

/// Two distributions may have a package of one name and version; the address tells them apart.
fn source_of<'a>(failure: &kiln_store::FetchFailure, wanted: &'a BTreeMap<Sha256, Wanted>) -> Option<&'a LockedFrom> {
    let is_it =
        |Want { name, urls, .. }: &Want| *name == failure.name && urls.iter().any(|url| public_url(url) == failure.url);
    wanted.values().find(|wanted| is_it(&wanted.want)).map(|wanted| &wanted.source)
}

/// What vanishes is from the oldest generation of its index that the lock still names.
fn oldest_index<'a>(lock: &'a Lock, distribution: &str, name: &str) -> Option<&'a LockedIndex> {
    let indexes = lock.distributions.get(distribution)?.indexes.iter().filter(|index| index.name() == name);
    indexes.min_by_key(|index| index.date)
}
