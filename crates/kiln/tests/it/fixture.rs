//! A factory, the mirror it locks from, and runs of `kiln` in it.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_testkit::web::Web;
use kiln_testkit::{Home, Kiln, Output, Package, Repository, Suite, damage, repository};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_kiln");

/// The classes of a factory that has one class with nginx.
pub(crate) const BASE: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"nginx\"]
";

/// [`BASE`] and a child of it.
pub(crate) const BASE_AND_WEB: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"openssl\"]

[class.web]
from = \"base\"
packages = [\"nginx\"]
";

/// The factory's directory in the home.
pub(crate) const FACTORY: &str = "shop";

/// A factory whose Debian is the repository of the testkit, and nothing else in the world.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) home: Home,
    repository: Repository,
    mirror: repository::Mirror,
    web: Option<Web>,
    /// The address of the mirror, as the spec has it.
    uri: String,
}

impl Shop {
    /// A factory with these classes, from a `file:` mirror.
    pub(crate) fn new(classes: &str) -> Self {
        Self::with(classes, |repository| repository)
    }

    /// A factory with these classes, from a `file:` mirror that differs from the usual one.
    pub(crate) fn with(classes: &str, change: impl FnOnce(Repository) -> Repository) -> Self {
        let home = Home::new();
        let repository = change(Repository::debian(home.path().join("mirror")));
        let mirror = repository.write();
        let uri = mirror.uri();
        let shop = Self { home, repository, mirror, web: None, uri };
        shop.write("archive.gpg", fs::read(shop.mirror.keyring()).unwrap());
        shop.spec(classes);
        shop
    }

    /// A factory with these classes, from a web server.
    pub(crate) fn served(classes: &str) -> Self {
        let mut shop = Self::new(classes);
        let web = Web::serve(shop.mirror.root());
        shop.uri = web.url();
        shop.web = Some(web);
        shop.spec(classes);
        shop
    }

    /// The web server.
    pub(crate) fn web(&self) -> &Web {
        self.web.as_ref().expect("a factory that is served")
    }

    /// The mirror as it was last published.
    pub(crate) fn mirror(&self) -> &repository::Mirror {
        &self.mirror
    }

    /// The mirror's address.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Makes the mirror the usual one with each of its suites changed alike, and trusts its keys.
    pub(crate) fn publish_suites(&mut self, change: impl Fn(Suite) -> Suite) {
        let usual = Repository::debian(self.mirror.root());
        self.publish(|_| SUITES.iter().fold(usual, |repository, suite| repository.change(suite, &change)));
        self.write("archive.gpg", fs::read(self.mirror.keyring()).unwrap());
    }

    /// Changes what the mirror has.
    pub(crate) fn publish(&mut self, change: impl FnOnce(Repository) -> Repository) {
        self.repository = change(self.repository.clone());
        self.mirror = self.repository.write();
    }

    /// Publishes another version of a package in a suite, two days after everything else.
    pub(crate) fn publish_version(&mut self, suite: &str, name: &str, version: &str) {
        let package = package(name).at_version(version);
        self.publish(|repository| repository.change(suite, |suite| suite.date(NEXT_DATE).replace(package)));
    }

    /// Writes the spec: this distribution, and what is given. Text before the first heading goes on with the distribution.
    pub(crate) fn spec(&self, classes: &str) {
        self.spec_from(&format!("mirror = \"{}\"", self.uri), classes);
    }

    /// Writes the spec with another line, or none, in place of the mirror's.
    pub(crate) fn spec_from(&self, mirror: &str, classes: &str) {
        let head = "[factory]\nname = \"shop\"\n\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\
                    architecture = \"amd64\"\nkeyring = \"archive.gpg\"\n";
        self.write("kiln.toml", format!("{head}{mirror}\n{classes}"));
    }

    /// Writes a file of the factory.
    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> Utf8PathBuf {
        self.home.write(&format!("{FACTORY}/{path}"), contents)
    }

    /// A path of the factory.
    pub(crate) fn path(&self, path: &str) -> Utf8PathBuf {
        self.home.path().join(FACTORY).join(path)
    }

    /// Where the store keeps these bytes.
    pub(crate) fn stored(&self, bytes: &[u8]) -> Utf8PathBuf {
        let digest = Sha256::of(bytes).to_string();
        self.home.cache().join(format!("sha256/{digest:.2}/{digest}"))
    }

    /// A run in the factory, to be described further.
    pub(crate) fn kiln(&self, arguments: &str) -> Kiln {
        kiln(&self.home, arguments).directory(FACTORY)
    }

    /// Runs `kiln` in the factory; arguments are separated by blanks.
    pub(crate) fn run(&self, arguments: &str) -> Output {
        checked(self.kiln(arguments).run())
    }

    /// Forgets the lock, if there is one.
    pub(crate) fn unlock(&self) {
        let _ = fs::remove_file(self.path("kiln.lock"));
    }

    /// Runs `kiln lock`, which must succeed, and gives the lock.
    pub(crate) fn lock(&self) -> String {
        let _ = self.run("lock").success();
        self.lock_text()
    }

    /// The lock as it lies there.
    pub(crate) fn lock_text(&self) -> String {
        fs::read_to_string(self.path("kiln.lock")).unwrap()
    }

    /// Version and index of every package of a class with its parents', by name.
    pub(crate) fn packages(&self, class: &str) -> BTreeMap<String, (String, String)> {
        let list = self.run(&format!("lock --list {class}")).success();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            (cells[0].to_owned(), (cells[1].to_owned(), cells.last().unwrap().to_string()))
        };
        list.stdout.lines().map(row).collect()
    }

    /// The locked version of a package of a class.
    pub(crate) fn version(&self, class: &str, name: &str) -> Option<String> {
        self.packages(class).remove(name).map(|(version, _)| version)
    }

    /// The paths that the server was asked for since [`Web::forget_requests`], sorted.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.web().requests().iter().map(|request| request.path()).collect();
        paths.sort();
        paths
    }
}

/// The suites of the usual mirror.
const SUITES: [&str; 3] = ["trixie", "trixie-updates", "trixie-security"];

/// Damages a file of the store, which nobody may write to.
pub(crate) fn damage_stored(path: &Utf8Path) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    damage::corrupt_byte(path, 0);
}

/// Every file below a directory, sorted.
pub(crate) fn files_below(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        let entries: Vec<Utf8PathBuf> = next.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
        let (directories, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
        waiting.extend(directories);
        found.extend(files);
    }
    found.sort();
    found
}

/// The date of what [`Shop::publish_version`] publishes.
pub(crate) const NEXT_DATE: &str = "2025-09-08T10:00:00Z";

/// A run in a home.
pub(crate) fn kiln(home: &Home, arguments: &str) -> Kiln {
    Kiln::new(BINARY, home).args(arguments.split_whitespace())
}

/// The output, once it is certain that no panic is in it.
pub(crate) fn checked(output: Output) -> Output {
    let report = output.report();
    assert!(!report.contains("panicked at") && output.status != Some(70), "a bug in Kiln:\n{report}");
    output
}

/// A package of the testkit's archive, to be changed.
pub(crate) fn package(name: &str) -> Package {
    use kiln_testkit::archive;
    let all = [archive::essential_base(), archive::shop(), archive::toolbox()].concat();
    all.into_iter().find(|package| package.name() == name).unwrap_or_else(|| panic!("no {name} in the archive"))
}

/// The suite with one more package.
pub(crate) fn adding(package: Package) -> impl FnOnce(Repository) -> Repository {
    |repository| repository.change("trixie", |suite: Suite| suite.package(package))
}

/// Panics, with all that was written, unless each text is in the output.
#[track_caller]
pub(crate) fn says(output: &Output, texts: &[&str]) {
    let report = output.report();
    for text in texts {
        assert!(report.contains(text), "`{text}` is not in\n{report}");
    }
}

/// Waits until something is so. Gives up after a minute: then it never will be.
#[track_caller]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    const TICK: Duration = Duration::from_millis(5);
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(TICK);
    }
    panic!("what is waited for does not come");
}

/// The `.deb` of a package, written where it will be looked for.
pub(crate) fn write_deb(directory: &Utf8Path, package: &Package) -> Utf8PathBuf {
    let path = directory.join(package.file_name());
    fs::create_dir_all(directory).unwrap();
    fs::write(&path, package.deb()).unwrap();
    path
}

/// What a failed run says after its progress: the error, its causes and its hints.
pub(crate) fn error_of(output: &Output) -> String {
    let report = output.report();
    let start = report.find("\nerror: ").unwrap_or_else(|| panic!("no error in\n{report}"));
    report[start + 1..].to_owned()
}
