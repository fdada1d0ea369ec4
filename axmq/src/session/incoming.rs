//! What a client publishes at QoS 1 and 2: acknowledgements in order, and exactly once.

use std::collections::VecDeque;

use mqtt_codec::{PacketId, QoS, ReasonCode};

use crate::config::Durability;
use crate::memory::allocated;

/// Acknowledgements that an idle session keeps room for.
const RING_KEPT: usize = 64;

/// Which acknowledgement a publication waits for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum AckKind {
    PubAck,
    PubRec,
}

impl AckKind {
    fn of(qos: QoS) -> Self {
        if qos == QoS::ExactlyOnce {
            Self::PubRec
        } else {
            Self::PubAck
        }
    }
}

#[derive(Copy, Clone, Debug)]
struct PendingAck {
    packet_id: PacketId,
    kind: AckKind,
    /// What the acknowledgement says.
    reason: ReasonCode,
    /// Shards that have not said yet that they accepted it.
    shards_left: u8,
    /// It came on the present connection. One that came on an earlier one is not acknowledged
    /// before it comes again: its client may take the acknowledgement for the answer to that, use
    /// the id anew, and then take the real answer for that of another message.
    is_wanted: bool,
}

/// A QoS 2 packet id that has come and has not been released.
#[derive(Copy, Clone, Debug)]
struct Received {
    packet_id: u16,
    /// What its message was promised; `None` where it came before the broker was started anew.
    durability: Option<Durability>,
}

/// What to do with a QoS 1 or 2 PUBLISH that has come in.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Arrival {
    /// Route it.
    New,
    /// It is the same message again and its acknowledgement is still due: it joins that one.
    Joins,
    /// It is a QoS 2 message that has been received before: only the PUBREC is repeated.
    Received,
    /// The client has more unacknowledged messages than the server allows [MQTT-3.3.4-9].
    OverLimit,
}

/// Incoming state of a session.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Acknowledgements due, in order of arrival: they leave in that order [MQTT-4.6.0-2, -3].
    ring: VecDeque<PendingAck>,
    /// Sequence number of the ring's first entry.
    base: u32,
    /// Messages of the present connection that are not settled: what the client may count against
    /// the server's receive maximum, which starts anew with each connection [MQTT-4.9.0-1].
    open: u16,
    /// A QoS 1 message of an earlier connection came again on this one and was routed again: so
    /// are those that come again behind it, or they would be older than it for their subscribers.
    routes_again: bool,
    /// QoS 2 packet ids that have come and have not been released, sorted.
    received: Vec<Received>,
    /// Those of them that had come before the broker was started anew, with the digests of their
    /// messages: see [`Incoming::tell_apart`].
    doubtful: Vec<(u16, u32)>,
}

impl Incoming {
    /// The client has a new connection, and sends again what it has not seen acknowledged.
    pub(crate) fn begin_connection(&mut self) {
        self.open = 0;
        self.routes_again = false;
        for ack in &mut self.ring {
            ack.is_wanted = false;
        }
    }

    /// Decides on a PUBLISH with QoS above 0 before it is routed.
    pub(crate) fn arrive(
        &mut self,
        qos: QoS,
        packet_id: PacketId,
        is_dup: bool,
        limit: u16,
    ) -> Arrival {
        let was_received = qos == QoS::ExactlyOnce && self.place_of(packet_id).is_ok();
        if planted!(DuplicateRoutedAgain) {
            return Arrival::New;
        }
        // Only what has come before can be due; a first copy need not be looked for.
        if was_received || is_dup {
            let kind = AckKind::of(qos);
            let routes_again =
                self.routes_again && qos == QoS::AtLeastOnce && !planted!(JoinsBehindRouted);
            // The youngest: an elder one may be of another message that had this id.
            let found = self.ring.iter().rposition(|ack| {
                ack.packet_id == packet_id && ack.kind == kind && (ack.is_wanted || !routes_again)
            });
            // Nor may it be elder than one that is due now, or its acknowledgement would be first.
            let is_passed = |at: usize| {
                let mut behind = self.ring.iter().skip(at + 1);
                qos == QoS::AtLeastOnce
                    && !planted!(JoinsBehindRouted)
                    && behind.any(|ack| ack.is_wanted && ack.kind == kind)
            };
            let is_fit =
                |at: &usize| self.ring.get(*at).is_some_and(|ack| ack.is_wanted) || !is_passed(*at);
            let due = found.filter(is_fit).and_then(|at| self.ring.get_mut(at));
            if let Some(ack) = due {
                if !std::mem::replace(&mut ack.is_wanted, true) {
                    self.open = self.open.saturating_add(1);
                }
                return Arrival::Joins;
            }
        }
        if was_received {
            self.open = self.open.saturating_add(1);
            return Arrival::Received;
        }
        if self.open >= limit {
            return Arrival::OverLimit;
        }
        self.routes_again |= is_dup && qos == QoS::AtLeastOnce;
        Arrival::New
    }

    /// What its tables take of memory.
    pub(super) fn heap_bytes(&self) -> u64 {
        allocated(self.ring.capacity() * size_of::<PendingAck>())
            + allocated(self.received.capacity() * size_of::<Received>())
            + allocated(self.doubtful.capacity() * size_of::<(u16, u32)>())
    }

    /// Whether there are ids for [`tell_apart`](Self::tell_apart).
    pub(crate) fn has_doubts(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// A QoS 2 PUBLISH comes whose id may be that of one from before the broker was started anew.
    /// A crash may have made the broker forget that this one was released, and its client may use
    /// the id for another message since. It does where it does not say that it repeats itself, or
    /// where the message is another one: under an id that is not released there is but one.
    pub(crate) fn tell_apart(&mut self, packet_id: PacketId, is_dup: bool, digest: u32) {
        if let Some(before) = self.take_doubt(packet_id)
            && !(is_dup && before == digest)
            && let Ok(at) = self.place_of(packet_id)
        {
            self.received.remove(at);
        }
    }

    /// Where an id is among those received, or belongs.
    fn place_of(&self, packet_id: PacketId) -> Result<usize, usize> {
        self.received
            .binary_search_by_key(&packet_id.get(), |received| received.packet_id)
    }

    /// A QoS 2 message that has begun was promised this.
    pub(crate) fn promise(&mut self, packet_id: PacketId, durability: Durability) {
        if let Ok(at) = self.place_of(packet_id)
            && let Some(received) = self.received.get_mut(at)
        {
            received.durability = Some(durability);
        }
    }

    /// Notes that an id has been seen since the start: the digest of what came under it before.
    fn take_doubt(&mut self, packet_id: PacketId) -> Option<u32> {
        let mut doubtful = self.doubtful.iter();
        let at = doubtful.position(|(id, _)| *id == packet_id.get())?;
        let (_, digest) = self.doubtful.swap_remove(at);
        if self.doubtful.is_empty() {
            self.doubtful = Vec::new();
        }
        Some(digest)
    }

    /// No more than `limit` acknowledgements may be due: beyond it reading stops (DECISIONS 21).
    pub(crate) fn is_full(&self, limit: u16) -> bool {
        self.ring.len() >= usize::from(limit)
    }

    /// Takes note of a new message that `shards` other shards have to accept; returns its sequence
    /// number.
    pub(crate) fn begin(&mut self, qos: QoS, packet_id: PacketId, shards: u8) -> u32 {
        if qos == QoS::ExactlyOnce
            && let Err(at) = self.place_of(packet_id)
        {
            let received = Received {
                packet_id: packet_id.get(),
                durability: Some(Durability::None),
            };
            self.received.insert(at, received);
        }
        self.open = self.open.saturating_add(1);
        let at = u32::try_from(self.ring.len()).unwrap_or(u32::MAX);
        self.ring.push_back(PendingAck {
            packet_id,
            kind: AckKind::of(qos),
            reason: ReasonCode::Success,
            shards_left: shards,
            is_wanted: true,
        });
        self.base.wrapping_add(at)
    }

    /// Takes note of a new message that is refused; the acknowledgement that says so takes its
    /// turn. At QoS 2 a PUBREC that refuses ends the exchange [MQTT-4.3.3-9], so the packet id is
    /// not remembered.
    pub(crate) fn refuse(&mut self, qos: QoS, packet_id: PacketId, reason: ReasonCode) {
        self.open = self.open.saturating_add(1);
        self.ring.push_back(PendingAck {
            packet_id,
            kind: AckKind::of(qos),
            reason,
            shards_left: 0,
            is_wanted: true,
        });
    }

    /// One shard has accepted the message with this sequence number, or has not been able to keep
    /// it. Returns its packet id where only one more is waited for.
    pub(crate) fn accepted(&mut self, sequence: u32, is_refused: bool) -> Option<PacketId> {
        let at = sequence.wrapping_sub(self.base) as usize;
        let ack = self.ring.get_mut(at)?;
        ack.shards_left = ack.shards_left.saturating_sub(1);
        if is_refused {
            ack.reason = ReasonCode::QuotaExceeded;
        }
        let ack = *ack;
        if is_refused
            && ack.kind == AckKind::PubRec
            && let Ok(at) = self.place_of(ack.packet_id)
        {
            // The exchange ends with it [MQTT-4.3.3-9].
            self.received.remove(at);
        }
        (ack.shards_left == 1).then_some(ack.packet_id)
    }

    /// The message with this sequence number has something more to wait for.
    pub(crate) fn wait_for_one_more(&mut self, sequence: u32) {
        let at = sequence.wrapping_sub(self.base) as usize;
        if let Some(ack) = self.ring.get_mut(at) {
            ack.shards_left = ack.shards_left.saturating_add(1);
        }
    }

    /// Packet ids that had come before the broker was started anew, and the digests of their
    /// messages.
    pub(crate) fn restore(&mut self, received: Vec<(u16, u32)>) {
        let ids = received.iter().map(|(packet_id, _)| Received {
            packet_id: *packet_id,
            durability: None,
        });
        self.received = ids.collect();
        self.received
            .sort_unstable_by_key(|received| received.packet_id);
        self.doubtful = received;
    }

    /// The next acknowledgement that may leave.
    pub(crate) fn pop_ready(&mut self) -> Option<(AckKind, PacketId, ReasonCode)> {
        loop {
            let ack = self.pop_accepted()?;
            if !ack.is_wanted {
                continue;
            }
            // These end their exchange.
            if ack.kind == AckKind::PubAck || ack.reason.is_error() {
                self.open = self.open.saturating_sub(1);
            }
            return Some((ack.kind, ack.packet_id, ack.reason));
        }
    }

    /// The oldest entry, once all shards have accepted it.
    fn pop_accepted(&mut self) -> Option<PendingAck> {
        if planted!(AckOutOfOrder)
            && let Some(at) = self.ring.iter().position(|ack| ack.shards_left == 0)
        {
            self.ring.swap(0, at);
        }
        let ack = *self.ring.front().filter(|ack| ack.shards_left == 0)?;
        self.ring.pop_front();
        if self.ring.is_empty() && self.ring.capacity() > RING_KEPT {
            self.ring = VecDeque::new();
        }
        self.base = self.base.wrapping_add(1);
        Some(ack)
    }

    /// PUBREL: what the message was promised, where the id was known, and `Some(None)` where that
    /// is not known any more. The id may be used for a new message now [MQTT-4.3.3-10].
    pub(crate) fn release(&mut self, packet_id: PacketId) -> Option<Option<Durability>> {
        self.take_doubt(packet_id);
        let at = self.place_of(packet_id).ok()?;
        self.open = self.open.saturating_sub(1);
        Some(self.received.remove(at).durability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not zero")
    }

    #[test]
    fn acknowledgements_leave_in_order_of_arrival() {
        let mut incoming = Incoming::default();
        let first = incoming.begin(QoS::AtLeastOnce, id(7), 2);
        let second = incoming.begin(QoS::ExactlyOnce, id(3), 1);
        incoming.accepted(second, false);
        assert_eq!(incoming.pop_ready(), None, "the first is still due");
        incoming.accepted(first, false);
        assert_eq!(incoming.pop_ready(), None, "one shard of two");
        incoming.accepted(first, false);
        assert_eq!(
            incoming.pop_ready(),
            Some((AckKind::PubAck, id(7), ReasonCode::Success))
        );
        assert_eq!(
            incoming.pop_ready(),
            Some((AckKind::PubRec, id(3), ReasonCode::Success))
        );
        assert_eq!(incoming.pop_ready(), None);
        let third = incoming.begin(QoS::AtLeastOnce, id(7), 0);
        assert_eq!(third, second.wrapping_add(1));
        incoming.accepted(first, false);
        assert_eq!(
            incoming.pop_ready(),
            Some((AckKind::PubAck, id(7), ReasonCode::Success)),
            "late accepts are void"
        );
    }

    #[test]
    fn it_is_full_at_its_limit_and_has_room_below() {
        let mut incoming = Incoming::default();
        assert!(!incoming.is_full(1));
        incoming.begin(QoS::AtLeastOnce, id(1), 1);
        assert!(incoming.is_full(1) && !incoming.is_full(2));
        incoming.begin(QoS::AtLeastOnce, id(2), 1);
        assert!(incoming.is_full(2));
    }

    #[test]
    fn after_a_crash_the_client_says_whether_it_is_the_same_message() {
        let mut incoming = Incoming::default();
        incoming.restore(vec![(7, 70), (3, 30), (5, 50)]);
        let arrive = |incoming: &mut Incoming, n, is_dup| {
            incoming.tell_apart(id(n), is_dup, u32::from(n) * 10);
            incoming.arrive(QoS::ExactlyOnce, id(n), is_dup, 10)
        };
        assert_eq!(arrive(&mut incoming, 3, true), Arrival::Received);
        assert_eq!(arrive(&mut incoming, 3, false), Arrival::Received);
        assert_eq!(arrive(&mut incoming, 7, false), Arrival::New, "another one");
        assert!(incoming.has_doubts());
        incoming.tell_apart(id(5), true, 51);
        let arrival = incoming.arrive(QoS::ExactlyOnce, id(5), true, 10);
        assert_eq!(arrival, Arrival::New, "its first sending was lost");
        assert!(!incoming.has_doubts());
        incoming.begin(QoS::ExactlyOnce, id(7), 0);
        assert!(incoming.pop_ready().is_some());
        assert_eq!(arrive(&mut incoming, 7, false), Arrival::Received);
        assert!(incoming.release(id(7)).is_some() && incoming.release(id(3)).is_some());
    }

    #[test]
    fn a_message_that_one_shard_could_not_keep_is_refused() {
        let mut incoming = Incoming::default();
        let first = incoming.begin(QoS::ExactlyOnce, id(4), 2);
        assert_eq!(incoming.accepted(first, true), Some(id(4)));
        assert_eq!(incoming.accepted(first, false), None);
        let refused = (AckKind::PubRec, id(4), ReasonCode::QuotaExceeded);
        assert_eq!(incoming.pop_ready(), Some(refused));
        assert_eq!(incoming.release(id(4)), None, "the exchange has ended");
        let second = incoming.begin(QoS::AtLeastOnce, id(5), 0);
        incoming.wait_for_one_more(second);
        assert_eq!(incoming.pop_ready(), None);
        incoming.accepted(second, false);
        assert!(incoming.pop_ready().is_some());
    }

    #[test]
    fn a_qos_2_id_is_new_again_only_after_its_release() {
        let mut incoming = Incoming::default();
        assert_eq!(
            incoming.arrive(QoS::ExactlyOnce, id(9), false, 10),
            Arrival::New
        );
        incoming.begin(QoS::ExactlyOnce, id(9), 0);
        assert_eq!(
            incoming.arrive(QoS::ExactlyOnce, id(9), false, 10),
            Arrival::Joins
        );
        assert!(incoming.pop_ready().is_some());
        assert_eq!(
            incoming.arrive(QoS::ExactlyOnce, id(9), false, 10),
            Arrival::Received
        );
        assert_eq!(incoming.release(id(9)), Some(Some(Durability::None)));
        assert_eq!(incoming.release(id(9)), None);
        assert_eq!(
            incoming.arrive(QoS::ExactlyOnce, id(9), false, 10),
            Arrival::New
        );
        incoming.begin(QoS::AtLeastOnce, id(5), 1);
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(5), true, 10),
            Arrival::Joins
        );
    }

    #[test]
    fn what_came_on_an_earlier_connection_is_acknowledged_when_it_comes_again() {
        let mut incoming = Incoming::default();
        let first = incoming.begin(QoS::AtLeastOnce, id(1), 1);
        let second = incoming.begin(QoS::ExactlyOnce, id(2), 1);
        incoming.begin_connection();
        assert_eq!(
            incoming.arrive(QoS::ExactlyOnce, id(2), true, 10),
            Arrival::Joins
        );
        incoming.accepted(first, false);
        incoming.accepted(second, false);
        assert_eq!(
            incoming.pop_ready(),
            Some((AckKind::PubRec, id(2), ReasonCode::Success)),
            "the first has not come again"
        );
        assert_eq!(incoming.pop_ready(), None);
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(1), true, 10),
            Arrival::New
        );
    }

    #[test]
    fn what_comes_again_behind_a_message_that_is_routed_again_is_routed_again_too() {
        let mut incoming = Incoming::default();
        let (first, second, third) = (id(1), id(2), id(3));
        for packet_id in [first, second, third] {
            incoming.begin(QoS::AtLeastOnce, packet_id, 1);
        }
        incoming.begin_connection();
        incoming.accepted(0, false);
        assert_eq!(
            incoming.pop_ready(),
            None,
            "settled, and its client is away"
        );
        let again = |incoming: &mut Incoming, packet_id| {
            let arrival = incoming.arrive(QoS::AtLeastOnce, packet_id, true, 10);
            if arrival == Arrival::New {
                incoming.begin(QoS::AtLeastOnce, packet_id, 0);
            }
            arrival
        };
        assert_eq!(again(&mut incoming, first), Arrival::New);
        assert_eq!(again(&mut incoming, second), Arrival::New);
        assert_eq!(
            again(&mut incoming, second),
            Arrival::Joins,
            "its repetition"
        );
        incoming.accepted(1, false);
        incoming.accepted(2, false);
        let acks = std::iter::from_fn(|| incoming.pop_ready()).map(|(_, packet_id, _)| packet_id);
        assert_eq!(acks.collect::<Vec<_>>(), [first, second]);
    }

    #[test]
    fn what_comes_again_joins_nothing_that_is_elder_than_what_is_due() {
        let mut incoming = Incoming::default();
        let (first, second) = (id(1), id(2));
        let arrive = |incoming: &mut Incoming, packet_id| {
            incoming.arrive(QoS::AtLeastOnce, packet_id, true, 10)
        };
        incoming.begin(QoS::AtLeastOnce, first, 0);
        incoming.begin(QoS::AtLeastOnce, second, 1);
        incoming.begin_connection();
        assert_eq!(incoming.pop_ready(), None, "the first is let go, unwanted");
        // The second connection lasts until the first message has come again.
        assert_eq!(arrive(&mut incoming, first), Arrival::New);
        incoming.begin(QoS::AtLeastOnce, first, 1);
        incoming.begin_connection();
        assert_eq!(arrive(&mut incoming, first), Arrival::Joins);
        assert_eq!(
            arrive(&mut incoming, second),
            Arrival::New,
            "or it would be acknowledged before the first"
        );
        incoming.begin(QoS::AtLeastOnce, second, 0);
        assert_eq!(arrive(&mut incoming, second), Arrival::Joins, "itself");
        incoming.accepted(1, false);
        incoming.accepted(2, false);
        let acks = std::iter::from_fn(|| incoming.pop_ready()).map(|(_, packet_id, _)| packet_id);
        assert_eq!(acks.collect::<Vec<_>>(), [first, second]);
    }

    #[test]
    fn an_id_is_looked_for_among_messages_of_its_own_quality_of_service() {
        let mut incoming = Incoming::default();
        incoming.begin(QoS::ExactlyOnce, id(1), 1);
        incoming.begin_connection();
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(1), true, 10),
            Arrival::New,
            "a client that has lost its state uses the id for another message"
        );
    }

    #[test]
    fn each_connection_has_the_whole_receive_maximum() {
        let mut incoming = Incoming::default();
        incoming.begin(QoS::ExactlyOnce, id(1), 0);
        assert!(incoming.pop_ready().is_some());
        incoming.begin_connection();
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(2), false, 1),
            Arrival::New,
            "the client waits for PUBCOMP only, which counts for nothing"
        );
    }

    #[test]
    fn the_limit_counts_what_the_client_may_count() {
        let mut incoming = Incoming::default();
        incoming.begin(QoS::ExactlyOnce, id(1), 0);
        incoming.begin(QoS::AtLeastOnce, id(2), 0);
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(3), false, 2),
            Arrival::OverLimit
        );
        while incoming.pop_ready().is_some() {}
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(3), false, 2),
            Arrival::New,
            "QoS 1 is settled"
        );
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(3), false, 1),
            Arrival::OverLimit
        );
    }

    #[test]
    fn a_refusal_takes_its_turn_and_ends_the_exchange() {
        let mut incoming = Incoming::default();
        let first = incoming.begin(QoS::AtLeastOnce, id(1), 1);
        incoming.refuse(QoS::ExactlyOnce, id(2), ReasonCode::NotAuthorized);
        assert_eq!(incoming.pop_ready(), None, "the first is still due");
        assert_eq!(
            incoming.arrive(QoS::AtLeastOnce, id(3), false, 2),
            Arrival::OverLimit,
            "until it is told, the client may count it"
        );
        incoming.accepted(first, false);
        assert!(incoming.pop_ready().is_some());
        let refusal = (AckKind::PubRec, id(2), ReasonCode::NotAuthorized);
        assert_eq!(incoming.pop_ready(), Some(refusal));
        assert_eq!(
            incoming.arrive(QoS::ExactlyOnce, id(2), false, 1),
            Arrival::New,
            "the id is free again"
        );
    }
}
