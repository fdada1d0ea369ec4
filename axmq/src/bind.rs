//! Binding what is configured, each address once for every front.

use std::io;
use std::net::SocketAddr;

use pollio::net::{KeepAlive, ListenOptions, Listener};

use crate::config::Config;
use crate::error::StartError;

/// The kernel asks a silent peer whether it is there; MQTT's own keep-alive may be off.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle_s: 300,
    interval_s: 30,
    probes: 4,
};
/// A peer that acknowledges nothing for so long is dead; the kernel notices.
const USER_TIMEOUT_MS: u32 = 60_000;

/// What is listened on.
pub(crate) struct Bound {
    /// One set of listeners a front.
    pub(crate) sets: Vec<Vec<Listener>>,
    /// Their addresses with real ports.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Which of the configured listeners each is: optional ones may be absent.
    pub(crate) configured: Vec<usize>,
}

pub(crate) fn bind(config: &Config, fronts: usize) -> Result<Bound, StartError> {
    let mut sets: Vec<Vec<Listener>> = (0..fronts).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let mut configured = Vec::new();
    for (at, wanted) in config.listeners.iter().enumerate() {
        let addr = wanted.address;
        match bind_one(addr, fronts) {
            Ok((listeners, real)) => {
                addresses.push(real);
                configured.push(at);
                for (set, listener) in sets.iter_mut().zip(listeners) {
                    set.push(listener);
                }
            }
            Err(error) if wanted.optional && is_absent(&error) => {
                tracing::warn!(address = %addr, %error, "not listening: the address is not there");
            }
            Err(source) => return Err(StartError::Bind { addr, source }),
        }
    }
    Ok(Bound {
        sets,
        addresses,
        configured,
    })
}

/// The machine has no such address, or no such protocol.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_one(addr: SocketAddr, fronts: usize) -> io::Result<(Vec<Listener>, SocketAddr)> {
    let options = ListenOptions {
        keepalive: Some(KEEP_ALIVE),
        user_timeout_ms: Some(USER_TIMEOUT_MS),
        ..ListenOptions::default()
    };
    // Without SO_REUSEPORT first: another program that holds the port is found out this way, while
    // a socket that shares would silently take half of its connections.
    let first = Listener::bind(&addr, &options)?;
    let real = first.local_addr()?;
    if fronts == 1 {
        return Ok((vec![first], real));
    }
    drop(first);
    let options = ListenOptions {
        reuse_port: true,
        ..options
    };
    let listeners = (0..fronts)
        .map(|_| Listener::bind(&real, &options))
        .collect::<io::Result<Vec<_>>>()?;
    Ok((listeners, real))
}
