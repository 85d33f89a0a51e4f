//! Every locked file into the store, each verified against the lock's digest.
//!
//! Packages come from the distribution's mirrors, or from any place that the user names: the digest decides, so it does
//! not matter who has the file. A version that no mirror has any more is named, with the ways out.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use kiln_model::digest::Sha256;
use kiln_model::lock::{Lock, LockedClass, LockedDistribution, LockedIndex, LockedPackage, LockedToolbox, Origin};
use kiln_model::spec::Spec;
use kiln_store::{FailureReason, FetchError, Fetched, StoreError, Want};
use url::Url;

use crate::factory::Factory;
use crate::mirror::{self, Mirror, MirrorError, Repository, by_hash, public_text};
use crate::pin::{self, PinError};
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
    /// Versions that are nowhere any more.
    #[error("find {} that {} no longer on a mirror{}", count(vanished), if vanished.len() == 1 { "is" } else { "are" }, list(vanished))]
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

/// A locked version that left its mirror.
#[derive(Debug)]
pub struct Vanished {
    /// Name and version.
    pub package: String,
    /// Its index.
    pub index: String,
    /// When the index that has it was made.
    pub since: Option<Timestamp>,
    /// The address that should have it.
    pub url: String,
}

fn count(vanished: &[Vanished]) -> String {
    if vanished.len() == 1 { "a locked version".to_owned() } else { format!("{} locked versions", vanished.len()) }
}

fn list(vanished: &[Vanished]) -> String {
    let line = |Vanished { package, index, since, url }: &Vanished| {
        let since = since.map(|since| format!(" of {since}")).unwrap_or_default();
        format!("\n  {package}, locked from {index}{since}, is not at {url}")
    };
    vanished.iter().map(line).collect()
}

impl FetchFailure {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mirror(error) => Some(error.hint().to_owned()),
            Self::UnknownClass { known, .. } => Some(format!("it has {known}")),
            Self::Vanished { vanished } => {
                let first =
                    vanished.first().and_then(|vanished| vanished.package.split(' ').next()).unwrap_or("PACKAGE");
                Some(format!(
                    "take the newer version with `kiln lock --update {first}`, or name a mirror or directory that still \
                     has it with `kiln fetch --from`"
                ))
            }
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

/// A package as the store is asked for it.
struct Wanted<'a> {
    package: &'a LockedPackage,
    distribution: &'a str,
    want: Want,
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
    let mut wanted: BTreeMap<Sha256, Wanted<'_>> = BTreeMap::new();
    let mut wants: Vec<Want> = Vec::new();
    for (distribution, package) in packages(lock, options, environment)? {
        match &package.origin {
            Origin::File(path) => import(factory, path, package, environment)?,
            Origin::Archive { .. } | Origin::Url(_) => {
                let want = places.want(distribution, package);
                wanted.entry(package.sha256).or_insert(Wanted { package, distribution, want });
            }
        }
    }
    wants.extend(wanted.values().map(|wanted| wanted.want.clone()));
    wants.extend(
        classes(lock, options)?
            .flat_map(|class| &class.downloads)
            .map(|download| places.download(&download.url, download.sha256, download.size)),
    );
    let result = environment.store.fetch(&wants, environment.fetch, environment.report);
    result.map_err(|error| explain(error, lock, wanted.values()))
}

/// The classes that are asked for, with their parents.
fn classes<'a>(lock: &'a Lock, options: &FetchOptions) -> Result<impl Iterator<Item = &'a LockedClass>, FetchFailure> {
    let unknown = options.classes.iter().find(|name| !lock.classes.contains_key(*name));
    if let Some(name) = unknown {
        let known = lock.classes.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(FetchFailure::UnknownClass { name: name.clone(), known });
    }
    let chosen = lock.classes.keys().filter(|name| options.classes.is_empty() || options.classes.contains(name));
    let names: std::collections::BTreeSet<&str> = chosen.flat_map(|name| lock.lineage(name)).collect();
    Ok(lock.classes.iter().filter(move |(name, _)| names.contains(name.as_str())).map(|(_, class)| class))
}

/// The packages that are asked for, with their distributions.
fn packages<'a>(
    lock: &'a Lock,
    options: &FetchOptions,
    environment: &Environment<'_>,
) -> Result<Vec<(&'a str, &'a LockedPackage)>, FetchFailure> {
    let of_class =
        |class: &'a LockedClass| class.packages_and_tools().map(|package| (class.distribution.as_str(), package));
    let mut found: Vec<_> = classes(lock, options)?.flat_map(of_class).collect();
    let toolbox = lock.toolboxes.get(&environment.host.architecture).filter(|_| options.toolbox);
    let of_toolbox =
        |toolbox: &'a LockedToolbox| toolbox.packages.iter().map(|package| (toolbox.distribution.as_str(), package));
    found.extend(toolbox.into_iter().flat_map(of_toolbox));
    Ok(found)
}

/// A file of the factory is stored like any other, once it is what was locked.
fn import(
    factory: &Factory,
    path: &Utf8Path,
    package: &LockedPackage,
    environment: &Environment<'_>,
) -> Result<(), FetchFailure> {
    let on_disk = factory.path(path);
    let (digest, _) = pin::measure(&on_disk)?;
    if digest != package.sha256 {
        return Err(FetchFailure::Changed { path: path.to_owned() });
    }
    environment.store.import(&on_disk)?;
    Ok(())
}

/// Where files may be.
pub(crate) struct Places {
    /// By distribution, then by repository.
    mirrors: BTreeMap<String, Vec<Repository>>,
    /// By distribution and index name: its repository.
    repositories: BTreeMap<(String, String), String>,
    /// Directories and mirrors from `--from`.
    further: Vec<Url>,
    /// Directories written by `kiln fetch --to`.
    exported: Vec<Mirror>,
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
        let mut repositories = BTreeMap::new();
        for (name, LockedDistribution { indexes, .. }) in &lock.distributions {
            let distribution =
                spec.distributions.get(name.as_str()).cloned().unwrap_or_else(|| toolbox::distribution(spec));
            mirrors.insert(name.clone(), mirror::repositories(name, &distribution, factory, environment.host)?);
            let named = indexes.iter().map(|index| ((name.clone(), index.name()), index.repository.clone()));
            repositories.extend(named);
        }
        let further = from.iter().map(|text| place(text)).collect::<Result<_, _>>()?;
        let exported = mirror::exported(environment.host)?;
        Ok(Self { mirrors, repositories, further, exported })
    }

    /// The mirrors that may serve an index's repository.
    pub(crate) fn mirrors(&self, distribution: &str, repository: &str) -> impl Iterator<Item = &Mirror> {
        let repositories = self.mirrors.get(distribution).into_iter().flatten();
        repositories.filter(move |candidate| candidate.name == repository).flat_map(|repository| &repository.mirrors)
    }

    fn want(&self, distribution: &str, package: &LockedPackage) -> Want {
        let LockedPackage { name, version, origin, size, sha256, .. } = package;
        let urls = match origin {
            Origin::Archive { index, path } => self.archive_urls(distribution, index, path, package),
            Origin::File(_) => Vec::new(),
            Origin::Url(url) => self.url_urls(url, sha256),
        };
        Want { name: format!("{name} {version}"), digest: *sha256, size_bytes: Some(*size), urls }
    }

    fn archive_urls(&self, distribution: &str, index: &str, path: &str, package: &LockedPackage) -> Vec<Url> {
        let repository = self.repositories.get(&(distribution.to_owned(), index.to_owned()));
        let mirrors = repository.into_iter().flat_map(|repository| self.mirrors(distribution, repository));
        let further =
            self.further.iter().flat_map(|root| flat_names(package, path).into_iter().map(|name| join(root, &name)));
        further.chain(mirrors.map(|mirror| mirror.file(path))).collect()
    }

    fn url_urls(&self, url: &str, digest: &Sha256) -> Vec<Url> {
        let exported = self.exported.iter().map(|mirror| mirror.file(&by_hash(digest)));
        let further = self.further.iter().map(|root| join(root, &by_hash(digest)));
        further.chain(exported).chain(Url::parse(url).ok()).collect()
    }

    pub(crate) fn download(&self, url: &str, digest: Sha256, size: u64) -> Want {
        Want { name: public_text(url), digest, size_bytes: Some(size), urls: self.url_urls(url, &digest) }
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
fn explain<'a>(error: FetchError, lock: &Lock, wanted: impl Iterator<Item = &'a Wanted<'a>>) -> FetchFailure {
    let FetchError::Failed(failures) = error else { return FetchFailure::Fetch(error) };
    if failures.iter().any(|failure| !matches!(failure.reason, FailureReason::Gone { .. })) {
        return FetchFailure::Fetch(FetchError::Failed(failures));
    }
    let by_name: BTreeMap<&str, &Wanted<'_>> = wanted.map(|wanted| (wanted.want.name.as_str(), wanted)).collect();
    let vanished = failures.into_iter().map(|failure| {
        let wanted = by_name.get(failure.name.as_str());
        let index = wanted.and_then(|wanted| match &wanted.package.origin {
            Origin::Archive { index, .. } => Some((wanted.distribution, index.as_str())),
            Origin::File(_) | Origin::Url(_) => None,
        });
        let locked = index.and_then(|(distribution, name)| oldest_index(lock, distribution, name));
        Vanished {
            index: index.map_or_else(|| "its address".to_owned(), |(_, name)| name.to_owned()),
            since: locked.map(|index| index.date),
            package: failure.name,
            url: failure.url,
        }
    });
    FetchFailure::Vanished { vanished: vanished.collect() }
}

/// What has vanished is from the oldest generation of its index that the lock still names.
fn oldest_index<'a>(lock: &'a Lock, distribution: &str, name: &str) -> Option<&'a LockedIndex> {
    let indexes = lock.distributions.get(distribution)?.indexes.iter().filter(|index| index.name() == name);
    indexes.min_by_key(|index| index.date)
}
