//! The compact address of a peer.

#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Where a stream comes from: an internet address and port, or a unix socket.
///
/// 20 bytes without a pointer, to be kept by the million. IPv4 addresses and the IPv6-mapped IPv4
/// addresses of dual-stack listeners are the same here, so that one peer counts as one. The scope
/// of link-local IPv6 addresses and the path of unix sockets (a connecting peer rarely has one) are
/// not kept.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct PeerAddr {
    ip: [u8; 16],
    port: u16,
    unix: bool,
}

impl PeerAddr {
    /// The peer of a unix socket.
    pub const UNIX: Self = Self {
        ip: [0; 16],
        port: 0,
        unix: true,
    };

    /// An internet address and port.
    #[must_use]
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Self {
            ip,
            port,
            unix: false,
        }
    }

    /// The internet address, IPv4 where it is one; `None` for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        if self.unix {
            None
        } else {
            Some(Ipv6Addr::from(self.ip).to_canonical())
        }
    }

    /// The address as 16 bytes, IPv4 as `::ffff:a.b.c.d`, all zero for a unix socket. As a key.
    #[must_use]
    pub const fn ip_octets(&self) -> [u8; 16] {
        self.ip
    }

    /// The port, 0 for a unix socket.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether this is the peer of a unix socket.
    #[must_use]
    pub const fn is_unix(&self) -> bool {
        self.unix
    }

    /// Whether the peer is on this machine by its address: `127.0.0.0/8`, `::1`, or a unix socket.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(ip) => ip.is_loopback(),
            None => true,
        }
    }

    /// The standard library's address; `None` for a unix socket.
    #[must_use]
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip()?, self.port))
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr.ip(), addr.port())
    }
}

impl fmt::Display for PeerAddr {
    /// As `SocketAddr` does, or `unix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_socket_addr() {
            Some(addr) => addr.fmt(f),
            None => f.pad("unix"),
        }
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    static_assertions::assert_eq_size!(PeerAddr, [u16; 10]);

    #[test]
    fn mapped_addresses_are_ipv4() {
        let plain: SocketAddr = "192.0.2.7:1883".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:1883".parse().unwrap();
        assert_eq!(PeerAddr::from(plain), PeerAddr::from(mapped));
        assert_eq!(PeerAddr::from(mapped).to_string(), "192.0.2.7:1883");
        assert_eq!(PeerAddr::from(mapped).to_socket_addr(), Some(plain));
    }

    #[test]
    fn loopback_and_unix() {
        for text in ["127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(
                PeerAddr::from(text.parse::<SocketAddr>().unwrap()).is_loopback(),
                "{text}"
            );
        }
        let far = PeerAddr::from("[2001:db8::1]:80".parse::<SocketAddr>().unwrap());
        assert!(!far.is_loopback());
        assert_eq!(far.to_string(), "[2001:db8::1]:80");
        assert!(PeerAddr::UNIX.is_loopback() && PeerAddr::UNIX.ip().is_none());
        assert_eq!(format!("{:>6}", PeerAddr::UNIX), "  unix");
    }
}
