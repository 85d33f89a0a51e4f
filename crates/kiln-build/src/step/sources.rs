//! The factory's files that a step reads, as every build sees them: exactly those of the plan, with the plan's bytes.
//!
//! They are copied into memory: their owners, modes and times are those of root, 0644 or 0755, and the epoch, whatever
//! they are in the factory and whoever builds; and no program of a step can reach the factory itself.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use camino::Utf8Path;
use fs_err as fs;
use kiln_model::digest::{Hasher, Sha256};
use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, utimensat};

use super::root::Root;
use super::{Doing as _, Problem};
use crate::stage::{Source, SourceKind};

/// Bytes copied at once.
const BLOCK_BYTES: usize = 128 << 10;

/// Copies the sources from the factory, as it is seen inside at `from`, to `to`.
pub(super) fn show(sources: &[Source], from: &Utf8Path, to: &Utf8Path, epoch: i64) -> Result<(), Problem> {
    let factory = Root::open(from)?;
    make_directory(to)?;
    for source in sources {
        place(&factory, source, &to.join(&source.path))?;
    }
    // Parents after their children, whose making changes them.
    let mut paths: Vec<&Utf8Path> = sources.iter().flat_map(|source| source.path.ancestors()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.iter().rev().try_for_each(|path| set_time(&to.join(path), epoch))
}

fn place(factory: &Root, source: &Source, to: &Utf8Path) -> Result<(), Problem> {
    if let Some(parent) = to.parent() {
        make_directory(parent)?;
    }
    match &source.kind {
        SourceKind::Directory => make_directory(to),
        SourceKind::Symlink { target } => {
            fs::os::unix::fs::symlink(target, to).doing(|| format!("show {}", source.path))
        }
        SourceKind::File { sha256, executable } => {
            let actual = copy(factory, &source.path, to)?;
            if actual != *sha256 {
                return Err(
                    Problem::refused(format!("{} changed while the build ran", source.path)).hint("build again")
                );
            }
            let mode = if *executable { 0o755 } else { 0o644 };
            set_mode(to, mode)
        }
    }
}

/// Copies a file's bytes and says what they were.
fn copy(factory: &Root, path: &Utf8Path, to: &Utf8Path) -> Result<Sha256, Problem> {
    let doing = || format!("read {path}");
    let descriptor = factory.resolve(path.as_std_path(), OFlags::RDONLY | OFlags::NONBLOCK).doing(doing)?;
    let (mut from, mut to) = (std::fs::File::from(descriptor), fs::File::create(to).doing(doing)?);
    let (mut block, mut hasher) = (vec![0; BLOCK_BYTES], Hasher::new());
    loop {
        let length = from.read(&mut block).doing(doing)?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(hasher.finish()) };
        hasher.update(bytes);
        to.write_all(bytes).doing(doing)?;
    }
}

fn make_directory(path: &Utf8Path) -> Result<(), Problem> {
    fs::create_dir_all(path).doing(|| format!("make {path}"))
}

fn set_mode(path: &Utf8Path, mode: u32) -> Result<(), Problem> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).doing(|| format!("set the mode of {path}"))
}

fn set_time(path: &Utf8Path, epoch: i64) -> Result<(), Problem> {
    let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, Path::new(path), &times, AtFlags::SYMLINK_NOFOLLOW).doing(|| format!("set the time of {path}"))
}
