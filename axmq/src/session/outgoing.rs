//! What a session still has to get at QoS 1 and 2: in flight, and waiting for room.
//!
//! Packet ids are handed out in sequence, so that the message of an id is found by subtraction and
//! the order of sending is the order of the ring. An entry that is settled before its elders stays
//! as a tombstone until they go.

use std::collections::VecDeque;

use mqtt_codec::{PacketId, QoS};
use slabmem::Key;

/// Packet ids there are: 1 to 65,535 [MQTT-2.2.1-2].
const IDS: u16 = u16::MAX;

/// A message for one session; the message itself is in the shard's table (DECISIONS 24).
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) message: Key,
    extra: Option<Box<Extra>>,
    pub(crate) cost: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// What few messages have.
#[derive(Clone, Debug)]
struct Extra {
    identifiers: Box<[u32]>,
    member: Option<Key>,
}

const _: () = assert!(size_of::<Queued>() <= 24);

impl Queued {
    pub(crate) fn new(message: Key, cost: usize, qos: QoS, retain: bool) -> Self {
        Self {
            message,
            extra: None,
            cost: u32::try_from(cost).unwrap_or(u32::MAX),
            qos,
            retain,
        }
    }

    /// Adds the subscription identifiers that go with it, and the membership by which the session
    /// got it.
    pub(crate) fn with(mut self, identifiers: &[u32], member: Option<Key>) -> Self {
        if !identifiers.is_empty() || member.is_some() {
            let identifiers = identifiers.into();
            self.extra = Some(Box::new(Extra {
                identifiers,
                member,
            }));
        }
        self
    }

    pub(crate) fn identifiers(&self) -> &[u32] {
        self.extra
            .as_deref()
            .map_or(&[], |extra| &extra.identifiers)
    }

    /// The membership by which the session got it, where it is a group's message.
    pub(crate) fn member(&self) -> Option<Key> {
        self.extra.as_deref().and_then(|extra| extra.member)
    }

    fn clear_member(&mut self) {
        if let Some(extra) = self.extra.as_deref_mut() {
            extra.member = None;
        }
    }
}

#[derive(Debug)]
enum State {
    /// PUBLISH is out, PUBACK or PUBREC is due.
    Published(Queued),
    /// PUBREL is out, PUBCOMP is due.
    Released,
    Settled,
}

/// What is sent again when a session gets a new connection [MQTT-4.4.0-1].
#[derive(Debug)]
pub(crate) enum Resend {
    Publish(PacketId, Queued),
    Release(PacketId),
}

/// Outgoing state of a session.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    in_flight: VecDeque<State>,
    /// Id of the first entry in flight, counted from 0.
    first: u16,
    /// Entries in flight that are not settled.
    live: u16,
    /// Of those, the ones that the present connection has got.
    sent: u16,
    /// Entries from here on wait to be sent again on it.
    resend_at: usize,
    waiting: VecDeque<Queued>,
    waiting_bytes: u64,
}

fn offset(first: u16, by: usize) -> u16 {
    let sum = (usize::from(first) + by) % usize::from(IDS);
    u16::try_from(sum).unwrap_or(0)
}

impl Outgoing {
    /// Whether another message may go out under the client's receive maximum [MQTT-3.3.4-9], and
    /// none that is older has to go first.
    pub(crate) fn has_room(&self, receive_maximum: u16) -> bool {
        self.live < receive_maximum
            && self.in_flight.len() < usize::from(IDS)
            && self.resend_at == self.in_flight.len()
    }

    /// Gives a message its packet id.
    pub(crate) fn send(&mut self, queued: Queued) -> PacketId {
        debug_assert!(self.has_room(u16::MAX), "the caller asks for room first");
        let index = if planted!(PacketIdReusedEarly) {
            offset(self.first, usize::from(self.live))
        } else {
            offset(self.first, self.in_flight.len())
        };
        self.in_flight.push_back(State::Published(queued));
        self.resend_at = self.in_flight.len();
        self.live += 1;
        self.sent += 1;
        PacketId::new(index + 1).unwrap_or(PacketId::MIN)
    }

    fn distance(&self, packet_id: PacketId) -> usize {
        let index = packet_id.get() - 1;
        let distance = (u32::from(index) + u32::from(IDS) - u32::from(self.first)) % u32::from(IDS);
        distance as usize
    }

    fn at(&mut self, packet_id: PacketId) -> Option<&mut State> {
        let distance = self.distance(packet_id);
        self.in_flight.get_mut(distance)
    }

    fn settle(&mut self, packet_id: PacketId) {
        self.live -= 1;
        if self.distance(packet_id) < self.resend_at {
            self.sent -= 1;
        }
        self.trim();
    }

    /// Lets go of what is settled and has no elder that is not.
    fn trim(&mut self) {
        while matches!(self.in_flight.front(), Some(State::Settled)) {
            self.in_flight.pop_front();
            self.first = offset(self.first, 1);
            self.resend_at = self.resend_at.saturating_sub(1);
        }
    }

    /// PUBACK, or a PUBREC that refuses: the message is settled. `None` for an id that waits for
    /// no such thing.
    pub(crate) fn acknowledge(&mut self, packet_id: PacketId, qos: QoS) -> Option<Queued> {
        let state = self.at(packet_id)?;
        if !matches!(state, State::Published(queued) if queued.qos == qos) {
            return None;
        }
        let State::Published(queued) = std::mem::replace(state, State::Settled) else {
            return None;
        };
        self.settle(packet_id);
        Some(queued)
    }

    /// PUBREC: the message is the client's now, PUBREL goes out [MQTT-4.3.3-4]. `Ok(None)` where
    /// the PUBREL is only repeated.
    pub(crate) fn receive(&mut self, packet_id: PacketId) -> Result<Option<Queued>, UnknownId> {
        let state = self.at(packet_id).ok_or(UnknownId)?;
        match state {
            State::Released => Ok(None),
            State::Published(queued) if queued.qos == QoS::ExactlyOnce => {
                match std::mem::replace(state, State::Released) {
                    State::Published(queued) => Ok(Some(queued)),
                    State::Released | State::Settled => Ok(None),
                }
            }
            State::Published(_) | State::Settled => Err(UnknownId),
        }
    }

    /// PUBCOMP: whether the id was waiting for it.
    pub(crate) fn complete(&mut self, packet_id: PacketId) -> bool {
        match self.at(packet_id) {
            Some(state @ State::Released) => {
                *state = State::Settled;
                self.settle(packet_id);
                true
            }
            _ => false,
        }
    }

    /// A new connection: everything in flight is sent again, in the order of its first sending
    /// [MQTT-4.6.0-1].
    pub(crate) fn begin_resend(&mut self) {
        self.resend_at = 0;
        self.sent = 0;
    }

    /// The next packet to send again, within the receive maximum of the new connection, which may
    /// be smaller than that of the old one.
    pub(crate) fn next_resend(&mut self, receive_maximum: u16) -> Option<Resend> {
        while self.sent < receive_maximum {
            let id = PacketId::new(offset(self.first, self.resend_at) + 1)?;
            let state = self.in_flight.get(self.resend_at)?;
            self.resend_at += 1;
            let resend = match state {
                State::Published(queued) => Resend::Publish(id, queued.clone()),
                State::Released => Resend::Release(id),
                State::Settled => continue,
            };
            self.sent += 1;
            return Some(resend);
        }
        None
    }

    /// Packets that wait for room: new ones, and old ones that are to be sent again.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + (self.in_flight.len() - self.resend_at)
    }

    pub(crate) fn wait(&mut self, queued: Queued) {
        self.waiting_bytes += u64::from(queued.cost);
        self.waiting.push_back(queued);
    }

    pub(crate) fn next_waiting(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        self.waiting_bytes -= u64::from(queued.cost);
        if self.waiting.is_empty() {
            // A burst must not leave its high-water mark behind in every session.
            self.waiting = VecDeque::new();
        }
        Some(queued)
    }

    /// Messages that the client has not acknowledged: in flight, and waiting.
    pub(crate) fn unsettled(&self) -> usize {
        usize::from(self.live) + self.waiting.len()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Takes out what the session got as a member of a group and another member may get instead:
    /// QoS 1 that is not acknowledged, and all that waits, in this order; with the membership of
    /// each. For a session without a connection: no id that it takes is waited for any more.
    pub(crate) fn take_shared(&mut self) -> Vec<(Key, Queued)> {
        let mut taken = Vec::new();
        for (at, state) in self.in_flight.iter_mut().enumerate() {
            let member = match state {
                State::Published(queued)
                    if queued.qos == QoS::AtLeastOnce || planted!(Qos2ToAnotherMember) =>
                {
                    queued.member()
                }
                _ => None,
            };
            let Some(member) = member else { continue };
            if let State::Published(queued) = std::mem::replace(state, State::Settled) {
                taken.push((member, queued));
            }
            self.live -= 1;
            if at < self.resend_at {
                self.sent -= 1;
            }
        }
        self.trim();
        self.take_waiting(|_| true, &mut taken);
        taken
    }

    /// Takes out what waits and came by one membership. What was sent stays, as the session's own.
    pub(crate) fn leave_shared(&mut self, member: Key) -> Vec<(Key, Queued)> {
        for state in &mut self.in_flight {
            if let State::Published(queued) = state
                && queued.member() == Some(member)
            {
                queued.clear_member();
            }
        }
        let mut taken = Vec::new();
        self.take_waiting(|other| other == member, &mut taken);
        taken
    }

    fn take_waiting(&mut self, which: impl Fn(Key) -> bool, into: &mut Vec<(Key, Queued)>) {
        let waiting = std::mem::take(&mut self.waiting);
        for queued in waiting {
            match queued.member().filter(|member| which(*member)) {
                Some(member) => {
                    self.waiting_bytes -= u64::from(queued.cost);
                    into.push((member, queued));
                }
                None => self.waiting.push_back(queued),
            }
        }
    }

    /// Takes everything, for a session that ends.
    pub(crate) fn into_messages(self) -> impl Iterator<Item = Queued> {
        let in_flight = self.in_flight.into_iter().filter_map(|state| match state {
            State::Published(queued) => Some(queued),
            State::Released | State::Settled => None,
        });
        in_flight.chain(self.waiting)
    }
}

/// The packet id does not stand for a message that waits for this packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct UnknownId;

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(qos: QoS) -> Queued {
        Queued::new(key(1), 10, qos, false)
    }

    fn key(n: u64) -> Key {
        Key::from_bits(n << 32).expect("not zero")
    }

    fn dealt(qos: QoS, n: u64) -> Queued {
        queued(qos).with(&[], Some(key(n)))
    }

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not zero")
    }

    #[test]
    fn ids_run_around_and_skip_zero() {
        let mut outgoing = Outgoing::default();
        for round in 0..200_000_u32 {
            let expected = u16::try_from(round % 65_535 + 1).expect("fits");
            assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(expected));
            assert!(
                outgoing
                    .acknowledge(id(expected), QoS::AtLeastOnce)
                    .is_some()
            );
            assert!(
                outgoing
                    .acknowledge(id(expected), QoS::AtLeastOnce)
                    .is_none()
            );
        }
    }

    #[test]
    fn an_id_is_not_used_again_while_its_elder_is_unsettled() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(1));
        let mut sent = 1_u32;
        while outgoing.has_room(10) {
            let next = outgoing.send(queued(QoS::AtLeastOnce));
            assert_ne!(next, id(1), "id 1 is still in flight");
            assert!(outgoing.acknowledge(next, QoS::AtLeastOnce).is_some());
            sent += 1;
        }
        assert_eq!(sent, 65_535);
        assert!(outgoing.acknowledge(id(1), QoS::AtLeastOnce).is_some());
        assert!(outgoing.has_room(1));
    }

    #[test]
    fn qos_2_goes_through_its_four_steps_and_repeats() {
        let mut outgoing = Outgoing::default();
        let one = outgoing.send(queued(QoS::ExactlyOnce));
        assert!(
            outgoing.acknowledge(one, QoS::AtLeastOnce).is_none(),
            "PUBACK is not for QoS 2"
        );
        assert!(!outgoing.complete(one), "PUBCOMP before PUBREC");
        assert!(matches!(outgoing.receive(one), Ok(Some(_))));
        assert!(matches!(outgoing.receive(one), Ok(None)));
        outgoing.begin_resend();
        assert!(matches!(outgoing.next_resend(9), Some(Resend::Release(again)) if again == one));
        assert!(outgoing.complete(one));
        assert!(!outgoing.complete(one));
        assert_eq!(outgoing.receive(one).unwrap_err(), UnknownId);
        outgoing.begin_resend();
        assert!(outgoing.next_resend(9).is_none());
    }

    #[test]
    fn resending_keeps_the_order_and_leaves_out_what_is_settled() {
        let mut outgoing = Outgoing::default();
        let ids: Vec<_> = (0..4)
            .map(|_| outgoing.send(queued(QoS::AtLeastOnce)))
            .collect();
        outgoing.acknowledge(ids[1], QoS::AtLeastOnce);
        assert_eq!(again(&mut outgoing, 9), [ids[0], ids[2], ids[3]]);
        assert!(!outgoing.has_room(3));
        assert!(outgoing.has_room(4));
    }

    fn again(outgoing: &mut Outgoing, receive_maximum: u16) -> Vec<PacketId> {
        outgoing.begin_resend();
        std::iter::from_fn(|| outgoing.next_resend(receive_maximum))
            .map(|what| match what {
                Resend::Publish(id, _) | Resend::Release(id) => id,
            })
            .collect()
    }

    #[test]
    fn resending_keeps_to_a_receive_maximum_that_has_become_smaller() {
        let mut outgoing = Outgoing::default();
        let ids: Vec<_> = (0..4)
            .map(|_| outgoing.send(queued(QoS::AtLeastOnce)))
            .collect();
        assert_eq!(again(&mut outgoing, 2), [ids[0], ids[1]]);
        assert_eq!(outgoing.pending(), 2);
        assert!(!outgoing.has_room(9), "the old ones go first");
        assert!(outgoing.acknowledge(ids[1], QoS::AtLeastOnce).is_some());
        assert!(matches!(outgoing.next_resend(2), Some(Resend::Publish(id, _)) if id == ids[2]));
        assert!(outgoing.next_resend(2).is_none());
        assert!(outgoing.acknowledge(ids[0], QoS::AtLeastOnce).is_some());
        assert!(outgoing.acknowledge(ids[2], QoS::AtLeastOnce).is_some());
        assert!(matches!(outgoing.next_resend(2), Some(Resend::Publish(id, _)) if id == ids[3]));
        assert!(outgoing.has_room(2));
        assert_eq!(outgoing.pending(), 0);
    }

    #[test]
    fn waiting_messages_are_counted_in_and_out() {
        let mut outgoing = Outgoing::default();
        outgoing.wait(queued(QoS::AtLeastOnce));
        outgoing.wait(queued(QoS::ExactlyOnce));
        assert_eq!(
            (outgoing.waiting_count(), outgoing.waiting_bytes()),
            (2, 20)
        );
        assert!(
            outgoing
                .next_waiting()
                .is_some_and(|queued| queued.qos == QoS::AtLeastOnce)
        );
        outgoing.send(queued(QoS::AtLeastOnce));
        assert_eq!(outgoing.into_messages().count(), 2);
    }

    #[test]
    fn a_session_that_is_away_gives_back_what_another_member_may_get() {
        let mut outgoing = Outgoing::default();
        let own = outgoing.send(queued(QoS::AtLeastOnce));
        outgoing.send(dealt(QoS::AtLeastOnce, 5));
        let once = outgoing.send(dealt(QoS::ExactlyOnce, 5));
        outgoing.send(dealt(QoS::AtLeastOnce, 7));
        outgoing.wait(dealt(QoS::ExactlyOnce, 7));
        outgoing.wait(queued(QoS::AtLeastOnce));
        let taken: Vec<_> = outgoing
            .take_shared()
            .into_iter()
            .map(|(member, queued)| (member, queued.qos as u8))
            .collect();
        assert_eq!(taken, [(key(5), 1), (key(7), 1), (key(7), 2)]);
        assert_eq!(again(&mut outgoing, 9), [own, once]);
        assert_eq!(
            (outgoing.waiting_count(), outgoing.waiting_bytes()),
            (1, 10)
        );
        assert!(outgoing.has_room(3) && !outgoing.has_room(2));
        assert!(outgoing.take_shared().is_empty());
    }

    #[test]
    fn a_session_that_leaves_a_group_finishes_what_was_sent() {
        let mut outgoing = Outgoing::default();
        let sent = outgoing.send(dealt(QoS::AtLeastOnce, 5));
        outgoing.wait(dealt(QoS::AtLeastOnce, 5));
        outgoing.wait(dealt(QoS::AtLeastOnce, 7));
        assert_eq!(outgoing.leave_shared(key(5)).len(), 1);
        assert_eq!(outgoing.waiting_count(), 1);
        let settled = outgoing.acknowledge(sent, QoS::AtLeastOnce);
        assert!(settled.is_some_and(|queued| queued.member().is_none()));
    }
}
