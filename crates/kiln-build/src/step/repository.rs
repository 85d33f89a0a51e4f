//! The locked packages as an archive that the tree's own apt reads: exactly those of the class and of the step's tools.
//!
//! 1. [`Repository::read`] makes the `Packages` text from the control files of the `.deb`s, once per store and selection.
//! 2. [`Repository::lay_out`], in the tree: apt's configuration, the archive and its lists below [`APT`], which is in memory;
//!    the `.deb`s, and no others of the store, read-only where `Packages` says they are. `APT_CONFIG` leads apt there, so that `apt-get install`
//!    works at once, and `apt-get update` too, and nothing of it is ever part of the layer.
//! 3. [`Repository::settle`], afterwards: sources that the step itself wrote go where an image has them.
//!
//! Whatever sources, pins and lists the tree has are not seen: a step has no network. Formats: sources.list(5), apt.conf(5),
//! and Debian's repository format, a "flat" one with `Packages` and `Release` beside each other.

use camino::Utf8Path;
use fs_err as fs;
use jiff::Timestamp;
use kiln_debian::deb::{Control, read_control};
use kiln_model::digest::{Hasher, Sha256};
use kiln_model::lock::LockedPackage;
use kiln_sandbox::Inside;
use kiln_store::{Links, Store};

use super::{Doing as _, Problem};
use crate::workplace::StageError;

/// Where everything for apt is, inside.
const APT: &str = "/run/kiln/apt";

/// What leads apt there.
pub(super) const VARIABLE: (&str, &str) = ("APT_CONFIG", "/run/kiln/apt/apt.conf");

/// What apt is told.
///
/// No pins and no sources of the tree; conffiles and services as in stages that install packages; root throughout, because
/// apt's own user may not go where the packages are; no date is checked, because the clock is none of a build's business.
const CONFIGURATION: &str = r#"Dir::Etc::SourceList "/run/kiln/apt/sources.list";
Dir::Etc::SourceParts "/run/kiln/apt/sources.list.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "/run/kiln/apt/lists";
Dir::Cache "/run/kiln/apt/cache";
Dir::Log "/run/kiln/apt/log";
Acquire::Languages "none";
Acquire::Check-Date "false";
APT::Sandbox::User "root";
DPkg::Use-Pty "false";
DPkg::Options { "--force-confdef"; "--force-confold"; "--log=/dev/null"; };
"#;

/// `trusted`: every package was verified when it was locked and again when it came into the store.
const SOURCES: &str = "deb [trusted=yes] file:/run/kiln/apt/repository ./\n";

/// How apt names the lists of that source: its address with `_` for `/`.
const LISTS: &str = "_run_kiln_apt_repository_._";

/// Kind and format of the texts in the store.
const DERIVED: &str = "repository-v1";

/// Where a tree has sources of its own.
const TREE_SOURCES: &str = "/etc/apt/sources.list.d";

/// An archive of a selection of packages.
#[derive(Debug)]
pub(super) struct Repository {
    /// The text of `Packages`.
    index: String,
    /// The `.deb`s by their names in the archive.
    packages: Links,
}

impl Repository {
    /// Reads what the `.deb`s say of themselves.
    pub(super) fn read(store: &Store, packages: &[LockedPackage], threads: usize) -> Result<Self, StageError> {
        let key = key(packages);
        let kept = store.derived(DERIVED, &key).and_then(|bytes| String::from_utf8(bytes).ok());
        let index = match kept {
            Some(index) => index,
            None => {
                let index = index(store, packages, threads)?;
                store.put_derived(DERIVED, &key, index.as_bytes())?;
                index
            }
        };
        let names: Vec<(&Sha256, String)> =
            packages.iter().map(|package| (&package.sha256, file_name(package))).collect();
        let packages = store.links(names.iter().map(|(digest, name)| (*digest, name.as_str())))?;
        Ok(Self { index, packages })
    }

    /// The directory of `.deb`s.
    pub(super) fn packages(&self) -> &Utf8Path {
        self.packages.path()
    }

    /// Puts it into the tree, whose `/run` is in memory. `packages` is where the directory of `.deb`s is seen there.
    pub(super) fn lay_out(&self, inside: &Inside<'_>, packages: &Utf8Path, epoch: i64) -> Result<(), Problem> {
        let apt = Utf8Path::new(APT);
        for directory in ["cache/archives/partial", "lists/partial", "log", "repository/pool", "sources.list.d"] {
            fs::create_dir_all(apt.join(directory)).doing(|| "make apt's directories".to_owned())?;
        }
        let release = release(&self.index, epoch);
        let texts = [
            ("apt.conf", CONFIGURATION),
            ("sources.list", SOURCES),
            ("repository/Packages", &self.index),
            ("repository/Release", &release),
            (&format!("lists/{LISTS}Packages"), &self.index),
            (&format!("lists/{LISTS}Release"), &release),
        ];
        for (name, text) in texts {
            fs::write(apt.join(name), text).doing(|| format!("write apt's {name}"))?;
        }
        inside.show(packages, &apt.join("repository/pool")).doing(|| "show the locked packages to apt".to_owned())
    }

    /// Moves sources that the step wrote where apt looks for them into the tree.
    pub(super) fn settle() -> Result<(), Problem> {
        let doing = || format!("keep the step's sources in {TREE_SOURCES}");
        let sources = Utf8Path::new(APT).join("sources.list.d");
        if !sources.is_dir() {
            return Ok(());
        }
        for entry in sources.read_dir_utf8().doing(doing)? {
            let entry = entry.doing(doing)?;
            fs::create_dir_all(TREE_SOURCES).doing(doing)?;
            fs::copy(entry.path(), Utf8Path::new(TREE_SOURCES).join(entry.file_name())).doing(doing)?;
        }
        Ok(())
    }
}

/// As Debian's archive names the file: without the epoch, which a name cannot hold.
fn file_name(package: &LockedPackage) -> String {
    let version = package.version.split_once(':').map_or(package.version.as_str(), |(_, version)| version);
    format!("{}_{version}_{}.deb", package.name, package.architecture)
}

/// The digest of all that the index is made from.
fn key(packages: &[LockedPackage]) -> Sha256 {
    let mut hasher = Hasher::new();
    for package in packages {
        hasher.update(format!("{} {}\n", package.sha256, file_name(package)).as_bytes());
    }
    hasher.finish()
}

/// The stanzas of all packages, read by several threads.
fn index(store: &Store, packages: &[LockedPackage], threads: usize) -> Result<String, StageError> {
    let part = packages.len().div_ceil(threads.max(1)).max(1);
    let read = |packages: &[LockedPackage]| -> Result<String, StageError> {
        packages.iter().map(|package| Ok(stanza(package, &control(store, package)?))).collect()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = packages.chunks(part).map(|packages| scope.spawn(move || read(packages))).collect();
        let texts = parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        texts.collect()
    })
}

fn control(store: &Store, package: &LockedPackage) -> Result<Control, StageError> {
    let doing = || format!("read the package {}", file_name(package));
    let file = fs::File::open(store.path(&package.sha256));
    let file = file.map_err(|source| StageError::Io { doing: doing(), source })?;
    let control = read_control(std::io::BufReader::new(file));
    control.map_err(|error| StageError::Io { doing: doing(), source: std::io::Error::other(error) })
}

/// What an index says of a package: its control file, and where it is. Format: deb822(5).
fn stanza(package: &LockedPackage, control: &Control) -> String {
    let LockedPackage { size, sha256, .. } = package;
    let (text, name) = (control.text().trim_end(), file_name(package));
    format!("{text}\nFilename: ./pool/{name}\nSize: {size}\nSHA256: {sha256}\n\n")
}

/// The `Release` that vouches for an index, as of a time in seconds since 1970.
fn release(index: &str, epoch: i64) -> String {
    let (sha256, size) = (Sha256::of(index.as_bytes()), index.len());
    let date = Timestamp::from_second(epoch).unwrap_or_default().strftime("%a, %d %b %Y %H:%M:%S UTC");
    format!("Origin: kiln\nLabel: locked packages\nDate: {date}\nSHA256:\n {sha256} {size} Packages\n")
}
