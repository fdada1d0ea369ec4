//! MQTT topic routing: filters, subscriber sets, interest masks, retained stores and match caches.
//!
//! | type | question that it answers |
//! | --- | --- |
//! | [`Topic`], [`Filter`], [`parse_subscription`] | is this text legal, and what are its levels? |
//! | [`TopicMemo`] | is it the topic that came last? |
//! | [`TopicMap`] | which subscriptions match this topic? (one thread) |
//! | [`Collector`], [`Deliveries`] | who gets the message, once each, whatever filters overlap? |
//! | [`SharedGroup`] | which member of a shared subscription gets it? |
//! | [`InterestMap`] | which shards have any matching subscription? (readers never wait) |
//! | [`Stamps`], [`MatchCache`] | is the answer that I computed a moment ago still right? |
//! | [`TopicStore`] | which stored topics match this filter? (retained messages) |
//! | [`oracle`] | what does the standard say? (slow and plain, for tests) |
//!
//! The crate knows the topic grammar of MQTT 4.7 and 4.8.2 and nothing else of MQTT. It makes no
//! system call, reads no clock and draws no random number: the seed of its hashes is the caller's
//! ([`Limits::seed`]).
//!
//! ```
//! use topicmap::{Filter, Limits, Topic, TopicMap};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limits = Limits { seed: 0x5EED, ..Limits::default() };
//! let mut map = TopicMap::new(limits.seed);
//! map.insert(&Filter::parse("fleet/+/temperature", &limits)?, 7, "QoS 1");
//!
//! let mut seen = Vec::new();
//! map.for_each_match(&Topic::parse("fleet/truck-9/temperature", &limits)?, |_, subscriber, qos| {
//!     seen.push((subscriber, *qos));
//! });
//! assert_eq!(seen, [(7, "QoS 1")]);
//! # Ok(())
//! # }
//! ```
//!
//! # Seeds
//!
//! A topic is hashed once, while it is validated, under [`Limits::seed`]. Every structure of this
//! crate that takes a seed wants the same one; with another seed it still answers correctly, but
//! hashes the topic again. Draw the seed at random when the process starts: who knows it can aim
//! many names at one bucket. A collision never makes [`TopicMap`], [`MatchCache`] or
//! [`TopicStore`] answer wrongly, since they compare the text; [`InterestMap`] may name a shard too
//! many.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cache;
mod collect;
mod deliver;
mod error;
mod filter;
mod hash;
mod index;
mod interest;
mod limits;
mod map;
mod memo;
pub mod oracle;
mod prefix;
mod shape;
mod share;
mod slab;
mod stamps;
mod store;
mod subscribers;
mod subscription;
mod sync;
mod text;
mod topic;

pub use cache::MatchCache;
pub use collect::Collector;
pub use deliver::{Audience, Deliveries, DeliveryOptions, Target};
pub use error::{FilterError, TopicError};
pub use filter::Filter;
pub use interest::{InterestMap, InterestReader};
pub use limits::Limits;
pub use map::{FilterId, Inserted, Iter, Removed, TopicMap};
pub use memo::TopicMemo;
pub use share::{SharedGroup, Strategy};
pub use stamps::{Stamp, Stamps};
pub use store::{Cursor, Scanned, TopicStore};
pub use subscription::{SharedFilter, Subscription, parse_subscription};
pub use topic::Topic;

/// Runs the code of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
