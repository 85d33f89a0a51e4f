//! A small tree with a real dpkg in it, in which tests install packages: Kiln's way, and dpkg's own, which is the judge.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::lock::{LockedPackage, Origin};
use kiln_sandbox::{Bind, CancelToken, Command, Identity, Sandbox, Subordinate, Tree, Upper, layer};
use kiln_store::Store;
use kiln_testkit::Package;

use super::{Unpacked, install};
use crate::stage::PackageWork;
use crate::workplace::{FixedIds, StageError, Watcher, Workplace};

/// An ordinary user that no machine has, and its ids.
const NOBODY: Subordinate =
    Subordinate { uid: 54_322, gid: 54_322, first_uid: 1_900_100_000, first_gid: 1_900_100_000 };

/// What dpkg and the scripts of tests need.
const PROGRAMS: &str = "cat chmod chown cp dash dd diff dpkg dpkg-deb dpkg-divert dpkg-maintscript-helper dpkg-query \
    dpkg-split dpkg-statoverride dpkg-trigger env grep ln ls mkdir mv rm sed setsid sleep sort tar touch ldconfig \
    start-stop-daemon";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8::/var/mail:/bin/sh\n";
const GROUP: &str = "root:x:0:\nmail:x:8:\nstaff:x:50:\n";

/// Files that tell nothing, or that Kiln's own way has to differ in: locks, logs, backups, and what says so itself.
const OF_NO_INTEREST: &[&str] = &[
    "var/lib/dpkg/available",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
];

/// A private directory with all that a package stage needs.
pub(super) struct Ground {
    identity: Identity,
    directory: Option<tempfile::TempDir>,
    path: Utf8PathBuf,
    store: Store,
    /// Layers of the tree.
    lowers: Vec<Utf8PathBuf>,
    made: Mutex<usize>,
    lines: Mutex<Vec<String>>,
    pub(super) cancel: CancelToken,
}

/// Waves of packages.
pub(super) type Waves<'a> = &'a [&'a [Package]];

/// Does `test` for each identity that this machine allows, in a tree of its own.
pub(super) fn for_each_identity(test: impl Fn(&mut Ground)) {
    let identities = match rustix::process::geteuid().is_root() {
        true => vec![Identity::Root, Identity::User(NOBODY)],
        false => match Identity::of_caller() {
            Ok(identity) => vec![identity],
            Err(error) => return kiln_testkit::cannot_test(&error.to_string()),
        },
    };
    let Some(files) = programs() else {
        return kiln_testkit::cannot_test("this machine has no dpkg");
    };
    for identity in identities {
        test(&mut Ground::new(identity, &files));
    }
}

/// The host's programs and the libraries that they need, by path in a tree with a merged `/usr`.
fn programs() -> Option<BTreeMap<String, Vec<u8>>> {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let mut files = BTreeMap::new();
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS.split_whitespace() {
        let mut paths = directories.iter().map(|directory| Utf8Path::new(directory).join(name));
        let path = paths.find(|path| path.exists())?;
        let output = std::process::Command::new("ldd").arg(&path).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        libraries.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(Utf8PathBuf::from));
        files.insert(format!("usr/bin/{name}"), fs::read(&path).ok()?);
    }
    for library in libraries {
        let path = library.as_str().trim_start_matches("/usr").trim_start_matches('/');
        files.insert(format!("usr/{path}"), fs::read(&library).ok()?);
    }
    Some(files)
}

impl Watcher for Ground {
    fn line(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }

    fn advanced(&self, _doing: &str, _done: usize, _total: usize) {}

    fn part(&self, _part: &str, _took: Duration) {}
}

impl Ground {
    fn new(identity: Identity, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let store = Store::open(&path.join("store")).unwrap();
        let mut ground = Self {
            identity,
            directory: Some(directory),
            path,
            store,
            lowers: Vec::new(),
            made: Mutex::new(0),
            lines: Mutex::default(),
            cancel: CancelToken::new().unwrap(),
        };
        ground.share();
        ground.change(|root| {
            for (name, bytes) in files {
                write(root, name, bytes, 0o755);
            }
            for name in ["bin", "sbin", "lib", "lib64"] {
                fs::create_dir_all(root.join("usr").join(name)).unwrap();
                fs::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
            }
            fs::os::unix::fs::symlink("dash", root.join("usr/bin/sh")).unwrap();
            for name in ["info", "updates", "triggers"] {
                fs::create_dir_all(root.join("var/lib/dpkg").join(name)).unwrap();
            }
            write(root, "var/lib/dpkg/info/format", b"1\n", 0o644);
            write(root, "var/lib/dpkg/status", host_dpkg().as_bytes(), 0o644);
            write(root, "var/lib/dpkg/info/dpkg.list", b"/.\n", 0o644);
            write(root, "etc/passwd", PASSWD.as_bytes(), 0o644);
            write(root, "etc/group", GROUP.as_bytes(), 0o644);
        });
        ground
    }

    /// Gives the store to the user who plays the part of Kiln's.
    fn share(&self) {
        if let (Identity::User(user), true) = (self.identity, rustix::process::geteuid().is_root()) {
            for path in
                walk(self.store.root().as_std_path()).iter().map(|path| path.as_path()).chain([self.path.as_std_path()])
            {
                std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
    }

    fn new_layer(&self) -> Utf8PathBuf {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        self.path.join(format!("layer{made}"))
    }

    fn sandbox(&self, upper: Upper) -> Sandbox {
        Sandbox::new(Tree { lowers: self.lowers.clone(), upper }, self.identity)
    }

    /// Changes the tree by code of the test's own: what a step of the parent might have done.
    pub(super) fn change(&mut self, work: impl FnOnce(&Path)) {
        let layer = self.new_layer();
        let sandbox = self.sandbox(Upper::Directory(layer.clone()));
        sandbox.call(|inside| work(inside.tree().as_std_path()), &mut |_| {}, &self.cancel).unwrap();
        self.lowers.push(layer);
    }

    /// Has dpkg itself install packages for good, as the parent's stage.
    pub(super) fn parent(&mut self, waves: Waves<'_>) {
        let layer = self.new_layer();
        self.dpkg(waves, layer.clone()).unwrap();
        self.lowers.push(layer);
    }

    /// Runs a command in the tree, for good.
    pub(super) fn shell(&mut self, script: &str) {
        let layer = self.new_layer();
        let sandbox = self.sandbox(Upper::Directory(layer.clone()));
        let exit = sandbox.run(&Command::shell(script), &mut |_| {}, &self.cancel).unwrap();
        assert!(exit.ending.is_success(), "{:?}", exit.last_lines);
        self.lowers.push(layer);
    }

    fn locked(&self, package: &Package) -> LockedPackage {
        let (sha256, size) = self.store.insert(&package.deb()).unwrap();
        LockedPackage {
            name: package.name().to_owned(),
            version: package.version().to_owned(),
            architecture: package.architecture().to_owned(),
            origin: Origin::File(package.file_name().into()),
            size,
            sha256,
        }
    }

    /// The essential set in an empty tree, with the host's dpkg as the package `dpkg`: a line for each file.
    pub(super) fn essential(&mut self, packages: &[Package]) -> Result<BTreeSet<String>, StageError> {
        let mut dpkg = Package::new("dpkg", "1.99").essential().symlink("/usr/bin/sh", "dash");
        for (path, bytes) in programs().unwrap() {
            dpkg = dpkg.executable(&format!("/{path}"), bytes);
        }
        for name in ["info", "updates"] {
            dpkg = dpkg.directory(&format!("/var/lib/dpkg/{name}"), 0o755);
        }
        let packages = [&[dpkg.compressed(kiln_testkit::Compression::None)], packages].concat();
        self.lowers.clear();
        let layer = self.new_layer();
        self.install_as(true, &[&packages], layer.clone())?;
        Ok(self.describe(&layer))
    }

    /// Kiln's way, into a new layer; the tree of the next test stays as it is.
    fn kiln(&self, waves: Waves<'_>, layer: Utf8PathBuf) -> Result<i64, StageError> {
        self.install_as(false, waves, layer)
    }

    fn install_as(&self, essential: bool, waves: Waves<'_>, layer: Utf8PathBuf) -> Result<i64, StageError> {
        let waves: Vec<Vec<LockedPackage>> =
            waves.iter().map(|wave| wave.iter().map(|package| self.locked(package)).collect()).collect();
        let unpacked = Unpacked::start(&self.store, waves.iter().flatten().cloned(), 1);
        // Here root plays the user's part outside: what it makes must be the user's before somebody looks from inside.
        unpacked.forms(&waves.iter().flatten().collect::<Vec<_>>())?;
        self.share();
        let work = PackageWork { architecture: "amd64".to_owned(), essential, waves, manual: BTreeSet::new() };
        let ids = FixedIds::default();
        let place = Workplace {
            store: &self.store,
            factory: &self.path,
            identity: self.identity,
            lowers: self.lowers.clone(),
            upper: Upper::Directory(layer),
            epoch: 0,
            ids: &ids,
            threads: 2,
            watcher: self,
            cancel: &self.cancel,
        };
        install(&place, &work, &unpacked)
    }

    /// What becomes of the packages Kiln's way, without a trace.
    pub(super) fn install(&self, waves: Waves<'_>) -> Result<i64, StageError> {
        self.kiln(waves, self.new_layer())
    }

    /// Changes every plain form that the store has.
    pub(super) fn damage_forms(&self, damage: impl Fn(&mut Vec<u8>)) {
        let forms = self.store.root().join("derived").join(super::KIND);
        for form in forms.read_dir_utf8().unwrap() {
            let path = form.unwrap().into_path();
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
    }

    /// Installs a package whose `.deb` in the store is not what it was.
    pub(super) fn install_damaged(&self, package: &Package) -> StageError {
        let path = self.store.path(&self.locked(package).sha256);
        let forms = self.store.root().join("derived");
        self.install_with(package, || {
            fs::remove_dir_all(&forms).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        })
    }

    /// Installs a package that is not in the store.
    pub(super) fn install_missing(&self, package: &Package) -> StageError {
        let path = self.store.path(&self.locked(package).sha256);
        self.install_with(package, || fs::remove_file(&path).unwrap())
    }

    fn install_with(&self, package: &Package, damage: impl FnOnce()) -> StageError {
        let locked = self.locked(package);
        damage();
        let unpacked = Unpacked::start(&self.store, [locked.clone()], 1);
        unpacked.forms(&[&locked]).unwrap_err()
    }

    /// dpkg's own way, as apt calls it.
    fn dpkg(&self, waves: Waves<'_>, layer: Utf8PathBuf) -> Result<(), String> {
        let mut script = String::from("export LC_ALL=C\n");
        let options = "--force-confold --force-confdef --log=/dev/null --no-triggers";
        for wave in waves {
            let files = wave.iter().map(|package| format!("/run/debs/{} ", self.locked(package).sha256));
            let names = wave.iter().map(|package| format!("{} ", package.name()));
            let (files, names) = (files.collect::<String>(), names.collect::<String>());
            script += &format!("dpkg {options} --unpack {files}\ndpkg {options} --configure {names}\n");
        }
        script += "dpkg --force-confold --force-confdef --log=/dev/null --configure --pending\n";
        let debs = self.path.join("debs");
        fs::create_dir_all(&debs).unwrap();
        for package in waves.iter().copied().flatten() {
            fs::write(debs.join(self.locked(package).sha256.to_string()), package.deb()).unwrap();
        }
        let mut sandbox = self.sandbox(Upper::Directory(layer));
        sandbox.environment.extend(
            [
                ("DEBIAN_FRONTEND", "noninteractive"),
                ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
                ("INITRD", "No"),
                ("SYSTEMD_OFFLINE", "1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        sandbox.binds.push(Bind { from: debs, to: "/run/debs".into(), read_only: true });
        let mut lines = Vec::new();
        let exit = sandbox.run(&Command::shell(script), &mut |line| lines.push(line.to_owned()), &self.cancel).unwrap();
        if exit.ending.is_success() { Ok(()) } else { Err(lines.join("\n")) }
    }

    /// Installs the packages both ways, and compares everything in the two trees.
    #[track_caller]
    pub(super) fn check_same(&self, waves: Waves<'_>) {
        let (ours, theirs) = (self.new_layer(), self.new_layer());
        self.dpkg(waves, theirs.clone()).unwrap_or_else(|lines| panic!("dpkg failed:\n{lines}"));
        if let Err(error) = self.kiln(waves, ours.clone()) {
            panic!("{}\n{}", crate::with_causes(&error), self.lines.lock().unwrap().join("\n"));
        }
        let [ours, theirs] = [ours, theirs].map(|layer| self.describe(&layer));
        let only =
            |left: &BTreeSet<String>, right: &BTreeSet<String>| left.difference(right).cloned().collect::<Vec<_>>();
        let (more, less) = (only(&ours, &theirs), only(&theirs, &ours));
        assert!(more.is_empty() && less.is_empty(), "Kiln has\n{}\n\ndpkg has\n{}", more.join("\n"), less.join("\n"));
    }

    /// Both ways must fail; how Kiln's did.
    #[track_caller]
    pub(super) fn check_refused(&self, waves: Waves<'_>) -> StageError {
        let result = self.dpkg(waves, self.new_layer());
        assert!(result.is_err(), "dpkg takes it");
        self.install(waves).unwrap_err()
    }

    /// The content of a file after the packages are installed Kiln's way.
    pub(super) fn after(&self, waves: Waves<'_>, name: &str) -> String {
        let layer = self.new_layer();
        self.kiln(waves, layer.clone()).unwrap();
        let describe = self.describe(&layer);
        describe.into_iter().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default()
    }

    /// A line for each file of the tree with this layer on top: path, kind, mode, owner, links, content.
    fn describe(&self, layer: &Utf8Path) -> BTreeSet<String> {
        let mut sandbox = self.sandbox(Upper::Discard);
        sandbox.tree.lowers.push(layer.to_owned());
        let describe = |inside: &kiln_sandbox::Inside<'_>| {
            let root = inside.tree().into_std_path_buf();
            walk(&root).iter().map(|path| describe(&root, path)).collect::<BTreeSet<String>>()
        };
        let lines = sandbox.call(describe, &mut |_| {}, &self.cancel).unwrap();
        let is_of_interest = |line: &String| !OF_NO_INTEREST.iter().any(|name| line.starts_with(&format!("{name} ")));
        lines.into_iter().filter(is_of_interest).collect()
    }
}

/// The stanza of the dpkg that the tree has: the host's.
fn host_dpkg() -> String {
    let output = std::process::Command::new("dpkg").arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit())).unwrap();
    format!(
        "Package: dpkg\nEssential: yes\nStatus: install ok installed\nPriority: required\nSection: admin\n\
         Maintainer: x <x@mirror.example>\nArchitecture: amd64\nMulti-Arch: foreign\nVersion: {version}\nDescription: x\n\n"
    )
}

/// Writes a file of a tree, with its parents.
pub(super) fn write(root: &Path, name: &str, bytes: &[u8], mode: u32) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything below a path, and the path, in order.
fn walk(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![path.to_owned()];
    // The root itself may be named by a link to it.
    let is_root = path.parent() == Some(Path::new("/proc/self/fd"));
    if is_root || fs::symlink_metadata(path).unwrap().is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        found.extend(names.iter().flat_map(|path| walk(path)));
    }
    found
}

fn describe(root: &Path, path: &Path) -> String {
    let name = path.strip_prefix(root).unwrap().display();
    let metadata = if path == root { fs::metadata(path).unwrap() } else { fs::symlink_metadata(path).unwrap() };
    let (mode, uid, gid, links) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.nlink());
    match metadata.file_type() {
        kind if kind.is_dir() => format!("{name} {mode:o} {uid}:{gid} /"),
        kind if kind.is_symlink() => format!("{name} {uid}:{gid} -> {}", fs::read_link(path).unwrap().display()),
        kind if kind.is_file() && metadata.len() > 20_000 => {
            format!("{name} {mode:o} {uid}:{gid} {links} {}", Sha256::of(&fs::read(path).unwrap()))
        }
        kind if kind.is_file() => {
            format!("{name} {mode:o} {uid}:{gid} {links} {}", String::from_utf8_lossy(&fs::read(path).unwrap()))
        }
        kind => format!("{name} {mode:o} {uid}:{gid} fifo {}", kind.is_fifo()),
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        if let Identity::User(_) = self.identity {
            for name in self.path.read_dir_utf8().unwrap() {
                let path = name.unwrap().into_path();
                if path.file_name().is_some_and(|name| name.starts_with("layer")) {
                    layer::remove_tree(&path, self.identity).unwrap();
                }
            }
        }
        directory.close().unwrap();
    }
}
