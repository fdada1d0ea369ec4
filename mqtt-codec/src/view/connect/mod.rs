//! CONNECT, section 3.1.

use core::fmt;

use crate::properties::{PassThrough, Properties, UserProperties};
use crate::property::{PropertyId, set};
use crate::types::{PayloadFormat, QoS, Version};
use crate::view::publish::payload_format;

mod read;

pub use read::decode_connect;
pub(super) use read::{check_auth, read_connect};

/// What [`decode_connect`] lets pass.
///
/// The default is strict. Every leniency is something that devices in the field need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Whether MQTT 3.1 is spoken at all. Default `true`.
    pub accept_v31: bool,
    /// Whether MQTT 3.1.1 is spoken at all. Default `true`.
    pub accept_v311: bool,
    /// Whether MQTT 5.0 is spoken at all. Default `true`.
    pub accept_v5: bool,
    /// Whether a client identifier of MQTT 3.1 may have more than 23 characters. Default `false`.
    ///
    /// Many client libraries never enforced that limit.
    pub v31_long_client_id: bool,
}

impl DecodeOptions {
    /// All versions, no leniency: the default.
    pub const STRICT: Self = Self {
        accept_v31: true,
        accept_v311: true,
        accept_v5: true,
        v31_long_client_id: false,
    };

    const fn accepts(&self, version: Version) -> bool {
        match version {
            Version::V31 => self.accept_v31,
            Version::V311 => self.accept_v311,
            Version::V5 => self.accept_v5,
        }
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self::STRICT
    }
}

/// A CONNECT packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    client_id: &'a str,
    username: Option<&'a str>,
    password: Option<&'a [u8]>,
    will: Option<Will<'a>>,
    properties: Properties<'a>,
    keep_alive: u16,
    version: Version,
    clean_start: bool,
}

impl<'a> Connect<'a> {
    /// Returns the version that the client speaks.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the client identifier.
    ///
    /// Empty if the server is to choose one, which implies a clean session in MQTT 3.1.1 and
    /// never happens in MQTT 3.1.
    #[must_use]
    pub const fn client_id(&self) -> &'a str {
        self.client_id
    }

    /// Tells whether the session begins anew (called clean session before MQTT 5.0).
    #[must_use]
    pub const fn clean_start(&self) -> bool {
        self.clean_start
    }

    /// Returns the keep-alive time in seconds, 0 for none.
    #[must_use]
    pub const fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// Returns the user name, possibly empty.
    #[must_use]
    pub const fn username(&self) -> Option<&'a str> {
        self.username
    }

    /// Returns the password: any bytes, in every version.
    ///
    /// Only in MQTT 5.0 can it come without a user name.
    #[must_use]
    pub const fn password(&self) -> Option<&'a [u8]> {
        self.password
    }

    /// Returns the will.
    #[must_use]
    pub const fn will(&self) -> Option<Will<'a>> {
        self.will
    }

    /// Returns the properties. Before MQTT 5.0 there are none.
    #[must_use]
    pub const fn properties(&self) -> ConnectProperties<'a> {
        ConnectProperties {
            properties: self.properties,
        }
    }
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password stays out of logs.
        f.debug_struct("CONNECT")
            .field("version", &self.version)
            .field("client_id", &self.client_id())
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("username", &self.username())
            .field("password", &self.password.map(|_| "***"))
            .field("will", &self.will())
            .field("properties", &self.properties())
            .finish()
    }
}

/// The will of a CONNECT: what the server publishes when the client is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Will<'a> {
    /// The topic name, not empty, its grammar not checked.
    pub topic: &'a str,
    /// The payload, at most 65,535 bytes.
    pub payload: &'a [u8],
    /// The quality of service.
    pub qos: QoS,
    /// Whether the server retains the message.
    pub retain: bool,
    /// The properties. Before MQTT 5.0 there are none.
    pub properties: WillProperties<'a>,
}

/// The properties of a will, section 3.1.3.2.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct WillProperties<'a> {
    properties: Properties<'a>,
}

impl<'a> WillProperties<'a> {
    /// Returns the seconds between the end of the connection and the will, by default 0.
    #[must_use]
    pub fn delay_interval(&self) -> u32 {
        self.properties
            .number(PropertyId::WillDelayInterval)
            .unwrap_or(0)
    }

    /// Returns what the payload is said to be.
    #[must_use]
    pub fn payload_format_indicator(&self) -> Option<PayloadFormat> {
        payload_format(&self.properties)
    }

    property_getters! {
        /// Returns the seconds that the message lives once it is published.
        message_expiry_interval: number MessageExpiryInterval;

        /// Returns what the payload is, in words of the application.
        content_type: text ContentType;

        /// Returns where to answer: not empty and without `+` and `#`.
        response_topic: text ResponseTopic;

        /// Returns what an answer is to repeat.
        correlation_data: binary CorrelationData;
    }

    /// Returns the user properties, in their order [MQTT-3.1.3-10].
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        self.properties.user_properties()
    }

    /// Returns the bytes of the properties, without their length.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.properties.raw()
    }

    /// Returns the raw properties that belong into the PUBLISH unchanged.
    ///
    /// The delay and the message expiry interval are left out; the rest comes in its order.
    #[must_use]
    pub const fn pass_through(&self) -> PassThrough<'a> {
        self.properties.without(set::WILL_REWRITTEN)
    }
}

impl fmt::Debug for WillProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.properties.fmt(f)
    }
}

/// The properties of a CONNECT, section 3.1.2.11.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    properties: Properties<'a>,
}

impl<'a> ConnectProperties<'a> {
    property_getters! {
        /// Returns the seconds that the session is to outlive the connection.
        ///
        /// `None` means 0; 0xFFFF_FFFF means for ever.
        session_expiry_interval: number SessionExpiryInterval;

        /// Returns how many QoS 1 and 2 messages the server may have in flight, at least 1.
        ///
        /// `None` means 65,535.
        receive_maximum: number_u16 ReceiveMaximum;

        /// Returns the bytes of the largest packet, at least 1. `None` means no limit.
        maximum_packet_size: number MaximumPacketSize;

        /// Returns the highest topic alias the server may use. `None` means 0, that is none.
        topic_alias_maximum: number_u16 TopicAliasMaximum;

        /// Returns the name of the extended authentication.
        authentication_method: text AuthenticationMethod;

        /// Returns the data of the extended authentication. Never without a method.
        authentication_data: binary AuthenticationData;
    }

    /// Tells whether response information is welcome, by default not.
    #[must_use]
    pub fn request_response_information(&self) -> bool {
        self.properties
            .flag(PropertyId::RequestResponseInformation)
            .unwrap_or(false)
    }

    /// Tells whether reason strings and user properties are welcome in every packet, by default
    /// so.
    #[must_use]
    pub fn request_problem_information(&self) -> bool {
        self.properties
            .flag(PropertyId::RequestProblemInformation)
            .unwrap_or(true)
    }

    /// Returns the user properties, in their order.
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        self.properties.user_properties()
    }
}

impl fmt::Debug for ConnectProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The data of an authentication stays out of logs.
        let entries = self.properties.iter().map(|property| {
            let secret = property.id == PropertyId::AuthenticationData;
            (property.id, (!secret).then_some(property.value))
        });
        f.debug_map().entries(entries).finish()
    }
}
