//! The section `[auth]`: who clients are.

use std::path::PathBuf;

use super::Config;
use super::keys::{Key, Kind, Value};

/// Who clients are: the section `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthSettings {
    /// Users and the hashes of their passwords, as `axmq passwd` writes them; without it, no
    /// password is asked for.
    pub password_file: Option<PathBuf>,
    /// Whether users of the password file may log in by SCRAM-SHA-256.
    pub scram: bool,
}

impl AuthSettings {
    /// Whether clients have to say who they are.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.password_file.is_some()
    }

    /// Keys that contradict each other.
    pub(super) fn check(&self) -> Option<(&'static [(&'static str, &'static str)], &'static str)> {
        (self.scram && self.password_file.is_none()).then_some((
            &[("auth", "scram")],
            "`auth.scram` needs `auth.password_file`, where its users are",
        ))
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
    ];
}

/// Whether a change of `key` gives the broker a part, or takes one away, that is built in at the
/// start.
pub(super) fn is_structural(key: &Key, from: &Config, to: &Config) -> bool {
    key.section == "auth" && key.value(from).is_some() != key.value(to).is_some()
}
