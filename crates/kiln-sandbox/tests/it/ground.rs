//! A private directory with a tree in which the host's programs run, for each identity that this machine allows.

use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::{
    Bind, CancelToken, Command, Ending, Exit, Identity, Sandbox, SandboxError, Subordinate, Tree, Upper, layer,
};

/// An ordinary user that no machine has, and its ids.
const NOBODY: Subordinate =
    Subordinate { uid: 54_321, gid: 54_321, first_uid: 1_900_000_000, first_gid: 1_900_000_000 };

/// Who the tests are run as: root can be everyone; a user must have subordinate ids, and is told how to get them.
pub(crate) fn identities() -> Vec<Identity> {
    if rustix::process::geteuid().is_root() {
        return vec![Identity::Root, Identity::User(NOBODY)];
    }
    match Identity::of_caller() {
        Ok(identity) => vec![identity],
        Err(error) => panic!("{error}; to run these tests, {}", error.hint().unwrap_or_default()),
    }
}

/// Does `test` for each identity, in a directory of its own.
pub(crate) fn for_each_identity(test: impl Fn(&Ground)) {
    for identity in identities() {
        test(&Ground::new(identity));
    }
}

/// A directory that belongs to the identity, and is removed with all that its root made there.
pub(crate) struct Ground {
    pub(crate) identity: Identity,
    directory: Option<tempfile::TempDir>,
    pub(crate) path: Utf8PathBuf,
}

impl Ground {
    pub(crate) fn new(identity: Identity) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        if let (Identity::User(user), true) = (identity, rustix::process::geteuid().is_root()) {
            fs::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
        }
        let ground = Self { identity, directory: Some(directory), path };
        let links = ["bin", "sbin", "lib", "lib64"].map(|name| (name, fs::read_link(Utf8Path::new("/").join(name))));
        ground.write("skeleton", Vec::new(), |root| {
            for (name, target) in links.iter().filter_map(|(name, target)| Some((name, target.as_ref().ok()?))) {
                fs::os::unix::fs::symlink(target, root.join(name)).unwrap();
            }
            for name in ["etc", "usr"] {
                fs::create_dir(root.join(name)).unwrap();
            }
        });
        ground
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }

    /// Has our code write a layer on top of others.
    pub(crate) fn write(&self, name: &str, lowers: Vec<&str>, work: impl FnOnce(&Utf8Path)) -> Utf8PathBuf {
        let lowers = lowers.into_iter().map(|lower| self.path(lower)).collect();
        let tree = Tree { lowers, upper: Upper::Directory(self.path(name)) };
        call(&Sandbox::new(tree, self.identity), |root| work(root)).unwrap();
        self.path(name)
    }

    /// The host's programs over the skeleton and these layers.
    pub(crate) fn sandbox(&self, layers: &[&str], upper: Upper) -> Sandbox {
        let names = ["skeleton"].iter().chain(layers);
        let lowers = names.map(|name| self.path(name)).collect();
        let mut sandbox = Sandbox::new(Tree { lowers, upper }, self.identity);
        for name in ["usr", "bin", "sbin", "lib", "lib64"] {
            let path = Utf8Path::new("/").join(name);
            if path.is_dir() && !path.is_symlink() {
                sandbox.binds.push(Bind { from: path.clone(), to: path, read_only: true });
            }
        }
        sandbox
    }

    /// The host's programs over the skeleton; changes are lost.
    pub(crate) fn plain(&self) -> Sandbox {
        self.sandbox(&[], Upper::Discard)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let (Identity::User(_), Some(directory)) = (self.identity, self.directory.take()) {
            let names: Vec<Utf8PathBuf> =
                self.path.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
            for name in names {
                layer::remove_tree(&name, self.identity).unwrap();
            }
            directory.close().unwrap();
        }
    }
}

/// Runs our code in a tree; it is given the tree without mounts.
pub(crate) fn call(sandbox: &Sandbox, work: impl FnOnce(&Utf8Path)) -> Result<(), SandboxError> {
    sandbox.call(|inside| work(&inside.tree()), &mut |_| {}, &CancelToken::new().unwrap())
}

/// Runs a script; returns how it ended and all its lines.
pub(crate) fn script(sandbox: &Sandbox, script: &str) -> (Exit, Vec<String>) {
    let mut all = Vec::new();
    let exit = sandbox
        .run(&Command::shell(script), &mut |line| all.push(line.to_owned()), &CancelToken::new().unwrap())
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    (exit, all)
}

/// Runs a script that must succeed; returns its lines.
pub(crate) fn lines(sandbox: &Sandbox, text: &str) -> Vec<String> {
    let (exit, lines) = script(sandbox, text);
    assert_eq!(exit.ending, Ending::Code(0), "{text}:\n{}", lines.join("\n"));
    lines
}

/// A layer as text, a line for each entry, with owners as they are inside.
pub(crate) fn describe(root: &Utf8Path, identity: Identity) -> Vec<String> {
    let root = root.to_owned();
    identity
        .act(move || {
            let mut lines = Vec::new();
            describe_into(root.as_std_path(), root.as_std_path(), &mut lines);
            lines.sort();
            lines
        })
        .unwrap()
}

fn describe_into(root: &std::path::Path, path: &std::path::Path, lines: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let name = path.strip_prefix(root).unwrap().display();
    let kind = match metadata.is_dir() {
        true if layer::is_opaque(path).unwrap() => "opaque",
        true => "directory",
        false if layer::is_whiteout(path, &metadata).unwrap() => "whiteout",
        false if metadata.is_symlink() => "link",
        false => "file",
    };
    let (mode, uid, gid, names) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.nlink());
    match kind {
        "whiteout" => lines.push(format!("{name} whiteout")),
        "file" => lines.push(format!("{name} file {mode:o} {uid}:{gid} {names} {:?}", attributes(path))),
        _ => lines.push(format!("{name} {kind} {mode:o} {uid}:{gid} {:?}", attributes(path))),
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            describe_into(root, &entry.unwrap().path(), lines);
        }
    }
}

/// Names of extended attributes, but the mark that the kind of the entry tells already.
fn attributes(path: &std::path::Path) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap();
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    names.filter(|name| name != "user.overlay.opaque").collect()
}
