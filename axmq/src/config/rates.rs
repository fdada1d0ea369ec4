//! The section `[rates]`: how much one client, user or address may do in a second.

use super::keys::{Key, Kind, Value};

/// How much one client, user or address may do in a second: the section `[rates]`. 0 is no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateSettings {
    /// What becomes of a client that publishes more than it, or its user, may.
    pub exceeded: Exceeded,
    /// What may come at once after a quiet time: as much as this time brings.
    pub burst_ms: u32,
    /// PUBLISHes that one client may send in a second.
    pub client_publishes_per_s: u32,
    /// Bytes of PUBLISHes that one client may send in a second.
    pub client_bytes_per_s: u32,
    /// PUBLISHes that the clients of one user may send in a second, all together.
    pub user_publishes_per_s: u32,
    /// Bytes of PUBLISHes that the clients of one user may send in a second, all together.
    pub user_bytes_per_s: u32,
    /// Users whose rates are counted at a time.
    pub users: u32,
    /// Connections that one address may open in a second.
    pub address_connects_per_s: u32,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self {
            exceeded: Exceeded::Slow,
            burst_ms: 1_000,
            client_publishes_per_s: 0,
            client_bytes_per_s: 0,
            user_publishes_per_s: 0,
            user_bytes_per_s: 0,
            users: 65_536,
            address_connects_per_s: 0,
        }
    }
}

/// What becomes of a client that publishes more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Exceeded {
    /// It is not read until it has waited long enough: TCP slows it down.
    #[default]
    Slow,
    /// It is disconnected.
    Disconnect,
}

const EXCEEDED: &[&str] = &["slow", "disconnect"];

impl RateSettings {
    /// Whether anything bounds publishes.
    pub(crate) fn bounds_publishes(&self) -> bool {
        self.bounds_clients() || self.bounds_users()
    }

    pub(crate) fn bounds_clients(&self) -> bool {
        self.client_publishes_per_s > 0 || self.client_bytes_per_s > 0
    }

    pub(crate) fn bounds_users(&self) -> bool {
        self.user_publishes_per_s > 0 || self.user_bytes_per_s > 0
    }

    pub(super) const KEYS: &'static [Key] = &[
        Key {
            section: "rates",
            name: "exceeded",
            unit: "",
            kind: Kind::Choice(EXCEEDED),
            read: |config| {
                Some(Value::Word(match config.rates.exceeded {
                    Exceeded::Slow => "slow",
                    Exceeded::Disconnect => "disconnect",
                }))
            },
            write: |config, value| {
                if let Value::Word(word) = value {
                    config.rates.exceeded = match word {
                        "disconnect" => Exceeded::Disconnect,
                        _ => Exceeded::Slow,
                    };
                }
            },
        },
        key!(
            number,
            "rates",
            burst_ms,
            rates,
            10..=3_600_000,
            "milliseconds"
        ),
        key!(
            number,
            "rates",
            client_publishes_per_s,
            rates,
            0..=1_000_000_000,
            "publishes"
        ),
        key!(
            number,
            "rates",
            client_bytes_per_s,
            rates,
            0..=4_294_967_295,
            "bytes"
        ),
        key!(
            number,
            "rates",
            user_publishes_per_s,
            rates,
            0..=1_000_000_000,
            "publishes"
        ),
        key!(
            number,
            "rates",
            user_bytes_per_s,
            rates,
            0..=4_294_967_295,
            "bytes"
        ),
        key!(number, "rates", users, rates, 1..=100_000_000, "users"),
        key!(
            number,
            "rates",
            address_connects_per_s,
            rates,
            0..=1_000_000,
            "connections"
        ),
    ];
}
