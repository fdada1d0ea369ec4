//! Encoders: plain structs that know their exact length before they are written.
//!
//! Every encoder has the same methods:
//!
//! - `check(version)` tells the length, or why the packet cannot be encoded at all;
//! - `encoded_len(version)` tells the length, without that check;
//! - `encode(version, &mut [u8])` writes it and returns the length;
//! - `encode_to_vec(version)` (feature `alloc`) appends to nothing, in one allocation;
//! - `encode_to(version, &mut impl BufMut)` (feature `bytes`).
//!
//! What a version has no place for, such as properties before MQTT 5.0, is left out. Strings are
//! not searched for U+0000, and values are written as they are: it is for the caller to say what
//! is true. The encoders never cut anything short: a string of more than 65,535 bytes is an error
//! of `check` and a panic of the rest.
//!
//! PUBLISH has an encoder of its own kind, [`PublishHead`], since a server writes one head for
//! many receivers and does not copy payloads.

mod ack;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod sink;
mod subscribe;

use core::fmt;

use crate::types::Version;

pub use ack::{AckPacket, SubAck, UnsubAck};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::{Auth, Disconnect};
pub use publish::{PublishHead, patch_packet_id, set_dup};
pub use subscribe::{Subscribe, Unsubscribe};

/// A PINGREQ packet, the same in every version.
pub const PING_REQ: [u8; 2] = [0xC0, 0x00];

/// A PINGRESP packet, the same in every version.
pub const PING_RESP: [u8; 2] = [0xD0, 0x00];

/// A list of user properties to write: names and values.
pub type UserPropertyList<'a> = &'a [(&'a str, &'a str)];

/// Why a packet cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field has more than 65,535 bytes.
    FieldTooLong,
    /// The remaining length is above 268,435,455 bytes.
    PacketTooLong,
    /// A number that may not be zero is zero, or a subscription identifier is above 268,435,455.
    ValueOutOfRange,
    /// A list that must have an item, of topic filters or reason codes, has none.
    EmptyList,
    /// The version has no such packet.
    NotInVersion,
    /// The topic name is empty, and there is no topic alias.
    TopicEmpty,
    /// There is a password and no user name, which MQTT 3.x forbids.
    PasswordWithoutUserName,
    /// There is authentication data and no method, or an AUTH packet without a method.
    AuthMethodMissing,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FieldTooLong => "a field has more than 65,535 bytes",
            Self::PacketTooLong => "the packet has more than 268,435,455 bytes",
            Self::ValueOutOfRange => "a value is out of its range",
            Self::EmptyList => "a list that needs an item has none",
            Self::NotInVersion => "the version has no such packet",
            Self::TopicEmpty => "the topic name is empty",
            Self::PasswordWithoutUserName => "there is a password, and no user name",
            Self::AuthMethodMissing => "the authentication method is missing",
        })
    }
}

impl core::error::Error for EncodeError {}

/// What the encoders have in common, from which [`encoder_methods`] makes their methods.
pub(crate) trait Body {
    /// The first byte of the packet.
    fn first_byte(&self) -> u8;

    /// Puts all that follows the fixed header.
    fn put<S: sink::Sink>(&self, version: Version, out: &mut S);

    fn count(&self, version: Version) -> sink::Counter {
        let mut counter = sink::Counter::default();
        self.put(version, &mut counter);
        counter
    }

    fn put_packet<S: sink::Sink>(&self, version: Version, out: &mut S) {
        out.put_u8(self.first_byte());
        out.put_var_int(self.count(version).len);
        self.put(version, out);
    }
}

/// Gives an encoder its public methods.
macro_rules! encoder_methods {
    ($name:ident) => {
        impl $name<'_> {
            /// Returns the length of the packet if it can be encoded.
            ///
            /// # Errors
            ///
            /// An [`EncodeError`](crate::encode::EncodeError) that says what is in the way.
            pub fn check(
                &self,
                version: crate::Version,
            ) -> Result<usize, crate::encode::EncodeError> {
                use crate::encode::sink::Sink as _;
                let mut body = crate::encode::Body::count(self, version);
                let len = body.len;
                body.put_var_int(len);
                body.error.map_or(Ok(1 + body.len), Err)
            }

            /// Returns the exact length of the packet in bytes, fixed header included.
            #[must_use]
            pub fn encoded_len(&self, version: crate::Version) -> usize {
                let len = crate::encode::Body::count(self, version).len;
                1 + crate::frame::var_int_len(len) + len
            }

            /// Writes the packet to the beginning of `out` and returns its length.
            ///
            /// # Panics
            ///
            /// If `out` is shorter than [`encoded_len`](Self::encoded_len), or if
            /// [`check`](Self::check) would have found a field or the packet too long.
            pub fn encode(&self, version: crate::Version, out: &mut [u8]) -> usize {
                let mut sink = crate::encode::sink::SliceSink::new(out);
                crate::encode::Body::put_packet(self, version, &mut sink);
                sink.len()
            }

            /// Returns the packet, in one allocation.
            ///
            /// # Panics
            ///
            /// If [`check`](Self::check) would have found a field or the packet too long.
            #[cfg(feature = "alloc")]
            #[must_use]
            pub fn encode_to_vec(&self, version: crate::Version) -> alloc::vec::Vec<u8> {
                let mut out = alloc::vec::Vec::with_capacity(self.encoded_len(version));
                crate::encode::Body::put_packet(self, version, &mut out);
                out
            }

            /// Appends the packet to `out` and returns its length.
            ///
            /// # Panics
            ///
            /// If `out` has no room for [`encoded_len`](Self::encoded_len) bytes and does not
            /// grow, or if [`check`](Self::check) would have found a field or the packet too
            /// long.
            #[cfg(feature = "bytes")]
            pub fn encode_to(
                &self,
                version: crate::Version,
                out: &mut (impl bytes::BufMut + ?Sized),
            ) -> usize {
                let mut sink = crate::encode::sink::BufSink(out);
                crate::encode::Body::put_packet(self, version, &mut sink);
                self.encoded_len(version)
            }
        }
    };
}
pub(crate) use encoder_methods;
