//! Binding what is configured, each address once for every front.

use std::io;
use std::net::SocketAddr;

use pollio::net::{KeepAlive, ListenOptions, Listener, passed_listeners};

use crate::config::{Config, Endpoint};
use crate::error::StartError;
use crate::unix_socket::{self, SocketFile};

/// The kernel asks a silent peer whether it is there; MQTT's own keep-alive may be off.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle_s: 300,
    interval_s: 30,
    probes: 4,
};
/// A peer that acknowledges nothing for so long is dead; the kernel notices.
const USER_TIMEOUT_MS: u32 = 60_000;
/// Connections that the kernel keeps ready at a socket in the file system.
const BACKLOG: i32 = 4_096;

/// What is listened on.
pub(crate) struct Bound {
    /// One set of listeners a front.
    pub(crate) sets: Vec<Vec<Listener>>,
    /// Where they listen, with real ports.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Which of the configured listeners each is: optional ones may be absent.
    pub(crate) configured: Vec<usize>,
    /// To be removed at the end.
    pub(crate) files: Vec<SocketFile>,
}

pub(crate) fn bind(config: &Config, fronts: usize) -> Result<Bound, StartError> {
    let mut sets: Vec<Vec<Listener>> = (0..fronts).map(|_| Vec::new()).collect();
    let mut endpoints = Vec::new();
    let mut configured = Vec::new();
    let mut files = Vec::new();
    let mut passed = None;
    for (at, wanted) in config.listeners.iter().enumerate() {
        let failed = |source| StartError::Socket {
            endpoint: wanted.address.clone(),
            source,
        };
        let (listeners, real) = match &wanted.address {
            Endpoint::Internet(addr) => match bind_one(*addr, fronts) {
                Ok((listeners, real)) => (listeners, real.into()),
                Err(error) if wanted.optional && is_absent(&error) => {
                    tracing::warn!(
                        address = %addr,
                        %error,
                        "not listening: the address is not there"
                    );
                    continue;
                }
                Err(source) => {
                    return Err(StartError::Bind {
                        addr: *addr,
                        source,
                    });
                }
            },
            Endpoint::Unix(path) => {
                let rules = &wanted.rules;
                let mode = rules.unix_mode_bits().unwrap_or(0o600);
                let bound = unix_socket::listen(path, mode, &rules.unix_group, BACKLOG);
                let (socket, file) = bound.map_err(failed)?;
                files.push(file);
                let listeners = shared(Listener::from(socket), fronts).map_err(failed)?;
                (listeners, wanted.address.clone())
            }
            Endpoint::Passed(name) => {
                if passed.is_none() {
                    passed = Some(passed_listeners().map_err(failed)?);
                }
                let all = passed.get_or_insert_default();
                let place = all.iter().position(|(passed, _)| passed == name);
                let (_, listener) = place.map(|place| all.swap_remove(place)).ok_or_else(|| {
                    let what = "the service manager has passed no listening socket of this name";
                    failed(io::Error::new(io::ErrorKind::NotFound, what))
                })?;
                let listeners = shared(listener, fronts).map_err(failed)?;
                (listeners, wanted.address.clone())
            }
        };
        endpoints.push(real);
        configured.push(at);
        for (set, listener) in sets.iter_mut().zip(listeners) {
            set.push(listener);
        }
    }
    Ok(Bound {
        sets,
        endpoints,
        configured,
        files,
    })
}

/// The machine has no such address, or no such protocol.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// A listener for each front where there can be only one socket.
fn shared(listener: Listener, fronts: usize) -> io::Result<Vec<Listener>> {
    if fronts == 1 {
        return Ok(vec![listener]);
    }
    let listener = listener.shared();
    let mut all = (1..fronts)
        .map(|_| listener.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    all.push(listener);
    Ok(all)
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
