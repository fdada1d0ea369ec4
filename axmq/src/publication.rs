//! A publication on its way through the broker: one buffer, and where in it things are.
//!
//! The bytes of a PUBLISH are never taken apart. A [`View`] borrows them where they were read, so
//! that a message for local QoS 0 subscribers costs no reference count at all; a [`Publication`]
//! shares them (one atomic add) when the message has to outlive the turn or cross to another shard.

use std::ops::Range;

use mqtt_codec::{Publish, QoS, Version};
use sharedbuf::{ReadBlock, SharedSlice};
use slabmem::Key;

use crate::config::Durability;
use crate::memory::allocated;

/// A session anywhere in the process.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct SessionRef {
    pub(crate) shard: u16,
    pub(crate) key: Key,
}

/// Where the parts of a publication lie in its bytes, and what it asks for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layout {
    topic_at: u32,
    properties_at: u32,
    properties_len: u32,
    payload_at: u32,
    topic_len: u16,
    /// The bytes are a whole PUBLISH packet, QoS 0 without DUP and RETAIN, in the wire format of
    /// this version (3.1 and 3.1.1 share one): such subscribers get them as they came.
    image: Option<Version>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// What its publisher's acknowledgement stands for.
    pub(crate) durability: Durability,
    /// In the shard's milliseconds; 0 is never.
    expires_at_ms: u64,
    /// Its number in the store, the same on all shards; 0 where it has none.
    number: u64,
}

/// A publication that owns a share of its bytes. Crosses threads.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    bytes: SharedSlice,
    layout: Layout,
    pub(crate) source: Option<SessionRef>,
}

#[derive(Copy, Clone)]
enum Bytes<'a> {
    Block(&'a ReadBlock, usize, usize),
    Shared(&'a SharedSlice),
}

/// A publication borrowed from the block it was read into, or from a [`Publication`].
#[derive(Copy, Clone)]
pub(crate) struct View<'a> {
    bytes: Bytes<'a>,
    /// Its topic, where the packet was decoded just now: it need not be looked at again.
    topic: Option<&'a str>,
    layout: Layout,
    pub(crate) source: Option<SessionRef>,
}

impl Layout {
    /// Builds a publication of its own out of loose parts (a will, a rewritten packet).
    fn of_parts(topic: usize, properties: usize) -> Self {
        // A topic is at most 65,535 bytes and a packet below 2^28 [MQTT-1.5.4, MQTT-2.1.4].
        let topic_len = u16::try_from(topic).unwrap_or(u16::MAX);
        let properties_len = u32::try_from(properties).unwrap_or(u32::MAX);
        let properties_at = u32::from(topic_len);
        Self {
            topic_at: 0,
            topic_len,
            properties_at,
            properties_len,
            payload_at: properties_at.saturating_add(properties_len),
            image: None,
            qos: QoS::AtMostOnce,
            retain: false,
            durability: Durability::None,
            expires_at_ms: 0,
            number: 0,
        }
    }
}

/// The parts of a publication that does not stand in one received packet as it is.
pub(crate) struct Parts<'a, P> {
    pub(crate) topic: &'a str,
    /// Raw property spans that subscribers get unchanged.
    pub(crate) properties: P,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expires_at_ms: u64,
}

impl Publication {
    /// Copies the parts into a buffer of their own.
    pub(crate) fn from_parts<'a, P>(parts: Parts<'a, P>, source: Option<SessionRef>) -> Self
    where
        P: Iterator<Item = &'a [u8]>,
    {
        let mut buffer = Vec::with_capacity(parts.topic.len() + parts.payload.len() + 32);
        buffer.extend_from_slice(parts.topic.as_bytes());
        for span in parts.properties {
            buffer.extend_from_slice(span);
        }
        let properties = buffer.len() - parts.topic.len();
        buffer.extend_from_slice(parts.payload);
        let mut layout = Layout::of_parts(parts.topic.len(), properties);
        layout.qos = parts.qos;
        layout.retain = parts.retain;
        layout.expires_at_ms = parts.expires_at_ms;
        Self {
            bytes: SharedSlice::from(buffer),
            layout,
            source,
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            bytes: Bytes::Shared(&self.bytes),
            topic: None,
            layout: self.layout,
            source: self.source,
        }
    }

    /// Sets the time after which nobody gets it any more.
    pub(crate) fn expire_at(&mut self, at_ms: u64) {
        self.layout.expires_at_ms = at_ms.max(1);
    }

    /// Its number in the store; 0 where it has none.
    pub(crate) fn number(&self) -> u64 {
        self.layout.number
    }

    /// The same with what its acknowledgement stands for.
    pub(crate) fn kept_as(mut self, durability: Durability) -> Self {
        self.layout.durability = durability;
        self
    }

    pub(crate) fn set_number(&mut self, number: u64) {
        self.layout.number = number;
    }

    /// Bytes charged for it in credits and limits.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// Its share of the heap that its bytes take; nothing where they are in a pool.
    pub(crate) fn heap_bytes(&self) -> u64 {
        allocated(self.bytes.heap_share())
    }

    pub(crate) fn payload_is_empty(&self) -> bool {
        self.view().payload().is_empty()
    }
}

impl<'a> View<'a> {
    /// The PUBLISH that stands at `range` of `block`, where its properties may be forwarded as they
    /// are and its topic is not an alias.
    pub(crate) fn of_packet(
        block: &'a ReadBlock,
        range: Range<usize>,
        publish: &Publish<'a>,
        version: Version,
        source: Option<SessionRef>,
    ) -> Self {
        let topic = publish.topic_range();
        let properties = publish.properties_range();
        let is_image = publish.qos() == QoS::AtMostOnce && !publish.retain() && !publish.dup();
        let at = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let layout = Layout {
            topic_at: at(topic.start),
            topic_len: u16::try_from(topic.len()).unwrap_or(u16::MAX),
            properties_at: at(properties.start),
            properties_len: at(properties.len()),
            payload_at: at(publish.payload_range().start),
            image: is_image.then_some(match version {
                Version::V5 => Version::V5,
                _ => Version::V311,
            }),
            qos: publish.qos(),
            retain: publish.retain(),
            durability: Durability::None,
            expires_at_ms: 0,
            number: 0,
        };
        Self {
            bytes: Bytes::Block(block, range.start, range.end),
            topic: Some(publish.topic()),
            layout,
            source,
        }
    }

    fn bytes(&self) -> &'a [u8] {
        match self.bytes {
            Bytes::Block(block, start, end) => block.filled().get(start..end).unwrap_or_default(),
            Bytes::Shared(slice) => slice,
        }
    }

    pub(crate) fn topic(&self) -> &'a str {
        if let Some(topic) = self.topic {
            return topic;
        }
        let start = self.layout.topic_at as usize;
        let span = self
            .bytes()
            .get(start..start + usize::from(self.layout.topic_len));
        // The codec has validated these bytes [MQTT-1.5.4-1]; a mistake of ours must not panic.
        std::str::from_utf8(span.unwrap_or_default()).unwrap_or_default()
    }

    /// The same under a topic without its first bytes, which has to be a whole text.
    pub(crate) fn without_prefix(&self, bytes: usize) -> Self {
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let bytes = bytes.min(self.layout.topic_len);
        Self {
            topic: self.topic.and_then(|topic| topic.get(usize::from(bytes)..)),
            layout: Layout {
                topic_at: self.layout.topic_at + u32::from(bytes),
                topic_len: self.layout.topic_len - bytes,
                image: None,
                ..self.layout
            },
            ..*self
        }
    }

    /// The properties that subscribers get unchanged, without a length before them.
    pub(crate) fn properties(&self) -> &'a [u8] {
        let start = self.layout.properties_at as usize;
        let end = start + self.layout.properties_len as usize;
        self.bytes().get(start..end).unwrap_or_default()
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        self.bytes()
            .get(self.layout.payload_at as usize..)
            .unwrap_or_default()
    }

    /// Its number in the store; 0 where it has none.
    pub(crate) fn number(&self) -> u64 {
        self.layout.number
    }

    /// The same under a number in the store, and with what its acknowledgement stands for.
    pub(crate) fn kept_as(&self, number: u64, durability: Durability) -> Self {
        Self {
            layout: Layout {
                number,
                durability,
                ..self.layout
            },
            ..*self
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        self.layout.durability
    }

    /// Bytes it is made of.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(crate) fn qos(&self) -> QoS {
        self.layout.qos
    }

    pub(crate) fn retain(&self) -> bool {
        self.layout.retain
    }

    /// In the shard's milliseconds; 0 is never.
    pub(crate) fn expires_at_ms(&self) -> u64 {
        self.layout.expires_at_ms
    }

    /// The bytes as they came, where a QoS 0 subscriber of `version` may get them so.
    pub(crate) fn image(&self, version: Version) -> Option<&'a [u8]> {
        let wire = if version == Version::V5 {
            Version::V5
        } else {
            Version::V311
        };
        (self.layout.image == Some(wire)).then(|| self.bytes())
    }

    /// The payload as a share of the buffer it lies in.
    pub(crate) fn payload_slice(&self) -> SharedSlice {
        let at = self.layout.payload_at as usize;
        match self.bytes {
            Bytes::Block(block, start, end) => block.share((start + at).min(end)..end),
            Bytes::Shared(slice) => slice.slice(at.min(slice.len())..),
        }
    }

    /// All the bytes as a share of their buffer.
    pub(crate) fn share(&self) -> SharedSlice {
        match self.bytes {
            Bytes::Block(block, start, end) => block.share(start..end),
            Bytes::Shared(slice) => slice.clone(),
        }
    }

    /// For the way to another shard: shares the buffer, which is let go again within a turn.
    pub(crate) fn to_publication(self) -> Publication {
        Publication {
            bytes: self.share(),
            layout: self.layout,
            source: self.source,
        }
    }

    /// For keeping: a small message in a large block is copied out, so that it does not hold the
    /// whole block for as long as a client stays away (DESIGN 4, step 1).
    pub(crate) fn to_kept(self) -> Publication {
        let buffer_len = match self.bytes {
            Bytes::Block(block, ..) => block.capacity(),
            Bytes::Shared(slice) => slice.buffer_len(),
        };
        let bytes = if self.len() < buffer_len / 4 {
            SharedSlice::copy_from(self.bytes())
        } else {
            self.share()
        };
        Publication {
            bytes,
            layout: self.layout,
            source: self.source,
        }
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.layout.expires_at_ms != 0 && self.layout.expires_at_ms <= now_ms
    }

    /// Seconds that are left of its message expiry interval, rounded up, so that a message in time
    /// is never announced as expired [MQTT-3.3.2-6].
    pub(crate) fn expiry_left_s(&self, now_ms: u64) -> Option<u32> {
        (self.layout.expires_at_ms != 0).then(|| {
            let left_ms = self.layout.expires_at_ms.saturating_sub(now_ms);
            u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX)
        })
    }
}
