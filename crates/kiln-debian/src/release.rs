//! The `Release` file of a suite: who made it, when, and the digest and size of every index.
//!
//! 1. [`Release::parse`] reads the text (verified before: [`crate::openpgp`]).
//! 2. [`Release::check_dates`] refuses one that has expired or comes from the future.
//! 3. [`Release::packages_indexes`] says which files hold the packages of a component, and where to fetch them.
//!
//! Digests other than SHA-256 are not read: a Release file without them is an error. Format: DebianRepository/Format in
//! Debian's wiki, and apt's `debReleaseIndex::Load`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil};
use kiln_model::digest::Sha256;

use crate::compression::Compression;
use crate::deb822::{Deb822Error, Field, Paragraph, Paragraphs};

/// How far ahead of this machine's clock a Release file may be: apt's `Acquire::Max-FutureTime`.
pub const FUTURE_TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// What a suite says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Who made it: `Debian`, `Ubuntu`.
    pub origin: Option<String>,
    /// Which of their archives: `Debian-Security`.
    pub label: Option<String>,
    /// The name that moves: `stable`.
    pub suite: Option<String>,
    /// The name that stays: `trixie`.
    pub codename: Option<String>,
    /// The distribution's version: `13.7`.
    pub version: Option<String>,
    /// When it was made.
    pub date: Timestamp,
    /// When it must no longer be believed.
    pub valid_until: Option<Timestamp>,
    /// Whether the mirror also has every index under its digest, so that a mirror in mid-update can be read.
    pub acquire_by_hash: bool,
    /// Packages are taken from here only when asked for (`NotAutomatic`: experimental, backports).
    pub not_automatic: bool,
    /// Once installed from here, packages are also upgraded from here (`ButAutomaticUpgrades`: backports).
    pub but_automatic_upgrades: bool,
    /// As listed; `all` among them says that there are indexes for it.
    pub architectures: Vec<String>,
    /// As listed; Debian's security suites list `updates/main` for `main`.
    pub components: Vec<String>,
    /// The indexes of each architecture hold the packages for all architectures too.
    pub no_support_for_architecture_all: bool,
    /// Where changelogs are, with `@CHANGEPATH@` in it.
    pub changelogs: Option<String>,
    /// Every index by its path below the suite.
    pub files: BTreeMap<String, IndexFile>,
}

/// The digest and size of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexFile {
    /// Of the file as it is fetched.
    pub sha256: Sha256,
    /// Of the file as it is fetched.
    pub size_bytes: u64,
}

/// One `Packages` index, and the ways to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagesIndex {
    /// Whose packages: the architecture asked for, or `all`.
    pub architecture: String,
    /// Its text; absent when only compressed forms are listed.
    pub plain: Option<IndexFile>,
    /// The forms that Kiln reads, the preferred first; never empty.
    pub downloads: Vec<IndexDownload>,
}

/// One form of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDownload {
    /// Below the suite: `main/binary-amd64/Packages.xz`.
    pub path: String,
    /// Below the suite, by digest; only where the mirror offers it. To be tried first.
    pub by_hash_path: Option<String>,
    /// What must arrive.
    pub file: IndexFile,
    /// How it is compressed.
    pub compression: Compression,
}

/// The text is not a Release file that Kiln can use.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not even deb822.
    #[error("read the Release file")]
    Syntax(#[from] Deb822Error),
    /// No paragraph, or more than one.
    #[error("a Release file has one paragraph, this has {found}")]
    Paragraphs {
        /// How many it has.
        found: usize,
    },
    /// A field that must be there is not.
    #[error("the Release file has no `{field}` field")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A date that is none.
    #[error("line {line}: `{field}: {text}` is not a date like `Sat, 12 Sep 2026 07:55:41 UTC`")]
    Date {
        /// First line is 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What it says.
        text: String,
    },
    /// A line of the table of digests that cannot be read or must not be believed.
    #[error("the Release file lists `{entry}`: {reason}")]
    Entry {
        /// The line.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The suite does not have what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIndexError {
    /// No such component.
    #[error("{suite} has no component `{component}` (it has {known})")]
    Component {
        /// The suite's name.
        suite: String,
        /// Asked for.
        component: String,
        /// What there is.
        known: String,
    },
    /// No such architecture.
    #[error("{suite} has no architecture `{architecture}` (it has {known})")]
    Architecture {
        /// The suite's name.
        suite: String,
        /// Asked for.
        architecture: String,
        /// What there is.
        known: String,
    },
    /// The index is not listed, or only in forms that Kiln does not read.
    #[error("{suite} lists no `{path}` that is uncompressed or zst, xz or gz")]
    NotListed {
        /// The suite's name.
        suite: String,
        /// Path of the uncompressed form.
        path: String,
    },
}

/// The Release file is not to be believed at this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaleError {
    /// It was made later than now.
    #[error("the Release file of {suite} is from the future: it was made on {date}, and the clock here says {now}")]
    Future {
        /// The suite's name.
        suite: String,
        /// Its date.
        date: Timestamp,
        /// This machine's.
        now: Timestamp,
    },
    /// It says itself that it is too old.
    #[error("the Release file of {suite} has expired: it was valid until {valid_until}, and the clock here says {now}")]
    Expired {
        /// The suite's name.
        suite: String,
        /// Its last moment.
        valid_until: Timestamp,
        /// This machine's.
        now: Timestamp,
    },
}

impl StaleError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Future { .. } => "set this machine's clock; if it is right, the mirror's Release file is wrong",
            Self::Expired { .. } => {
                "if this machine's clock is right, the mirror is no longer updated: use another, or a snapshot"
            }
        }
    }
}

impl Release {
    /// Reads a Release file.
    ///
    /// # Errors
    /// When it is not one, lacks `Date` or `SHA256`, or lists a path that leads out of the suite.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let paragraphs = Paragraphs::new(text.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let [paragraph] = paragraphs.as_slice() else {
            return Err(ReleaseError::Paragraphs { found: paragraphs.len() });
        };
        let date = date_field(paragraph, "Date")?.ok_or(ReleaseError::Missing { field: "Date" })?;
        let table = paragraph.field("SHA256").ok_or(ReleaseError::Missing { field: "SHA256" })?;
        Ok(Self {
            origin: owned(paragraph, "Origin")?,
            label: owned(paragraph, "Label")?,
            suite: owned(paragraph, "Suite")?,
            codename: owned(paragraph, "Codename")?,
            version: owned(paragraph, "Version")?,
            date,
            valid_until: date_field(paragraph, "Valid-Until")?,
            acquire_by_hash: is_yes(paragraph, "Acquire-By-Hash")?,
            not_automatic: is_yes(paragraph, "NotAutomatic")?,
            but_automatic_upgrades: is_yes(paragraph, "ButAutomaticUpgrades")?,
            architectures: words(paragraph, "Architectures")?,
            components: words(paragraph, "Components")?,
            no_support_for_architecture_all: words(paragraph, "No-Support-for-Architecture-all")?
                .iter()
                .any(|word| word == "Packages"),
            changelogs: owned(paragraph, "Changelogs")?,
            files: parse_table(table)?,
        })
    }

    /// What to call it in a message: its codename, else its suite.
    #[must_use]
    pub fn name(&self) -> &str {
        self.codename.as_deref().or(self.suite.as_deref()).unwrap_or("(unnamed suite)")
    }

    /// Whether it may be believed at `now`. A `Date` up to `tolerance` ahead is a clock that is a little slow;
    /// [`FUTURE_TOLERANCE`] is apt's. An expired one has no tolerance.
    ///
    /// # Errors
    /// When it was made later than now, or says that it has expired.
    pub fn check_dates(&self, now: Timestamp, tolerance: SignedDuration) -> Result<(), StaleError> {
        let suite = || self.name().to_owned();
        if self.date.duration_since(now) > tolerance {
            return Err(StaleError::Future { suite: suite(), date: self.date, now });
        }
        match self.valid_until {
            Some(valid_until) if valid_until < now => Err(StaleError::Expired { suite: suite(), valid_until, now }),
            _ => Ok(()),
        }
    }

    /// The indexes that together hold the packages of `component` for `architecture`.
    ///
    /// Usually one. Two where packages for all architectures are apart: `Architectures` lists `all`, and nothing says
    /// that the other indexes hold them too.
    ///
    /// # Errors
    /// When the suite has no such component, architecture or index.
    pub fn packages_indexes(&self, component: &str, architecture: &str) -> Result<Vec<PackagesIndex>, NoIndexError> {
        if !self.components.iter().any(|listed| is_component(listed, component)) {
            let (component, known) = (component.to_owned(), self.components.join(", "));
            return Err(NoIndexError::Component { suite: self.name().to_owned(), component, known });
        }
        if !self.architectures.iter().any(|listed| listed == architecture) {
            let (architecture, known) = (architecture.to_owned(), self.architectures.join(", "));
            return Err(NoIndexError::Architecture { suite: self.name().to_owned(), architecture, known });
        }
        let mut indexes = vec![self.packages_index(component, architecture)?];
        let all_is_apart =
            self.architectures.iter().any(|listed| listed == "all") && !self.no_support_for_architecture_all;
        if all_is_apart && architecture != "all" {
            indexes.extend(self.packages_index(component, "all").ok());
        }
        Ok(indexes)
    }

    fn packages_index(&self, component: &str, architecture: &str) -> Result<PackagesIndex, NoIndexError> {
        let path = format!("{}/binary-{architecture}/Packages", last_part(component));
        let downloads: Vec<_> = Compression::ALL.into_iter().filter_map(|form| self.download(&path, form)).collect();
        if downloads.is_empty() {
            return Err(NoIndexError::NotListed { suite: self.name().to_owned(), path });
        }
        let plain = self.files.get(&path).copied();
        Ok(PackagesIndex { architecture: architecture.to_owned(), plain, downloads })
    }

    fn download(&self, plain_path: &str, compression: Compression) -> Option<IndexDownload> {
        let path = format!("{plain_path}{}", compression.suffix());
        let file = *self.files.get(&path)?;
        let directory = plain_path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let by_hash_path = self.acquire_by_hash.then(|| format!("{directory}/by-hash/SHA256/{}", file.sha256));
        Some(IndexDownload { path, by_hash_path, file, compression })
    }
}

/// `updates/main` is listed where `main` is meant: Debian's security suites, for the sake of older tools.
fn is_component(listed: &str, component: &str) -> bool {
    listed == component || last_part(listed) == component
}

fn last_part(component: &str) -> &str {
    component.rsplit_once('/').map_or(component, |(_, last)| last)
}

fn owned(paragraph: &Paragraph<'_>, name: &str) -> Result<Option<String>, Deb822Error> {
    Ok(paragraph.text(name)?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn words(paragraph: &Paragraph<'_>, name: &str) -> Result<Vec<String>, Deb822Error> {
    let text = paragraph.text(name)?.unwrap_or_default();
    Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
}

fn is_yes(paragraph: &Paragraph<'_>, name: &str) -> Result<bool, Deb822Error> {
    Ok(paragraph.text(name)?.is_some_and(|text| text.eq_ignore_ascii_case("yes")))
}

fn parse_table(table: &Field<'_>) -> Result<BTreeMap<String, IndexFile>, ReleaseError> {
    let mut files = BTreeMap::new();
    for line in table.text()?.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let wrong = |reason| ReleaseError::Entry { entry: line.to_owned(), reason };
        let (path, file) = parse_entry(line).map_err(wrong)?;
        if files.insert(path.to_owned(), file).is_some_and(|other| other != file) {
            return Err(wrong("the same path is listed twice, with different digests"));
        }
    }
    Ok(files)
}

/// One line of the table: digest, size in bytes, path.
fn parse_entry(line: &str) -> Result<(&str, IndexFile), &'static str> {
    let mut columns = line.split_ascii_whitespace();
    let (Some(digest), Some(size), Some(path), None) = (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err("expected a digest, a size and a path");
    };
    let sha256 = digest.parse().map_err(|_| "the digest is not a SHA-256 digest")?;
    let size_bytes = size.parse().map_err(|_| "the size is not a number of bytes")?;
    if !is_below(path) {
        return Err("the path leads out of the suite");
    }
    Ok((path, IndexFile { sha256, size_bytes }))
}

/// Whether a relative path stays below where it starts.
fn is_below(path: &str) -> bool {
    !path.contains('\\') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn date_field(paragraph: &Paragraph<'_>, field: &'static str) -> Result<Option<Timestamp>, ReleaseError> {
    let Some(found) = paragraph.field(field) else { return Ok(None) };
    let text = found.text()?;
    match parse_date(text) {
        Some(date) => Ok(Some(date)),
        None => Err(ReleaseError::Date { line: found.line, field, text: text.to_owned() }),
    }
}

/// `Sat, 12 Sep 2026 07:55:41 UTC`: what apt writes and reads. The day and the hour may lack their leading zero, the
/// day of the week may be absent and is not checked, the zone is UTC in one of its spellings.
fn parse_date(text: &str) -> Option<Timestamp> {
    let rest = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = rest.split_ascii_whitespace();
    let day = number(words.next()?, 1..=2)?;
    let month = month(words.next()?)?;
    let year = number(words.next()?, 4..=4)?;
    let mut clock = words.next()?.split(':');
    let hour = number(clock.next()?, 1..=2)?;
    let minute = number(clock.next()?, 2..=2)?;
    let second = number(clock.next()?, 2..=2)?;
    let is_utc = matches!(words.next()?, "UTC" | "GMT" | "Z" | "+0000" | "-0000");
    if !is_utc || clock.next().is_some() || words.next().is_some() {
        return None;
    }
    let narrow = |number: i16| i8::try_from(number).ok();
    let date = civil::Date::new(year, month, narrow(day)?).ok()?;
    let time = civil::Time::new(narrow(hour)?, narrow(minute)?, narrow(second)?, 0).ok()?;
    jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(time)).ok()
}

fn number(word: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i16> {
    let is_number = digits.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

fn month(name: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let index = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month))?;
    i8::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRIXIE: &str = "\
Origin: Debian
Label: Debian
Suite: stable
Version: 13.7
Codename: trixie
Changelogs: https://changelogs.example/@CHANGEPATH@_changelog
Date: Sat, 12 Sep 2026 07:55:41 UTC
Acquire-By-Hash: yes
No-Support-for-Architecture-all: Packages
Architectures: all amd64 arm64
Components: main contrib
MD5Sum:
 3e498904a30e240573dac8ddac594e6f 5 main/binary-amd64/Packages
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages
 f61f27bd17de546264aa58f40f3aafaac7021e0ef69c17f6b1b4cd7664a037ec       20 main/binary-amd64/Packages.gz
 0040f94d11d0039505328a90b2ff48968db873e9e7967307631bf40ef5679275       32 main/binary-amd64/Packages.xz
 0040f94d11d0039505328a90b2ff48968db873e9e7967307631bf40ef5679275       32 main/binary-all/Packages.xz
";

    fn parse(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn fields_are_read() {
        let release = parse(TRIXIE);
        assert_eq!(release.origin.as_deref(), Some("Debian"));
        assert_eq!(release.label.as_deref(), Some("Debian"));
        assert_eq!(release.suite.as_deref(), Some("stable"));
        assert_eq!(release.codename.as_deref(), Some("trixie"));
        assert_eq!(release.version.as_deref(), Some("13.7"));
        assert_eq!(release.changelogs.as_deref(), Some("https://changelogs.example/@CHANGEPATH@_changelog"));
        assert_eq!(release.date.to_string(), "2026-09-12T07:55:41Z");
        assert_eq!(release.valid_until, None);
        assert!(release.acquire_by_hash && release.no_support_for_architecture_all);
        assert!(!release.not_automatic && !release.but_automatic_upgrades);
        assert_eq!(release.architectures, ["all", "amd64", "arm64"]);
        assert_eq!(release.components, ["main", "contrib"]);
        assert_eq!(release.files.len(), 4);
        assert_eq!(release.files["main/binary-amd64/Packages.gz"].size_bytes, 20);
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(Release::parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_cannot_be_believed_is_an_error() {
        check_error("", "a Release file has one paragraph, this has 0");
        check_error("Date: x\n\nDate: y\n", "a Release file has one paragraph, this has 2");
        check_error("Suite: x\n", "the Release file has no `Date` field");
        check_error("Date: Sat, 12 Sep 2026 07:55:41 UTC\n", "the Release file has no `SHA256` field");
        check_error(
            "Suite: x\nDate: tomorrow\n",
            "line 2: `Date: tomorrow` is not a date like `Sat, 12 Sep 2026 07:55:41 UTC`",
        );
        let digest = "0".repeat(64);
        let entry = |line: &str| format!("Date: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n {line}\n");
        check_error(&entry("x 1 a"), "the Release file lists `x 1 a`: the digest is not a SHA-256 digest");
        for (rest, reason) in [
            ("1", "expected a digest, a size and a path"),
            ("1 a b", "expected a digest, a size and a path"),
            ("-1 a", "the size is not a number of bytes"),
            ("1 /etc/passwd", "the path leads out of the suite"),
            ("1 a/../../b", "the path leads out of the suite"),
            ("1 ./a", "the path leads out of the suite"),
        ] {
            let line = format!("{digest} {rest}");
            check_error(&entry(&line), &format!("the Release file lists `{line}`: {reason}"));
        }
        let twice = format!("{digest} 1 a\n {digest} 2 a");
        check_error(
            &entry(&twice),
            &format!("the Release file lists `{digest} 2 a`: the same path is listed twice, with different digests"),
        );
        assert!(Release::parse(&entry(&format!("{digest} 1 a\n {digest} 1 a"))).is_ok());
    }

    fn check_date(text: &str, expected: Option<&str>) {
        assert_eq!(parse_date(text).map(|date| date.to_string()).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn dates_are_read_as_apt_reads_them() {
        check_date("Sat, 12 Sep 2026 07:55:41 UTC", Some("2026-09-12T07:55:41Z"));
        check_date("Wed, 2 Sep 2026 7:55:41 +0000", Some("2026-09-02T07:55:41Z"));
        check_date("Wed,  2 Sep 2026 07:55:41 GMT", Some("2026-09-02T07:55:41Z"));
        check_date("02 Sep 2026 07:55:41 Z", Some("2026-09-02T07:55:41Z"));
        check_date("Sun, 29 Feb 2032 00:00:00 UTC", Some("2032-02-29T00:00:00Z"));
        for wrong in [
            "",
            "Sat, 12 Sep 2026 07:55:41",
            "Sat, 12 Sep 2026 07:55:41 CET",
            "Sat, 12 Sep 2026 07:55:41 +0200",
            "Sat, 12 Sep 2026 07:55 UTC",
            "Sat, 12 Sep 2026 07:55:41:1 UTC",
            "Sat, 12 Sep 2026 24:00:00 UTC",
            "Sat, 31 Sep 2026 07:55:41 UTC",
            "Sat, 12 Spt 2026 07:55:41 UTC",
            "Sat, 12 Sep 26 07:55:41 UTC",
            "Sat, -2 Sep 2026 07:55:41 UTC",
            "Sat, 12 Sep 2026 07:55:41 UTC x",
        ] {
            check_date(wrong, None);
        }
    }

    #[test]
    fn dates_are_checked_against_now() {
        let with_end = TRIXIE.replace("Acquire", "Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\nAcquire");
        let check = |text: &str, now: &str| {
            let checked = parse(text).check_dates(now.parse().unwrap(), FUTURE_TOLERANCE);
            checked.map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!(check(TRIXIE, "2026-09-12T07:55:31Z"), "");
        assert_eq!(
            check(TRIXIE, "2026-09-12T07:55:30Z"),
            "the Release file of trixie is from the future: it was made on 2026-09-12T07:55:41Z, \
             and the clock here says 2026-09-12T07:55:30Z"
        );
        assert_eq!(check(TRIXIE, "2036-01-01T00:00:00Z"), "");
        assert_eq!(check(&with_end, "2026-09-19T07:55:41Z"), "");
        assert_eq!(
            check(&with_end, "2026-09-19T07:55:42Z"),
            "the Release file of trixie has expired: it was valid until 2026-09-19T07:55:41Z, \
             and the clock here says 2026-09-19T07:55:42Z"
        );
    }

    fn paths(indexes: &[PackagesIndex]) -> Vec<&str> {
        indexes.iter().flat_map(|index| &index.downloads).map(|download| download.path.as_str()).collect()
    }

    #[test]
    fn indexes_come_in_order_of_preference() {
        let release = parse(TRIXIE);
        let indexes = release.packages_indexes("main", "amd64").unwrap();
        assert_eq!(
            paths(&indexes),
            ["main/binary-amd64/Packages.xz", "main/binary-amd64/Packages.gz", "main/binary-amd64/Packages"]
        );
        let first = &indexes[0].downloads[0];
        assert_eq!(
            first.by_hash_path.as_deref(),
            Some("main/binary-amd64/by-hash/SHA256/0040f94d11d0039505328a90b2ff48968db873e9e7967307631bf40ef5679275")
        );
        assert_eq!((first.file.size_bytes, first.compression), (32, Compression::Xz));
        assert_eq!(indexes[0].plain.map(|plain| plain.size_bytes), Some(0));
        let without = parse(&TRIXIE.replace("Acquire-By-Hash: yes\n", ""));
        assert_eq!(without.packages_indexes("main", "amd64").unwrap()[0].downloads[0].by_hash_path, None);
    }

    #[test]
    fn packages_for_all_architectures_may_be_apart() {
        let apart = parse(&TRIXIE.replace("No-Support-for-Architecture-all: Packages\n", ""));
        let indexes = apart.packages_indexes("main", "amd64").unwrap();
        let architectures: Vec<_> = indexes.iter().map(|index| index.architecture.as_str()).collect();
        assert_eq!(architectures, ["amd64", "all"]);
        assert_eq!(paths(&indexes).last(), Some(&"main/binary-all/Packages.xz"));
        let not_listed = parse(&TRIXIE.replace("all amd64", "amd64"));
        assert_eq!(not_listed.packages_indexes("main", "amd64").unwrap().len(), 1);
    }

    #[test]
    fn security_suites_prefix_their_components() {
        let security = parse(&TRIXIE.replace("main contrib", "updates/main updates/contrib"));
        let expected = "main/binary-amd64/Packages.xz";
        assert_eq!(paths(&security.packages_indexes("main", "amd64").unwrap())[0], expected);
        assert_eq!(paths(&security.packages_indexes("updates/main", "amd64").unwrap())[0], expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let release = parse(TRIXIE);
        let error =
            |component, architecture| release.packages_indexes(component, architecture).unwrap_err().to_string();
        assert_eq!(error("non-free", "amd64"), "trixie has no component `non-free` (it has main, contrib)");
        assert_eq!(error("main", "s390x"), "trixie has no architecture `s390x` (it has all, amd64, arm64)");
        assert_eq!(
            error("contrib", "amd64"),
            "trixie lists no `contrib/binary-amd64/Packages` that is uncompressed or zst, xz or gz"
        );
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0..TRIXIE.len(), with in any::<char>()) {
            let mut text = TRIXIE.to_owned();
            text.replace_range(at..=at, &with.to_string());
            if let Ok(release) = Release::parse(&text) {
                let _ = release.packages_indexes("main", "amd64");
            }
        }

        #[test]
        fn any_text_can_be_parsed(text in any::<String>()) {
            let _ = Release::parse(&text);
            let _ = parse_date(&text);
        }
    }
}
