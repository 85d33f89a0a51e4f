//! A layer's directory becomes a layer's value.
//!
//! 1. Everything in the directory is walked; times of modification that are later than the stage's epoch, or finer than a
//!    second, are set on the disk too, so that sandboxes on top of the layer see what an image will have.
//! 2. The contents of files are hashed by several threads.
//! 3. Names of one file are tied together under the first of them.
//!
//! Of extended attributes only those are kept that belong to a file wherever it is: capabilities, in the form of an image;
//! access control lists; the user's own. Marks of overlayfs, and labels that the host's security modules gave (SELinux, IMA),
//! are not part of a tree.
//!
//! A user's layer is read by root of the user's namespace, so that ids are as the tree has them and no mode is in the way.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use camino::Utf8Path;
use fs_err as fs;
use kiln_disk::{Change, Layer, Node, NodeKind, PathBytes};
use kiln_model::digest::{Hasher, Sha256};
use kiln_sandbox::capability::{FILE_CAPABILITY, image_form};
use kiln_sandbox::{IDS, Identity, layer};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, lgetxattr, llistxattr, major, minor, utimensat};
use rustix::io::Errno;

use crate::problem::{Doing as _, Problem};
use crate::workplace::StageError;

/// Bytes read from a file at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// An extended attribute, and the list of their names, may have this many bytes: the kernel's limit.
const XATTR_BYTES_MAX: usize = 65536;

/// Marks of overlayfs begin like this: see [`kiln_sandbox::layer`].
const MARKS: &[u8] = b"user.overlay.";

/// Finishes the layer in a directory that a sandbox of this identity has written, and says what is in it.
///
/// No time of modification is later than `epoch` afterwards, in seconds since 1970; ids are as inside.
///
/// # Errors
/// If the directory cannot be read or changed, or holds something that no image can hold.
pub(crate) fn finish(
    directory: &Utf8Path,
    epoch: i64,
    identity: Identity,
    threads: usize,
) -> Result<Layer, StageError> {
    match identity {
        Identity::Root => scan(directory.as_std_path(), epoch, threads).map_err(StageError::from),
        Identity::User(_) => {
            let text =
                identity.act(|| scan(directory.as_std_path(), epoch, threads).map(|layer| layer.to_text()))??;
            Layer::parse(&text).map_err(|error| StageError::Refused { message: error.to_string(), hint: None })
        }
    }
}

impl From<Problem> for StageError {
    fn from(problem: Problem) -> Self {
        match problem.into_parts() {
            (message, None) => Self::Refused { message, hint: None },
            (doing, Some(source)) => Self::Io { doing, source },
        }
    }
}

fn scan(directory: &Path, epoch: i64, threads: usize) -> Result<Layer, Problem> {
    let mut walk = Walk { epoch, entries: Vec::new() };
    let metadata = fs::symlink_metadata(directory).doing("read", directory)?;
    walk.entry(directory.to_owned(), Vec::new(), &metadata)?;
    let mut entries = walk.entries;
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let links = tie(&mut entries);
    let digests = hash(directory, &entries, threads)?;
    let nodes = entries.into_iter().zip(digests).map(|(entry, digest)| (entry.path, finished(entry.change, digest)));
    let links = links.into_iter().map(|(path, to)| (path, Change::HardLink { to }));
    Ok(Layer { changes: nodes.chain(links).collect() })
}

/// One path of the directory.
struct Found {
    path: PathBytes,
    /// The file behind it, where it may have other names.
    shared: Option<(u64, u64)>,
    /// What is there; the digest of a content that is not empty is not known yet.
    change: Change,
}

/// A walk through a layer's directory.
struct Walk {
    epoch: i64,
    entries: Vec<Found>,
}

impl Walk {
    fn entry(&mut self, on_disk: PathBuf, path: PathBytes, metadata: &Metadata) -> Result<(), Problem> {
        if layer::is_whiteout(&on_disk, metadata).doing("read", &on_disk)? {
            self.entries.push(Found { path, shared: None, change: Change::Gone });
            return Ok(());
        }
        let modified = self.clamp(&on_disk, metadata)?;
        let node = node(&on_disk, metadata, modified)?;
        if !metadata.is_dir() {
            let shared = (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
            self.entries.push(Found { path, shared, change: Change::Node(node) });
            return Ok(());
        }
        let is_opaque = layer::is_opaque(&on_disk).doing("read", &on_disk)?;
        let change = if is_opaque { Change::Opaque(node) } else { Change::Node(node) };
        self.entries.push(Found { path: path.clone(), shared: None, change });
        self.contents(&on_disk, &path)
    }

    fn contents(&mut self, on_disk: &Path, path: &[u8]) -> Result<(), Problem> {
        for entry in fs::read_dir(on_disk).doing("read", on_disk)? {
            let entry = entry.doing("read", on_disk)?;
            let name = entry.file_name().into_vec();
            let path = if path.is_empty() { name } else { [path, &name].join(&b'/') };
            let metadata = entry.metadata().doing("read", on_disk)?;
            self.entry(entry.path(), path, &metadata)?;
        }
        Ok(())
    }

    /// Brings the time of modification into its bounds, on the disk too.
    fn clamp(&self, path: &Path, metadata: &Metadata) -> Result<i64, Problem> {
        let modified = metadata.mtime().min(self.epoch);
        if modified != metadata.mtime() || metadata.mtime_nsec() != 0 {
            let times = Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: Timespec { tv_sec: modified, tv_nsec: 0 },
            };
            utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).doing("set the time of", path)?;
        }
        Ok(modified)
    }
}

fn node(path: &Path, metadata: &Metadata, modified: i64) -> Result<Node, Problem> {
    let (uid, gid) = (metadata.uid(), metadata.gid());
    if uid >= IDS || gid >= IDS {
        let message = format!("{} belongs to {uid}:{gid}: an image's ids end at {}", path.display(), IDS - 1);
        return Err(Problem::refused(message));
    }
    let kind = kind(path, metadata)?;
    Ok(Node { kind, mode: metadata.mode() & 0o7777, uid, gid, modified, attributes: attributes(path)? })
}

fn kind(path: &Path, metadata: &Metadata) -> Result<NodeKind, Problem> {
    let kind = metadata.file_type();
    let (major, minor) = (major(metadata.rdev()), minor(metadata.rdev()));
    Ok(if kind.is_dir() {
        NodeKind::Directory
    } else if kind.is_file() {
        NodeKind::File { size_bytes: metadata.len(), sha256: Sha256::of(b"") }
    } else if kind.is_symlink() {
        NodeKind::Symlink { target: fs::read_link(path).doing("read", path)?.into_os_string().into_vec() }
    } else if kind.is_char_device() {
        NodeKind::CharacterDevice { major, minor }
    } else if kind.is_block_device() {
        NodeKind::BlockDevice { major, minor }
    } else if kind.is_fifo() {
        NodeKind::Fifo
    } else {
        NodeKind::Socket
    })
}

/// The extended attributes that belong to the file wherever it is.
fn attributes(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Problem> {
    let mut attributes = BTreeMap::new();
    let names = attribute_names(path).doing("read the attributes of", path)?;
    for name in names.split(|byte| *byte == 0).filter(|name| belongs_to_file(name)) {
        let value = attribute(path, name).doing("read the attributes of", path)?;
        attributes.insert(name.to_vec(), image_value(path, name, value)?);
    }
    Ok(attributes)
}

fn belongs_to_file(name: &[u8]) -> bool {
    let is_users = name.starts_with(b"user.") && !name.starts_with(MARKS);
    is_users || name == FILE_CAPABILITY.as_bytes() || name.starts_with(b"system.posix_acl_")
}

fn image_value(path: &Path, name: &[u8], value: Vec<u8>) -> Result<Vec<u8>, Problem> {
    if name != FILE_CAPABILITY.as_bytes() {
        return Ok(value);
    }
    let refused = || Problem::refused(format!("{} has capabilities of an unknown form", path.display()));
    Ok(image_form(&value).ok_or_else(refused)?.to_vec())
}

/// Names of all extended attributes, each ended by a zero byte.
fn attribute_names(path: &Path) -> Result<Vec<u8>, Errno> {
    // Most files have none, and there is nothing to allocate then.
    let mut buffer = [0; 256];
    match llistxattr(path, &mut buffer[..]) {
        Ok(length) => Ok(buffer.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut buffer = vec![0; XATTR_BYTES_MAX];
            let length = llistxattr(path, &mut buffer[..])?;
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn attribute(path: &Path, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; XATTR_BYTES_MAX];
    let length = lgetxattr(path, name, &mut buffer[..])?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Takes from entries, which are in order, all names of a file but its first; returns them with that first name.
fn tie(entries: &mut Vec<Found>) -> Vec<(PathBytes, PathBytes)> {
    let mut first_names: BTreeMap<(u64, u64), PathBytes> = BTreeMap::new();
    let mut links = Vec::new();
    entries.retain(|entry| {
        let Some(shared) = entry.shared else { return true };
        let Some(first) = first_names.get(&shared) else {
            first_names.insert(shared, entry.path.clone());
            return true;
        };
        links.push((entry.path.clone(), first.clone()));
        false
    });
    links
}

/// The digests of the files among the entries, in their order; none for all else.
fn hash(directory: &Path, entries: &[Found], threads: usize) -> Result<Vec<Option<Sha256>>, Problem> {
    let mut largest_first: Vec<(u64, usize)> =
        entries.iter().enumerate().map(|(index, entry)| (content_bytes(entry), index)).collect();
    largest_first.retain(|(size_bytes, _)| *size_bytes > 0);
    largest_first.sort_unstable_by(|one, other| other.cmp(one));
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Sha256)>, Problem> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut digests = Vec::new();
        while let Some((size_bytes, index)) = largest_first.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(entry) = entries.get(*index) else { break };
            let path = directory.join(std::ffi::OsStr::from_bytes(&entry.path));
            digests.push((*index, hash_file(&path, *size_bytes, &mut chunk)?));
        }
        Ok(digests)
    };
    let parts = in_threads(threads, work)?;
    let mut digests = vec![None; entries.len()];
    for (index, digest) in parts.into_iter().flatten() {
        if let Some(place) = digests.get_mut(index) {
            *place = Some(digest);
        }
    }
    Ok(digests)
}

/// Does the same in several threads, of which the calling one is the last.
fn in_threads<T: Send>(threads: usize, work: impl Fn() -> Result<T, Problem> + Sync) -> Result<Vec<T>, Problem> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(&work)).collect();
        let own = work();
        let others = others.into_iter().map(|other| {
            let panicked = |_| Problem::refused("a thread that hashed files panicked");
            other.join().map_err(panicked).and_then(|result| result)
        });
        others.chain([own]).collect()
    })
}

fn content_bytes(entry: &Found) -> u64 {
    entry.change.node().map(Node::size_bytes).unwrap_or_default()
}

fn hash_file(path: &Path, size_bytes: u64, chunk: &mut [u8]) -> Result<Sha256, Problem> {
    let mut file = fs::File::open(path).doing("read", path)?;
    let mut hasher = Hasher::new();
    let mut read_bytes = 0;
    loop {
        let length = file.read(chunk).doing("read", path)?;
        if length == 0 {
            break;
        }
        hasher.update(chunk.get(..length).unwrap_or_default());
        read_bytes += length as u64;
    }
    if read_bytes == size_bytes {
        return Ok(hasher.finish());
    }
    Err(Problem::refused(format!("{} changed while it was read", path.display())))
}

/// The change with the digest that was found.
fn finished(mut change: Change, digest: Option<Sha256>) -> Change {
    if let (Change::Node(Node { kind: NodeKind::File { sha256, .. }, .. }), Some(digest)) = (&mut change, digest) {
        *sha256 = digest;
    }
    change
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use camino::Utf8PathBuf;
    use kiln_disk::Tree;
    use kiln_sandbox::Upper;
    use rustix::fs::{FileType, Mode, XattrFlags, lsetxattr, mknodat};

    use super::*;
    use crate::ground::{EPOCH, Ground, for_each_identity};

    /// `cap_net_raw=ep`, version 2.
    const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn below(root: &Utf8Path) {
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/a"), "a").unwrap();
        fs::write(root.join("f"), "f").unwrap();
        fs::hard_link(root.join("f"), root.join("g")).unwrap();
        fs::hard_link(root.join("f"), root.join("h")).unwrap();
        fs::create_dir(root.join("to-file")).unwrap();
        fs::write(root.join("to-file/x"), "x").unwrap();
        fs::write(root.join("to-directory"), "x").unwrap();
    }

    fn above(root: &Utf8Path) {
        fs::remove_dir_all(root.join("d")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/new"), "new").unwrap();
        fs::remove_file(root.join("f")).unwrap();
        fs::remove_dir_all(root.join("to-file")).unwrap();
        fs::write(root.join("to-file"), "").unwrap();
        fs::remove_file(root.join("to-directory")).unwrap();
        fs::create_dir(root.join("to-directory")).unwrap();
        fs::write(root.join("owned"), "owned").unwrap();
        chown(root.join("owned"), Some(33), Some(65_534)).unwrap();
        fs::set_permissions(root.join("owned"), std::fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(root.join("owned"), root.join("Owned")).unwrap();
        symlink("to nowhere", root.join("link")).unwrap();
        mknodat(CWD, root.join("pipe").as_str(), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        mknodat(CWD, root.join("socket").as_str(), FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
        fs::write(root.join("ping"), "ping").unwrap();
        lsetxattr(root.join("ping").as_str(), FILE_CAPABILITY, &NET_RAW, XattrFlags::empty()).unwrap();
        lsetxattr(root.join("ping").as_str(), "user.mine", b"my own", XattrFlags::empty()).unwrap();
        let old = Timespec { tv_sec: 1000, tv_nsec: 5 };
        let times = Timestamps { last_access: old, last_modification: old };
        utimensat(CWD, root.join("ping").as_str(), &times, AtFlags::empty()).unwrap();
    }

    fn values(ground: &Ground) -> (Layer, Layer, Utf8PathBuf) {
        let one = ground.layer("below", &[], below);
        let first = Layer::parse(&String::from_utf8(one.manifest().unwrap().unwrap()).unwrap()).unwrap();
        let directory = ground.path.join("above");
        (first, ground.write(&[one], directory.clone(), above), directory)
    }

    #[test]
    fn a_layer_is_as_the_tree_has_it_whoever_wrote_it() {
        for_each_identity(|ground| {
            let (_, layer, _) = values(ground);
            let text = layer.to_text().replace(&Sha256::of(b"").to_string(), "EMPTY");
            let short =
                |line: &str| line.split(' ').map(|part| part.get(..40).unwrap_or(part)).collect::<Vec<_>>().join(" ");
            let lines: Vec<String> = text.lines().map(short).collect();
            insta::allow_duplicates! {
                insta::assert_snapshot!(lines.join("\n"), @r"
                kiln layer 1
                d 755 0 0 1700000000 /
                f 4750 33 65534 1700000000 /Owned 5 f5e6d024c05c9cc2746a3e127408b91a8b7a7f2a
                o 755 0 0 1700000000 /d
                f 644 0 0 1700000000 /d/new 3 11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd
                - /f
                l 777 0 0 1700000000 /link to\x20nowhere
                h /owned /Owned
                f 644 0 0 1000 /ping 4 758d61f26a44448384e5c4468a0dcb7a2abe4560 security.capability=01000002002000000000 user.mine=6d79206f776e
                p 600 0 0 1700000000 /pipe
                s 600 0 0 1700000000 /socket
                o 755 0 0 1700000000 /to-directory
                f 644 0 0 1700000000 /to-file 0 EMPTY
                ");
            }
        });
    }

    #[test]
    fn times_are_changed_on_the_disk_too() {
        for_each_identity(|ground| {
            let (_, layer, directory) = values(ground);
            let times = |path: &[u8]| {
                let path = directory.as_std_path().join(std::ffi::OsStr::from_bytes(path));
                let metadata = fs::symlink_metadata(path).unwrap();
                (metadata.mtime(), metadata.mtime_nsec())
            };
            let nodes: Vec<PathBytes> =
                layer.changes.keys().filter(|path| layer.node(path).is_some()).cloned().collect();
            let expected: Vec<_> = nodes.iter().map(|path| (layer.node(path).unwrap().modified, 0)).collect();
            let found = ground.identity.act(|| nodes.iter().map(|path| times(path)).collect::<Vec<_>>()).unwrap();
            assert_eq!(found, expected);
            assert!(expected.contains(&(1000, 0)) && expected.contains(&(EPOCH, 0)));
            let again = finish(&directory, EPOCH, ground.identity, 1).unwrap();
            assert_eq!(again, layer, "with one thread");
        });
    }

    /// The kernel is the judge: what it shows of the layers is the tree.
    #[test]
    fn the_tree_is_what_the_kernel_shows() {
        for_each_identity(|ground| {
            let mut layers = vec![ground.layer("one", &[], below)];
            layers.push(ground.layer("two", &layers, above));
            layers.push(ground.layer("three", &layers, |root| {
                // Of two names one gets a life of its own.
                fs::write(root.join("g"), "other").unwrap();
                fs::remove_dir_all(root.join("d")).unwrap();
                fs::create_dir(root.join("d")).unwrap();
                fs::remove_dir(root.join("to-directory")).unwrap();
                chown(root.join("d"), Some(1), Some(1)).unwrap();
            }));
            layers.push(ground.layer("four", &layers, |root| {
                fs::create_dir(root.join("to-directory")).unwrap();
                fs::write(root.join("to-directory/x"), "x").unwrap();
            }));
            let shown = ground.call(&layers, Upper::Discard, |root| {
                scan(root.join(".").as_std_path(), EPOCH, 2)
                    .map(|layer| layer.to_text())
                    .map_err(|problem| problem.message)
            });
            let shown = Tree::of([&Layer::parse(&shown.unwrap()).unwrap()]);
            let tree = crate::tree::ClassTree::read(&layers, EPOCH).unwrap();
            assert_eq!(tree.tree().to_text(), shown.to_text());
        });
    }

    #[test]
    fn ids_that_no_image_has_are_refused() {
        if !rustix::process::geteuid().is_root() {
            kiln_testkit::cannot_test("only root may give a file to any id");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        fs::write(path.join("file"), "").unwrap();
        chown(path.join("file"), Some(65_536), Some(0)).unwrap();
        let error = finish(&path, EPOCH, Identity::Root, 1).unwrap_err();
        assert_eq!(error.to_string(), format!("{path}/file belongs to 65536:0: an image's ids end at 65535"));
    }
}
