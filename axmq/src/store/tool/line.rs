//! The lines of an export: one JSON object a record, by names and not by bytes, so that another
//! version of the program reads them whatever its records look like. `docs/storage.md` has the
//! table.

use std::fmt;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mqtt_codec::{PacketId, QoS, Version};
use pollio::PeerAddr;
use serde::{Deserialize, Serialize};

use crate::defence::{BanCause, Banned, ClientOf};
use crate::network::Network;
use crate::route::SubscriptionOptions;
use crate::store::engine::Space;
use crate::store::record::{
    self, AuthorRecord, BanRecord, MessageRecord, QueueRecord, QueuedRecord, RecordError,
    SessionRecord, WillRecord, decode_group, decode_incoming, decode_subscription, encode_group,
    encode_incoming, encode_subscription, key, seal,
};

/// The version of the lines.
pub(super) const EXPORT: u32 = 1;

/// A record: its space, its key and its value.
pub(super) type Record = (Space, Vec<u8>, Vec<u8>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The first line.
    Header(Header),
    Session(Session),
    Subscription(Subscription),
    Group(Group),
    Message(Numbered),
    Queued(Queued),
    Incoming(Incoming),
    Retained(Message),
    Ban(Ban),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) export: u32,
    /// In hexadecimal.
    pub(super) node: String,
    pub(super) crashes: u64,
    /// When the broker stopped in order; not there where it did not.
    pub(super) stopped_at_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    holder: u64,
    client_id: String,
    is_connected: bool,
    expiry_s: u32,
    ends_at_ms: u64,
    sent: u64,
    will: Option<Will>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Will {
    delay_s: u32,
    due_at_ms: u64,
    expiry_s: Option<u32>,
    /// Not there in exports of before it was kept.
    #[serde(default)]
    author: Option<Author>,
    message: Message,
}

/// Who wrote a will. Where a client came by a socket in the file system there is no address.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Author {
    user: Option<String>,
    address: Option<SocketAddr>,
    version: u8,
    is_whole: bool,
}

impl Author {
    fn of(record: &AuthorRecord<'_>) -> Self {
        let (peer, port) = (record.peer, record.peer.port());
        Self {
            user: record.user.map(str::to_owned),
            address: peer.ip().map(|ip| SocketAddr::new(ip, port)),
            version: record.version.level(),
            is_whole: record.is_whole,
        }
    }

    fn record(&self) -> Result<AuthorRecord<'_>, String> {
        let version = Version::from_level(self.version);
        Ok(AuthorRecord {
            user: self.user.as_deref(),
            peer: self.address.map_or(PeerAddr::UNIX, PeerAddr::from),
            version: version.ok_or_else(|| format!("{} is no version", self.version))?,
            is_whole: self.is_whole,
        })
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    holder: u64,
    filter: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    identifier: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    holder: u64,
    filter: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbered {
    number: u64,
    message: Message,
}

/// Properties and payload are in base64.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    topic: String,
    qos: u8,
    retain: bool,
    expires_at_ms: u64,
    properties: String,
    payload: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Queued {
    holder: u64,
    number: u64,
    /// Not there where PUBREC has come.
    what: Option<Waiting>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    message: u64,
    cost: u32,
    qos: u8,
    retain: bool,
    identifiers: Vec<u32>,
    /// The shared subscription, and the place in its queue.
    group: Option<(String, u64)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Incoming {
    holder: u64,
    packet_id: u16,
    digest: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ban {
    /// A range, such as `192.0.2.7/32`.
    addresses: String,
    /// Not there where all of them are banned.
    client_id: Option<String>,
    until_ms: u64,
    times: u8,
    cause: String,
}

fn qos(number: u8) -> Result<QoS, String> {
    QoS::from_u8(number).ok_or_else(|| format!("there is no QoS {number}"))
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| error.to_string())
}

impl Message {
    fn of(record: &MessageRecord<'_>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            qos: record.qos as u8,
            retain: record.retain,
            expires_at_ms: record.expires_at_ms,
            properties: STANDARD.encode(record.properties),
            payload: STANDARD.encode(record.payload),
        }
    }

    /// Calls `act` with the record of this message.
    fn with<T>(&self, act: impl FnOnce(MessageRecord<'_>) -> T) -> Result<T, String> {
        let (properties, payload) = (bytes(&self.properties)?, bytes(&self.payload)?);
        Ok(act(MessageRecord {
            topic: &self.topic,
            properties: &properties,
            payload: &payload,
            qos: qos(self.qos)?,
            retain: self.retain,
            expires_at_ms: self.expires_at_ms,
        }))
    }
}

impl Session {
    fn encode(&self, key: &[u8], will: Option<WillRecord<'_>>) -> Vec<u8> {
        SessionRecord {
            client_id: &self.client_id,
            is_connected: self.is_connected,
            expiry_s: self.expiry_s,
            ends_at_ms: self.ends_at_ms,
            sent: self.sent,
            will,
        }
        .encode(key)
    }

    fn record(&self) -> Result<Record, String> {
        let key = key::number(self.holder);
        let value = match &self.will {
            None => self.encode(&key, None),
            Some(will) => {
                let author = will.author.as_ref().map(Author::record).transpose()?;
                will.message.with(|message| {
                    let will = WillRecord {
                        delay_s: will.delay_s,
                        due_at_ms: will.due_at_ms,
                        expiry_s: will.expiry_s,
                        author,
                        message,
                    };
                    self.encode(&key, Some(will))
                })?
            }
        };
        Ok((Space::Session, key.into(), value))
    }
}

impl Queued {
    fn record(&self) -> Result<Record, String> {
        let key = key::queue(self.holder, self.number);
        let record = match &self.what {
            None => QueueRecord::Released,
            Some(waiting) => {
                let group = waiting.group.as_ref();
                QueueRecord::Message(QueuedRecord {
                    message: waiting.message,
                    cost: waiting.cost,
                    qos: qos(waiting.qos)?,
                    retain: waiting.retain,
                    identifiers: waiting.identifiers.clone(),
                    group: group.map(|(text, place)| (&**text, *place)),
                })
            }
        };
        Ok((Space::Queue, key.into(), record.encode(&key)))
    }
}

impl Ban {
    fn of(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let record = BanRecord::decode(key, value)?;
        let (addresses, client_id) = match key::read_ban(key)? {
            Banned::Host(host) => (host.network(), None),
            Banned::Network(network) => (network, None),
            Banned::Client(client) => (client.host.network(), Some(client.id.into_string())),
        };
        Ok(Self {
            addresses: addresses.to_string(),
            client_id,
            until_ms: record.until_ms,
            times: record.times,
            cause: record.cause.word().to_owned(),
        })
    }

    fn record(&self) -> Result<Record, String> {
        let wrong = |error: &dyn fmt::Display| error.to_string();
        let network: Network = self.addresses.parse().map_err(|error| wrong(&error))?;
        let banned = Banned::try_from(network).map_err(|error| wrong(&error))?;
        let who = match (banned, self.client_id.as_deref()) {
            (banned, None) => banned,
            (Banned::Host(host), Some(id)) => Banned::Client(ClientOf {
                host,
                id: id.into(),
            }),
            (_, Some(_)) => return Err("a client is behind one address".to_owned()),
        };
        let cause = BanCause::of_word(&self.cause);
        let record = BanRecord {
            until_ms: self.until_ms,
            times: self.times,
            cause: cause.ok_or_else(|| format!("there is no cause `{}`", self.cause))?,
        };
        let key = key::ban(&who);
        let value = record.encode(&key);
        Ok((Space::Ban, key, value))
    }
}

impl Line {
    /// The line of a record. `None` for spaces that have none.
    pub(super) fn of(space: Space, key: &[u8], value: &[u8]) -> Result<Option<Self>, RecordError> {
        Ok(Some(match space {
            Space::Meta | Space::Quarantine => return Ok(None),
            Space::Session => {
                let holder = key::read_number(key)?;
                let record = SessionRecord::decode(key, value)?;
                let will = record.will.as_ref().map(|will| Will {
                    delay_s: will.delay_s,
                    due_at_ms: will.due_at_ms,
                    expiry_s: will.expiry_s,
                    author: will.author.as_ref().map(Author::of),
                    message: Message::of(&will.message),
                });
                Self::Session(Session {
                    holder,
                    client_id: record.client_id.to_owned(),
                    is_connected: record.is_connected,
                    expiry_s: record.expiry_s,
                    ends_at_ms: record.ends_at_ms,
                    sent: record.sent,
                    will,
                })
            }
            Space::Subscription => {
                let (holder, filter) = key::read_subscription(key)?;
                let options = decode_subscription(key, value)?;
                Self::Subscription(Subscription {
                    holder,
                    filter: filter.to_owned(),
                    qos: options.qos as u8,
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    identifier: options.identifier,
                })
            }
            Space::Group => Self::Group(Group {
                holder: key::read_number(key)?,
                filter: decode_group(key, value)?.to_owned(),
            }),
            Space::Message => Self::Message(Numbered {
                number: key::read_number(key)?,
                message: Message::of(&MessageRecord::decode(space, key, value)?),
            }),
            Space::Queue => {
                let (holder, number) = key::read_queue(key)?;
                let what = match QueueRecord::decode(key, value)? {
                    QueueRecord::Released => None,
                    QueueRecord::Message(queued) => Some(Waiting {
                        message: queued.message,
                        cost: queued.cost,
                        qos: queued.qos as u8,
                        retain: queued.retain,
                        identifiers: queued.identifiers,
                        group: queued.group.map(|(text, place)| (text.to_owned(), place)),
                    }),
                };
                Self::Queued(Queued {
                    holder,
                    number,
                    what,
                })
            }
            Space::Incoming => {
                let (holder, packet_id) = key::read_incoming(key)?;
                Self::Incoming(Incoming {
                    holder,
                    packet_id: packet_id.get(),
                    digest: decode_incoming(key, value)?,
                })
            }
            Space::Retained => {
                Self::Retained(Message::of(&MessageRecord::decode(space, key, value)?))
            }
            Space::Ban => Self::Ban(Ban::of(key, value)?),
        }))
    }

    /// The records of a line.
    pub(super) fn records(&self) -> Result<Vec<Record>, String> {
        let record = match self {
            Self::Header(header) => return header.records(),
            Self::Session(session) => session.record()?,
            Self::Subscription(subscription) => {
                let key = key::subscription(subscription.holder, &subscription.filter);
                let options = SubscriptionOptions {
                    identifier: subscription.identifier,
                    qos: qos(subscription.qos)?,
                    no_local: subscription.no_local,
                    retain_as_published: subscription.retain_as_published,
                };
                let value = encode_subscription(&key, options);
                (Space::Subscription, key, value)
            }
            Self::Group(group) => {
                let key = key::number(group.holder);
                (Space::Group, key.into(), encode_group(&key, &group.filter))
            }
            Self::Message(numbered) => {
                let key = key::number(numbered.number);
                let value = numbered
                    .message
                    .with(|message| message.encode(Space::Message, &key))?;
                (Space::Message, key.into(), value)
            }
            Self::Queued(queued) => queued.record()?,
            Self::Incoming(incoming) => {
                let id = PacketId::new(incoming.packet_id).ok_or("packet id 0")?;
                let key = key::incoming(incoming.holder, id);
                let value = encode_incoming(&key, incoming.digest);
                (Space::Incoming, key.into(), value)
            }
            Self::Retained(message) => {
                let key = message.topic.as_bytes();
                let value = message.with(|record| record.encode(Space::Retained, key))?;
                (Space::Retained, key.into(), value)
            }
            Self::Ban(ban) => ban.record()?,
        };
        let (space, key, value) = &record;
        record::check(*space, key, value).map_err(|error| error.to_string())?;
        Ok(vec![record])
    }
}

impl Header {
    fn records(&self) -> Result<Vec<Record>, String> {
        if self.export != EXPORT {
            return Err(format!(
                "this is an export of version {}, and this version of axmq reads {EXPORT}",
                self.export
            ));
        }
        let node = u128::from_str_radix(&self.node, 16)
            .ok()
            .filter(|_| self.node.len() == 32)
            .ok_or("a node is 32 hexadecimal digits")?;
        let mut records = Vec::new();
        let mut put = |key: &'static [u8], bytes: &[u8]| {
            let value = seal(Space::Meta, key, |out| out.extend_from_slice(bytes));
            records.push((Space::Meta, key.to_vec(), value));
        };
        put(key::FORMAT, &crate::store::upgrade::FORMAT.to_be_bytes());
        put(key::NODE, &node.to_be_bytes());
        put(key::CRASHES, &self.crashes.to_be_bytes());
        if let Some(stopped_at_ms) = self.stopped_at_ms {
            put(key::STOPPED, &stopped_at_ms.to_be_bytes());
        }
        Ok(records)
    }
}
