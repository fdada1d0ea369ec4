//! An MQTT broker for a million devices on one machine.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod cli;
pub mod config;
pub mod data_dir;
pub mod fd_limit;
pub mod logging;

mod broker;
mod counters;
mod error;
mod events;
mod front;
mod message;
mod publication;
mod retained;
mod route;
mod session;
mod shard;

pub use broker::{Broker, Running, Stopper};
pub use config::Config;
pub use error::{RunError, StartError};

/// Compiles and runs what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
