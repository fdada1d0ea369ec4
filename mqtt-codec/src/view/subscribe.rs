//! SUBSCRIBE and UNSUBSCRIBE, sections 3.8 and 3.10.

use core::iter::FusedIterator;

use crate::error::{Error, ErrorKind, Field};
use crate::properties::{Properties, UserProperties};
use crate::property::set;
use crate::reader::Reader;
use crate::text;
use crate::types::{PacketId, QoS, RetainHandling, Version};
use crate::view::ack::read_properties;

/// A SUBSCRIBE packet: at least one topic filter with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    packet_id: PacketId,
    filters: SubscribeFilters<'a>,
    properties: Properties<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, set::SUBSCRIBE)?;
        let rest = reader.clone().remaining();
        let mut count = 0;
        while !reader.is_empty() {
            let filter = reader.string_bytes(Field::TopicFilter)?;
            let at = reader.offset();
            let options = reader.u8(Field::SubscriptionOptions)?;
            check_options(options, filter, version)
                .map_err(|kind| reader.error_at(kind, Field::SubscriptionOptions, at))?;
            count += 1;
        }
        if count == 0 {
            return Err(reader.error(ErrorKind::NoTopicFilter, Field::TopicFilter));
        }
        Ok(Self {
            packet_id,
            filters: SubscribeFilters { rest, count },
            properties,
        })
    }

    /// Returns the packet identifier.
    #[inline]
    #[must_use]
    pub const fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    /// Returns the topic filters, at least one, in their order.
    #[inline]
    #[must_use]
    pub const fn filters(&self) -> SubscribeFilters<'a> {
        self.filters
    }

    property_getters! {
        /// Returns the identifier of these subscriptions, 1 to 268,435,455. `None` before MQTT 5.0.
        subscription_identifier: number SubscriptionIdentifier;
    }

    /// Returns the user properties, in their order. None before MQTT 5.0.
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        self.properties.user_properties()
    }
}

/// Checks a byte of subscription options.
fn check_options(options: u8, filter: &[u8], version: Version) -> Result<(), ErrorKind> {
    let reserved = if version.has_properties() {
        0b1100_0000
    } else {
        0b1111_1100
    };
    if options & reserved != 0 {
        return Err(ErrorKind::SubscriptionOptionsReserved);
    }
    if options & 0b11 == 0b11 {
        return Err(ErrorKind::SubscriptionQosInvalid);
    }
    if options & 0b11_0000 == 0b11_0000 {
        return Err(ErrorKind::RetainHandlingInvalid);
    }
    if options & 0b100 != 0 && filter.starts_with(b"$share/") {
        return Err(ErrorKind::NoLocalOnShared);
    }
    Ok(())
}

/// A topic filter of a SUBSCRIBE with its options, section 3.8.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscribeFilter<'a> {
    /// The filter: UTF-8 without U+0000, otherwise not checked, and possibly empty.
    pub filter: &'a str,
    /// The highest quality of service to deliver with.
    pub qos: QoS,
    /// Whether the client's own messages are not wanted. `false` before MQTT 5.0.
    pub no_local: bool,
    /// Whether forwarded messages keep their retain flag. `false` before MQTT 5.0.
    pub retain_as_published: bool,
    /// What to do with retained messages. `SendAtSubscribe` before MQTT 5.0.
    pub retain_handling: RetainHandling,
}

impl SubscribeFilter<'_> {
    /// Returns the byte of the options for that version.
    #[must_use]
    pub const fn options(&self, version: Version) -> u8 {
        if !version.has_properties() {
            return self.qos as u8;
        }
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// The topic filters of a SUBSCRIBE, in their order. Knows its length; does not allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeFilters<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<SubscribeFilter<'a>> {
        let (filter, rest) = split_text(self.rest)?;
        let (&options, rest) = rest.split_first()?;
        self.rest = rest;
        self.count -= 1;
        Some(SubscribeFilter {
            filter,
            qos: QoS::from_u8(options & 0b11)?,
            no_local: options & 0b100 != 0,
            retain_as_published: options & 0b1000 != 0,
            retain_handling: RetainHandling::from_u8((options >> 4) & 0b11)?,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for SubscribeFilters<'_> {}
impl FusedIterator for SubscribeFilters<'_> {}

/// An UNSUBSCRIBE packet: at least one topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    packet_id: PacketId,
    filters: TopicFilters<'a>,
    properties: Properties<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, set::UNSUBSCRIBE)?;
        let rest = reader.clone().remaining();
        let mut count = 0;
        while !reader.is_empty() {
            reader.string_bytes(Field::TopicFilter)?;
            count += 1;
        }
        if count == 0 {
            return Err(reader.error(ErrorKind::NoTopicFilter, Field::TopicFilter));
        }
        Ok(Self {
            packet_id,
            filters: TopicFilters { rest, count },
            properties,
        })
    }

    /// Returns the packet identifier.
    #[inline]
    #[must_use]
    pub const fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    /// Returns the topic filters, at least one, in their order.
    #[inline]
    #[must_use]
    pub const fn filters(&self) -> TopicFilters<'a> {
        self.filters
    }

    /// Returns the user properties, in their order. None before MQTT 5.0.
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        self.properties.user_properties()
    }
}

/// The topic filters of an UNSUBSCRIBE, in their order. Knows its length; does not allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFilters<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Iterator for TopicFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (filter, rest) = split_text(self.rest)?;
        self.rest = rest;
        self.count -= 1;
        Some(filter)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for TopicFilters<'_> {}
impl FusedIterator for TopicFilters<'_> {}

fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
    Some((text::checked_before(text), rest))
}
