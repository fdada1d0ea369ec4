//! The section `[auth]`: who clients are, and what they may do.

use std::path::PathBuf;

use super::Config;
use super::keys::{Key, Kind, Value};
use crate::auth::Subscribing;

/// Who clients are, and what they may do: the section `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Users and the hashes of their passwords, as `axmq passwd` writes them; without it, no
    /// password is asked for.
    pub password_file: Option<PathBuf>,
    /// Whether users of the password file may log in by SCRAM-SHA-256.
    pub scram: bool,
    /// What clients may do, in the format of mosquitto; without it, everything.
    pub acl_file: Option<PathBuf>,
    /// Whether a subscription has to be allowed as a whole.
    pub acl_subscribe: Subscribing,
    /// Whether each message is checked on its way to each subscriber.
    pub acl_deliveries: bool,
    /// Whether a reload ends the connections of users whose passwords do not hold any more.
    pub disconnect_revoked: bool,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            password_file: None,
            scram: false,
            acl_file: None,
            acl_subscribe: Subscribing::Covered,
            acl_deliveries: true,
            disconnect_revoked: false,
        }
    }
}

const SUBSCRIBING: &[&str] = &["covered", "overlapping"];

impl AuthSettings {
    /// Whether clients have to say who they are.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.password_file.is_some()
    }

    /// Keys that contradict each other.
    pub(super) fn check(&self) -> Option<(&'static [(&'static str, &'static str)], &'static str)> {
        if self.scram && self.password_file.is_none() {
            return Some((
                &[("auth", "scram")],
                "`auth.scram` needs `auth.password_file`, where its users are",
            ));
        }
        if self.acl_subscribe == Subscribing::Overlapping && !self.acl_deliveries {
            return Some((
                &[("auth", "acl_deliveries"), ("auth", "acl_subscribe")],
                "`auth.acl_subscribe = \"overlapping\"` needs `auth.acl_deliveries`: a \
                 subscription may match more than its client may read",
            ));
        }
        None
    }

    pub(super) const KEYS: &'static [Key] = &[
        Key {
            section: "auth",
            name: "password_file",
            unit: "",
            kind: Kind::Path,
            read: |config| config.auth.password_file.clone().map(Value::Path),
            write: |config, value| {
                if let Value::Path(path) = value {
                    config.auth.password_file = Some(path);
                }
            },
        },
        Key {
            section: "auth",
            name: "scram",
            unit: "",
            kind: Kind::Flag,
            read: |config| Some(Value::Flag(config.auth.scram)),
            write: |config, value| {
                if let Value::Flag(flag) = value {
                    config.auth.scram = flag;
                }
            },
        },
        Key {
            section: "auth",
            name: "acl_file",
            unit: "",
            kind: Kind::Path,
            read: |config| config.auth.acl_file.clone().map(Value::Path),
            write: |config, value| {
                if let Value::Path(path) = value {
                    config.auth.acl_file = Some(path);
                }
            },
        },
        Key {
            section: "auth",
            name: "acl_subscribe",
            unit: "",
            kind: Kind::Choice(SUBSCRIBING),
            read: |config| {
                Some(Value::Word(match config.auth.acl_subscribe {
                    Subscribing::Covered => "covered",
                    Subscribing::Overlapping => "overlapping",
                }))
            },
            write: |config, value| {
                if let Value::Word(word) = value {
                    config.auth.acl_subscribe = match word {
                        "overlapping" => Subscribing::Overlapping,
                        _ => Subscribing::Covered,
                    };
                }
            },
        },
        Key {
            section: "auth",
            name: "acl_deliveries",
            unit: "",
            kind: Kind::Flag,
            read: |config| Some(Value::Flag(config.auth.acl_deliveries)),
            write: |config, value| {
                if let Value::Flag(flag) = value {
                    config.auth.acl_deliveries = flag;
                }
            },
        },
        Key {
            section: "auth",
            name: "disconnect_revoked",
            unit: "",
            kind: Kind::Flag,
            read: |config| Some(Value::Flag(config.auth.disconnect_revoked)),
            write: |config, value| {
                if let Value::Flag(flag) = value {
                    config.auth.disconnect_revoked = flag;
                }
            },
        },
    ];
}

/// Whether a change of `key` gives the broker a part, or takes one away, that is built in at the
/// start.
pub(super) fn is_structural(key: &Key, from: &Config, to: &Config) -> bool {
    key.section == "auth" && key.value(from).is_some() != key.value(to).is_some()
}
