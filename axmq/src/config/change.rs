//! What differs between two configurations, and what of it a running broker can take over.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::auth::is_structural;
use super::keys::{self, Key, Value};
use super::listener::RULE_KEYS;
use super::{AuthSettings, Config, Listener, ListenerRules, Role, StoreRule};

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The key with its section, such as `limits.inflight`.
    pub key: String,
    /// What was in force.
    pub from: String,
    /// What the new configuration says.
    pub to: String,
    /// Whether it holds only from the next start on.
    pub needs_restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to, .. } = self;
        write!(f, "{key}: {from} -> {to}")?;
        if self.needs_restart {
            f.write_str(" (needs a restart)")?;
        }
        Ok(())
    }
}

/// Keys whose values are built into threads, tables and buffers at the start.
const NEED_RESTART: &[(&str, &str)] = &[
    ("broker", "shards"),
    ("broker", "fronts"),
    ("broker", "data_dir"),
    // Who has no rights any more cannot become somebody else.
    ("broker", "user"),
    // The pool, its queue and the gates of the program's own messages are made once.
    ("broker", "auth_threads"),
    ("limits", "auth_queue"),
    ("limits", "local_bytes"),
    ("budgets", "hook_us"),
    ("budgets", "events_per_turn"),
    ("budgets", "read_bytes"),
    ("budgets", "read_packets"),
    ("budgets", "accepts_per_turn"),
    ("budgets", "background_us"),
    ("budgets", "spin_us"),
    ("log", "format"),
    // The store is opened once, and what is written is decided when a session begins.
    ("store", "durability"),
    ("store", "interval_ms"),
    ("store", "reserve_bytes"),
    // The broker offers the method or does not.
    ("auth", "scram"),
    // Threads are started once.
    ("auth.http", "threads"),
    // Hooks are asked at the start whether they see deliveries.
    ("auth", "acl_deliveries"),
    // The helper is started once.
    ("defence", "kernel"),
    // Groups that are there keep the strategy that they began with.
    ("protocol", "shared_strategy"),
    // What is stored and subscribed under the old limit has to stay legal.
    ("limits", "topic_levels"),
    ("limits", "topic_bytes"),
];

/// Keys that clients were told in CONNACK, and hold the broker to: a lower value would break the
/// word that connected clients have, a higher one does not.
const PROMISED: &[(&str, &str)] = &[
    ("limits", "packet_bytes"),
    ("limits", "receive_maximum"),
    ("limits", "topic_aliases"),
];

/// Whether a running broker cannot go from one value of `key` to the other.
fn needs_restart(key: &Key, from: &Config, to: &Config) -> bool {
    let name = (key.section, key.name);
    let sinks = match (key.value(from), key.value(to)) {
        (Some(Value::Number(from)), Some(Value::Number(to))) => to < from,
        _ => false,
    };
    NEED_RESTART.contains(&name)
        || is_structural(key, from, to)
        || (sinks && PROMISED.contains(&name))
}

impl Config {
    /// What differs in `new`, key by key, the listeners last.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let text = |config: &Self, key: &Key| {
            key.value(config)
                .map_or_else(|| "not set".to_owned(), |value| value.to_string())
        };
        let mut found: Vec<_> = keys::keys()
            .filter(|key| key.value(self) != key.value(new))
            .map(|key| Change {
                key: key.path(),
                from: text(self, key),
                to: text(new, key),
                needs_restart: needs_restart(key, self, new),
            })
            .collect();
        found.extend(self.role_changes(new));
        for (old, new) in self.common_listeners(new) {
            for key in RULE_KEYS {
                let (from, to) = ((key.read)(&old.rules), (key.read)(&new.rules));
                if from != to {
                    found.push(Change {
                        key: format!("listener {}: {}", old.address, key.name),
                        from: from.to_string(),
                        to: to.to_string(),
                        needs_restart: key.name == "durability",
                    });
                }
            }
        }
        if self.store.rules != new.store.rules {
            found.push(Change {
                key: "store.rule".to_owned(),
                from: StoreRule::summary(&self.store.rules),
                to: StoreRule::summary(&new.store.rules),
                needs_restart: true,
            });
        }
        let addresses = |config: &Self| {
            let all = config.listeners.iter().map(|l| l.address.to_string());
            all.collect::<Vec<_>>().join(", ")
        };
        if addresses(self) != addresses(new) {
            found.push(Change {
                key: "listener.address".to_owned(),
                from: addresses(self),
                to: addresses(new),
                needs_restart: true,
            });
        }
        found
    }

    /// Roles that came, went or are different.
    fn role_changes(&self, new: &Self) -> Vec<Change> {
        let (from, to) = (&self.auth, &new.auth);
        let needs_restart = from.authorizes() != to.authorizes();
        let mut found = Vec::new();
        let names = from.roles.iter().chain(&to.roles).map(|role| &role.name);
        let mut seen = HashSet::new();
        for name in names.filter(|name| seen.insert(name.as_str())) {
            let of = |auth: &AuthSettings| auth.roles.iter().find(|it| it.name == *name).cloned();
            let (from, to) = (of(from), of(to));
            if from != to {
                let text = |role: Option<Role>| {
                    role.map_or_else(|| "not there".to_owned(), |role| role.summary())
                };
                found.push(Change {
                    key: format!("auth.role {name:?}"),
                    from: text(from),
                    to: text(to),
                    needs_restart,
                });
            }
        }
        found
    }

    /// The listeners that both have, in pairs and in the order of this one. Those on ports that the
    /// kernel chooses have the same address, and are told apart by their order.
    fn common_listeners<'a>(
        &'a self,
        new: &'a Self,
    ) -> impl Iterator<Item = (&'a Listener, &'a Listener)> {
        self.listeners.iter().enumerate().filter_map(|(at, old)| {
            let is_same = |l: &&Listener| l.address == old.address;
            let before = self.listeners.iter().take(at).filter(is_same).count();
            Some((old, new.listeners.iter().filter(is_same).nth(before)?))
        })
    }

    /// Takes over from `new` what needs no restart.
    pub(crate) fn take_over(&mut self, new: &Self) {
        for key in keys::keys() {
            if !needs_restart(key, self, new)
                && let Some(value) = key.value(new)
            {
                (key.write)(self, value);
            }
        }
        if self.auth.authorizes() == new.auth.authorizes() {
            self.auth.roles.clone_from(&new.auth.roles);
        }
        self.drop_unset(new);
        let pairs = self.common_listeners(new);
        let rules: Vec<_> = pairs
            .map(|(old, new)| (old.address.clone(), new.rules.clone()))
            .collect();
        let mut rules = rules.into_iter().peekable();
        for listener in &mut self.listeners {
            if let Some((_, rules)) = rules.next_if(|(address, _)| *address == listener.address) {
                listener.rules = ListenerRules {
                    // As all that says what is kept: see `NEED_RESTART`.
                    durability: listener.rules.durability,
                    ..rules
                };
            }
        }
    }
}

impl Config {
    /// Forgets what is optional and stands in `new` no more.
    fn drop_unset(&mut self, new: &Self) {
        let unset = |config: &Self, section, name| {
            let key = keys::find(section, name);
            key.is_some_and(|key| key.value(new).is_none() && !needs_restart(key, config, new))
        };
        let before = self.clone();
        if unset(&before, "auth", "chain") {
            self.auth.chain.clear();
        }
        let auth = &mut self.auth;
        let (jwt, http) = (&mut auth.jwt, &mut auth.http);
        for (section, name, path) in [
            ("auth", "password_file", &mut auth.password_file),
            ("auth", "acl_file", &mut auth.acl_file),
            ("auth.jwt", "key_file", &mut jwt.key_file),
            ("auth.jwt", "secret_file", &mut jwt.secret_file),
            ("auth.http", "ca_file", &mut http.ca_file),
            ("auth.http", "header_file", &mut http.header_file),
        ] {
            if unset(&before, section, name) {
                *path = None;
            }
        }
        let protocol = &mut self.protocol;
        for (section, name, text) in [
            ("auth.jwt", "issuer", &mut jwt.issuer),
            ("auth.jwt", "audience", &mut jwt.audience),
            ("auth.http", "url", &mut http.url),
            (
                "protocol",
                "response_information",
                &mut protocol.response_information,
            ),
            (
                "protocol",
                "server_reference",
                &mut protocol.server_reference,
            ),
        ] {
            if unset(&before, section, name) {
                *text = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Durability, Kind};

    #[test]
    fn a_change_is_named_and_taken_over_unless_it_needs_a_restart() {
        let mut running = Config::default();
        let mut new = running.clone();
        assert!(running.changes(&new).is_empty());
        new.limits.inflight = 7;
        new.listeners[0].rules.maximum_qos = 1;
        new.broker.shards = 3;
        new.listeners.pop();
        let changes = running.changes(&new);
        let lines: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "broker.shards: 0 -> 3 (needs a restart)",
                "limits.inflight: 4_096 -> 7",
                "listener 127.0.0.1:1883: maximum_qos: 2 -> 1",
                "listener.address: 127.0.0.1:1883, [::1]:1883 -> 127.0.0.1:1883 (needs a restart)",
            ]
        );
        running.take_over(&new);
        assert_eq!((running.limits.inflight, running.broker.shards), (7, 0));
        assert_eq!(running.listeners[0].rules.maximum_qos, 1);
        assert_eq!(running.listeners[1].rules.maximum_qos, 2);
        let left = running.changes(&new);
        assert_eq!(left.len(), 2, "what needs a restart is named until then");
        assert!(left.iter().all(|change| change.needs_restart));
    }

    #[test]
    fn what_is_kept_is_decided_at_the_start() {
        let mut running = Config::default();
        let mut new = running.clone();
        new.listeners[0].rules.durability = Some(Durability::Always);
        new.listeners[0].rules.maximum_qos = 1;
        new.store.rules.push(StoreRule {
            durability: Durability::None,
            topics: vec!["a/#".to_owned(), "b".to_owned()],
            users: Vec::new(),
        });
        let lines = |running: &Config| {
            let changes = running.changes(&new);
            changes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let kept = [
            "listener 127.0.0.1:1883: durability: \"\" -> \"always\" (needs a restart)",
            "store.rule: no rules -> none for topics a/#, b (needs a restart)",
        ];
        assert_eq!(lines(&running).len(), 3);
        running.take_over(&new);
        assert_eq!(running.listeners[0].rules.maximum_qos, 1);
        assert_eq!(lines(&running), kept);
    }

    #[test]
    fn what_clients_were_promised_may_rise_but_not_sink() {
        let mut running = Config::default();
        let mut new = running.clone();
        new.limits.packet_bytes += 1;
        new.limits.receive_maximum -= 1;
        let changes = running.changes(&new);
        let needed: Vec<_> = changes.iter().map(|change| change.needs_restart).collect();
        assert_eq!(needed, [false, true]);
        running.take_over(&new);
        assert_eq!(running.limits.packet_bytes, new.limits.packet_bytes);
        assert_eq!(
            running.limits.receive_maximum,
            new.limits.receive_maximum + 1
        );
    }

    #[test]
    fn what_is_optional_is_taken_back_where_it_is_not_set_any_more() {
        let empty = Config::default();
        for key in keys::keys().filter(|key| key.value(&empty).is_none()) {
            let mut running = empty.clone();
            // Something else that asks who clients are, and what they may do.
            running.auth.password_file = Some("users".into());
            running.auth.acl_file = Some("acl".into());
            running.auth.jwt.key_file = Some("keys".into());
            running.auth.http.url = Some("http://localhost/".into());
            let value = match key.kind {
                Kind::Path => Value::Path("x".into()),
                Kind::Words(words) => Value::Words(words.to_vec()),
                _ => Value::Text("x".to_owned()),
            };
            let mut new = running.clone();
            (key.write)(&mut running, value);
            match (key.section, key.name) {
                ("auth", "password_file") => new.auth.password_file = None,
                ("auth", "acl_file") => new.auth.acl_file = None,
                ("auth.jwt", "key_file") => new.auth.jwt.key_file = None,
                ("auth.http", "url") => new.auth.http.url = None,
                _ => {}
            }
            let changes = running.changes(&new);
            let [change] = changes.as_slice() else {
                panic!("{}: {changes:?}", key.path());
            };
            running.take_over(&new);
            let left = key.value(&running).is_some();
            assert_eq!(left, change.needs_restart, "{}", key.path());
        }
    }

    #[test]
    fn the_keys_that_need_a_restart_exist() {
        for (section, name) in NEED_RESTART.iter().chain(PROMISED) {
            assert!(keys::find(section, name).is_some(), "{section}.{name}");
        }
    }
}
