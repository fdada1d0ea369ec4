//! Records: what stands in the store bit by bit. `docs/storage.md` has the table.
//!
//! What is read is borrowed from the bytes it stands in. Nothing here panics on any bytes: they
//! come from a disk.

mod author;

use std::fmt;

use crc::{CRC_32_ISCSI, Crc, Table};
use mqtt_codec::QoS;

pub(crate) use self::author::AuthorRecord;
use super::engine::Space;
use crate::route::SubscriptionOptions;

mod ban;

pub(crate) use self::ban::BanRecord;

/// The version of every record that is written.
const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;
/// Most records but for messages have fewer bytes.
const SMALL_BYTES: usize = 64;
/// CRC-32C (RFC 3720, appendix B.4), sixteen bytes a step.
static CRC_32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Why bytes are no record.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than version and checksum.
    Short,
    /// The checksum says that these are not the bytes that were written, or not under this key.
    Checksum,
    /// A version that this program does not know.
    Version(u8),
    /// The body ends too early or too late, or a value in it has no meaning.
    Body,
    /// The key does not look like one of its space.
    Key,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("too short for a record"),
            Self::Checksum => f.write_str("the checksum does not fit"),
            Self::Version(version) => write!(f, "unknown version {version}"),
            Self::Body => f.write_str("the body makes no sense"),
            Self::Key => f.write_str("the key makes no sense"),
        }
    }
}

impl std::error::Error for RecordError {}

/// A message as it is kept.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct MessageRecord<'a> {
    pub(crate) topic: &'a str,
    /// As they stand in a PUBLISH of 5.0, without a length before them.
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Milliseconds since 1970; 0 is never.
    pub(crate) expires_at_ms: u64,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct WillRecord<'a> {
    pub(crate) delay_s: u32,
    /// Milliseconds since 1970; 0 while its client is connected.
    pub(crate) due_at_ms: u64,
    pub(crate) expiry_s: Option<u32>,
    /// `None` where that is not known.
    pub(crate) author: Option<AuthorRecord<'a>>,
    pub(crate) message: MessageRecord<'a>,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct SessionRecord<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) is_connected: bool,
    /// `u32::MAX` is for ever.
    pub(crate) expiry_s: u32,
    /// Milliseconds since 1970; 0 while connected, `u64::MAX` is never.
    pub(crate) ends_at_ms: u64,
    /// Messages with a lower number were sent.
    pub(crate) sent: u64,
    pub(crate) will: Option<WillRecord<'a>>,
}

/// Something that a session has not settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum QueueRecord<'a> {
    Message(QueuedRecord<'a>),
    /// PUBREC has come, PUBCOMP is due.
    Released,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct QueuedRecord<'a> {
    pub(crate) message: u64,
    pub(crate) cost: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Vec<u32>,
    /// The shared subscription by which the session got it, and its place in the group's queue.
    pub(crate) group: Option<(&'a str, u64)>,
}

/// Reads a body from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], RecordError> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(RecordError::Body)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(RecordError::Body)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, RecordError> {
        let n = self.u16()?;
        text(self.bytes(usize::from(n))?)
    }

    fn end(&self) -> Result<(), RecordError> {
        self.0.is_empty().then_some(()).ok_or(RecordError::Body)
    }
}

/// A text as MQTT has them: UTF-8 without NUL.
fn text(bytes: &[u8]) -> Result<&str, RecordError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Body)?;
    (!text.contains('\0'))
        .then_some(text)
        .ok_or(RecordError::Body)
}

fn qos(bits: u8) -> Result<QoS, RecordError> {
    QoS::from_u8(bits & 3).ok_or(RecordError::Body)
}

/// Texts of MQTT are no longer than 65,535 bytes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let n = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&n.to_be_bytes());
    out.extend_from_slice(text.as_bytes().get(..usize::from(n)).unwrap_or_default());
}

fn checksum(space: Space, key: &[u8], version_and_body: &[u8]) -> u32 {
    let mut crc = CRC_32C.digest();
    crc.update(&[space as u8]);
    crc.update(key);
    crc.update(version_and_body);
    crc.finalize()
}

/// Makes a value: version, what `write` writes, checksum.
pub(crate) fn seal(space: Space, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = Vec::with_capacity(SMALL_BYTES);
    value.push(VERSION);
    write(&mut value);
    let crc = checksum(space, key, &value);
    value.extend_from_slice(&crc.to_be_bytes());
    value
}

/// The body of a value.
pub(crate) fn unseal<'a>(
    space: Space,
    key: &[u8],
    value: &'a [u8],
) -> Result<&'a [u8], RecordError> {
    let (bytes, crc) = value
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(RecordError::Short)?;
    let (version, body) = bytes.split_first().ok_or(RecordError::Short)?;
    if checksum(space, key, bytes) != u32::from_be_bytes(*crc) {
        return Err(RecordError::Checksum);
    }
    if *version != VERSION {
        return Err(RecordError::Version(*version));
    }
    Ok(body)
}

impl<'a> MessageRecord<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.qos as u8 | u8::from(self.retain) << 2);
        out.extend_from_slice(&self.expires_at_ms.to_be_bytes());
        put_text(out, self.topic);
        // A packet is below 2^28 bytes [MQTT-2.1.4].
        let n = u32::try_from(self.properties.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&n.to_be_bytes());
        out.extend_from_slice(self.properties);
        out.extend_from_slice(self.payload);
    }

    /// The rest of the body is the payload.
    fn take(mut reader: Reader<'a>) -> Result<Self, RecordError> {
        let flags = reader.u8()?;
        if flags & !7 != 0 {
            return Err(RecordError::Body);
        }
        let expires_at_ms = reader.u64()?;
        let topic = reader.text()?;
        let n = reader.u32()?;
        let properties = reader.bytes(usize::try_from(n).unwrap_or(usize::MAX))?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(RecordError::Body);
        }
        Ok(Self {
            topic,
            properties,
            payload: reader.0,
            qos: qos(flags)?,
            retain: flags & 4 != 0,
            expires_at_ms,
        })
    }

    pub(crate) fn encode(&self, space: Space, key: &[u8]) -> Vec<u8> {
        seal(space, key, |out| {
            out.reserve(self.topic.len() + self.properties.len() + self.payload.len() + 32);
            self.put(out);
        })
    }

    pub(crate) fn decode(space: Space, key: &[u8], value: &'a [u8]) -> Result<Self, RecordError> {
        let record = Self::take(Reader(unseal(space, key, value)?))?;
        if space == Space::Retained && key != record.topic.as_bytes() {
            return Err(RecordError::Key);
        }
        Ok(record)
    }
}

impl<'a> WillRecord<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.delay_s.to_be_bytes());
        out.extend_from_slice(&self.due_at_ms.to_be_bytes());
        out.push(u8::from(self.expiry_s.is_some()));
        out.extend_from_slice(&self.expiry_s.unwrap_or(0).to_be_bytes());
        if let Some(author) = &self.author {
            author.put(out);
        }
        self.message.put(out);
    }

    fn take(mut reader: Reader<'a>, has_author: bool) -> Result<Self, RecordError> {
        let (delay_s, due_at_ms) = (reader.u32()?, reader.u64()?);
        let expiry_s = match (reader.u8()?, reader.u32()?) {
            (0, 0) => None,
            (1, expiry_s) => Some(expiry_s),
            _ => return Err(RecordError::Body),
        };
        Ok(Self {
            delay_s,
            due_at_ms,
            expiry_s,
            author: has_author
                .then(|| AuthorRecord::take(&mut reader))
                .transpose()?,
            message: MessageRecord::take(reader)?,
        })
    }
}

mod session_flag {
    pub(super) const CONNECTED: u8 = 1;
    pub(super) const WILL: u8 = 2;
    /// Of the will.
    pub(super) const AUTHOR: u8 = 4;
    pub(super) const ALL: u8 = CONNECTED | WILL | AUTHOR;
}

impl<'a> SessionRecord<'a> {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        seal(Space::Session, key, |out| {
            let mut flags = 0;
            if self.is_connected {
                flags |= session_flag::CONNECTED;
            }
            if self.will.is_some() {
                flags |= session_flag::WILL;
            }
            if self.will.is_some_and(|will| will.author.is_some()) {
                flags |= session_flag::AUTHOR;
            }
            out.push(flags);
            out.extend_from_slice(&self.expiry_s.to_be_bytes());
            out.extend_from_slice(&self.ends_at_ms.to_be_bytes());
            out.extend_from_slice(&self.sent.to_be_bytes());
            put_text(out, self.client_id);
            if let Some(will) = &self.will {
                will.put(out);
            }
        })
    }

    pub(crate) fn decode(key: &[u8], value: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(unseal(Space::Session, key, value)?);
        let flags = reader.u8()?;
        let has_author = flags & session_flag::AUTHOR != 0;
        if flags & !session_flag::ALL != 0 || (has_author && flags & session_flag::WILL == 0) {
            return Err(RecordError::Body);
        }
        let (expiry_s, ends_at_ms, sent) = (reader.u32()?, reader.u64()?, reader.u64()?);
        let client_id = reader.text()?;
        if client_id.is_empty() {
            return Err(RecordError::Body);
        }
        let will = if flags & session_flag::WILL == 0 {
            reader.end()?;
            None
        } else {
            Some(WillRecord::take(reader, has_author)?)
        };
        Ok(Self {
            client_id,
            is_connected: flags & session_flag::CONNECTED != 0,
            expiry_s,
            ends_at_ms,
            sent,
            will,
        })
    }
}

pub(crate) fn encode_subscription(key: &[u8], options: SubscriptionOptions) -> Vec<u8> {
    seal(Space::Subscription, key, |out| {
        out.push(
            options.qos as u8
                | u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3,
        );
        out.extend_from_slice(&options.identifier.to_be_bytes());
    })
}

pub(crate) fn decode_subscription(
    key: &[u8],
    value: &[u8],
) -> Result<SubscriptionOptions, RecordError> {
    let mut reader = Reader(unseal(Space::Subscription, key, value)?);
    let (bits, identifier) = (reader.u8()?, reader.u32()?);
    reader.end()?;
    if bits & !15 != 0 {
        return Err(RecordError::Body);
    }
    Ok(SubscriptionOptions {
        identifier,
        qos: qos(bits)?,
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
    })
}

mod queue_flag {
    pub(super) const RETAIN: u8 = 4;
    pub(super) const GROUP: u8 = 8;
}

const STATE_MESSAGE: u8 = 0;
const STATE_RELEASED: u8 = 1;

impl<'a> QueueRecord<'a> {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        seal(Space::Queue, key, |out| match self {
            Self::Released => out.push(STATE_RELEASED),
            Self::Message(queued) => {
                out.push(STATE_MESSAGE);
                out.extend_from_slice(&queued.message.to_be_bytes());
                out.extend_from_slice(&queued.cost.to_be_bytes());
                let mut flags = queued.qos as u8;
                if queued.retain {
                    flags |= queue_flag::RETAIN;
                }
                if queued.group.is_some() {
                    flags |= queue_flag::GROUP;
                }
                out.push(flags);
                let n = u16::try_from(queued.identifiers.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&n.to_be_bytes());
                for identifier in queued.identifiers.iter().take(usize::from(n)) {
                    out.extend_from_slice(&identifier.to_be_bytes());
                }
                if let Some((group, place)) = queued.group {
                    put_text(out, group);
                    out.extend_from_slice(&place.to_be_bytes());
                }
            }
        })
    }

    pub(crate) fn decode(key: &[u8], value: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(unseal(Space::Queue, key, value)?);
        let record = match reader.u8()? {
            STATE_RELEASED => Self::Released,
            STATE_MESSAGE => {
                let (message, cost, flags) = (reader.u64()?, reader.u32()?, reader.u8()?);
                if flags & !15 != 0 {
                    return Err(RecordError::Body);
                }
                let n = reader.u16()?;
                let identifiers = (0..n).map(|_| reader.u32()).collect::<Result<_, _>>()?;
                let is_grouped = flags & queue_flag::GROUP != 0;
                let group = is_grouped
                    .then(|| Ok((reader.text()?, reader.u64()?)))
                    .transpose()?;
                Self::Message(QueuedRecord {
                    message,
                    cost,
                    qos: qos(flags)?,
                    retain: flags & queue_flag::RETAIN != 0,
                    identifiers,
                    group,
                })
            }
            _ => return Err(RecordError::Body),
        };
        reader.end()?;
        Ok(record)
    }
}

/// A checksum by which a message is told from another one, under the same packet id.
pub(crate) fn digest(topic: &str, payload: &[u8]) -> u32 {
    let mut crc = CRC_32C.digest();
    crc.update(topic.as_bytes());
    // No topic has this byte [MQTT-4.7.3-2].
    crc.update(&[0]);
    crc.update(payload);
    crc.finalize()
}

/// `digest` is that of the message.
pub(crate) fn encode_incoming(key: &[u8], digest: u32) -> Vec<u8> {
    seal(Space::Incoming, key, |out| {
        out.extend_from_slice(&digest.to_be_bytes());
    })
}

pub(crate) fn decode_incoming(key: &[u8], value: &[u8]) -> Result<u32, RecordError> {
    let mut reader = Reader(unseal(Space::Incoming, key, value)?);
    let digest = reader.u32()?;
    reader.end()?;
    Ok(digest)
}

/// `text` is the subscription, `$share/...`.
pub(crate) fn encode_group(key: &[u8], text: &str) -> Vec<u8> {
    seal(Space::Group, key, |out| {
        out.extend_from_slice(text.as_bytes());
    })
}

pub(crate) fn decode_group<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a str, RecordError> {
    text(unseal(Space::Group, key, value)?)
}

/// Keys.
pub(crate) mod key {
    use mqtt_codec::PacketId;

    pub(crate) use super::ban::{key as ban, read_key as read_ban};
    use super::{RecordError, text};

    pub(crate) const FORMAT: &[u8] = b"format";
    pub(crate) const NODE: &[u8] = b"node";
    pub(crate) const STOPPED: &[u8] = b"stopped";
    pub(crate) const CRASHES: &[u8] = b"crashes";

    pub(crate) fn number(number: u64) -> [u8; 8] {
        number.to_be_bytes()
    }

    pub(crate) fn subscription(holder: u64, filter: &str) -> Vec<u8> {
        [&holder.to_be_bytes(), filter.as_bytes()].concat()
    }

    pub(crate) fn queue(holder: u64, number: u64) -> [u8; 16] {
        (u128::from(holder) << 64 | u128::from(number)).to_be_bytes()
    }

    pub(crate) fn incoming(holder: u64, packet_id: PacketId) -> [u8; 10] {
        let mut key = [0; 10];
        let (high, low) = key.split_at_mut(8);
        high.copy_from_slice(&holder.to_be_bytes());
        low.copy_from_slice(&packet_id.get().to_be_bytes());
        key
    }

    /// The holder or message that a key is of, where the key is nothing else.
    pub(crate) fn read_number(key: &[u8]) -> Result<u64, RecordError> {
        let bytes = key.try_into().map_err(|_| RecordError::Key)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// The holder that a key begins with.
    pub(crate) fn read_holder(key: &[u8]) -> Result<u64, RecordError> {
        let bytes = key.first_chunk().ok_or(RecordError::Key)?;
        Ok(u64::from_be_bytes(*bytes))
    }

    pub(crate) fn read_subscription(key: &[u8]) -> Result<(u64, &str), RecordError> {
        let (holder, filter) = key.split_first_chunk().ok_or(RecordError::Key)?;
        let filter = text(filter).map_err(|_| RecordError::Key)?;
        Ok((u64::from_be_bytes(*holder), filter))
    }

    pub(crate) fn read_queue(key: &[u8]) -> Result<(u64, u64), RecordError> {
        let (holder, number) = key.split_first_chunk().ok_or(RecordError::Key)?;
        let number = number.try_into().map_err(|_| RecordError::Key)?;
        Ok((u64::from_be_bytes(*holder), u64::from_be_bytes(number)))
    }

    pub(crate) fn read_incoming(key: &[u8]) -> Result<(u64, PacketId), RecordError> {
        let (holder, id) = key.split_first_chunk().ok_or(RecordError::Key)?;
        let id = id.try_into().map_err(|_| RecordError::Key)?;
        let id = PacketId::new(u16::from_be_bytes(id)).ok_or(RecordError::Key)?;
        Ok((u64::from_be_bytes(*holder), id))
    }
}

/// Whether a value is a record of its space, under this key.
pub(crate) fn check(space: Space, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    match space {
        Space::Meta => unseal(space, key, value).map(|_| ()),
        Space::Session => {
            key::read_number(key)?;
            SessionRecord::decode(key, value).map(|_| ())
        }
        Space::Subscription => {
            key::read_subscription(key)?;
            decode_subscription(key, value).map(|_| ())
        }
        Space::Queue => {
            key::read_queue(key)?;
            QueueRecord::decode(key, value).map(|_| ())
        }
        Space::Message => {
            key::read_number(key)?;
            MessageRecord::decode(space, key, value).map(|_| ())
        }
        Space::Incoming => {
            key::read_incoming(key)?;
            decode_incoming(key, value).map(|_| ())
        }
        Space::Retained => MessageRecord::decode(space, key, value).map(|_| ()),
        Space::Group => {
            key::read_number(key)?;
            decode_group(key, value).map(|_| ())
        }
        Space::Ban => {
            key::read_ban(key)?;
            BanRecord::decode(key, value).map(|_| ())
        }
        // As it was found, whatever that was.
        Space::Quarantine => Ok(()),
    }
}

#[cfg(test)]
mod tests;
