//! Normative statements of MQTT 3.1.1 and 5.0, each shown by a conversation with a running broker.
//!
//! A test that ran registers the statements it showed; `.ci/clauses` writes `docs/conformance.md`
//! from that. What one packet can break is shown by the tests of `mqtt-codec`. Nothing here waits
//! for time to pass: that nothing comes is shown by what comes next.

#![cfg(not(loom))]

#[path = "../support/clause.rs"]
mod clause;
mod client;
mod connect;
mod delivery;
#[path = "../support/peer.rs"]
mod peer;
#[path = "../support/mod.rs"]
mod support;
mod topics;

use mqtt_codec::Version;

const V311: Version = Version::V311;
const V5: Version = Version::V5;
