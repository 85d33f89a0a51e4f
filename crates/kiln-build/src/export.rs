//! A directory that serves a lock's files for ever: `kiln fetch --to DIR`.
//!
//! Each family in it is an ordinary mirror: `dists/SUITE/InRelease` and the indexes byte for byte as they were signed,
//! `pool/` with the locked packages. Named as `KILN_MIRROR=file:///DIR` it answers everything that a lock asks, without a
//! network:
//!
//! ```text
//! DIR/debian/{dists,pool}/...                    everything of Debian; DIR/ubuntu/ likewise
//! DIR/debian/20260801T000000Z/...                the same for a distribution with a snapshot
//! DIR/repositories/DISTRIBUTION/NAME/...         the same for each extra repository
//! .../dists/SUITE/by-hash/SHA256/...             every locked generation of a signed Release, by digest
//! .../dists/SUITE/COMPONENT/.../by-hash/...      every locked generation of an index, by digest
//! DIR/by-hash/SHA256/...                         downloads and packages that come from an address of their own
//! ```
//!
//! No path ever stands for two files: a lock that would need that is refused, and nothing is written.
//! Every file is copied aside, flushed and renamed, so that a directory may be filled again after any interruption.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::digest::Sha256;
use kiln_model::lock::{ARCHIVE, Lock, LockedDistribution, LockedIndex, LockedPackage, Origin, is_plain_path};
use kiln_model::spec::Spec;
use kiln_store::{FetchError, StoreError, Want};
use serde::Serialize;

use crate::Environment;
use crate::factory::Factory;
use crate::fetch::{FetchFailure, Places, distributions};
use crate::index::index_urls;
use crate::mirror::{by_hash, exported_root, release_by_hash, release_path, release_urls};
use crate::pin;

/// A directory could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A signed Release or an index that is no longer to be had as it was locked.
    #[error("bring the locked indexes into the store")]
    Indexes(#[source] FetchError),
    /// The places of files.
    #[error(transparent)]
    Fetch(#[from] FetchFailure),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two locked files that belong at one path.
    #[error("kiln.lock has two files with other bytes for {path}")]
    Collision {
        /// Below the directory.
        path: String,
    },
    /// A lock that was not made by `kiln lock`.
    #[error("kiln.lock has a file at {path}, which leaves the directory")]
    Path {
        /// Below the directory.
        path: String,
    },
    /// The directory refuses.
    #[error("write to {directory}")]
    Write {
        /// The directory.
        directory: Utf8PathBuf,
        /// What the system said, with the path.
        #[source]
        source: std::io::Error,
    },
}

impl ExportError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Indexes(_) => Some(
                "the mirrors have moved on since this lock was made, and this store never had its indexes: \
                 `kiln lock --update` locks today's"
                    .to_owned(),
            ),
            Self::Fetch(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Collision { .. } => Some(
                "its distributions are not of one archive: lock them from one mirror, or keep them in two factories"
                    .to_owned(),
            ),
            Self::Path { .. } => Some("restore kiln.lock from version control".to_owned()),
            Self::Write { .. } => Some("is there room, and is the directory yours to write?".to_owned()),
        }
    }
}

/// What was written.
#[derive(Debug, Default, Serialize)]
pub struct Exported {
    /// Files the directory has now.
    pub files: u64,
    /// Their size.
    pub size_bytes: u64,
    /// How many of them were not there before.
    pub new_files: u64,
}

/// Writes the lock's files, which must be in the store, and the indexes that vouch for them, to `directory`.
///
/// # Errors
/// If an index is not to be had as it was locked, two files belong at one path, or the directory cannot be written.
pub fn export(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    directory: &Utf8Path,
    environment: &Environment<'_>,
) -> Result<Exported, ExportError> {
    let files = plan(lock, &environment.host.architecture)?;
    bring_indexes(factory, spec, lock, environment)?;
    let mut exported = Exported::default();
    for (path, digest) in files {
        copy(environment, &digest, &directory.join(&path), &mut exported)
            .map_err(|source| ExportError::Write { directory: directory.to_owned(), source })?;
    }
    Ok(exported)
}

fn bring_indexes(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    environment: &Environment<'_>,
) -> Result<(), ExportError> {
    let places = Places::new(factory, spec, lock, &[], environment)?;
    let mut wants = Vec::new();
    for (name, distribution) in distributions(lock, &environment.host.architecture) {
        for index in &distribution.indexes {
            let mirrors: Vec<_> = places.mirrors(name, &index.repository).collect();
            wants.push(Want {
                name: format!("Release of {}", index.suite),
                digest: index.release,
                size_bytes: None,
                urls: mirrors.iter().flat_map(|mirror| release_urls(mirror, &index.suite, &index.release)).collect(),
            });
            wants.push(Want {
                name: format!("index {}", index.name()),
                digest: index.sha256,
                size_bytes: Some(index.size),
                urls: mirrors
                    .iter()
                    .flat_map(|mirror| index_urls(mirror, &index.suite, &index.path, &index.sha256))
                    .collect(),
            });
        }
    }
    environment.store.fetch(&wants, environment.fetch, environment.report).map_err(ExportError::Indexes)?;
    Ok(())
}

/// Every file of the directory, by its path there. Pure: the same lock, the same directory.
fn plan(lock: &Lock, architecture: &str) -> Result<BTreeMap<String, Sha256>, ExportError> {
    let mut plan = Plan { lock, files: BTreeMap::new() };
    plan.add_indexes(architecture)?;
    for class in lock.classes.values() {
        plan.add_packages(&class.distribution, class.packages_and_tools())?;
        for download in &class.downloads {
            plan.add(by_hash(&download.sha256), download.sha256)?;
        }
    }
    if let Some(toolbox) = lock.toolboxes.get(architecture) {
        plan.add_packages(&toolbox.distribution, toolbox.packages.iter())?;
    }
    Ok(plan.files)
}

struct Plan<'a> {
    lock: &'a Lock,
    files: BTreeMap<String, Sha256>,
}

impl Plan<'_> {
    fn add(&mut self, path: String, digest: Sha256) -> Result<(), ExportError> {
        if !is_plain_path(&path) {
            return Err(ExportError::Path { path });
        }
        match self.files.get(&path) {
            Some(other) if *other != digest => Err(ExportError::Collision { path }),
            _ => {
                self.files.insert(path, digest);
                Ok(())
            }
        }
    }

    /// Every generation by its digest, and under the plain names the newest.
    fn add_indexes(&mut self, architecture: &str) -> Result<(), ExportError> {
        let mut indexes: Vec<(String, &LockedIndex)> = distributions(self.lock, architecture)
            .flat_map(|(name, locked)| {
                locked.indexes.iter().map(move |index| (exported_root(name, locked, &index.repository), index))
            })
            .collect();
        indexes.sort_by_key(|(_, index)| index.date);
        let mut newest = BTreeMap::new();
        for (root, LockedIndex { suite, path, release, sha256, .. }) in indexes {
            newest.insert(format!("{root}{}", release_path(suite)), *release);
            newest.insert(format!("{root}dists/{suite}/{path}"), *sha256);
            let directory = path.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
            self.add(format!("{root}{}", release_by_hash(suite, release)), *release)?;
            self.add(format!("{root}dists/{suite}/{directory}{}", by_hash(sha256)), *sha256)?;
        }
        newest.into_iter().try_for_each(|(path, digest)| self.add(path, digest))
    }

    fn add_packages<'p>(
        &mut self,
        distribution: &str,
        packages: impl Iterator<Item = &'p LockedPackage>,
    ) -> Result<(), ExportError> {
        let locked = self.lock.distributions.get(distribution);
        for package in packages {
            let path = match (&package.origin, locked) {
                (Origin::Archive { index, path }, Some(locked)) => {
                    let root = exported_root(distribution, locked, repository_of(locked, index));
                    format!("{root}{path}")
                }
                (Origin::Url(_), _) => by_hash(&package.sha256),
                // A file of the factory travels with the factory. A lock holds every distribution that it names.
                (Origin::File(_), _) | (Origin::Archive { .. }, None) => continue,
            };
            self.add(path, package.sha256)?;
        }
        Ok(())
    }
}

/// The repository of an index, by the name that packages give it.
fn repository_of<'a>(locked: &'a LockedDistribution, name: &str) -> &'a str {
    let index = locked.indexes.iter().find(|index| index.name() == name);
    index.map_or(ARCHIVE, |index| &index.repository)
}

/// Copies a file out of the store unless it is there with the right bytes.
fn copy(environment: &Environment<'_>, digest: &Sha256, to: &Utf8Path, exported: &mut Exported) -> std::io::Result<()> {
    let is_there = to.exists() && pin::measure(to).is_ok_and(|(found, _)| found == *digest);
    if !is_there {
        let directory = to.parent().unwrap_or(to);
        fs_err::create_dir_all(directory)?;
        let aside = Utf8PathBuf::from(format!("{to}.kiln-new"));
        let copied = copy_flushed(&environment.store.path(digest), &aside).and_then(|()| fs_err::rename(&aside, to));
        if copied.is_err() {
            let _ = fs_err::remove_file(&aside);
        }
        copied?;
        fs_err::File::open(directory)?.sync_all()?;
        exported.new_files += 1;
    }
    exported.files += 1;
    exported.size_bytes += fs_err::metadata(to)?.len();
    Ok(())
}

fn copy_flushed(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    let mut target = fs_err::File::create(to)?;
    std::io::copy(&mut fs_err::File::open(from)?, &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kiln_model::lock::{Ids, LockedClass, LockedRequest, LockedToolbox};

    use super::*;

    fn index(repository: &str, date: i64, content: &str) -> LockedIndex {
        LockedIndex {
            repository: repository.to_owned(),
            suite: "stable".to_owned(),
            component: "main".to_owned(),
            priority: 500,
            date: Timestamp::from_second(date).unwrap(),
            key: "KEY".to_owned(),
            release: Sha256::of(format!("release of {content}").as_bytes()),
            path: "main/Packages.xz".to_owned(),
            size: 1,
            sha256: Sha256::of(content.as_bytes()),
        }
    }

    fn package(index: &LockedIndex, path: &str, content: &str) -> LockedPackage {
        LockedPackage {
            name: content.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            origin: Origin::Archive { index: index.name(), path: path.to_owned() },
            size: 1,
            sha256: Sha256::of(content.as_bytes()),
        }
    }

    fn empty() -> Lock {
        Lock {
            output: 1,
            solver: "apt-classic/1".to_owned(),
            distributions: BTreeMap::new(),
            classes: BTreeMap::new(),
            toolboxes: BTreeMap::new(),
            ids: Ids::default(),
        }
    }

    /// Adds a distribution that has these indexes, and a class of the same name that has these packages.
    fn add(lock: &mut Lock, name: &str, family: &str, indexes: Vec<LockedIndex>, packages: Vec<LockedPackage>) {
        let distribution =
            LockedDistribution { family: family.to_owned(), architecture: "amd64".to_owned(), snapshot: None, indexes };
        lock.distributions.insert(name.to_owned(), distribution);
        let class = LockedClass {
            distribution: name.to_owned(),
            request: LockedRequest::default(),
            epoch: Timestamp::UNIX_EPOCH,
            essential: packages,
            waves: Vec::new(),
            downloads: Vec::new(),
            tools: Vec::new(),
        };
        lock.classes.insert(name.to_owned(), class);
    }

    /// Two distributions, each with a package from its archive and one from a repository called `tools`.
    fn two(left_family: &str, right_family: &str) -> Lock {
        let mut lock = empty();
        for (name, family) in [("left", left_family), ("right", right_family)] {
            let (own, extra) = (index(ARCHIVE, 1, name), index("tools", 1, &format!("{name} tools")));
            let packages =
                vec![package(&own, "pool/a.deb", name), package(&extra, "pool/a.deb", &format!("{name} tool"))];
            add(&mut lock, name, family, vec![own, extra], packages);
        }
        lock
    }

    #[test]
    fn each_family_and_each_repository_has_a_root() {
        let files = plan(&two("debian", "ubuntu"), "amd64").unwrap();
        let check = |path: &str, content: &str| assert_eq!(files.get(path), Some(&Sha256::of(content.as_bytes())));
        check("debian/pool/a.deb", "left");
        check("ubuntu/pool/a.deb", "right");
        check("debian/dists/stable/main/Packages.xz", "left");
        check("ubuntu/dists/stable/InRelease", "release of right");
        check("repositories/left/tools/pool/a.deb", "left tool");
        check("repositories/right/tools/pool/a.deb", "right tool");
        check("repositories/right/tools/dists/stable/main/Packages.xz", "right tools");
    }

    #[test]
    fn no_path_stands_for_two_files() {
        let error = plan(&two("debian", "debian"), "amd64").unwrap_err();
        assert_eq!(error.to_string(), "kiln.lock has two files with other bytes for debian/pool/a.deb");
        assert!(error.hint().is_some());
    }

    #[test]
    fn no_file_leaves_the_directory() {
        let check = |family: &str, change: fn(&mut LockedIndex)| {
            let mut index = index("tools", 1, "index");
            change(&mut index);
            let mut lock = empty();
            add(&mut lock, "left", family, vec![index], Vec::new());
            assert!(matches!(plan(&lock, "amd64"), Err(ExportError::Path { .. })));
        };
        check("debian", |index| index.path = "../../../../etc/passwd".to_owned());
        check("debian", |index| index.suite = "/etc".to_owned());
        check("debian", |index| index.repository = "..".to_owned());
        check("..", |index| index.repository = ARCHIVE.to_owned());
    }

    #[test]
    fn the_newest_generation_has_the_plain_names_and_each_its_digest() {
        let (old, new) = (index(ARCHIVE, 1, "old"), index(ARCHIVE, 2, "new"));
        let mut lock = empty();
        // Older generations come last in a lock.
        add(&mut lock, "left", "debian", vec![new.clone(), old.clone()], Vec::new());
        let files = plan(&lock, "amd64").unwrap();
        assert_eq!(files["debian/dists/stable/InRelease"], new.release);
        assert_eq!(files["debian/dists/stable/main/Packages.xz"], new.sha256);
        for LockedIndex { release, sha256, .. } in [old, new] {
            assert_eq!(files[&format!("debian/dists/stable/by-hash/SHA256/{release}")], release);
            assert_eq!(files[&format!("debian/dists/stable/main/by-hash/SHA256/{sha256}")], sha256);
        }
        assert_eq!(files.len(), 6);
    }

    #[test]
    fn only_this_hosts_toolbox_is_there() {
        let mut lock = two("debian", "ubuntu");
        for architecture in ["amd64", "arm64"] {
            let (name, index) = (format!("toolbox-{architecture}"), index(ARCHIVE, 1, architecture));
            let packages = vec![package(&index, &format!("pool/tool_{architecture}.deb"), architecture)];
            add(&mut lock, &name, "debian", vec![index], Vec::new());
            lock.classes.remove(&name);
            let toolbox = LockedToolbox { distribution: name, request: Vec::new(), packages };
            lock.toolboxes.insert(architecture.to_owned(), toolbox);
        }
        let digests: Vec<Sha256> = plan(&lock, "amd64").unwrap().into_values().collect();
        assert!(digests.contains(&Sha256::of(b"amd64")) && digests.contains(&Sha256::of(b"release of amd64")));
        assert!(!digests.contains(&Sha256::of(b"arm64")) && !digests.contains(&Sha256::of(b"release of arm64")));
    }
}
