//! A switch that one thread throws and that running sandboxes heed at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Signal, getpid, kill_process};

use crate::system;

/// How a process is asked to end: Ctrl-C, `kill`, a terminal that is gone.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Ends the sandboxes that were given it, or a copy of it. Thrown once, it stays thrown.
#[derive(Debug, Clone)]
pub struct CancelToken(Arc<OwnedFd>);

impl CancelToken {
    /// A token that is not thrown.
    ///
    /// # Errors
    /// If the process may open no more descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Throws it. Safe to call from a signal handler's thread, and more than once.
    pub fn cancel(&self) {
        // The only failure is a full counter, and then the token is thrown already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Whether it is thrown.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Has the token thrown when this process is asked to end, instead of ending it: by Ctrl-C, by `kill`, by a terminal
    /// that goes away. A process that is still there after `grace` ends as it would have.
    ///
    /// To be called once, before the process starts a thread: threads that are there already would still end it.
    ///
    /// # Errors
    /// If the signals cannot be held back, or no thread can be started.
    pub fn heed_signals(&self, grace: Duration) -> io::Result<()> {
        system::hold_back(&ENDING)?;
        let token = self.clone();
        let heed = move || {
            let Ok(signal) = system::wait_for_signal(&ENDING) else { return };
            token.cancel();
            std::thread::sleep(grace);
            // Nothing more can be done if this fails; the signal then stays pending.
            let _ = system::default_signals();
            let _ = kill_process(getpid(), signal);
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(heed).map(drop)
    }

    /// Becomes readable when thrown, for `poll`.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thrown_once_it_stays_thrown_for_every_copy() {
        let token = CancelToken::new().unwrap();
        let copy = token.clone();
        assert!(!copy.is_cancelled());
        token.cancel();
        token.cancel();
        assert!(copy.is_cancelled() && token.is_cancelled());
    }
}
