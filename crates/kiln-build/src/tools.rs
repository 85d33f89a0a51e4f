//! Takes what belongs to a step's tools out of the layer that the step wrote.
//!
//! A step with `tools` runs on three things: the tree below, the layer of its tools, and its own changes. The tools' layer
//! goes, so what the step wrote must hold without it.
//!
//! 1. [`decide`](decide::decide) looks at the three as values, path by path: what is only there because of the tools goes
//!    with them, what both changed is merged where that is exact ([`merge`]), dropped where it is only a cache, and a
//!    [`Conflict`](decide::Conflict) otherwise.
//! 2. [`separate`] carries that out on the layer's directory: merged files are written, entries removed, directories get
//!    the mode and owner back that they have without the tools; `ldconfig` makes its cache anew.
//!
//! Afterwards the tree below and the step's layer are a tree of their own: no file of the tools' packages, and a dpkg that
//! never heard of them. Nothing outside the layer's directory is written. Who scanned the layer scans it again.

mod decide;
mod merge;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use fs_err as fs;
use kiln_disk::{Layer, Node, PathBytes};
use kiln_sandbox::{Command, SandboxError, Upper};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::{Deserialize, Serialize};

use self::decide::{Action, Decision, decide};
use crate::workplace::{StageError, Workplace};

/// What the dynamic linker looks things up in.
const LINKER_CACHE: &str = "etc/ld.so.cache";

/// The three that are looked at.
pub(crate) struct Parts<'a> {
    /// Directory of the layer that the step wrote; it is changed.
    pub(crate) directory: &'a Utf8Path,
    /// That layer.
    pub(crate) step: &'a Layer,
    /// Directory of the tools' layer.
    pub(crate) tools_directory: &'a Utf8Path,
    /// That layer.
    pub(crate) tools: &'a Layer,
    /// What the tree below both has at a path.
    pub(crate) below: &'a dyn Fn(&[u8]) -> Option<Node>,
}

/// Takes what belongs to the tools out of the step's layer.
///
/// The workplace is the step's, without the tools: its lower layers are the tree below.
///
/// # Errors
/// If the step and the tools changed the same thing in ways that cannot be told apart; names it.
pub(crate) fn separate(place: &Workplace<'_>, parts: &Parts<'_>) -> Result<(), StageError> {
    let decision = decide(parts.step, parts.tools, parts.below);
    refuse_conflicts(&decision)?;
    let carry_out = || carry_out(place, parts, &decision);
    place.identity.act(carry_out)?.map_err(Trouble::into_error)?;
    match decision.linker_cache {
        true => renew_linker_cache(place, parts),
        false => Ok(()),
    }
}

fn refuse_conflicts(decision: &Decision) -> Result<(), StageError> {
    match decision.conflicts.first() {
        None => Ok(()),
        Some(conflict) => Err(refused(format!("take the step's tools away: {conflict}"))),
    }
}

fn refused(message: String) -> StageError {
    let hint = "have the packages that bring it in the class's `packages` rather than in `tools`";
    StageError::Refused { message, hint: Some(hint.to_owned()) }
}

/// Why it could not be carried out, in the form in which it leaves the process that did it.
#[derive(Debug, Serialize, Deserialize)]
enum Trouble {
    Conflict(String),
    Io { doing: String, message: String },
}

impl Trouble {
    fn io(doing: String) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, message: error.to_string() }
    }

    fn into_error(self) -> StageError {
        match self {
            Self::Conflict(message) => refused(format!("take the step's tools away: {message}")),
            Self::Io { doing, message } => StageError::Io { doing, source: io::Error::other(message) },
        }
    }
}

/// As root of the identity: merges first, which read what is removed afterwards; children before parents.
fn carry_out(place: &Workplace<'_>, parts: &Parts<'_>, decision: &Decision) -> Result<(), Trouble> {
    for (path, kind) in &decision.merges {
        let versions = Versions::read(place, parts, path).map_err(Trouble::io(format!("read {}", shown(path))))?;
        let merged = kind.merge(&versions.below, &versions.tools, &versions.step);
        let merged = merged.map_err(|what| Trouble::Conflict(format!("{}: {what}", shown(path))))?;
        let unchanged = merged == versions.below && (parts.below)(path).is_some();
        let to = at(parts.directory, path);
        let written = if unchanged { fs::remove_file(&to) } else { rewrite(&to, &merged) };
        written.map_err(Trouble::io(format!("merge {}", shown(path))))?;
    }
    refuse_lost_owners(place, parts, decision)?;
    for (path, action) in decision.actions.iter().rev() {
        let to = at(parts.directory, path);
        apply(&to, action).map_err(Trouble::io(format!("take the tools out of {}", shown(path))))?;
    }
    restore_times(parts, decision).map_err(Trouble::io("set the times of directories".to_owned()))
}

fn apply(path: &Path, action: &Action) -> io::Result<()> {
    match action {
        Action::Drop => match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir(path),
            false => fs::remove_file(path),
        },
        Action::Restore(node) => {
            fs::os::unix::fs::lchown(path, Some(node.uid), Some(node.gid))?;
            fs::set_permissions(path, std::fs::Permissions::from_mode(node.mode))
        }
    }
}

/// Replaces a file's content, and keeps its owner and mode. Not in place: it may have other names.
fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    fs::remove_file(path)?;
    fs::write(path, bytes)?;
    fs::os::unix::fs::chown(path, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(path, std::fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    set_time(path, metadata.mtime())
}

/// Removing and rewriting files changed their directories' times.
fn restore_times(parts: &Parts<'_>, decision: &Decision) -> io::Result<()> {
    let touched = decision.actions.keys().chain(decision.merges.keys());
    let directories: BTreeSet<&[u8]> = touched.map(|path| parent(path)).collect();
    for path in directories {
        let to = at(parts.directory, path);
        let node = parts.step.changes.get(path).and_then(decide::node_of);
        if let Some(node) = node.filter(|_| to.is_dir()) {
            set_time(&to, decide::directory_time(path, node, parts.tools, parts.below))?;
        }
    }
    Ok(())
}

fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The three versions of a file that two of them changed; a version that is not there is empty.
struct Versions {
    below: Vec<u8>,
    tools: Vec<u8>,
    step: Vec<u8>,
}

impl Versions {
    fn read(place: &Workplace<'_>, parts: &Parts<'_>, path: &[u8]) -> io::Result<Self> {
        let lowers = place.lowers.iter().rev().map(|lower| at(lower, path));
        let below = lowers.into_iter().find(|path| path.symlink_metadata().is_ok());
        Ok(Self {
            below: match below.filter(|_| (parts.below)(path).is_some()) {
                Some(path) => fs::read(path)?,
                None => Vec::new(),
            },
            tools: fs::read(at(parts.tools_directory, path))?,
            step: fs::read(at(parts.directory, path))?,
        })
    }
}

/// Refuses files of the step that belong to a user or group who goes with the tools.
fn refuse_lost_owners(place: &Workplace<'_>, parts: &Parts<'_>, decision: &Decision) -> Result<(), Trouble> {
    for (file, owner) in [("etc/passwd", owner as fn(&Node) -> u32), ("etc/group", group)] {
        let lost = lost_ids(place, parts, file.as_bytes()).map_err(Trouble::io(format!("read {file}")))?;
        let owned = parts.step.changes.iter().filter(|(path, _)| !decision.actions.contains_key(*path));
        for (path, change) in owned {
            if let Some((_, name)) =
                decide::node_of(change).and_then(|node| lost.iter().find(|(id, _)| *id == owner(node)))
            {
                let message = format!("{} belongs to {name}, which only the tools brought", shown(path));
                return Err(Trouble::Conflict(message));
            }
        }
    }
    Ok(())
}

fn owner(node: &Node) -> u32 {
    node.uid
}

fn group(node: &Node) -> u32 {
    node.gid
}

/// Ids that the tools' version of a file of accounts has, and the tree without the tools has not, with their names.
fn lost_ids(place: &Workplace<'_>, parts: &Parts<'_>, path: &[u8]) -> io::Result<Vec<(u32, String)>> {
    let read = |path: PathBuf| match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    };
    let Some(tools) = read(at(parts.tools_directory, path))? else { return Ok(Vec::new()) };
    let mut kept = read(at(parts.directory, path))?;
    for lower in place.lowers.iter().rev() {
        if kept.is_none() {
            kept = read(at(lower, path))?;
        }
    }
    let kept: BTreeSet<u32> = ids(&kept.unwrap_or_default()).into_iter().map(|(id, _)| id).collect();
    Ok(ids(&tools).into_iter().filter(|(id, _)| !kept.contains(id)).collect())
}

/// Third field and first of each line of passwd(5) and group(5).
fn ids(text: &[u8]) -> Vec<(u32, String)> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let pairs = lines.filter_map(|fields| Some((fields.get(2)?.parse().ok()?, (*fields.first()?).to_owned())));
    pairs.collect()
}

/// Has the tree's own ldconfig look at the tree without the tools, and puts its cache into the layer.
fn renew_linker_cache(place: &Workplace<'_>, parts: &Parts<'_>) -> Result<(), StageError> {
    let mut sandbox = place.sandbox();
    sandbox.tree.lowers.push(parts.directory.to_owned());
    sandbox.tree.upper = Upper::Discard;
    let renew = |inside: &kiln_sandbox::Inside<'_>| {
        let ending = inside.run(&Command::new("ldconfig", ["-X"])).map_err(|error| error.to_string())?;
        match ending.is_success() {
            true => fs::read(Path::new("/").join(LINKER_CACHE)).map_err(|error| error.to_string()),
            false => Err(format!("ldconfig {ending}")),
        }
    };
    let cache: Result<Vec<u8>, String> = sandbox.call(renew, &mut |line| place.watcher.line(line), place.cancel)?;
    let doing = || format!("make /{LINKER_CACHE} anew");
    let cache = cache.map_err(|message| StageError::Io { doing: doing(), source: io::Error::other(message) })?;
    let path = at(parts.directory, LINKER_CACHE.as_bytes());
    let written: Result<Result<(), String>, SandboxError> =
        place.identity.act(|| rewrite(&path, &cache).map_err(|error| error.to_string()));
    written?.map_err(|message| StageError::Io { doing: doing(), source: io::Error::other(message) })
}

/// A path of the tree in a layer's directory.
fn at(directory: &Utf8Path, path: &[u8]) -> PathBuf {
    match path.is_empty() {
        true => directory.as_std_path().to_owned(),
        false => directory.as_std_path().join(OsStr::from_bytes(path)),
    }
}

/// The directory that a path is in; the root's is the root.
fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    path.get(..end).unwrap_or_default()
}

/// A path as errors show it.
fn shown(path: &PathBytes) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use kiln_sandbox::CancelToken;
    use kiln_store::Store;

    use super::*;
    use crate::scan;
    use crate::step::ground::{EPOCH, Ground, for_each_identity};

    /// Writes these files, and removes those without content.
    fn write(root: &Utf8Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            match text.is_empty() {
                true => fs::remove_file(&path).unwrap(),
                false => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, text).unwrap();
                }
            }
        }
    }

    /// Has tools and a step change the tree, and takes the tools away. The error in words.
    fn separated(ground: &mut Ground, tools: &[(&str, &str)], step: &[(&str, &str)]) -> Result<(), String> {
        let below = ground.lowers.clone();
        ground.layer("tools", |root| write(root, tools));
        ground.layer("step", |root| write(root, step));
        let scan = |path: &Utf8Path| scan::finish(path, EPOCH, ground.identity, 1).unwrap();
        let layers: Vec<Layer> = below.iter().map(|path| scan(path)).collect();
        let tree = kiln_disk::Tree::of(&layers);
        let (tools, step) = (ground.path("tools"), ground.path("step"));
        let parts = Parts {
            directory: &step,
            step: &scan(&step),
            tools_directory: &tools,
            tools: &scan(&tools),
            below: &|path| tree.node(path).cloned(),
        };
        let store = Store::open(&ground.path("store")).unwrap();
        let (cancel, factory) = (CancelToken::new().unwrap(), ground.path("factory"));
        let place = Workplace {
            store: &store,
            factory: &factory,
            identity: ground.identity,
            lowers: below,
            upper: Upper::Directory(step.clone()),
            epoch: EPOCH,
            ids: &ground.ids,
            threads: 1,
            watcher: &*ground,
            cancel: &cancel,
        };
        let result = separate(&place, &parts).map_err(|error| crate::with_causes(&error));
        ground.share();
        result
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
                          nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    const TOOL: &str = "tool:x:101:101::/:/usr/sbin/nologin\n";
    const DEPLOY: &str = "deploy:x:1000:1000::/home/deploy:/bin/sh\n";

    #[test]
    fn what_belongs_to_the_tools_goes_and_the_rest_stays() {
        for_each_identity(|ground| {
            let tools = [
                ("usr/bin/tool", "tool"),
                ("opt/tool/state", "1"),
                ("etc/passwd", &[PASSWD, TOOL].concat()),
                ("var/lib/dpkg/status", "Package: tool\nArchitecture: all\n\n"),
            ];
            let step = [
                ("opt/tool/state", "2"),
                ("opt/tool/own", "own"),
                ("srv/made", "made"),
                ("usr/bin/tool", ""),
                ("etc/passwd", &[PASSWD, TOOL, DEPLOY].concat()),
                ("etc/group", ""),
            ];
            separated(ground, &tools, &step).unwrap();
            let passwd = [PASSWD, DEPLOY].concat();
            let expected = [
                "etc 755 0:0 /".to_owned(),
                "etc/group gone".to_owned(),
                format!("etc/passwd 644 0:0 {passwd:?}"),
                "opt 755 0:0 /".to_owned(),
                "opt/tool 755 0:0 /".to_owned(),
                "opt/tool/own 644 0:0 \"own\"".to_owned(),
                "srv 755 0:0 /".to_owned(),
                "srv/made 644 0:0 \"made\"".to_owned(),
            ];
            let kept = |line: &String| !["run ", "sys ", "tmp "].iter().any(|start| line.starts_with(start));
            assert_eq!(ground.changes().into_iter().filter(kept).collect::<Vec<_>>(), expected);
        });
    }

    #[test]
    fn what_cannot_be_told_apart_is_named() {
        for_each_identity(|ground| {
            ground.layer("file", |root| write(root, &[("etc/tool.conf", "1")]));
            let error = separated(ground, &[("etc/tool.conf", "2")], &[("etc/tool.conf", "3")]).unwrap_err();
            assert_eq!(
                error,
                "take the step's tools away: /etc/tool.conf was changed by the step and by its tools, and nobody can say how \
                 to keep one change"
            );
        });
    }

    #[test]
    fn a_file_cannot_belong_to_an_account_of_the_tools() {
        for_each_identity(|ground| {
            ground.layer("home", |root| fs::create_dir_all(root.join("srv/tool")).unwrap());
            ground.layer("owned", |root| write(root, &[("srv/tool/file", "mine")]));
            let below = ground.lowers.len();
            let tools = [("etc/passwd", [PASSWD, TOOL].concat())];
            ground.layer("tools", |root| write(root, &[(tools[0].0, &tools[0].1)]));
            ground.layer("step", |root| {
                fs::os::unix::fs::chown(root.join("srv/tool/file"), Some(101), Some(0)).unwrap();
            });
            ground.lowers.truncate(below);
            let error = separated(ground, &[], &[]).unwrap_err();
            assert_eq!(
                error,
                "take the step's tools away: /srv/tool/file belongs to tool, which only the tools brought"
            );
        });
    }

    #[test]
    fn the_linkers_cache_is_made_anew() {
        if !Path::new("/sbin/ldconfig").exists() {
            return kiln_testkit::cannot_test("the host has no ldconfig");
        }
        for_each_identity(|ground| {
            ground.programs(&["/sbin/ldconfig"]);
            ground.layer("cache", |root| write(root, &[("etc/ld.so.cache", "below"), ("etc/ld.so.conf", "/opt\n")]));
            separated(ground, &[("etc/ld.so.cache", "tools")], &[("etc/ld.so.cache", "step")]).unwrap();
            let cache = ground.changes().into_iter().find(|line| line.starts_with("etc/ld.so.cache")).unwrap();
            assert!(cache.contains("glibc-ld.so.cache"), "{cache}");
        });
    }
}
