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
mod rule;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use self::rule::Rule;
pub(crate) use self::rule::{Rules, Who};
pub use self::rule::{Ruling, Subscribing, Want};

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

impl Acl {
    /// Whether a client may do what it wants. `user` is `None` for one that is nobody.
    ///
    /// # Complexity
    ///
    /// A look-up of the user, and the rules of the user and the patterns one by one. Allocates
    /// nothing.
    #[must_use]
    pub fn decide(&self, user: Option<&str>, client: &str, want: Want<'_>) -> Ruling<'_> {
        let ruling = self.rule_on(Who { user, client }, want);
        ruling.unwrap_or_else(|| Ruling::none(Some(&self.name)))
    }

    /// The same; `None` where no rule says anything.
    pub(crate) fn rule_on(&self, who: Who<'_>, want: Want<'_>) -> Option<Ruling<'_>> {
        let own = match who.user {
            None => Some(&self.anonymous),
            Some(user) => self.users.get(user),
        };
        let own = own.map(Vec::as_slice).unwrap_or_default();
        let decided =
            rule::first(own, who, want).or_else(|| rule::first(&self.patterns, who, want));
        decided.map(|rule| Ruling::by(&self.name, rule))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
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

impl fmt::Debug for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acl")
            .field("name", &self.name)
            .field("rules", &self.len())
            .finish_non_exhaustive()
    }
}
