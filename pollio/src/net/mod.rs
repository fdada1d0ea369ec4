//! Listeners, streams and their socket options.
//!
//! # One listener a loop, or one for all
//!
//! With [`ListenOptions::reuse_port`] each loop binds a listener of its own to the same address and
//! the kernel spreads connections by a hash. No loop disturbs another, but a connection waits for
//! its loop even if others are idle. With [`ListenOptions::exclusive`] the loops share one listener
//! ([`Listener::try_clone`]) and a connection wakes one idle loop, or few: better latency under
//! uneven load, some wakes for nothing.
//!
//! # Options are inherited
//!
//! Linux copies `TCP_NODELAY`, keep-alive, user timeout and buffer sizes from a listener to the
//! streams that it accepts, so set them in [`ListenOptions`]: no system call for each connection.

mod accept;
mod listener;
#[allow(
    unsafe_code,
    reason = "descriptors come as numbers from the service manager"
)]
mod passed;
mod stream;

pub use self::{
    accept::{AcceptBatch, Accepted, accept_batch, accept_next},
    listener::{ListenOptions, Listener},
    passed::passed_listeners,
    stream::{KeepAlive, Stream},
};
