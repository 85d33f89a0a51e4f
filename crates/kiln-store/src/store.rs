//! The directory itself: opening, reading, verifying, adding.

use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::{Hasher, Sha256};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::aside;

/// Raised when an older Kiln could misread the directory.
const LAYOUT_VERSION: &str = "1";

/// Everything the root may hold; a directory with anything else in it, and no layout file, is somebody else's.
const DIRECTORIES: [&str; 13] = [
    "sha256",
    "partial",
    "derived",
    "slot",
    "layer",
    "stage",
    "draft",
    "failed",
    "factory",
    "claim",
    "tmp",
    "trash",
    "quarantine",
];
const LAYOUT_FILE: &str = "layout";
/// In `claim/`: never removed, so that all lock the same file.
const OPEN_FILE: &str = "open";
const CACHE_TAG_FILE: &str = "CACHEDIR.TAG";

/// The first line is the signature that the Cache Directory Tagging Specification asks for.
const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # Everything here can be downloaded or made again: see the Cache Directory Tagging Specification.\n";

/// Large enough to keep a disk busy, small enough to stay in the processor's second-level cache while it is hashed.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// Mode of verified files: nobody should write to them, by accident or otherwise.
pub(crate) const ENTRY_MODE: u32 = 0o444;

/// Mode of documents that are replaced.
pub(crate) const DOCUMENT_MODE: u32 = 0o600;

/// A directory that keeps files by their digest. Cheap to clone; used by many threads and processes at once.
#[derive(Debug, Clone)]
pub struct Store {
    root: Utf8PathBuf,
    /// Locked, shared, for as long as anybody in this process uses the store.
    open: Arc<fs::File>,
}

/// The certainty that no other process uses the store, and that none begins to.
#[derive(Debug)]
pub struct Alone<'a> {
    store: &'a Store,
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The file is there and has its digest.
    Present,
    /// There is no such file.
    Absent,
    /// The file was there with other bytes. It no longer is.
    Corrupt {
        /// Where it was moved.
        moved_to: Utf8PathBuf,
    },
}

/// One verified file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub digest: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The root is a file, or something else that holds no files.
    #[error("open the store at {root}: it is not a directory")]
    NotADirectory {
        /// The root as it was given.
        root: Utf8PathBuf,
    },
    /// The root is a directory with other things in it.
    #[error("open the store at {root}: it holds `{entry}`, which is not a store's")]
    Foreign {
        /// The root as it was given.
        root: Utf8PathBuf,
        /// One thing that Kiln did not put there.
        entry: String,
    },
    /// The store was made by another version of Kiln.
    #[error("open the store at {root}: its layout is version `{found}`; this Kiln knows version {LAYOUT_VERSION}")]
    Layout {
        /// The root as it was given.
        root: Utf8PathBuf,
        /// What the layout file says.
        found: String,
    },
    /// The disk or a quota is full.
    #[error("write to the store at {root}")]
    Full {
        /// The root as it was given.
        root: Utf8PathBuf,
        /// What the system said, with the path.
        #[source]
        source: io::Error,
    },
    /// The system refused something else.
    #[error("use the store at {root}")]
    Io {
        /// The root as it was given.
        root: Utf8PathBuf,
        /// What the system said, with the path.
        #[source]
        source: io::Error,
    },
    /// The file to be added could not be read.
    #[error("read what is to be stored")]
    Input {
        /// What its reader said.
        #[source]
        source: io::Error,
    },
    /// No file has this digest.
    #[error("read {digest} from the store: it is not there")]
    Absent {
        /// The digest asked for.
        digest: Sha256,
    },
    /// The file's bytes had changed.
    #[error("read {digest} from the store: its bytes have changed (their digest is {actual}); moved to {moved_to}")]
    Corrupt {
        /// The digest asked for.
        digest: Sha256,
        /// The digest of what was there.
        actual: Sha256,
        /// Where the file is now.
        moved_to: Utf8PathBuf,
    },
    /// The name of a kind of derived value cannot be a directory's name.
    #[error(
        "use the derived values `{name}`: a name is lower-case letters, digits, `-` and `.`, and begins with a letter"
    )]
    Name {
        /// The name as it was given.
        name: String,
    },
}

impl Store {
    /// Opens the store at `root`, and makes it when there is none: parents too, with the user's umask; the root itself
    /// for the user alone.
    ///
    /// # Errors
    /// When `root` is no directory, belongs to something else, was made by another version of Kiln, or cannot be written.
    pub fn open(root: &Utf8Path) -> Result<Self, StoreError> {
        make_root(root)?;
        check_owner(root)?;
        make_contents(root).map_err(|source| error(root, source))?;
        check_layout(root)?;
        aside::sweep(&root.join("tmp")).map_err(|source| error(root, source))?;
        let open = hold_open(root).map_err(|source| error(root, source))?;
        Ok(Self { root: root.to_owned(), open: Arc::new(open) })
    }

    /// Keeps other processes from using the store for as long as the answer lives; `None` if one uses it now. They wait
    /// meanwhile: for moments only.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn alone(&self) -> Result<Option<Alone<'_>>, StoreError> {
        // The lock is converted, not taken a second time: two locks of one process would wait for each other.
        match flock(self.open.file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Alone { store: self })),
            Err(Errno::WOULDBLOCK) => {
                // A conversion that fails gives the old lock up (flock(2)).
                flock(self.open.file(), FlockOperation::LockShared).map_err(|error| self.error(error.into()))?;
                Ok(None)
            }
            Err(error) => Err(self.error(error.into())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Where the file with this digest is, or will be.
    #[must_use]
    pub fn path(&self, digest: &Sha256) -> Utf8PathBuf {
        let name = digest.to_string();
        self.directory("sha256").join(&name[..2]).join(name)
    }

    /// Whether a file of this digest and size is there, without reading it.
    #[must_use]
    pub fn contains(&self, digest: &Sha256, size_bytes: u64) -> bool {
        self.size(digest) == Some(size_bytes)
    }

    /// The size of the file with this digest, if it is there; nothing is read.
    #[must_use]
    pub fn size(&self, digest: &Sha256) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// The bytes of the file, hashed again.
    ///
    /// # Errors
    /// [`StoreError::Absent`]; [`StoreError::Corrupt`] when its bytes changed, and then it is not in the store any more.
    pub fn read(&self, digest: &Sha256) -> Result<Vec<u8>, StoreError> {
        let Some(mut file) = self.open_entry(digest)? else {
            return Err(StoreError::Absent { digest: *digest });
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| self.error(source))?;
        let actual = Sha256::of(&bytes);
        if actual == *digest {
            return Ok(bytes);
        }
        Err(StoreError::Corrupt { digest: *digest, actual, moved_to: self.quarantine(digest, &file)? })
    }

    /// Hashes the file where it is.
    ///
    /// # Errors
    /// When the file cannot be read or moved; a corrupt or absent file is an answer, not an error.
    pub fn verify(&self, digest: &Sha256) -> Result<Presence, StoreError> {
        let Some(mut file) = self.open_entry(digest)? else {
            return Ok(Presence::Absent);
        };
        if hash(&mut file).map_err(|source| self.error(source))? == *digest {
            return Ok(Presence::Present);
        }
        Ok(Presence::Corrupt { moved_to: self.quarantine(digest, &file)? })
    }

    /// Adds bytes; nothing is written when they are there already.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn insert(&self, bytes: &[u8]) -> Result<(Sha256, u64), StoreError> {
        let digest = Sha256::of(bytes);
        let size_bytes = bytes.len() as u64;
        if self.verify(&digest)? != Presence::Present {
            self.write_aside(bytes, &self.path(&digest), ENTRY_MODE)?;
        }
        Ok((digest, size_bytes))
    }

    /// Adds all that `reader` gives; returns its digest and size.
    ///
    /// # Errors
    /// [`StoreError::Input`] when `reader` fails; others when the store cannot be written.
    pub fn insert_reader(&self, mut reader: impl Read) -> Result<(Sha256, u64), StoreError> {
        let mut file = self.create_aside()?;
        let (digest, size_bytes) = self.copy_hashing(&mut reader, &mut file)?;
        if self.verify(&digest)? != Presence::Present {
            self.publish(file, &self.path(&digest), ENTRY_MODE)?;
        }
        Ok((digest, size_bytes))
    }

    /// Adds a copy of the file at `path`.
    ///
    /// # Errors
    /// As [`Store::insert_reader`].
    pub fn import(&self, path: &Utf8Path) -> Result<(Sha256, u64), StoreError> {
        self.insert_reader(fs::File::open(path).map_err(|source| StoreError::Input { source })?)
    }

    /// Removes the file with this digest; whether there was one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, digest: &Sha256) -> Result<bool, StoreError> {
        match fs::remove_file(self.path(digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Every verified file, by digest. Names that are no digest are passed over.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        self.list(&mut entries).map_err(|source| self.error(source))?;
        entries.sort_unstable();
        Ok(entries)
    }

    fn list(&self, entries: &mut Vec<Entry>) -> io::Result<()> {
        for fan in fs::read_dir(self.directory("sha256"))? {
            for file in fs::read_dir(fan?.path())? {
                let file = file?;
                let digest = file.file_name().to_str().and_then(|name| Sha256::from_str(name).ok());
                // A file that another process removed meanwhile is no entry.
                if let (Some(digest), Ok(metadata)) = (digest, file.metadata()) {
                    entries.push(Entry { digest, size_bytes: metadata.len() });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn directory(&self, name: &str) -> Utf8PathBuf {
        self.root.join(name)
    }

    fn open_entry(&self, digest: &Sha256) -> Result<Option<fs::File>, StoreError> {
        match fs::File::open(self.path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Moves the entry that `file` is out of the way, unless another process put a new one in its place meanwhile.
    fn quarantine(&self, digest: &Sha256, file: &fs::File) -> Result<Utf8PathBuf, StoreError> {
        let path = self.path(digest);
        let moved_to = self.directory("quarantine").join(digest.to_string());
        if aside::names(&path, file.file()).map_err(|source| self.error(source))? {
            fs::rename(&path, &moved_to).map_err(|source| self.error(source))?;
        }
        Ok(moved_to)
    }

    pub(crate) fn create_aside(&self) -> Result<NamedTempFile, StoreError> {
        aside::create(&self.directory("tmp")).map_err(|source| self.error(source))
    }

    /// Writes `bytes` as the file `target`, all at once.
    pub(crate) fn write_aside(&self, bytes: &[u8], target: &Utf8Path, mode: u32) -> Result<(), StoreError> {
        write_new(&self.root, bytes, target, mode).map_err(|source| self.error(source))
    }

    pub(crate) fn publish(&self, file: NamedTempFile, target: &Utf8Path, mode: u32) -> Result<(), StoreError> {
        make_parent(target).and_then(|()| aside::publish(file, target, mode)).map_err(|source| self.error(source))
    }

    fn copy_hashing(&self, reader: &mut impl Read, file: &mut NamedTempFile) -> Result<(Sha256, u64), StoreError> {
        let mut hasher = Hasher::new();
        let mut size_bytes = 0;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let bytes = read_some(reader, &mut block).map_err(|source| StoreError::Input { source })?;
            if bytes.is_empty() {
                return Ok((hasher.finish(), size_bytes));
            }
            hasher.update(bytes);
            file.write_all(bytes).map_err(|source| self.error(source))?;
            size_bytes += bytes.len() as u64;
        }
    }

    /// What the system said about the store, told apart by what a person can do about it.
    pub(crate) fn error(&self, source: io::Error) -> StoreError {
        error(&self.root, source)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // The lock is ours, so that giving a part of it up is never refused.
        let _ = flock(self.store.open.file(), FlockOperation::LockShared);
    }
}

fn error(root: &Utf8Path, source: io::Error) -> StoreError {
    let root = root.to_owned();
    if is_full(&source) { StoreError::Full { root, source } } else { StoreError::Io { root, source } }
}

fn make_root(root: &Utf8Path) -> Result<(), StoreError> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(|source| error(root, source))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => Ok(()),
        Err(_) if root.is_dir() => Ok(()),
        Err(refused) if refused.kind() == io::ErrorKind::AlreadyExists => {
            Err(StoreError::NotADirectory { root: root.to_owned() })
        }
        Err(refused) => Err(error(root, refused)),
    }
}

/// A mistyped path must never spread a store's files over somebody's home directory.
fn check_owner(root: &Utf8Path) -> Result<(), StoreError> {
    if root.join(LAYOUT_FILE).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(root).map_err(|source| error(root, source))? {
        let name = entry.map_err(|source| error(root, source))?.file_name();
        if !is_ours(Path::new(&name)) {
            return Err(StoreError::Foreign { root: root.to_owned(), entry: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

fn make_contents(root: &Utf8Path) -> io::Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    for (name, text) in [(CACHE_TAG_FILE, CACHE_TAG), (LAYOUT_FILE, &format!("{LAYOUT_VERSION}\n"))] {
        if !root.join(name).exists() {
            write_new(root, text.as_bytes(), &root.join(name), DOCUMENT_MODE)?;
        }
    }
    drop(aside::create(&root.join("tmp"))?);
    Ok(())
}

fn check_layout(root: &Utf8Path) -> Result<(), StoreError> {
    let text = fs::read_to_string(root.join(LAYOUT_FILE)).map_err(|source| error(root, source))?;
    if text.trim_end() == LAYOUT_VERSION {
        return Ok(());
    }
    let found = text.trim_end().chars().take(40).collect();
    Err(StoreError::Layout { root: root.to_owned(), found })
}

/// Says, until it is dropped, that somebody uses the store. Waits while somebody must be alone with it.
fn hold_open(root: &Utf8Path) -> io::Result<fs::File> {
    let path = root.join("claim").join(OPEN_FILE);
    let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    file.file().lock_shared()?;
    Ok(file)
}

fn write_new(root: &Utf8Path, bytes: &[u8], target: &Utf8Path, mode: u32) -> io::Result<()> {
    let mut file = aside::create(&root.join("tmp"))?;
    file.write_all(bytes)?;
    make_parent(target)?;
    aside::publish(file, target, mode)
}

impl StoreError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotADirectory { root } => Some(format!("remove {root}, or choose another directory for the store")),
            Self::Foreign { .. } => Some("choose a directory that is empty or does not exist yet".to_owned()),
            Self::Layout { root, .. } => {
                Some(format!("choose another directory, or remove {root}: everything in it can be downloaded again"))
            }
            Self::Full { root, .. } => {
                Some(format!("make room on the file system of {root}, or choose another directory"))
            }
            Self::Io { root, source } => io_hint(root, source.kind()),
            Self::Corrupt { .. } => {
                Some("it will be fetched again; if this happens often, check the disk and the memory".to_owned())
            }
            Self::Absent { .. } => Some("fetch it first".to_owned()),
            Self::Input { .. } | Self::Name { .. } => None,
        }
    }
}

fn io_hint(root: &Utf8Path, kind: io::ErrorKind) -> Option<String> {
    match kind {
        io::ErrorKind::PermissionDenied => {
            Some(format!("{root} must be writable by this user: change its owner, or choose another directory"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("{root} is on a read-only file system: choose another directory"))
        }
        _ => None,
    }
}

/// Whether a write failed for lack of room: the disk, a quota, or the process's limit on file sizes.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

pub(crate) fn make_parent(path: &Utf8Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Hashes from the file's position to its end.
pub(crate) fn hash(reader: &mut impl Read) -> io::Result<Sha256> {
    let mut hasher = Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let bytes = read_some(reader, &mut block)?;
        if bytes.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.update(bytes);
    }
}

/// The next bytes, as many as come at once; none at the end.
pub(crate) fn read_some<'a>(reader: &mut impl Read, block: &'a mut [u8]) -> io::Result<&'a [u8]> {
    loop {
        match reader.read(block) {
            Ok(count) => return Ok(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_ours(name: &Path) -> bool {
    name.to_str().is_some_and(|name| DIRECTORIES.contains(&name) || name == CACHE_TAG_FILE || name == LAYOUT_FILE)
}
