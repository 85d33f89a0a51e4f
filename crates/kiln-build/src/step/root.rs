//! The tree as a place to put files: links are followed inside it and never lead out of it.
//!
//! Every path is resolved by openat2(2) with `RESOLVE_IN_ROOT`, on the tree without the sandbox's own mounts. A link in the
//! last place is not followed but replaced, as install(1) does; what has other names (hard links) keeps its content.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use fs_err as fs;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{Doing as _, Problem};

/// Directories whose content is made anew at every boot, or is the kernel's: what an image has there is never seen.
const NOT_OF_THE_IMAGE: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// How often a resolution is tried again when something else on the machine was renamed meanwhile: the kernel then cannot
/// be sure where `..` leads.
const ATTEMPTS_MAX: u32 = 1000;

/// Mode of directories that are on the way to what is placed.
const PARENT_MODE: u32 = 0o755;

/// A tree, or a directory of it, into which files are put.
#[derive(Debug)]
pub(super) struct Root {
    descriptor: OwnedFd,
    /// Where it is in the tree, to show.
    prefix: PathBuf,
    /// What happens to links that lead out: in the whole tree there is nothing outside; a directory is not left.
    beneath: ResolveFlags,
    /// Owner and mode of directories that are made on the way.
    parents: (Ownership, u32),
}

/// Who owns what is placed, as the tree's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ownership {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// One place in a tree: a directory that is open, and a name in it.
#[derive(Debug)]
pub(super) struct Spot<'a> {
    root: &'a Root,
    parent: OwnedFd,
    name: OsString,
    /// The whole path as it was asked for, to show and to follow.
    path: PathBuf,
}

impl Ownership {
    /// What belongs to nobody else.
    pub(super) const ROOT: Self = Self { uid: 0, gid: 0 };
}

impl Root {
    /// The tree whose root directory is `path`.
    pub(super) fn open(path: &Utf8Path) -> Result<Self, Problem> {
        // The slash follows the link that the path is.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path.join("").as_str(), flags, Mode::empty());
        let descriptor = descriptor.doing(|| "open the tree".to_owned())?;
        let parents = (Ownership::ROOT, PARENT_MODE);
        Ok(Self { descriptor, prefix: PathBuf::from("/"), beneath: ResolveFlags::IN_ROOT, parents })
    }

    /// The directory `path`, which must be there, as a place that nothing leaves. Directories that are made on the way have
    /// this owner and mode.
    pub(super) fn below(&self, path: &Path, parents: (Ownership, u32)) -> Result<Self, Problem> {
        let descriptor = self.directory(path)?;
        let beneath = if relative(path).as_os_str().is_empty() { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        Ok(Self { descriptor, prefix: self.prefix.join(relative(path)), beneath, parents })
    }

    /// Opens what is at `path`, following links inside the tree, also in the last place unless `flags` say otherwise.
    pub(super) fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        resolve(self.descriptor.as_fd(), relative(path), flags, self.beneath)
    }

    /// The content of a file, if there is one.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Problem> {
        let doing = || format!("read {path}");
        let file = match self.resolve(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(descriptor) => std::fs::File::from(descriptor),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing(doing),
        };
        let mut bytes = Vec::new();
        io::BufReader::new(file).read_to_end(&mut bytes).doing(doing)?;
        Ok(Some(bytes))
    }

    /// Whether there is a directory at `path`, perhaps by a link.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Whether there is anything at `path` that a link there leads to.
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.resolve(path, OFlags::PATH).is_ok()
    }

    /// The directory at `path`; where it or a parent is missing it is made.
    pub(super) fn directory(&self, path: &Path) -> Result<OwnedFd, Problem> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(descriptor) => return self.check_kept(descriptor, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(self.not_a_directory(path)),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Err(self.leads_out(path)),
            Err(error) => return Err(error).doing(|| format!("open {}", self.shown(path))),
        }
        let (ownership, mode) = self.parents;
        self.spot(path)?.directory(ownership, mode)?;
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).doing(|| format!("open {}", self.shown(path)))
    }

    /// The place called `path`, in a directory that is made where it is missing.
    pub(super) fn spot(&self, path: &Path) -> Result<Spot<'_>, Problem> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Problem::refused(format!("{} is a directory", self.shown(path))));
        };
        Ok(Spot { root: self, parent: self.directory(parent)?, name: name.to_owned(), path: path.to_owned() })
    }

    /// Refuses a directory whose content no booted image shows.
    fn check_kept(&self, descriptor: OwnedFd, path: &Path) -> Result<OwnedFd, Problem> {
        let real =
            fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).doing(|| path.display().to_string())?;
        let first = real.strip_prefix("/").unwrap_or(&real).components().next();
        match first.is_some_and(|first| NOT_OF_THE_IMAGE.iter().any(|kept| first.as_os_str() == *kept)) {
            true => Err(not_of_the_image(&self.shown(path))),
            false => Ok(descriptor),
        }
    }

    fn not_a_directory(&self, path: &Path) -> Problem {
        let ancestors: Vec<&Path> = path.ancestors().collect();
        let culprit = ancestors.iter().rev().find(|ancestor| !self.is_directory(ancestor)).unwrap_or(&path);
        Problem::refused(format!("{} is no directory in the tree", self.shown(culprit)))
    }

    fn leads_out(&self, path: &Path) -> Problem {
        let prefix = self.prefix.display();
        Problem::refused(format!("{} leads out of {prefix} by a link", self.shown(path)))
    }

    /// A path of this root as one of the tree, to show.
    fn shown(&self, path: &Path) -> String {
        self.prefix.join(relative(path)).display().to_string()
    }
}

fn not_of_the_image(path: &str) -> Problem {
    Problem::refused(format!("{path} lies where nothing of an image is seen once it has booted"))
        .hint("for what must be there after each boot, place a file in /etc/tmpfiles.d")
}

/// openat2(2) beneath a directory.
pub(super) fn resolve(
    directory: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if attempts < ATTEMPTS_MAX => attempts += 1,
            result => return Ok(result?),
        }
    }
}

impl Spot<'_> {
    /// What is there, without following a link.
    pub(super) fn kind(&self) -> Result<Option<FileType>, Problem> {
        match rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(FileType::from_raw_mode(status.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing(|| self.doing("look at")),
        }
    }

    /// Makes a regular file that is written by `write`, instead of any file or link that is there.
    pub(super) fn file(
        &self,
        ownership: Ownership,
        mode: u32,
        write: impl FnOnce(&mut std::fs::File) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.clear()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&self.parent, &self.name, flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(descriptor.doing(|| self.doing("make"))?);
        write(&mut file)?;
        // The owner first: changing it takes set-user-id away.
        self.own(&file, ownership)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).doing(|| self.doing("set the mode of"))
    }

    /// Makes a symbolic link, instead of any file or link that is there.
    pub(super) fn symlink(&self, target: &OsStr, ownership: Ownership) -> Result<(), Problem> {
        self.clear()?;
        rustix::fs::symlinkat(target, &self.parent, &self.name).doing(|| self.doing("make"))?;
        let (uid, gid) = ids(ownership);
        let owned = rustix::fs::chownat(&self.parent, &self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        owned.doing(|| self.doing("set the owner of"))
    }

    /// Makes one more name of `original`, instead of any file or link that is there.
    pub(super) fn hard_link(&self, original: &Spot<'_>) -> Result<(), Problem> {
        self.clear()?;
        rustix::fs::linkat(&original.parent, &original.name, &self.parent, &self.name, AtFlags::empty())
            .doing(|| self.doing("make"))
    }

    /// Makes a directory, or leaves the one that is there as it is. Returns whether it was made.
    pub(super) fn directory(&self, ownership: Ownership, mode: u32) -> Result<bool, Problem> {
        match self.kind()? {
            None => self.make_directory(ownership, mode).map(|()| true),
            Some(_) if self.root.is_directory(&self.path) => Ok(false),
            Some(FileType::Symlink) => Err(self.refused("is a link in the tree that leads to no directory")),
            Some(_) => Err(self.refused("is a file in the tree, where a directory is to be placed")),
        }
    }

    fn make_directory(&self, ownership: Ownership, mode: u32) -> Result<(), Problem> {
        rustix::fs::mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o700)).doing(|| self.doing("make"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.parent, &self.name, flags, Mode::empty()).doing(|| self.doing("open"))?;
        self.own(&made, ownership)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).doing(|| self.doing("set the mode of"))
    }

    /// Removes the file or link that is there.
    pub(super) fn remove(&self) -> Result<(), Problem> {
        rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty()).doing(|| self.doing("remove"))
    }

    /// Makes room: a file or link goes, a directory is an error.
    fn clear(&self) -> Result<(), Problem> {
        match self.kind()? {
            None => Ok(()),
            Some(FileType::Directory) => Err(self.in_the_way("is a directory in the tree")),
            Some(FileType::Symlink) if self.root.is_directory(&self.path) => {
                Err(self.in_the_way("is a link to a directory in the tree"))
            }
            Some(_) => rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty()).doing(|| self.doing("replace")),
        }
    }

    fn own(&self, descriptor: impl std::os::fd::AsFd, ownership: Ownership) -> Result<(), Problem> {
        let (uid, gid) = ids(ownership);
        rustix::fs::fchown(descriptor, uid, gid).doing(|| self.doing("set the owner of"))
    }

    fn in_the_way(&self, what: &str) -> Problem {
        let path = self.root.shown(&self.path);
        self.refused(what).hint(format!("to place something in that directory, write {path}/"))
    }

    fn refused(&self, what: &str) -> Problem {
        Problem::refused(format!("{} {what}", self.root.shown(&self.path)))
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} {}", self.root.shown(&self.path))
    }
}

fn ids(ownership: Ownership) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(ownership.uid)), Some(Gid::from_raw(ownership.gid)))
}

/// A path without the slash at its beginning.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
