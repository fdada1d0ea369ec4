//! The one socket option that rustix lacks.
//!
//! Ground rules: a descriptor is borrowed for the length of the call, the value lies on the stack
//! until the call returns, and the kernel only reads it.

#![allow(
    unsafe_code,
    reason = "setsockopt with an option that rustix does not know"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Lets `connect(2)` choose the port of a socket that is bound to an address with port 0, so that a
/// port serves several targets and `bind(2)` need not search.
///
/// This is `IP_BIND_ADDRESS_NO_PORT`, Linux 4.2.
///
/// # Errors
///
/// For sockets that are not of the internet.
pub fn choose_port_late(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed and so open, and pointer and length are those of `on`,
    // which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
