//! A switch that one thread throws and that running sandboxes heed at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

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

    /// Becomes readable when thrown, for `poll`.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
