//! The system calls that rustix does not offer.
//!
//! Ground rules: every pointer handed to the kernel here comes from a live, exclusively borrowed
//! buffer or a local variable and is used by the kernel only until the call returns; the kernel
//! says how much it filled, and no more is taken for initialised. Descriptors come as `BorrowedFd`,
//! hence are open during the call.
//!
//! `Events` is the one type that is given auto traits here: rustix's event type is not `Send`
//! because the kernel's data word may hold a pointer. Ours never does: `poller.rs` registers and
//! `event.rs` pushes and reads plain numbers, and nothing turns one into a pointer.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::event::epoll;

use crate::event::Events;

// SAFETY: The vector owns its memory, and the data words in it are numbers: see the ground rules.
unsafe impl Send for Events {}

// SAFETY: As above, and a shared reference only copies those numbers out.
unsafe impl Sync for Events {}

const _: () = assert!(size_of::<epoll::Event>() == size_of::<libc::epoll_event>());
const _: () = assert!(align_of::<epoll::Event>() == align_of::<libc::epoll_event>());

/// `epoll_wait(2)` with its milliseconds, for kernels and filters without `epoll_pwait2`.
///
/// Replaces what is in `list`, within its capacity.
pub(crate) fn epoll_wait_ms(
    epoll: BorrowedFd<'_>,
    list: &mut Vec<epoll::Event>,
    timeout_ms: i32,
) -> io::Result<()> {
    list.clear();
    let room = list.spare_capacity_mut();
    let max = i32::try_from(room.len()).unwrap_or(i32::MAX);
    let first = room.as_mut_ptr().cast::<libc::epoll_event>();
    // SAFETY: `first` points at `max` writable slots, the spare capacity that `list` owns, and
    // both event types are the kernel's `struct epoll_event` (sizes asserted above).
    let filled = unsafe { libc::epoll_wait(epoll.as_raw_fd(), first, max, timeout_ms) };
    let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: The kernel has filled that many events from the start, and at most `max`.
    unsafe { list.set_len(filled) };
    Ok(())
}

/// Sets `TCP_DEFER_ACCEPT`: the listener reports a connection when its first bytes are there, or
/// after about `seconds`.
pub(crate) fn set_tcp_defer_accept(fd: BorrowedFd<'_>, seconds: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: The option value is a `c_int` on this stack frame and `length` is its size.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The scheduling policy and settings of the calling thread.
pub(crate) fn scheduling() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let into = &raw mut attributes;
    // SAFETY: `into` points at a live structure on this stack frame, of `size` bytes, all of which
    // are integers: the kernel may write what it likes. 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, into, size, 0) };
    if result == 0 {
        Ok(attributes)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Changes them.
pub(crate) fn set_scheduling(attributes: &libc::sched_attr) -> io::Result<()> {
    // SAFETY: The kernel reads as many bytes as the structure says that it has, and those that come
    // from `scheduling` say their size. 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
