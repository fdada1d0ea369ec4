//! PUBLISH, section 3.3.

use core::fmt;
use core::num::NonZeroU16;
use core::ops::Range;

use crate::encode::PublishHead;
use crate::error::{Error, ErrorKind, Field};
use crate::frame::Frame;
use crate::properties::{PassThrough, Properties, SubscriptionIdentifiers, UserProperties};
use crate::property::{PropertyId, set};
use crate::reader::Reader;
use crate::types::{PacketId, PacketType, PayloadFormat, QoS, Role, Version};
use crate::view::check_header;

/// A PUBLISH packet.
///
/// The ranges are within the packet, fixed header included, so that a server can keep the packet
/// and forward parts of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    topic: &'a str,
    payload: &'a [u8],
    properties: Properties<'a>,
    /// Where the topic begins, behind its length.
    topic_start: u32,
    /// Where the payload begins, which is where the properties end.
    payload_start: u32,
    packet_id: Option<PacketId>,
    qos: QoS,
    dup: bool,
    retain: bool,
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn decode(
        packet: &'a [u8],
        frame: &Frame,
        version: Version,
        role: Role,
    ) -> Result<Self, Error> {
        Self::read(
            Reader::new(packet, frame, Some(version))?,
            frame,
            version,
            role,
        )
    }

    /// Decodes a packet of whose payload only the beginning is there.
    pub(crate) fn decode_part(
        beginning: &'a [u8],
        frame: &Frame,
        version: Version,
        role: Role,
    ) -> Result<Self, Error> {
        Self::read(
            Reader::part(beginning, frame, version),
            frame,
            version,
            role,
        )
    }

    #[inline]
    fn read(
        mut reader: Reader<'a>,
        frame: &Frame,
        version: Version,
        role: Role,
    ) -> Result<Self, Error> {
        check_header(&reader, frame, version)?;
        let (dup, retain) = (frame.flags & 0b1000 != 0, frame.flags & 0b0001 != 0);
        let Some(qos) = QoS::from_u8((frame.flags >> 1) & 0b11) else {
            return Err(reader.error_at(ErrorKind::QosInvalid, Field::FixedHeader, 0));
        };
        if dup && qos == QoS::AtMostOnce {
            return Err(reader.error_at(ErrorKind::DupWithQos0, Field::FixedHeader, 0));
        }
        // The topic is the first field [MQTT-3.3.2-1].
        let topic_start = reader.offset() as u32 + 2;
        let topic = reader.string(Field::TopicName)?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = match version {
            // Most have none; the rest is out of the way.
            Version::V5 if !reader.skip([0]) => {
                let properties;
                (properties, reader) = read_properties(reader, role)?;
                properties
            }
            Version::V31 | Version::V311 | Version::V5 => Properties::default(),
        };
        if topic.is_empty() && !properties.has(PropertyId::TopicAlias) {
            let (kind, at) = (ErrorKind::TopicEmpty, frame.header_len);
            return Err(reader.error_at(kind, Field::TopicName, at));
        }
        let payload_start = reader.offset() as u32;
        let payload = reader.remaining();
        Ok(Self {
            topic,
            payload,
            properties,
            topic_start,
            payload_start,
            packet_id,
            qos,
            dup,
            retain,
        })
    }

    /// Tells whether this may be a message sent before. Never so with QoS 0.
    #[inline]
    #[must_use]
    pub const fn dup(&self) -> bool {
        self.dup
    }

    /// Returns the quality of service.
    #[inline]
    #[must_use]
    pub const fn qos(&self) -> QoS {
        self.qos
    }

    /// Returns the retain flag.
    #[inline]
    #[must_use]
    pub const fn retain(&self) -> bool {
        self.retain
    }

    /// Returns the topic name, at most 65,535 bytes.
    ///
    /// It is UTF-8 without U+0000, and nothing else was checked. It is empty only if there is a
    /// topic alias.
    #[inline]
    #[must_use]
    pub const fn topic(&self) -> &'a str {
        self.topic
    }

    /// Returns the packet identifier: `None` with QoS 0, else always there [MQTT-2.2.1-2].
    #[inline]
    #[must_use]
    pub const fn packet_id(&self) -> Option<PacketId> {
        self.packet_id
    }

    /// Returns the payload, which may be empty.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Returns the properties. Before MQTT 5.0 there are none.
    #[inline]
    #[must_use]
    pub const fn properties(&self) -> PublishProperties<'a> {
        PublishProperties {
            properties: self.properties,
        }
    }

    /// Returns a head that forwards this message: topic and properties are borrowed from it.
    ///
    /// DUP is off and there is no topic alias, packet identifier or subscription identifier, since
    /// these belong to one connection; quality, retain flag, expiry and topic are those received.
    /// The caller sets what differs and encodes it for any version, and the payload follows
    /// untouched. A topic that is empty, for an alias stood in its place, is for the caller to
    /// set.
    ///
    /// Properties are borrowed if those that are kept lie side by side, which is so if nothing is
    /// left out and nearly always otherwise. If not, they are copied to `scratch`.
    ///
    /// Returns `None` if `scratch` is too short for that copy;
    /// `properties().pass_through().byte_len()` is always enough.
    ///
    /// # Examples
    ///
    /// ```
    /// use mqtt_codec::{decode, scan, Packet, PacketId, QoS, Role, Scan, Version};
    ///
    /// // MQTT 5.0, QoS 1, expiry 60 s, content type "j".
    /// let bytes = b"\x32\x11\x00\x01t\x00\x07\x09\x02\x00\x00\x00\x3c\x03\x00\x01jhi";
    /// let Ok(Scan::Frame(frame)) = scan(bytes, 1024) else { panic!() };
    /// let Ok(Packet::Publish(publish)) = decode(bytes, &frame, Version::V5, Role::Server) else {
    ///     panic!()
    /// };
    /// let mut head = publish.forward(&mut []).unwrap();
    /// head.qos = QoS::AtMostOnce;
    /// head.message_expiry = head.message_expiry.map(|seconds| seconds - 10);
    /// head.subscription_ids = &[3];
    /// let mut out = [0; 64];
    /// let len = head.encode_head(Version::V5, &mut out);
    /// assert_eq!(out[..len], *b"\x30\x11\x00\x01t\x0b\x02\x00\x00\x00\x32\x0b\x03\x03\x00\x01j");
    /// let len = head.encode_head(Version::V311, &mut out);
    /// assert_eq!(&out[..len], b"\x30\x05\x00\x01t");
    /// ```
    #[must_use]
    pub fn forward<'s>(&self, scratch: &'s mut [u8]) -> Option<PublishHead<'s>>
    where
        'a: 's,
    {
        let mut spans = self.properties().pass_through();
        let first = spans.next().unwrap_or_default();
        let pass_through = match spans.next() {
            None => first,
            Some(_) => gather(self.properties().pass_through(), scratch)?,
        };
        Some(PublishHead {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: None,
            message_expiry: self.properties().message_expiry_interval(),
            subscription_ids: &[],
            topic_alias: None,
            pass_through,
            payload_len: self.payload.len(),
        })
    }

    /// Returns where the topic name lies in the packet, without its length.
    #[inline]
    #[must_use]
    pub const fn topic_range(&self) -> Range<usize> {
        let start = self.topic_start as usize;
        start..start + self.topic.len()
    }

    /// Returns where the properties lie in the packet, without their length.
    ///
    /// Empty before MQTT 5.0, and then at the payload's start.
    #[inline]
    #[must_use]
    pub const fn properties_range(&self) -> Range<usize> {
        let end = self.payload_start as usize;
        end - self.properties.raw().len()..end
    }

    /// Returns where the payload lies in the packet: up to its end.
    #[inline]
    #[must_use]
    pub const fn payload_range(&self) -> Range<usize> {
        let start = self.payload_start as usize;
        start..start + self.payload.len()
    }
}

/// Copies spans side by side; `None` if there is no room.
fn gather<'s>(spans: PassThrough<'_>, scratch: &'s mut [u8]) -> Option<&'s [u8]> {
    let mut len = 0;
    for span in spans {
        let end = len + span.len();
        scratch.get_mut(len..end)?.copy_from_slice(span);
        len = end;
    }
    scratch.get(..len)
}

/// Reads the properties of a PUBLISH, apart from the fast path without any.
///
/// The reader comes and goes by value, so that the fast path keeps it in registers.
fn read_properties(
    mut reader: Reader<'_>,
    role: Role,
) -> Result<(Properties<'_>, Reader<'_>), Error> {
    let at = reader.offset();
    let repeatable = PropertyId::UserProperty.bit() | PropertyId::SubscriptionIdentifier.bit();
    let properties = Properties::read(&mut reader, set::PUBLISH, repeatable)?;
    if role == Role::Server && properties.has(PropertyId::SubscriptionIdentifier) {
        // [MQTT-3.3.4-6]
        let field = Field::Property(PropertyId::SubscriptionIdentifier);
        return Err(reader.error_at(ErrorKind::SubscriptionIdFromClient, field, at));
    }
    Ok((properties, reader))
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(PacketType::Publish.name())
            .field("dup", &self.dup)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("topic", &self.topic)
            .field("packet_id", &self.packet_id)
            .field("properties", &self.properties)
            .field("payload_len", &self.payload.len())
            .finish()
    }
}

/// The properties of a PUBLISH, section 3.3.2.3.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    properties: Properties<'a>,
}

impl<'a> PublishProperties<'a> {
    /// Reads properties that [`raw`](Self::raw) or [`pass_through`](Self::pass_through) gave once.
    ///
    /// For servers that keep the bytes of a message and look into them later. Nothing is validated
    /// again: of bytes that do not come from there, what is not a property is not seen.
    ///
    /// # Complexity
    ///
    /// One walk over the properties; allocates nothing.
    #[must_use]
    pub fn of_validated(raw: &'a [u8]) -> Self {
        Self {
            properties: Properties::of_validated(raw),
        }
    }

    /// Returns what the payload is said to be.
    #[must_use]
    pub fn payload_format_indicator(&self) -> Option<PayloadFormat> {
        payload_format(&self.properties)
    }

    property_getters! {
        /// Returns the seconds that the message lives.
        message_expiry_interval: number MessageExpiryInterval;

        /// Returns where to answer: not empty and without `+` and `#`.
        response_topic: text ResponseTopic;

        /// Returns what an answer is to repeat.
        correlation_data: binary CorrelationData;

        /// Returns what the payload is, in words of the application.
        content_type: text ContentType;
    }

    /// Returns the number that stands for the topic. It may be above the receiver's maximum.
    #[must_use]
    pub fn topic_alias(&self) -> Option<NonZeroU16> {
        self.properties
            .number_u16(PropertyId::TopicAlias)
            .and_then(NonZeroU16::new)
    }

    /// Returns the identifiers of the subscriptions that this message matched.
    ///
    /// Only servers send them.
    #[must_use]
    pub const fn subscription_identifiers(&self) -> SubscriptionIdentifiers<'a> {
        self.properties.subscription_identifiers()
    }

    /// Returns the user properties, in their order.
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        self.properties.user_properties()
    }

    /// Tells whether there is no property at all.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.properties.raw().is_empty()
    }

    /// Returns the bytes of the properties, without their length.
    #[inline]
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.properties.raw()
    }

    /// Tells whether a server may forward [`raw`](Self::raw) as it is.
    ///
    /// So if there is no topic alias, no message expiry interval and no subscription identifier.
    #[inline]
    #[must_use]
    pub const fn is_pass_through(&self) -> bool {
        !self.properties.has_any(set::PUBLISH_REWRITTEN)
    }

    /// Returns the raw properties that a server forwards unchanged [MQTT-3.3.2-4, MQTT-3.3.2-15,
    /// MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18, MQTT-3.3.2-20].
    ///
    /// The topic alias, the message expiry interval and the subscription identifiers are left
    /// out; the rest comes in its order.
    #[must_use]
    pub const fn pass_through(&self) -> PassThrough<'a> {
        self.properties.without(set::PUBLISH_REWRITTEN)
    }
}

impl fmt::Debug for PublishProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.properties.fmt(f)
    }
}

/// The payload format indicator of a message or will.
pub(super) fn payload_format(properties: &Properties<'_>) -> Option<PayloadFormat> {
    properties
        .flag(PropertyId::PayloadFormatIndicator)
        .map(|is_text| {
            if is_text {
                PayloadFormat::Utf8
            } else {
                PayloadFormat::Unspecified
            }
        })
}
