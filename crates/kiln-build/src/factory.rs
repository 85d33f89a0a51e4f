//! A factory's directory: `kiln.toml`, `kiln.d/*.toml` and `kiln.lock`, read and written.
//!
//! Never more than one Kiln writes a lock: [`Factory::claim`] holds the directory itself locked, so nothing is left
//! behind. The lock is written aside, flushed and renamed: a reader sees the old one or the new one.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::diagnostic::{Diagnostics, Source};
use kiln_model::event::{Event, Report};
use kiln_model::lock::{self, Lock, LockError};
use kiln_model::spec::{self, FileKind, Files, Spec};

/// The spec's main file.
pub const SPEC_FILE: &str = "kiln.toml";

/// Where further classes and groups may lie.
pub const SPEC_DIRECTORY: &str = "kiln.d";

/// A directory with a `kiln.toml`.
#[derive(Debug, Clone)]
pub struct Factory {
    directory: Utf8PathBuf,
}

/// The right to write the factory's lock; given up when dropped.
#[derive(Debug)]
pub struct Claim {
    _directory: fs_err::File,
}

/// A factory that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FactoryError {
    /// There is no spec.
    #[error("there is no {SPEC_FILE} in {directory}")]
    NoSpec {
        /// Where it was looked for.
        directory: Utf8PathBuf,
    },
    /// The spec has mistakes.
    #[error(transparent)]
    Spec(Diagnostics),
    /// The lock cannot be believed.
    #[error(transparent)]
    Lock(LockError),
    /// A spec or a lock that is not text.
    #[error("{file} is not UTF-8 text")]
    NotText {
        /// Its path in the factory.
        file: String,
    },
    /// What was to be written cannot be read back: a bug.
    #[error("the new lock would be refused when it is read")]
    Unsound(#[source] LockError),
    /// The system refused.
    #[error("{action}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said, with the path.
        #[source]
        source: std::io::Error,
    },
}

/// The factory's files as they lie on the disk.
struct OnDisk<'a>(&'a Utf8Path);

impl Files for OnDisk<'_> {
    fn kind(&self, path: &Utf8Path) -> Option<FileKind> {
        let metadata = fs_err::metadata(self.0.join(path)).ok()?;
        match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => Some(FileKind::File),
            (_, true) => Some(FileKind::Directory),
            _ => None,
        }
    }

    fn list(&self, path: &Utf8Path) -> Vec<String> {
        let entries = fs_err::read_dir(self.0.join(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

impl Factory {
    /// The factory at `directory`; nothing is read yet.
    #[must_use]
    pub fn new(directory: &Utf8Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Where a path of the spec lies.
    #[must_use]
    pub fn path(&self, relative: &Utf8Path) -> Utf8PathBuf {
        self.directory.join(relative)
    }

    /// The factory's directory, absolute and without links: its name in the store.
    ///
    /// # Errors
    /// If there is none, or its path is not text.
    pub fn absolute(&self) -> Result<Utf8PathBuf, FactoryError> {
        let path = fs_err::canonicalize(self.open_name()).map_err(io("find the factory"))?;
        Utf8PathBuf::from_path_buf(path)
            .map_err(|path| io("find the factory")(std::io::Error::other(format!("{} is not UTF-8", path.display()))))
    }

    /// Reads and validates the spec.
    ///
    /// # Errors
    /// If there is none, or with every mistake in it.
    pub fn spec(&self) -> Result<Spec, FactoryError> {
        spec::parse(&self.sources()?, &OnDisk(&self.directory)).map_err(FactoryError::Spec)
    }

    /// The spec's texts: `kiln.toml`, then `kiln.d/*.toml` by name.
    fn sources(&self) -> Result<Vec<Source>, FactoryError> {
        if !self.path(SPEC_FILE.into()).exists() {
            return Err(FactoryError::NoSpec { directory: self.directory.clone() });
        }
        let mut names = vec![SPEC_FILE.to_owned()];
        let mut further: Vec<String> = OnDisk(&self.directory).list(SPEC_DIRECTORY.into());
        further.retain(|name| name.ends_with(".toml") && !name.starts_with('.'));
        further.sort();
        names.extend(further.into_iter().map(|name| format!("{SPEC_DIRECTORY}/{name}")));
        let read = |name: String| {
            let text = self.read(&name).map_err(unreadable(&name, "read the spec"))?;
            Ok(Source { name, text })
        };
        names.into_iter().map(read).collect()
    }

    /// Reads the lock; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or not be believed.
    pub fn lock(&self) -> Result<Option<Lock>, FactoryError> {
        match self.read(lock::FILE_NAME) {
            Ok(text) => Lock::parse(&text).map(Some).map_err(FactoryError::Lock),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(lock::FILE_NAME, "read the lock")(error)),
        }
    }

    fn read(&self, name: &str) -> std::io::Result<String> {
        fs_err::read_to_string(self.directory.join(name))
    }

    /// Waits until no other Kiln works on this factory's lock.
    ///
    /// # Errors
    /// If the directory cannot be opened or locked.
    pub fn claim(&self, report: &dyn Report) -> Result<Claim, FactoryError> {
        let directory = self.open_name();
        let file = fs_err::File::open(directory).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FactoryError::NoSpec { directory: self.directory.clone() },
            _ => io("open the factory")(error),
        })?;
        if file.file().try_lock().is_err() {
            report.event(Event::Waiting { reason: format!("another kiln is locking the factory in {directory}") });
            file.file().lock().map_err(io("wait for another kiln"))?;
        }
        Ok(Claim { _directory: file })
    }

    /// Replaces the lock; afterwards the old one or the new one is there, whatever happens meanwhile.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_lock(&self, _claim: &Claim, lock: &Lock) -> Result<(), FactoryError> {
        let text = lock.print();
        Lock::parse(&text).map_err(FactoryError::Unsound)?;
        let path = self.lock_path();
        // One fixed name beside it: the claim makes it ours, and a killed Kiln leaves at most this one, to be overwritten.
        let aside = self.path(".kiln.lock.new".into());
        let write = || {
            let mut file = fs_err::File::create(&aside)?;
            file.write_all(text.as_bytes())?;
            if let Ok(old) = fs_err::metadata(&path) {
                file.set_permissions(old.permissions())?;
            }
            file.sync_all()?;
            fs_err::rename(&aside, &path)?;
            fs_err::File::open(self.open_name())?.sync_all()
        };
        write().map_err(|error| {
            let _ = fs_err::remove_file(&aside);
            io("write the lock")(error)
        })
    }

    fn lock_path(&self) -> Utf8PathBuf {
        self.path(lock::FILE_NAME.into())
    }

    /// The directory as the system wants it: the empty path is here.
    fn open_name(&self) -> &Utf8Path {
        if self.directory.as_str().is_empty() { Utf8Path::new(".") } else { &self.directory }
    }
}

fn unreadable(file: &str, action: &str) -> impl FnOnce(std::io::Error) -> FactoryError {
    move |error| match error.kind() {
        std::io::ErrorKind::InvalidData => FactoryError::NotText { file: file.to_owned() },
        _ => io(action)(error),
    }
}

fn io(action: &str) -> impl FnOnce(std::io::Error) -> FactoryError {
    let action = action.to_owned();
    move |source| FactoryError::Io { action, source }
}
