//! An MQTT broker for a million devices on one machine.
//!
//! A program runs it with [`Broker::builder`], decides with [`hooks`] and [`auth`] who may do what,
//! and publishes and subscribes itself with a [`Handle`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[macro_use]
mod planted;

pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
pub mod data_dir;
pub mod fd_limit;
pub mod hooks;
pub mod logging;
pub mod notify;
pub mod privileges;
pub mod store;

mod bind;
mod broker;
mod builder;
mod connack;
mod counters;
mod data_plane;
mod defence;
mod disconnects;
mod error;
mod events;
mod front;
mod group;
mod keyed_hash;
mod listener;
mod local;
mod memory;
mod message;
mod network;
mod properties;
mod publication;
mod rates;
mod retained;
mod route;
mod session;
mod shard;
#[cfg(test)]
mod sim;
mod sys_topics;
mod tls;
mod transport;
mod unix_socket;

pub use broker::{Broker, Running, Stopper};
pub use builder::Builder;
pub use config::Config;
pub use error::{RunError, StartError};
pub use local::{Handle, Message, PublishError, Received, SubscribeError, Subscriber};
pub use properties::{InvalidMessage, Properties};
pub use tls::check_tls_files;

/// The words of the protocol that hooks and messages use.
pub use mqtt_codec::{QoS, ReasonCode, Version};
/// Where a client connects from.
pub use pollio::PeerAddr;

/// Compiles and runs what the guide shows.
#[cfg(doctest)]
#[doc = include_str!("../../docs/library.md")]
struct Guide;

/// Compiles and runs what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
