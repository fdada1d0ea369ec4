//! A delivery: is it allowed, is it in order, is it what was published?

use mqtt_codec::{PacketType, Publish, ReasonCode, Version};

use super::{Client, Incoming, publish};
use crate::sim::ledger::{NS_PER_S, user_property};
use crate::sim::plan::FILTERS;
use crate::sim::report::Feature;
use crate::sim::{Check, World};

/// A delivery that is not a repetition.
struct Delivery<'a> {
    at: u32,
    qos: u8,
    retain: bool,
    identifiers: &'a [u32],
}

impl Client {
    pub(super) fn on_publish(&mut self, w: &mut World, packet: &Publish<'_>) -> Check {
        let properties = packet.properties();
        let topic = self.topic_of(w, packet)?;
        if topic.starts_with("$SYS/") {
            return self.on_sys(w, packet, &topic);
        }
        let message = publish::number(packet.payload());
        check!(
            message.is_some() || packet.payload().is_empty(),
            "a payload that nobody has published"
        );
        let is_new = self.take_id(w, packet, message)?;
        let Some(at) = message else {
            self.emptied += u64::from(is_new);
            return Ok(());
        };
        check!(
            (at as usize) < w.ledger.messages.len(),
            "message {at} does not exist"
        );
        self.check_content(w, packet, &topic, at)
            .map_err(|text| format!("message {at}: {text}"))?;
        if !is_new {
            w.report.note(Feature::Redelivered);
            return Ok(());
        }
        let identifiers: Vec<_> = properties.subscription_identifiers().collect();
        let delivery = Delivery {
            at,
            qos: packet.qos() as u8,
            retain: packet.retain(),
            identifiers: &identifiers,
        };
        self.delivered(w, &delivery).map_err(|text| {
            let (qos, retain, dup) = (packet.qos() as u8, packet.retain(), packet.dup());
            format!("message {at} on {topic} (q{qos}, retain {retain}, dup {dup}): {text}")
        })
    }

    /// The topic, or what its alias stands for.
    fn topic_of(&mut self, w: &mut World, packet: &Publish<'_>) -> Result<String, String> {
        let topic = packet.topic();
        let Some(alias) = packet.properties().topic_alias() else {
            check!(!topic.is_empty(), "no topic, and no alias for one");
            return Ok(topic.to_owned());
        };
        let aliases = self.conn.as_mut().map(|conn| &mut conn.aliases_in);
        let at = usize::from(alias.get() - 1);
        let Some(slot) = aliases.and_then(|aliases| aliases.get_mut(at)) else {
            return Err(format!("topic alias {alias} is above the client's maximum"));
        };
        if topic.is_empty() {
            w.report.note(Feature::AliasReceived);
            return slot
                .clone()
                .ok_or_else(|| format!("topic alias {alias} stands for nothing"));
        }
        w.report.note(Feature::AliasIntroduced);
        *slot = Some(topic.to_owned());
        Ok(topic.to_owned())
    }

    /// What holds for its packet id; whether it is not a repetition.
    pub(super) fn take_id(
        &mut self,
        w: &mut World,
        packet: &Publish<'_>,
        message: Option<u32>,
    ) -> Result<bool, String> {
        let Some(id) = packet.packet_id() else {
            return Ok(true);
        };
        let (id, qos) = (id.get(), packet.qos() as u8);
        let Some(conn) = &mut self.conn else {
            return Ok(true);
        };
        conn.open += 1;
        check!(
            conn.open <= self.receive_maximum,
            "{} deliveries are open, the receive maximum is {}",
            conn.open,
            self.receive_maximum
        );
        if conn.open == self.receive_maximum {
            w.report.note(Feature::WindowFull);
        }
        let answer = if qos == 1 {
            PacketType::PubAck
        } else {
            PacketType::PubRec
        };
        conn.acks.push_back((answer, id));
        let number = conn.number;
        let mut is_new = true;
        if let Some(known) = self.incoming.get(&id) {
            let is_same = known.message == message && known.qos == qos;
            let is_again = is_same && packet.dup() && known.connection != number;
            check!(
                is_again || known.is_settled,
                "packet id {id} comes again although it is in use"
            );
            check!(
                !(is_again && known.is_released),
                "packet id {id} comes again after its PUBREL"
            );
            is_new = !is_again;
        }
        self.completed.remove(&id);
        self.incoming.insert(
            id,
            Incoming {
                message,
                connection: number,
                qos,
                is_settled: false,
                is_released: false,
            },
        );
        Ok(is_new)
    }

    pub(super) fn on_pubrel(&mut self, id: u16) -> Check {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        match self.incoming.get_mut(&id).filter(|known| known.qos == 2) {
            Some(known) => {
                check!(!known.is_settled, "PUBREL {id} releases what was refused");
                if known.connection != conn.number {
                    // It counts against the receive maximum again.
                    known.connection = conn.number;
                    conn.open += 1;
                }
                known.is_released = true;
            }
            None => {
                check!(self.completed.contains(&id), "PUBREL {id} releases nothing");
                conn.open += 1;
            }
        }
        conn.acks.push_back((PacketType::PubComp, id));
        Ok(())
    }

    /// Sends some of the acknowledgements that are due, in order.
    pub(super) fn answer(&mut self, w: &mut World) {
        let most = if w.is_healing {
            usize::MAX
        } else {
            w.random.below(4)
        };
        for _ in 0..most {
            let Some((packet_type, id)) = self.conn.as_mut().and_then(|conn| conn.acks.pop_front())
            else {
                return;
            };
            let refusal = self.refusal(w, packet_type);
            if packet_type == PacketType::PubComp {
                self.incoming.remove(&id);
                self.completed.insert(id);
            } else if (packet_type == PacketType::PubAck || refusal.is_some())
                && let Some(known) = self.incoming.get_mut(&id)
            {
                known.is_settled = true;
            }
            let is_over = packet_type != PacketType::PubRec || refusal.is_some();
            if is_over && let Some(conn) = &mut self.conn {
                conn.open = conn.open.saturating_sub(1);
            }
            self.send_ack_with(w, packet_type, id, refusal.unwrap_or(ReasonCode::Success));
        }
    }

    /// The reason that a client gives which does not want a message: nobody gets it in its place.
    fn refusal(&self, w: &mut World, packet_type: PacketType) -> Option<ReasonCode> {
        let can = self.version == Version::V5 && packet_type != PacketType::PubComp;
        if !can || w.is_healing || w.random.below(100) >= w.plan.refusals as usize {
            return None;
        }
        w.report.note(Feature::RefusedByClient);
        Some(w.random.pick(&[
            ReasonCode::UnspecifiedError,
            ReasonCode::ImplementationSpecificError,
            ReasonCode::NotAuthorized,
            ReasonCode::QuotaExceeded,
        ]))
    }

    fn check_content(&self, w: &mut World, packet: &Publish<'_>, topic: &str, at: u32) -> Check {
        let message = &w.ledger.messages[at as usize];
        let properties = packet.properties();
        let expected = &w.ledger.topics[message.topic];
        check!(topic == expected, "it came on {topic}, not {expected}");
        check!(
            !message.path.is_void(),
            "it came although a hook has had none of it"
        );
        check!(
            !self.is_denied(w, message.topic),
            "it came although a hook does not let this client have it"
        );
        check!(
            packet.payload() == publish::payload(at, message.payload_len),
            "the payload is damaged"
        );
        if self.version != Version::V5 {
            return Ok(());
        }
        let user: Vec<_> = properties.user_properties().collect();
        let expected = user_property(at);
        if message.has_properties {
            check!(
                user == [("k", &*expected)],
                "its user properties are {user:?}"
            );
            w.report.note(Feature::UserProperties);
        } else {
            check!(user.is_empty(), "it has user properties of nobody");
        }
        let message = &w.ledger.messages[at as usize];
        match (message.expiry_s, properties.message_expiry_interval()) {
            (None, None) => Ok(()),
            (Some(expiry_s), Some(left_s)) => {
                w.report.note(Feature::ExpiryReceived);
                let message = &w.ledger.messages[at as usize];
                let passed_ns = w.site.now_ns() - message.sent_ns;
                let least_ns = (u64::from(expiry_s) * NS_PER_S).saturating_sub(passed_ns);
                check!(left_s <= expiry_s, "{left_s} s are left of {expiry_s}");
                check!(
                    u64::from(left_s) * NS_PER_S + 1_000_000 >= least_ns,
                    "only {left_s} s are left of {expiry_s}, {passed_ns} ns have passed"
                );
                check!(
                    left_s > 0 || packet.dup(),
                    "a message came for the first time although it has expired"
                );
                self.check_not_too_long(w, at, expiry_s, left_s)
            }
            (expiry_s, left_s) => Err(format!("its expiry is {left_s:?}, not {expiry_s:?}")),
        }
    }

    /// A message cannot have been sent before this connection was made: its lifetime has to show
    /// what had passed until then.
    fn check_not_too_long(&self, w: &World, at: u32, expiry_s: u32, left_s: u32) -> Check {
        let message = &w.ledger.messages[at as usize];
        let Some(conn) = self.conn.as_ref().filter(|_| message.routed.is_some()) else {
            return Ok(());
        };
        let waited_ns = conn.begun_ns.saturating_sub(message.routed_ns);
        let most_ns = (u64::from(expiry_s) * NS_PER_S).saturating_sub(waited_ns);
        check!(
            u64::from(left_s) * NS_PER_S <= most_ns + NS_PER_S + 1_000_000,
            "{left_s} s are left of {expiry_s} after {waited_ns} ns"
        );
        Ok(())
    }

    fn delivered(&mut self, w: &mut World, delivery: &Delivery<'_>) -> Check {
        let &Delivery { at, retain, .. } = delivery;
        self.check_asked(w, delivery)?;
        w.ledger.check_will(at, w.site.now_ns())?;
        let message = &w.ledger.messages[at as usize];
        if message.will.is_some() {
            w.report.note(Feature::WillReceived);
        }
        let (topic, publisher) = (message.topic, message.publisher);
        if retain {
            w.report.note(Feature::RetainedReceived);
            self.replayed += 1;
            self.check_stored(w, delivery)?;
        } else {
            let is_dealt = self.is_dealt(w, topic);
            let count = self.live.entry(at).or_default();
            *count += 1;
            if is_dealt {
                return self.dealt(w, delivery);
            }
            let most = if message.qos == 1 {
                message.attempts
            } else {
                1
            };
            check!(
                *count <= most,
                "it came {count} times, {most} would be right"
            );
            if message.retain {
                self.newest.insert((topic, delivery.qos > 0), at);
            }
            self.check_order(w, at, (publisher, topic, delivery.qos > 0))?;
        }
        self.owed.retain(|owed| owed.message != at);
        if self.awaits_suback() {
            self.early.insert(at, w.tick);
        }
        self.got.insert(at);
        Ok(())
    }

    /// A message came to a member of groups. At QoS 2 each group has one receiver, come what may.
    fn dealt(&mut self, w: &mut World, delivery: &Delivery<'_>) -> Check {
        w.report.note(Feature::Dealt);
        self.got.insert(delivery.at);
        let topic = w.ledger.messages[delivery.at as usize].topic;
        if delivery.qos < 2 {
            return Ok(());
        }
        let groups = (0..w.plan.groups)
            .filter(|group| w.ledger.matches[FILTERS.len() + group][topic])
            .count();
        let count = w.ledger.dealt.entry(delivery.at).or_default();
        *count += 1;
        check!(
            *count <= groups,
            "{groups} groups have got it {count} times at QoS 2"
        );
        Ok(())
    }

    /// There has to be a subscription for it, and its options have to show.
    fn check_asked(&self, w: &mut World, delivery: &Delivery<'_>) -> Check {
        let message = &w.ledger.messages[delivery.at as usize];
        let (topic, sent, now) = (message.topic, message.sent, w.tick);
        let asked: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|subscription| {
                // What is not acknowledged comes in the order in which it was put out, so that the
                // answer that ends a subscription comes behind all that it has brought.
                w.ledger.matches[subscription.filter][topic]
                    && subscription.may_hold_since(sent)
                    && (delivery.qos > 0 || subscription.ended.is_none())
            })
            .collect();
        check!(!asked.is_empty(), "nobody has asked for it");
        let is_own = message.publisher == self.me;
        let is_live = !delivery.retain;
        if self.is_dealt(w, topic) {
            return Ok(());
        }
        check!(
            !(is_own && is_live && asked.iter().all(|asked| asked.no_local)),
            "it came back to its publisher in spite of no-local"
        );
        check!(
            is_live || message.retain,
            "it has the retain flag, and was not published with it"
        );
        let qos_max = asked.iter().map(|asked| asked.qos).max().unwrap_or(0);
        check!(
            delivery.qos <= message.qos.min(qos_max),
            "its QoS is higher than it may be"
        );
        for &identifier in delivery.identifiers {
            check!(
                asked.iter().any(|asked| asked.identifier == identifier),
                "it has the subscription identifier {identifier}, which no filter has"
            );
        }
        let sure: Vec<_> = asked
            .iter()
            .filter(|asked| asked.holds(sent, now) && !(is_own && asked.no_local))
            .collect();
        // A retained message comes for one subscription, and may have been on its way for long.
        if is_live && message.will.is_none() && !(is_own && asked.iter().any(|is| is.no_local)) {
            let least = sure.iter().map(|sure| sure.qos).max().unwrap_or(0);
            check!(
                delivery.qos >= message.qos.min(least),
                "its QoS is lower than it may be"
            );
            check!(
                !sure.iter().any(|sure| sure.retain_as_published) || !message.retain,
                "it lacks the retain flag that a subscription wants to see"
            );
            for sure in sure.iter().filter(|sure| sure.identifier != 0) {
                check!(
                    self.version != Version::V5 || delivery.identifiers.contains(&sure.identifier),
                    "it lacks the subscription identifier {}",
                    sure.identifier
                );
            }
        }
        if sure.len() > 1 {
            w.report.note(Feature::Overlap);
        }
        if !delivery.identifiers.is_empty() {
            w.report.note(Feature::SubscriptionId);
        }
        Ok(())
    }

    /// Deliveries of one publisher on one topic are a part of its transmissions, in their order.
    fn check_order(&mut self, w: &World, at: u32, key: (usize, usize, bool)) -> Check {
        let Some(sent) = w.ledger.sent.get(&(key.0, key.1)) else {
            return Err("it was never sent".into());
        };
        let cursor = self.cursors.entry(key).or_default();
        let Some(found) = sent[*cursor..].iter().position(|other| *other == at) else {
            return Err("it came after a message that was published later".into());
        };
        *cursor += found + 1;
        Ok(())
    }

    /// A stored message must not be older than what the store had when it was asked, nor than what
    /// has come live.
    fn check_stored(&mut self, w: &World, delivery: &Delivery<'_>) -> Check {
        let message = &w.ledger.messages[delivery.at as usize];
        let Some(stores) = w.ledger.stores.get(&message.topic) else {
            return Ok(());
        };
        let place = stores
            .iter()
            .rposition(|store| store.message == Some(delivery.at));
        let topic = message.topic;
        let is_fresh = self.subscriptions.iter().any(|asked| {
            let sure = stores.iter().rposition(|store| {
                !store.is_repeated && store.done.is_some_and(|done| done < asked.asked)
            });
            let matches = w.ledger.matches[asked.filter][topic];
            matches && (asked.retain_as_published || sure.is_none_or(|sure| place >= Some(sure)))
        });
        check!(is_fresh, "the store had a newer one when it was asked");
        let key = (topic, delivery.qos > 0);
        if let Some(newest) = self.newest.get(&key) {
            let first = stores
                .iter()
                .position(|store| store.message == Some(*newest));
            check!(
                place >= first,
                "it came from the store after message {newest}, which is newer"
            );
        }
        Ok(())
    }
}
