//! The program's own messages and subscriptions on a shard.
//!
//! A subscription of the program's is a session without a connection and without a name that a
//! client could take over. It gets everything at QoS 0: nothing is lost on the way within a
//! process, so there is nothing to acknowledge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mqtt_codec::{QoS, RetainHandling, SubscribeFilter, Version};
use slabmem::Key;
use topicmap::{Filter, Topic};

use super::Core;
use super::deliver::Wanted;
use crate::local::{Outlet, Received};
use crate::message::Local;
use crate::publication::{Publication, View};
use crate::route::SubscriptionOptions;
use crate::session::Session;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LocalSide {
    /// What the program has published and this shard has not routed.
    queue: VecDeque<Publication>,
    /// A subscriber's queue is above the soft mark: routing waits, as reading from clients does.
    is_paused: bool,
    /// By the bits of their sessions' keys.
    outlets: BTreeMap<u64, Arc<Outlet>>,
    effects: LocalEffects,
    /// Subscriptions that there have been, for their names.
    count: u64,
}

/// What the thread around the core has to do for it: waking others is a system call.
#[derive(Debug, Default)]
pub(crate) struct LocalEffects {
    /// Bytes that may be published again.
    pub(crate) returned: u64,
    pub(crate) received: Vec<(Arc<Outlet>, Received)>,
    /// Subscriptions that are in place.
    pub(crate) replies: Vec<(std::sync::mpsc::Sender<Option<Key>>, Option<Key>)>,
}

impl<S> Core<S> {
    pub(crate) fn on_local(&mut self, message: Local) {
        // Subscriptions change what a run has taken for settled.
        self.end_run();
        match message {
            Local::Publish(mut publication, expiry_s) => {
                if let Some(seconds) = expiry_s {
                    publication.expire_at(self.now_ms + u64::from(seconds) * 1_000);
                }
                self.local.queue.push_back(publication);
            }
            Local::Subscribe(wanted) => {
                let session = self.local_subscribe(&wanted.filter, &wanted.outlet);
                self.local.effects.replies.push((wanted.reply, session));
            }
            Local::Unsubscribe(session) => {
                if self.local.outlets.remove(&session.to_bits()).is_some() {
                    self.end_session(session);
                }
            }
        }
    }

    fn local_subscribe(&mut self, filter: &str, outlet: &Arc<Outlet>) -> Option<Key> {
        self.local.count += 1;
        let name = format!("$local/{}/{}", self.me, self.local.count);
        // It is not entered in the index: no client can take it over.
        let session = self
            .sessions
            .insert(Session::new(name.into(), u32::MAX))
            .ok()?;
        let bits = session.to_bits();
        self.local.outlets.insert(bits, Arc::clone(outlet));
        let wanted = SubscribeFilter {
            filter,
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        let options = SubscriptionOptions {
            identifier: 0,
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
        };
        let shared = Arc::clone(&self.shared);
        let Ok(parsed) = Filter::parse(filter, &shared.topic_limits) else {
            debug_assert!(false, "the handle has checked the filter");
            return None;
        };
        match self.subscribe(session, Version::V5, parsed, &wanted, options) {
            Ok(granted) => {
                self.replay(session, &granted.filter, granted.options);
                Some(session)
            }
            Err(_) => {
                self.local.outlets.remove(&bits);
                self.end_session(session);
                None
            }
        }
    }

    /// Whether a session is a subscription of the program's.
    pub(super) fn is_local(&self, session: Key) -> bool {
        !self.local.outlets.is_empty() && self.local.outlets.contains_key(&session.to_bits())
    }

    /// Sessions of clients: those that are not the program's.
    pub(super) fn client_count(&self) -> usize {
        self.sessions.len() - self.local.outlets.len()
    }

    /// Delivers at QoS 0 to a session that has no connection: a subscription of the program's, or a
    /// client that is away.
    pub(super) fn deliver_local(&mut self, session: Key, view: &View<'_>, wanted: &Wanted<'_>) {
        match self.local.outlets.get(&session.to_bits()) {
            Some(outlet) => {
                let received = Received::new(view.to_kept(), wanted.retain);
                let outlet = Arc::clone(outlet);
                self.local.effects.received.push((outlet, received));
            }
            None => self.counters.dropped_offline += 1,
        }
    }

    /// Routes the next message of the program's; `false` where there is none, or it has to wait.
    pub(crate) fn local_one(&mut self) -> bool {
        if !self.has_local() {
            return false;
        }
        let Some(publication) = self.local.queue.pop_front() else {
            return false;
        };
        if self.local.queue.is_empty() {
            self.local.queue = VecDeque::new();
        }
        self.local.effects.returned += publication.cost() as u64;
        let shared = Arc::clone(&self.shared);
        let Ok(topic) = Topic::parse(publication.view().topic(), &shared.topic_limits) else {
            debug_assert!(false, "the handle has checked the topic");
            return true;
        };
        let view = self.for_store(&publication.view(), &topic);
        self.felt_pressure = false;
        self.journal.feel();
        if view.retain() {
            self.retain(&view, &topic);
        }
        self.route(&view, &topic, None);
        self.end_run();
        self.local.is_paused |= self.felt_pressure || self.accept_waits();
        true
    }

    /// Whether a message of the program's can be routed.
    pub(super) fn has_local(&self) -> bool {
        !self.local.queue.is_empty()
            && !self.local.is_paused
            && !self.is_congested()
            && !self.is_swamped()
            && !self.holds_publishers()
    }

    /// Back-pressure is over.
    pub(super) fn resume_local(&mut self) {
        self.local.is_paused = false;
    }

    /// What is to be done outside; `None` where nothing is.
    pub(crate) fn take_local_effects(&mut self) -> Option<LocalEffects> {
        let effects = &self.local.effects;
        let is_none =
            effects.returned == 0 && effects.received.is_empty() && effects.replies.is_empty();
        (!is_none).then(|| std::mem::take(&mut self.local.effects))
    }

    /// Messages that a subscription of the program's had no room for.
    pub(crate) fn count_local_drop(&mut self) {
        self.counters.dropped_local_full += 1;
    }
}
