//! The section `[protocol]`: where the protocol leaves the server a choice.

use super::keys::{Key, Kind, Value};

/// Where the protocol leaves the server a choice: the section `[protocol]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtocolSettings {
    /// Which member of a shared subscription gets a message.
    pub shared_strategy: topicmap::Strategy,
}

/// The strategies by name.
const STRATEGIES: [(&str, topicmap::Strategy); 5] = [
    ("round-robin", topicmap::Strategy::RoundRobin),
    ("random", topicmap::Strategy::Random),
    ("sticky", topicmap::Strategy::Sticky),
    ("publisher-hash", topicmap::Strategy::PublisherHash),
    ("least-queued", topicmap::Strategy::LeastQueued),
];

/// Their names alone.
const STRATEGY_NAMES: &[&str] = &{
    let mut names = [""; STRATEGIES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = STRATEGIES[at].0;
        at += 1;
    }
    names
};

impl ProtocolSettings {
    pub(super) const KEYS: &'static [Key] = &[Key {
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
    }];
}
