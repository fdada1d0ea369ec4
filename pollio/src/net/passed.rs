//! Listening sockets that a service manager has made before the program was started.
//!
//! Ground rules: `sd_listen_fds(3)` gives descriptors 3 and up to the process whose id is in
//! `$LISTEN_PID`, and to nobody else in it. They are taken once; the flag that says so is the only
//! shared state, and nothing else hangs on it.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{FdFlags, fcntl_setfd},
    net::sockopt,
};

use super::Listener;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// More is taken for a mistake.
const COUNT_MAX: usize = 1_024;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the listening sockets that a service manager has passed to this process, with their names
/// (`$LISTEN_FDNAMES`, `unknown` where it gives none). Empty where it has passed none, and from the
/// second call on.
///
/// They become nonblocking, and are not passed on to programs that this one starts. To be called
/// before anything closes descriptors that it has not opened.
///
/// # Errors
///
/// Variables that make no sense; a descriptor that is not open, or no listening stream socket. The
/// sockets are closed then.
///
/// # Examples
///
/// ```
/// // Nobody has passed any to a test.
/// assert!(pollio::net::passed_listeners()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn passed_listeners() -> io::Result<Vec<(String, Listener)>> {
    let variable = |name| std::env::var(name).ok();
    let Some((pid, count)) = variable("LISTEN_PID").zip(variable("LISTEN_FDS")) else {
        return Ok(Vec::new());
    };
    // They are somebody else's where a shell has passed the variables on.
    if pid != std::process::id().to_string() || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let count = count.parse().ok().filter(|count| *count <= COUNT_MAX);
    let count: usize = count.ok_or_else(|| wrong("LISTEN_FDS is no number of sockets"))?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut found = Vec::new();
    for fd in (FIRST..).take(count) {
        if !is_open(fd) {
            return Err(wrong("a socket that should have been passed is not open"));
        }
        // SAFETY: The descriptor is open, and by the protocol it is this process's to own and
        // nobody else's in it; the flag above sees to it that it is taken once.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if !sockopt::socket_acceptconn(&fd)? {
            return Err(wrong("what was passed is no listening socket"));
        }
        fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let name = names.next().unwrap_or("unknown").to_owned();
        found.push((name, Listener::from(fd)));
    }
    Ok(found)
}

fn is_open(fd: RawFd) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}
