//! Ranges of addresses, as operators write them: `10.0.0.0/8, ::1`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that begin with the same bits. IPv4 addresses are those within `::ffff:0:0/96`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    first: u128,
    bits: u32,
}

/// What is wrong with a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkError(String);

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no address and no range such as 10.0.0.0/8 or 2001:db8::/32",
            self.0.escape_debug()
        )
    }
}

impl Network {
    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        self.bits == 0 || (number(ip) ^ self.first) >> (128 - self.bits) == 0
    }

    /// The range around an address with this many bits in common, of those of IPv6.
    pub(crate) fn around(ip: IpAddr, bits: u32) -> Self {
        let bits = bits.min(128);
        let mask = u128::MAX.unbounded_shl(128 - bits);
        Self {
            first: number(ip) & mask,
            bits,
        }
    }

    /// The range that begins with this address and has so many bits in common, of those of IPv6.
    /// `None` where that address is not its lowest.
    pub(crate) fn new(first: u128, bits: u32) -> Option<Self> {
        let is_first = bits <= 128 && first.checked_shl(bits).unwrap_or(0) == 0;
        is_first.then_some(Self { first, bits })
    }

    /// The lowest address; one of IPv4 as it is within those of IPv6.
    pub(crate) fn first(self) -> u128 {
        self.first
    }

    /// Bits in common, of those of IPv6.
    pub(crate) fn bits(self) -> u32 {
        self.bits
    }

    /// The lowest address, and bits in common, of those of its family.
    pub(crate) fn parts(self) -> (IpAddr, u32) {
        let ip = Ipv6Addr::from(self.first).to_canonical();
        let width = if ip.is_ipv4() { 32 } else { 128 };
        // What is wider than all of IPv4 is IPv6.
        match (self.bits + width).checked_sub(128) {
            Some(bits) => (ip, bits),
            None => (Ipv6Addr::from(self.first).into(), self.bits),
        }
    }

    /// Those of a list with commas between them; an empty one has none.
    ///
    /// # Errors
    ///
    /// The first that is none.
    pub(crate) fn parse_list(list: &str) -> Result<Vec<Self>, NetworkError> {
        let parts = list.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect()
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits
                .parse()
                .ok()
                .filter(|&bits| bits <= width)
                .ok_or_else(wrong)?,
            Some(_) => return Err(wrong()),
        };
        let bits = 128 - width + bits;
        let first = number(ip);
        // 10.1.2.3/8 may be a slip, and may mean two things.
        let rest = if bits == 0 {
            first
        } else {
            first.unbounded_shl(bits)
        };
        if rest != 0 {
            return Err(wrong());
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, bits) = self.parts();
        write!(f, "{ip}/{bits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_the_ranges_that_they_are_in() {
        let list = "10.0.0.0/8, 192.0.2.7,2001:db8::/32 , ::1";
        let networks = Network::parse_list(list).expect("they are ranges");
        let is_in = |ip: &str| {
            let ip = ip.parse().expect("an address");
            networks.iter().any(|network| network.contains(ip))
        };
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "::ffff:10.1.2.3",
            "192.0.2.7",
            "2001:db8:ffff::1",
            "::1",
        ] {
            assert!(is_in(inside), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "2001:db9::",
            "::2",
            "::a00:1",
        ] {
            assert!(!is_in(outside), "{outside}");
        }
        let all = Network::parse_list("0.0.0.0/0, ::/0").expect("they are ranges");
        let ip = |text: &str| text.parse().expect("an address");
        assert!(all[0].contains(ip("1.2.3.4")) && !all[0].contains(ip("::1")));
        assert!(all[1].contains(ip("::1")));
        assert_eq!(all[0].to_string(), "0.0.0.0/0");
        assert_eq!(networks[2].to_string(), "2001:db8::/32");
    }

    #[test]
    fn what_is_no_range_is_named() {
        assert_eq!(Network::parse_list(" "), Ok(Vec::new()));
        for wrong in [
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::1/129",
            "10.0.0.0/+8",
            "localhost",
            "1.2.3/8",
        ] {
            let list = format!("::1, {wrong}");
            let error = Network::parse_list(&list).expect_err(wrong).to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
