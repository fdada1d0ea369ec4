//! Hierarchical timer wheels with lazy reset, driven by ticks or by timerfd.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod bits;
#[cfg(feature = "timerfd")]
pub mod driver;
mod key;
mod policy;
mod slab;
mod wheel;

pub use key::TimerKey;
pub use policy::Policy;
pub use wheel::{Expired, Stats, TimerWheel};
