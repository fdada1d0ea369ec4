//! What some messages and users are promised: `[[store.rule]]`.

use std::collections::HashSet;

use topicmap::{Filter, Limits};

use super::Durability;
use crate::sys_topics::is_sys;

/// The name of the list of rules in `[store]`.
pub(in crate::config) const RULE: &str = "rule";

/// Another durability than that of the listener and of `[store]`: an element of `[[store.rule]]`.
///
/// It is for topics or for users, not for both: that would leave open whether one or both have to
/// be so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreRule {
    /// What they get.
    pub durability: Durability,
    /// Filters: messages whose topic one of them matches, whoever publishes them. Where several
    /// rules match, the strongest durability holds.
    pub topics: Vec<String>,
    /// Users: all that these publish, and their sessions.
    pub users: Vec<String>,
}

/// A list of a rule: how it is called, where it is, and what may stand in it.
pub(in crate::config) struct RuleList {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) of: fn(&mut StoreRule) -> &mut Vec<String>,
    pub(in crate::config) check: fn(&str) -> Result<(), String>,
}

/// The lists of a rule.
pub(in crate::config) const RULE_LISTS: [RuleList; 2] = [
    RuleList {
        name: "topics",
        of: |rule| &mut rule.topics,
        check: check_topic,
    },
    RuleList {
        name: "users",
        of: |rule| &mut rule.users,
        check: check_user,
    },
];

/// Every filter of MQTT: what the broker's own limits leave of it is no matter of rules.
const WIDEST: Limits = Limits {
    levels_max: u16::MAX,
    bytes_max: u16::MAX,
    seed: 0,
};

fn check_topic(filter: &str) -> Result<(), String> {
    if filter.starts_with("$share/") {
        return Err("a rule is for topics, not for subscriptions: leave `$share/NAME/` out".into());
    }
    if is_sys(filter) {
        return Err("what is under `$SYS/` is the broker's own, and never kept".into());
    }
    match Filter::parse(filter, &WIDEST) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{filter:?} is no topic filter: {error}")),
    }
}

fn check_user(user: &str) -> Result<(), String> {
    match user {
        "" => Err("a user has a name".into()),
        "*" => Err("for everybody there is `durability` of [store] and of a listener".into()),
        _ => Ok(()),
    }
}

impl StoreRule {
    /// For whom the rule is, where that is wrong.
    pub(in crate::config) fn check_aim(&self) -> Result<(), &'static str> {
        match (self.topics.is_empty(), self.users.is_empty()) {
            (true, true) => Err("this rule is for nothing: add topics = [...] or users = [...]"),
            (false, false) => Err("this rule is for topics and for users: make two of it"),
            _ => Ok(()),
        }
    }

    /// What is wrong with these rules, if anything is.
    pub(in crate::config) fn check_all(rules: &[Self]) -> Vec<String> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for rule in rules {
            found.extend(rule.check_aim().err().map(str::to_owned));
            let mut rule = rule.clone();
            for RuleList { name, of, check } in RULE_LISTS {
                for text in of(&mut rule) {
                    found.extend(check(text).err());
                    if !seen.insert((name, text.clone())) {
                        found.push(Self::twice(text));
                    }
                }
            }
        }
        found
    }

    /// The message for what stands in two rules, or twice in one.
    pub(in crate::config) fn twice(text: &str) -> String {
        format!("{text:?} has a rule already: of two, nobody could say which holds")
    }

    /// In a line, for the list of what a reload would change.
    pub(in crate::config) fn summary(rules: &[Self]) -> String {
        let line = |rule: &Self| {
            let (what, list) = if rule.users.is_empty() {
                ("topics", &rule.topics)
            } else {
                ("users", &rule.users)
            };
            format!("{} for {what} {}", rule.durability.name(), list.join(", "))
        };
        match rules {
            [] => "no rules".to_owned(),
            _ => rules.iter().map(line).collect::<Vec<_>>().join("; "),
        }
    }
}
