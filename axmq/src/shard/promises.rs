//! Who is promised what: the durability of a message and of a session.
//!
//! The nearest rule decides. For a message that is the one for its topic, then the one for the
//! user that publishes it, then its listener, then what holds for all. For a session it is the
//! same without the topic. A message is kept for a session where both are: one of a session that is
//! not kept ends with the broker, whatever was promised to its publisher.

use std::collections::HashMap;

use mqtt_codec::QoS;
use slabmem::Key;
use topicmap::{Filter, Limits, Topic, TopicMap};

use super::Core;
use super::journal::Waiter;
use crate::config::{Durability, StoreSettings};
use crate::message::ConnectInfo;
use crate::publication::View;
use crate::session::Session;
use crate::store::op::Op;

/// What differs from one topic, user or listener to another. There is none where nothing does.
#[derive(Debug)]
pub(crate) struct Promises {
    /// Where nothing else holds.
    default: Durability,
    /// The most that anybody gets.
    strongest: Durability,
    users: HashMap<Box<str>, Durability>,
    topics: Option<TopicMap<Durability>>,
}

impl Promises {
    /// Those of these rules, for listeners with these durabilities; `None` where all have the same.
    pub(crate) fn new(
        settings: &StoreSettings,
        listeners: impl Iterator<Item = Durability>,
        limits: Limits,
    ) -> Option<Self> {
        let default = settings.durability;
        // A rule may be for more than clients can ask for; it never fails for its size.
        let widest = Limits {
            levels_max: u16::MAX,
            bytes_max: u16::MAX,
            ..limits
        };
        let mut users = HashMap::new();
        let mut topics = TopicMap::new(limits.seed);
        let mut others: Vec<_> = listeners.collect();
        let mut slot = 0;
        for rule in &settings.rules {
            others.push(rule.durability);
            for user in &rule.users {
                users.insert(user.as_str().into(), rule.durability);
            }
            let filters = rule.topics.iter();
            for filter in filters.filter_map(|text| Filter::parse(text, &widest).ok()) {
                topics.insert(&filter, slot, rule.durability);
                slot += 1;
            }
        }
        let differs = others.iter().any(|other| *other != default);
        differs.then(|| Self {
            default,
            strongest: others.into_iter().fold(default, Durability::max),
            users,
            topics: (slot > 0).then_some(topics),
        })
    }

    pub(crate) fn strongest(&self) -> Durability {
        self.strongest
    }

    fn to_client(&self, user: Option<&str>, listener: Option<Durability>) -> Durability {
        let own = user.and_then(|user| self.users.get(user)).copied();
        own.or(listener).unwrap_or(self.default)
    }

    /// What the rules for topics say, which routes remember.
    pub(super) fn for_topic(&self, topic: &Topic<'_>) -> Option<Durability> {
        let mut strongest = None;
        self.topics.as_ref()?.for_each_match(topic, |_, _, found| {
            strongest = strongest.max(Some(*found));
        });
        strongest
    }
}

impl<S> Core<S> {
    /// What a client is promised.
    pub(super) fn promised_to(&self, connect: &ConnectInfo) -> Durability {
        let Some(promises) = &self.shared.promises else {
            return self.shared.durability;
        };
        let user = connect.grant.as_deref().and_then(|grant| grant.identity());
        let rules = connect.rules.as_deref();
        promises.to_client(user, rules.and_then(|rules| rules.durability))
    }

    /// What a message of this session, or of nobody's, is promised.
    pub(super) fn promised(&mut self, publisher: Option<Key>, topic: &Topic<'_>) -> Durability {
        let Some(promises) = &self.shared.promises else {
            return self.shared.durability;
        };
        let default = promises.default;
        if promises.topics.is_some()
            && let Some(by_topic) = self.look_up(topic).durability
        {
            return by_topic;
        }
        let publisher = publisher.and_then(|key| self.sessions.get(key));
        publisher.map_or(default, |session| session.durability)
    }

    /// Whether a publication may come to the store.
    pub(super) fn is_told_to_store(&self, view: &View<'_>) -> bool {
        (view.qos() != QoS::AtMostOnce || view.retain()) && self.journal.is_on()
    }

    /// The publication with what the store has to know of it.
    pub(super) fn for_store<'a>(&mut self, view: &View<'a>, topic: &Topic<'_>) -> View<'a> {
        if !self.is_told_to_store(view) {
            return *view;
        }
        let number = match view.number() {
            0 => self.journal.take_number(),
            number => number,
        };
        let source = view.source.filter(|source| source.shard == self.me);
        let durability = self.promised(source.map(|source| source.key), topic);
        view.kept_as(number, durability)
    }

    /// Whether answers about a session wait until they are durable.
    pub(super) fn answers_wait(&self, session: Key) -> bool {
        let session = self.sessions.get(session);
        session.is_some_and(|it| it.holder != 0 && it.durability == Durability::Always)
    }

    /// Holds back CONNACK, and all that is said behind it, until what it says is durable: that a
    /// session that was kept has ended, that one begins or goes on, with its will and its expiry.
    pub(super) fn hold_connack(&mut self, key: Key, session: Key, has_ended: bool) {
        let is_always = |it: &Session| it.durability == Durability::Always;
        let is_concerned = |it: &Session| it.holder != 0 || has_ended;
        let session = self.sessions.get(session).filter(|it| is_always(it));
        if session.is_some_and(is_concerned) && self.journal.is_on() {
            self.due_connacks.insert(key);
            self.journal.wait(Waiter::ConnAck(key));
        }
    }

    /// Whether nothing is to be written to a connection yet.
    pub(crate) fn is_held_back(&self, key: Key) -> bool {
        !self.due_connacks.is_empty() && self.due_connacks.contains(&key)
    }

    /// Whether a step of a QoS 2 exchange waits until it is durable: since its session's answers
    /// do, or since its message was promised that. Of what is from an earlier run, or was said
    /// before, that is not known: `None`, which waits where any message could.
    pub(super) fn step_waits(&self, session: Key, message: Option<Durability>) -> bool {
        let message = message.unwrap_or_else(|| self.shared.strongest());
        let is_kept = self.holder(session) != 0;
        (is_kept && message == Durability::Always) || self.answers_wait(session)
    }

    /// Says how a session is whose client has come in. Whether it is kept is decided when it
    /// begins, and once more when its client comes back with more than it had. It is never kept
    /// less than it was: what is on disk is its own.
    pub(super) fn keep_as_promised(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let is_wanted = session.durability != Durability::None && session.expiry_s != 0;
        let begins = is_wanted && session.holder == 0 && self.journal.is_on();
        if begins {
            session.holder = self.journal.take_number();
        }
        self.note_session(key);
        if begins {
            self.note_subscriptions(key);
        }
    }

    /// Says what a session subscribes to that was not kept before. Messages that it has already
    /// were promised nothing.
    fn note_subscriptions(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let holder = session.holder;
        for id in session.filters.iter() {
            if let (Some(filter), Some(options)) = (
                self.topics.filter_text(id),
                self.topics.get(id, key.index()),
            ) {
                self.journal.push(Op::Subscribe {
                    holder,
                    filter: filter.into(),
                    options: *options,
                });
            }
        }
        // The owners of its groups keep those from now on, and their answers say the rest.
        for member in session.filters.shared().to_vec() {
            self.join(member, None);
        }
    }
}
