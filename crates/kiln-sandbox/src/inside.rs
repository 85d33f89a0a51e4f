//! The two processes inside: the first of the namespace, and the one that does the work.
//!
//! The first ([`first`]) enters the tree, starts the worker and waits; when the worker ends, so does it, and the kernel
//! ends every process that is left. The worker ([`Inside`]) keeps root's capabilities, for our own code; programs that it
//! starts lose all but a few.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, set_child_subreaper,
    set_dumpable_behavior, set_parent_process_death_signal, setrlimit, setsid, wait,
};
use rustix::system::sethostname;
use rustix::thread::{UnshareFlags, set_name};

use crate::capability;
use crate::command::{Command, Console, Ending};
use crate::message::{Doing as _, Failure, Message, Reporter};
use crate::mount::{EMPTY, Entrance};
use crate::sandbox::{Limits, Sandbox};
use crate::{system, terminal};

/// How many descriptors a program may open: what systemd gives a service. Some programs close all that they might have.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// What the first process calls itself: Ansible, Puppet and many scripts learn from `/proc/1/comm` which init system a
/// machine has.
const FIRST_NAME: &CStr = c"systemd";

/// A tree, seen from inside.
#[derive(Debug)]
pub struct Inside<'a> {
    sandbox: &'a Sandbox,
    tree: OwnedFd,
}

/// Why a program in a tree could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start {program} in the tree")]
pub struct StartError {
    /// As the command names it.
    pub program: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Inside<'_> {
    /// The tree without anything mounted in it: its own `/dev`, `/tmp` and so on, for code that unpacks packages.
    ///
    /// The path is good in this process alone, and follows absolute symbolic links of the tree into the sandbox's root.
    #[must_use]
    pub fn tree(&self) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("/proc/self/fd/{}", self.tree.as_raw_fd()))
    }

    /// Shows a file or directory of the sandbox at another place too, where a file or directory is. What can only be read
    /// at the one can only be read at the other.
    ///
    /// # Errors
    /// If one of them is missing, or they are not of one kind.
    pub fn bind(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        Ok(mount_bind(from.as_str(), to.as_str())?)
    }

    /// Shows what is in a directory of the sandbox at another directory too, read-only, and so that mount tables do not tell
    /// where on the host it lies.
    ///
    /// # Errors
    /// If one of them is missing, or this kernel cannot lay one directory over another here.
    pub fn show(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        // An overlay that is only read needs two layers; the other has nothing.
        let options = format!("lowerdir={from}:{EMPTY},userxattr\0");
        let options = CStr::from_bytes_until_nul(options.as_bytes()).map_err(io::Error::other)?;
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
        Ok(mount("overlay", to.as_str(), "overlay", flags, options)?)
    }

    /// Takes away what was bound there, for every program that starts from now on.
    ///
    /// # Errors
    /// If nothing is bound there.
    pub fn unbind(&self, path: &Utf8Path) -> io::Result<()> {
        Ok(unmount(path.as_str(), UnmountFlags::DETACH)?)
    }

    /// Runs a program to its end. What it left running in the background is killed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, command: &Command) -> Result<Ending, StartError> {
        let failed = |source| StartError { program: command.program.clone(), source };
        let prepared = self.prepare(command);
        let status = match command.console {
            Console::Lines => run_silent(prepared),
            Console::Terminal => terminal::run(prepared),
        };
        let status = status.map_err(failed)?;
        end_all_others();
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Ending::Signal(signal.unwrap_or_default()),
        })
    }

    fn prepare(&self, command: &Command) -> std::process::Command {
        let mut prepared = std::process::Command::new(&command.program);
        prepared.args(&command.arguments).env_clear();
        prepared.envs(&self.sandbox.environment).envs(&command.environment);
        prepared.current_dir(command.working_directory.as_ref().unwrap_or(&self.sandbox.working_directory));
        prepared
    }
}

/// Runs a program that has nothing to read, and whose output is this process's.
fn run_silent(mut command: std::process::Command) -> io::Result<ExitStatus> {
    command.stdin(Stdio::null());
    system::before_exec(&mut command, || {
        setsid()?;
        capability::drop_for_programs()
    });
    command.status()
}

/// What the first process needs.
pub(crate) struct First<'a> {
    pub(crate) sandbox: &'a Sandbox,
    /// The process that started it, to die with.
    pub(crate) parent: &'a OwnedFd,
    pub(crate) reporter: &'a Reporter,
}

/// Lives as process 1: enters the tree, has `work` done, and ends everything.
pub(crate) fn first(this: &First<'_>, work: impl FnOnce(&Inside<'_>) -> Message) -> Result<(), Failure> {
    let sandbox = this.sandbox;
    die_with(this.parent)?;
    // Its memory and descriptors are nobody's business inside.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the first process".to_owned())?;
    set_name(FIRST_NAME).doing(|| "name the first process".to_owned())?;
    system::unshare(UnshareFlags::NEWNS).doing(|| "make a mount namespace".to_owned())?;
    sethostname(sandbox.hostname.as_bytes()).doing(|| format!("set the host name {}", sandbox.hostname))?;
    system::loopback_up().doing(|| "bring the loopback interface up".to_owned())?;
    let entrance = Entrance::prepare(&sandbox.binds)?;
    let tree = entrance.enter(sandbox.tree.lowers.len(), &sandbox.limits)?;
    limit(&sandbox.limits, sandbox.identity.is_user())?;
    let worker = system::fork(|| worker(&Inside { sandbox, tree }, this.reporter, work));
    let worker = worker.doing(|| "start a process".to_owned())?;
    wait_for(worker, this.reporter)
}

fn worker(inside: &Inside<'_>, reporter: &Reporter, work: impl FnOnce(&Inside<'_>) -> Message) -> i32 {
    let prepared = system::default_signals().and_then(|()| Ok(set_child_subreaper(Some(rustix::process::getpid()))?));
    let message = match prepared.doing(|| "prepare the worker".to_owned()) {
        Ok(()) => work(inside),
        Err(failure) => Message::Failed(failure),
    };
    reporter.send(&message);
    0
}

/// Collects every process that ends until the worker does.
fn wait_for(worker: Pid, reporter: &Reporter) -> Result<(), Failure> {
    loop {
        let ended = wait(WaitOptions::empty()).doing(|| "wait for the worker".to_owned())?;
        let Some((_, status)) = ended.filter(|(pid, _)| *pid == worker) else { continue };
        if status.exit_status() != Some(0) {
            reporter.send(&Message::Died { signal: status.terminating_signal() });
        }
        return Ok(());
    }
}

/// Has this process killed when the one behind `parent` ends, also if it has already.
pub(crate) fn die_with(parent: &OwnedFd) -> Result<(), Failure> {
    let doing = || "tie this process to its parent".to_owned();
    set_parent_process_death_signal(Some(Signal::KILL)).doing(doing)?;
    let mut descriptors = [PollFd::new(parent, PollFlags::IN)];
    let ended = poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).doing(doing)?;
    if ended == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)).doing(doing) }
}

fn limit(limits: &Limits, is_user: bool) -> Result<(), Failure> {
    set_limit(Resource::Core, 0, 0)?;
    set_limit(Resource::Nofile, OPEN_FILES.0, OPEN_FILES.1)?;
    if is_user {
        set_limit(Resource::Nproc, limits.processes.into(), limits.processes.into())?;
    }
    Ok(())
}

/// Sets a limit, no higher than the one there is.
fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), Failure> {
    let hard = getrlimit(resource).maximum.map_or(hard, |maximum| maximum.min(hard));
    let limit = Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) };
    setrlimit(resource, limit).doing(|| format!("limit {resource:?}"))
}

/// Kills every process of the namespace but the first and this one, and waits until they are gone.
fn end_all_others() {
    // Whatever lost its parent is this process's child: it asked for that.
    while system::kill_all_others().is_ok() && wait(WaitOptions::empty()).is_ok() {}
}
