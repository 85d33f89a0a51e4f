//! Bytes that arrive: hashed and written in blocks, away from the thread that receives them.
//!
//! While one block is hashed and written, the next is collected; a block that is full before the last is written waits,
//! so that a fast server cannot fill the memory.

use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use fs_err as fs;
use kiln_model::digest::{Hasher, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::store::{BLOCK_BYTES, ENTRY_MODE, Store, make_parent, read_some};

/// On a slow line, how much time of downloading a killed process may lose.
const UNWRITTEN_MAX: Duration = Duration::from_secs(1);

/// How much of a file is copied before progress is reported and the download may be stopped.
const COPY_BYTES: u64 = 8 * 1024 * 1024;

/// A file being written, with the digest of all that is in it.
#[derive(Debug)]
pub(crate) struct Landing {
    file: fs::File,
    path: Utf8PathBuf,
    hasher: Hasher,
    size_bytes: u64,
    /// The block written last, emptied: its memory is used again.
    spare: Vec<u8>,
}

/// The asynchronous face of a [`Landing`].
#[derive(Debug)]
pub(crate) struct Writer {
    work: Work,
    pending: Vec<u8>,
    /// Written and pending together.
    size_bytes: u64,
    flushed: Instant,
}

#[derive(Debug)]
enum Work {
    Idle(Landing),
    Busy(JoinHandle<io::Result<Landing>>),
    /// A write failed, and said so; there is nothing left to write to.
    Lost,
}

/// How copying a file went wrong.
#[derive(Debug)]
pub(crate) enum CopyError {
    Source(io::Error),
    Store(io::Error),
}

impl Landing {
    /// Goes on with a file that may hold bytes already; they are hashed.
    pub(crate) fn adopt(mut file: fs::File, path: Utf8PathBuf) -> io::Result<Self> {
        let mut hasher = Hasher::new();
        let mut size_bytes = 0;
        let mut spare = vec![0; BLOCK_BYTES];
        file.rewind()?;
        loop {
            let bytes = read_some(&mut file, &mut spare)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            size_bytes += bytes.len() as u64;
        }
        spare.clear();
        Ok(Self { file, path, hasher, size_bytes, spare })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hasher = Hasher::new();
        self.size_bytes = 0;
        Ok(())
    }

    /// Gives the file its name in the store if its digest is `expected` (or whatever it is, when nothing is expected),
    /// else empties it. Returns the digest that it had.
    fn finish(&mut self, store: &Store, expected: Option<Sha256>) -> io::Result<Sha256> {
        let actual = self.hasher.clone().finish();
        if expected.is_some_and(|expected| expected != actual) {
            self.restart()?;
            return Ok(actual);
        }
        let target = store.path(&actual);
        self.file.sync_data()?;
        make_parent(&target)?;
        // The directory is not flushed: a name that a power failure takes is downloaded again, and to flush it for each of
        // many small files would take longer than to receive them.
        fs::rename(&self.path, &target)?;
        // Only now: a partial file that a killed process left must stay writable for the next.
        self.file.set_permissions(std::fs::Permissions::from_mode(ENTRY_MODE))?;
        Ok(actual)
    }

    /// Appends up to [`COPY_BYTES`] of `source`, but no more than `limit_bytes` in all and one byte; whether it ended.
    fn copy(&mut self, source: &mut fs::File, limit_bytes: u64) -> Result<bool, CopyError> {
        let mut block = std::mem::take(&mut self.spare);
        block.resize(BLOCK_BYTES, 0);
        let stop = self.size_bytes + COPY_BYTES;
        let mut ended = false;
        while !ended && self.size_bytes < stop && self.size_bytes <= limit_bytes {
            let bytes = read_some(source, &mut block).map_err(CopyError::Source)?;
            ended = bytes.is_empty();
            self.append(bytes).map_err(CopyError::Store)?;
        }
        block.clear();
        self.spare = block;
        Ok(ended)
    }
}

impl Writer {
    pub(crate) fn new(landing: Landing) -> Self {
        let size_bytes = landing.size_bytes;
        Self { work: Work::Idle(landing), pending: Vec::new(), size_bytes, flushed: Instant::now() }
    }

    /// Bytes taken so far, whether written yet or not.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Takes the next bytes.
    pub(crate) async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        self.size_bytes += bytes.len() as u64;
        if self.pending.len() >= BLOCK_BYTES || self.flushed.elapsed() >= UNWRITTEN_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Begins to write all that was taken; waits for what was begun before.
    async fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut landing = self.landing().await?;
        let mut block = std::mem::replace(&mut self.pending, std::mem::take(&mut landing.spare));
        self.work = Work::Busy(spawn_blocking(move || {
            landing.append(&block)?;
            block.clear();
            landing.spare = block;
            Ok(landing)
        }));
        Ok(())
    }

    /// Writes all that was taken, to the end.
    pub(crate) async fn settle(&mut self) -> io::Result<()> {
        self.flush().await?;
        let landing = self.landing().await;
        self.put_back(landing)
    }

    /// Forgets all bytes.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        self.pending.clear();
        self.size_bytes = 0;
        let mut landing = self.landing().await?;
        self.put_back(blocking(move || landing.restart().map(|()| landing)).await)
    }

    /// See [`Landing::finish`].
    pub(crate) async fn finish(&mut self, store: &Store, expected: Option<Sha256>) -> io::Result<Sha256> {
        let mut landing = self.landing().await?;
        let block = std::mem::take(&mut self.pending);
        let store = store.clone();
        let (landing, actual) = blocking(move || {
            landing.append(&block)?;
            let actual = landing.finish(&store, expected)?;
            Ok((landing, actual))
        })
        .await?;
        self.size_bytes = landing.size_bytes;
        self.work = Work::Idle(landing);
        Ok(actual)
    }

    /// See [`Landing::copy`]. Gives the source back with whether it ended.
    pub(crate) async fn copy(&mut self, mut source: fs::File, limit_bytes: u64) -> Result<(fs::File, bool), CopyError> {
        let mut landing = self.landing().await.map_err(CopyError::Store)?;
        let copied = blocking(move || Ok(landing.copy(&mut source, limit_bytes).map(|ended| (landing, source, ended))));
        let (landing, source, ended) = copied.await.map_err(CopyError::Store)??;
        self.size_bytes = landing.size_bytes;
        self.work = Work::Idle(landing);
        Ok((source, ended))
    }

    async fn landing(&mut self) -> io::Result<Landing> {
        match std::mem::replace(&mut self.work, Work::Lost) {
            Work::Idle(landing) => Ok(landing),
            Work::Busy(work) => join(work).await,
            Work::Lost => Err(io::Error::other("an earlier write failed")),
        }
    }

    fn put_back(&mut self, landing: io::Result<Landing>) -> io::Result<()> {
        self.work = Work::Idle(landing?);
        Ok(())
    }
}

/// Runs work that waits for a disk or uses the processor for long.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    join(spawn_blocking(work)).await
}

async fn join<T>(work: JoinHandle<io::Result<T>>) -> io::Result<T> {
    match work.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(cancelled)) => Err(io::Error::other(cancelled)),
    }
}
