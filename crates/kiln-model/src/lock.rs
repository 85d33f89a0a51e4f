//! `kiln.lock`: the exact answer to `kiln.toml`, written by `kiln lock`, reviewed and committed.
//!
//! The text is TOML with one package a line, so that a changed version is a changed line. Its first key is `digest`, the
//! SHA-256 of everything after that line up to `[ids]`: a lock that was damaged, or merged by hand, is noticed before it
//! is believed. `[ids]` comes last, belongs to `kiln build` and to people, and is carried over byte for byte.
//!
//! Where a file comes from is an [`Origin`]; which mirror serves it is never in the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Source};
use crate::digest::Sha256;

/// The file's name, beside `kiln.toml`.
pub const FILE_NAME: &str = "kiln.lock";

/// Version of the lock's own syntax.
pub const FORMAT_VERSION: u32 = 1;

/// Kiln's output version: raised only when the same lock would give other bytes.
pub const OUTPUT_VERSION: u32 = 1;

/// What a lock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Kiln's [`OUTPUT_VERSION`] when it was written.
    pub output: u32,
    /// The algorithm that chose the packages, with its version: `apt-classic/1`.
    pub solver: String,
    /// The indexes everything was chosen from, by distribution.
    pub distributions: BTreeMap<String, LockedDistribution>,
    /// The exact packages of each class.
    pub classes: BTreeMap<String, LockedClass>,
    /// Kiln's own tools, by the architecture of the host that runs them.
    pub toolboxes: BTreeMap<String, LockedToolbox>,
    /// The numeric ids of system users and groups.
    pub ids: Ids,
}

/// A distribution's indexes at the moment of locking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDistribution {
    /// `debian` or `ubuntu`.
    pub family: String,
    /// Debian's name of the images' architecture.
    pub architecture: String,
    /// Current indexes in the order of the spec, then older ones that still explain a locked package.
    pub indexes: Vec<LockedIndex>,
}

/// One Packages file, and the signed Release that vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedIndex {
    /// `archive`, `security`, or the name of an extra repository.
    pub repository: String,
    /// Suite: `trixie-security`.
    pub suite: String,
    /// Component: `main`.
    pub component: String,
    /// The Release file's own date.
    pub date: Timestamp,
    /// Fingerprint of the key whose signature was verified.
    pub key: String,
    /// The signed Release (InRelease) as the mirror sent it.
    pub release: Sha256,
    /// The index's path below `dists/SUITE/`.
    pub path: String,
    /// Size of the (compressed) index.
    pub size: u64,
    /// The (compressed) index as Release lists it.
    pub sha256: Sha256,
}

/// What one class asked for, and its exact packages beyond its parent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedClass {
    /// The class's distribution, also where it comes from its parent.
    pub distribution: String,
    /// The spec's words that the packages answer.
    pub request: LockedRequest,
    /// Date of the newest index when this class's packages last changed; every timestamp in the image is clamped to it.
    pub epoch: Timestamp,
    /// The essential set, in the order in which it is unpacked and configured; empty for a child class.
    pub essential: Vec<LockedPackage>,
    /// The other packages: a wave is unpacked in order, then configured in order, before the next begins.
    pub waves: Vec<Vec<LockedPackage>>,
    /// What the class's `download` steps fetch.
    pub downloads: Vec<LockedDownload>,
}

/// The part of a class's spec that decides its packages; when it changes, the lock no longer fits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRequest {
    /// Parent class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Requests as written.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Packages never to be chosen.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether Recommends are followed.
    #[serde(default)]
    pub recommends: bool,
}

/// The tools Kiln runs on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedToolbox {
    /// Which of the lock's distributions they come from.
    pub distribution: String,
    /// The packages Kiln asked for.
    pub request: Vec<String>,
    /// The exact packages, by name; unpacked, never configured.
    pub packages: Vec<LockedPackage>,
}

/// One exact package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LockedPackage {
    /// Binary package name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
    /// The package's own architecture, or `all`.
    pub architecture: String,
    /// Where the file comes from.
    pub origin: Origin,
    /// Size of the `.deb`.
    pub size: u64,
    /// Digest of the `.deb`.
    pub sha256: Sha256,
}

/// Where a locked package's file comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An archive, at `path` below the mirror's root.
    Archive {
        /// `SUITE/COMPONENT`, with `REPOSITORY:` before it for an extra repository.
        index: String,
        /// Path below the mirror's root: `pool/main/n/nginx/…deb`.
        path: String,
    },
    /// A file of the factory, by its path in it.
    File(Utf8PathBuf),
    /// A URL from the spec.
    Url(String),
}

/// One file that a `download` step places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDownload {
    /// As the spec names it.
    pub url: String,
    /// Size.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// Numeric ids given to system users and groups, so that a rebuilt image never changes the owner of files on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ids {
    /// User name to uid.
    pub users: BTreeMap<String, u32>,
    /// Group name to gid.
    pub groups: BTreeMap<String, u32>,
    /// The section's own bytes, comments included.
    #[serde(skip)]
    pub text: String,
}

/// The text is not a lock that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not TOML, or a key that does not belong; shows the place.
    #[error(transparent)]
    Syntax(Box<Diagnostic>),
    /// Written by a newer Kiln.
    #[error("{FILE_NAME} has format {format}, this Kiln reads {FORMAT_VERSION}")]
    Newer {
        /// The lock's format.
        format: u32,
    },
    /// The text is not what `kiln lock` wrote.
    #[error("{FILE_NAME} was changed by hand or damaged: its digest says {expected}, its text is {actual}")]
    Damaged {
        /// The digest in the text.
        expected: Sha256,
        /// The digest of the text.
        actual: Sha256,
    },
    /// Intact, but it contradicts itself.
    #[error("{FILE_NAME} contradicts itself: {0}")]
    Inconsistent(String),
}

impl LockError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "use the Kiln that wrote it, or a newer one",
            Self::Syntax(_) | Self::Damaged { .. } | Self::Inconsistent(_) => {
                "restore kiln.lock from version control; after a merge, take one side and run `kiln lock` again; \
                 or remove it and run `kiln lock` to choose anew"
            }
        }
    }
}

impl LockedIndex {
    /// `SUITE/COMPONENT`, with `REPOSITORY:` before it for an extra repository; packages name their index by it.
    #[must_use]
    pub fn name(&self) -> String {
        index_name(&self.repository, &self.suite, &self.component)
    }
}

/// See [`LockedIndex::name`].
#[must_use]
pub fn index_name(repository: &str, suite: &str, component: &str) -> String {
    match repository {
        ARCHIVE | SECURITY => format!("{suite}/{component}"),
        extra => format!("{extra}:{suite}/{component}"),
    }
}

/// The distribution's main archive: the suite itself and its `-updates`.
pub const ARCHIVE: &str = "archive";

/// The archive of the `-security` suite.
pub const SECURITY: &str = "security";

impl LockedClass {
    /// Every package of this class beyond its parent's, in order.
    pub fn packages(&self) -> impl Iterator<Item = &LockedPackage> {
        self.essential.iter().chain(self.waves.iter().flatten())
    }
}

impl Lock {
    /// Every package of a class and its parents, in the order in which they are installed.
    #[must_use]
    pub fn packages_of<'a>(&'a self, class: &'a str) -> Vec<&'a LockedPackage> {
        self.lineage(class)
            .into_iter()
            .filter_map(|name| self.classes.get(name))
            .flat_map(LockedClass::packages)
            .collect()
    }

    /// The class's ancestors and itself, the root first.
    #[must_use]
    pub fn lineage<'a>(&'a self, class: &'a str) -> Vec<&'a str> {
        let parent = |name: &str| self.classes.get(name).and_then(|class| class.request.from.as_deref());
        let mut names: Vec<&str> =
            std::iter::successors(Some(class), |name| parent(name)).take(self.classes.len() + 1).collect();
        names.reverse();
        names
    }

    /// Reads a lock's text.
    ///
    /// # Errors
    /// If the text is not TOML of this format, not what was written, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let source = Source { name: FILE_NAME.to_owned(), text: text.to_owned() };
        let header: Header = toml::from_str(text).map_err(|error| syntax(&source, &error))?;
        if header.format > FORMAT_VERSION {
            return Err(LockError::Newer { format: header.format });
        }
        let (body, ids_text) = split(text);
        let actual = body_digest(body);
        if actual != header.digest {
            return Err(LockError::Damaged { expected: header.digest, actual });
        }
        let file: File = toml::from_str(text).map_err(|error| syntax(&source, &error))?;
        let lock = file.into_lock(ids_text.to_owned()).map_err(LockError::Inconsistent)?;
        lock.check_references().map_err(LockError::Inconsistent)?;
        Ok(lock)
    }

    /// The lock's text; [`Lock::parse`] reads it back.
    #[must_use]
    pub fn print(&self) -> String {
        let body = self.print_body();
        format!("{HEADER}digest = \"{}\"\n{body}{}", body_digest(&body), self.ids.text)
    }

    fn print_body(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "format = {FORMAT_VERSION}\noutput = {}\nsolver = {}", self.output, quote(&self.solver));
        for (name, distribution) in &self.distributions {
            print_distribution(&mut out, name, distribution);
        }
        for (name, class) in &self.classes {
            print_class(&mut out, name, class);
        }
        for (architecture, toolbox) in &self.toolboxes {
            let _ = writeln!(out, "\n[toolbox.{architecture}]\ndistribution = {}", quote(&toolbox.distribution));
            print_strings(&mut out, "request", &toolbox.request);
            print_packages(&mut out, "packages", &toolbox.packages);
        }
        out.push('\n');
        out
    }

    /// What the types cannot say: every name that is referred to exists, no package is there twice.
    fn check_references(&self) -> Result<(), String> {
        for (name, class) in &self.classes {
            let distribution = self.known_distribution(&class.distribution, &format!("class {name}"))?;
            if let Some(parent) = &class.request.from
                && !self.classes.contains_key(parent)
            {
                return Err(format!("class {name} is from `{parent}`, which it does not hold"));
            }
            if self.lineage(name).len() > self.classes.len() {
                return Err(format!("class {name} is its own ancestor"));
            }
            check_packages(&format!("class {name}"), distribution, &self.packages_of(name))?;
        }
        for (architecture, toolbox) in &self.toolboxes {
            let owner = format!("toolbox {architecture}");
            let distribution = self.known_distribution(&toolbox.distribution, &owner)?;
            check_packages(&owner, distribution, &toolbox.packages.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn known_distribution(&self, name: &str, owner: &str) -> Result<&LockedDistribution, String> {
        self.distributions
            .get(name)
            .ok_or_else(|| format!("{owner} is of distribution `{name}`, which it does not hold"))
    }
}

fn check_packages(owner: &str, distribution: &LockedDistribution, packages: &[&LockedPackage]) -> Result<(), String> {
    let indexes: BTreeSet<String> = distribution.indexes.iter().map(LockedIndex::name).collect();
    let mut seen = BTreeSet::new();
    for package in packages {
        if !seen.insert(&package.name) {
            return Err(format!("{owner} has package {} twice", package.name));
        }
        if let Origin::Archive { index, path } = &package.origin {
            if !indexes.contains(index) {
                return Err(format!(
                    "{owner}: package {} is from index `{index}`, which it does not hold",
                    package.name
                ));
            }
            if !is_plain_path(path) {
                return Err(format!(
                    "{owner}: package {} has the path `{path}`, which leaves the mirror",
                    package.name
                ));
            }
        }
    }
    Ok(())
}

/// Whether a path stays below the directory it is resolved in.
#[must_use]
pub fn is_plain_path(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\\')
}

// ---------------------------------------------------------------------------------------------------------- reading

/// The keys that decide whether the rest can be read at all.
#[derive(Deserialize)]
struct Header {
    digest: Sha256,
    format: u32,
}

/// The file's shape; [`Lock`] is what it means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "digest")]
    _digest: Sha256,
    #[serde(rename = "format")]
    _format: u32,
    output: u32,
    solver: String,
    #[serde(default)]
    distribution: BTreeMap<String, LockedDistribution>,
    #[serde(default)]
    class: BTreeMap<String, ClassTable>,
    #[serde(default)]
    toolbox: BTreeMap<String, LockedToolbox>,
    #[serde(default)]
    ids: IdsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassTable {
    distribution: String,
    epoch: Timestamp,
    request: LockedRequest,
    #[serde(default)]
    downloads: Vec<LockedDownload>,
    #[serde(default)]
    essential: Vec<LockedPackage>,
    #[serde(default)]
    wave: Vec<WaveTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveTable {
    packages: Vec<LockedPackage>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct IdsTable {
    #[serde(default)]
    users: BTreeMap<String, u32>,
    #[serde(default)]
    groups: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageTable {
    name: String,
    version: String,
    architecture: String,
    index: Option<String>,
    path: Option<String>,
    file: Option<Utf8PathBuf>,
    url: Option<String>,
    size: u64,
    sha256: Sha256,
}

impl<'de> Deserialize<'de> for LockedPackage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PackageTable { name, version, architecture, index, path, file, url, size, sha256 } =
            PackageTable::deserialize(deserializer)?;
        let origin = match (index, path, file, url) {
            (Some(index), Some(path), None, None) => Origin::Archive { index, path },
            (None, None, Some(file), None) => Origin::File(file),
            (None, None, None, Some(url)) => Origin::Url(url),
            _ => {
                let expected = "either `index` and `path`, or `file`, or `url`";
                return Err(serde::de::Error::custom(format!("package {name} needs {expected}")));
            }
        };
        Ok(Self { name, version, architecture, origin, size, sha256 })
    }
}

impl File {
    fn into_lock(self, ids_text: String) -> Result<Lock, String> {
        if self.output > OUTPUT_VERSION {
            return Err(format!("its output version is {}, this Kiln has {OUTPUT_VERSION}", self.output));
        }
        let classes = self.class.into_iter().map(|(name, table)| (name, table.into_class())).collect();
        Ok(Lock {
            output: self.output,
            solver: self.solver,
            distributions: self.distribution,
            classes,
            toolboxes: self.toolbox,
            ids: Ids { users: self.ids.users, groups: self.ids.groups, text: ids_text },
        })
    }
}

impl ClassTable {
    fn into_class(self) -> LockedClass {
        let Self { distribution, epoch, request, downloads, essential, wave } = self;
        let waves = wave.into_iter().map(|wave| wave.packages).collect();
        LockedClass { distribution, request, epoch, essential, waves, downloads }
    }
}

fn syntax(source: &Source, error: &toml::de::Error) -> LockError {
    let span = error.span().unwrap_or(0..0);
    let message = format!("{FILE_NAME}: {}", error.message());
    LockError::Syntax(Box::new(Diagnostic::at(source, span, message)))
}

/// The text after the digest's line, in two: what the digest covers, and `[ids]`.
fn split(text: &str) -> (&str, &str) {
    let lines = || {
        text.split_inclusive('\n').scan(0, |offset, line| Some((std::mem::replace(offset, *offset + line.len()), line)))
    };
    let start = lines().find(|(_, line)| line.starts_with("digest")).map_or(0, |(offset, line)| offset + line.len());
    let end = lines()
        .find(|(offset, line)| *offset >= start && line.starts_with("[ids"))
        .map_or(text.len(), |(offset, _)| offset);
    (&text[start..end], &text[end..])
}

/// Carriage returns do not count: version control may add them on checkout.
fn body_digest(body: &str) -> Sha256 {
    Sha256::of(body.replace('\r', "").as_bytes())
}

// ---------------------------------------------------------------------------------------------------------- writing

const HEADER: &str = "# Written by `kiln lock`. Review it and commit it; only [ids] is for hands.\n";

fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn print_strings(out: &mut String, key: &str, values: &[String]) {
    let _ = writeln!(out, "{key} = [{}]", values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(", "));
}

fn print_distribution(out: &mut String, name: &str, distribution: &LockedDistribution) {
    let LockedDistribution { family, architecture, indexes } = distribution;
    let _ =
        writeln!(out, "\n[distribution.{name}]\nfamily = {}\narchitecture = {}", quote(family), quote(architecture));
    for index in indexes {
        let LockedIndex { repository, suite, component, date, key, release, path, size, sha256 } = index;
        let _ = writeln!(out, "\n[[distribution.{name}.indexes]]");
        let _ = writeln!(out, "repository = {}\nsuite = {}", quote(repository), quote(suite));
        let _ = writeln!(out, "component = {}\ndate = \"{date}\"\nkey = {}", quote(component), quote(key));
        let _ = writeln!(out, "release = \"{release}\"\npath = {}\nsize = {size}\nsha256 = \"{sha256}\"", quote(path));
    }
}

fn print_class(out: &mut String, name: &str, class: &LockedClass) {
    let LockedClass { distribution, request, epoch, essential, waves, downloads } = class;
    let _ = writeln!(out, "\n[class.{name}]\ndistribution = {}\nepoch = \"{epoch}\"", quote(distribution));
    if !downloads.is_empty() {
        out.push_str("downloads = [\n");
        for LockedDownload { url, size, sha256 } in downloads {
            let _ = writeln!(out, "    {{ url = {}, size = {size}, sha256 = \"{sha256}\" }},", quote(url));
        }
        out.push_str("]\n");
    }
    if !essential.is_empty() {
        print_packages(out, "essential", essential);
    }
    print_request(out, name, request);
    for wave in waves {
        let _ = writeln!(out, "\n[[class.{name}.wave]]");
        print_packages(out, "packages", wave);
    }
}

fn print_request(out: &mut String, name: &str, request: &LockedRequest) {
    let LockedRequest { from, packages, kernel, exclude, recommends } = request;
    let _ = writeln!(out, "\n[class.{name}.request]");
    if let Some(from) = from {
        let _ = writeln!(out, "from = {}", quote(from));
    }
    print_strings(out, "packages", packages);
    if let Some(kernel) = kernel {
        let _ = writeln!(out, "kernel = {}", quote(kernel));
    }
    if !exclude.is_empty() {
        print_strings(out, "exclude", exclude);
    }
    if *recommends {
        out.push_str("recommends = true\n");
    }
}

fn print_packages(out: &mut String, key: &str, packages: &[LockedPackage]) {
    let _ = writeln!(out, "{key} = [");
    for LockedPackage { name, version, architecture, origin, size, sha256 } in packages {
        let origin = match origin {
            Origin::Archive { index, path } => format!("index = {}, path = {}", quote(index), quote(path)),
            Origin::File(path) => format!("file = {}", quote(path.as_str())),
            Origin::Url(url) => format!("url = {}", quote(url)),
        };
        let (name, version, architecture) = (quote(name), quote(version), quote(architecture));
        let _ = writeln!(
            out,
            "    {{ name = {name}, version = {version}, architecture = {architecture}, {origin}, size = {size}, sha256 = \"{sha256}\" }},"
        );
    }
    out.push_str("]\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(name: &str, version: &str, origin: Origin) -> LockedPackage {
        let sha256 = Sha256::of(name.as_bytes());
        LockedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            origin,
            size: 7,
            sha256,
        }
    }

    fn archive(name: &str) -> Origin {
        Origin::Archive { index: "trixie/main".into(), path: format!("pool/main/{name}.deb") }
    }

    fn example() -> Lock {
        let date: Timestamp = "2026-09-12T07:55:41Z".parse().unwrap();
        let index = LockedIndex {
            repository: ARCHIVE.into(),
            suite: "trixie".into(),
            component: "main".into(),
            date,
            key: "ABCD".into(),
            release: Sha256::of(b"release"),
            path: "main/binary-amd64/Packages.xz".into(),
            size: 9,
            sha256: Sha256::of(b"packages"),
        };
        let distribution =
            LockedDistribution { family: "debian".into(), architecture: "amd64".into(), indexes: vec![index] };
        let base = LockedClass {
            distribution: "trixie".into(),
            request: LockedRequest {
                packages: vec!["udev".into()],
                kernel: Some("linux".into()),
                ..LockedRequest::default()
            },
            epoch: date,
            essential: vec![package("dpkg", "1.22", archive("dpkg"))],
            waves: vec![vec![package("udev", "257", archive("udev"))], vec![package("linux", "6", archive("linux"))]],
            downloads: Vec::new(),
        };
        let web = LockedClass {
            distribution: "trixie".into(),
            request: LockedRequest {
                from: Some("base".into()),
                packages: vec!["nginx (>= 1.26)".into(), "./dist/agent.deb".into()],
                exclude: vec!["apt".into()],
                recommends: true,
                ..LockedRequest::default()
            },
            epoch: date,
            essential: Vec::new(),
            waves: vec![vec![
                package("agent", "1:1~\"x\"", Origin::File("dist/agent.deb".into())),
                package("nginx", "1.26", archive("nginx")),
                package("tool", "2", Origin::Url("https://mirror.example/tool.deb".into())),
            ]],
            downloads: vec![LockedDownload {
                url: "https://mirror.example/a".into(),
                size: 3,
                sha256: Sha256::of(b"a"),
            }],
        };
        let toolbox = LockedToolbox {
            distribution: "trixie".into(),
            request: vec!["haproxy".into()],
            packages: vec![package("haproxy", "3", archive("haproxy"))],
        };
        Lock {
            output: OUTPUT_VERSION,
            solver: "apt-classic/1".into(),
            distributions: BTreeMap::from([("trixie".into(), distribution)]),
            classes: BTreeMap::from([("base".into(), base), ("web".into(), web)]),
            toolboxes: BTreeMap::from([("amd64".into(), toolbox)]),
            ids: Ids::default(),
        }
    }

    #[test]
    fn text_reads_back() {
        assert_eq!(Lock::parse(&example().print()).unwrap(), example());
    }

    #[test]
    fn parents_come_first() {
        let lock = example();
        let names: Vec<_> = lock.packages_of("web").into_iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["dpkg", "udev", "linux", "agent", "nginx", "tool"]);
    }

    #[test]
    fn ids_belong_to_others_and_are_kept_byte_for_byte() {
        let ids = "[ids.users]\n# moved here by hand\nnginx = 101\n\n[ids.groups]\nnginx=102\n";
        let read = Lock::parse(&format!("{}{ids}", example().print())).unwrap();
        assert_eq!(read.ids.users["nginx"], 101);
        assert_eq!(read.ids.groups["nginx"], 102);
        assert!(read.print().ends_with(ids));
        assert_eq!(Lock::parse(&read.print()).unwrap(), read);
    }

    #[test]
    fn checkout_with_carriage_returns_is_not_damage() {
        let text = example().print().replace('\n', "\r\n");
        assert_eq!(Lock::parse(&text).unwrap().classes, example().classes);
    }

    #[test]
    fn a_change_by_hand_is_noticed() {
        let text = example().print();
        let changed = text.replace("\"1.26\"", "\"1.27\"");
        assert_ne!(text, changed);
        let error = Lock::parse(&changed).unwrap_err();
        assert!(matches!(error, LockError::Damaged { .. }), "{error}");
    }

    /// A lock whose digest is right but whose content is `change`d.
    fn check_inconsistent(change: impl Fn(&mut Lock), expected: &str) {
        let mut lock = example();
        change(&mut lock);
        let error = Lock::parse(&lock.print()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn contradictions_are_named() {
        check_inconsistent(|lock| lock.distributions.clear(), "class base is of distribution `trixie`");
        check_inconsistent(|lock| drop(lock.classes.remove("base")), "class web is from `base`");
        check_inconsistent(
            |lock| lock.classes.get_mut("base").unwrap().request.from = Some("web".into()),
            "its own ancestor",
        );
        check_inconsistent(
            |lock| lock.classes.get_mut("web").unwrap().waves[0][1].name = "udev".into(),
            "package udev twice",
        );
        check_inconsistent(
            |lock| {
                let path = "../etc/passwd".into();
                lock.classes.get_mut("base").unwrap().essential[0].origin =
                    Origin::Archive { index: "trixie/main".into(), path };
            },
            "leaves the mirror",
        );
        check_inconsistent(
            |lock| lock.distributions.get_mut("trixie").unwrap().indexes[0].component = "contrib".into(),
            "is from index `trixie/main`",
        );
        check_inconsistent(|lock| lock.output = OUTPUT_VERSION + 1, "output version");
    }

    #[test]
    fn newer_format_is_named() {
        let text = example().print().replace("format = 1", "format = 2");
        assert!(matches!(Lock::parse(&text).unwrap_err(), LockError::Newer { format: 2 }));
    }

    #[test]
    fn conflict_markers_are_a_syntax_error_with_a_place() {
        let text = example().print().replacen("[class.web]", "<<<<<<< HEAD\n[class.web]", 1);
        let LockError::Syntax(diagnostic) = Lock::parse(&text).unwrap_err() else { panic!("another error") };
        assert_eq!(diagnostic.snippet, "<<<<<<< HEAD");
    }

    proptest! {
        #[test]
        fn any_mutation_is_an_error_or_reads_the_same(at in 0_usize..4000, byte in any::<u8>()) {
            let mut bytes = example().print().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes)
                && let Ok(read) = Lock::parse(&text)
            {
                prop_assert_eq!(read, example());
            }
        }

        #[test]
        fn any_text_in_a_field_reads_back(text in "\\PC*") {
            let mut lock = example();
            lock.classes.get_mut("web").unwrap().waves[0][0].version = text.clone();
            lock.classes.get_mut("web").unwrap().request.packages = vec![text];
            prop_assert_eq!(Lock::parse(&lock.print()).unwrap(), lock);
        }
    }
}
