//! Puts a tree together and makes it the root directory.
//!
//! 1. [`Base::mount`], in the outer process: a tmpfs of our own over `/sys`, in a mount namespace of our own. It holds the
//!    point where the tree is mounted, a symbolic link with a short name for each layer, and, where wanted, the layer that
//!    is being written.
//! 2. [`Entrance::prepare`], in the inner process: whatever comes from the host (directories to bind, device nodes) and
//!    the new `/proc` are taken hold of while they can still be named.
//! 3. [`Entrance::enter`]: the overlay is mounted and becomes the root; the host's root is gone. Everything else is mounted
//!    from inside, so that no symbolic link of the tree can lead out of it.
//!
//! The links are why 200 layers fit into the one page that mount(2) takes, whatever their real paths are and hold.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsmount, fsopen, mount, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::layer;
use crate::message::{Doing as _, Failure};
use crate::sandbox::{Bind, Limits, Tree, Upper};
use crate::system;

/// Where the base is mounted: a directory that every host has and whose contents nobody needs here.
const BASE: &str = "/sys";

/// Device nodes every program may expect: name, major, minor. Numbers: Documentation/admin-guide/devices.txt.
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links in `/dev`.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Parts of `/proc` through which root could change the host.
const PROC_READ_ONLY: &[&str] = &["acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger"];

/// Parts of `/proc` that tell about the host what is none of a tree's business.
const PROC_HIDDEN: &[&str] =
    &["kcore", "kmsg", "keys", "key-users", "timer_list", "latency_stats", "sched_debug", "modules"];

/// A directory that is empty in every sandbox.
pub(crate) const EMPTY: &str = "/sys/block";

/// Directories of `/sys`: one without any disk, which Facter lists, and that of the processors.
const SYS_DIRECTORIES: &[&str] = &[EMPTY, "/sys/devices/system/cpu"];

/// Which processors there are, as lscpu(1) and the C library ask: the first.
const SYS_PROCESSORS: &[&str] =
    &["/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/present"];

/// Room for them.
const SYS_BYTES: u64 = 1 << 20;

/// The group of terminals in Debian's base-passwd, to which new pseudo-terminals belong.
const TTY_GROUP: u32 = 5;

/// The tmpfs in which a tree is put together.
#[derive(Debug)]
pub(crate) struct Base<'a> {
    upper: &'a Upper,
}

impl<'a> Base<'a> {
    /// Mounts it, in a mount namespace of the calling process's own.
    pub(crate) fn mount(tree: &'a Tree, limits: &Limits) -> Result<Self, Failure> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .doing(|| "separate the mounts from the host's".to_owned())?;
        mount_tmpfs(BASE, "0755", limits.layer_bytes)?;
        for name in ["tree", "names", "upper", "work", "nothing"] {
            make_directory(&base(name), 0o755)?;
        }
        name_layers(tree)?;
        if let Upper::Directory(directory) = &tree.upper {
            prepare_upper(directory)?;
        }
        Ok(Self { upper: &tree.upper })
    }

    /// Brings the layer that was written into the form and place in which it is kept.
    ///
    /// Called when nothing runs in the tree any more.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        match self.upper {
            Upper::Discard => Ok(()),
            Upper::Directory(directory) => {
                remove_work(directory)?;
                layer::clean(directory.as_std_path()).doing(|| format!("finish the layer {directory}"))
            }
            Upper::Memory(directory) => {
                let from = base("upper");
                layer::copy(from.as_std_path(), directory.as_std_path())
                    .doing(|| format!("write the layer {directory}"))
            }
        }
    }
}

fn base(name: &str) -> Utf8PathBuf {
    Utf8Path::new(BASE).join(name)
}

/// Gives each layer a short name, the topmost first, as the option `lowerdir` wants them.
fn name_layers(tree: &Tree) -> Result<(), Failure> {
    for (number, lower) in tree.lowers.iter().rev().enumerate() {
        let is_directory = fs::metadata(lower).map(|metadata| metadata.is_dir());
        match is_directory.doing(|| format!("use the layer {lower}"))? {
            true if lower.is_absolute() => link(lower, &number.to_string())?,
            _ => return Err(io::Error::from(io::ErrorKind::NotADirectory)).doing(|| format!("use the layer {lower}")),
        }
    }
    link(&base("nothing"), "n")?;
    match &tree.upper {
        Upper::Directory(directory) => {
            link(directory, "u")?;
            link(&work(directory), "w")
        }
        Upper::Discard | Upper::Memory(_) => {
            link(&base("upper"), "u")?;
            link(&base("work"), "w")
        }
    }
}

fn link(to: &Utf8Path, name: &str) -> Result<(), Failure> {
    let path = base("names").join(name);
    fs::os::unix::fs::symlink(to, path).doing(|| format!("name the layer {to}"))
}

/// The directory beside a layer in which overlayfs prepares files.
fn work(directory: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{directory}.work"))
}

fn prepare_upper(directory: &Utf8Path) -> Result<(), Failure> {
    if !directory.is_dir() {
        make_directory(directory, 0o755)?;
    }
    remove_work(directory)?;
    make_directory(&work(directory), 0o700)
}

/// Removes the work directory of this run or of one that was killed.
fn remove_work(directory: &Utf8Path) -> Result<(), Failure> {
    match fs::remove_dir_all(work(directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("clear {}", work(directory)))
        }
        _ => Ok(()),
    }
}

/// What is taken along into the tree.
#[derive(Debug)]
pub(crate) struct Entrance {
    binds: Vec<(OwnedFd, Bind)>,
    devices: Vec<OwnedFd>,
    proc: OwnedFd,
}

impl Entrance {
    /// Takes hold of what only the host's root directory can name.
    pub(crate) fn prepare(binds: &[Bind]) -> Result<Self, Failure> {
        let binds = binds.iter().map(|bind| Ok((open_bind(bind)?, bind.clone()))).collect::<Result<_, _>>()?;
        let devices = DEVICES.iter().map(|(name, ..)| clone_mount(&format!("/dev/{name}")));
        // Without the host's nodes root can still make its own.
        let devices = devices.collect::<Result<_, _>>().unwrap_or_default();
        Ok(Self { binds, devices, proc: new_proc()? })
    }

    /// Makes the tree the root directory. Returns the tree without anything mounted in it.
    pub(crate) fn enter(self, lowers: usize, limits: &Limits) -> Result<OwnedFd, Failure> {
        mount_overlay(lowers)?;
        change_root()?;
        let tree = clone_one_mount("/")?;
        attach_new(self.proc.as_fd(), Utf8Path::new("/proc"))?;
        protect_proc()?;
        mount_devices(&self.devices, limits)?;
        mount_sys()?;
        for (path, mode) in [("/run", "0755"), ("/tmp", "1777")] {
            mount_point(path)?;
            mount_tmpfs(path, mode, limits.temporary_bytes)?;
        }
        for (source, bind) in &self.binds {
            attach_bind(source, bind)?;
        }
        Ok(tree)
    }
}

/// Mounts the overlay.
///
/// `userxattr`: overlayfs keeps its marks in `user.overlay.*`, which an ordinary user can write too, so that the layers of
/// root and of a user are the same. `index=off,xino=off`: whatever this kernel was built with. `volatile`: nothing is
/// flushed to the disk; who keeps a layer flushes it once.
fn mount_overlay(lowers: usize) -> Result<(), Failure> {
    let doing = || format!("lay {lowers} layers over each other");
    chdir(base("names").as_str()).doing(doing)?;
    let names: Vec<String> = (0..lowers).map(|number| number.to_string()).chain(["n".to_owned()]).collect();
    let options = format!("lowerdir={},upperdir=u,workdir=w,userxattr,index=off,xino=off,volatile\0", names.join(":"));
    let options = std::ffi::CStr::from_bytes_until_nul(options.as_bytes()).map_err(io::Error::other).doing(doing)?;
    mount("overlay", base("tree").as_str(), "overlay", MountFlags::NODEV, options).doing(doing)
}

fn change_root() -> Result<(), Failure> {
    let doing = || "make the tree the root directory".to_owned();
    chdir(base("tree").as_str()).doing(doing)?;
    pivot_root(".", ".").doing(doing)?;
    // The old root lies over the new one now; below it, nothing of the host can be reached any more.
    unmount(".", UnmountFlags::DETACH).doing(doing)?;
    chdir("/").doing(doing)
}

/// A `/proc` of the calling process's namespace of processes.
fn new_proc() -> Result<OwnedFd, Failure> {
    let doing = || "mount /proc".to_owned();
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).doing(doing)?;
    fsconfig_create(&context).doing(doing)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing(doing)
}

fn protect_proc() -> Result<(), Failure> {
    for name in PROC_READ_ONLY {
        let path = Utf8Path::new("/proc").join(name);
        if path.exists() {
            let part = clone_mount(path.as_str())?;
            system::make_read_only(&part).doing(|| format!("protect {path}"))?;
            attach(part.as_fd(), &path)?;
        }
    }
    Ok(())
}

/// Hardware is the host's affair: a `/sys` that is the same everywhere, with as much as programs take for granted.
fn mount_sys() -> Result<(), Failure> {
    mount_point("/sys")?;
    mount_tmpfs("/sys", "0755", Some(SYS_BYTES))?;
    for path in SYS_DIRECTORIES {
        fs::create_dir_all(path).doing(|| format!("make {path}"))?;
    }
    for path in SYS_PROCESSORS {
        fs::write(path, "0\n").doing(|| format!("make {path}"))?;
    }
    let root = rustix::fs::open("/sys", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    system::make_read_only(root.doing(|| "open /sys".to_owned())?).doing(|| "make /sys read-only".to_owned())
}

fn mount_devices(host: &[OwnedFd], limits: &Limits) -> Result<(), Failure> {
    mount_point("/dev")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    // A megabyte: room for nodes and links, not for files.
    mount("tmpfs", "/dev", "tmpfs", flags, c"mode=0755,size=1m").doing(|| "mount /dev".to_owned())?;
    for (index, (name, major, minor)) in DEVICES.iter().enumerate() {
        make_device(&format!("/dev/{name}"), *major, *minor, host.get(index))?;
    }
    for (name, to) in DEVICE_LINKS {
        fs::os::unix::fs::symlink(to, format!("/dev/{name}")).doing(|| format!("link /dev/{name}"))?;
    }
    make_directory(Utf8Path::new("/dev/pts"), 0o755)?;
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={TTY_GROUP}\0");
    let options = std::ffi::CStr::from_bytes_until_nul(options.as_bytes()).map_err(io::Error::other);
    let options = options.doing(|| "mount /dev/pts".to_owned())?;
    mount("devpts", "/dev/pts", "devpts", flags, options).doing(|| "mount /dev/pts".to_owned())?;
    make_directory(Utf8Path::new("/dev/shm"), 0o1777)?;
    mount_tmpfs("/dev/shm", "1777", limits.temporary_bytes)?;
    for name in PROC_HIDDEN {
        let path = Utf8Path::new("/proc").join(name);
        if path.exists() {
            attach(clone_mount("/dev/null")?.as_fd(), &path)?;
        }
    }
    Ok(())
}

/// Makes a device node of our own, so that nobody inside can change the host's; binds the host's where only that is allowed.
fn make_device(path: &str, major: u32, minor: u32, host: Option<&OwnedFd>) -> Result<(), Failure> {
    let mode = Mode::from_raw_mode(0o666);
    let made = mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor));
    match (made, host) {
        (Err(rustix::io::Errno::PERM), Some(host)) => {
            fs::write(path, "").doing(|| format!("make {path}"))?;
            attach(host.as_fd(), Utf8Path::new(path))
        }
        (made, _) => {
            made.doing(|| format!("make {path}"))?;
            set_mode(Utf8Path::new(path), 0o666)
        }
    }
}

fn open_bind(bind: &Bind) -> Result<OwnedFd, Failure> {
    let source = clone_mount(bind.from.as_str())?;
    if bind.read_only {
        system::make_read_only(&source).doing(|| format!("make {} read-only", bind.from))?;
    }
    Ok(source)
}

fn attach_bind(source: &OwnedFd, bind: &Bind) -> Result<(), Failure> {
    let kind = rustix::fs::fstat(source).doing(|| format!("bind {}", bind.from))?;
    if FileType::from_raw_mode(kind.st_mode) == FileType::Directory {
        return attach_new(source.as_fd(), &bind.to);
    }
    if !bind.to.exists() {
        let parent = bind.to.parent().unwrap_or(Utf8Path::new("/"));
        fs::create_dir_all(parent).doing(|| format!("make {parent}"))?;
        fs::write(&bind.to, "").doing(|| format!("make {}", bind.to))?;
    }
    attach(source.as_fd(), &bind.to)
}

/// A mount, with all mounts below it, that is attached nowhere yet.
fn clone_mount(path: &str) -> Result<OwnedFd, Failure> {
    clone_with(path, OpenTreeFlags::AT_RECURSIVE)
}

/// A mount without those below it, attached nowhere.
fn clone_one_mount(path: &str) -> Result<OwnedFd, Failure> {
    clone_with(path, OpenTreeFlags::empty())
}

fn clone_with(path: &str, flags: OpenTreeFlags) -> Result<OwnedFd, Failure> {
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).doing(|| format!("take hold of {path}"))
}

fn attach_new(source: impl AsFd, to: &Utf8Path) -> Result<(), Failure> {
    mount_point(to.as_str())?;
    attach(source, to)
}

fn attach(source: impl AsFd, to: &Utf8Path) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(source, "", CWD, to.as_str(), flags).doing(|| format!("mount {to}"))
}

fn mount_point(path: &str) -> Result<(), Failure> {
    fs::create_dir_all(path).doing(|| format!("make the directory {path} in the tree"))
}

fn mount_tmpfs(path: &str, mode: &str, size_bytes: Option<u64>) -> Result<(), Failure> {
    let size = match size_bytes {
        // To tmpfs a size of 0 is no limit; the directory itself needs no page.
        Some(0) => ",nr_inodes=1".to_owned(),
        Some(size_bytes) => format!(",size={size_bytes}"),
        None => String::new(),
    };
    let options = format!("mode={mode}{size}\0");
    let doing = || format!("mount a tmpfs on {path}");
    let options = std::ffi::CStr::from_bytes_until_nul(options.as_bytes()).map_err(io::Error::other).doing(doing)?;
    let read_only = if size_bytes == Some(0) { MountFlags::RDONLY } else { MountFlags::empty() };
    mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV | read_only, options).doing(doing)
}

fn make_directory(path: &Utf8Path, mode: u32) -> Result<(), Failure> {
    fs::create_dir(path).doing(|| format!("make the directory {path}"))?;
    set_mode(path, mode)
}

fn set_mode(path: &Utf8Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).doing(|| format!("set the mode of {path}"))
}
