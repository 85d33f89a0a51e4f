//! A limit on the number of processes for real root, whom the resource limit of that name does not bind.
//!
//! A control group of its own for each sandbox, in whichever hierarchy has the `pids` controller. Without one, root's
//! sandboxes have no such limit, and `kiln doctor` says so.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::{Pid, getpid};

/// How the names of our groups begin; then come the process that made it and a number.
const PREFIX: &str = "kiln-";

/// A group whose processes have all ended is still busy for a moment.
const REMOVALS_MAX: u32 = 200;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A control group, removed when dropped.
#[derive(Debug)]
pub(crate) struct Group(Utf8PathBuf);

impl Group {
    /// A group that may hold this many processes. None if this machine, or this user, cannot make one.
    pub(crate) fn new(processes_max: u32) -> Option<Self> {
        let parent = hierarchy()?;
        remove_abandoned(&parent);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = Self(parent.join(format!("{PREFIX}{}-{number}", getpid().as_raw_nonzero())));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join("pids.max"), processes_max.to_string()).ok()?;
        Some(group)
    }

    /// Moves a process, and with it all that it will start, into the group. False if the kernel refuses.
    pub(crate) fn take(&self, process: Pid) -> bool {
        fs::write(self.0.join("cgroup.procs"), process.as_raw_nonzero().to_string()).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..REMOVALS_MAX {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The directory in which groups with a limit on processes can be made.
fn hierarchy() -> Option<Utf8PathBuf> {
    let root = Utf8Path::new("/sys/fs/cgroup");
    let delegated = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    if delegated.split_whitespace().any(|controller| controller == "pids") {
        return Some(root.to_owned());
    }
    let own = own_group(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
    let path = root.join("pids").join(own.trim_start_matches('/'));
    path.is_dir().then_some(path)
}

/// The path of the calling process in the hierarchy of the `pids` controller, version 1, from `/proc/self/cgroup`.
fn own_group(text: &str) -> Option<String> {
    let mut lines = text.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(1).is_some_and(|names| names.split(',').any(|name| name == "pids")))?;
    line.get(2).map(|path| (*path).to_owned())
}

/// Removes the groups of processes that were killed before they could.
fn remove_abandoned(parent: &Utf8Path) {
    let Ok(entries) = parent.read_dir_utf8() else { return };
    for entry in entries.flatten() {
        let maker = entry.file_name().strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|maker| !Utf8Path::new("/proc").join(maker).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::own_group;

    #[test]
    fn the_own_group_is_found_in_either_version() {
        assert_eq!(own_group("9:name=systemd:/\n8:pids,cpu:/a:b\n0::/\n").as_deref(), Some("/a:b"));
        assert_eq!(own_group("0::/user.slice\n"), None);
    }
}
