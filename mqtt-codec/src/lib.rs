//! A strict, zero-copy, sans-io codec for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Two layers read: [`scan`] finds where a packet ends, from its fixed header alone; [`decode`]
//! validates a whole packet in one pass and gives a view that borrows it. Getters of a view cannot
//! fail. The structs of [`encode`] write.
//!
//! # Strictness
//!
//! What a single packet can break is an [`Error`], which names the clause: a numbered statement of
//! MQTT 3.1.1 or 5.0, or a section where there is none. Errors are found in the order of the
//! bytes, but for what concerns a whole section, which is found at its end.
//!
//! # Limits
//!
//! A packet has at most 268,435,460 bytes, [`scan`] takes a lower limit. Strings and binary fields
//! have at most 65,535 bytes. There is no limit of its own to the number of properties or filters
//! of a packet; decoding is linear in the bytes, and iterators count as they go.
//!
//! # Memory
//!
//! Decoding allocates nothing: without the feature `alloc` the crate does not link `alloc`. A
//! topic name and the strings of a CONNECT are `str` from the start. Topic filters and the strings
//! in properties are validated as bytes; their getters check the UTF-8 again, which costs a few
//! nanoseconds, since the crate has no `unsafe`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod encode;
mod error;
mod frame;
#[cfg(feature = "alloc")]
mod owned;
mod properties;
mod property;
mod reader;
mod reason;
mod stream;
mod text;
mod types;
mod view;

pub use encode::{
    AckPacket, EncodeError, PING_REQ, PING_RESP, PublishHead, patch_packet_id, set_dup,
};
pub use error::{Error, ErrorKind, Field};
pub use frame::{FIXED_HEADER_LEN_MAX, Frame, Scan, VAR_INT_MAX, scan};
#[cfg(feature = "alloc")]
pub use owned::OwnedPacket;
pub use properties::{PassThrough, SubscriptionIdentifiers, UserProperties};
pub use property::PropertyId;
pub use reason::{ConnectReturnCode, ReasonCode};
pub use stream::{HeadScan, PublishStream, scan_publish_head};
pub use types::{
    InvalidValue, PacketId, PacketType, PayloadFormat, QoS, RetainHandling, Role, Version,
};
pub use view::{
    Ack, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, DecodeOptions, Disconnect,
    Packet, Publish, PublishProperties, ReasonCodes, SubAck, Subscribe, SubscribeFilter,
    SubscribeFilters, TopicFilters, UnsubAck, Unsubscribe, Will, WillProperties, decode,
    decode_connect,
};

#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../README.md")]
struct Readme;
