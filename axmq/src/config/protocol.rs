//! The section `[protocol]`: where the protocol leaves the server a choice.

use super::keys::{Key, Kind, Value};

/// Where the protocol leaves the server a choice: the section `[protocol]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtocolSettings {
    /// Which member of a shared subscription gets a message.
    pub shared_strategy: topicmap::Strategy,
    /// Whether a payload that says that it is UTF-8 has to be.
    pub check_payload_format: bool,
    /// What 5.0 clients that ask for it may make response topics of.
    pub response_information: Option<String>,
    /// Whether new clients are sent elsewhere.
    pub redirect: Redirect,
    /// Where to, for 5.0 clients.
    pub server_reference: Option<String>,
}

/// Whether new clients are let in or sent to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Redirect {
    /// They are let in.
    #[default]
    No,
    /// They are to use another server for now (reason 0x9C).
    UseAnother,
    /// They are to use another server for good (reason 0x9D).
    Moved,
}

impl Redirect {
    const ALL: [(&str, Self); 3] = [
        ("no", Self::No),
        ("use-another", Self::UseAnother),
        ("moved", Self::Moved),
    ];
}

/// The words of a table, for [`Kind::Choice`].
const fn words<const N: usize, T: Copy>(table: [(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = table[at].0;
        at += 1;
    }
    words
}

const REDIRECT_NAMES: &[&str] = &words(Redirect::ALL);

/// The strategies by name.
const STRATEGIES: [(&str, topicmap::Strategy); 5] = [
    ("round-robin", topicmap::Strategy::RoundRobin),
    ("random", topicmap::Strategy::Random),
    ("sticky", topicmap::Strategy::Sticky),
    ("publisher-hash", topicmap::Strategy::PublisherHash),
    ("least-queued", topicmap::Strategy::LeastQueued),
];

const STRATEGY_NAMES: &[&str] = &words(STRATEGIES);

impl ProtocolSettings {
    pub(super) const KEYS: &'static [Key] = &[
        Key {
            section: "protocol",
            name: "shared_strategy",
            unit: "",
            kind: Kind::Choice(STRATEGY_NAMES),
            read: |config| {
                let is_it = |(_, strategy): &&(_, _)| *strategy == config.protocol.shared_strategy;
                let found = STRATEGIES.iter().find(is_it);
                found.map(|(name, _)| Value::Word(name))
            },
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Some((_, strategy)) = STRATEGIES.iter().find(|(name, _)| *name == word)
                {
                    config.protocol.shared_strategy = *strategy;
                }
            },
        },
        Key {
            section: "protocol",
            name: "check_payload_format",
            unit: "",
            kind: Kind::Flag,
            read: |config| Some(Value::Flag(config.protocol.check_payload_format)),
            write: |config, value| {
                if let Value::Flag(flag) = value {
                    config.protocol.check_payload_format = flag;
                }
            },
        },
        Key {
            section: "protocol",
            name: "response_information",
            unit: "",
            kind: Kind::Text,
            read: |config| {
                config
                    .protocol
                    .response_information
                    .clone()
                    .map(Value::Text)
            },
            write: |config, value| {
                if let Value::Text(text) = value {
                    config.protocol.response_information = Some(text);
                }
            },
        },
        Key {
            section: "protocol",
            name: "redirect",
            unit: "",
            kind: Kind::Choice(REDIRECT_NAMES),
            read: |config| {
                let is_it = |(_, redirect): &&(_, _)| *redirect == config.protocol.redirect;
                let found = Redirect::ALL.iter().find(is_it);
                found.map(|(name, _)| Value::Word(name))
            },
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Some((_, redirect)) =
                        Redirect::ALL.iter().find(|(name, _)| *name == word)
                {
                    config.protocol.redirect = *redirect;
                }
            },
        },
        Key {
            section: "protocol",
            name: "server_reference",
            unit: "",
            kind: Kind::Text,
            read: |config| config.protocol.server_reference.clone().map(Value::Text),
            write: |config, value| {
                if let Value::Text(text) = value {
                    config.protocol.server_reference = Some(text);
                }
            },
        },
    ];
}
