//! Copies the bytes of a file, and makes sure that they are those that were planned.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;

use camino::Utf8Path;
use kiln_model::digest::{Hasher, Sha256};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::root::resolve;
use super::{Doing as _, FACTORY, Problem};

/// How much is read at a time. A block of zeros becomes a hole, so this is also how fine holes are.
const BLOCK_BYTES: usize = 128 * 1024;

/// The factory, seen from inside.
#[derive(Debug)]
pub(super) struct Factory {
    directory: std::os::fd::OwnedFd,
}

impl Factory {
    pub(super) fn open() -> Result<Self, Problem> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, FACTORY, flags, Mode::empty());
        Ok(Self { directory: directory.doing(|| "open the factory".to_owned())? })
    }

    /// Writes the content of a file of the factory to `to`, and refuses it if it is not what was planned.
    pub(super) fn copy(&self, path: &Utf8Path, sha256: &Sha256, to: &mut File) -> Result<(), Problem> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let from = resolve(self.directory.as_fd(), path.as_std_path(), flags, ResolveFlags::BENEATH);
        let mut from = match from {
            Ok(descriptor) => File::from(descriptor),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(changed(path.as_str())),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Err(leads_out(path)),
            Err(error) => return Err(error).doing(|| format!("read {path}")),
        };
        match copy(&mut from, to).doing(|| format!("copy {path}"))? == *sha256 {
            true => Ok(()),
            false => Err(changed(path.as_str())),
        }
    }
}

fn leads_out(path: &Utf8Path) -> Problem {
    Problem::refused(format!("{path} leads out of the factory by a link"))
        .hint("write the link relative to the directory that it is in")
}

/// What is said of a file that is not what was planned.
pub(super) fn changed(path: &str) -> Problem {
    Problem::refused(format!("{path} changed while the class was built")).hint("build again")
}

/// Copies everything, leaving holes where there are only zeros. Returns the digest.
pub(super) fn copy(from: &mut dyn Read, to: &mut File) -> io::Result<Sha256> {
    let mut hasher = Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut size_bytes = 0;
    loop {
        let count = fill(from, &mut block)?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        size_bytes += count as u64;
        match bytes.iter().all(|byte| *byte == 0) {
            true => drop(to.seek(SeekFrom::Start(size_bytes))?),
            false => to.write_all(bytes)?,
        }
    }
    to.set_len(size_bytes)?;
    Ok(hasher.finish())
}

/// Reads until the block is full or there is no more.
fn fill(from: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = block.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A reader that gives little at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1000);
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn zeros_become_holes_and_bytes_stay() {
        for (head, zeros, tail) in [(0, 0, 0), (5, 0, 0), (0, 300_000, 0), (10, 1_000_000, 7), (200_000, 400_000, 0)] {
            let bytes = [vec![1; head], vec![0; zeros], vec![2; tail]].concat();
            let mut file = tempfile::tempfile().unwrap();
            assert_eq!(copy(&mut Slow(&bytes), &mut file).unwrap(), Sha256::of(&bytes));
            let metadata = file.metadata().unwrap();
            assert!(metadata.blocks() * 512 <= (head + tail + 3 * BLOCK_BYTES) as u64, "{head} {zeros} {tail}");
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut copied = Vec::new();
            file.read_to_end(&mut copied).unwrap();
            assert!(copied == bytes, "{head} {zeros} {tail}");
        }
    }
}
