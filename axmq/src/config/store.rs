//! The section `[store]`: what is kept on disk, and when an acknowledgement may rely on it.

use super::keys::{Key, Kind, Value};

/// What is kept on disk: the section `[store]`. Without a data directory nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// When an acknowledgement leaves.
    pub durability: Durability,
    /// With [`Durability::Interval`]: what was acknowledged is on disk after so many milliseconds,
    /// and the time of a sync.
    pub interval_ms: u32,
    /// Bytes that are left free on the disk: with less, nothing is written until there is room.
    pub reserve_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            interval_ms: 50,
            reserve_bytes: 67_108_864,
        }
    }
}

/// What an acknowledgement stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing is written: a restart forgets everything.
    None,
    /// It leaves at once; a crash loses at most what was acknowledged within the interval.
    #[default]
    Interval,
    /// It leaves when what it stands for is on disk.
    Always,
}

impl Durability {
    const ALL: [Self; 3] = [Self::None, Self::Interval, Self::Always];

    /// The names of all of them.
    pub const NAMES: &'static [&'static str] = &["none", "interval", "always"];

    /// The name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Interval => "interval",
            Self::Always => "always",
        }
    }
}

impl StoreSettings {
    pub(super) const KEYS: &'static [Key] = &[
        Key {
            section: "store",
            name: "durability",
            unit: "",
            kind: Kind::Choice(Durability::NAMES),
            read: |config| Some(Value::Word(config.store.durability.name())),
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Some(found) = Durability::ALL.into_iter().find(|d| d.name() == word)
                {
                    config.store.durability = found;
                }
            },
        },
        Key {
            section: "store",
            name: "interval_ms",
            unit: "milliseconds",
            kind: Kind::Number {
                min: 5,
                max: 60_000,
            },
            read: |config| Some(Value::Number(u64::from(config.store.interval_ms))),
            write: |config, value| {
                if let Value::Number(number) = value
                    && let Ok(number) = u32::try_from(number)
                {
                    config.store.interval_ms = number;
                }
            },
        },
        Key {
            section: "store",
            name: "reserve_bytes",
            unit: "bytes",
            kind: Kind::Number {
                min: 0,
                max: 1_099_511_627_776,
            },
            read: |config| Some(Value::Number(config.store.reserve_bytes)),
            write: |config, value| {
                if let Value::Number(number) = value {
                    config.store.reserve_bytes = number;
                }
            },
        },
    ];
}
