//! Who may read and write which topics, by a file in the format of mosquitto.
//!
//! # How it is decided
//!
//! First the rules of the user (or, of a client without one, the rules before the first `user`
//! line), then the patterns, which are for everybody. Within each, a `deny` comes before everything
//! else, wherever it stands. Whom no rule allows anything is denied.
//!
//! Publishing needs a rule to write that matches the topic, a delivery one to read. A subscription
//! is about many topics. By default every topic that its filter matches has to be allowed: a rule
//! has to cover it, and no rule that denies may have a topic in common with it. Where only
//! [`Subscribing::Overlapping`] is asked for, as mosquitto has it, one topic in common with a rule
//! that allows is enough, and the deliveries have to be checked.

mod file;
mod matching;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use self::matching::{covers, overlaps};

/// Rules, read from a file.
///
/// ```
/// use axmq::auth::{Acl, Subscribing, Want};
///
/// let text = "user ann\ntopic read news/#\ntopic deny news/secret\npattern write dev/%c/state";
/// let acl = Acl::parse("acl", text)?;
/// let may = |want| acl.decide(Some("ann"), "lamp", want).is_allowed();
/// assert!(may(Want::Publish("dev/lamp/state")));
/// assert!(!may(Want::Publish("dev/door/state")));
/// assert!(may(Want::Receive("news/today")));
/// assert!(may(Want::Subscribe("news/today/+", Subscribing::Covered)));
/// // `news/secret` is among them.
/// assert!(!may(Want::Subscribe("news/#", Subscribing::Covered)));
/// assert!(may(Want::Subscribe("news/#", Subscribing::Overlapping)));
/// # Ok::<(), axmq::auth::FileError>(())
/// ```
#[derive(Clone, Default)]
pub struct Acl {
    /// What the file is called.
    name: Box<str>,
    /// For clients that are nobody.
    anonymous: Vec<Rule>,
    users: HashMap<Box<str>, Vec<Rule>>,
    patterns: Vec<Rule>,
    /// Whether a pattern has the client id in it.
    asks_for_client: bool,
    digest: [u8; 32],
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want<'a> {
    /// Publish to this topic.
    Publish(&'a str),
    /// Get a message of this topic.
    Receive(&'a str),
    /// Subscribe by this filter.
    Subscribe(&'a str, Subscribing),
}

/// What a subscription needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Subscribing {
    /// All that it matches has to be allowed.
    #[default]
    Covered,
    /// Some of what it matches may be allowed.
    Overlapping,
}

/// A decision, and the rule that made it. Its `Display` says both in a line.
#[derive(Clone, Copy)]
pub struct Ruling<'a> {
    is_allowed: bool,
    file: &'a str,
    rule: Option<&'a Rule>,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    line: usize,
    access: Access,
    filter: Box<str>,
    /// Whether it has `%u` in it, and `%c`; never in a `topic` line.
    asks_for_user: bool,
    asks_for_client: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

/// Whom a rule is held against.
#[derive(Clone, Copy)]
struct Who<'a> {
    user: Option<&'a str>,
    client: &'a str,
}

impl Acl {
    /// Whether a client may do what it wants. `user` is `None` for one that is nobody.
    ///
    /// # Complexity
    ///
    /// A look-up of the user, and the rules of the user and the patterns one by one. Allocates
    /// nothing.
    #[must_use]
    pub fn decide(&self, user: Option<&str>, client: &str, want: Want<'_>) -> Ruling<'_> {
        let who = Who { user, client };
        let own = match user {
            None => Some(&self.anonymous),
            Some(user) => self.users.get(user),
        };
        let own = own.map(Vec::as_slice).unwrap_or_default();
        let decided = by_rules(own, who, want).or_else(|| by_rules(&self.patterns, who, want));
        Ruling {
            is_allowed: decided.is_some_and(|rule| rule.access != Access::Deny),
            file: &self.name,
            rule: decided,
        }
    }

    /// Whether two clients of one user may ever do different things.
    pub(crate) fn asks_for_client(&self) -> bool {
        self.asks_for_client
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// All rules.
    pub(crate) fn len(&self) -> usize {
        let of_users: usize = self.users.values().map(Vec::len).sum();
        self.anonymous.len() + of_users + self.patterns.len()
    }
}

/// The first rule that denies, else the first that allows.
fn by_rules<'a>(rules: &'a [Rule], who: Who<'_>, want: Want<'_>) -> Option<&'a Rule> {
    let denies = |rule: &&Rule| rule.access == Access::Deny && rule.denies(who, want);
    let allows = |rule: &&Rule| rule.access.is_for(want) && rule.allows(who, want);
    rules
        .iter()
        .find(denies)
        .or_else(|| rules.iter().find(allows))
}

impl Access {
    /// Whether it is what `want` asks for.
    fn is_for(self, want: Want<'_>) -> bool {
        match want {
            Want::Publish(_) => matches!(self, Self::Write | Self::ReadWrite),
            Want::Receive(_) | Want::Subscribe(..) => matches!(self, Self::Read | Self::ReadWrite),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
            Self::Deny => "deny",
        }
    }
}

impl Rule {
    fn is_pattern(&self) -> bool {
        self.asks_for_user || self.asks_for_client
    }

    /// Whether the names that stand in the rule are fit to stand there: one with a slash or a
    /// wildcard in it would reach into what belongs to others. `None` where there is no name.
    fn is_fit(&self, who: Who<'_>) -> Option<bool> {
        let user = match who.user {
            None if self.asks_for_user => return None,
            Some(user) if self.asks_for_user => is_one_level(user),
            _ => true,
        };
        Some(user && (!self.asks_for_client || is_one_level(who.client)))
    }

    fn allows(&self, who: Who<'_>, want: Want<'_>) -> bool {
        let same = |rule: &str, level: &str| self.is_level(rule, level, who);
        self.is_fit(who) == Some(true)
            && match want {
                Want::Publish(topic) | Want::Receive(topic) => covers(&self.filter, topic, same),
                Want::Subscribe(filter, Subscribing::Covered) => covers(&self.filter, filter, same),
                Want::Subscribe(filter, Subscribing::Overlapping) => {
                    overlaps(&self.filter, filter, same)
                }
            }
    }

    fn denies(&self, who: Who<'_>, want: Want<'_>) -> bool {
        let same = |rule: &str, level: &str| self.is_level(rule, level, who);
        match self.is_fit(who) {
            None => false,
            // Nobody gets round it by a name that does not fit.
            Some(false) => true,
            Some(true) => match want {
                Want::Publish(topic) | Want::Receive(topic) => covers(&self.filter, topic, same),
                Want::Subscribe(filter, Subscribing::Covered) => {
                    overlaps(&self.filter, filter, same)
                }
                Want::Subscribe(filter, Subscribing::Overlapping) => {
                    covers(&self.filter, filter, same)
                }
            },
        }
    }

    /// Whether a level of this rule, with names put in, is this level.
    fn is_level(&self, rule: &str, level: &str, who: Who<'_>) -> bool {
        if !self.is_pattern() {
            return rule == level;
        }
        let (mut rule, mut level) = (rule, level);
        loop {
            let Some((before, after)) = rule.split_once('%') else {
                return rule == level;
            };
            let (name, after) = match (after.strip_prefix('u'), after.strip_prefix('c')) {
                (Some(after), _) => (who.user.unwrap_or_default(), after),
                (_, Some(after)) => (who.client, after),
                _ => ("%", after),
            };
            let rest = level
                .strip_prefix(before)
                .and_then(|rest| rest.strip_prefix(name));
            let Some(rest) = rest else {
                return false;
            };
            (rule, level) = (after, rest);
        }
    }
}

fn is_one_level(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.contains(['/', '+', '#'])
}

impl Ruling<'_> {
    /// Whether it is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// The line of the rule; `None` where no rule matches.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.rule.map(|rule| rule.line)
    }
}

impl fmt::Display for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_allowed { "allowed" } else { "denied" };
        match self.rule {
            Some(rule) => {
                let kind = if rule.is_pattern() {
                    "pattern"
                } else {
                    "topic"
                };
                let (file, line, access) = (self.file, rule.line, rule.access.name());
                write!(
                    f,
                    "{what} by {file}:{line}: {kind} {access} {}",
                    rule.filter
                )
            }
            None => write!(f, "{what}: no rule of {} allows it", self.file),
        }
    }
}

impl fmt::Debug for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl fmt::Debug for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acl")
            .field("name", &self.name)
            .field("rules", &self.len())
            .finish_non_exhaustive()
    }
}
