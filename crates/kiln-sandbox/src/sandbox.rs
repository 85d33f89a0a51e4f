//! What a sandbox is made of, and what one can do with it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, waitpid};
use rustix::thread::UnshareFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::CancelToken;
use crate::command::{Command, Console, Ending, Exit};
use crate::identity::{Identity, IdentityError};
use crate::inside::{First, Inside, StartError, first};
use crate::launch::{CANCEL, Launch, Outcome, TIME_OUT};
use crate::layer;
use crate::message::{Doing as _, Failure, Message, Reporter};
use crate::mount::Base;
use crate::system;
use crate::terminal::Raw;

/// Bytes that a stream holds between its writer and its reader: what the kernel allows everybody.
const STREAM_BYTES: usize = 1 << 20;

/// A tree and the conditions under which programs run in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// What the root directory is made of.
    pub tree: Tree,
    /// Files and directories of the host that are to be seen inside.
    pub binds: Vec<Bind>,
    /// The host name inside.
    pub hostname: String,
    /// The whole environment of programs; nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// Where programs start.
    pub working_directory: Utf8PathBuf,
    /// What programs may use up.
    pub limits: Limits,
    /// Who root inside is outside.
    pub identity: Identity,
}

/// A root directory made of layers.
///
/// The directories `/dev`, `/proc`, `/run`, `/sys` and `/tmp`, and the targets of binds, are made in it if they are missing,
/// and are part of the layer then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Layers from bottom to top, absolute paths; at most 499. None at all is an empty tree.
    pub lowers: Vec<Utf8PathBuf>,
    /// Where changes go.
    pub upper: Upper,
}

/// Where the changes to a tree go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// Nowhere: they are held in memory while the sandbox lives.
    Discard,
    /// Into this directory, at once. It is made if it is missing, and continued if it is not. Until the sandbox ends there
    /// is a directory with `.work` added to its name beside it. Nothing is flushed to the disk: who keeps the layer does.
    Directory(Utf8PathBuf),
    /// Into memory, and when the sandbox ends, unless it is cancelled, into this directory, which must be missing or empty.
    Memory(Utf8PathBuf),
}

/// A file or directory of the host that is seen inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Where it is on the host.
    pub from: Utf8PathBuf,
    /// Where it is inside, absolute.
    pub to: Utf8PathBuf,
    /// Whether programs may only read it.
    pub read_only: bool,
}

/// What programs in a sandbox may use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads at a time. For real root this needs a control group; see `kiln doctor`.
    pub processes: u32,
    /// Bytes of memory for a layer that is held there; half of the machine's if not given.
    pub layer_bytes: Option<u64>,
    /// Bytes of memory for each of `/tmp`, `/run` and `/dev/shm`; half of the machine's if not given.
    pub temporary_bytes: Option<u64>,
    /// After this time everything is killed.
    pub timeout: Option<Duration>,
}

impl Default for Limits {
    /// Room for any maintainer script, and too little for a fork bomb to hurt; an hour.
    fn default() -> Self {
        Self { processes: 4096, layer_bytes: None, temporary_bytes: None, timeout: Some(Duration::from_secs(3600)) }
    }
}

/// Why a sandbox could not do its work. A program that fails is no error: see [`Exit`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The calling user cannot be root inside.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No process could be started.
    #[error("start a process")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The running processes could not be listened to.
    #[error("watch the sandbox")]
    Watch {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something could not be done in the sandbox.
    #[error("{doing}")]
    Inside {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
        /// What was written before.
        last_lines: Vec<String>,
    },
    /// Our function panicked.
    #[error("finish in the sandbox: panic: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
        /// What was written before.
        last_lines: Vec<String>,
    },
    /// A process that the sandbox needs was killed.
    #[error("finish in the sandbox: {}", killed(*.signal))]
    Died {
        /// The signal that killed our function, if it was that; otherwise the processes around it were.
        signal: Option<i32>,
        /// What was written before.
        last_lines: Vec<String>,
    },
    /// Our function was ended by the time limit or a cancel token.
    #[error("finish in the sandbox: it {ending}")]
    Stopped {
        /// By which.
        ending: Ending,
    },
    /// What our function returned does not survive the way out.
    #[error("take the result out of the sandbox")]
    Result(#[source] serde_json::Error),
    /// A tree could not be removed.
    #[error("remove {path}")]
    Remove {
        /// The tree.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn killed(signal: Option<i32>) -> String {
    signal.map_or_else(|| "killed from outside".to_owned(), |signal| format!("killed by signal {signal}"))
}

impl SandboxError {
    /// What was written before.
    #[must_use]
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Inside { last_lines, .. } | Self::Panicked { last_lines, .. } | Self::Died { last_lines, .. } => {
                last_lines
            }
            _ => &[],
        }
    }

    /// The command that mends it, or what to look at.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Identity(error) => error.hint(),
            Self::Inside { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("kiln doctor says what this machine does not allow".to_owned())
            }
            Self::Inside { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("kiln doctor says how much memory and disk there is".to_owned())
            }
            _ => None,
        }
    }
}

impl Upper {
    /// A layer in this directory, whose parent exists: written at once where the file system can carry that, through memory
    /// where it cannot. The latter is slower; tell the user.
    ///
    /// # Errors
    /// If the file system cannot be asked.
    pub fn fitting(directory: Utf8PathBuf) -> io::Result<Self> {
        let parent = directory.parent().unwrap_or(&directory);
        let carries = layer::carries_upper(parent)?;
        Ok(if carries { Self::Directory(directory) } else { Self::Memory(directory) })
    }
}

impl Sandbox {
    /// A sandbox with a constant host name and environment, no binds, the default limits.
    #[must_use]
    pub fn new(tree: Tree, identity: Identity) -> Self {
        let environment = [
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("LOGNAME", "root"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("SHELL", "/bin/sh"),
            ("TERM", "dumb"),
            ("TZ", "UTC"),
            ("USER", "root"),
        ];
        Self {
            tree,
            binds: Vec::new(),
            hostname: "kiln".to_owned(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            working_directory: "/".into(),
            limits: Limits::default(),
            identity,
        }
    }

    /// Runs one program to its end, and ends everything that it started. Each line it writes goes to `on_line`.
    ///
    /// # Errors
    /// If the sandbox cannot be made or the program cannot be started; not if it fails.
    pub fn run(
        &self,
        command: &Command,
        on_line: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Exit, SandboxError> {
        let started = Instant::now();
        let _raw = match command.console {
            Console::Terminal => Raw::enter().map_err(|source| SandboxError::Start { source })?,
            Console::Lines => None,
        };
        let outcome = self.launch(command.console, on_line, cancel, |inside| {
            inside
                .run(command)
                .map_or_else(|error| Message::Failed(not_started(error)), |ending| Message::of(|| ending))
        })?;
        let ending = match (outcome.stopped, outcome.value) {
            (Some(stopped), _) => stopped,
            (None, value) => from_json(&value.unwrap_or_default())?,
        };
        Ok(Exit { ending, last_lines: outcome.last_lines, took: started.elapsed() })
    }

    /// Runs one function of ours in the tree, as root with all its capabilities, in a process of its own.
    ///
    /// What it changes in memory is lost; what it returns comes back through [`serde`]; lines that it, or a program it runs,
    /// writes go to `on_line`. Descriptors that are open when it is called are closed inside: it opens its own. It must not
    /// wait for a lock that another thread of the caller may hold.
    ///
    /// # Errors
    /// If the sandbox cannot be made, the function panics, is killed, takes too long or is cancelled.
    pub fn call<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce(&Inside<'_>) -> T,
        on_line: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<T, SandboxError> {
        result(self.launch(Console::Lines, on_line, cancel, |inside| Message::of(|| work(inside)))?)
    }

    fn launch(
        &self,
        console: Console,
        on_line: &mut dyn FnMut(&str),
        cancel: &CancelToken,
        work: impl FnOnce(&Inside<'_>) -> Message,
    ) -> Result<Outcome, SandboxError> {
        let Limits { timeout, processes, .. } = self.limits;
        let processes_max = (!self.identity.is_user()).then_some(processes);
        let identity = self.identity;
        let launch = Launch { identity, console, timeout, processes_max, kept: None, on_line, cancel };
        launch.run(|reporter| self.outer(reporter, work))
    }

    /// In the outer process: the namespaces, the tree, the first process, and the layer it leaves.
    fn outer(&self, reporter: &Reporter, work: impl FnOnce(&Inside<'_>) -> Message) -> Result<(), Failure> {
        let namespaces = UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWCGROUP;
        system::unshare(namespaces).doing(|| "make namespaces".to_owned())?;
        let base = Base::mount(&self.tree, &self.limits)?;
        let parent = pidfd_open(getpid(), PidfdFlags::empty()).doing(|| "find this process".to_owned())?;
        let child = system::fork(|| {
            let this = First { sandbox: self, parent: &parent, reporter };
            first(&this, work).map_or_else(
                |failure| {
                    reporter.send(&Message::Failed(failure));
                    1
                },
                |()| 0,
            )
        });
        match end_of(child.doing(|| "start a process".to_owned())?)? {
            Some(CANCEL) => Ok(()),
            _ => base.settle(),
        }
    }
}

impl Identity {
    /// Runs one function of ours as root of this identity, in a process of its own that sees the host's tree: for files
    /// that belong to subordinate ids. The rules of [`Sandbox::call`] hold.
    ///
    /// # Errors
    /// If the identity cannot be taken, or the function panics or is killed.
    pub fn act<T: Serialize + DeserializeOwned>(self, work: impl FnOnce() -> T) -> Result<T, SandboxError> {
        self.act_with(None, work)
    }

    /// As [`Identity::act`], for a function that gives more than a value: what it writes goes to `reader`, which runs
    /// meanwhile in a thread of this process. If `reader` ends early, the function's writing fails.
    ///
    /// # Errors
    /// As [`Identity::act`]; and if `reader` panics.
    pub fn stream<T: Serialize + DeserializeOwned, R: Send>(
        self,
        work: impl FnOnce(&mut dyn io::Write) -> T,
        reader: impl FnOnce(std::fs::File) -> R + Send,
    ) -> Result<(T, R), SandboxError> {
        let start = |source: Errno| SandboxError::Start { source: source.into() };
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).map_err(start)?;
        // Fewer turns between writer and reader; the kernel may refuse, and then it is merely slower.
        let _ = fcntl_setpipe_size(&to, STREAM_BYTES);
        let to = std::fs::File::from(to);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || reader(from.into()));
            let value = self.act_with(Some(to.as_fd()), || work(&mut &to));
            // The reader waits for the end of the stream.
            drop(to);
            let read = reader.join();
            let panicked = |_| SandboxError::Panicked { message: "in the reader".to_owned(), last_lines: Vec::new() };
            Ok((value?, read.map_err(panicked)?))
        })
    }

    fn act_with<T: Serialize + DeserializeOwned>(
        self,
        kept: Option<BorrowedFd<'_>>,
        work: impl FnOnce() -> T,
    ) -> Result<T, SandboxError> {
        let cancel = CancelToken::new().map_err(|source| SandboxError::Start { source })?;
        let launch = Launch {
            identity: self,
            console: Console::Lines,
            timeout: None,
            processes_max: None,
            kept,
            on_line: &mut |_| {},
            cancel: &cancel,
        };
        result(launch.run(|reporter| {
            reporter.send(&Message::of(work));
            Ok(())
        })?)
    }
}

/// In the outer process: waits until the first process has ended, or ends it when told to. Returns what it was told.
fn end_of(child: Pid) -> Result<Option<Signal>, Failure> {
    let doing = || "wait for the sandbox to end".to_owned();
    let mut told = None;
    loop {
        match system::wait_for_signal(&[Signal::CHILD, CANCEL, TIME_OUT]).doing(doing)? {
            Signal::CHILD => {
                if waitpid(Some(child), WaitOptions::NOHANG).doing(doing)?.is_some() {
                    return Ok(told);
                }
            }
            signal => {
                told = Some(signal);
                kill_process(child, Signal::KILL).doing(doing)?;
            }
        }
    }
}

fn not_started(error: StartError) -> Failure {
    let StartError { program, source } = error;
    Failure { doing: format!("start {program}"), errno: source.raw_os_error(), message: source.to_string() }
}

fn result<T: DeserializeOwned>(outcome: Outcome) -> Result<T, SandboxError> {
    match (outcome.value, outcome.stopped) {
        (Some(value), None) => from_json(&value),
        (_, ending) => Err(SandboxError::Stopped { ending: ending.unwrap_or(Ending::Cancelled) }),
    }
}

fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, SandboxError> {
    serde_json::from_str(json).map_err(SandboxError::Result)
}
