//! What a client had to get, and what it may have had to get: the drops that the broker counts lie
//! between what is missing of the two.

use super::Client;
use super::subscribe::Subscription;
use crate::sim::World;
use crate::sim::hooks::denies;
use crate::sim::ledger::{Ledger, Message};
use crate::sim::plan::FILTERS;
use crate::sim::verdict::Owing;

impl Client {
    /// Which deliveries had to happen: the subscription surely held from the sending of the message
    /// to the moment when it was known to be routed.
    pub(in crate::sim) fn owing(&self, w: &World) -> Owing {
        let mut owing = Owing::default();
        let since = self.conn.as_ref().map_or(u64::MAX, |conn| conn.since);
        for (at, message) in w.ledger.messages.iter().enumerate() {
            let Some(routed) = message.routed else {
                continue;
            };
            let at = at as u32;
            let may_expire = message.expiry_s.is_some_and(|s| s < 1_000_000);
            let goes_nowhere = message.path.is_void() || self.is_denied(w, message.topic);
            if may_expire
                || goes_nowhere
                || self.is_too_large(w, at)
                || self.is_dealt(w, message.topic)
            {
                continue;
            }
            let sure = self.subscriptions.iter().filter(|subscription| {
                let is_mine = subscription.no_local && message.publisher == self.me;
                // Nothing says when all shards have routed a will or a QoS 0 message.
                let to = if message.qos == 0 || message.will.is_some() {
                    u64::MAX
                } else {
                    routed
                };
                w.ledger.matches[subscription.filter][message.topic]
                    && !is_mine
                    && subscription.holds(message.sent, to)
            });
            let Some(qos) = sure.map(|subscription| subscription.qos).max() else {
                continue;
            };
            let has_come = self.got.contains(&at);
            if qos.min(message.qos) > 0 {
                owing.kept += u64::from(has_come);
                owing.missing += u64::from(!has_come);
                if !has_come {
                    owing.first.get_or_insert(at);
                }
            } else if since < message.sent && !self.may_get_acknowledged(w, message) {
                owing.kept_once += u64::from(has_come);
                owing.missing_once += u64::from(!has_come);
                if !has_come {
                    owing.first_once.get_or_insert(at);
                }
            }
        }
        owing
    }

    /// Whether it is surely a member of a group all the time.
    pub(in crate::sim) fn is_member(&self, group: usize, from: u64, to: u64) -> bool {
        self.subscriptions.iter().any(|subscription| {
            subscription.filter == FILTERS.len() + group && subscription.holds(from, to)
        })
    }

    /// Whether a hook keeps a topic from it.
    pub(super) fn is_denied(&self, w: &World, topic: usize) -> bool {
        let hooks = w.plan.hooks.as_ref();
        hooks.is_some_and(|hooks| hooks.sees_deliveries)
            && denies(&self.name, &w.ledger.topics[topic])
    }

    /// Whether it may be a member of groups.
    pub(in crate::sim) fn may_share(&self) -> bool {
        self.shares
    }

    /// Whether it gets a topic as a member of groups only.
    pub(in crate::sim) fn is_dealt(&self, w: &World, topic: usize) -> bool {
        self.shares && w.ledger.is_shared_topic(topic)
    }

    pub(in crate::sim) fn has_had(&self, at: u32) -> bool {
        self.live.contains_key(&at)
    }

    /// Whether a subscription may have held that asks for an acknowledgement: then the message may
    /// have been dropped as one that is acknowledged.
    pub(super) fn may_get_acknowledged(&self, w: &World, message: &Message) -> bool {
        message.qos > 0
            && self.subscriptions.iter().any(|subscription| {
                w.ledger.matches[subscription.filter][message.topic]
                    && subscription.qos > 0
                    && subscription.may_hold_since(message.sent)
            })
    }

    /// How many deliveries there may have been to it beyond those that have come, leaving out what
    /// it gets as a member of groups. Each drop that its shard has counted is one of them.
    pub(in crate::sim) fn may_have_missed(&self, w: &World) -> u64 {
        let all: Vec<_> = self.past.iter().chain(&self.subscriptions).collect();
        let mut most = 0;
        let mut come = self.replayed + self.emptied;
        for (at, message) in w.ledger.messages.iter().enumerate() {
            if self.is_dealt(w, message.topic) || message.path.is_void() {
                continue;
            }
            come += u64::from(self.live.get(&(at as u32)).copied().unwrap_or(0));
            // Routed again it may have been later.
            let to = message.routed.filter(|_| message.attempts == 1);
            let may_come = |asked: &&Subscription| {
                let is_mine = asked.no_local && message.publisher == self.me;
                !is_mine && asked.may_hold_between(message.sent, to.unwrap_or(u64::MAX))
            };
            if all
                .iter()
                .copied()
                .any(|asked| w.ledger.matches[asked.filter][message.topic] && may_come(&asked))
            {
                let attempts = if message.qos == 1 {
                    message.attempts
                } else {
                    1
                };
                most += u64::from(attempts);
            }
        }
        most += self.may_have_been_emptied(&w.ledger, &all);
        most += self.may_have_been_replayed(&w.ledger, &all);
        most.saturating_sub(come)
    }

    fn may_have_been_emptied(&self, ledger: &Ledger, all: &[&Subscription]) -> u64 {
        let mut most = 0;
        for (&topic, stores) in &ledger.stores {
            for store in stores.iter().filter(|store| store.message.is_none()) {
                let may_come = |asked: &&&Subscription| {
                    ledger.matches[asked.filter][topic]
                        && asked.may_hold_between(store.sent, u64::MAX)
                };
                most += u64::from(all.iter().any(|asked| may_come(&asked)));
            }
        }
        most
    }

    /// One stored message a topic, for each subscription that asks for them.
    fn may_have_been_replayed(&self, ledger: &Ledger, all: &[&Subscription]) -> u64 {
        let wills = ledger
            .messages
            .iter()
            .filter(|message| message.retain && message.will.is_some());
        let mut topics: Vec<_> = wills.map(|will| will.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        topics.extend(ledger.stores.keys());
        let asks = all.iter().filter(|asked| asked.may_replay);
        asks.map(|asked| {
            let matching = topics
                .iter()
                .filter(|topic| ledger.matches[asked.filter][**topic]);
            matching.count() as u64
        })
        .sum()
    }
}
