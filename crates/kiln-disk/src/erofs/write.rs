//! Writes an image from its first byte to its last.

use std::io::{self, Read, Write};

use kiln_model::digest::{Hasher, Sha256};

use crate::layer::NodeKind;
use crate::tar::Content;

use super::format::{Kind, SLOT_BYTES};
use super::layout::{File, Layout};
use super::{BLOCK_BYTES, shown};

/// Bytes written at once.
const CHUNK_BYTES: usize = 256 * BLOCK_BYTES;

/// How a file's content is held against what its layer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It must have the size: for contents whose digests were made or checked in this run.
    Size,
    /// It must have the digest.
    Digest,
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file could not be read.
    #[error("read /{path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's content is not what it was when the layer was made.
    #[error("read /{path}: its content has changed since its layer was made")]
    Changed {
        /// Which.
        path: String,
        /// Which layer has it.
        layer: usize,
    },
    /// The image could not be written.
    #[error("write the image")]
    Write(#[source] io::Error),
}

impl Layout<'_> {
    /// Writes the image: exactly [`Layout::size_bytes`] bytes, in order; `open` opens the content of a file.
    ///
    /// # Errors
    /// If a file cannot be read or has changed, or `out` fails.
    pub fn write<R: Read>(
        &self,
        check: Check,
        mut open: impl FnMut(Content<'_>) -> io::Result<R>,
        out: impl Write,
    ) -> Result<(), WriteError> {
        let mut image = Blocks::new(out);
        // What is inline, by the number of its file, until the inodes are written.
        let mut tails: Vec<Box<[u8]>> = vec![Box::default(); self.files.len()];
        image.bytes(&self.superblock().to_block())?;
        self.write_contents(check, &mut open, &mut image, &mut tails)?;
        image.skip_to_block(self.attribute_block)?;
        for entry in self.shared.entries() {
            image.bytes(entry)?;
        }
        self.write_directories(&mut image)?;
        image.skip_to_block(self.inode_block)?;
        self.write_inodes(&mut image, &tails)?;
        image.skip_to(self.size_bytes())?;
        image.finish()
    }

    /// Writes regular files and long targets of symbolic links, and keeps what is inline.
    fn write_contents<R: Read>(
        &self,
        check: Check,
        open: &mut impl FnMut(Content<'_>) -> io::Result<R>,
        image: &mut Blocks<impl Write>,
        tails: &mut [Box<[u8]>],
    ) -> Result<(), WriteError> {
        let is_small = |file: &File<'_>| file.blocks() == 0 && file.is_inline && file.kind == Kind::File;
        for (number, file) in self.files.iter().enumerate().filter(|(_, file)| is_small(file)) {
            self.copy(number, file, check, open, image, tails)?;
        }
        for number in &self.contents {
            let Some(file) = self.files.get(*number) else { continue };
            match &file.node.kind {
                NodeKind::File { .. } => self.copy(*number, file, check, open, image, tails)?,
                NodeKind::Symlink { target } => {
                    image.skip_to_block(file.place)?;
                    image.bytes(target)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies a file's content into its blocks, and the rest into `tails`.
    fn copy<R: Read>(
        &self,
        number: usize,
        file: &File<'_>,
        check: Check,
        open: &mut impl FnMut(Content<'_>) -> io::Result<R>,
        image: &mut Blocks<impl Write>,
        tails: &mut [Box<[u8]>],
    ) -> Result<(), WriteError> {
        let reader = open(file.content).map_err(|source| failed(file, source))?;
        let mut source = Source { reader, file, hasher: (check == Check::Digest).then(Hasher::new) };
        if file.blocks() > 0 {
            image.skip_to_block(file.place)?;
            image.copy(&mut source, file.size_bytes - file.inline_bytes())?;
        }
        let mut tail = vec![0; usize::try_from(file.inline_bytes()).unwrap_or_default()];
        source.fill(&mut tail)?;
        if let Some(place) = tails.get_mut(number) {
            *place = tail.into_boxed_slice();
        }
        source.finish()
    }

    /// Writes the whole blocks of directories.
    fn write_directories(&self, image: &mut Blocks<impl Write>) -> Result<(), WriteError> {
        let files = self.contents.iter().filter_map(|number| self.files.get(*number));
        for file in files.filter(|file| file.kind == Kind::Directory) {
            let content = self.directory_content(file);
            let inline = usize::try_from(file.inline_bytes()).unwrap_or_default();
            image.skip_to_block(file.place)?;
            image.bytes(content.get(..content.len() - inline).unwrap_or_default())?;
        }
        Ok(())
    }

    fn write_inodes(&self, image: &mut Blocks<impl Write>, tails: &[Box<[u8]>]) -> Result<(), WriteError> {
        let start = image.position();
        let mut bytes = Vec::new();
        for number in &self.inodes {
            let Some(file) = self.files.get(*number) else { continue };
            bytes.clear();
            file.to_inode(u32::try_from(*number + 1).unwrap_or(u32::MAX)).write(&mut bytes);
            bytes.extend_from_slice(&file.attributes);
            if file.is_inline {
                bytes.extend_from_slice(&self.tail(*number, file, tails));
            }
            image.skip_to(start + file.inode * SLOT_BYTES as u64)?;
            image.bytes(&bytes)?;
        }
        Ok(())
    }

    /// What is inline in a file of any kind.
    fn tail(&self, number: usize, file: &File<'_>, tails: &[Box<[u8]>]) -> Vec<u8> {
        let whole = match &file.node.kind {
            NodeKind::Directory => self.directory_content(file),
            NodeKind::Symlink { target } => target.clone(),
            _ => return tails.get(number).map(|tail| tail.to_vec()).unwrap_or_default(),
        };
        let inline = usize::try_from(file.inline_bytes()).unwrap_or_default();
        whole.get(whole.len() - inline..).unwrap_or_default().to_vec()
    }

    fn directory_content(&self, file: &File<'_>) -> Vec<u8> {
        let facts = |number| self.files.get(number).map_or((0, Kind::File), |file: &File<'_>| (file.inode, file.kind));
        file.directory.write(facts)
    }
}

/// A file's content while it is read.
struct Source<'a, R> {
    reader: R,
    file: &'a File<'a>,
    hasher: Option<Hasher>,
}

impl<R: Read> Source<'_, R> {
    /// Reads as many bytes as there is place for.
    fn fill(&mut self, place: &mut [u8]) -> Result<(), WriteError> {
        match self.reader.read_exact(place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.changed()),
            Err(error) => return Err(failed(self.file, error)),
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(place);
        }
        Ok(())
    }

    /// Makes sure that nothing is left, and that it was the right content.
    fn finish(mut self) -> Result<(), WriteError> {
        let left = io::copy(&mut self.reader.by_ref().take(1), &mut io::sink());
        if left.map_err(|source| failed(self.file, source))? > 0 {
            return Err(self.changed());
        }
        let actual = self.hasher.take().map(Hasher::finish);
        if actual.is_some() && actual != digest(self.file) { Err(self.changed()) } else { Ok(()) }
    }

    fn changed(&self) -> WriteError {
        WriteError::Changed { path: shown(self.file.content.path), layer: self.file.content.layer }
    }
}

fn digest(file: &File<'_>) -> Option<Sha256> {
    if let NodeKind::File { sha256, .. } = file.node.kind { Some(sha256) } else { None }
}

fn failed(file: &File<'_>, source: io::Error) -> WriteError {
    WriteError::Read { path: shown(file.content.path), source }
}

/// An image while it is written: full chunks go out, the rest waits.
struct Blocks<W> {
    out: W,
    chunk: Vec<u8>,
    /// How much of the chunk is filled.
    filled: usize,
    /// Bytes that went out.
    written: u64,
}

impl<W: Write> Blocks<W> {
    fn new(out: W) -> Self {
        Self { out, chunk: vec![0; CHUNK_BYTES], filled: 0, written: 0 }
    }

    fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// The part of the chunk that is free, which is never empty, up to a length.
    fn free(&mut self, length: u64) -> &mut [u8] {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(CHUNK_BYTES - self.filled);
        self.chunk.get_mut(self.filled..self.filled + length).unwrap_or_default()
    }

    /// Counts bytes that were put into the free part.
    fn fill(&mut self, length: usize) -> Result<(), WriteError> {
        self.filled += length;
        if self.filled == CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let chunk = self.chunk.get(..self.filled).unwrap_or_default();
        self.out.write_all(chunk).map_err(WriteError::Write)?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn copy<R: Read>(&mut self, source: &mut Source<'_, R>, mut left: u64) -> Result<(), WriteError> {
        while left > 0 {
            let place = self.free(left);
            let length = place.len();
            source.fill(place)?;
            left -= length as u64;
            self.fill(length)?;
        }
        Ok(())
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let place = self.free(bytes.len() as u64);
            let length = place.len();
            let (now, later) = bytes.split_at(length);
            place.copy_from_slice(now);
            bytes = later;
            self.fill(length)?;
        }
        Ok(())
    }

    fn skip_to_block(&mut self, block: u32) -> Result<(), WriteError> {
        self.skip_to(u64::from(block) * BLOCK_BYTES as u64)
    }

    /// Writes zeros up to a position.
    fn skip_to(&mut self, position: u64) -> Result<(), WriteError> {
        while self.position() < position {
            let place = self.free(position - self.position());
            place.fill(0);
            let length = place.len();
            self.fill(length)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), WriteError> {
        self.flush()?;
        self.out.flush().map_err(WriteError::Write)
    }
}
