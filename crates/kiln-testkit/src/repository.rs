//! A signed APT repository in a directory, as a function of its description.
//!
//! 1. Describe suites of packages: [`Suite`], [`Package`].
//! 2. [`Repository::write`] makes the directory equal to the description: packages first, then indexes, then the signed
//!    Release files, and last it removes what the description does not have, as a real mirror does.
//! 3. Change the description and write again: an update; write an older description again: a rollback.
//!
//! Formats: <https://wiki.debian.org/DebianRepository/Format>.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_model::digest::Sha256;

use crate::deb;
use crate::key::{self, Key};
use crate::package::{Compression, Package};

/// The date of a suite that does not say another: in the past of every machine that runs these tests.
const DEFAULT_DATE: &str = "2025-09-06T10:00:00Z";

/// One directory that serves one or more suites.
#[derive(Debug, Clone)]
pub struct Repository {
    root: Utf8PathBuf,
    suites: Vec<Suite>,
    keeps_old_indexes: bool,
}

/// One suite: who publishes it, when, signed by whom, and what is in it.
#[derive(Debug, Clone)]
pub struct Suite {
    name: String,
    origin: String,
    label: String,
    alias: String,
    codename: String,
    date: Timestamp,
    valid_until: Option<Timestamp>,
    signed_at: Option<Timestamp>,
    by_hash: bool,
    is_backports: bool,
    all_packages: AllPackages,
    components_prefix: String,
    compressions: Vec<Compression>,
    architectures: Vec<String>,
    keys: Vec<Key>,
    inline: bool,
    components: BTreeMap<String, Vec<Package>>,
    component: String,
}

/// Where a suite lists its `Architecture: all` packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllPackages {
    /// In every architecture's index, and Release says so, as Debian's suites do.
    Repeated,
    /// In every architecture's index, and Release does not mention `all`, as Debian's security suites do.
    RepeatedSilently,
    /// In an index of their own, `binary-all`.
    Separate,
}

/// A repository as it was last written.
#[derive(Debug, Clone)]
pub struct Mirror {
    root: Utf8PathBuf,
}

/// The files a mirror should have, by path under its root.
type Files = BTreeMap<String, File>;

/// A file's content and the date it is served with.
struct File {
    contents: Vec<u8>,
    modified: SystemTime,
}

impl Repository {
    /// A repository in `root`, which is created when the repository is written.
    #[must_use]
    pub fn new(root: impl Into<Utf8PathBuf>) -> Self {
        Self { root: root.into(), suites: Vec::new(), keeps_old_indexes: false }
    }

    /// The same repository in another directory.
    #[must_use]
    pub fn at(mut self, root: impl Into<Utf8PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Adds a suite, or replaces the suite of the same name.
    #[must_use]
    pub fn suite(mut self, suite: Suite) -> Self {
        self.suites.retain(|other| other.name != suite.name);
        self.suites.push(suite);
        self
    }

    /// The same repository with one of its suites changed.
    #[must_use]
    pub fn change(self, name: &str, change: impl FnOnce(Suite) -> Suite) -> Self {
        let found = self.suites.iter().find(|suite| suite.name == name).cloned();
        let suite = found.unwrap_or_else(|| panic!("no suite {name} in {}", self.root));
        self.suite(change(suite))
    }

    /// The same repository with another date on every suite: new indexes of equal packages.
    #[must_use]
    pub fn dated(mut self, date: &str) -> Self {
        self.suites = self.suites.into_iter().map(|suite| suite.date(date)).collect();
        self
    }

    /// Whether earlier indexes stay reachable under `by-hash` after an update, as Debian keeps them for some hours.
    #[must_use]
    pub fn keep_old_indexes(mut self, keep: bool) -> Self {
        self.keeps_old_indexes = keep;
        self
    }

    /// Makes the directory equal to the description.
    pub fn write(&self) -> Mirror {
        let mut files = Files::new();
        for suite in &self.suites {
            suite.add_files(&mut files);
        }
        files.insert(KEYRING.to_owned(), File { contents: self.keyring(), modified: modified(0) });
        self.write_files(&files);
        self.remove_others(&files);
        Mirror { root: self.root.clone() }
    }

    fn keyring(&self) -> Vec<u8> {
        let certificates: BTreeMap<String, Vec<u8>> = self
            .suites
            .iter()
            .flat_map(|suite| &suite.keys)
            .map(|key| (key.fingerprint(), key.public_binary()))
            .collect();
        certificates.into_values().flatten().collect()
    }

    /// Writes the files in an order in which no published index ever names a file that is not there yet.
    fn write_files(&self, files: &Files) {
        let mut ordered: Vec<(&String, &File)> = files.iter().collect();
        ordered.sort_by_key(|(path, _)| publication_rank(path));
        for (path, file) in ordered {
            write_file(&self.root.join(path), file);
        }
    }

    fn remove_others(&self, files: &Files) {
        for path in files_under(&self.root) {
            let kept = files.contains_key(&path) || (self.keeps_old_indexes && path.contains("/by-hash/"));
            if !kept {
                fs::remove_file(self.root.join(&path)).expect("remove what the mirror no longer has");
            }
        }
    }
}

/// The certificates of all keys that sign something in this mirror, under its root.
const KEYRING: &str = "keyring.gpg";

impl Suite {
    /// A suite as Debian publishes its stable release: component main, amd64, xz and gzip, by-hash.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            origin: "Debian".to_owned(),
            label: "Debian".to_owned(),
            alias: name.to_owned(),
            codename: name.to_owned(),
            date: DEFAULT_DATE.parse().expect("a date"),
            valid_until: None,
            signed_at: None,
            by_hash: true,
            is_backports: false,
            all_packages: AllPackages::Repeated,
            components_prefix: String::new(),
            compressions: vec![Compression::Xz, Compression::Gzip],
            architectures: vec!["amd64".to_owned()],
            keys: vec![Key::named("archive")],
            inline: true,
            components: BTreeMap::from([("main".to_owned(), Vec::new())]),
            component: "main".to_owned(),
        }
    }

    /// `CODENAME-updates`.
    #[must_use]
    pub fn updates(codename: &str) -> Self {
        Self::new(&format!("{codename}-updates"))
    }

    /// `CODENAME-security` as Debian publishes it: its own label and key, and `Components: updates/main`, while the
    /// paths below say `main`.
    #[must_use]
    pub fn security(codename: &str) -> Self {
        let mut suite = Self::new(&format!("{codename}-security")).label("Debian-Security");
        "updates/".clone_into(&mut suite.components_prefix);
        suite.all_packages(AllPackages::RepeatedSilently).signed_by([Key::named("security")])
    }

    /// The suite's name: the directory under `dists`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `Origin`.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        origin.clone_into(&mut self.origin);
        self
    }

    /// `Label`.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// `Suite`, where it is not the directory's name: `stable`.
    #[must_use]
    pub fn alias(mut self, alias: &str) -> Self {
        alias.clone_into(&mut self.alias);
        self
    }

    /// `Codename`, where it is not the directory's name.
    #[must_use]
    pub fn codename(mut self, codename: &str) -> Self {
        codename.clone_into(&mut self.codename);
        self
    }

    /// `Date`, and when the signatures were made unless [`Suite::signed_at`] says otherwise: `2025-09-06T10:00:00Z`.
    #[must_use]
    pub fn date(mut self, date: &str) -> Self {
        self.date = date.parse().expect("a date such as 2025-09-06T10:00:00Z");
        self
    }

    /// `Valid-Until`; without it the suite never goes stale.
    #[must_use]
    pub fn valid_until(mut self, date: &str) -> Self {
        self.valid_until = Some(date.parse().expect("a date such as 2025-09-06T10:00:00Z"));
        self
    }

    /// When the signatures were made, where it is not the suite's date.
    #[must_use]
    pub fn signed_at(mut self, date: &str) -> Self {
        self.signed_at = Some(date.parse().expect("a date such as 2025-09-06T10:00:00Z"));
        self
    }

    /// A suite like Debian's backports: it does not put itself forward (`NotAutomatic`, `ButAutomaticUpgrades`).
    #[must_use]
    pub fn backports(mut self) -> Self {
        self.is_backports = true;
        self
    }

    /// Whether indexes are also served by their digest.
    #[must_use]
    pub fn by_hash(mut self, by_hash: bool) -> Self {
        self.by_hash = by_hash;
        self
    }

    /// Where `Architecture: all` packages are listed.
    #[must_use]
    pub fn all_packages(mut self, listed: AllPackages) -> Self {
        self.all_packages = listed;
        self
    }

    /// The forms in which indexes are served; Release lists the uncompressed form in any case, as Debian's does.
    #[must_use]
    pub fn compressions(mut self, compressions: impl IntoIterator<Item = Compression>) -> Self {
        self.compressions = compressions.into_iter().collect();
        self
    }

    /// The architectures, without `all`.
    #[must_use]
    pub fn architectures(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.architectures = names.into_iter().map(str::to_owned).collect();
        self
    }

    /// The keys that sign; with none the suite has only an unsigned Release.
    #[must_use]
    pub fn signed_by(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.keys = keys.into_iter().collect();
        self
    }

    /// Publishes Release and Release.gpg only, without InRelease, as old tools do.
    #[must_use]
    pub fn without_inline(mut self) -> Self {
        self.inline = false;
        self
    }

    /// Adds a component, to which the packages that follow belong.
    #[must_use]
    pub fn component(mut self, name: &str) -> Self {
        self.components.entry(name.to_owned()).or_default();
        name.clone_into(&mut self.component);
        self
    }

    /// Adds a package to the current component.
    #[must_use]
    pub fn package(mut self, package: Package) -> Self {
        self.components.entry(self.component.clone()).or_default().push(package);
        self
    }

    /// Adds packages to the current component.
    #[must_use]
    pub fn packages(self, packages: impl IntoIterator<Item = Package>) -> Self {
        packages.into_iter().fold(self, Self::package)
    }

    /// The same suite with every version of a package, in every component, replaced by this one.
    #[must_use]
    pub fn replace(self, package: Package) -> Self {
        let name = package.name().to_owned();
        self.remove(&name).package(package)
    }

    /// The same suite without any version of a package.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        for packages in self.components.values_mut() {
            packages.retain(|package| package.name() != name);
        }
        self
    }

    fn add_files(&self, files: &mut Files) {
        let modified = modified(self.date.as_second().try_into().expect("a date after 1970"));
        let directory = format!("dists/{}", self.name);
        let mut table = String::new();
        for (path, text) in self.indexes(files) {
            for (path, contents) in self.index_forms(&path, &text, &mut table) {
                files.insert(format!("{directory}/{path}"), File { contents, modified });
            }
        }
        for (name, contents) in self.release_files(&table) {
            files.insert(format!("{directory}/{name}"), File { contents, modified });
        }
    }

    /// The text of each index by its uncompressed path; adds the packages themselves to `files`.
    fn indexes(&self, files: &mut Files) -> BTreeMap<String, String> {
        let mut indexes = BTreeMap::new();
        for (component, packages) in &self.components {
            let mut sorted: Vec<&Package> = packages.iter().collect();
            sorted.sort_by_key(|package| (package.name(), package.version()));
            for architecture in self.index_architectures() {
                indexes.insert(format!("{component}/binary-{architecture}/Packages"), String::new());
            }
            for package in sorted {
                let deb = package.deb();
                let stanza = package.index_stanza(component, &deb);
                for architecture in self.listed_in(package) {
                    let text = indexes.entry(format!("{component}/binary-{architecture}/Packages")).or_default();
                    writeln!(text, "{stanza}").expect("write to memory");
                }
                add_package(files, package.pool_path(component), deb);
            }
        }
        indexes
    }

    fn index_architectures(&self) -> impl Iterator<Item = &str> {
        let all = (self.all_packages == AllPackages::Separate).then_some("all");
        all.into_iter().chain(self.architectures.iter().map(String::as_str))
    }

    /// The architectures whose indexes hold `package`.
    fn listed_in(&self, package: &Package) -> Vec<String> {
        match package.architecture() {
            "all" if self.all_packages != AllPackages::Separate => self.architectures.clone(),
            architecture => {
                let known = architecture == "all" || self.architectures.iter().any(|name| name == architecture);
                assert!(known, "suite {} does not have the architecture of {}", self.name, package.file_name());
                vec![architecture.to_owned()]
            }
        }
    }

    /// The files that carry one index, with their lines added to Release's table.
    fn index_forms(&self, path: &str, text: &str, table: &mut String) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let forms: BTreeSet<Compression> = self.compressions.iter().copied().chain([Compression::None]).collect();
        for form in forms {
            let contents = deb::compress(form, text.as_bytes());
            let digest = Sha256::of(&contents);
            let name = format!("{path}{}", form.suffix());
            writeln!(table, " {digest} {:>8} {name}", contents.len()).expect("write to memory");
            if !self.compressions.contains(&form) {
                continue;
            }
            if self.by_hash {
                let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                files.push((format!("{directory}/by-hash/SHA256/{digest}"), contents.clone()));
            }
            files.push((name, contents));
        }
        files
    }

    fn release_files(&self, table: &str) -> Vec<(&'static str, Vec<u8>)> {
        let release = self.release(table);
        let mut files = vec![("Release", release.clone().into_bytes())];
        if self.keys.is_empty() {
            return files;
        }
        let signed_at = self.signed_at.unwrap_or(self.date);
        let detached: String = self.keys.iter().map(|key| key.sign_detached(release.as_bytes(), signed_at)).collect();
        files.push(("Release.gpg", detached.into_bytes()));
        if self.inline {
            files.push(("InRelease", key::sign_inline(&release, &self.keys, signed_at).into_bytes()));
        }
        files
    }

    fn release(&self, table: &str) -> String {
        let mut text = String::new();
        let mut field = |name: &str, value: &str| writeln!(text, "{name}: {value}").expect("write to memory");
        field("Origin", &self.origin);
        field("Label", &self.label);
        field("Suite", &self.alias);
        field("Codename", &self.codename);
        field("Date", &release_date(self.date));
        if let Some(moment) = self.valid_until {
            field("Valid-Until", &release_date(moment));
        }
        if self.is_backports {
            field("NotAutomatic", "yes");
            field("ButAutomaticUpgrades", "yes");
        }
        if self.by_hash {
            field("Acquire-By-Hash", "yes");
        }
        if self.all_packages == AllPackages::Repeated {
            field("No-Support-for-Architecture-all", "Packages");
        }
        let all = if self.all_packages == AllPackages::RepeatedSilently { "" } else { "all " };
        field("Architectures", &format!("{all}{}", self.architectures.join(" ")));
        field("Components", &self.release_components());
        field("Description", &format!("{} {}, made for tests", self.origin, self.name));
        text + "SHA256:\n" + table
    }

    fn release_components(&self) -> String {
        let names = self.components.keys().map(|name| format!("{}{name}", self.components_prefix));
        names.collect::<Vec<String>>().join(" ")
    }
}

impl Mirror {
    /// The directory that holds `dists` and `pool`.
    #[must_use]
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// The mirror as a `file:` URI.
    #[must_use]
    pub fn uri(&self) -> String {
        assert!(!self.root.as_str().contains([' ', '%', '#', '?']), "no path that a URI must quote: {}", self.root);
        format!("file://{}", self.root)
    }

    /// A binary keyring with the certificate of every key that signs something here.
    #[must_use]
    pub fn keyring(&self) -> Utf8PathBuf {
        self.root.join(KEYRING)
    }

    /// A file of a suite: `InRelease`, `main/binary-amd64/Packages.xz`.
    #[must_use]
    pub fn suite_file(&self, suite: &str, path: &str) -> Utf8PathBuf {
        self.root.join("dists").join(suite).join(path)
    }

    /// The `.deb` of this file name, wherever it is in the pool.
    #[must_use]
    pub fn deb(&self, file_name: &str) -> Utf8PathBuf {
        let all = files_under(&self.root);
        let found = all.iter().find(|path| path.starts_with("pool/") && path.ends_with(&format!("/{file_name}")));
        self.root.join(found.unwrap_or_else(|| panic!("no {file_name} in the pool of {}", self.root)))
    }

    /// Every file by its path under the root, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        files_under(&self.root).into_iter().collect()
    }
}

fn add_package(files: &mut Files, path: String, contents: Vec<u8>) {
    let file = File { contents, modified: modified(deb::EPOCH_SECONDS) };
    if let Some(other) = files.get(&path) {
        assert_eq!(other.contents, file.contents, "two different packages want to be {path}");
    }
    files.insert(path, file);
}

fn modified(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A date as Release files write it: `Sat, 06 Sep 2025 10:00:00 UTC`.
fn release_date(moment: Timestamp) -> String {
    moment.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// Packages, then indexes, then the signed files that name them.
fn publication_rank(path: &str) -> usize {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    match name {
        "Release" | "Release.gpg" => 2,
        "InRelease" => 3,
        _ if path.starts_with("dists/") => 1,
        _ => 0,
    }
}

/// Replaces a file in one step, unless it already is as it should be.
fn write_file(path: &Utf8Path, file: &File) {
    if fs::read(path).is_ok_and(|contents| contents == file.contents) {
        return;
    }
    fs::create_dir_all(path.parent().expect("a file has a parent")).expect("create a directory of the mirror");
    let aside = path.with_file_name(format!(".{}.new", path.file_name().expect("a file has a name")));
    fs::write(&aside, &file.contents).expect("write a file of the mirror");
    let handle = fs::File::options().write(true).open(&aside).expect("open a file of the mirror");
    handle.into_parts().0.set_modified(file.modified).expect("date a file of the mirror");
    fs::rename(&aside, path).expect("publish a file of the mirror");
}

/// The paths of all files under `root`, relative to it.
fn files_under(root: &Utf8Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in directory.read_dir_utf8().expect("list a directory") {
            let entry = entry.expect("list a directory");
            if entry.file_type().expect("ask what a file is").is_dir() {
                waiting.push(entry.into_path());
            } else {
                let path = entry.path().strip_prefix(root).expect("a path below the root");
                found.insert(path.to_string());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths and bytes of a repository written to a directory of its own.
    fn written(repository: &Repository) -> BTreeMap<String, Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let mirror = repository.clone().at(root(&directory)).write();
        snapshot(&mirror)
    }

    fn root(directory: &tempfile::TempDir) -> Utf8PathBuf {
        Utf8Path::from_path(directory.path()).unwrap().join("mirror")
    }

    fn snapshot(mirror: &Mirror) -> BTreeMap<String, Vec<u8>> {
        mirror.files().into_iter().map(|path| (path.clone(), fs::read(mirror.root().join(path)).unwrap())).collect()
    }

    fn first() -> Repository {
        Repository::new("unused").suite(Suite::new("trixie").package(Package::new("nginx", "1.26.3-3")))
    }

    fn second() -> Repository {
        let newer = Package::new("nginx", "1.26.3-3+deb13u1");
        let suite = Suite::new("trixie").date("2025-11-15T10:00:00Z").valid_until("2025-11-22T10:00:00Z");
        Repository::new("unused").suite(suite.package(newer))
    }

    #[test]
    fn the_same_description_gives_the_same_bytes() {
        let repository = Repository::debian("unused");
        assert_eq!(written(&repository), written(&repository));
    }

    #[test]
    fn writing_again_updates_and_rolls_back_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let place = |repository: Repository| snapshot(&repository.at(root(&directory)).write());
        assert_eq!(place(first()), written(&first()));
        assert_eq!(place(second()), written(&second()));
        assert_eq!(place(first()), written(&first()));
        assert_ne!(written(&first()), written(&second()));
    }

    #[test]
    fn a_change_reaches_one_suite_and_a_date_reaches_all() {
        let repository = Repository::debian("unused");
        let differing = |other: &Repository| {
            let (before, after) = (written(&repository), written(other));
            let changed = after.into_iter().filter(|(path, bytes)| before.get(path) != Some(bytes));
            changed.map(|(path, _)| path).filter(|path| !path.contains("/by-hash/")).collect::<Vec<String>>()
        };
        let patched =
            repository.clone().change("trixie-updates", |suite| suite.replace(Package::new("tzdata", "2026a")));
        assert_eq!(
            differing(&patched),
            [
                "dists/trixie-updates/InRelease",
                "dists/trixie-updates/Release",
                "dists/trixie-updates/Release.gpg",
                "dists/trixie-updates/main/binary-amd64/Packages.gz",
                "dists/trixie-updates/main/binary-amd64/Packages.xz",
                "pool/main/t/tzdata/tzdata_2026a_amd64.deb",
            ]
        );
        assert_eq!(differing(&repository.clone().dated("2025-10-01T00:00:00Z")).len(), 9);
    }

    #[test]
    fn old_indexes_stay_by_hash_if_asked_but_old_packages_go() {
        let directory = tempfile::tempdir().unwrap();
        first().at(root(&directory)).write();
        let mirror = second().keep_old_indexes(true).at(root(&directory)).write();
        let count = |what: &str| mirror.files().iter().filter(|path| path.contains(what)).count();
        assert_eq!((count("/by-hash/"), count(".deb")), (4, 1));
        assert!(mirror.deb("nginx_1.26.3-3+deb13u1_amd64.deb").exists());
    }

    #[test]
    fn a_written_mirror_repairs_damage() {
        let directory = tempfile::tempdir().unwrap();
        let repository = first().at(root(&directory));
        let mirror = repository.write();
        let before = snapshot(&mirror);
        crate::damage::corrupt_byte(&mirror.deb("nginx_1.26.3-3_amd64.deb"), 100);
        assert_ne!(snapshot(&mirror), before);
        assert_eq!(snapshot(&repository.write()), before);
    }

    #[test]
    fn release_reads_as_debian_writes_it() {
        let suite = Suite::security("trixie").alias("stable-security").valid_until("2025-09-13T10:00:00Z");
        assert_eq!(
            suite.release(" 00 1 main/x\n"),
            "Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nCodename: trixie-security\n\
             Date: Sat, 06 Sep 2025 10:00:00 UTC\nValid-Until: Sat, 13 Sep 2025 10:00:00 UTC\n\
             Acquire-By-Hash: yes\nArchitectures: amd64\n\
             Components: updates/main\nDescription: Debian trixie-security, made for tests\nSHA256:\n 00 1 main/x\n"
        );
    }

    #[test]
    fn one_line_of_release_is_one_file_as_it_lies_there() {
        let directory = tempfile::tempdir().unwrap();
        let forms = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];
        let suite = Suite::new("trixie").compressions(forms).package(Package::new("a", "1")).component("contrib");
        let mirror = Repository::new(root(&directory)).suite(suite).write();
        let release = fs::read_to_string(mirror.suite_file("trixie", "Release")).unwrap();
        let lines: Vec<&str> = release.lines().filter(|line| line.starts_with(' ')).collect();
        assert_eq!(lines.len(), 8);
        for line in lines {
            let [digest, size, path] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
            let bytes = fs::read(mirror.suite_file("trixie", path)).unwrap();
            assert_eq!((Sha256::of(&bytes).to_string(), bytes.len().to_string()), (digest.to_owned(), size.to_owned()));
            let by_hash = path.rsplit_once('/').unwrap().0.to_owned() + "/by-hash/SHA256/" + digest;
            assert_eq!(fs::read(mirror.suite_file("trixie", &by_hash)).unwrap(), bytes);
        }
    }

    #[test]
    #[should_panic(expected = "two different packages")]
    fn one_pool_path_cannot_hold_two_packages() {
        let other = Package::new("a", "1").file("/other", "x");
        written(&Repository::new("unused").suite(Suite::new("trixie").package(Package::new("a", "1")).package(other)));
    }
}
