//! Who wrote a will, in the record of a session: rules are asked anew when it is published.

use std::net::{IpAddr, Ipv6Addr};

use mqtt_codec::Version;
use pollio::PeerAddr;

use super::{Reader, RecordError, put_text};

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct AuthorRecord<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) peer: PeerAddr,
    pub(crate) version: Version,
    /// Nothing else is known of its client that rules may ask for. A login may bring rights of its
    /// own, and a program its data, that do not outlive the broker.
    pub(crate) is_whole: bool,
}

mod author_flag {
    pub(super) const WHOLE: u8 = 1;
    pub(super) const USER: u8 = 2;
    pub(super) const UNIX: u8 = 4;
}

impl<'a> AuthorRecord<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (flag, is_set) in [
            (author_flag::WHOLE, self.is_whole),
            (author_flag::USER, self.user.is_some()),
            (author_flag::UNIX, self.peer.is_unix()),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        out.push(flags);
        out.push(self.version.level());
        out.extend_from_slice(&self.peer.ip_octets());
        out.extend_from_slice(&self.peer.port().to_be_bytes());
        put_text(out, self.user.unwrap_or_default());
    }

    pub(super) fn take(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
        let flags = reader.u8()?;
        if flags & !(author_flag::WHOLE | author_flag::USER | author_flag::UNIX) != 0 {
            return Err(RecordError::Body);
        }
        let version = Version::from_level(reader.u8()?).ok_or(RecordError::Body)?;
        let (ip, port): ([u8; 16], u16) = (reader.array()?, reader.u16()?);
        let user = reader.text()?;
        let is_unix = flags & author_flag::UNIX != 0;
        let has_user = flags & author_flag::USER != 0;
        if (is_unix && (ip != [0; 16] || port != 0)) || (!has_user && !user.is_empty()) {
            return Err(RecordError::Body);
        }
        let internet = || PeerAddr::new(IpAddr::V6(Ipv6Addr::from(ip)), port);
        Ok(Self {
            user: has_user.then_some(user),
            peer: if is_unix { PeerAddr::UNIX } else { internet() },
            version,
            is_whole: flags & author_flag::WHOLE != 0,
        })
    }
}
