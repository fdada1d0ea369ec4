//! Who is held to account for a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pollio::PeerAddr;

use crate::network::Network;

/// Bits of an IPv6 address that say who it is.
pub(super) const IPV6_BITS: u32 = 64;

/// An IPv4 address, or the /64 of an IPv6 address: a household, or a machine in a data centre, has
/// all of that, so a single IPv6 address says nothing.
///
/// One number, to be kept by the million: of IPv6 the upper 64 bits, of IPv4 the address behind
/// `0:ffff`, which no IPv6 network begins with (IANA has assigned nothing below 64:ff9b::/96).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) struct Host(u64);

const IPV4: u64 = 0x0000_FFFF_0000_0000;

impl Host {
    /// Who is behind a peer; `None` for a unix socket.
    pub(crate) fn of(peer: &PeerAddr) -> Option<Self> {
        peer.ip().map(Self::from)
    }

    /// Its lowest address.
    pub(crate) fn ip(self) -> IpAddr {
        match self.0.to_be_bytes() {
            [0, 0, 0xFF, 0xFF, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
            _ => Ipv6Addr::from(u128::from(self.0) << 64).into(),
        }
    }

    /// All of its addresses.
    pub(crate) fn network(self) -> Network {
        let ip = self.ip();
        Network::around(ip, if ip.is_ipv4() { 128 } else { IPV6_BITS })
    }

    /// As a number that no other host has.
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(IPV4 | u64::from(ip.to_bits())),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Self(IPV4 | u64::from(ip.to_bits())),
                None => Self((ip.to_bits() >> 64) as u64),
            },
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_ipv4_addresses_and_ipv6_networks_of_64_bits() {
        let host = |ip: &str| Host::from(ip.parse::<IpAddr>().expect("an address"));
        for (ip, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("255.255.255.255", "255.255.255.255"),
        ] {
            assert_eq!(host(ip).to_string(), shown);
            assert_eq!(Host::from(host(ip).ip()), host(ip));
        }
        for (ip, network) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::1", "2001:db8::/64"),
        ] {
            assert_eq!(host(ip).network().to_string(), network);
        }
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:0:0:1"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(Host::of(&PeerAddr::UNIX), None);
    }
}
