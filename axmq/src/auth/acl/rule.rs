//! A rule: who may read or write what.

use std::fmt;

use super::matching::{covers, overlaps};

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
    /// The file or role that the rule stands in, or in which there was none.
    place: Option<&'a str>,
    rule: Option<&'a Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// In the file; 0 where there is none.
    pub(super) line: usize,
    pub(super) access: Access,
    pub(super) denies: bool,
    pub(super) filter: Box<str>,
    /// Whether it has `%u` in it, and `%c`; never in a `topic` line.
    pub(super) asks_for_user: bool,
    pub(super) asks_for_client: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
    Write,
    ReadWrite,
}

/// Whom a rule is held against.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) client: &'a str,
}

/// The rules of a role, or those that a client has brought with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whose they are, in words.
    name: Box<str>,
    rules: Vec<Rule>,
}

/// The first rule that denies, else the first that allows.
pub(super) fn first<'a>(rules: &'a [Rule], who: Who<'_>, want: Want<'_>) -> Option<&'a Rule> {
    let denies = |rule: &&Rule| rule.denies && rule.is_for(want) && rule.concerns(who, want);
    let allows = |rule: &&Rule| !rule.denies && rule.is_for(want) && rule.allows(who, want);
    rules
        .iter()
        .find(denies)
        .or_else(|| rules.iter().find(allows))
}

impl Rules {
    pub(crate) fn new(name: impl Into<Box<str>>) -> Self {
        Self {
            name: name.into(),
            rules: Vec::new(),
        }
    }

    /// Adds `[read|write|readwrite] FILTER`; the error says what is wrong with it.
    pub(crate) fn add(&mut self, denies: bool, text: &str) -> Result<(), String> {
        self.rules.push(Rule {
            denies,
            ..super::file::rule_of_role(text)?
        });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether two clients of one user may ever do different things.
    pub(crate) fn asks_for_client(&self) -> bool {
        self.rules.iter().any(|rule| rule.asks_for_client)
    }

    /// What these rules say; of several sets, a rule that denies in any of them comes first.
    pub(crate) fn rule_on<'a>(
        sets: impl Iterator<Item = &'a Self> + Clone,
        who: Who<'_>,
        want: Want<'_>,
    ) -> Option<Ruling<'a>> {
        let mut allowed = None;
        for set in sets {
            match first(&set.rules, who, want) {
                Some(rule) if rule.denies => return Some(Ruling::by(&set.name, rule)),
                Some(rule) => allowed = allowed.or_else(|| Some(Ruling::by(&set.name, rule))),
                None => {}
            }
        }
        allowed
    }
}

impl Access {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
        }
    }
}

impl Rule {
    /// Whether it is about what `want` asks for.
    fn is_for(&self, want: Want<'_>) -> bool {
        match want {
            Want::Publish(_) => self.access != Access::Read,
            Want::Receive(_) | Want::Subscribe(..) => self.access != Access::Write,
        }
    }

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

    /// Whether it denies, being a rule that does.
    fn concerns(&self, who: Who<'_>, want: Want<'_>) -> bool {
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

impl<'a> Ruling<'a> {
    /// No rule allows it. `place` is where that was looked for, if there is only one place.
    pub(crate) fn none(place: Option<&'a str>) -> Self {
        Self {
            is_allowed: false,
            place,
            rule: None,
        }
    }

    /// Whoever this is may do everything, says `place`.
    pub(crate) fn everything(place: &'a str) -> Self {
        Self {
            is_allowed: true,
            place: Some(place),
            rule: None,
        }
    }

    pub(super) fn by(place: &'a str, rule: &'a Rule) -> Self {
        Self {
            is_allowed: !rule.denies,
            place: Some(place),
            rule: Some(rule),
        }
    }

    /// Whether it is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// The line of the rule; `None` where no rule matches, or it does not stand in a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.rule.map(|rule| rule.line).filter(|line| *line > 0)
    }
}

impl fmt::Display for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_allowed { "allowed" } else { "denied" };
        let place = self.place.unwrap_or_default();
        match self.rule {
            Some(rule) if rule.line > 0 => {
                let kind = if rule.is_pattern() {
                    "pattern"
                } else {
                    "topic"
                };
                let access = if rule.denies {
                    "deny"
                } else {
                    rule.access.name()
                };
                let (line, filter) = (rule.line, &rule.filter);
                write!(f, "{what} by {place}:{line}: {kind} {access} {filter}")
            }
            Some(rule) => {
                let verb = if rule.denies { "deny" } else { "allow" };
                let (access, filter) = (rule.access.name(), &rule.filter);
                write!(f, "{what} by {place}: {verb} {access} {filter}")
            }
            None if self.is_allowed => write!(f, "{what} by {place}"),
            None if place.is_empty() => write!(f, "{what}: no rule allows it"),
            None => write!(f, "{what}: no rule of {place} allows it"),
        }
    }
}

impl fmt::Debug for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}
