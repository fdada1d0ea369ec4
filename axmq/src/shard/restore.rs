//! Sessions of an earlier run come back, before the first client does.

use mqtt_codec::{RetainHandling, SubscribeFilter, Version};
use slabmem::Key;
use topicmap::{Subscription, parse_subscription};

use super::Core;
use crate::message::Will;
use crate::route::SubscriptionOptions;
use crate::session::{Flow, Outgoing, Session, Tail};
use crate::store::op::Op;
use crate::store::{Restored, RestoredWill};

impl<S> Core<S> {
    /// Puts a session in its place. Its messages stay on disk until its client is back. Until
    /// [`all_are_restored`](Self::all_are_restored) no will is published and no session ends: who
    /// is to hear of it may not be there yet.
    pub(crate) fn restore(&mut self, restored: Restored) {
        self.early.get_or_insert_default();
        let Restored {
            holder,
            client_id,
            expiry_s,
            ends_at_ms,
            will,
            subscriptions,
            received,
            first,
            count,
            bytes,
            sent,
            next,
        } = restored;
        let mut session = Session::new(client_id.clone(), expiry_s);
        session.holder = holder;
        // Until its client is back nobody knows its user and its listener.
        session.durability = self.shared.strongest();
        session.ends_at_ms = ends_at_ms;
        session.is_offline = self.shared.session_leaves();
        // A session is stored under another number before the old one is removed only where both
        // happen in one batch, so there are not two.
        let has_room = session.is_offline && self.find(&client_id).is_none();
        let tail = Tail::restored(first, count, bytes, sent, next);
        let mut flow = Flow {
            outgoing: Outgoing::restored(tail, next),
            ..Flow::default()
        };
        flow.incoming.restore(received);
        session.flow = Some(Box::new(flow));
        let is_offline = session.is_offline;
        let inserted = has_room
            .then(|| self.sessions.insert(session).ok())
            .flatten();
        let Some(key) = inserted else {
            if is_offline {
                self.shared.session_returns();
            }
            self.counters.not_restored += 1;
            self.journal.push(Op::EndSession { holder });
            return;
        };
        self.index_insert(&client_id, key.index());
        self.is_restoring = true;
        for (filter, options) in subscriptions {
            self.restore_subscription(key, &filter, options);
        }
        self.is_restoring = false;
        // Members that are away are passed over.
        self.go_away(key);
        let mut wake_at_ms = ends_at_ms;
        if let Some(will) = will {
            wake_at_ms = wake_at_ms.min(self.restore_will(key, will));
        }
        if wake_at_ms != u64::MAX {
            self.arm_session(key, wake_at_ms.max(self.now_ms));
        }
    }

    /// All shards have everything in place.
    pub(crate) fn all_are_restored(&mut self) {
        for key in self.early.take().unwrap_or_default() {
            self.session_due(key);
        }
    }

    fn restore_will(&mut self, key: Key, will: RestoredWill) -> u64 {
        let RestoredWill {
            publication,
            delay_s,
            due_at_ms,
            expiry_s,
            author,
        } = will;
        let waits = self.shared.will_waits();
        self.counters.wills_not_delayed += u64::from(!waits);
        if let Some(session) = self.sessions.get_mut(key) {
            session.will_waits = waits;
            session.will = Some(Box::new(Will {
                publication,
                expiry_s,
                delay_s,
                due_at_ms,
                author,
            }));
        }
        if waits { due_at_ms } else { self.now_ms }
    }

    fn restore_subscription(&mut self, session: Key, text: &str, options: SubscriptionOptions) {
        let wanted = SubscribeFilter {
            filter: text,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: RetainHandling::DoNotSend,
        };
        let is_restored = match parse_subscription(text, &self.shared.topic_limits.clone()) {
            Ok(Subscription::Plain(filter)) => self
                .subscribe(session, Version::V5, filter, &wanted, options)
                .is_ok(),
            Ok(Subscription::Shared(shared)) => {
                let member = self.enrol(session, &shared, options);
                if let Ok(member) = member {
                    self.join(member, None);
                }
                member.is_ok()
            }
            // The limits of topics have become narrower.
            Err(_) => false,
        };
        self.counters.not_restored += u64::from(!is_restored);
    }
}
