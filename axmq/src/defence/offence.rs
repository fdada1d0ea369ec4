//! What counts against somebody, and how much.

use mqtt_codec::ReasonCode;

use crate::events::Cause;

/// Something that clients which mean well do rarely or never.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Offence {
    /// No byte, or no complete CONNECT, in time.
    Silent,
    /// What came is not MQTT, or breaks the protocol.
    Malformed,
    /// A packet larger than it may be.
    Oversized,
    /// A user name, password or method that is refused.
    Login,
    /// A connection that ended before its client was let in, for no other reason in this list; one
    /// beyond the rate of its address; and one that a banned client has tried again.
    Fruitless,
}

/// Hundredths of a strike.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Weight {
    pub(crate) host: u64,
    pub(crate) client: u64,
}

impl Offence {
    pub(crate) const ALL: [Self; 5] = [
        Self::Silent,
        Self::Malformed,
        Self::Oversized,
        Self::Login,
        Self::Fruitless,
    ];

    /// In a word or two, for logs and lists.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Silent => "no CONNECT",
            Self::Malformed => "malformed packets",
            Self::Oversized => "oversized packets",
            Self::Login => "failed logins",
            Self::Fruitless => "connections for nothing",
        }
    }

    /// The counter of `axmq status`.
    pub(crate) fn counter(self) -> &'static str {
        match self {
            Self::Silent => "offences_silent",
            Self::Malformed => "offences_malformed",
            Self::Oversized => "offences_oversized",
            Self::Login => "offences_login",
            Self::Fruitless => "offences_fruitless",
        }
    }

    /// How much it weighs. Where it is known which client it was, it is the client that is struck,
    /// and its address only a little: there may be a thousand others behind that. Who takes another
    /// client id each time meets the limit of the address.
    pub(crate) fn weight(self, is_client_known: bool) -> Weight {
        match (self, is_client_known) {
            (Self::Fruitless, _) => Weight { host: 1, client: 0 },
            (_, false) => Weight {
                host: 100,
                client: 0,
            },
            (_, true) => Weight {
                host: 20,
                client: 100,
            },
        }
    }

    /// What the end of a client's connection says against it.
    pub(crate) fn of_cause(cause: &Cause) -> Option<Self> {
        let reason = match cause {
            Cause::Protocol(error) => error.reason(),
            Cause::Violation { reason, .. } => *reason,
            _ => return None,
        };
        Self::of_reason(reason)
    }

    /// The same for a packet that is refused with this reason. What a listener does not offer, or
    /// is beyond what one client may have, is no offence.
    pub(crate) fn of_reason(reason: ReasonCode) -> Option<Self> {
        match reason {
            ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid => Some(Self::Malformed),
            ReasonCode::PacketTooLarge => Some(Self::Oversized),
            _ => None,
        }
    }
}
