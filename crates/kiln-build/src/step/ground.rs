//! A small tree, a factory and a store, in which tests carry out steps as the spec writes them, for each identity.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::lock::LockedDownload;
use kiln_model::spec::Action;
use kiln_sandbox::{CancelToken, Identity, Sandbox, Subordinate, Tree, Upper, layer};
use kiln_store::Store;

use crate::factory::Factory;
use crate::stage::{StepWork, read_sources};
use crate::workplace::{FixedIds, StageError, Watcher, Workplace};

/// An ordinary user that no machine has, and its ids.
const NOBODY: Subordinate =
    Subordinate { uid: 54_321, gid: 54_321, first_uid: 1_900_000_000, first_gid: 1_900_000_000 };

/// The day 20000 after 1970, at noon.
pub(crate) const EPOCH: i64 = 20_000 * 86_400 + 43_200;

/// A spec to which a step is added.
const SPEC: &str = "[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\
    [class.web]\ndistribution = \"trixie\"\npackages = [\"base-files\"]\n[[class.web.step]]\n";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:syslog\nshadow:x:42:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n";

/// A private directory with all that a step needs.
pub(crate) struct Ground {
    pub(crate) identity: Identity,
    directory: Option<tempfile::TempDir>,
    path: Utf8PathBuf,
    pub(crate) ids: FixedIds,
    /// Lines that programs wrote.
    pub(crate) lines: Mutex<Vec<String>>,
    /// Layers of the tree.
    pub(crate) lowers: Vec<Utf8PathBuf>,
}

/// Does `test` for each identity that this machine allows, in a directory of its own.
pub(crate) fn for_each_identity(test: impl Fn(&mut Ground)) {
    let identities = match rustix::process::geteuid().is_root() {
        true => vec![Identity::Root, Identity::User(NOBODY)],
        false => match Identity::of_caller() {
            Ok(identity) => vec![identity],
            Err(error) => return kiln_testkit::cannot_test(&error.to_string()),
        },
    };
    for identity in identities {
        test(&mut Ground::new(identity));
    }
}

impl Watcher for Ground {
    fn line(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }

    fn advanced(&self, _doing: &str, _done: usize, _total: usize) {}

    fn part(&self, _part: &str, _took: std::time::Duration) {}
}

impl Ground {
    fn new(identity: Identity) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let mut ground = Self {
            identity,
            directory: Some(directory),
            path,
            ids: FixedIds::default(),
            lines: Mutex::default(),
            lowers: Vec::new(),
        };
        fs::create_dir(ground.path("factory")).unwrap();
        ground.share();
        ground.layer("base", |root| {
            for directory in ["etc", "etc/skel", "usr", "usr/bin", "srv", "var"] {
                fs::create_dir(root.join(directory)).unwrap();
            }
            fs::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
            fs::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
            fs::write(root.join("etc/passwd"), PASSWD).unwrap();
            fs::write(root.join("etc/group"), GROUP).unwrap();
        });
        ground
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }

    /// Gives what the tests made to the user who plays the part of Kiln's.
    pub(crate) fn share(&self) {
        if let (Identity::User(user), true) = (self.identity, rustix::process::geteuid().is_root()) {
            let ours = ["factory", "store"].map(|name| self.path(name));
            let contents = ours.iter().filter(|path| path.exists()).flat_map(|path| walk(path));
            for path in contents.chain([self.path.clone()]) {
                std::os::unix::fs::lchown(&path, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
    }

    /// Has our code write a layer on top of the tree, and adds it.
    pub(crate) fn layer(&mut self, name: &str, work: impl FnOnce(&Utf8Path)) {
        let tree = Tree { lowers: self.lowers.clone(), upper: Upper::Directory(self.path(name)) };
        let sandbox = Sandbox::new(tree, self.identity);
        sandbox.call(|inside| work(&inside.tree()), &mut |_| {}, &CancelToken::new().unwrap()).unwrap();
        self.lowers.push(self.path(name));
    }

    /// Adds programs of the host, with the libraries that they need, to the tree.
    pub(crate) fn programs(&mut self, programs: &[&str]) {
        let output = std::process::Command::new("ldd").args(programs).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
        let paths = programs.iter().copied().chain(libraries);
        let files: std::collections::BTreeMap<&str, Vec<u8>> =
            paths.map(|path| (path, fs::read(path).unwrap())).collect();
        self.layer("programs", |root| {
            for (path, bytes) in &files {
                let to = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(&to, bytes).unwrap();
                fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            }
        });
    }

    /// Writes a file of the factory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Utf8PathBuf {
        let path = self.path("factory").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// What there is to do for a step of the spec; a download of it is what `bytes` are.
    pub(crate) fn work(&self, step: &str, bytes: &[u8]) -> StepWork {
        self.write("kiln.toml", &format!("{SPEC}{step}\n"));
        let factory = Factory::new(&self.path("factory"));
        let spec = factory.spec().unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        let sources = read_sources(&factory, &spec, &["web".to_owned()].into()).unwrap();
        let step = spec.classes.values().next().unwrap().steps.first().unwrap().clone();
        let download = match &step.action {
            Action::Download(download) => Some(download.url.as_str().to_owned()),
            _ => None,
        };
        let download = download.map(|url| LockedDownload { url, size: bytes.len() as u64, sha256: Sha256::of(bytes) });
        let sources = sources.of_step(&step);
        StepWork { step, sources, download, repository: Vec::new(), lineage: vec!["web".to_owned()] }
    }

    /// Carries a step out, and adds what it changed to the tree.
    pub(crate) fn carry_out(&mut self, work: &StepWork, bytes: &[u8]) -> Result<(), StageError> {
        let store = Store::open(&self.path("store")).unwrap();
        store.insert(bytes).unwrap();
        self.share();
        let name = format!("layer{}", self.lowers.len());
        let cancel = CancelToken::new().unwrap();
        let place = Workplace {
            store: &store,
            factory: &self.path("factory"),
            identity: self.identity,
            lowers: self.lowers.clone(),
            upper: Upper::Directory(self.path(&name)),
            epoch: EPOCH,
            ids: &self.ids,
            threads: 1,
            watcher: &*self,
            cancel: &cancel,
        };
        let result = super::run(&place, work);
        drop(place);
        self.share();
        self.lowers.push(self.path(&name));
        result
    }

    /// Carries a step of the spec out; what went wrong comes as text, with the hint after a slash.
    pub(crate) fn step(&mut self, step: &str) -> Result<(), String> {
        self.step_with(step, b"")
    }

    /// The same for a step that downloads `bytes`.
    pub(crate) fn step_with(&mut self, step: &str, bytes: &[u8]) -> Result<(), String> {
        let work = self.work(step, bytes);
        self.carry_out(&work, bytes).map_err(|error| in_words(&error))
    }

    /// What the last step changed, a line for each file: path, mode, owner, content or target.
    pub(crate) fn changes(&self) -> Vec<String> {
        let root = self.lowers.last().unwrap().clone();
        let describe = move || walk(&root).iter().filter_map(|path| describe(&root, path)).collect::<Vec<_>>();
        let changes = self.identity.act(describe).unwrap();
        changes.into_iter().filter(|line| !line.starts_with("dev ") && !line.starts_with("proc ")).collect()
    }

    /// The content of a file of the tree, as it is now.
    pub(crate) fn read(&self, path: &str) -> String {
        let lowers = self.lowers.clone();
        let read = || {
            let found = lowers.iter().rev().map(|layer| layer.join(path)).find(|path| path.is_file());
            found.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default()
        };
        self.identity.act(read).unwrap()
    }
}

fn in_words(error: &StageError) -> String {
    match error {
        StageError::Refused { message, hint: Some(hint) } => format!("{message} / {hint}"),
        StageError::Program { last_lines, .. } => format!("{error}: {}", last_lines.join(" ")),
        other => crate::with_causes(other),
    }
}

/// Everything at and below a path, in order.
fn walk(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path).unwrap().is_dir() {
        let mut names: Vec<Utf8PathBuf> =
            path.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
        names.sort();
        found.extend(names.iter().flat_map(|path| walk(path)));
    }
    found
}

fn describe(root: &Utf8Path, path: &Utf8Path) -> Option<String> {
    let name = path.strip_prefix(root).ok().filter(|name| !name.as_str().is_empty())?;
    let metadata = fs::symlink_metadata(path).unwrap();
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    if layer::is_whiteout(path.as_std_path(), &metadata).unwrap() {
        return Some(format!("{name} gone"));
    }
    Some(match metadata.file_type() {
        kind if kind.is_dir() => format!("{name} {mode:o} {uid}:{gid} /"),
        kind if kind.is_symlink() => format!("{name} {uid}:{gid} -> {}", fs::read_link(path).unwrap().display()),
        _ => format!("{name} {mode:o} {uid}:{gid} {:?}", String::from_utf8_lossy(&fs::read(path).unwrap())),
    })
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let (Identity::User(_), Some(directory)) = (self.identity, self.directory.take()) {
            for name in self.path.read_dir_utf8().unwrap() {
                layer::remove_tree(name.unwrap().path(), self.identity).unwrap();
            }
            directory.close().unwrap();
        }
    }
}
