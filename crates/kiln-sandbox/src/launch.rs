//! Starts the outer process of a sandbox, listens to it, and ends it.
//!
//! Of the processes of a sandbox this one, which belongs to the caller's thread, sees the whole life:
//!
//! 1. pipes for output and messages, a socket to agree on the start; a fork;
//! 2. the child enters a namespace of ids, says so and waits; the parent writes the mapping, limits it, and lets it go;
//! 3. output becomes lines, until the child has ended, with all that it started;
//! 4. a cancel token or the time limit ends it earlier, by a signal that the child understands.
//!
//! If the calling thread dies in any way, the kernel kills the child, and with it everything inside.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, setsid, umask, waitpid,
};

use crate::CancelToken;
use crate::cgroup::Group;
use crate::command::{Console, Ending};
use crate::identity::Identity;
use crate::inside::die_with;
use crate::lines::Lines;
use crate::message::{Doing as _, Failure, Message, Reporter};
use crate::sandbox::SandboxError;
use crate::system;

/// Sent to the outer process: end everything, and keep nothing.
pub(crate) const CANCEL: Signal = Signal::TERM;

/// Sent to the outer process: end everything, and keep the layer for a person to look at.
pub(crate) const TIME_OUT: Signal = Signal::USR1;

/// Bytes read from a pipe at once.
const CHUNK_BYTES: usize = 65536;

/// How a sandbox is started and watched.
pub(crate) struct Launch<'a> {
    pub(crate) identity: Identity,
    pub(crate) console: Console,
    pub(crate) timeout: Option<Duration>,
    pub(crate) processes_max: Option<u32>,
    /// What the child keeps open of what the parent has.
    pub(crate) kept: Option<BorrowedFd<'a>>,
    pub(crate) on_line: &'a mut dyn FnMut(&str),
    pub(crate) cancel: &'a CancelToken,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What our function returned, as JSON.
    pub(crate) value: Option<String>,
    /// Why it was ended early.
    pub(crate) stopped: Option<Ending>,
    pub(crate) last_lines: Vec<String>,
}

/// The descriptors of the child.
struct Ends {
    output: OwnedFd,
    reporter: Reporter,
    start: UnixStream,
    parent: OwnedFd,
}

/// The parent's side of a running sandbox.
struct Running {
    child: Pid,
    child_descriptor: OwnedFd,
    output: OwnedFd,
    messages: OwnedFd,
    start: UnixStream,
}

impl Launch<'_> {
    /// Runs `outer` in a new process, as root of the identity's namespace, to its end.
    pub(crate) fn run(self, outer: impl FnOnce(&Reporter) -> Result<(), Failure>) -> Result<Outcome, SandboxError> {
        let io = |source| SandboxError::Start { source };
        let group = self.processes_max.and_then(Group::new);
        let mut running = start(&self, outer).map_err(io)?;
        if let Err(error) = running.begin(self.identity, group.as_ref()) {
            running.kill();
            return Err(error);
        }
        running.watch(self)
    }
}

fn start(launch: &Launch<'_>, outer: impl FnOnce(&Reporter) -> Result<(), Failure>) -> io::Result<Running> {
    let (output, output_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (messages, messages_end) = pipe_with(PipeFlags::CLOEXEC)?;
    // For programs that open /dev/stdout: to a user's root, the pipe's owner is a stranger.
    rustix::fs::fchmod(&output_end, Mode::from_raw_mode(0o666))?;
    let (start, start_end) = UnixStream::pair()?;
    let parent = pidfd_open(getpid(), PidfdFlags::empty())?;
    let ends = Ends { output: output_end, reporter: Reporter::new(messages_end), start: start_end, parent };
    let child = system::fork(|| {
        let result = prepare(&ends, launch).and_then(|()| outer(&ends.reporter));
        result.map_or_else(
            |failure| {
                ends.reporter.send(&Message::Failed(failure));
                1
            },
            |()| 0,
        )
    })?;
    let child_descriptor = pidfd_open(child, PidfdFlags::empty())?;
    for descriptor in [&output, &messages] {
        rustix::io::ioctl_fionbio(descriptor, true)?;
    }
    Ok(Running { child, child_descriptor, output, messages, start })
}

/// In the child: become root of the namespace, with nothing of the parent's but what it needs.
fn prepare(ends: &Ends, launch: &Launch<'_>) -> Result<(), Failure> {
    let Launch { identity, console, .. } = *launch;
    let doing = || "separate the sandbox from Kiln".to_owned();
    // First the default: of children of a process that ignores their end, nobody is told.
    system::default_signals().and_then(|()| system::block_signals()).doing(doing)?;
    let own = [ends.reporter.descriptor().as_raw_fd(), ends.start.as_raw_fd(), ends.parent.as_raw_fd()];
    let kept: Vec<_> = own.into_iter().chain(launch.kept.map(|descriptor| descriptor.as_raw_fd())).collect();
    if console == Console::Lines {
        take_streams(&ends.output).doing(doing)?;
        setsid().doing(doing)?;
    }
    system::close_all_but(&kept).doing(doing)?;
    umask(Mode::from_raw_mode(0o022));
    identity.enter_namespace().doing(|| "make a user namespace".to_owned())?;
    die_with(&ends.parent)?;
    let mut signal = [0];
    (&ends.start).write_all(&signal).and_then(|()| (&ends.start).read_exact(&mut signal)).doing(doing)?;
    identity.become_root().doing(|| "become root of the user namespace".to_owned())?;
    // The kernel forgets it when a process changes its user.
    die_with(&ends.parent)
}

fn take_streams(output: &OwnedFd) -> io::Result<()> {
    let null = fs_err::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(null.file())?;
    rustix::stdio::dup2_stdout(output)?;
    Ok(rustix::stdio::dup2_stderr(output)?)
}

impl Running {
    /// Lets the child go on once its ids are mapped and it is in its group.
    fn begin(&mut self, identity: Identity, group: Option<&Group>) -> Result<(), SandboxError> {
        let mut signal = [0];
        // A child that fails before says so itself.
        if self.start.read_exact(&mut signal).is_ok() {
            identity.map(self.child)?;
            if let Some(group) = group {
                group.take(self.child);
            }
            let _ = self.start.write_all(&signal);
        }
        Ok(())
    }

    fn kill(&self) {
        let _ = pidfd_send_signal(&self.child_descriptor, Signal::KILL);
        let _ = waitpid(Some(self.child), WaitOptions::empty());
    }

    /// Listens until the child has ended.
    fn watch(self, launch: Launch<'_>) -> Result<Outcome, SandboxError> {
        let deadline = launch.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (mut lines, mut messages) = (Lines::default(), Vec::new());
        let mut stopped = None;
        let mut ended = false;
        while !ended {
            let ready = self.wait(launch.cancel, stopped.is_none().then_some(deadline))?;
            ended = ready.ended;
            // A program may write faster than its lines can be shown, and must be stopped all the same.
            let chunks_max = if ended { usize::MAX } else { 1 };
            read(&self.output, chunks_max, |bytes| lines.take(bytes, launch.on_line))?;
            read(&self.messages, chunks_max, |bytes| messages.extend_from_slice(bytes))?;
            if stopped.is_none() {
                stopped = self.stop(&ready)?;
            }
        }
        match waitpid(Some(self.child), WaitOptions::empty()) {
            // A process that ignores the end of its children has none to wait for.
            Ok(_) | Err(Errno::CHILD) => {}
            Err(error) => return Err(watching(error)),
        }
        let last_lines = lines.finish(launch.on_line);
        interpret(&messages, Outcome { value: None, stopped, last_lines })
    }

    /// Waits until something happens. A deadline of None: no more than the child's end is waited for.
    fn wait(&self, cancel: &CancelToken, deadline: Option<Option<Instant>>) -> Result<Ready, SandboxError> {
        let readable = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        let mut descriptors = vec![readable(self.child_descriptor.as_fd())];
        descriptors.extend([self.output.as_fd(), self.messages.as_fd()].map(readable));
        if deadline.is_some() {
            descriptors.push(readable(cancel.descriptor()));
        }
        let deadline = deadline.flatten();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut descriptors, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(Ready::default()),
            result => result.map_err(watching)?,
        };
        let is_ready = |index: usize| descriptors.get(index).is_some_and(|one| !one.revents().is_empty());
        // Not whether nothing else happened: a program that never stops writing has a deadline too.
        let timed_out = deadline.is_some_and(|deadline| deadline <= Instant::now());
        Ok(Ready { ended: is_ready(0), cancelled: is_ready(3), timed_out })
    }

    /// Tells the child to end everything, if it is time.
    fn stop(&self, ready: &Ready) -> Result<Option<Ending>, SandboxError> {
        let (signal, ending) = match ready {
            Ready { ended: true, .. } => return Ok(None),
            Ready { cancelled: true, .. } => (CANCEL, Ending::Cancelled),
            Ready { timed_out: true, .. } => (TIME_OUT, Ending::TimedOut),
            Ready { .. } => return Ok(None),
        };
        match pidfd_send_signal(&self.child_descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(Some(ending)),
            Err(error) => Err(watching(error)),
        }
    }
}

/// What happened.
#[derive(Debug, Default)]
struct Ready {
    ended: bool,
    cancelled: bool,
    timed_out: bool,
}

fn watching(error: Errno) -> SandboxError {
    SandboxError::Watch { source: error.into() }
}

/// Reads what is there, no more than so many chunks, without waiting for more.
fn read(pipe: &OwnedFd, chunks_max: usize, mut take: impl FnMut(&[u8])) -> Result<(), SandboxError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    for _ in 0..chunks_max {
        match rustix::io::read(pipe, &mut chunk[..]) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(()),
            Ok(length) => take(chunk.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(watching(error)),
        }
    }
    Ok(())
}

/// What the messages say: the first failure, or the value.
fn interpret(messages: &[u8], mut outcome: Outcome) -> Result<Outcome, SandboxError> {
    let lines = messages.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut died = None;
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(Message::Value(value)) => outcome.value = Some(value),
            Ok(Message::Failed(failure)) => {
                let (doing, source) = failure.into_cause();
                return Err(SandboxError::Inside { doing, source, last_lines: outcome.last_lines });
            }
            Ok(Message::Panicked(message)) => {
                return Err(SandboxError::Panicked { message, last_lines: outcome.last_lines });
            }
            Ok(Message::Died { signal }) => died = Some(signal),
            // A line that a killed process did not finish.
            Err(_) => {}
        }
    }
    match (outcome.stopped, &outcome.value, died) {
        (None, None, signal) => Err(SandboxError::Died { signal: signal.flatten(), last_lines: outcome.last_lines }),
        _ => Ok(outcome),
    }
}
