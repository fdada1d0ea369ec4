//! Subscriptions, each with the times at which it surely held and at which it may have held.

use std::collections::BTreeMap;

use mqtt_codec::encode::{Subscribe, Unsubscribe};
use mqtt_codec::{QoS, ReasonCode, RetainHandling, SubAck, SubscribeFilter, UnsubAck, Version};

use super::{Client, Sent, packet_id};
use crate::sim::plan::{FILTER_DENIED, FILTERS, GROUPS, SYS, filter_text, is_shared};
use crate::sim::report::Feature;
use crate::sim::{Check, World};

/// A subscription from its SUBSCRIBE to the UNSUBACK, or to the one that replaces it. Times are
/// ticks of the run.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) filter: usize,
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifier: u32,
    replays: bool,
    /// It may bring stored messages, as far as the client can tell.
    pub(super) may_replay: bool,
    pub(super) asked: u64,
    pub(super) granted: Option<u64>,
    ending: Option<u64>,
    pub(super) ended: Option<u64>,
}

impl Subscription {
    /// Whether it may have held at some time from `tick` on.
    pub(super) fn may_hold_since(&self, tick: u64) -> bool {
        self.ended.is_none_or(|ended| ended >= tick)
    }

    /// Whether it may have held at some time from one tick to another.
    pub(super) fn may_hold_between(&self, from: u64, to: u64) -> bool {
        self.may_hold_since(from) && self.asked <= to
    }

    /// Whether it surely held all the time.
    pub(super) fn holds(&self, from: u64, to: u64) -> bool {
        self.granted.is_some_and(|granted| granted < from)
            && self.ending.is_none_or(|ending| ending > to)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Places in the list of subscriptions.
    Subscribe(Vec<usize>),
    Unsubscribe(usize),
}

/// A retained message that a subscription has to bring.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Owed {
    pub(in crate::sim) message: u32,
    topic: usize,
    filter: usize,
    /// Transmissions to the topic when it was found out: another one voids it.
    stores: usize,
    pub(in crate::sim) qos: u8,
}

impl Client {
    pub(super) fn subscribe(&mut self, w: &mut World) {
        let count = 1 + w.random.below(2);
        let filters: Vec<_> = (0..count).map(|_| self.choose_filter(w)).collect();
        self.subscribe_to(w, &filters);
    }

    /// The whole store has to come.
    pub(super) fn ask_for_all_retained(&mut self, w: &mut World) {
        let all = FILTERS.iter().position(|filter| *filter == "r/#");
        self.subscribe_to(w, &[all.expect("it is one of them")]);
    }

    fn subscribe_to(&mut self, w: &mut World, chosen: &[usize]) {
        if self.requests.len() > 3 {
            return;
        }
        let is_v5 = self.version == Version::V5;
        let identifier = if is_v5 { w.random.below(4) as u32 } else { 0 };
        let mut places = Vec::new();
        let mut filters = Vec::new();
        for &filter in chosen {
            let is_shared = is_shared(filter);
            // A member of a group gets its topics as such only: else nobody could tell its copies.
            let is_of_group = |topic| w.ledger.is_shared_topic(topic);
            let mut topics = w.ledger.matches[filter].iter().enumerate();
            if self.shares && !is_shared && topics.any(|(at, is)| *is && is_of_group(at)) {
                continue;
            }
            let is_pending = self.subscriptions.iter().any(|other| {
                other.filter == filter && other.granted.is_none() && other.ended.is_none()
            });
            if is_pending {
                continue;
            }
            let handling = if w.is_healing { 0 } else { w.random.below(3) };
            let is_known = self
                .subscriptions
                .iter()
                .any(|other| other.filter == filter && other.ended.is_none());
            if is_known && w.plan.calm_from > 0 {
                continue;
            }
            let subscription = Subscription {
                filter,
                may_replay: !is_shared && (!is_v5 || handling < 2),
                qos: if is_shared {
                    1 + w.random.below(2) as u8
                } else {
                    w.random.weighted(&w.plan.qos) as u8
                },
                no_local: is_v5 && !is_shared && w.random.one_in(6),
                retain_as_published: is_v5 && w.random.one_in(5),
                identifier,
                replays: !is_shared && (!is_v5 || handling == 0 || (handling == 1 && !is_known)),
                asked: w.tick,
                granted: None,
                ending: None,
                ended: None,
            };
            filters.push((subscription.clone(), handling));
            places.push(self.subscriptions.len());
            self.end_others(filter, w.tick);
            self.subscriptions.push(subscription);
        }
        if filters.is_empty() {
            return;
        }
        let handlings = [
            RetainHandling::SendAtSubscribe,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ];
        let filters: Vec<_> = filters
            .iter()
            .map(|(subscription, handling)| SubscribeFilter {
                filter: filter_text(subscription.filter),
                qos: QoS::from_u8(subscription.qos).expect("a QoS"),
                no_local: subscription.no_local,
                retain_as_published: subscription.retain_as_published,
                retain_handling: handlings[*handling],
            })
            .collect();
        let id = self.fresh_id();
        let packet = Subscribe {
            packet_id: packet_id(id),
            filters: &filters,
            subscription_identifier: (identifier > 0).then_some(identifier),
            user_properties: &[],
        };
        let bytes = packet.encode_to_vec(self.version);
        // Now and then it thinks better of it at once, with stored messages on their way.
        let first = self.subscriptions[places[0]].filter;
        let is_new = |other: &&Subscription| other.filter == first && other.ended.is_none();
        let is_alone = self.subscriptions.iter().filter(is_new).count() == 1;
        let thinks_better = is_alone && !w.is_healing && w.plan.calm_from == 0;
        self.requests.insert(id, Request::Subscribe(places));
        self.send(w, &bytes, Some(Sent::Request(id)));
        if thinks_better && !self.is_unsubscribing() && w.random.one_in(8) {
            self.unsubscribe_from(w, first);
        }
    }

    fn choose_filter(&self, w: &mut World) -> usize {
        if self.watches && w.random.one_in(4) {
            FILTERS.len() + GROUPS.len() + w.random.below(SYS.len())
        } else if self.shares && w.plan.groups > 0 && w.random.one_in(3) {
            w.report.note(Feature::Shared);
            FILTERS.len() + w.random.below(w.plan.groups)
        } else {
            w.random.below(FILTERS.len())
        }
    }

    /// From now on an earlier subscription with the same filter may be over.
    fn end_others(&mut self, filter: usize, tick: u64) {
        // Nor does it bring any more what it has not brought.
        self.owed.retain(|owed| owed.filter != filter);
        for other in &mut self.subscriptions {
            if other.filter == filter {
                other.ending.get_or_insert(tick);
            }
        }
    }

    pub(super) fn on_suback(&mut self, w: &mut World, ack: &SubAck<'_>) -> Check {
        let id = ack.packet_id().get();
        let Some(Request::Subscribe(places)) = self.requests.remove(&id) else {
            return Err(format!("SUBACK {id} answers nothing"));
        };
        self.answered(
            w,
            |sent| matches!(sent, Sent::Request(of) if *of == id),
            "SUBACK",
        )?;
        let codes: Vec<_> = ack.codes().collect();
        check!(
            codes.len() == places.len(),
            "SUBACK has {} codes",
            codes.len()
        );
        let tick = w.tick;
        for (place, code) in places.into_iter().zip(codes) {
            if code as u8 >= 0x80 {
                self.refused(w, place, code)?;
                continue;
            }
            let subscription = &mut self.subscriptions[place];
            check!(code as u8 == subscription.qos, "SUBACK grants {code:?}");
            check!(
                w.plan.hooks.is_none() || filter_text(subscription.filter) != FILTER_DENIED,
                "SUBACK grants what a hook denies"
            );
            subscription.granted = Some(tick);
            let filter = subscription.filter;
            w.report.note(Feature::Subscribe);
            if subscription.no_local {
                w.report.note(Feature::NoLocal);
            }
            if subscription.retain_as_published {
                w.report.note(Feature::RetainAsPublished);
            }
            for (at, other) in self.subscriptions.iter_mut().enumerate() {
                if other.filter == filter && at != place && other.ended.is_none() {
                    other.ended = Some(tick);
                    w.report.note(Feature::Resubscribe);
                }
            }
            self.owe(w, place);
        }
        if !self.awaits_suback() {
            self.early.clear();
        }
        Ok(())
    }

    pub(super) fn awaits_suback(&self) -> bool {
        let is_subscribe = |request: &Request| matches!(request, Request::Subscribe(_));
        self.requests.values().any(is_subscribe)
    }

    fn refused(&mut self, w: &mut World, place: usize, code: ReasonCode) -> Check {
        let filter = self.subscriptions[place].filter;
        let asked = self.subscriptions[place].asked;
        // Those that may count at the broker.
        let others = self
            .subscriptions
            .iter()
            .enumerate()
            .filter(|(at, other)| *at != place && other.ended.is_none())
            .count();
        let limit = w.plan.limits.subscriptions_per_client as usize;
        let is_denied = w.plan.hooks.is_some()
            && filter_text(filter) == FILTER_DENIED
            && (self.version != Version::V5 || code == ReasonCode::NotAuthorized);
        check!(
            others >= limit || is_denied,
            "a subscription was refused with {code:?} below the limit"
        );
        w.report.note(if is_denied {
            Feature::SubscribeDenied
        } else {
            Feature::SubscribeRefused
        });
        self.subscriptions[place].ended = Some(asked);
        self.subscriptions[place].ending = Some(asked);
        // It has not replaced anything.
        for other in &mut self.subscriptions {
            if other.filter == filter && other.ended.is_none() && other.ending == Some(asked) {
                other.ending = None;
            }
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, w: &mut World) {
        let live: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.granted.is_some() && subscription.ended.is_none())
            .map(|subscription| subscription.filter)
            .collect();
        if live.is_empty() || self.is_unsubscribing() {
            return;
        }
        // Also the last one, while its stored messages are still coming.
        let last = live.last().copied().filter(|_| w.random.one_in(2));
        let filter = last.unwrap_or_else(|| w.random.pick(&live));
        self.unsubscribe_from(w, filter);
    }

    fn is_unsubscribing(&self) -> bool {
        let mut requests = self.requests.values();
        requests.any(|request| matches!(request, Request::Unsubscribe(_)))
    }

    fn unsubscribe_from(&mut self, w: &World, filter: usize) {
        self.end_others(filter, w.tick);
        let id = self.fresh_id();
        let packet = Unsubscribe {
            packet_id: packet_id(id),
            filters: &[filter_text(filter)],
            user_properties: &[],
        };
        let bytes = packet.encode_to_vec(self.version);
        self.requests.insert(id, Request::Unsubscribe(filter));
        self.send(w, &bytes, Some(Sent::Request(id)));
    }

    pub(super) fn on_unsuback(&mut self, w: &mut World, ack: &UnsubAck<'_>) -> Check {
        let id = ack.packet_id().get();
        let Some(Request::Unsubscribe(filter)) = self.requests.remove(&id) else {
            return Err(format!("UNSUBACK {id} answers nothing"));
        };
        self.answered(
            w,
            |sent| matches!(sent, Sent::Request(of) if *of == id),
            "UNSUBACK",
        )?;
        w.report.note(Feature::Unsubscribe);
        for subscription in &mut self.subscriptions {
            // One that was asked for after the UNSUBSCRIBE has no end yet.
            if subscription.filter == filter && subscription.ending.is_some() {
                subscription.ended.get_or_insert(w.tick);
            }
        }
        Ok(())
    }

    /// The connection is gone: what was asked may hold or not.
    pub(super) fn give_up_requests(&mut self, requests: BTreeMap<u16, Request>) {
        for request in requests.into_values() {
            if let Request::Subscribe(places) = request {
                for place in places {
                    // Never sure from now on, and never over before its session is.
                    self.subscriptions[place].ending.get_or_insert(0);
                }
            }
        }
    }

    /// Finds out which retained messages a new subscription has to bring.
    fn owe(&mut self, w: &mut World, place: usize) {
        let subscription = &self.subscriptions[place];
        if !subscription.replays || subscription.ending.is_some() {
            return;
        }
        let asked = subscription.asked;
        for (&topic, stores) in &w.ledger.stores {
            if !w.ledger.matches[subscription.filter][topic] {
                continue;
            }
            let candidates = w.ledger.candidates(topic, asked);
            let [Some(at)] = candidates[..] else { continue };
            let message = &w.ledger.messages[at as usize];
            let qos = message.qos.min(subscription.qos);
            let is_too_large = self.is_too_large(w, at);
            if self.early.get(&at).is_some_and(|came| *came >= asked) {
                continue;
            }
            if message.expiry_s.is_none() && !is_too_large {
                w.report.note(Feature::RetainedOwed);
                self.owed.push(Owed {
                    message: at,
                    topic,
                    filter: subscription.filter,
                    stores: stores.len(),
                    qos,
                });
            }
        }
    }

    /// Whether a message may not fit into the largest packet that the client takes.
    pub(super) fn is_too_large(&self, w: &World, at: u32) -> bool {
        let message = &w.ledger.messages[at as usize];
        // Topic, properties and the head are below 80 bytes.
        self.packet_bytes_max != 0 && message.payload_len + 80 > self.packet_bytes_max as usize
    }

    /// What the connection took with it is not owed any more.
    pub(super) fn owed_at_end(&mut self) {
        self.owed.retain(|owed| owed.qos > 0);
    }

    /// Retained messages that have not come although they had to.
    pub(in crate::sim) fn owed_still(&self, w: &World) -> impl Iterator<Item = &Owed> {
        self.owed.iter().filter(|owed| {
            let stores = w.ledger.stores.get(&owed.topic);
            stores.is_some_and(|stores| stores.len() == owed.stores)
        })
    }
}
