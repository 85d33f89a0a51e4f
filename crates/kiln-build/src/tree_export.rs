//! A built tree as something that others read: a tar archive, an OCI image, a directory.
//!
//! 1. Everything is written beside its place (`aside`), flushed, and renamed: what is there is whole.
//! 2. An archive is written by root of the identity that built the tree, and arrives here through a pipe; what is kept on
//!    the disk belongs to the caller.
//! 3. An OCI image (`oci`) has one layer for each of Kiln's, so that classes and versions share them in a registry.
//! 4. A directory (`directory`) has the true owners if the caller is root, and the caller's subordinate ids if not.
//!
//! Same tree, same bytes: as any user, on any machine, with any number of threads. Contents are hashed on the way; a file
//! that is not what it was when its layer was made ends the export.

mod aside;
mod directory;
mod gzip;
mod oci;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_disk::tar::{self, TarError};
use kiln_model::digest::Sha256;
use kiln_sandbox::layer::remove_tree;
use kiln_sandbox::{CancelToken, Identity, SandboxError};

use crate::problem::Problem;
use crate::tree::ClassTree;
use aside::{Aside, Kind};

/// What is made of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeFormat {
    /// One tar archive.
    Tar,
    /// An OCI image: a layout directory, or an archive of one if the path ends in `.tar`.
    Oci,
    /// A directory.
    Directory,
}

/// A tree, and what there is to say about it.
#[derive(Debug)]
pub struct TreeExport<'a> {
    /// The class whose tree it is.
    pub class: &'a str,
    /// Debian's name of its architecture.
    pub architecture: &'a str,
    /// The tree.
    pub tree: &'a ClassTree,
    /// Who built its layers.
    pub identity: Identity,
    /// What is made of it.
    pub format: TreeFormat,
    /// Whether what is there may be replaced.
    pub force: bool,
    /// How many threads may work at once.
    pub threads: usize,
    /// Ends it early.
    pub cancel: &'a CancelToken,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeExported {
    /// Bytes of the archive, of the image, or of the content of a directory's files.
    pub size_bytes: u64,
    /// The digest of an archive, or of an image's manifest.
    pub digest: Option<Sha256>,
    /// How to remove it, where the caller may not simply do so.
    pub remove_with: Option<String>,
}

/// Why a tree could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum TreeExportError {
    /// There is something already.
    #[error("write {path}: it exists")]
    Exists {
        /// The place.
        path: Utf8PathBuf,
    },
    /// There is something that no export can have left there.
    #[error("replace {path}: {reason}")]
    NotReplaced {
        /// The place.
        path: Utf8PathBuf,
        /// What speaks against it.
        reason: &'static str,
    },
    /// The place cannot be written to.
    #[error("write {path}")]
    Write {
        /// The place.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output, or whatever takes the archive, failed.
    #[error("write the archive")]
    Stream(#[source] io::Error),
    /// A file could not be read or written.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The tree does not fit into the format.
    #[error("{message}")]
    Refused {
        /// What and why.
        message: String,
    },
    /// A file is not what it was when its layer was made.
    #[error("{message}")]
    Damaged {
        /// Which file.
        message: String,
        /// The layer, which is of no use any more.
        layer: Sha256,
    },
    /// It was asked to end.
    #[error("the export was interrupted")]
    Interrupted,
    /// The layers could not be read as their owner.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl TreeExportError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("--force replaces it".to_owned()),
            Self::NotReplaced { .. } => Some("choose another --output, or remove it yourself".to_owned()),
            Self::Sandbox(error) => error.hint(),
            Self::Write { .. }
            | Self::Stream(_)
            | Self::Io { .. }
            | Self::Refused { .. }
            | Self::Damaged { .. }
            | Self::Interrupted => None,
        }
    }
}

/// The error of an archive, on its way out of the process that wrote it.
fn tar_problem(error: &TarError, layer: Option<usize>) -> Problem {
    let message = error.to_string();
    match error {
        TarError::Read { source, .. } | TarError::Write(source) => Problem::of(message, source),
        TarError::Changed { layer: one, .. } => Problem::damaged(message, layer.unwrap_or(*one)),
        TarError::Unfit { .. } => Problem::refused(message),
    }
}

/// Whether an export may be written to a place, as things are now.
///
/// # Errors
/// If there is something already that may not be replaced.
pub fn check_place(path: &Utf8Path, force: bool) -> Result<(), TreeExportError> {
    aside::check(path, force)
}

impl TreeExport<'_> {
    /// Writes it to a place in the file system.
    ///
    /// # Errors
    /// If there is something already that may not be replaced, or something cannot be read or written.
    pub fn write_to(&self, path: &Utf8Path) -> Result<TreeExported, TreeExportError> {
        aside::check(path, self.force)?;
        match self.format {
            TreeFormat::Tar => self.write_archive(path),
            TreeFormat::Oci if path.extension() == Some("tar") => self.write_image_archive(path),
            TreeFormat::Oci => self.write_image(path),
            TreeFormat::Directory => self.write_directory(path),
        }
    }

    /// Writes its archive, whatever the format says, to `out`.
    ///
    /// # Errors
    /// If something cannot be read or written.
    pub fn stream_to(&self, out: &mut (dyn Write + Send)) -> Result<TreeExported, TreeExportError> {
        let write = |out: &mut dyn Write| {
            let out = io::BufWriter::with_capacity(BUFFER_BYTES, out);
            let open = |content: tar::Content<'_>| self.tree.open(content);
            tar::write(self.tree.tree(), open, out).map_err(|error| tar_problem(&error, None))
        };
        let mut out = Hashing::new(out);
        self.receive(write, |pipe| copy(pipe, &mut out), TreeExportError::Stream)?;
        Ok(TreeExported { size_bytes: out.size_bytes, digest: Some(out.finish().0), remove_with: None })
    }

    fn write_archive(&self, path: &Utf8Path) -> Result<TreeExported, TreeExportError> {
        let aside = Aside::new(path, Kind::File)?;
        let mut file = aside.create(aside.path())?;
        let exported = self.stream_to(&mut file)?;
        aside.sync(&file)?;
        aside.publish(self.force, |old| self.remove(old))?;
        Ok(exported)
    }

    fn write_image(&self, path: &Utf8Path) -> Result<TreeExported, TreeExportError> {
        let aside = Aside::new(path, Kind::Directory)?;
        let image = oci::write(self, &aside)?;
        aside.publish(self.force, |old| self.remove(old))?;
        Ok(TreeExported { size_bytes: image.size_bytes, digest: Some(image.manifest), remove_with: None })
    }

    fn write_image_archive(&self, path: &Utf8Path) -> Result<TreeExported, TreeExportError> {
        let layout = Aside::new(path, Kind::Directory)?;
        let image = oci::write(self, &layout)?;
        let aside = Aside::new(path, Kind::File)?;
        let mut file = aside.create(aside.path())?;
        let size_bytes = oci::write_archive(&image, &layout, self.tree.epoch(), &mut file)?;
        aside.sync(&file)?;
        aside.publish(self.force, |old| self.remove(old))?;
        Ok(TreeExported { size_bytes, digest: Some(image.manifest), remove_with: None })
    }

    /// Has root of the identity write a stream, and reads it. Either may be why the other fails.
    fn receive(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Problem>,
        read: impl FnOnce(&mut dyn io::Read) -> io::Result<()> + Send,
        failed: impl FnOnce(io::Error) -> TreeExportError,
    ) -> Result<(), TreeExportError> {
        let read = |pipe| read(&mut Heeding { pipe, cancel: self.cancel });
        let (written, read) = self.identity.stream(write, read)?;
        if self.cancel.is_cancelled() {
            return Err(TreeExportError::Interrupted);
        }
        read.map_err(failed)?;
        self.outcome(written)
    }

    /// What came out of the other process.
    fn outcome<T>(&self, result: Result<T, Problem>) -> Result<T, TreeExportError> {
        result.map_err(|problem| {
            let damaged = problem.damaged.and_then(|number| self.tree.layers().nth(number));
            match (damaged.map(|(layer, _)| *layer.name()), problem.into_parts()) {
                (Some(layer), (message, _)) => TreeExportError::Damaged { message, layer },
                (None, (message, None)) => TreeExportError::Refused { message },
                (None, (doing, Some(source))) => TreeExportError::Io { doing, source },
            }
        })
    }

    /// Removes an earlier export, whoever owns what is in it.
    fn remove(&self, old: &Utf8Path) -> Result<(), SandboxError> {
        let removed = if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) };
        removed.or_else(|_| remove_tree(old, self.identity))
    }

    fn write_directory(&self, path: &Utf8Path) -> Result<TreeExported, TreeExportError> {
        let old = self.outcome(self.identity.act(|| directory::write(self.tree, path, self.force))?)?;
        if let Some(old) = old {
            self.remove(&old)?;
        }
        let remove_with = match self.identity {
            Identity::Root => None,
            Identity::User(_) => Some(format!(
                "unshare --map-auto --map-root-user rm -r --one-file-system {}",
                shell_word(path.as_str())
            )),
        };
        Ok(TreeExported { size_bytes: self.tree.tree().size_bytes(), digest: None, remove_with })
    }
}

/// A word as a shell reads it.
fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,@:".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A stream that ends with an error when somebody wants the export to end.
struct Heeding<'a> {
    pipe: std::fs::File,
    cancel: &'a CancelToken,
}

impl io::Read for Heeding<'_> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() { Err(io::ErrorKind::BrokenPipe.into()) } else { self.pipe.read(piece) }
    }
}

/// Bytes that go through a pipe, or into a file, at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Copies in large pieces.
fn copy(from: &mut dyn io::Read, to: &mut dyn Write) -> io::Result<()> {
    let mut piece = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return to.flush(),
            Ok(length) => to.write_all(piece.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A writer that hashes and counts what goes through it.
struct Hashing<W> {
    out: W,
    hasher: kiln_model::digest::Hasher,
    size_bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: kiln_model::digest::Hasher::new(), size_bytes: 0 }
    }

    fn finish(self) -> (Sha256, W) {
        (self.hasher.finish(), self.out)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        self.size_bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
