//! The PROXY protocol, versions 1 and 2: what a proxy says of the client it stands for, before the
//! client's first byte.
//!
//! Only for connections from trusted proxies: anybody can write such a header. No system call, no
//! clock.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc, Table};

/// Bytes of a header of version 1, at most (section 2.1).
const V1_LEN_MAX: usize = 107;
/// Bytes of a header of version 2, at most: addresses and what TLS says of a client fit many times.
const V2_LEN_MAX: usize = 4_096;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_LEN: usize = 16;

const TLV_CRC32C: u8 = 0x03;
/// Headers are short, and checksums in them rare: the smaller table does.
static CRC_32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The client; `None` where the proxy speaks for itself, such as in a health check, or knows
    /// none: then the address of the connection counts.
    pub(crate) source: Option<SocketAddr>,
    /// The bytes of the header; the client's follow.
    pub(crate) len: usize,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyError {
    Missing,
    TooLong,
    V1Line,
    Address,
    Port,
    V2Version(u8),
    V2Command(u8),
    V2Family(u8),
    V2Addresses,
    Extension,
    Checksum,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no PROXY header, which this listener expects first"),
            Self::TooLong => f.write_str("the PROXY header is too long"),
            Self::V1Line => f.write_str("the line PROXY has not the five fields that it should"),
            Self::Address => f.write_str("an address of the PROXY header is none"),
            Self::Port => f.write_str("a port of the PROXY header is none"),
            Self::V2Version(version) => write!(f, "PROXY version {version} is not known"),
            Self::V2Command(command) => write!(f, "PROXY command {command} is not known"),
            Self::V2Family(family) => write!(f, "PROXY address family {family:#04x} is not known"),
            Self::V2Addresses => f.write_str("the PROXY header has too few bytes of addresses"),
            Self::Extension => f.write_str("an extension of the PROXY header is cut off"),
            Self::Checksum => f.write_str("the checksum of the PROXY header is wrong"),
        }
    }
}

/// Reads a header; `None` if it has not all come.
///
/// # Errors
///
/// What is wrong first, as soon as it can be seen.
///
/// # Complexity
///
/// Linear in the bytes of the header.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let begins = |wanted: &[u8]| {
        bytes
            .iter()
            .zip(wanted)
            .all(|(byte, wanted)| byte == wanted)
    };
    if begins(V2_SIGNATURE) {
        read_v2(bytes)
    } else if begins(b"PROXY ") {
        read_v1(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

fn read_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let searched = bytes.get(..V1_LEN_MAX).unwrap_or(bytes);
    let Some(end) = searched.windows(2).position(|two| two == b"\r\n") else {
        return match bytes.len() < V1_LEN_MAX {
            true => Ok(None),
            false => Err(ProxyError::TooLong),
        };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| ProxyError::V1Line)?;
    let len = end + 2;
    let mut fields = line.split(' ').skip(1);
    let family = fields.next();
    if family == Some("UNKNOWN") {
        // What follows is to be ignored (section 2.1).
        return Ok(Some(Header { source: None, len }));
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(ProxyError::V1Line);
    };
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        match family {
            Some("TCP4") => text
                .parse()
                .map(IpAddr::V4)
                .map_err(|_| ProxyError::Address),
            Some("TCP6") => text
                .parse()
                .map(IpAddr::V6)
                .map_err(|_| ProxyError::Address),
            _ => Err(ProxyError::V1Line),
        }
    };
    let (source, _) = (address(source)?, address(destination)?);
    let (source_port, _) = (port(source_port)?, port(destination_port)?);
    let source = Some(SocketAddr::new(source, source_port));
    Ok(Some(Header { source, len }))
}

/// A number without sign and leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = text.len() > 1 && text.starts_with('0');
    match text.parse() {
        Ok(port) if is_plain && !has_zeros => Ok(port),
        _ => Err(ProxyError::Port),
    }
}

fn read_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let rest = bytes.get(V2_SIGNATURE.len()..).unwrap_or_default();
    if let Some(version_command) = rest.first() {
        match (version_command >> 4, version_command & 0x0F) {
            (2, 0 | 1) => {}
            (2, command) => return Err(ProxyError::V2Command(command)),
            (version, _) => return Err(ProxyError::V2Version(version)),
        }
    }
    let &[version_command, family, high, low, ref body @ ..] = rest else {
        return Ok(None);
    };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    if V2_HEAD_LEN + body_len > V2_LEN_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = body.get(..body_len) else {
        return Ok(None);
    };
    let len = V2_HEAD_LEN + body_len;
    let (source, tlvs) = addresses(family, body)?;
    let whole = bytes.get(..len).unwrap_or_default();
    check_extensions(tlvs, whole)?;
    // LOCAL, command 0, is the proxy for itself.
    let source = source.filter(|_| version_command & 0x0F == 1);
    Ok(Some(Header { source, len }))
}

/// The source, and what follows the addresses.
fn addresses(family: u8, body: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), ProxyError> {
    // The low half is the transport: not given, stream, datagram.
    if family & 0x0F > 2 {
        return Err(ProxyError::V2Family(family));
    }
    let address_len = match family >> 4 {
        0 => return Ok((None, &[])),
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(ProxyError::V2Family(family)),
    };
    let Some((addresses, tlvs)) = body.split_at_checked(address_len) else {
        return Err(ProxyError::V2Addresses);
    };
    let source = match *addresses {
        [a, b, c, d, _, _, _, _, high, low, ..] if family >> 4 == 1 => Some(SocketAddr::new(
            Ipv4Addr::new(a, b, c, d).into(),
            u16::from_be_bytes([high, low]),
        )),
        [ref both @ .., high, low, _, _] if family >> 4 == 2 => {
            let source: Option<&[u8; 16]> = both.first_chunk();
            source.map(|source| {
                let port = u16::from_be_bytes([high, low]);
                SocketAddr::new(Ipv6Addr::from(*source).into(), port)
            })
        }
        _ => None,
    };
    Ok((source, tlvs))
}

/// Goes through the extensions, with which the whole header ends.
fn check_extensions(mut extensions: &[u8], whole: &[u8]) -> Result<(), ProxyError> {
    while !extensions.is_empty() {
        let &[kind, high, low, ref rest @ ..] = extensions else {
            return Err(ProxyError::Extension);
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(ProxyError::Extension)?;
        if kind == TLV_CRC32C {
            let wanted = value.try_into().map_err(|_| ProxyError::Extension)?;
            let at = whole.len() - rest.len() - len;
            if crc32c_without(whole, at) != u32::from_be_bytes(wanted) {
                return Err(ProxyError::Checksum);
            }
        }
        extensions = rest;
    }
    Ok(())
}

/// CRC-32C with the four bytes of the checksum itself taken for zeros.
fn crc32c_without(bytes: &[u8], at: usize) -> u32 {
    let (before, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    let mut crc = CRC_32C.digest();
    crc.update(before);
    if let Some((_, behind)) = rest.split_first_chunk::<4>() {
        crc.update(&[0; 4]);
        crc.update(behind);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8], tlvs: &[(u8, &[u8])]) -> Vec<u8> {
        let mut body = addresses.to_vec();
        for (kind, value) in tlvs {
            body.push(*kind);
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
        }
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5B];

    #[test]
    fn version_1_names_the_client() {
        let bytes = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n\x10\x0c";
        let header = read(bytes).unwrap().unwrap();
        assert_eq!(header.source, Some("192.0.2.7:4660".parse().unwrap()));
        assert_eq!(header.len, bytes.len() - 2);
        let header = read(b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(header.source, Some("[2001:db8::7]:1".parse().unwrap()));
        for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN x y z\r\n"] {
            assert_eq!(read(unknown.as_bytes()).unwrap().unwrap().source, None);
        }
        for len in 0..bytes.len() - 2 {
            assert_eq!(read(&bytes[..len]), Ok(None), "{len}");
        }
    }

    #[test]
    fn faults_of_version_1_are_named() {
        let endless = [b"PROXY ".as_slice(), &[b'x'; V1_LEN_MAX]].concat();
        for (bytes, wanted) in [
            (b"\x10\x0c\x00\x04MQTT".as_slice(), ProxyError::Missing),
            (&endless, ProxyError::TooLong),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", ProxyError::V1Line),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", ProxyError::V1Line),
            (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", ProxyError::V1Line),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::Address),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", ProxyError::Port),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", ProxyError::Port),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", ProxyError::Port),
            (b"PROXY TCP4 \xff 5.6.7.8 1 2\r\n", ProxyError::V1Line),
        ] {
            assert_eq!(read(bytes), Err(wanted));
        }
    }

    #[test]
    fn version_2_names_the_client() {
        let bytes = [
            v2(1, 0x11, &V4, &[(2, b"mqtt.example"), (4, b"")]),
            vec![0x10],
        ]
        .concat();
        let header = read(&bytes).unwrap().unwrap();
        assert_eq!(header.source, Some("192.0.2.7:4660".parse().unwrap()));
        assert_eq!(header.len, bytes.len() - 1);
        for len in 0..header.len {
            assert_eq!(read(&bytes[..len]), Ok(None), "{len}");
        }
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&1_883_u16.to_be_bytes());
        let header = read(&v2(1, 0x21, &v6, &[])).unwrap().unwrap();
        assert_eq!(header.source, Some("[2001:db8::7]:1883".parse().unwrap()));
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        for bytes in [
            v2(0, 0x11, &V4, &[]),
            v2(0, 0, &[], &[]),
            v2(1, 0, b"ignored", &[]),
        ] {
            let header = read(&bytes).unwrap().unwrap();
            assert_eq!((header.source, header.len), (None, bytes.len()));
        }
        assert_eq!(
            read(&v2(1, 0x31, &[0; 216], &[])).unwrap().unwrap().source,
            None
        );
    }

    #[test]
    fn faults_of_version_2_are_named() {
        let mut version = v2(1, 0x11, &V4, &[]);
        version[12] = 0x31;
        let mut cut = v2(1, 0x11, &V4, &[(2, b"abc")]);
        cut[15] -= 1;
        for (bytes, wanted) in [
            (version, ProxyError::V2Version(3)),
            (v2(2, 0x11, &V4, &[]), ProxyError::V2Command(2)),
            (v2(1, 0x41, &V4, &[]), ProxyError::V2Family(0x41)),
            (v2(1, 0x13, &V4, &[]), ProxyError::V2Family(0x13)),
            (v2(1, 0x11, &V4[..11], &[]), ProxyError::V2Addresses),
            (cut, ProxyError::Extension),
            (v2(1, 0x11, &V4, &[(4, &[0; 5_000])]), ProxyError::TooLong),
            (
                v2(1, 0x11, &V4, &[(TLV_CRC32C, &[0; 4])]),
                ProxyError::Checksum,
            ),
        ] {
            assert_eq!(read(&bytes), Err(wanted));
        }
    }

    #[test]
    fn a_right_checksum_passes() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c_without(&[0; 32], 32), 0x8A91_36AA);
        let mut bytes = v2(1, 0x11, &V4, &[(TLV_CRC32C, &[0; 4])]);
        let at = bytes.len() - 4;
        let sum = crc32c_without(&bytes, at).to_be_bytes();
        bytes[at..].copy_from_slice(&sum);
        assert!(read(&bytes).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0..3) {
            let start: &[u8] = match which { 0 => V2_SIGNATURE, 1 => b"PROXY ", _ => b"" };
            let bytes = [start, &bytes].concat();
            if let Ok(Some(header)) = read(&bytes) {
                prop_assert!(header.len <= bytes.len());
            }
        }
    }
}
