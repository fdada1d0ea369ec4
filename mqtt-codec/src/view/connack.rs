//! CONNACK, section 3.2.

use core::fmt;

use crate::error::{Error, ErrorKind, Field};
use crate::properties::{Properties, UserProperties};
use crate::property::{PropertyId, set};
use crate::reader::Reader;
use crate::reason::{ConnectReturnCode, ReasonCode};
use crate::types::{PacketType, QoS, Role, Version};
use crate::view::ack::{read_properties, read_reason};
use crate::view::connect::check_auth;

/// A CONNACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck<'a> {
    session_present: bool,
    reason: ReasonCode,
    properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Error> {
        let flags_at = reader.offset();
        let flags = reader.u8(Field::AckFlags)?;
        // MQTT 3.1 does not use the byte at all, and unused bits are zero.
        let reserved = if version == Version::V31 { 0xFF } else { 0xFE };
        if flags & reserved != 0 {
            let (kind, field) = (ErrorKind::AckFlagsReserved, Field::AckFlags);
            return Err(reader.error_at(kind, field, flags_at));
        }
        let session_present = flags != 0;
        let reason = match version {
            Version::V31 | Version::V311 => read_return_code(reader)?.reason(),
            Version::V5 => read_reason(reader, PacketType::ConnAck, Role::Client)?,
        };
        if session_present && reason != ReasonCode::Success {
            let (kind, field) = (ErrorKind::SessionPresentOnRefusal, Field::AckFlags);
            return Err(reader.error_at(kind, field, flags_at));
        }
        let at = reader.offset();
        let properties = read_properties(reader, version, set::CONNACK)?;
        check_auth(reader, &properties, at)?;
        reader.finish()?;
        Ok(Self {
            session_present,
            reason,
            properties,
        })
    }

    /// Tells whether the server still had a session. Always `false` in MQTT 3.1.
    #[must_use]
    pub const fn session_present(&self) -> bool {
        self.session_present
    }

    /// Returns the reason code; before MQTT 5.0, the one that means what the return code means.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.reason
    }

    /// Returns the properties. Before MQTT 5.0 there are none.
    #[must_use]
    pub const fn properties(&self) -> ConnAckProperties<'a> {
        ConnAckProperties {
            properties: self.properties,
        }
    }
}

fn read_return_code(reader: &mut Reader<'_>) -> Result<ConnectReturnCode, Error> {
    let at = reader.offset();
    let code = reader.u8(Field::ReasonCode)?;
    ConnectReturnCode::from_u8(code)
        .ok_or_else(|| reader.error_at(ErrorKind::ReasonCodeInvalid, Field::ReasonCode, at))
}

/// The properties of a CONNACK, section 3.2.2.3. Absent ones are `None`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    properties: Properties<'a>,
}

impl<'a> ConnAckProperties<'a> {
    property_getters! {
        /// Returns the seconds that the session outlives the connection.
        ///
        /// `None` means what the client asked for.
        session_expiry_interval: number SessionExpiryInterval;

        /// Returns how many QoS 1 and 2 messages the client may have in flight, at least 1.
        ///
        /// `None` means 65,535.
        receive_maximum: number_u16 ReceiveMaximum;

        /// Tells whether the server retains messages. `None` means that it does.
        retain_available: flag RetainAvailable;

        /// Returns the bytes of the largest packet, at least 1. `None` means no limit.
        maximum_packet_size: number MaximumPacketSize;

        /// Returns the client identifier that the server chose.
        assigned_client_id: text AssignedClientIdentifier;

        /// Returns the highest topic alias the client may use. `None` means 0, that is none.
        topic_alias_maximum: number_u16 TopicAliasMaximum;

        /// Returns the reason in words.
        reason_string: text ReasonString;

        /// Tells whether the server has wildcard subscriptions. `None` means that it does.
        wildcard_subscription_available: flag WildcardSubscriptionAvailable;

        /// Tells whether the server has subscription identifiers. `None` means that it does.
        subscription_identifiers_available: flag SubscriptionIdentifiersAvailable;

        /// Tells whether the server has shared subscriptions. `None` means that it does.
        shared_subscription_available: flag SharedSubscriptionAvailable;

        /// Returns the keep-alive time, in seconds, that the client is to use instead of its own.
        server_keep_alive: number_u16 ServerKeepAlive;

        /// Returns what the client may make response topics of.
        response_information: text ResponseInformation;

        /// Returns another server to use.
        server_reference: text ServerReference;

        /// Returns the name of the extended authentication.
        authentication_method: text AuthenticationMethod;

        /// Returns the data of the extended authentication. Never without a method.
        authentication_data: binary AuthenticationData;
    }

    /// Returns the highest quality of service, 0 or 1. `None` means 2.
    #[must_use]
    pub fn maximum_qos(&self) -> Option<QoS> {
        let at_least_once = self.properties.flag(PropertyId::MaximumQoS)?;
        Some(if at_least_once {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        })
    }

    /// Returns the user properties, in their order.
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        self.properties.user_properties()
    }
}

impl fmt::Debug for ConnAckProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.properties.fmt(f)
    }
}
