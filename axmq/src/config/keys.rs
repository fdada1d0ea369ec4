//! The table of every configuration key: how it is called, what it accepts, where it is stored.

use std::fmt;
use std::path::PathBuf;

use super::{
    AuthSettings, BrokerSettings, Budgets, Config, DefenceSettings, HttpSettings, JwtSettings,
    Limits, LogSettings, ProtocolSettings, RateSettings, StoreSettings,
};
use crate::network::Network;

/// Declares a key whose field has its name: `key!(KIND, SECTION, NAME, PATH.TO.ITS.STRUCT)`. A path
/// and a text are options there, a number is a `u32`.
macro_rules! key {
    (flag, $section:literal, $name:ident, $($at:ident).+) => {
        key!(@ $section, $name, "", Kind::Flag,
            |config| Some(Value::Flag(config.$($at).+.$name)),
            |config, value| {
                if let Value::Flag(flag) = value {
                    config.$($at).+.$name = flag;
                }
            })
    };
    (path, $section:literal, $name:ident, $($at:ident).+) => {
        key!(@ $section, $name, "", Kind::Path,
            |config| config.$($at).+.$name.clone().map(Value::Path),
            |config, value| {
                if let Value::Path(path) = value {
                    config.$($at).+.$name = Some(path);
                }
            })
    };
    (text, $section:literal, $name:ident, $($at:ident).+) => {
        key!(@ $section, $name, "", Kind::Text,
            |config| config.$($at).+.$name.clone().map(Value::Text),
            |config, value| {
                if let Value::Text(text) = value {
                    config.$($at).+.$name = Some(text);
                }
            })
    };
    (
        number, $section:literal, $name:ident, $($at:ident).+,
        $min:literal..=$max:literal, $unit:literal
    ) => {
        key!(@ $section, $name, $unit,
            Kind::Number { min: $min, max: $max },
            |config| Some(Value::Number(config.$($at).+.$name.into())),
            |config, value| {
                if let Value::Number(number) = value
                    && let Ok(number) = number.try_into()
                {
                    config.$($at).+.$name = number;
                }
            })
    };
    (@ $section:literal, $name:ident, $unit:literal, $kind:expr, $read:expr, $write:expr) => {
        Key {
            section: $section,
            name: stringify!($name),
            unit: $unit,
            kind: $kind,
            read: $read,
            write: $write,
        }
    };
}

/// One key of the configuration, but for the listeners, which are a list of their own.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The TOML section, such as `limits`.
    pub section: &'static str,
    /// The name within its section, such as `packet_bytes`.
    pub name: &'static str,
    /// The unit of a number; empty for everything else.
    pub unit: &'static str,
    /// What values are accepted.
    pub kind: Kind,
    /// Reads the value; `None` when it is not set.
    pub(super) read: fn(&Config) -> Option<Value>,
    /// Stores a value that has passed [`Key::admits`]; one of another type is ignored.
    pub(super) write: fn(&mut Config, Value),
}

/// The longest [`Kind::Text`]: it has to fit a CONNACK with room to spare.
const TEXT_BYTES_MAX: usize = 1_024;

/// What values a key accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A whole number.
    Number {
        /// The smallest accepted.
        min: u64,
        /// The largest accepted.
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// The path of a file or folder.
    Path,
    /// Text that clients see.
    Text,
    /// Addresses and ranges of addresses, with commas between them; there may be none.
    Networks,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of some of these words; in an environment variable, with commas between them.
    Words(&'static [&'static str]),
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// For [`Kind::Number`].
    Number(u64),
    /// For [`Kind::Flag`].
    Flag(bool),
    /// For [`Kind::Path`].
    Path(PathBuf),
    /// For [`Kind::Text`] and [`Kind::Networks`].
    Text(String),
    /// For [`Kind::Choice`].
    Word(&'static str),
    /// For [`Kind::Words`].
    Words(Vec<&'static str>),
}

impl Key {
    /// The value that `config` has for this key; `None` when it has none.
    #[must_use]
    pub fn value(&self, config: &Config) -> Option<Value> {
        (self.read)(config)
    }

    /// The name with its section, such as `limits.packet_bytes`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets this key, such as `AXMQ_LIMITS__PACKET_BYTES`.
    #[must_use]
    pub fn variable(&self) -> String {
        let section = self.section.replace('.', "__");
        format!("AXMQ_{section}__{}", self.name).to_ascii_uppercase()
    }

    /// Says what is wrong with `value` for this key, if anything is.
    pub(super) fn admits(&self, value: &Value) -> Result<(), String> {
        match (self.kind, value) {
            (Kind::Number { min, max }, Value::Number(number)) if (min..=max).contains(number) => {
                Ok(())
            }
            (Kind::Number { .. }, Value::Number(number)) => {
                Err(self.out_of_range(&Grouped(*number).to_string()))
            }
            (Kind::Path, Value::Path(path)) if path.as_os_str().is_empty() => {
                Err(format!("`{}` must not be empty", self.path()))
            }
            (Kind::Path, Value::Path(path)) if path.starts_with("~") => Err(format!(
                "`{}` must be a full path: `~` has no meaning here",
                self.path()
            )),
            (Kind::Text, Value::Text(text)) if text.is_empty() || text.len() > TEXT_BYTES_MAX => {
                Err(format!(
                    "`{}` must have from 1 to {TEXT_BYTES_MAX} bytes",
                    self.path()
                ))
            }
            // A string of MQTT cannot hold it [MQTT-1.5.4-2].
            (Kind::Text, Value::Text(text)) if text.contains('\0') => {
                Err(format!("`{}` must not contain a NUL", self.path()))
            }
            (Kind::Networks, Value::Text(text)) => match Network::parse_list(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("`{}`: {error}", self.path())),
            },
            (Kind::Path, Value::Path(_))
            | (Kind::Text, Value::Text(_))
            | (Kind::Flag, Value::Flag(_))
            | (Kind::Choice(_), Value::Word(_)) => Ok(()),
            (Kind::Words(_), Value::Words(words)) if !words.is_empty() => Ok(()),
            _ => Err(format!("`{}` must be {}", self.path(), self.kind)),
        }
    }

    /// The message for a number outside the range, which need not fit any type of ours.
    pub(super) fn out_of_range(&self, found: &str) -> String {
        let unit = if self.unit.is_empty() { "" } else { " " };
        match self.kind {
            Kind::Number { min, max } => format!(
                "`{}` must be from {} to {}{unit}{}, not {found}",
                self.path(),
                Grouped(min),
                Grouped(max),
                self.unit,
            ),
            kind => format!("`{}` must be {kind}, not {found}", self.path()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { .. } => f.write_str("a whole number"),
            Self::Flag => f.write_str("true or false"),
            Self::Path => f.write_str("a path in quotes"),
            Self::Text => f.write_str("text in quotes"),
            Self::Choice(words) => write!(f, "one of {}", Quoted(words)),
            Self::Words(words) => write!(f, "a list of some of {}", Quoted(words)),
            Self::Networks => f.write_str("addresses and ranges in quotes"),
        }
    }
}

/// As TOML, with thousands apart.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => Grouped(*number).fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Path(path) => toml::Value::String(path.to_string_lossy().into_owned()).fmt(f),
            Self::Text(text) => toml::Value::String(text.clone()).fmt(f),
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::Words(words) => write!(f, "[{}]", Quoted(words)),
        }
    }
}

/// Words in quotes, with commas between them.
struct Quoted<'a>(&'a [&'static str]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}\"{word}\"")?;
        }
        Ok(())
    }
}

/// A number with an underscore between thousands, as TOML accepts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grouped(pub(super) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str("_")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Every key but the listeners', section by section.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    BrokerSettings::KEYS
        .iter()
        .chain(AuthSettings::KEYS)
        .chain(JwtSettings::KEYS)
        .chain(HttpSettings::KEYS)
        .chain(DefenceSettings::KEYS)
        .chain(LogSettings::KEYS)
        .chain(ProtocolSettings::KEYS)
        .chain(StoreSettings::KEYS)
        .chain(RateSettings::KEYS)
        .chain(Limits::KEYS)
        .chain(Budgets::KEYS)
}

/// The sections in the order in which they are shown.
pub(super) const SECTIONS: &[&str] = &[
    "broker",
    "auth",
    "auth.jwt",
    "auth.http",
    "defence",
    "log",
    "protocol",
    "store",
    "rates",
    "limits",
    "budgets",
];

/// The key that is called `section.name`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    keys().find(|key| key.section == section && key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped_from_the_right() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1_000"),
            (65_535, "65_535"),
            (268_435_460, "268_435_460"),
        ] {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }

    #[test]
    fn every_key_has_its_section_and_a_default_that_it_admits() {
        let config = Config::default();
        let mut names = std::collections::HashSet::new();
        for key in keys() {
            assert!(SECTIONS.contains(&key.section), "{}", key.path());
            assert!(names.insert(key.path()), "{} is there twice", key.path());
            if let Some(value) = key.value(&config) {
                assert_eq!(key.admits(&value), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back_at_both_ends_of_the_range() {
        for key in keys() {
            let values = match key.kind {
                Kind::Number { min, max } => vec![Value::Number(min), Value::Number(max)],
                Kind::Flag => vec![Value::Flag(false), Value::Flag(true)],
                Kind::Path => vec![Value::Path(PathBuf::from("/x"))],
                Kind::Text => vec![Value::Text("x".repeat(TEXT_BYTES_MAX))],
                Kind::Networks => vec![Value::Text("10.0.0.0/8, ::1".into())],
                Kind::Choice(words) => words.iter().map(|word| Value::Word(word)).collect(),
                Kind::Words(words) => vec![Value::Words(words.to_vec())],
            };
            for value in values {
                assert_eq!(key.admits(&value), Ok(()));
                let mut config = Config::default();
                (key.write)(&mut config, value.clone());
                assert_eq!(key.value(&config), Some(value), "{}", key.path());
            }
        }
    }
}
