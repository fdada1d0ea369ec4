//! Records of bans.

use super::{Reader, RecordError, seal, text, unseal};
use crate::defence::{BanCause, Banned, ClientOf};
use crate::network::Network;
use crate::store::engine::Space;

/// A ban as it is kept.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct BanRecord {
    /// Milliseconds since 1970; `u64::MAX` is never.
    pub(crate) until_ms: u64,
    /// How often in a row.
    pub(crate) times: u8,
    pub(crate) cause: BanCause,
}

impl BanRecord {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        seal(Space::Ban, key, |out| {
            out.push(self.cause.number());
            out.push(self.times);
            out.extend_from_slice(&self.until_ms.to_be_bytes());
        })
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(unseal(Space::Ban, key, value)?);
        let cause = BanCause::of_number(reader.u8()?).ok_or(RecordError::Body)?;
        let (times, until_ms) = (reader.u8()?, reader.u64()?);
        reader.end()?;
        Ok(Self {
            until_ms,
            times,
            cause,
        })
    }
}

/// A range of addresses, and one client behind it or nothing.
pub(crate) fn key(who: &Banned) -> Vec<u8> {
    let (network, id) = match who {
        Banned::Host(host) => (host.network(), ""),
        Banned::Network(network) => (*network, ""),
        Banned::Client(client) => (client.host.network(), &*client.id),
    };
    let mut key = network.first().to_be_bytes().to_vec();
    // No more than 128.
    key.push(network.bits() as u8);
    key.extend_from_slice(id.as_bytes());
    key
}

pub(crate) fn read_key(bytes: &[u8]) -> Result<Banned, RecordError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(RecordError::Key)?;
    let (bits, id) = rest.split_first().ok_or(RecordError::Key)?;
    let id = text(id).map_err(|_| RecordError::Key)?;
    let network = Network::new(u128::from_be_bytes(*first), u32::from(*bits));
    let of_network = network.and_then(|network| Banned::try_from(network).ok());
    let who = match (of_network.ok_or(RecordError::Key)?, id) {
        (who, "") => who,
        (Banned::Host(host), id) => Banned::Client(ClientOf {
            host,
            id: id.into(),
        }),
        _ => return Err(RecordError::Key),
    };
    // An IPv6 address stands for its /64 and has no key of its own.
    (key(&who) == bytes).then_some(who).ok_or(RecordError::Key)
}
