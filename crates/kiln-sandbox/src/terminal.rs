//! A terminal for a person at a shell inside: one of the sandbox's own, joined to Kiln's.
//!
//! Sharing Kiln's terminal would let a program type into it, and an interrupt meant for the program would end Kiln. So Kiln's
//! is made raw ([`Raw`]), and the worker passes on what is typed and what is shown ([`run`]).

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, ioctl_tiocsctty, pidfd_open, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::{capability, system};

/// How often the size of Kiln's terminal is looked at.
const RESIZE: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// Kiln's terminal, raw until this is dropped.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    /// Makes it raw. None if standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// In the worker: runs the program at a terminal of the sandbox's own, to its end. Without a terminal at standard input it
/// gets the streams as they are.
pub(crate) fn run(mut command: Command) -> io::Result<ExitStatus> {
    if !io::stdin().is_terminal() {
        prepare(&mut command, None);
        return command.status();
    }
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&controller)?;
    resize(&controller);
    let mut child = start(command, ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?)?;
    pass_on(&controller, &child)?;
    child.wait()
}

fn start(mut command: Command, terminal: OwnedFd) -> io::Result<Child> {
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal.try_clone()?);
    prepare(&mut command, Some(terminal));
    command.spawn()
}

/// A session of the program's own, led at its terminal if it has one, and the capabilities of programs.
fn prepare(command: &mut Command, terminal: Option<OwnedFd>) {
    system::before_exec(command, move || {
        setsid()?;
        if let Some(terminal) = &terminal {
            ioctl_tiocsctty(terminal)?;
        }
        capability::drop_for_programs()
    });
}

/// Passes on what is typed and what is shown until the program has ended and all is shown.
fn pass_on(controller: &OwnedFd, child: &Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let stdin = io::stdin();
    let mut typing = true;
    loop {
        let mut descriptors = vec![PollFd::new(controller, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        if typing {
            descriptors.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut descriptors, Some(&RESIZE)) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let ready = |index: usize| descriptors.get(index).is_some_and(|one| !one.revents().is_empty());
        let (shown, over, typed) = (ready(0), ready(1), ready(2));
        if shown && !pass(controller.as_fd(), &mut |bytes| io::stdout().write_all(bytes))? || over && !shown {
            return io::stdout().flush();
        }
        if typed {
            typing = pass(stdin.as_fd(), &mut |bytes| write_all(controller, bytes))?;
        }
        resize(controller);
    }
}

/// Passes on what is there to read; false if there never will be more.
fn pass(from: BorrowedFd<'_>, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
    let mut bytes = [0; 4096];
    match rustix::io::read(from, &mut bytes) {
        // What a terminal that nobody holds any more answers.
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(length) => to(bytes.get(..length).unwrap_or_default()).map(|()| true),
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Err(Errno::INTR) => {}
            written => bytes = bytes.get(written?..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Gives the program's terminal the size of Kiln's. A terminal without a size is no failure.
fn resize(controller: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(io::stdin()) {
        let _ = tcsetwinsize(controller, size);
    }
}
