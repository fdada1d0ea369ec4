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
