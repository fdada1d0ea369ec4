//! The section `[store]`: what is kept on disk, and when an acknowledgement may rely on it.

mod rule;

pub use self::rule::StoreRule;
pub(super) use self::rule::{RULE, RULE_LISTS, RuleList};
use super::keys::{Key, Kind, Value};
use super::{Config, Violation};

/// What is kept on disk: the section `[store]`. Without a data directory nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// When an acknowledgement leaves, where no rule and no listener says otherwise.
    pub durability: Durability,
    /// What is otherwise for some topics and users: `[[store.rule]]`.
    pub rules: Vec<StoreRule>,
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
            rules: Vec::new(),
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

    /// The same where there may be none: for a listener that leaves it to `[store]`.
    pub(super) const NAMES_OR_NOTHING: &'static [&'static str] =
        &["", "none", "interval", "always"];

    /// The one of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

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

impl Config {
    /// The strongest durability that anybody may get.
    pub(crate) fn strongest_durability(&self) -> Durability {
        let listeners = self.listeners.iter().filter_map(|it| it.rules.durability);
        let rules = self.store.rules.iter().map(|rule| rule.durability);
        let others = listeners.chain(rules).max();
        others.map_or(self.store.durability, |it| it.max(self.store.durability))
    }
}

impl StoreSettings {
    /// What is wrong with the rules.
    pub(super) fn check(&self) -> impl Iterator<Item = Violation> {
        let found = StoreRule::check_all(&self.rules).into_iter();
        found.map(|message| Violation {
            keys: vec![("store", RULE)],
            listener: None,
            message,
        })
    }

    pub(super) const KEYS: &'static [Key] = &[
        Key {
            section: "store",
            name: "durability",
            unit: "",
            kind: Kind::Choice(Durability::NAMES),
            read: |config| Some(Value::Word(config.store.durability.name())),
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Some(found) = Durability::of_name(word)
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
