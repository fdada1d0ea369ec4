//! What is published next, and when.

use mqtt_codec::{PacketId, PublishHead, QoS};

use super::{Bench, INFLIGHT_MAX, PENDING_BYTES_MAX, Pace, RATE_BURST};
use crate::{check::Stamp, fleet::Fleet};

impl Bench<'_> {
    /// Takes note that a stream may publish again.
    pub(super) fn queue(&mut self, stream: u32) {
        if !std::mem::replace(&mut self.queued[stream as usize], true) {
            self.refill.push(stream);
        }
    }

    /// Forgets what is outstanding: all streams may publish again.
    pub(super) fn refill_all(&mut self) {
        self.outstanding_of.fill(0);
        for stream in 0..self.plan.streams.len() as u32 {
            self.queue(stream);
        }
    }

    /// Fills each publisher's share of the window: what arrives together is sent together again.
    fn produce_shares(&mut self, fleet: &mut Fleet, now_ns: u64) {
        let share = self.window.div_ceil(self.plan.streams.len() as u64);
        let mut refill = std::mem::take(&mut self.refill);
        for stream in refill.drain(..) {
            let at = stream as usize;
            self.queued[at] = false;
            while self.outstanding_of[at] < share {
                if !self.publish(fleet, stream, now_ns) {
                    // The socket, or an acknowledgement, brings the next turn.
                    self.queue(stream);
                    break;
                }
            }
        }
        // Whatever was queued meanwhile stays; the other list is kept for its memory.
        if self.refill.is_empty() {
            self.refill = refill;
        }
    }

    pub(super) fn next_stream(&mut self) -> u32 {
        let count = self.plan.streams.len() as u64;
        self.cursor += 1;
        if !self.plan.shuffled {
            return (self.cursor % count) as u32;
        }
        let mixed = self.cursor.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as u32 % count as u32
    }

    /// Publishes on a stream if its publisher can; `sent_ns` goes into the stamp.
    pub(super) fn publish(&mut self, fleet: &mut Fleet, stream: u32, sent_ns: u64) -> bool {
        let plan = self.plan;
        let line = &plan.streams[stream as usize];
        let id = self.subscribers() + line.publisher;
        let publisher = &mut self.publishers[line.publisher as usize];
        let Some(client) = fleet.client(id) else {
            return false;
        };
        let full = client.pending() >= PENDING_BYTES_MAX || publisher.inflight >= INFLIGHT_MAX;
        if full || self.left == Some(0) {
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let mut packet_id = None;
        if self.options.qos != QoS::AtMostOnce {
            let next = PacketId::new(publisher.last_id).map_or(PacketId::MIN, PacketId::next);
            publisher.last_id = next.get();
            publisher.inflight += 1;
            self.unacknowledged += 1;
            packet_id = Some(next);
        }
        let head = PublishHead {
            qos: self.options.qos,
            topic: &line.topic,
            packet_id,
            payload_len: self.payload.len(),
            ..Default::default()
        };
        let number = &mut self.sent[stream as usize];
        Stamp {
            stream,
            number: *number,
            sent_ns,
        }
        .write(&mut self.payload);
        *number += 1;
        let begin = client.out.len();
        let version = self.options.common.target.version;
        client.out.resize(begin + head.head_len(version), 0);
        head.encode_head(version, &mut client.out[begin..]);
        client.out.extend_from_slice(&self.payload);
        fleet.touch(id);
        self.outstanding += u64::from(line.fanout);
        self.outstanding_of[stream as usize] += u64::from(line.fanout);
        self.published += 1;
        true
    }

    /// Fills the window, or does what the rate asks for. `true` if there is more to do at once.
    pub(super) fn produce(&mut self, fleet: &mut Fleet, now_ns: u64) -> bool {
        match self.options.pace {
            Pace::Window(_) if !self.plan.shuffled => {
                self.produce_shares(fleet, now_ns);
                false
            }
            Pace::Window(_) => {
                let mut refused = 0;
                while self.outstanding < self.window && refused < self.plan.publishers {
                    let stream = self.next_stream();
                    if !self.publish(fleet, stream, now_ns) {
                        refused += 1;
                    }
                }
                false
            }
            Pace::Rate(rate) => {
                let elapsed = (now_ns - self.rate_begin_ns) as f64;
                let due = (elapsed * rate / 1e9) as u64;
                let end = due.min(self.rate_sent + RATE_BURST);
                while self.rate_sent < end {
                    // The time it should have been sent: waiting here counts as latency.
                    let offset = self.rate_sent as f64 * 1e9 / rate;
                    let stream = self.next_stream();
                    if !self.publish(fleet, stream, self.rate_begin_ns + offset as u64) {
                        // Its socket is full; in a later turn it goes on from here.
                        self.cursor -= 1;
                        return false;
                    }
                    self.rate_sent += 1;
                }
                end < due
            }
        }
    }

    pub(super) fn acknowledged(&mut self, id: u32) {
        let at = id.wrapping_sub(self.subscribers()) as usize;
        if let Some(publisher) = self.publishers.get_mut(at)
            && publisher.inflight > 0
        {
            publisher.inflight -= 1;
            self.unacknowledged -= 1;
        }
    }
}
