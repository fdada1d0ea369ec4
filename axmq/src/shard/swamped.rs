//! What is not read on, where stopping those who have filled a queue is not enough.
//!
//! Back-pressure stops a publisher after the message that it was felt with. A thousand clients a
//! second that connect, publish once and go are each stopped too late. So from twice the credit
//! on, a packet that would add to the queue stays unread, whoever sends it.

use mqtt_codec::{Packet, Publish, QoS};
use slabmem::Key;
use topicmap::Topic;

use super::Core;
use crate::config::Durability;

impl<S> Core<S> {
    /// The store, or another shard, is behind by twice the credit for it.
    pub(super) fn is_swamped(&self) -> bool {
        self.journal.is_swamped() || self.is_outbox_swamped()
    }

    fn is_outbox_swamped(&self) -> bool {
        let limit = self.credit.saturating_mul(2);
        self.outboxes.iter().any(|outbox| {
            outbox.unanswered + outbox.cost >= limit
                || outbox.dealt_unanswered + outbox.dealt_cost >= limit
        })
    }

    /// Whether a packet is to be read when there is room again. Asked only while swamped.
    pub(super) fn has_to_wait(&mut self, key: Key, packet: &Packet<'_>) -> bool {
        match packet {
            Packet::Publish(publish) => {
                self.is_outbox_swamped()
                    || (self.journal.is_swamped() && self.may_write(key, publish))
            }
            Packet::Subscribe(_) | Packet::Unsubscribe(_) => self.journal.is_swamped(),
            _ => false,
        }
    }

    /// Whether the store may have to keep a message: whatever is not known to be for connected
    /// and clean sessions of this shard only.
    fn may_write(&mut self, key: Key, publish: &Publish<'_>) -> bool {
        if publish.retain() || publish.topic().is_empty() || self.mount_of(key).is_some() {
            return true;
        }
        if publish.qos() == QoS::AtMostOnce {
            return false;
        }
        let Ok(topic) = Topic::parse(publish.topic(), &self.shared.topic_limits) else {
            // It is refused.
            return false;
        };
        let publisher = self.connections.get(key).map(|found| found.session);
        if self.promised(publisher, &topic) == Durability::None {
            return false;
        }
        let route = self.look_up(&topic);
        let others = route.shards & !(1 << self.me);
        let is_kept = |slot| {
            let session = self.sessions.get_at(slot);
            session.is_some_and(|session| session.holder != 0)
        };
        let may_be_dealt = !route.groups.is_empty();
        others != 0 || may_be_dealt || route.targets.iter().any(|target| is_kept(target.slot))
    }
}
