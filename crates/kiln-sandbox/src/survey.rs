//! What this machine allows, found by trying it, and the cure for what it does not.
//!
//! Nothing is inferred from versions where it can be tried: a sandbox is made and layers are written beside the store, in a
//! directory that is removed again.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::fs::XattrFlags;
use rustix::process::{WaitOptions, geteuid, getpid, getuid, waitpid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::capability::FILE_CAPABILITY;
use crate::cgroup::Group;
use crate::identity::{self, IDS, Identity};
use crate::layer;
use crate::sandbox::{Sandbox, SandboxError, Tree, Upper};
use crate::{CancelToken, system};

/// The first kernel with all system calls that sandboxes are made of (the youngest is mount_setattr).
const KERNEL: (u32, u32) = (5, 12);

/// With less memory available, trees are better made on disk.
const MEMORY_BYTES: u64 = 2 << 30;

/// A class with its packages and layers needs about this much.
const DISK_BYTES: u64 = 4 << 30;

/// A capability set to try: `cap_net_raw=ep`, version 2 of `struct vfs_cap_data`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All that can be wished for.
    Ok,
    /// Kiln works, and takes longer.
    Slower,
    /// Kiln works, and a program that runs wild can do more harm.
    Weaker,
    /// Kiln cannot build.
    Missing,
}

/// One thing that Kiln needs or can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub name: &'static str,
    /// How good it is.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// The command or setting that mends it.
    pub cure: Option<String>,
}

/// All findings, in an order in which a person can mend them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// Whether Kiln can build on this machine.
    #[must_use]
    pub fn can_work(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Missing)
    }

    /// Tries what a machine with its store in this directory, which need not exist yet, allows the calling user.
    #[must_use]
    pub fn of(store: &Utf8Path) -> Self {
        let place = existing(store);
        let mut findings = vec![kernel(&rustix::system::uname().release().to_string_lossy())];
        if !geteuid().is_root() {
            findings.push(user_namespaces());
        }
        match Identity::of_caller() {
            Ok(identity) => {
                findings.push(ids(identity));
                findings.extend(sandbox(&place, identity));
                findings.push(process_limit(identity));
            }
            Err(error) => findings.push(missing(
                "ids",
                error.to_string(),
                error.hint().unwrap_or_else(|| "run Kiln as root".to_owned()),
            )),
        }
        findings.extend([memory(), disk(&place), kvm()]);
        Self { findings }
    }
}

fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { name, state: State::Ok, detail: detail.into(), cure: None }
}

fn missing(name: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { name, state: State::Missing, detail: detail.into(), cure: Some(cure.into()) }
}

fn slower(name: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { name, state: State::Slower, detail: detail.into(), cure: Some(cure.into()) }
}

/// The directory, or the nearest above it that exists.
fn existing(path: &Utf8Path) -> Utf8PathBuf {
    path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Utf8Path::new("/")).to_owned()
}

fn kernel(release: &str) -> Finding {
    let (major, minor) = KERNEL;
    match version(release) {
        Some(version) if version < KERNEL => {
            missing("kernel", format!("Linux {release}"), format!("use Linux {major}.{minor} or newer"))
        }
        _ => ok("kernel", format!("Linux {release}")),
    }
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn ids(identity: Identity) -> Finding {
    let Identity::User(user) = identity else { return ok("ids", "root: all ids are real") };
    let range = |first: u32| format!("{first}-{}", first.saturating_add(IDS - 1));
    ok("ids", format!("users {} and groups {}", range(user.first_uid), range(user.first_gid)))
}

fn user_namespaces() -> Finding {
    let name = "user namespaces";
    let tried = system::fork(|| match system::unshare(UnshareFlags::NEWUSER) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EPERM),
    });
    let status = tried.and_then(|child| Ok(waitpid(Some(child), WaitOptions::empty())?));
    match status.map(|ended| ended.and_then(|(_, status)| status.exit_status())) {
        Ok(Some(0)) => ok(name, "an ordinary user may make them"),
        Ok(code) => {
            let error = io::Error::from_raw_os_error(code.unwrap_or(libc::EPERM));
            missing(name, format!("refused: {error}"), namespace_cure(&|path| fs::read_to_string(path).ok()))
        }
        Err(error) => missing(name, error.to_string(), "end other programs, or raise the limit on processes"),
    }
}

/// The settings of various kernels that forbid user namespaces, with the value that does, and what allows them.
const FORBIDDING: &[(&str, &str, &str)] = &[
    ("/proc/sys/user/max_user_namespaces", "0", "as root: sysctl user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "as root: sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give kiln an AppArmor profile with `userns,`",
    ),
];

fn namespace_cure(read: &dyn Fn(&str) -> Option<String>) -> String {
    let forbids = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    let found = FORBIDDING.iter().find(|(path, value, _)| forbids(path, value));
    let otherwise = "run Kiln outside this container, or let the container make user namespaces";
    found.map_or(otherwise, |(_, _, cure)| cure).to_owned()
}

/// What a sandbox found out; words where something failed.
#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    layers: Result<(), String>,
    capability: Result<(), String>,
    memory: Result<(), String>,
}

fn sandbox(place: &Utf8Path, identity: Identity) -> Vec<Finding> {
    let directory = place.join(format!(".kiln-doctor-{}", getpid().as_raw_nonzero()));
    if let Err(error) = fs::create_dir(&directory) {
        let cure = "make the store's directory yours to write, or set XDG_CACHE_HOME to one that is";
        return vec![missing("store", error.to_string(), cure)];
    }
    let fitting = Upper::fitting(directory.join("layer"));
    let tried = try_layers(&directory, identity);
    let removed = layer::remove_tree(&directory, identity);
    if removed.is_err() {
        // Where nobody can become root inside, nothing was written by anybody else.
        let _ = fs::remove_dir_all(&directory);
    }
    match (tried, removed) {
        (Ok(tried), Ok(())) => judge(place, tried, matches!(fitting, Ok(Upper::Directory(_)))),
        (Err(error), _) | (_, Err(error)) => vec![missing("sandbox", in_full(&error), sandbox_cure(identity))],
    }
}

/// Writes a layer, and on top of it another that removes and replaces what is in it.
fn try_layers(directory: &Utf8Path, identity: Identity) -> Result<Tried, SandboxError> {
    let cancel = CancelToken::new().map_err(|source| SandboxError::Start { source })?;
    let fitting = |name| Upper::fitting(directory.join(name)).map_err(|source| SandboxError::Start { source });
    let lower = Sandbox::new(Tree { lowers: Vec::new(), upper: fitting("lower")? }, identity);
    let made: Result<(), String> = lower.call(
        |_| {
            let made = fs::create_dir("/directory").and_then(|()| fs::write("/directory/file", ""));
            made.map_err(|error| error.to_string())
        },
        &mut |_| {},
        &cancel,
    )?;
    let tree = Tree { lowers: vec![directory.join("lower")], upper: fitting("layer")? };
    let mut tried = Sandbox::new(tree, identity).call(|_| try_inside(), &mut |_| {}, &cancel)?;
    tried.layers = made.and(tried.layers);
    Ok(tried)
}

fn try_inside() -> Tried {
    let replaced = fs::remove_dir_all("/directory").and_then(|()| fs::create_dir("/directory"));
    Tried {
        layers: replaced.map_err(|error| error.to_string()),
        capability: try_attribute("/file", FILE_CAPABILITY, &CAPABILITY),
        memory: try_attribute("/tmp/file", "user.kiln", b"y"),
    }
}

fn try_attribute(path: &str, name: &str, value: &[u8]) -> Result<(), String> {
    fs::write(path, "").map_err(|error| error.to_string())?;
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).map_err(|error| io::Error::from(error).to_string())
}

fn judge(place: &Utf8Path, tried: Tried, at_once: bool) -> Vec<Finding> {
    let elsewhere = "set XDG_CACHE_HOME to a directory on ext4, xfs or btrfs";
    let layers = match tried.layers {
        Ok(()) if at_once => ok("layers", format!("are written at once to {place}")),
        Ok(()) => {
            slower("layers", format!("go through memory: {place} cannot carry them while they are written"), elsewhere)
        }
        Err(error) => missing("layers", error, elsewhere),
    };
    let capability = match tried.capability {
        Ok(()) => ok("file capabilities", "can be kept"),
        Err(error) => missing("file capabilities", error, elsewhere),
    };
    let tmpfs = match tried.memory {
        Ok(()) => ok("layers in memory", "are possible"),
        Err(error) => slower("layers in memory", error, "use Linux 6.6 or newer"),
    };
    vec![ok("sandbox", "namespaces, overlay and /proc work"), layers, capability, tmpfs]
}

fn sandbox_cure(identity: Identity) -> &'static str {
    match identity {
        Identity::Root => "run Kiln outside this container, as an ordinary user, or with the container's CAP_SYS_ADMIN",
        Identity::User(_) => "run Kiln outside this container, or as root",
    }
}

/// An error and its causes on one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn process_limit(identity: Identity) -> Finding {
    let name = "process limit";
    if identity.is_user() {
        return ok(name, "by resource limit");
    }
    match Group::new(1) {
        Some(_) => ok(name, "by control group"),
        None => Finding {
            name,
            state: State::Weaker,
            detail: "root's programs may start as many processes as they like".to_owned(),
            cure: Some("run Kiln as an ordinary user, or give it a control group with the pids controller".to_owned()),
        },
    }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(available) = available_bytes(&text) else { return ok("memory", "unknown") };
    let detail = format!("{} available", mebibytes(available));
    match available < MEMORY_BYTES {
        true => slower("memory", detail, format!("trees are made on disk with less than {}", mebibytes(MEMORY_BYTES))),
        false => ok("memory", detail),
    }
}

/// What `/proc/meminfo` says is available (proc_meminfo(5)).
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

fn disk(place: &Utf8Path) -> Finding {
    let free = match rustix::fs::statvfs(place.as_std_path()) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return missing("disk", io::Error::from(error).to_string(), "set XDG_CACHE_HOME to another disk"),
    };
    let detail = format!("{} free at {place}", mebibytes(free));
    match free < DISK_BYTES {
        true => {
            let cure = format!("make room for {}, or set XDG_CACHE_HOME to a larger disk", mebibytes(DISK_BYTES));
            missing("disk", detail, cure)
        }
        false => ok("disk", detail),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Whether the device opens. Whether a machine runs with it is for who boots one to find out.
fn kvm() -> Finding {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match opened.map_err(|error| error.kind()) {
        Ok(_) => ok("kvm", "/dev/kvm opens"),
        Err(io::ErrorKind::PermissionDenied) => {
            let user = fs::read_to_string("/etc/passwd").ok();
            let user = user.and_then(|passwd| identity::user_name(&passwd, getuid().as_raw()));
            let user = user.unwrap_or_else(|| getuid().as_raw().to_string());
            let cure = format!("as root: usermod --append --groups kvm {user}; then log in again");
            slower("kvm", "/dev/kvm may not be opened: machines are emulated", cure)
        }
        Err(_) => {
            let cure = "enable virtualization in the firmware or the host's hypervisor; as root: modprobe kvm";
            slower("kvm", "there is no /dev/kvm: machines are emulated", cure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        let state = |release| kernel(release).state;
        assert_eq!(state("5.10.0-33-amd64"), State::Missing);
        assert_eq!(state("5.12"), State::Ok);
        assert_eq!(state("6.1.0-rc1+"), State::Ok);
        assert_eq!(state("10.0"), State::Ok);
        assert_eq!(state("strange"), State::Ok);
    }

    #[test]
    fn what_forbids_namespaces_is_named_with_its_cure() {
        let cure = |path: &str, value: &str| namespace_cure(&|asked| (asked == path).then(|| format!("{value}\n")));
        assert_eq!(cure("/proc/sys/user/max_user_namespaces", "0"), FORBIDDING[0].2);
        assert_eq!(cure("/proc/sys/kernel/unprivileged_userns_clone", "0"), FORBIDDING[1].2);
        assert_eq!(cure("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"), FORBIDDING[2].2);
        assert!(cure("/proc/sys/kernel/unprivileged_userns_clone", "1").contains("outside this container"));
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn what_was_tried_is_judged() {
        let judged = |layers: Result<(), String>, at_once| {
            let tried = Tried { layers, capability: Ok(()), memory: Err("no".to_owned()) };
            judge(Utf8Path::new("/store"), tried, at_once).iter().map(|finding| finding.state).collect::<Vec<_>>()
        };
        use State::{Missing, Ok as Fine, Slower};
        assert_eq!(judged(Ok(()), true), [Fine, Fine, Fine, Slower]);
        assert_eq!(judged(Ok(()), false), [Fine, Slower, Fine, Slower]);
        assert_eq!(judged(Err("no".to_owned()), true), [Fine, Missing, Fine, Slower]);
    }

    #[test]
    fn every_finding_that_is_not_ok_has_a_cure() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let survey = Survey::of(&path.join("not/there/yet"));
        for finding in &survey.findings {
            assert!(finding.state == State::Ok || finding.cure.is_some(), "{finding:?}");
        }
        assert_eq!(path.read_dir_utf8().unwrap().count(), 0, "nothing is left");
    }
}
