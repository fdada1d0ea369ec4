//! What a session still has to get at QoS 1 and 2: in flight, waiting for room, and on disk.
//!
//! Messages are numbered, those of a kept session as they are queued, and a packet id follows from
//! the number, so that what is on disk needs no record of the ids under which it was sent. The
//! order of sending is that of
//! the numbers. An entry that is settled before its elders stays as a tombstone until they go.

use std::collections::VecDeque;

use mqtt_codec::{PacketId, QoS};
use slabmem::Key;

use super::tail::Tail;

/// Packet ids there are: 1 to 65,535 [MQTT-2.2.1-1].
pub(crate) const IDS: u64 = u16::MAX as u64;

/// The number of a message that has none yet.
const UNNUMBERED: u64 = u64::MAX;

/// The packet id under which the message with this number goes out.
fn packet_id(number: u64) -> PacketId {
    let index = u16::try_from(number % IDS).unwrap_or(0);
    PacketId::new(index + 1).unwrap_or(PacketId::MIN)
}

mod flag {
    pub(super) const RETAIN: u8 = 1;
    /// It may have been sent before the broker was started anew.
    pub(super) const MAY_BE_KNOWN: u8 = 1 << 1;
    /// It waits until it is durable.
    pub(super) const HELD: u8 = 1 << 2;
    /// The store has it.
    pub(super) const STORED: u8 = 1 << 3;
}

/// A message for one session; the message itself is in the shard's table (DECISIONS 24).
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// `None` where PUBREC has come before the broker was started anew: only PUBREL is to be sent.
    pub(crate) message: Option<Key>,
    extra: Option<Box<Extra>>,
    number: u64,
    pub(crate) cost: u32,
    pub(crate) qos: QoS,
    flags: u8,
}

/// What few messages have.
#[derive(Clone, Debug)]
struct Extra {
    identifiers: Box<[u32]>,
    member: Option<Key>,
}

const _: () = assert!(size_of::<Queued>() <= 32);

impl Queued {
    pub(crate) fn new(message: Key, cost: usize, qos: QoS, retain: bool) -> Self {
        Self {
            message: Some(message),
            extra: None,
            number: UNNUMBERED,
            cost: u32::try_from(cost).unwrap_or(u32::MAX),
            qos,
            flags: if retain { flag::RETAIN } else { 0 },
        }
    }

    /// A message of which only PUBREL is to be sent.
    pub(crate) fn released(number: u64) -> Self {
        Self {
            message: None,
            extra: None,
            number,
            cost: 0,
            qos: QoS::ExactlyOnce,
            flags: flag::STORED,
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

    /// It comes from the store, where it has this number.
    pub(crate) fn stored_as(mut self, number: u64, may_be_known: bool) -> Self {
        self.number = number;
        self.flags |= flag::STORED;
        if may_be_known {
            self.flags |= flag::MAY_BE_KNOWN;
        }
        self
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn retain(&self) -> bool {
        self.flags & flag::RETAIN != 0
    }

    pub(crate) fn may_be_known(&self) -> bool {
        self.flags & flag::MAY_BE_KNOWN != 0
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.flags & flag::STORED != 0
    }

    pub(crate) fn set_stored(&mut self) {
        self.flags |= flag::STORED;
    }

    pub(crate) fn set_held(&mut self) {
        self.flags |= flag::HELD;
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
    Released(u64),
    Settled(u64),
}

impl State {
    fn number(&self) -> u64 {
        match self {
            Self::Published(queued) => queued.number,
            Self::Released(number) | Self::Settled(number) => *number,
        }
    }
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
    /// In the order of their numbers.
    in_flight: VecDeque<State>,
    /// The number of the next message that comes.
    next: u64,
    /// Entries in flight that are not settled.
    live: u16,
    /// Of those, the ones that the present connection has got.
    sent: u16,
    /// Entries from here on wait to be sent again on it.
    resend_at: usize,
    /// Connections whose resending waits until what was said before them is durable.
    held_resends: u16,
    /// In the order of their numbers, all above those in flight.
    waiting: VecDeque<Queued>,
    waiting_bytes: u64,
    /// What waits behind them, on disk.
    tail: Option<Box<Tail>>,
}

impl Outgoing {
    /// That of a session whose messages are all on disk.
    pub(crate) fn restored(tail: Tail, next: u64) -> Self {
        Self {
            next,
            tail: (!tail.is_empty()).then(|| Box::new(tail)),
            ..Self::default()
        }
    }

    /// Whether another message may go out under the client's receive maximum [MQTT-3.3.4-9], and
    /// none that is older has to go first.
    pub(crate) fn has_room(&self, receive_maximum: u16) -> bool {
        let waits = self.waiting.front().map(Queued::number);
        let next = waits.unwrap_or(self.next).min(self.next);
        let oldest = self.in_flight.front().map_or(next, State::number);
        self.live < receive_maximum
            && self.resend_at == self.in_flight.len()
            // After a start of the broker numbers go on further up: only the id itself counts then.
            && (next.saturating_sub(oldest) < IDS || self.find(packet_id(next)).is_none())
    }

    fn take_number(&mut self, queued: &mut Queued) {
        if queued.number == UNNUMBERED {
            queued.number = self.next;
            self.next += 1;
        }
    }

    /// Gives a message its number, before anything else becomes of it.
    pub(crate) fn number(&mut self, queued: &mut Queued) -> u64 {
        self.take_number(queued);
        queued.number
    }

    /// Puts a message in flight; returns its packet id.
    pub(crate) fn send(&mut self, mut queued: Queued) -> PacketId {
        debug_assert!(self.resend_at == self.in_flight.len(), "room was asked for");
        self.take_number(&mut queued);
        if planted!(PacketIdReusedEarly)
            && let Some(first) = self.in_flight.front()
        {
            queued.number = first.number() + u64::from(self.live);
        }
        let id = packet_id(queued.number);
        debug_assert!(
            planted!(PacketIdReusedEarly)
                || self
                    .in_flight
                    .back()
                    .is_none_or(|last| last.number() < queued.number),
            "numbers go up"
        );
        self.in_flight.push_back(if queued.message.is_some() {
            State::Published(queued)
        } else {
            State::Released(queued.number)
        });
        self.resend_at = self.in_flight.len();
        self.live += 1;
        self.sent += 1;
        id
    }

    fn find(&self, packet_id: PacketId) -> Option<usize> {
        let first = self.in_flight.front()?.number();
        let last = self.in_flight.back()?.number();
        let index = u64::from(packet_id.get() - 1);
        let distance = (index + IDS - first % IDS) % IDS;
        let mut number = first + distance;
        // Where no number is missing in between, it is just there.
        let at = usize::try_from(distance).ok()?;
        if self.in_flight.get(at).map(State::number) == Some(number) {
            return Some(at);
        }
        while number <= last {
            let found = self.in_flight.binary_search_by_key(&number, State::number);
            if let Ok(at) = found {
                return Some(at);
            }
            number += IDS;
        }
        None
    }

    fn settle(&mut self, at: usize) {
        self.live -= 1;
        if at < self.resend_at {
            self.sent -= 1;
        }
        self.trim();
    }

    /// Lets go of what is settled and has no elder that is not.
    fn trim(&mut self) {
        while matches!(self.in_flight.front(), Some(State::Settled(_))) {
            self.in_flight.pop_front();
            self.resend_at = self.resend_at.saturating_sub(1);
        }
    }

    /// PUBACK, or a PUBREC that refuses: the message is settled. `None` for an id that waits for
    /// no such thing.
    pub(crate) fn acknowledge(&mut self, packet_id: PacketId, qos: QoS) -> Option<Queued> {
        let at = self.find(packet_id)?;
        let state = self.in_flight.get_mut(at)?;
        let settled = State::Settled(state.number());
        if !matches!(state, State::Published(queued) if queued.qos == qos) {
            return None;
        }
        let State::Published(queued) = std::mem::replace(state, settled) else {
            return None;
        };
        self.settle(at);
        Some(queued)
    }

    /// PUBREC: the message is the client's now, PUBREL goes out [MQTT-4.3.3-4]. `Ok(None)` where
    /// the PUBREL is only repeated.
    pub(crate) fn receive(&mut self, packet_id: PacketId) -> Result<Option<Queued>, UnknownId> {
        let at = self.find(packet_id).ok_or(UnknownId)?;
        let state = self.in_flight.get_mut(at).ok_or(UnknownId)?;
        let number = state.number();
        match state {
            State::Released(_) => Ok(None),
            State::Published(queued) if queued.qos == QoS::ExactlyOnce => {
                match std::mem::replace(state, State::Released(number)) {
                    State::Published(queued) => Ok(Some(queued)),
                    State::Released(_) | State::Settled(_) => Ok(None),
                }
            }
            State::Published(_) | State::Settled(_) => Err(UnknownId),
        }
    }

    /// PUBCOMP: the number of the message, if its id was waiting for it.
    pub(crate) fn complete(&mut self, packet_id: PacketId) -> Option<u64> {
        let at = self.find(packet_id)?;
        let state = self.in_flight.get_mut(at)?;
        let State::Released(number) = *state else {
            return None;
        };
        *state = State::Settled(number);
        self.settle(at);
        Some(number)
    }

    /// A new connection: everything in flight is sent again, in the order of its first sending
    /// [MQTT-4.6.0-1].
    pub(crate) fn begin_resend(&mut self) {
        self.resend_at = 0;
        self.sent = 0;
    }

    /// Nothing is sent again before [`let_resend`](Self::let_resend), however much else may go out:
    /// a PUBREL must not leave before its PUBREC is durable.
    pub(crate) fn hold_resend(&mut self) {
        self.held_resends = self.held_resends.saturating_add(1);
    }

    pub(crate) fn let_resend(&mut self) {
        self.held_resends = self.held_resends.saturating_sub(1);
    }

    /// The next packet to send again, within the receive maximum of the new connection, which may
    /// be smaller than that of the old one.
    pub(crate) fn next_resend(&mut self, receive_maximum: u16) -> Option<Resend> {
        while self.sent < receive_maximum && self.held_resends == 0 {
            let state = self.in_flight.get(self.resend_at)?;
            self.resend_at += 1;
            let id = packet_id(state.number());
            let resend = match state {
                State::Published(queued) => Resend::Publish(id, queued.clone()),
                State::Released(_) => Resend::Release(id),
                State::Settled(_) => continue,
            };
            self.sent += 1;
            return Some(resend);
        }
        None
    }

    /// Packets that wait for room: new ones, and old ones that are to be sent again.
    pub(crate) fn pending(&self) -> usize {
        self.waiting_count() + (self.in_flight.len() - self.resend_at)
    }

    pub(crate) fn wait(&mut self, queued: Queued) {
        self.waiting_bytes += u64::from(queued.cost);
        match &mut self.tail {
            // It must not pass what is on disk.
            Some(tail) => tail.follow(queued),
            None => self.waiting.push_back(queued),
        }
    }

    /// The next message that may go out for the first time.
    pub(crate) fn next_waiting(&mut self) -> Option<Queued> {
        self.waiting
            .front()
            .filter(|queued| queued.flags & flag::HELD == 0)?;
        let queued = self.waiting.pop_front()?;
        self.waiting_bytes -= u64::from(queued.cost);
        if self.waiting.is_empty() {
            // A burst must not leave its high-water mark behind in every session.
            self.waiting = VecDeque::new();
        }
        Some(queued)
    }

    /// The message with this number, and those before it, are durable.
    pub(crate) fn let_out(&mut self, number: u64) {
        for queued in &mut self.waiting {
            if queued.number > number {
                break;
            }
            queued.flags &= !flag::HELD;
        }
        if let Some(tail) = &mut self.tail {
            for queued in tail.followers() {
                if queued.number <= number {
                    queued.flags &= !flag::HELD;
                }
            }
        }
    }

    /// Messages that the client has not acknowledged: in flight, and waiting.
    pub(crate) fn unsettled(&self) -> usize {
        usize::from(self.live) + self.waiting_count()
    }

    /// Messages that wait, those on disk among them.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len() + self.tail.as_deref().map_or(0, Tail::len)
    }

    /// Messages that wait in memory.
    pub(crate) fn waiting_in_memory(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes + self.tail.as_deref().map_or(0, Tail::bytes)
    }

    pub(crate) fn tail(&mut self) -> Option<&mut Tail> {
        self.tail.as_deref_mut()
    }

    /// Where the next page of the tail begins, if one is to be read now.
    pub(crate) fn ask(&mut self) -> Option<u64> {
        let next = self.next;
        self.tail.as_deref_mut()?.ask(next)
    }

    pub(crate) fn has_tail(&self) -> bool {
        self.tail.is_some()
    }

    /// A message that the store has waits on disk, behind all others.
    pub(crate) fn wait_on_disk(&mut self, number: u64, cost: u32) {
        self.tail
            .get_or_insert_with(|| Box::new(Tail::beginning_at(number)))
            .add(cost);
    }

    /// Leaves no more than `most` messages waiting in memory, where the store has the others.
    /// Returns those that are on disk only from now on.
    pub(crate) fn spill(&mut self, most: usize) -> Vec<Queued> {
        let mut spilled = Vec::new();
        if self.tail.is_some() {
            return spilled;
        }
        let fits = |queued: &Queued| queued.is_stored() && queued.flags & flag::HELD == 0;
        while self.waiting.len() > most
            && self.waiting.back().is_some_and(fits)
            && let Some(queued) = self.waiting.pop_back()
        {
            self.waiting_bytes -= u64::from(queued.cost);
            spilled.push(queued);
        }
        if let Some(first) = spilled.last() {
            let mut tail = Tail::beginning_at(first.number);
            spilled.iter().for_each(|queued| tail.add(queued.cost));
            self.tail = Some(Box::new(tail));
        }
        spilled
    }

    /// A page of the tail has been read: it waits in memory now. `is_last` where the store has no
    /// more.
    pub(crate) fn turn_page(&mut self, page: Vec<Queued>, is_last: bool) {
        let Some(mut tail) = self.tail.take() else {
            return;
        };
        for queued in page {
            for own in tail.take_followers(queued.number) {
                self.waiting.push_back(own);
            }
            tail.turn(queued.number, queued.cost);
            self.waiting_bytes += u64::from(queued.cost);
            self.waiting.push_back(queued);
        }
        if tail.is_over(is_last, self.next) {
            self.waiting.extend(tail.take_followers(u64::MAX));
        } else {
            self.tail = Some(tail);
        }
    }

    /// Messages with a lower number may have been sent.
    pub(crate) fn sent_below(&self) -> u64 {
        let on_disk = self.tail.as_deref().map(Tail::first);
        let waiting = self.waiting.front().map(Queued::number);
        waiting.or(on_disk).unwrap_or(self.next)
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
            let settled = State::Settled(state.number());
            if let State::Published(queued) = std::mem::replace(state, settled) {
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
        let Some(tail) = &mut self.tail else { return };
        for queued in tail.take_followers(u64::MAX) {
            match queued.member().filter(|member| which(*member)) {
                Some(member) => {
                    self.waiting_bytes -= u64::from(queued.cost);
                    into.push((member, queued));
                }
                None => tail.follow(queued),
            }
        }
    }

    /// Takes everything, for a session that ends.
    pub(crate) fn into_messages(self) -> impl Iterator<Item = Queued> {
        let in_flight = self.in_flight.into_iter().filter_map(|state| match state {
            State::Published(queued) => Some(queued),
            State::Released(_) | State::Settled(_) => None,
        });
        let mut tail = self.tail;
        let followers = tail
            .as_deref_mut()
            .map_or_else(VecDeque::new, |tail| tail.take_followers(u64::MAX));
        in_flight.chain(self.waiting).chain(followers)
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
    fn a_message_keeps_what_goes_with_it() {
        assert!(queued(QoS::AtLeastOnce).with(&[], None).extra.is_none());
        let with = |identifiers: &[u32], member| {
            let queued = queued(QoS::AtLeastOnce).with(identifiers, member);
            (queued.identifiers().to_vec(), queued.member())
        };
        assert_eq!(with(&[], None), (vec![], None));
        assert_eq!(with(&[3, 5], None), (vec![3, 5], None));
        assert_eq!(with(&[], Some(key(3))), (vec![], Some(key(3))));
        assert_eq!(with(&[7], Some(key(3))), (vec![7], Some(key(3))));
    }

    #[test]
    fn the_bytes_that_wait_are_those_of_the_messages_that_wait() {
        let mut outgoing = Outgoing::default();
        for bytes in 1..=3 {
            outgoing.wait(queued(QoS::AtLeastOnce));
            assert_eq!(outgoing.waiting_bytes(), bytes * 10);
        }
        for left in [20, 10, 0] {
            assert!(outgoing.next_waiting().is_some());
            assert_eq!(outgoing.waiting_bytes(), left);
        }
    }

    #[test]
    fn what_is_taken_from_a_member_makes_room_on_its_connection() {
        let mut outgoing = Outgoing::default();
        outgoing.send(dealt(QoS::AtLeastOnce, 9));
        outgoing.send(queued(QoS::AtLeastOnce));
        outgoing.begin_resend();
        assert!(matches!(outgoing.next_resend(1), Some(Resend::Publish(..))));
        assert!(outgoing.next_resend(1).is_none(), "the window is full");
        assert_eq!(outgoing.take_shared().len(), 1);
        assert_eq!(outgoing.unsettled(), 1);
        let next = outgoing.next_resend(1);
        assert!(matches!(next, Some(Resend::Publish(next, _)) if next == id(2)));
        assert!(outgoing.next_resend(1).is_none());
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
    fn numbers_that_are_far_apart_share_the_ids_without_a_clash() {
        let mut outgoing = Outgoing::default();
        let numbered = |number| queued(QoS::AtLeastOnce).stored_as(number, false);
        for number in [0, 40_000, 80_000, 120_000] {
            assert!(outgoing.has_room(9));
            let index = u16::try_from(number % 65_535).expect("fits");
            assert_eq!(outgoing.send(numbered(number)), id(index + 1));
        }
        outgoing.next = 2 * 65_535;
        assert!(!outgoing.has_room(9), "id 1 is still in flight");
        let settled = |outgoing: &mut Outgoing, n: u16| {
            let found = outgoing.acknowledge(id(n), QoS::AtLeastOnce);
            found.map(|queued| queued.number())
        };
        assert_eq!(settled(&mut outgoing, 14_466), Some(80_000));
        assert_eq!(settled(&mut outgoing, 14_466), None);
        assert_eq!(settled(&mut outgoing, 1), Some(0));
        assert!(outgoing.has_room(9));
        assert_eq!(settled(&mut outgoing, 54_466), Some(120_000));
        assert_eq!(settled(&mut outgoing, 40_001), Some(40_000));
    }

    #[test]
    fn qos_2_goes_through_its_four_steps_and_repeats() {
        let mut outgoing = Outgoing::default();
        let one = outgoing.send(queued(QoS::ExactlyOnce));
        assert!(
            outgoing.acknowledge(one, QoS::AtLeastOnce).is_none(),
            "PUBACK is not for QoS 2"
        );
        assert!(outgoing.complete(one).is_none(), "PUBCOMP before PUBREC");
        assert!(matches!(outgoing.receive(one), Ok(Some(_))));
        assert!(matches!(outgoing.receive(one), Ok(None)));
        outgoing.begin_resend();
        assert!(matches!(outgoing.next_resend(9), Some(Resend::Release(again)) if again == one));
        assert!(outgoing.complete(one).is_some());
        assert!(outgoing.complete(one).is_none());
        assert_eq!(outgoing.receive(one).unwrap_err(), UnknownId);
        outgoing.begin_resend();
        assert!(outgoing.next_resend(9).is_none());
    }

    #[test]
    fn resending_waits_for_every_connection_that_holds_it() {
        let mut outgoing = Outgoing::default();
        let one = outgoing.send(queued(QoS::ExactlyOnce));
        assert!(outgoing.receive(one).is_ok());
        for _ in 0..2 {
            outgoing.begin_resend();
            outgoing.hold_resend();
        }
        outgoing.let_resend();
        assert!(outgoing.next_resend(9).is_none(), "the second one holds it");
        assert!(!outgoing.has_room(9), "nothing passes it");
        outgoing.let_resend();
        assert!(matches!(outgoing.next_resend(9), Some(Resend::Release(id)) if id == one));
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

    #[test]
    fn what_comes_after_the_last_page_was_asked_for_is_not_sent_and_read_again() {
        let mut outgoing = Outgoing::restored(Tail::restored(0, 1, 10, 0, 5), 5);
        let stored = |number| queued(QoS::AtLeastOnce).stored_as(number, false);
        assert_eq!(outgoing.ask(), Some(0));
        // On disk, and in the page already.
        let mut late = queued(QoS::AtLeastOnce);
        assert_eq!(outgoing.number(&mut late), 5);
        outgoing.wait_on_disk(5, late.cost);
        outgoing.turn_page(vec![stored(0), stored(5)], true);
        assert_eq!(outgoing.ask(), None, "all of it was read");
        let sent = std::iter::from_fn(|| {
            let next = outgoing.next_waiting()?;
            Some(outgoing.send(next))
        });
        assert_eq!(sent.collect::<Vec<_>>(), [id(1), id(6)]);
        assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(7));
        assert_eq!((outgoing.ask(), outgoing.waiting_count()), (None, 0));
    }

    #[test]
    fn a_member_s_message_waits_once_though_the_store_has_it_too() {
        let mut outgoing = Outgoing::restored(Tail::restored(0, 1, 10, 0, 5), 5);
        assert_eq!(outgoing.ask(), Some(0));
        let mut own = dealt(QoS::AtLeastOnce, 3);
        assert_eq!(outgoing.number(&mut own), 5);
        own.set_stored();
        outgoing.wait(own);
        let tail = outgoing.tail().expect("it waits behind it");
        assert!(tail.leaves_out(5), "it is in memory");
        assert!(!tail.leaves_out(4), "that one came before the start");
        outgoing.turn_page(vec![queued(QoS::AtLeastOnce).stored_as(0, false)], true);
        let waiting = std::iter::from_fn(|| outgoing.next_waiting());
        let waiting: Vec<_> = waiting.map(|queued| queued.member()).collect();
        assert_eq!(waiting, [None, Some(key(3))]);
        assert!(!outgoing.has_tail());
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
