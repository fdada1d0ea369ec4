//! One listener: its address, and what its clients may do.

use super::keys::{Kind, Value};
use super::{Durability, Endpoint};
use crate::network::Network;

/// An address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where its clients connect to.
    pub address: Endpoint,
    /// Whether the start goes on, with a warning, on a machine that does not have this address.
    ///
    /// That is so for the `[::1]` that nobody asked for by name. A port that is in use ends the
    /// start all the same.
    pub optional: bool,
    /// What its clients may do.
    pub rules: ListenerRules,
}

impl Listener {
    /// A listener that has to be there, with the default rules.
    #[must_use]
    pub fn new(address: impl Into<Endpoint>) -> Self {
        Self {
            address: address.into(),
            optional: false,
            rules: ListenerRules::default(),
        }
    }
}

/// What the clients of a listener may do: the keys of `[[listener]]` beside its address.
///
/// The default takes nothing away from what the broker offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerRules {
    /// Connections at a time by this listener. Beyond it a new one is accepted and closed at once.
    pub connections: u64,
    /// Whether MQTT 3.1 is served; another version is refused as an unsupported one.
    pub mqtt_3_1: bool,
    /// Whether MQTT 3.1.1 is served.
    pub mqtt_3_1_1: bool,
    /// Whether MQTT 5.0 is served.
    pub mqtt_5_0: bool,
    /// Put before every topic and filter of its clients, and taken off again on the way to them;
    /// empty is nothing.
    pub mount_point: String,
    /// The proxies that connect here for others, as addresses and ranges with commas between them;
    /// empty is none. Each connection from them begins with a PROXY header, version 1 or 2, that
    /// says who the client is; any other connection is refused.
    pub proxy_protocol_from: String,
    /// The highest QoS: 0, 1 or 2. Subscriptions are granted no more; a publish with more ends the
    /// connection (5.0: reason 0x9B).
    pub maximum_qos: u8,
    /// Whether messages are retained. Without, a publish that asks for it ends the connection (5.0:
    /// reason 0x9A).
    pub retain: bool,
    /// Whether filters may have wildcards. Without, 5.0 clients that try are disconnected with
    /// 0xA2, others are refused in the SUBACK.
    pub wildcard_subscriptions: bool,
    /// Whether there are shared subscriptions. Without, as for wildcards, with 0x9E.
    pub shared_subscriptions: bool,
    /// Whether there are subscription identifiers. Without, 5.0 clients that send one are
    /// disconnected with 0xA1.
    pub subscription_identifiers: bool,
    /// The longest keep-alive, as `limits.keep_alive_max_s`; the lower one holds.
    pub keep_alive_max_s: u32,
    /// The longest session expiry, as `limits.session_expiry_max_s`; the lower one holds.
    pub session_expiry_max_s: u32,
    /// QoS 1 and 2 messages under way to a 3.x client, which cannot say so itself; bounded by
    /// `limits.inflight`.
    pub inflight_v3: u32,
    /// Whether a client may leave its id empty and get one.
    pub empty_client_ids: bool,
    /// Whether the user name stands for the client id, whatever that is. A client without a user
    /// name is refused.
    pub username_as_client_id: bool,
    /// Whether clients speak MQTT over WebSocket here, and only so.
    pub websocket: bool,
    /// The path of the WebSocket.
    pub websocket_path: String,
    /// The origins of the pages whose scripts may connect, with commas between them; empty is all.
    pub websocket_origins: String,
    /// The longest frame of a client, in bytes.
    pub websocket_frame_bytes: u64,
    /// The HTTP proxies whose `X-Forwarded-For` says who the client is, as addresses and ranges
    /// with commas between them; empty is none.
    pub forwarded_for_from: String,
    /// PEM files, with commas between them, each with the certificate and its chain: with one,
    /// clients speak TLS here, and only so. The first is for clients that ask for no name that one
    /// of them has.
    pub tls_certificate: String,
    /// The PEM files of their keys, in the same order; where there is none the key stands in the
    /// certificate's file.
    pub tls_key: String,
    /// PEM files of the authorities that clients' certificates are from; with one, a client has to
    /// show a certificate.
    pub tls_client_ca: String,
    /// PEM files of their revocation lists.
    pub tls_client_crl: String,
    /// Whether a client may show no certificate all the same.
    pub tls_client_optional: bool,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub tls_1_2: bool,
    /// What of a client's certificate is its user name, which then needs no password: `cn`,
    /// `subject`, or nothing.
    pub tls_identity: String,
    /// The rights of a socket in the file system, in octal; who may write may connect.
    pub unix_mode: String,
    /// Its group, by name or number; empty is this process's.
    pub unix_group: String,
    /// What acknowledgements to its clients stand for, where no rule of `[store]` says it; `None`
    /// is what `[store]` says for all.
    pub durability: Option<Durability>,
}

/// One key of `[[listener]]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleKey {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) read: fn(&ListenerRules) -> Value,
    pub(super) write: fn(&mut ListenerRules, Value),
}

/// Declares the keys with their defaults, so that none is forgotten anywhere.
macro_rules! rules {
    (
        flags { $($flag:ident = $on:literal,)* }
        numbers { $($number:ident: $ty:ty = $default:literal in $min:literal..=$max:literal,)* }
        texts { $($text:ident = $default_text:literal,)* }
        durabilities { $($durability:ident,)* }
    ) => {
        impl Default for ListenerRules {
            fn default() -> Self {
                Self {
                    $($flag: $on,)*
                    $($number: $default,)*
                    $($text: $default_text.to_owned(),)*
                    $($durability: None,)*
                }
            }
        }

        /// The keys beside `address`.
        pub(super) const RULE_KEYS: &[RuleKey] = &[
            $(RuleKey {
                name: stringify!($flag),
                kind: Kind::Flag,
                read: |rules| Value::Flag(rules.$flag),
                write: |rules, value| {
                    if let Value::Flag(flag) = value {
                        rules.$flag = flag;
                    }
                },
            },)*
            $(RuleKey {
                name: stringify!($number),
                kind: Kind::Number { min: $min, max: $max },
                read: |rules| Value::Number(u64::from(rules.$number)),
                write: |rules, value| {
                    if let Value::Number(number) = value
                        && let Ok(number) = <$ty>::try_from(number)
                    {
                        rules.$number = number;
                    }
                },
            },)*
            $(RuleKey {
                name: stringify!($text),
                kind: Kind::Text,
                read: |rules| Value::Text(rules.$text.clone()),
                write: |rules, value| {
                    if let Value::Text(text) = value {
                        rules.$text = text;
                    }
                },
            },)*
            $(RuleKey {
                name: stringify!($durability),
                kind: Kind::Choice(Durability::NAMES_OR_NOTHING),
                read: |rules| Value::Word(rules.$durability.map_or("", Durability::name)),
                write: |rules, value| {
                    if let Value::Word(word) = value {
                        rules.$durability = Durability::of_name(word);
                    }
                },
            },)*
        ];
    };
}

rules! {
    flags {
        mqtt_3_1 = true,
        mqtt_3_1_1 = true,
        mqtt_5_0 = true,
        retain = true,
        wildcard_subscriptions = true,
        shared_subscriptions = true,
        subscription_identifiers = true,
        empty_client_ids = true,
        username_as_client_id = false,
        websocket = false,
        tls_1_2 = true,
        tls_client_optional = false,
    }
    numbers {
        connections: u64 = 4_294_967_295 in 1..=4_294_967_295,
        maximum_qos: u8 = 2 in 0..=2,
        keep_alive_max_s: u32 = 65_535 in 1..=65_535,
        session_expiry_max_s: u32 = 4_294_967_295 in 0..=4_294_967_295,
        inflight_v3: u32 = 65_535 in 1..=65_535,
        websocket_frame_bytes: u64 = 268_435_460 in 125..=4_294_967_295,
    }
    texts {
        mount_point = "",
        proxy_protocol_from = "",
        websocket_path = "/mqtt",
        websocket_origins = "",
        forwarded_for_from = "",
        tls_certificate = "",
        tls_key = "",
        tls_client_ca = "",
        tls_client_crl = "",
        tls_identity = "",
        unix_mode = "0660",
        unix_group = "",
    }
    durabilities {
        durability,
    }
}

impl ListenerRules {
    /// What is wrong with them, if anything is.
    pub(super) fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        for key in RULE_KEYS {
            if let (Kind::Number { min, max }, Value::Number(number)) = (key.kind, (key.read)(self))
                && !(min..=max).contains(&number)
            {
                found.push(format!("`{}` must be from {min} to {max}", key.name));
            }
        }
        if !(self.mqtt_3_1 || self.mqtt_3_1_1 || self.mqtt_5_0) {
            found.push("the listener serves no version of MQTT".to_owned());
        }
        for (name, list) in [
            ("proxy_protocol_from", &self.proxy_protocol_from),
            ("forwarded_for_from", &self.forwarded_for_from),
        ] {
            if let Err(error) = Network::parse_list(list) {
                found.push(format!("`{name}`: {error}"));
            }
        }
        self.check_websocket(&mut found);
        self.check_tls(&mut found);
        if self.unix_mode_bits().is_none() {
            found.push(
                "`unix_mode` must be rights in octal such as \"0660\", from 0600 to 0777"
                    .to_owned(),
            );
        }
        let mount = &self.mount_point;
        if mount.contains(['+', '#', '\0']) || mount.starts_with('$') || mount.len() > 1_024 {
            found.push(
                "`mount_point` must be the beginning of topics: no wildcards, no `$` in front, at \
                 most 1_024 bytes"
                    .to_owned(),
            );
        }
        found
    }

    fn check_websocket(&self, found: &mut Vec<String>) {
        let default = Self::default();
        let is_used = self.websocket_path != default.websocket_path
            || self.websocket_origins != default.websocket_origins
            || self.websocket_frame_bytes != default.websocket_frame_bytes
            || self.forwarded_for_from != default.forwarded_for_from;
        if is_used && !self.websocket {
            found.push(
                "keys of WebSocket on a listener without it: add `websocket = true`".to_owned(),
            );
        }
        let path = &self.websocket_path;
        let is_path = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
        if !path.starts_with('/') || !path.bytes().all(is_path) {
            found.push(
                "`websocket_path` must be a path such as \"/mqtt\", without a query".to_owned(),
            );
        }
        for origin in list(&self.websocket_origins) {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            if host.is_empty() || host.contains('/') {
                found.push(format!(
                    "`websocket_origins`: `{origin}` is no origin such as https://example.org"
                ));
            }
        }
    }
}

impl ListenerRules {
    /// The rights of a socket in the file system.
    pub(crate) fn unix_mode_bits(&self) -> Option<u32> {
        let bits = u32::from_str_radix(&self.unix_mode, 8).ok();
        bits.filter(|bits| (0o600..=0o777).contains(bits) && !self.unix_mode.starts_with('+'))
    }

    /// Whether nobody comes in without a certificate that has been verified.
    pub(super) fn demands_certificate(&self) -> bool {
        !self.tls_client_ca.is_empty() && !self.tls_client_optional
    }

    fn check_tls(&self, found: &mut Vec<String>) {
        let default = Self::default();
        let needs = |wanted: &str, key: &str| format!("`{key}` says nothing without `{wanted}`");
        if self.tls_certificate.is_empty() {
            for (key, is_set) in [
                ("tls_key", !self.tls_key.is_empty()),
                ("tls_client_ca", !self.tls_client_ca.is_empty()),
                ("tls_1_2", self.tls_1_2 != default.tls_1_2),
            ] {
                if is_set {
                    found.push(needs("tls_certificate", key));
                }
            }
        }
        if self.tls_client_ca.is_empty() {
            for (key, is_set) in [
                ("tls_client_crl", !self.tls_client_crl.is_empty()),
                ("tls_client_optional", self.tls_client_optional),
                ("tls_identity", !self.tls_identity.is_empty()),
            ] {
                if is_set {
                    found.push(needs("tls_client_ca", key));
                }
            }
        }
        let (keys, certificates) = (list(&self.tls_key), list(&self.tls_certificate));
        let (keys, certificates) = (keys.count(), certificates.count());
        if keys > 0 && keys != certificates {
            found.push(format!(
                "`tls_key` names {keys} files and `tls_certificate` {certificates}: one for each, \
                 in the same order, or none where the keys stand in the files of the certificates"
            ));
        }
        if !matches!(&*self.tls_identity, "" | "cn" | "subject") {
            found.push("`tls_identity` must be \"cn\", \"subject\" or \"\"".to_owned());
        }
    }
}

/// The elements of a list with commas between them.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_read_as_it_was_written() {
        for key in RULE_KEYS {
            let values = match key.kind {
                Kind::Flag => vec![Value::Flag(true), Value::Flag(false)],
                Kind::Number { min, max } => vec![Value::Number(min), Value::Number(max)],
                Kind::Choice(words) => words.iter().map(|word| Value::Word(word)).collect(),
                _ => vec![Value::Text("a/".into())],
            };
            for value in values {
                let mut rules = ListenerRules::default();
                (key.write)(&mut rules, value.clone());
                assert_eq!((key.read)(&rules), value, "{}", key.name);
            }
        }
    }

    #[test]
    fn rules_that_serve_nobody_or_break_topics_are_refused() {
        assert!(ListenerRules::default().check().is_empty());
        let mut rules = ListenerRules {
            mqtt_3_1: false,
            mqtt_3_1_1: false,
            ..ListenerRules::default()
        };
        assert!(rules.check().is_empty());
        rules.mqtt_5_0 = false;
        assert_eq!(rules.check().len(), 1);
        for mount_point in ["a/+/", "#", "$SYS/", "a\0"] {
            let rules = ListenerRules {
                mount_point: mount_point.into(),
                ..ListenerRules::default()
            };
            assert_eq!(rules.check().len(), 1, "{mount_point}");
        }
        let rules = ListenerRules {
            proxy_protocol_from: "127.0.0.1, 10.0.0.0/33".into(),
            ..ListenerRules::default()
        };
        assert_eq!(rules.check().len(), 1);
    }
}
