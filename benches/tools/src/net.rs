//! Where connections go to and come from, and whether there are descriptors and ports for them.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _},
};

use pollio::net::Stream;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::{
    fail::Failure,
    wire::{Layers, Transport},
};

/// Descriptors a process needs beside its connections.
const DESCRIPTORS_KEPT: u64 = 32;
/// Source addresses on the loopback network begin here, beside the 127.0.0.1 of everybody else.
const LOOPBACK_FIRST: u32 = 0x7f00_0002;

/// Opens connections: target and source address by the number of the client, in turn.
#[derive(Clone, Debug)]
pub struct Dialer {
    targets: Vec<SocketAddr>,
    sources: Vec<IpAddr>,
    small_buffers: bool,
    transport: Transport,
}

/// Finds the address of each host in a list with commas.
///
/// # Errors
///
/// If a host is unknown.
pub fn resolve(hosts: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let resolve_one = |host: &str| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = (bare, port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
        // A broker that listens on one family of "localhost" listens on IPv4 more often.
        let first = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| {
            Failure::run(format!(
                "unknown host `{host}`: give a name or an address with -h"
            ))
        })
    };
    hosts
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(resolve_one)
        .collect()
}

/// Raises the soft limit of descriptors to the hard one and returns how many connections fit.
#[must_use]
pub fn connections_max() -> u64 {
    descriptors_max().saturating_sub(DESCRIPTORS_KEPT)
}

/// Raises the soft limit of descriptors to the hard one and returns it.
#[must_use]
pub fn descriptors_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // If it is refused, the soft limit holds, which is read below.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// Checks that a process may hold so many connections.
///
/// # Errors
///
/// If it may not; the line says which limit to raise.
pub fn check_descriptors(connections: u64) -> Result<(), Failure> {
    let max = connections_max();
    if connections <= max {
        return Ok(());
    }
    let needed = connections + DESCRIPTORS_KEPT;
    Err(Failure::run(format!(
        "too few descriptors: {connections} connections need {needed} in a process, which may \
         have {}; run `ulimit -n {needed}` before, or spread them over {} \
         processes (conn, sub, pub: --processes)",
        max + DESCRIPTORS_KEPT,
        connections.div_ceil(max.max(1)),
    )))
}

/// How many ports the system gives to connections from one address.
#[must_use]
pub fn ports_an_address() -> u64 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range
        .split_ascii_whitespace()
        .map(|end| end.parse::<u64>().unwrap_or(0));
    match (ends.next(), ends.next()) {
        (Some(low), Some(high)) if high > low => high - low + 1,
        _ => 28_232,
    }
}

impl Dialer {
    /// Prepares connections to `targets`, from the addresses of `ifaddr`, a list with commas.
    ///
    /// Without `ifaddr`, targets on the loopback network are reached from as many addresses of
    /// 127.0.0.0/8 as the ports of `connections` need twice over, beginning at 127.0.0.2 and, to
    /// keep processes apart, `first` connections further on.
    ///
    /// # Errors
    ///
    /// If an address cannot be read, or there are too few for the ports that are needed.
    pub fn new(
        targets: Vec<SocketAddr>,
        ifaddr: Option<&str>,
        connections: u64,
        first: u64,
    ) -> Result<Self, Failure> {
        let ports = ports_an_address();
        let all_loopback_v4 = targets.iter().all(|addr| match addr.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(_) => false,
        });
        let sources = match ifaddr {
            Some(list) => {
                let parse = |text: &str| {
                    text.trim().parse::<IpAddr>().map_err(|_| {
                        Failure::usage(format!("--ifaddr wants IP addresses, not `{text}`"))
                    })
                };
                list.split(',').map(parse).collect::<Result<Vec<_>, _>>()?
            }
            None if all_loopback_v4 => {
                // Half of the ports of each: the search for a free one stays short.
                let wanted = (connections * 2).div_ceil(ports).max(1);
                let skipped = (first * 2).div_ceil(ports);
                let addr = |n: u64| IpAddr::V4(Ipv4Addr::from(LOOPBACK_FIRST + n as u32));
                (skipped..skipped + wanted).map(addr).collect()
            }
            None => Vec::new(),
        };
        let room = ports * (sources.len().max(1) as u64) * (targets.len().max(1) as u64);
        if connections > room {
            return Err(Failure::run(format!(
                "too few ports: {connections} connections need {} source addresses with {ports} \
                 ports each; give them with --ifaddr a,b,.. or widen the range: sysctl -w \
                 net.ipv4.ip_local_port_range=\"1024 65535\"",
                connections.div_ceil(ports),
            )));
        }
        Ok(Self {
            targets,
            sources,
            small_buffers: false,
            transport: Transport::default(),
        })
    }

    /// Puts layers between TCP and MQTT.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The layers of a client's connection, if it has any.
    ///
    /// # Errors
    ///
    /// As [`Transport::layers`].
    pub fn layers(&self, client: u64) -> Result<Option<Box<Layers>>, Failure> {
        self.transport.layers(client)
    }

    /// Asks for the smallest socket buffers there are.
    #[must_use]
    pub fn with_small_buffers(mut self, small: bool) -> Self {
        self.small_buffers = small;
        self
    }

    /// The number of source addresses, 1 if the system chooses.
    #[must_use]
    pub fn pool(&self) -> usize {
        self.sources.len().max(1)
    }

    /// The source address of a client, if it is not the system's choice.
    #[must_use]
    pub fn source(&self, client: u64) -> Option<IpAddr> {
        let count = self.sources.len() as u64;
        client
            .checked_rem(count)
            .map(|at| self.sources[at as usize])
    }

    /// The target of a client.
    ///
    /// # Panics
    ///
    /// If there are no targets.
    #[must_use]
    pub fn target(&self, client: u64) -> SocketAddr {
        self.targets[(client % self.targets.len() as u64) as usize]
    }

    /// Starts to connect.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)`, `bind(2)` and `connect(2)` that come at once.
    pub fn dial(&self, client: u64) -> io::Result<Stream> {
        let target = self.target(client);
        let family = if target.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        if self.small_buffers {
            sockopt::set_socket_recv_buffer_size(&fd, 64)?;
            sockopt::set_socket_send_buffer_size(&fd, 64)?;
        }
        sockopt::set_tcp_nodelay(&fd, true)?;
        if let Some(source) = self.source(client) {
            crate::sys::choose_port_late(&fd)?;
            bind(&fd, &SocketAddr::new(source, 0))?;
        }
        match connect(&fd, &target) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Stream::from(fd)),
            Err(error) => Err(error.into()),
        }
    }

    /// What to tell a user whose connection could not be made.
    #[must_use]
    pub fn explain(&self, client: u64, error: &io::Error) -> Failure {
        let target = self.target(client);
        Failure::run(match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED) => {
                format!("connection to {target} refused: is the broker listening there?")
            }
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => {
                let source = self.source(client);
                let source = source.map_or_else(|| "the system".to_owned(), |ip| ip.to_string());
                format!(
                    "no port left, or no such address, for a connection from {source} to {target}: \
                     give local addresses with --ifaddr a,b,.. or widen \
                     net.ipv4.ip_local_port_range (now {} ports)",
                    ports_an_address()
                )
            }
            Some(Errno::MFILE | Errno::NFILE) => format!(
                "too few descriptors for more connections to {target}: raise `ulimit -n` or use \
                 --processes"
            ),
            Some(Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH) => {
                format!("{target} cannot be reached ({error}): check address, route and firewall")
            }
            _ => format!("cannot connect to {target}: {error}"),
        })
    }
}

/// The name that `emqtt_bench` prints for an error of a connection.
#[must_use]
pub fn error_name(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => "econnrefused",
        Some(Errno::CONNRESET) => "econnreset",
        Some(Errno::TIMEDOUT) => "etimedout",
        Some(Errno::ADDRNOTAVAIL) => "eaddrnotavail",
        Some(Errno::ADDRINUSE) => "eaddrinuse",
        Some(Errno::HOSTUNREACH) => "ehostunreach",
        Some(Errno::NETUNREACH) => "enetunreach",
        Some(Errno::MFILE) => "emfile",
        Some(Errno::NFILE) => "enfile",
        Some(Errno::PIPE) => "epipe",
        _ => "tcp_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_or_named() {
        let found = resolve("127.0.0.1, ::1", 1883).unwrap();
        assert_eq!(found[0].to_string(), "127.0.0.1:1883");
        assert_eq!(found[1].to_string(), "[::1]:1883");
        let failure = resolve("no.such.host.invalid", 1883).unwrap_err();
        assert!(
            failure.message.contains("no.such.host.invalid"),
            "{failure}"
        );
    }

    #[test]
    fn sources_suffice_or_their_number_is_said() {
        let remote: SocketAddr = "192.0.2.1:1883".parse().unwrap();
        let local: SocketAddr = "127.0.0.1:1883".parse().unwrap();
        let ports = ports_an_address();
        let failure = Dialer::new(vec![remote], None, ports * 3 + 1, 0).unwrap_err();
        assert!(failure.message.contains("4 source addresses"), "{failure}");
        let two = Some("192.0.2.7,192.0.2.8");
        assert_eq!(
            Dialer::new(vec![remote], two, ports * 2, 0).unwrap().pool(),
            2
        );
        assert!(Dialer::new(vec![remote], two, ports * 2 + 1, 0).is_err());
        assert!(Dialer::new(vec![remote], Some("here"), 1, 0).is_err());
        let dialer = Dialer::new(vec![local], None, ports * 3, 0).unwrap();
        assert_eq!(dialer.pool(), 6);
        assert_eq!(dialer.source(7).unwrap().to_string(), "127.0.0.3");
    }

    #[test]
    fn too_many_connections_are_refused_with_a_way_out() {
        assert!(check_descriptors(1).is_ok());
        let failure = check_descriptors(1 << 40).unwrap_err();
        assert!(failure.message.contains("ulimit -n"), "{failure}");
    }
}
