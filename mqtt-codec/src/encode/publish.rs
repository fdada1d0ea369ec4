//! The head of a PUBLISH, and patching it for each receiver.

use core::num::NonZeroU16;

use crate::encode::EncodeError;
use crate::encode::sink::{Counter, PropertyList, Sink, SliceSink, put_properties};
use crate::frame::{VAR_INT_MAX, var_int_len};
use crate::property::PropertyId;
use crate::types::{PacketId, PacketType, QoS, Version};

const DUP: u8 = 0b0000_1000;

/// Everything of a PUBLISH packet but its payload.
///
/// A server writes one head for all receivers of the same kind and patches packet identifier and
/// DUP flag for each: see [`patch_packet_id`] and [`set_dup`].
///
/// # Examples
///
/// ```
/// use mqtt_codec::{patch_packet_id, PacketId, PublishHead, QoS, Version};
///
/// let payload = b"21.5";
/// let head = PublishHead {
///     qos: QoS::AtLeastOnce,
///     topic: "kitchen/temperature",
///     payload_len: payload.len(),
///     ..PublishHead::default()
/// };
/// let mut bytes = [0; 64];
/// let len = head.encode_head(Version::V311, &mut bytes);
/// assert_eq!(len, head.head_len(Version::V311));
/// let at = head.packet_id_offset(Version::V311).unwrap();
/// patch_packet_id(&mut bytes, at, PacketId::new(7).unwrap());
/// assert_eq!(&bytes[at..len], [0, 7]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishHead<'a> {
    /// Whether it may have been sent before; written as `false` with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// The quality of service.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The topic name; empty only with a topic alias.
    pub topic: &'a str,
    /// The packet identifier: not written with QoS 0, and written as 0, to be patched, if `None`.
    pub packet_id: Option<PacketId>,
    /// Seconds the message still lives, left out before MQTT 5.0.
    pub message_expiry: Option<u32>,
    /// Subscription identifiers, 1 to 268,435,455 each, left out before MQTT 5.0.
    pub subscription_ids: &'a [u32],
    /// The topic alias, left out before MQTT 5.0.
    pub topic_alias: Option<NonZeroU16>,
    /// Raw properties to write as they are, left out before MQTT 5.0.
    ///
    /// Such as [`PublishProperties::raw`](crate::PublishProperties::raw) when it
    /// [is pass-through](crate::PublishProperties::is_pass_through). Not checked.
    pub pass_through: &'a [u8],
    /// The bytes of the payload that will follow.
    pub payload_len: usize,
}

impl PropertyList for PublishHead<'_> {
    #[inline]
    fn put<S: Sink>(&self, out: &mut S) {
        self.put_made(out);
        out.put(self.pass_through);
    }
}

impl PublishHead<'_> {
    /// Puts the properties that are not passed through.
    #[inline]
    fn put_made<S: Sink>(&self, out: &mut S) {
        out.property_u32(PropertyId::MessageExpiryInterval, self.message_expiry);
        out.property_u16(
            PropertyId::TopicAlias,
            self.topic_alias.map(NonZeroU16::get),
        );
        for &id in self.subscription_ids {
            out.property_var_int(PropertyId::SubscriptionIdentifier, id);
        }
    }

    /// Returns the length of the whole packet if it can be encoded.
    ///
    /// # Errors
    ///
    /// An [`EncodeError`] that says what is in the way.
    pub fn check(&self, version: Version) -> Result<usize, EncodeError> {
        let mut counter = Counter::default();
        self.put_variable(version, &mut counter);
        if self.topic.is_empty() && (self.topic_alias.is_none() || !version.has_properties()) {
            counter.fail(EncodeError::TopicEmpty);
        }
        let remaining = counter.len.saturating_add(self.payload_len);
        if remaining > VAR_INT_MAX as usize {
            counter.fail(EncodeError::PacketTooLong);
        }
        match counter.error {
            Some(error) => Err(error),
            None => Ok(1 + var_int_len(remaining) + remaining),
        }
    }

    /// Returns the bytes of everything up to the payload.
    ///
    /// Not meaningful if [`check`](Self::check) finds an error.
    #[inline]
    #[must_use]
    pub fn head_len(&self, version: Version) -> usize {
        let variable = self.variable_len(version);
        1 + var_int_len(variable.saturating_add(self.payload_len)) + variable
    }

    /// Returns the bytes of the whole packet, payload included.
    ///
    /// Not meaningful if [`check`](Self::check) finds an error.
    #[inline]
    #[must_use]
    pub fn total_len(&self, version: Version) -> usize {
        self.head_len(version).saturating_add(self.payload_len)
    }

    /// Writes the head to the beginning of `out` and returns its length.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`head_len`](Self::head_len), or if [`check`](Self::check) would
    /// have found a field or the packet too long.
    pub fn encode_head(&self, version: Version, out: &mut [u8]) -> usize {
        let mut out = SliceSink::new(out);
        self.put_head(version, &mut out);
        out.len()
    }

    /// Returns the packet in parts for a vectored write: nothing but a few bytes is copied.
    ///
    /// The parts are, in order: fixed header and topic length, topic, packet identifier and the
    /// properties made here, properties passed through, payload. Some may be empty. The made ones
    /// lie in `scratch`, of which [`parts_scratch_len`](Self::parts_scratch_len) bytes suffice.
    ///
    /// For one receiver of a long topic or large properties; for many receivers a head that is
    /// written once and patched costs less.
    ///
    /// # Panics
    ///
    /// If `scratch` is too short, if the payload's length is not `payload_len`, or if
    /// [`check`](Self::check) would have found a field or the packet too long.
    ///
    /// # Examples
    ///
    /// ```
    /// use mqtt_codec::{PublishHead, Version};
    ///
    /// let head = PublishHead { topic: "a/b", payload_len: 2, ..PublishHead::default() };
    /// let mut scratch = [0; 32];
    /// let parts = head.parts(Version::V5, &mut scratch, b"hi");
    /// assert_eq!(parts.concat(), head.encode_to_vec(Version::V5, b"hi"));
    /// ```
    pub fn parts<'p>(
        &'p self,
        version: Version,
        scratch: &'p mut [u8],
        payload: &'p [u8],
    ) -> [&'p [u8]; 5] {
        assert_eq!(
            payload.len(),
            self.payload_len,
            "the head was made for another payload"
        );
        let mut out = SliceSink::new(scratch);
        out.put_u8(self.first_byte());
        out.put_var_int(self.variable_len(version).saturating_add(self.payload_len));
        let topic_len = u16::try_from(self.topic.len());
        out.put_u16(topic_len.expect("the topic is too long: see `check`"));
        let cut = out.len();
        if self.qos != QoS::AtMostOnce {
            out.put_u16(self.packet_id.map_or(0, PacketId::get));
        }
        let mut pass_through: &[u8] = &[];
        if version.has_properties() {
            let mut counter = Counter::default();
            PropertyList::put(self, &mut counter);
            out.put_var_int(counter.len);
            self.put_made(&mut out);
            pass_through = self.pass_through;
        }
        let len = out.len();
        let scratch: &'p [u8] = scratch;
        [
            &scratch[..cut],
            self.topic.as_bytes(),
            &scratch[cut..len],
            pass_through,
            payload,
        ]
    }

    /// Returns how many bytes of scratch [`parts`](Self::parts) may need, at most.
    #[must_use]
    pub const fn parts_scratch_len(&self) -> usize {
        // Fixed header, topic length, packet identifier, property length, expiry, alias; then
        // five bytes a subscription identifier.
        (5 + 2 + 2 + 4 + 5 + 3) + 5 * self.subscription_ids.len()
    }

    /// Appends the head to `out` and returns its length.
    ///
    /// # Panics
    ///
    /// If `out` has no room and does not grow, or if [`check`](Self::check) would have found a
    /// field or the packet too long.
    #[cfg(feature = "bytes")]
    pub fn encode_head_to(
        &self,
        version: Version,
        out: &mut (impl bytes::BufMut + ?Sized),
    ) -> usize {
        self.put_head(version, &mut crate::encode::sink::BufSink(out));
        self.head_len(version)
    }

    /// Returns the whole packet with that payload, in one allocation.
    ///
    /// # Panics
    ///
    /// If the payload's length is not `payload_len`, or if [`check`](Self::check) would have
    /// found a field or the packet too long.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn encode_to_vec(&self, version: Version, payload: &[u8]) -> alloc::vec::Vec<u8> {
        assert_eq!(
            payload.len(),
            self.payload_len,
            "the head was made for another payload"
        );
        let mut out = alloc::vec::Vec::with_capacity(self.total_len(version));
        self.put_head(version, &mut out);
        out.extend_from_slice(payload);
        out
    }

    /// Returns where in the head the packet identifier lies; `None` with QoS 0.
    #[inline]
    #[must_use]
    pub fn packet_id_offset(&self, version: Version) -> Option<usize> {
        if self.qos == QoS::AtMostOnce {
            return None;
        }
        let remaining = self.variable_len(version).saturating_add(self.payload_len);
        Some(1 + var_int_len(remaining) + 2 + self.topic.len())
    }

    fn first_byte(&self) -> u8 {
        let dup = if self.dup && self.qos != QoS::AtMostOnce {
            DUP
        } else {
            0
        };
        (PacketType::Publish as u8) << 4 | dup | (self.qos as u8) << 1 | u8::from(self.retain)
    }

    #[inline]
    fn variable_len(&self, version: Version) -> usize {
        let mut counter = Counter::default();
        self.put_variable(version, &mut counter);
        counter.len
    }

    #[inline]
    fn put_head<S: Sink>(&self, version: Version, out: &mut S) {
        out.put_u8(self.first_byte());
        out.put_var_int(self.variable_len(version).saturating_add(self.payload_len));
        self.put_variable(version, out);
    }

    /// Puts what lies between the fixed header and the payload.
    #[inline]
    fn put_variable<S: Sink>(&self, version: Version, out: &mut S) {
        out.put_text(self.topic);
        if self.qos != QoS::AtMostOnce {
            out.put_u16(self.packet_id.map_or(0, PacketId::get));
        }
        put_properties(out, version, self);
    }
}

/// Writes a packet identifier over the one at `offset`.
///
/// # Panics
///
/// If there are not two bytes at `offset`.
#[inline]
pub fn patch_packet_id(packet: &mut [u8], offset: usize, packet_id: PacketId) {
    packet[offset..][..2].copy_from_slice(&packet_id.get().to_be_bytes());
}

/// Sets the DUP flag of a PUBLISH, at whose first byte `packet` begins.
///
/// # Panics
///
/// If `packet` is empty; in debug builds, if it is not a PUBLISH of QoS 1 or 2.
#[inline]
pub fn set_dup(packet: &mut [u8]) {
    debug_assert_eq!(
        packet[0] >> 4,
        PacketType::Publish as u8,
        "only PUBLISH has the flag"
    );
    debug_assert_ne!(packet[0] & 0b0110, 0, "with qos 0 the flag is forbidden");
    packet[0] |= DUP;
}
