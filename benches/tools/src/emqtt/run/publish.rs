//! Publishing at an interval, within what may be unacknowledged.

use mqtt_codec::{PacketId, PublishHead, QoS};

use super::{
    BURST, Command, Counter, Crowd, FINISH_NS, Header, PENDING_BYTES_MAX, State, TICK_NS, Timer,
};
use crate::{
    clock,
    fleet::{Client, Fleet},
};

impl Crowd {
    pub(super) fn begin_publishing(&mut self, id: u32, now_ns: u64) {
        if self.options.command != Command::Pub || self.members[id as usize].state != State::Up {
            return;
        }
        let (least, most) = self.options.random_wait_ms;
        let wait_ms = least + self.random_below(most.saturating_sub(least));
        let member = &mut self.members[id as usize];
        if !member.publishing {
            member.publishing = true;
            member.begin_ns = now_ns + wait_ms * TICK_NS;
            member.published = 0;
            let tick = self.tick(now_ns) + wait_ms + 1;
            self.time_publish(id, tick);
        }
    }

    pub(super) fn time_publish(&mut self, id: u32, tick: u64) {
        if !std::mem::replace(&mut self.members[id as usize].timed, true) {
            self.wheel.insert(tick, Timer::Publish(id));
        }
    }

    /// Publishes what is due of one client. `true` if it wants another turn at once.
    pub(super) fn publish_due(&mut self, fleet: &mut Fleet, id: u32, now_ns: u64) -> bool {
        let interval_ns = self.options.message_interval_ms * 1_000_000;
        for sent in 0..=BURST {
            let member = &self.members[id as usize];
            if member.state != State::Up || self.finish_by_ns.is_some() {
                return false;
            }
            let Some(client) = fleet.client(id) else {
                return false;
            };
            let due_ns = member.begin_ns + member.published * interval_ns;
            if due_ns > now_ns {
                // Rounded up, so that nothing is sent before its time.
                let tick = self.tick(due_ns + TICK_NS - 1);
                self.time_publish(id, tick);
                return false;
            }
            if self.options.qos != QoS::AtMostOnce && member.inflight >= self.options.inflight {
                // Goes on when an acknowledgement comes.
                return false;
            }
            if client.pending() >= PENDING_BYTES_MAX {
                // With nothing sent since the last turn, the socket is full and will say so.
                return sent > 0;
            }
            if sent == BURST {
                return true;
            }
            if let Some(left) = &mut self.left {
                if *left == 0 {
                    self.finish_by_ns = Some(now_ns + FINISH_NS);
                    return false;
                }
                *left -= 1;
            }
            if interval_ns > 0 && member.published > 0 && due_ns + interval_ns < now_ns {
                self.counters.add(Counter::PubOverrun, 1);
            }
            self.publish(client, id);
            fleet.touch(id);
        }
        true
    }

    pub(super) fn publish(&mut self, client: &mut Client, id: u32) {
        let template = self
            .options
            .topics
            .first()
            .map_or("", |topic| topic.as_str());
        let topic = match self.members[id as usize].topic.take() {
            Some(topic) => topic,
            None => {
                let next = self.counters.count(Counter::Pub) + 1;
                self.topic(template, id, next).into_boxed_str()
            }
        };
        let member = &mut self.members[id as usize];
        let headers = &self.options.headers;
        let mut packet_id = None;
        if self.options.qos != QoS::AtMostOnce {
            let next = PacketId::new(member.last_id).map_or(PacketId::MIN, PacketId::next);
            member.last_id = next.get();
            member.inflight += 1;
            self.unacknowledged += 1;
            packet_id = Some(next);
        }
        let head = PublishHead {
            qos: self.options.qos,
            retain: self.options.retain,
            topic: &topic,
            packet_id,
            payload_len: headers.len() * 8 + self.payload.len(),
            ..Default::default()
        };
        let begin = client.out.len();
        client
            .out
            .resize(begin + head.head_len(self.options.target.version), 0);
        head.encode_head(self.options.target.version, &mut client.out[begin..]);
        for header in headers {
            let value = match header {
                Header::Cnt64 => member.published,
                Header::Ts => clock::wall_ns() / 1_000_000,
            };
            client.out.extend_from_slice(&value.to_be_bytes());
        }
        client.out.extend_from_slice(&self.payload);
        member.published += 1;
        member.sent_since_ping = true;
        if !template.split('/').any(|level| level == "%s") {
            member.topic = Some(topic);
        }
        self.counters.add(Counter::Pub, 1);
    }

    pub(super) fn acknowledged(&mut self, id: u32, counter: Counter) {
        let member = &mut self.members[id as usize];
        let full = member.inflight >= self.options.inflight;
        if member.inflight > 0 {
            member.inflight -= 1;
            self.unacknowledged -= 1;
        }
        self.counters.add(counter, 1);
        if full {
            self.due.push_back(id);
        }
    }
}
