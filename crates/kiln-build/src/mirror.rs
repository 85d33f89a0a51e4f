//! Which mirrors may serve a distribution: the spec's, then `KILN_MIRROR`'s, then those of the host's apt sources.
//!
//! A candidate is only a place to ask. It becomes the mirror when its Release, verified with the distribution's keys,
//! has the right Origin and is the wanted suite (see [`crate::release`]); strangers among the host's sources fall out
//! there, or are not asked at all because none of their suites is one of the family's.

use std::collections::BTreeSet;

use camino::Utf8Path;
use jiff::Timestamp;
use kiln_debian::openpgp::{self, Keyring};
use kiln_debian::sources::{SourceEntry, Sources};
use kiln_model::digest::Sha256;
use kiln_model::lock::{ARCHIVE, LockedDistribution, PRIORITY_DEFAULT, SECURITY, index_name};
use kiln_model::spec::{Distribution, Family, Repository as SpecRepository};
use kiln_store::public_url;
use url::Url;

use crate::Host;
use crate::factory::Factory;

/// An address that may serve a repository, and who named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// Its root: the directory that holds `dists/` and `pool/`. Ends in `/`.
    pub(crate) root: Url,
    /// Who named it, for messages: `kiln.toml`, `KILN_MIRROR`, `/etc/apt/sources.list.d/debian.sources:1`.
    pub(crate) named_by: String,
}

/// Suites that are served, signed and prioritised together.
#[derive(Debug)]
pub(crate) struct Repository {
    /// `archive`, `security` or an extra repository's name.
    pub(crate) name: String,
    /// In order: `trixie`, `trixie-updates`.
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    /// apt's pin priority; where nobody says one, it follows from the Release.
    pub(crate) priority: Option<i32>,
    /// The Origin that its Release must have; an extra repository's is its own affair.
    pub(crate) origin: Option<&'static str>,
    /// Where to ask, in order.
    pub(crate) mirrors: Vec<Mirror>,
    /// Whom to believe.
    pub(crate) keyring: Keyring,
    /// Fingerprints of the certificates that every Kiln knows; of several good signatures the lock records one of theirs,
    /// so that it does not depend on the host's keyring.
    pub(crate) known_everywhere: BTreeSet<String>,
    /// A snapshot is old by design: its Release may have expired.
    pub(crate) is_snapshot: bool,
}

/// The distribution's mirrors or keys cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Nobody names a mirror.
    #[error("no mirror is known for distribution {distribution} ({family} {suite})")]
    None {
        /// The distribution's name in the spec.
        distribution: String,
        /// Its family.
        family: &'static str,
        /// Its suite.
        suite: String,
    },
    /// A mirror's address is not a URL.
    #[error("{named_by} names a mirror that is none: {text}")]
    Address {
        /// The address.
        text: String,
        /// Who named it.
        named_by: String,
    },
    /// A keyring that cannot be read.
    #[error("read the keyring {path}")]
    Keyring {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no keyring for the family.
    #[error("no keyring is known for {family}")]
    NoKeyring {
        /// The family.
        family: &'static str,
    },
}

impl MirrorError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::None { .. } => {
                "name one: `mirror` of the distribution in kiln.toml, or KILN_MIRROR in the environment; \
                 a directory written by `kiln fetch --to DIR` serves too, as file:///DIR"
            }
            Self::Address { .. } => "addresses look like http://mirror.example/debian or file:///srv/mirror",
            Self::Keyring { .. } | Self::NoKeyring { .. } => {
                "`keyring` of the distribution in kiln.toml takes an OpenPGP keyring, binary or armored"
            }
        }
    }
}

/// What Kiln knows of a family without being told.
pub(crate) struct FamilyFacts {
    pub(crate) name: &'static str,
    /// Origin of its archives.
    origin: &'static str,
    /// The keyring's file names in the host's keyring directory.
    keyrings: &'static [&'static str],
    /// The copy that Kiln carries.
    shipped_keys: &'static [u8],
    /// A host's apt entry is the family's if one of its suites, without its pocket, is one of these.
    suites: &'static [&'static str],
    /// The directory of the security archive, where it is another than the main archive's.
    directories: Option<(&'static str, &'static str)>,
    /// Suites without `-updates` and `-security`.
    rolling: &'static [&'static str],
}

pub(crate) fn facts(family: Family) -> FamilyFacts {
    match family {
        Family::Debian => FamilyFacts {
            name: "debian",
            origin: "Debian",
            keyrings: &["debian-archive-keyring.gpg", "debian-archive-keyring.pgp"],
            shipped_keys: openpgp::DEBIAN_ARCHIVE_KEYS,
            suites: &[
                "stable",
                "oldstable",
                "testing",
                "unstable",
                "sid",
                "buster",
                "bullseye",
                "bookworm",
                "trixie",
                "forky",
                "duke",
            ],
            directories: Some(("debian", "debian-security")),
            rolling: &["unstable", "sid", "experimental"],
        },
        Family::Ubuntu => FamilyFacts {
            name: "ubuntu",
            origin: "Ubuntu",
            keyrings: &["ubuntu-archive-keyring.gpg"],
            shipped_keys: openpgp::UBUNTU_ARCHIVE_KEYS,
            suites: &["focal", "jammy", "noble", "plucky", "questing", "resolute", "devel"],
            directories: None,
            rolling: &[],
        },
    }
}

/// The repositories of a distribution, in the order in which their packages are preferred when versions are equal.
pub(crate) fn repositories(
    name: &str,
    distribution: &Distribution,
    factory: &Factory,
    host: &Host,
) -> Result<Vec<Repository>, MirrorError> {
    let facts = facts(distribution.family);
    let keyring = keyring(distribution, &facts, factory, host)?;
    let entries = host_entries(host, &facts);
    let mut repositories = Vec::new();
    for (repository, suites) in own_suites(distribution) {
        let mirrors = mirrors(repository, distribution, &facts, &entries, host)?;
        if mirrors.is_empty() {
            let suite = distribution.suite.clone();
            return Err(MirrorError::None { distribution: name.to_owned(), family: facts.name, suite });
        }
        repositories.push(Repository {
            name: repository.to_owned(),
            suites,
            components: distribution.components.clone(),
            priority: Some(PRIORITY_DEFAULT),
            origin: Some(facts.origin),
            mirrors,
            keyring: keyring.clone(),
            known_everywhere: known_everywhere(&facts),
            is_snapshot: distribution.snapshot.is_some(),
        });
    }
    for extra in &distribution.repositories {
        repositories.push(extra_repository(name, extra, factory, host)?);
    }
    Ok(repositories)
}

/// The distribution's own repositories with their suites; a rolling suite has neither updates nor security.
fn own_suites(distribution: &Distribution) -> Vec<(&'static str, Vec<String>)> {
    let Distribution { suite, updates, security, .. } = distribution;
    let is_rolling = facts(distribution.family).rolling.contains(&suite.as_str());
    let pocket = |name: &str, wanted: bool| (wanted && !is_rolling).then(|| format!("{suite}-{name}"));
    let archive = std::iter::once(suite.clone()).chain(pocket("updates", *updates)).collect();
    let security = pocket("security", *security).map(|suite| (SECURITY, vec![suite]));
    std::iter::once((ARCHIVE, archive)).chain(security).collect()
}

/// `SUITE/COMPONENT` of every index that the distribution's spec asks for, as the lock names them.
pub(crate) fn index_names(distribution: &Distribution) -> Vec<String> {
    let own = own_suites(distribution).into_iter().flat_map(|(repository, suites)| {
        suites.into_iter().flat_map(move |suite| {
            distribution.components.iter().map(move |component| index_name(repository, &suite, component))
        })
    });
    let extra = distribution.repositories.iter().flat_map(|extra| {
        extra.components.iter().map(|component| index_name(extra.name.as_str(), &extra.suite, component))
    });
    own.chain(extra).collect()
}

fn extra_repository(
    distribution: &str,
    extra: &SpecRepository,
    factory: &Factory,
    host: &Host,
) -> Result<Repository, MirrorError> {
    let path = exported_repository(distribution, extra.name.as_str());
    let exported = exported(host)?.into_iter().map(|mirror| Mirror { root: below(&mirror.root, &path), ..mirror });
    let named = mirror(extra.uri.as_str(), "kiln.toml", None)?;
    Ok(Repository {
        name: extra.name.to_string(),
        suites: vec![extra.suite.clone()],
        components: extra.components.clone(),
        priority: extra.priority.map(i32::from),
        origin: None,
        mirrors: exported.chain([named]).collect(),
        keyring: read_keyring(&factory.path(&extra.keyring.path))?,
        known_everywhere: BTreeSet::new(),
        is_snapshot: false,
    })
}

/// Where a directory written by `kiln fetch --to` keeps a repository of a distribution: below this path, which ends in
/// `/`. Families have a root each, as their pools have files of equal names; so have extra repositories.
pub(crate) fn exported_root(distribution: &str, locked: &LockedDistribution, repository: &str) -> String {
    match repository {
        ARCHIVE | SECURITY => exported_archive(&locked.family, locked.snapshot),
        extra => exported_repository(distribution, extra),
    }
}

/// The distribution's own repositories share one root, as their files have different names.
fn exported_archive(family: &str, snapshot: Option<Timestamp>) -> String {
    let moment = snapshot.map(|snapshot| format!("{}/", snapshot_directory(snapshot)));
    format!("{family}/{}", moment.unwrap_or_default())
}

fn exported_repository(distribution: &str, repository: &str) -> String {
    format!("repositories/{distribution}/{repository}/")
}

/// The directory of a moment, as mirrors that keep the past name it.
fn snapshot_directory(snapshot: Timestamp) -> String {
    snapshot.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The candidates for one of the distribution's own repositories, the first to be asked first.
fn mirrors(
    repository: &str,
    distribution: &Distribution,
    facts: &FamilyFacts,
    entries: &[(SourceEntry, String)],
    host: &Host,
) -> Result<Vec<Mirror>, MirrorError> {
    let snapshot = distribution.snapshot.map(snapshot_directory);
    let from_spec = |uri: &Option<kiln_model::spec::Uri>| {
        uri.as_ref().map(|uri| mirror(uri.as_str(), "kiln.toml", snapshot.as_deref())).transpose()
    };
    let mut found = Vec::new();
    if repository == SECURITY {
        found.extend(from_spec(&distribution.security_mirror)?);
    }
    let mut general = Vec::from_iter(from_spec(&distribution.mirror)?);
    if distribution.mirror.is_none() {
        for text in &host.mirrors {
            general.extend(exported_mirror(text, distribution, facts)?);
            general.push(mirror(text, "KILN_MIRROR", snapshot.as_deref())?);
        }
    }
    let is_told = !found.is_empty() || distribution.mirror.is_some();
    for mirror in general {
        found.extend((repository == SECURITY).then(|| security_sibling(&mirror, facts)).flatten());
        found.push(mirror);
    }
    if !is_told {
        found.extend(host_mirrors(repository, distribution, entries, snapshot.as_deref()));
    }
    found.dedup_by(|left, right| left.root == right.root);
    Ok(found)
}

/// A directory may have been written by `kiln fetch --to`, which gives each family a root.
fn exported_mirror(
    text: &str,
    distribution: &Distribution,
    facts: &FamilyFacts,
) -> Result<Option<Mirror>, MirrorError> {
    let Mirror { root, named_by } = mirror(text, "KILN_MIRROR", None)?;
    let path = exported_archive(facts.name, distribution.snapshot);
    Ok((root.scheme() == "file").then(|| Mirror { root: below(&root, &path), named_by }))
}

/// By convention a mirror has the security archive in a directory beside the main one.
fn security_sibling(mirror: &Mirror, facts: &FamilyFacts) -> Option<Mirror> {
    let (main, security) = facts.directories?;
    let path = mirror.root.path().to_owned();
    // With a snapshot the directory's name is followed by a timestamp.
    let at = path.rfind(&format!("/{main}/"))?;
    let mut root = mirror.root.clone();
    root.set_path(&format!("{}/{security}/{}", &path[..at], &path[at + main.len() + 2..]));
    Some(Mirror { root, named_by: mirror.named_by.clone() })
}

/// The host's entries of the family: those that name the very suite first, then its pocket, then the others.
fn host_mirrors(
    repository: &str,
    distribution: &Distribution,
    entries: &[(SourceEntry, String)],
    snapshot: Option<&str>,
) -> Vec<Mirror> {
    let suite = &distribution.suite;
    let exact = if repository == SECURITY { format!("{suite}-security") } else { suite.clone() };
    let is_security = |entry: &SourceEntry| entry.suites.iter().any(|suite| suite.ends_with("-security"));
    let rank = |entry: &SourceEntry| match entry.suites.contains(&exact) {
        true => 0,
        false if is_security(entry) == (repository == SECURITY) => 1,
        false => 2,
    };
    let mut ranked: Vec<_> = entries.iter().collect();
    ranked.sort_by_key(|(entry, _)| rank(entry));
    let mirrors =
        ranked.into_iter().flat_map(|(entry, place)| entry.uris.iter().map(move |uri| mirror(uri, place, snapshot)));
    mirrors.flatten().collect()
}

/// The apt entries of the host that are the family's, with their places.
fn host_entries(host: &Host, facts: &FamilyFacts) -> Vec<(SourceEntry, String)> {
    let is_family = |entry: &SourceEntry| {
        entry.suites.iter().any(|suite| {
            let base = suite.split_once(['-', '/']).map_or(suite.as_str(), |(base, _)| base);
            facts.suites.contains(&base)
        })
    };
    let mut sources = Sources::default();
    for (path, text) in &host.apt_sources {
        sources.add(path.as_str(), text);
    }
    let placed = sources.entries.into_iter().filter(is_family).map(|entry| {
        let place = format!("{}:{}", entry.file, entry.line);
        (entry, place)
    });
    placed.collect()
}

fn mirror(text: &str, named_by: &str, snapshot: Option<&str>) -> Result<Mirror, MirrorError> {
    let error = || MirrorError::Address { text: public_text(text), named_by: named_by.to_owned() };
    let url = Url::parse(text).ok().filter(is_ours).ok_or_else(error)?;
    Ok(Mirror { root: below(&url, snapshot.unwrap_or("")), named_by: named_by.to_owned() })
}

/// An address as it may be shown; what is no address of ours may hold anything, and is not shown.
pub(crate) fn public_text(text: &str) -> String {
    let url = Url::parse(text).ok().filter(is_ours);
    url.map_or_else(|| "(not an address)".to_owned(), |url| public_url(&url))
}

/// A request as it may be shown: a name, a file, or an address without its secrets.
pub(crate) fn public_request(text: &str) -> String {
    if text.contains("://") { public_text(text) } else { text.to_owned() }
}

/// A line of the spec as it may be shown: what stands before the `@` of an address is left out.
pub(crate) fn public_line(line: &str) -> String {
    let mut parts = line.split("://");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        let end = part.find(['/', '"', '\'', ' ']).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        let host = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("***@{host}"));
        format!("{shown}://{host}{rest}")
    })
}

fn is_ours(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https" | "file")
}

/// The directory `path` below `root`; the result ends in `/`, so that [`Url::join`] stays below it.
fn below(root: &Url, path: &str) -> Url {
    let mut url = root.clone();
    let base = url.path().trim_end_matches('/').to_owned();
    let path = path.trim_matches('/');
    url.set_path(&if path.is_empty() { format!("{base}/") } else { format!("{base}/{path}/") });
    url
}

/// The path of a suite's current signed Release below a mirror's root.
pub(crate) fn release_path(suite: &str) -> String {
    format!("dists/{suite}/InRelease")
}

/// Where a directory written by `kiln fetch --to` keeps every generation of a suite's signed Release.
pub(crate) fn release_by_hash(suite: &str, digest: &Sha256) -> String {
    format!("dists/{suite}/{}", by_hash(digest))
}

/// Where a suite's signed Release with this digest may be: by digest, which only directories written by
/// `kiln fetch --to` have, then as the current one.
pub(crate) fn release_urls(mirror: &Mirror, suite: &str, digest: &Sha256) -> [Url; 2] {
    [mirror.file(&release_by_hash(suite, digest)), mirror.release(suite)]
}

impl Mirror {
    /// The address of a suite's signed Release.
    pub(crate) fn release(&self, suite: &str) -> Url {
        self.file(&release_path(suite))
    }

    /// The address of a file of this mirror.
    pub(crate) fn file(&self, path: &str) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("{}{path}", self.root.path()));
        url
    }
}

fn keyring(
    distribution: &Distribution,
    facts: &FamilyFacts,
    factory: &Factory,
    host: &Host,
) -> Result<Keyring, MirrorError> {
    if let Some(path) = &distribution.keyring {
        return read_keyring(&factory.path(&path.path));
    }
    let on_host = facts.keyrings.iter().map(|name| host.keyring_directory.join(name)).find(|path| path.exists());
    let mut keyring = parse_keyring("Kiln's own keys", facts.shipped_keys)?;
    if let Some(path) = on_host {
        keyring.extend(read_keyring(&path)?);
    }
    Ok(keyring)
}

fn known_everywhere(facts: &FamilyFacts) -> BTreeSet<String> {
    let shipped = Keyring::parse(facts.shipped_keys);
    shipped.iter().flat_map(Keyring::certificates).map(|certificate| certificate.fingerprint).collect()
}

fn read_keyring(path: &Utf8Path) -> Result<Keyring, MirrorError> {
    let error = |source| MirrorError::Keyring { path: path.to_string(), source };
    let bytes = fs_err::read(path).map_err(|source| error(Box::new(source)))?;
    parse_keyring(path.as_str(), &bytes)
}

fn parse_keyring(path: &str, bytes: &[u8]) -> Result<Keyring, MirrorError> {
    Keyring::parse(bytes).map_err(|source| MirrorError::Keyring { path: path.to_owned(), source: Box::new(source) })
}

/// Where a directory written by `kiln fetch --to` keeps what no index lists.
pub(crate) fn by_hash(digest: &Sha256) -> String {
    format!("by-hash/SHA256/{digest}")
}

/// `KILN_MIRROR`'s directories: what `kiln fetch --to` wrote may hold files that belong to no repository.
pub(crate) fn exported(host: &Host) -> Result<Vec<Mirror>, MirrorError> {
    let mirrors: Vec<Mirror> =
        host.mirrors.iter().map(|text| mirror(text, "KILN_MIRROR", None)).collect::<Result<_, _>>()?;
    Ok(mirrors.into_iter().filter(|mirror| mirror.root.scheme() == "file").collect())
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use kiln_model::diagnostic::Source;
    use kiln_model::spec::{Listing, Spec, parse};

    use super::*;

    fn spec(distribution: &str) -> Spec {
        let text = format!(
            "[factory]\nname = \"shop\"\n[distribution.d]\nfamily = \"debian\"\nsuite = \"trixie\"\n{distribution}\n[class.base]\ndistribution = \"d\"\n"
        );
        parse(&[Source { name: "kiln.toml".into(), text }], &Listing::new([])).unwrap()
    }

    fn host(mirrors: &[&str], sources: &[(&str, &str)]) -> Host {
        Host {
            architecture: "amd64".into(),
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
            apt_sources: sources
                .iter()
                .map(|(path, text)| (Utf8PathBuf::from(path), text.as_bytes().to_vec()))
                .collect(),
            keyring_directory: "/nonexistent".into(),
        }
    }

    /// The candidates of each repository, each as `address (who named it)`.
    fn check(distribution: &str, host: &Host, expected: &[(&str, &[&str])]) {
        let spec = spec(distribution);
        let found = repositories("d", &spec.distributions["d"], &Factory::new("/f".into()), host).unwrap();
        let show = |mirror: &Mirror| format!("{} ({})", mirror.root, mirror.named_by);
        let found: Vec<(String, Vec<String>)> = found
            .iter()
            .map(|repository| (repository.name.clone(), repository.mirrors.iter().map(show).collect()))
            .collect();
        let expected: Vec<(String, Vec<String>)> = expected
            .iter()
            .map(|(name, mirrors)| ((*name).to_owned(), mirrors.iter().map(|&mirror| mirror.to_owned()).collect()))
            .collect();
        assert_eq!(found, expected);
    }

    const DEB822: &str = "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n\
        Types: deb\nURIs: http://m.example/sec\nSuites: bookworm-security\nComponents: main\n";

    #[test]
    fn the_hosts_sources_serve_other_suites_of_the_family_and_strangers_are_not_asked() {
        let stranger = "deb https://packages.example/node nodistro main\ndeb [trusted=yes] http://flat.example ./\n";
        check(
            "",
            &host(&[], &[("/a/debian.sources", DEB822), ("/a/node.list", stranger)]),
            &[
                (
                    "archive",
                    &["http://m.example/debian/ (/a/debian.sources:1)", "http://m.example/sec/ (/a/debian.sources:6)"],
                ),
                (
                    "security",
                    &["http://m.example/sec/ (/a/debian.sources:6)", "http://m.example/debian/ (/a/debian.sources:1)"],
                ),
            ],
        );
    }

    #[test]
    fn an_entry_that_names_the_suite_comes_first() {
        let lines = "deb http://one.example/debian bookworm main\ndeb http://two.example/debian trixie main\n";
        check(
            "security = false",
            &host(&[], &[("/a/sources.list", lines)]),
            &[(
                "archive",
                &["http://two.example/debian/ (/a/sources.list:2)", "http://one.example/debian/ (/a/sources.list:1)"],
            )],
        );
    }

    #[test]
    fn the_spec_comes_before_all_and_alone() {
        check(
            "mirror = \"http://spec.example/debian/\"",
            &host(&["http://env.example/debian"], &[("/a/debian.sources", DEB822)]),
            &[
                ("archive", &["http://spec.example/debian/ (kiln.toml)"]),
                (
                    "security",
                    &["http://spec.example/debian-security/ (kiln.toml)", "http://spec.example/debian/ (kiln.toml)"],
                ),
            ],
        );
    }

    #[test]
    fn the_environment_comes_before_the_host() {
        check(
            "updates = false",
            &host(&["file:///srv/m"], &[("/a/debian.sources", DEB822)]),
            &[
                (
                    "archive",
                    &[
                        "file:///srv/m/debian/ (KILN_MIRROR)",
                        "file:///srv/m/ (KILN_MIRROR)",
                        "http://m.example/debian/ (/a/debian.sources:1)",
                        "http://m.example/sec/ (/a/debian.sources:6)",
                    ],
                ),
                (
                    "security",
                    &[
                        "file:///srv/m/debian-security/ (KILN_MIRROR)",
                        "file:///srv/m/debian/ (KILN_MIRROR)",
                        "file:///srv/m/ (KILN_MIRROR)",
                        "http://m.example/sec/ (/a/debian.sources:6)",
                        "http://m.example/debian/ (/a/debian.sources:1)",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn a_snapshot_is_a_directory_of_its_mirror() {
        check(
            "mirror = \"http://past.example/archive/debian\"\nsnapshot = \"2026-08-01T00:00:00Z\"",
            &host(&[], &[]),
            &[
                ("archive", &["http://past.example/archive/debian/20260801T000000Z/ (kiln.toml)"]),
                (
                    "security",
                    &[
                        "http://past.example/archive/debian-security/20260801T000000Z/ (kiln.toml)",
                        "http://past.example/archive/debian/20260801T000000Z/ (kiln.toml)",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn a_directory_keeps_snapshots_apart() {
        check(
            "security = false\nsnapshot = \"2026-08-01T00:00:00Z\"",
            &host(&["file:///srv/kept", "http://past.example/debian"], &[]),
            &[(
                "archive",
                &[
                    "file:///srv/kept/debian/20260801T000000Z/ (KILN_MIRROR)",
                    "file:///srv/kept/20260801T000000Z/ (KILN_MIRROR)",
                    "http://past.example/debian/20260801T000000Z/ (KILN_MIRROR)",
                ],
            )],
        );
    }

    #[test]
    fn a_release_is_asked_for_by_its_digest_first() {
        let mirror = mirror("file:///srv/kept", "KILN_MIRROR", None).unwrap();
        let digest = Sha256::of(b"signed");
        assert_eq!(
            release_urls(&mirror, "trixie", &digest).map(String::from),
            [
                format!("file:///srv/kept/dists/trixie/by-hash/SHA256/{digest}"),
                "file:///srv/kept/dists/trixie/InRelease".to_owned(),
            ]
        );
    }

    #[test]
    fn nobody_names_a_mirror() {
        let spec = spec("");
        let error =
            repositories("d", &spec.distributions["d"], &Factory::new("/f".into()), &host(&[], &[])).unwrap_err();
        assert_eq!(error.to_string(), "no mirror is known for distribution d (debian trixie)");
        assert!(error.hint().contains("KILN_MIRROR"));
    }

    #[test]
    fn an_address_that_is_none_is_not_shown() {
        let spec = spec("");
        let host = host(&["user:secret@mirror"], &[]);
        let error = repositories("d", &spec.distributions["d"], &Factory::new("/f".into()), &host).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_line_of_the_spec_shows_no_password() {
        let line = r#"packages = ["nginx", "http://user:pa@ss@m.example/a.deb", "https://m.example/b@1.deb"]"#;
        let shown = r#"packages = ["nginx", "http://***@m.example/a.deb", "https://m.example/b@1.deb"]"#;
        assert_eq!(public_line(line), shown);
        assert_eq!(public_line("packages = []"), "packages = []");
    }

    #[test]
    fn rolling_suites_have_no_pockets() {
        let mut distribution = spec("").distributions["d"].clone();
        distribution.suite = "sid".into();
        assert_eq!(index_names(&distribution), ["sid/main"]);
        distribution.suite = "trixie".into();
        assert_eq!(index_names(&distribution), ["trixie/main", "trixie-updates/main", "trixie-security/main"]);
    }
}
