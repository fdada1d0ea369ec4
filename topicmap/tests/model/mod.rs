//! Operations on the crate's structures, and the naive models that they are checked against.
//!
//! Free of any test framework, so that property tests and fuzz targets can share it.

#![allow(dead_code, unused_imports, reason = "each user needs a part")]

mod cache;
mod deliver;
mod expiry;
mod interest;
mod map;
mod share;
mod store;

pub(crate) use cache::{CacheModel, CacheOp};
pub(crate) use deliver::{Options, check_deliveries};
pub(crate) use expiry::{ExpiryModel, ExpiryOp};
pub(crate) use interest::{InterestModel, InterestOp};
pub(crate) use map::{MapModel, MapOp};
pub(crate) use share::{ShareModel, ShareOp};
pub(crate) use store::{StoreModel, StoreOp};

/// The limits that models parse with.
pub(crate) const LIMITS: topicmap::Limits = topicmap::Limits {
    levels_max: 128,
    bytes_max: u16::MAX,
    seed: 0x0123_4567_89AB_CDEF,
};
