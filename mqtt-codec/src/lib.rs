//! A strict, zero-copy, sans-io codec for MQTT 3.1, 3.1.1 and 5.0.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod encode;
mod error;
mod frame;
mod property;
mod reader;
mod reason;
mod text;
mod types;
mod view;

pub use encode::{
    AckPacket, EncodeError, PING_REQ, PING_RESP, PublishHead, patch_packet_id, set_dup,
};
pub use error::{Error, ErrorKind, Field};
pub use frame::{FIXED_HEADER_LEN_MAX, Frame, Scan, VAR_INT_MAX, scan};
pub use property::{PassThrough, PropertyId, SubscriptionIdentifiers, UserProperties};
pub use reason::{ConnectReturnCode, ReasonCode};
pub use types::{
    InvalidValue, PacketId, PacketType, PayloadFormat, QoS, RetainHandling, Role, Version,
};
pub use view::{
    Ack, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, DecodeOptions, Disconnect,
    Packet, Publish, PublishProperties, ReasonCodes, SubAck, Subscribe, SubscribeFilter,
    SubscribeFilters, TopicFilters, UnsubAck, Unsubscribe, Will, WillProperties, decode,
    decode_connect,
};
