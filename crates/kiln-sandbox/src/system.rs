//! The few system calls for which neither the standard library nor `rustix` has a safe form.
//!
//! Everything `unsafe` of this crate is in this file, each block with its reason. Nothing here knows what it is used for.

#![expect(unsafe_code, reason = "fork, unshare, signal masks and mount_setattr have no safe form")]

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

/// Exit code of a child whose code panicked; the panic's message is on its standard error.
const PANICKED: i32 = 101;

/// Makes a copy of this process that does `child` and ends with the code it returns.
///
/// Of a process with several threads only the calling one lives on in the copy: `child` must not wait for a lock that
/// another thread may hold. The C library's own (memory, streams) are safe: it holds them itself during the fork.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child never returns into the caller's frames: it ends below, whatever `child` does, so no destructor
    // of the parent's values runs twice.
    match unsafe { libc::fork() } {
        0 => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED);
            // SAFETY: `_exit` takes any number and does not return.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0).ok_or_else(io::Error::last_os_error),
    }
}

/// Moves this process, which has one thread, into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: only `FILES` changes what descriptors other threads see, and it is not among the flags.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Holds back every signal that can be held back.
pub(crate) fn block_signals() -> io::Result<()> {
    mask(libc::SIG_SETMASK, &full_set())
}

/// Holds back these signals too, in this thread and in those that it starts.
pub(crate) fn hold_back(signals: &[Signal]) -> io::Result<()> {
    mask(libc::SIG_BLOCK, &set_of(signals))
}

/// Gives every signal its default meaning and holds none back, whatever this process was started with.
///
/// All but the one for broken pipes: our own code wants an error instead, and the standard library gives programs the default.
pub(crate) fn default_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        let disposition = if signal == libc::SIGPIPE { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: both are valid dispositions for every signal; signals that cannot be changed are refused.
        unsafe { libc::signal(signal, disposition) };
    }
    mask(libc::SIG_SETMASK, &set_of(&[]))
}

/// Waits until one of `signals`, which must be held back, arrives, and says which.
pub(crate) fn wait_for_signal(signals: &[Signal]) -> io::Result<Signal> {
    let set = set_of(signals);
    let mut arrived: c_int = 0;
    // SAFETY: both pointers are to live values of the right type.
    let error = unsafe { libc::sigwait(&raw const set, &raw mut arrived) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    signals.iter().copied().find(|signal| signal.as_raw() == arrived).ok_or_else(|| io::Error::other("stray signal"))
}

fn mask(how: c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised, and no old mask is asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the whole set and cannot fail for a valid pointer.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the whole set; `sigaddset` takes any number.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        }
        set.assume_init()
    }
}

/// Kills every process that this one may signal but itself and the first of its namespace; fails if there is none.
pub(crate) fn kill_all_others() -> io::Result<()> {
    // SAFETY: takes two numbers; -1 stands for every process that may be signalled.
    match unsafe { libc::kill(-1, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `prepare` in the child of `command` before the program starts.
///
/// The calling process must have one thread, so that `prepare` may allocate.
pub(crate) fn before_exec(command: &mut Command, prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the caller has one thread, so after the fork no lock is held by a thread that is gone.
    unsafe { command.pre_exec(prepare) };
}

/// Closes every descriptor from 3 on but those of `keep`.
///
/// For a child that was just forked: whatever the parent had open, in whichever thread, is none of its business.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|descriptor| u32::try_from(*descriptor).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for descriptor in keep.into_iter().filter(|descriptor| *descriptor >= 3) {
        if descriptor > first {
            close_range(first, descriptor - 1)?;
        }
        first = descriptor + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: takes three numbers. Callers are forked children which use none of the closed descriptors again.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Makes a mount, and all mounts below it, read-only.
pub(crate) fn make_read_only(mount: impl AsFd) -> io::Result<()> {
    const RDONLY: u64 = 1;
    let attributes = MountAttributes { set: RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path is a C string, the attributes are live and of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: takes three numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: an interface request of zeros is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: `SIOCSIFFLAGS` reads one `ifreq`, which is live and initialised.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd as _;

    use rustix::process::{WaitOptions, waitpid};

    fn code_of(child: impl FnOnce() -> i32) -> Option<i32> {
        let pid = fork(child).unwrap();
        waitpid(Some(pid), WaitOptions::empty()).unwrap().and_then(|(_, status)| status.exit_status())
    }

    #[test]
    fn a_child_ends_with_its_code_and_a_panic_does_not_escape() {
        assert_eq!(code_of(|| 7), Some(7));
        assert_eq!(code_of(|| std::panic::resume_unwind(Box::new("never seen"))), Some(PANICKED));
    }

    /// Some supervisors start their programs so, and it is inherited.
    #[test]
    fn the_end_of_a_sandbox_is_noticed_where_the_end_of_children_is_ignored() {
        let code = code_of(|| {
            // SAFETY: a valid disposition, in a process of the test's own.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            let result = crate::Identity::Root.act(|| 5);
            i32::from(result.is_ok_and(|value| value == 5) == rustix::process::geteuid().is_root())
        });
        assert_eq!(code, Some(1));
    }

    /// The numbers of two descriptors that nobody closes any more.
    fn leaked((one, other): (OwnedFd, OwnedFd)) -> (RawFd, RawFd) {
        (one.into_raw_fd(), other.into_raw_fd())
    }

    #[test]
    fn only_what_is_kept_stays_open() {
        let open = |descriptor: RawFd| {
            // SAFETY: asks about a number, whether or not it is open.
            unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
        };
        let code = code_of(move || {
            let [(kept, _), (lost, _)] = [(); 2].map(|()| rustix::pipe::pipe().unwrap()).map(leaked);
            close_all_but(&[kept, 1]).unwrap();
            i32::from(open(kept) && !open(lost) && open(2))
        });
        assert_eq!(code, Some(1));
    }
}
