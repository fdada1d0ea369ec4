//! The configuration: plain values, where they come from, and what is wrong with them.
//!
//! A value comes from the first of these that gives it: the command line, the environment
//! (`AXMQ_SECTION__KEY`), the TOML file, the default. [`load`] puts them together and refuses what
//! it does not know; a program that embeds the broker can instead start from
//! [`Config::default`] and set fields.

#[macro_use]
mod keys;

mod address;
mod auth;
mod change;
mod defence;
mod diagnose;
mod endpoint;
mod limits;
mod listener;
mod load;
mod protocol;
mod rates;
mod show;
mod store;
mod toml_file;
mod toml_roles;
mod toml_store;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

pub use address::{Address, AddressError};
pub use auth::{
    AuthSettings, Authenticator, HttpSettings, JwtSettings, Role, TokenBearer, TokenPlace,
};
pub use change::Change;
pub use defence::{DefenceSettings, KernelBans};
pub(crate) use diagnose::closest;
pub use diagnose::{ConfigError, Diagnostic, Place};
pub use endpoint::Endpoint;
pub use keys::{Key, Kind, Value, keys};
pub use limits::{Budgets, Limits};
pub(crate) use listener::list;
pub use listener::{Listener, ListenerRules};
pub use load::{CommandLine, Loaded, Origin, Sources, load, load_text};
pub use protocol::{ProtocolSettings, Redirect};
pub use rates::{Exceeded, RateSettings};
pub use store::{Durability, StoreRule, StoreSettings};

/// The port that IANA gave to MQTT without TLS.
pub const MQTT_PORT: u16 = 1883;

/// Everything that can be configured.
///
/// The default listens on port 1883 of both loopback addresses, keeps nothing on disk and uses one
/// shard a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect: `[[listener]]`.
    pub listeners: Vec<Listener>,
    /// The broker as a whole: `[broker]`.
    pub broker: BrokerSettings,
    /// Who clients are: `[auth]`.
    pub auth: AuthSettings,
    /// Who is kept out for what he did: `[defence]`.
    pub defence: DefenceSettings,
    /// What is logged: `[log]`.
    pub log: LogSettings,
    /// Where the protocol leaves the server a choice: `[protocol]`.
    pub protocol: ProtocolSettings,
    /// What is kept on disk: `[store]`.
    pub store: StoreSettings,
    /// How much one client, user or address may do in a second: `[rates]`.
    pub rates: RateSettings,
    /// What may grow, and how far: `[limits]`.
    pub limits: Limits,
    /// How much a thread does at a time: `[budgets]`.
    pub budgets: Budgets,
}

/// The broker as a whole: the section `[broker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Shards, which are the threads that move messages; 0 means one a core, at most 64.
    ///
    /// See [`shard_count`](Self::shard_count).
    pub shards: u32,
    /// Fronts, which are the threads that accept connections; 0 means one for each four cores.
    ///
    /// See [`front_count`](Self::front_count).
    pub fronts: u32,
    /// Threads that check passwords and tokens, and that the hooks of a program authenticate
    /// clients on; 0 means one for each four cores, and at least two.
    ///
    /// See [`auth_thread_count`](Self::auth_thread_count).
    pub auth_threads: u32,
    /// The folder for everything that is written; `None` writes nothing.
    ///
    /// [`load`] always fills it in.
    pub data_dir: Option<PathBuf>,
    /// The user that the program becomes before it does anything, where it was started as root. A
    /// program that embeds the broker calls [`privileges`](crate::privileges) itself.
    pub user: Option<String>,
    /// Whether anybody may connect without saying who they are: on addresses other than loopback
    /// where nobody has to log in, and beside those that log in where `[auth]` asks for it.
    pub allow_anonymous: bool,
    /// Seconds between two updates of `$SYS/` for its subscribers; 0 gives them values only once.
    pub sys_interval_s: u32,
    /// How often it is looked whether certificates, keys and revocation lists have changed, in
    /// seconds; 0 is never. Without TLS nobody looks.
    pub tls_watch_s: u32,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            shards: 0,
            fronts: 0,
            auth_threads: 0,
            data_dir: None,
            user: None,
            allow_anonymous: false,
            sys_interval_s: 10,
            tls_watch_s: 60,
        }
    }
}

/// What is logged: the section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How an event is written.
    pub format: LogFormat,
}

/// How an event is written, always as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// `key=value`, as logfmt has it.
    Logfmt,
    /// A JSON object.
    Json,
}

impl LogFormat {
    const ALL: [Self; 3] = [Self::Text, Self::Logfmt, Self::Json];

    /// The names of all formats.
    pub const NAMES: &'static [&'static str] = &["text", "logfmt", "json"];

    /// The name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Logfmt => "logfmt",
            Self::Json => "json",
        }
    }
}

/// How severe an event is, and from where on events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum LogLevel {
    /// The broker, or a part of it, cannot go on.
    Error,
    /// Something that an operator should look at.
    Warn,
    /// What the broker as a whole does, and clients that misbehave.
    #[default]
    Info,
    /// Every connection.
    Debug,
    /// Every packet.
    Trace,
}

/// What [`Config::check`] found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Section and name of the keys that are involved; the listeners' is `listener.address`.
    pub keys: Vec<(&'static str, &'static str)>,
    /// The listener that is involved, as an index into [`Config::listeners`].
    pub listener: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Config {
    /// Says what is wrong: a value out of its range, two values that contradict each other, an
    /// address open to everybody without [`BrokerSettings::allow_anonymous`]. Empty if all is well.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for key in keys() {
            if let Some(value) = key.value(self)
                && let Err(message) = key.admits(&value)
            {
                found.push(Violation {
                    keys: vec![(key.section, key.name)],
                    listener: None,
                    message,
                });
            }
        }
        self.check_pairs(&mut found);
        for (keys, message) in self.auth.check(&self.listeners) {
            found.push(Violation {
                keys: keys.to_vec(),
                listener: None,
                message,
            });
        }
        found.extend(self.store.check());
        self.check_listeners(&mut found);
        found
    }

    /// Limits of which one must not exceed the other.
    fn check_pairs(&self, found: &mut Vec<Violation>) {
        if self.defence.ban_s > self.defence.ban_max_s {
            found.push(Violation {
                keys: vec![("defence", "ban_s"), ("defence", "ban_max_s")],
                listener: None,
                message:
                    "`defence.ban_s` must not exceed `defence.ban_max_s`, or the first ban would \
                          be the longest"
                        .to_owned(),
            });
        }
        for (less, more, why) in [
            (
                "pre_connect_bytes",
                "pre_connect_bytes_total",
                "one connection could not complete its CONNECT",
            ),
            (
                "out_queue_soft_bytes",
                "out_queue_bytes",
                "publishers would never be paused",
            ),
            (
                "packet_bytes",
                "out_queue_bytes",
                "the largest packets could not be delivered",
            ),
            (
                "packet_bytes",
                "session_queue_bytes",
                "the largest packets could not be delivered",
            ),
        ] {
            let value = |name| match keys::find("limits", name).and_then(|key| key.value(self)) {
                Some(Value::Number(number)) => number,
                _ => 0,
            };
            let (low, high) = (value(less), value(more));
            if low > high {
                found.push(Violation {
                    keys: vec![("limits", less), ("limits", more)],
                    listener: None,
                    message: format!(
                        "`limits.{less}` ({}) must not exceed `limits.{more}` ({}), or {why}",
                        keys::Grouped(low),
                        keys::Grouped(high),
                    ),
                });
            }
        }
    }

    /// None at all, one twice, one that is open to everybody.
    fn check_listeners(&self, found: &mut Vec<Violation>) {
        let violation = |listener, message| Violation {
            keys: vec![("listener", "address")],
            listener,
            message,
        };
        if self.listeners.is_empty() {
            let message = "there is no listener, so no client could connect".to_owned();
            found.push(violation(None, message));
        }
        for (index, Listener { address, rules, .. }) in self.listeners.iter().enumerate() {
            for message in rules.check() {
                found.push(violation(Some(index), message));
            }
            let twice = self
                .listeners
                .iter()
                .take(index)
                .any(|l| l.address == *address);
            if twice && address.port() != Some(0) {
                let message = format!("the address {address} is listened on twice");
                found.push(violation(Some(index), message));
            }
            let is_guarded = self.broker.allow_anonymous
                || self.auth.authenticates()
                || rules.demands_certificate();
            if !is_guarded && address.is_public() {
                let message = format!(
                    "{address} can be reached from other machines, and nobody has to log in\n  \
                     to make them log in: `password_file` under [auth], and `axmq passwd`\n  \
                     to let anybody in who can reach it: --allow-anonymous on the command line, or \
                     `allow_anonymous = true` under [broker]\n  \
                     to stay on this machine: listen on {} instead",
                    loopback_instead_of(address),
                );
                found.push(violation(Some(index), message));
            }
        }
    }
}

/// The loopback address of the same family with the same port.
fn loopback_instead_of(address: &Endpoint) -> SocketAddr {
    let host = match address {
        Endpoint::Internet(SocketAddr::V6(_)) => IpAddr::from(Ipv6Addr::LOCALHOST),
        _ => IpAddr::from(Ipv4Addr::LOCALHOST),
    };
    SocketAddr::new(host, address.port().unwrap_or(MQTT_PORT))
}

impl Default for Config {
    fn default() -> Self {
        let listener = |host: IpAddr, optional| Listener {
            optional,
            ..Listener::new(SocketAddr::new(host, MQTT_PORT))
        };
        Self {
            listeners: vec![
                listener(Ipv4Addr::LOCALHOST.into(), false),
                listener(Ipv6Addr::LOCALHOST.into(), true),
            ],
            broker: BrokerSettings::default(),
            auth: AuthSettings::default(),
            defence: DefenceSettings::default(),
            log: LogSettings::default(),
            protocol: ProtocolSettings::default(),
            store: StoreSettings::default(),
            rates: RateSettings::default(),
            limits: Limits::default(),
            budgets: Budgets::default(),
        }
    }
}

impl BrokerSettings {
    /// The most shards: the set of shards that are interested in a topic is one 64-bit word.
    pub const SHARDS_MAX: u32 = 64;

    /// The shards to start: [`shards`](Self::shards), or as many as the cores this process may use.
    ///
    /// From 1 to [`SHARDS_MAX`](Self::SHARDS_MAX). Asks the system when `shards` is 0.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        let wanted = if self.shards == 0 {
            cores()
        } else {
            self.shards
        };
        wanted.clamp(1, Self::SHARDS_MAX) as usize
    }

    /// The fronts to start: [`fronts`](Self::fronts), or one for each four cores that this process
    /// may use.
    ///
    /// From 1 to [`SHARDS_MAX`](Self::SHARDS_MAX). Asks the system when `fronts` is 0.
    #[must_use]
    pub fn front_count(&self) -> usize {
        let wanted = if self.fronts == 0 {
            cores() / 4
        } else {
            self.fronts
        };
        wanted.clamp(1, Self::SHARDS_MAX) as usize
    }

    /// The threads of the auth pool: [`auth_threads`](Self::auth_threads), or one for each four
    /// cores that this process may use and at least two, so that a look-up that takes its time
    /// holds up only half of them.
    ///
    /// From 1 to [`SHARDS_MAX`](Self::SHARDS_MAX). Asks the system when `auth_threads` is 0.
    #[must_use]
    pub fn auth_thread_count(&self) -> usize {
        let wanted = if self.auth_threads == 0 {
            (cores() / 4).max(2)
        } else {
            self.auth_threads
        };
        wanted.clamp(1, Self::SHARDS_MAX) as usize
    }

    pub(self) const KEYS: &'static [Key] = &[
        Key {
            section: "broker",
            name: "shards",
            unit: "threads",
            kind: Kind::Number {
                min: 0,
                max: Self::SHARDS_MAX as u64,
            },
            read: |config| Some(Value::Number(config.broker.shards.into())),
            write: |config, value| {
                if let Value::Number(number) = value {
                    config.broker.shards = u32::try_from(number).unwrap_or(Self::SHARDS_MAX);
                }
            },
        },
        Key {
            section: "broker",
            name: "fronts",
            unit: "threads",
            kind: Kind::Number {
                min: 0,
                max: Self::SHARDS_MAX as u64,
            },
            read: |config| Some(Value::Number(config.broker.fronts.into())),
            write: |config, value| {
                if let Value::Number(number) = value {
                    config.broker.fronts = u32::try_from(number).unwrap_or(Self::SHARDS_MAX);
                }
            },
        },
        Key {
            section: "broker",
            name: "auth_threads",
            unit: "threads",
            kind: Kind::Number {
                min: 0,
                max: Self::SHARDS_MAX as u64,
            },
            read: |config| Some(Value::Number(config.broker.auth_threads.into())),
            write: |config, value| {
                if let Value::Number(number) = value {
                    config.broker.auth_threads = u32::try_from(number).unwrap_or(Self::SHARDS_MAX);
                }
            },
        },
        Key {
            section: "broker",
            name: "data_dir",
            unit: "",
            kind: Kind::Path,
            read: |config| config.broker.data_dir.clone().map(Value::Path),
            write: |config, value| {
                if let Value::Path(path) = value {
                    config.broker.data_dir = Some(path);
                }
            },
        },
        key!(text, "broker", user, broker),
        Key {
            section: "broker",
            name: "allow_anonymous",
            unit: "",
            kind: Kind::Flag,
            read: |config| Some(Value::Flag(config.broker.allow_anonymous)),
            write: |config, value| {
                if let Value::Flag(flag) = value {
                    config.broker.allow_anonymous = flag;
                }
            },
        },
        Key {
            section: "broker",
            name: "tls_watch_s",
            unit: "seconds",
            kind: Kind::Number {
                min: 0,
                max: 86_400,
            },
            read: |config| Some(Value::Number(config.broker.tls_watch_s.into())),
            write: |config, value| {
                if let Value::Number(number) = value {
                    config.broker.tls_watch_s = u32::try_from(number).unwrap_or(86_400);
                }
            },
        },
        Key {
            section: "broker",
            name: "sys_interval_s",
            unit: "seconds",
            kind: Kind::Number {
                min: 0,
                max: 86_400,
            },
            read: |config| Some(Value::Number(config.broker.sys_interval_s.into())),
            write: |config, value| {
                if let Value::Number(number) = value {
                    config.broker.sys_interval_s = u32::try_from(number).unwrap_or(86_400);
                }
            },
        },
    ];
}

/// The cores that this process may use; 1 if the system does not say.
fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

impl LogSettings {
    pub(self) const KEYS: &'static [Key] = &[
        Key {
            section: "log",
            name: "level",
            unit: "",
            kind: Kind::Choice(LogLevel::NAMES),
            read: |config| Some(Value::Word(config.log.level.name())),
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Ok(level) = word.parse()
                {
                    config.log.level = level;
                }
            },
        },
        Key {
            section: "log",
            name: "format",
            unit: "",
            kind: Kind::Choice(LogFormat::NAMES),
            read: |config| Some(Value::Word(config.log.format.name())),
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Some(format) = LogFormat::ALL.into_iter().find(|f| f.name() == word)
                {
                    config.log.format = format;
                }
            },
        },
    ];
}

impl LogLevel {
    /// The names of all levels, the most severe first.
    pub const NAMES: &'static [&'static str] = &["error", "warn", "info", "debug", "trace"];

    /// The name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A word that is no log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownLogLevel;

impl fmt::Display for UnknownLogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a log level: one of error, warn, info, debug, trace")
    }
}

impl std::error::Error for UnknownLogLevel {}

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Error,
            Self::Warn,
            Self::Info,
            Self::Debug,
            Self::Trace,
        ]
        .into_iter()
        .find(|level| level.name() == text)
        .ok_or(UnknownLogLevel)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
