//! What a session still has to get at QoS 1 and 2: in flight, waiting for room, and on disk.
//!
//! Messages are numbered, those of a kept session as they are queued, and a packet id follows from
//! the number, so that what is on disk needs no record of the ids under which it was sent. The
//! order of sending is that of the numbers. An entry that is settled before its elders stays as a
//! tombstone until they go.

use std::collections::VecDeque;

use mqtt_codec::{PacketId, QoS};
use slabmem::Key;

use super::queued::Queued;
use super::tail::Tail;
use crate::memory::allocated;

/// Packet ids there are: 1 to 65,535 [MQTT-2.2.1-1].
pub(crate) const IDS: u64 = u16::MAX as u64;

/// The packet id under which the message with this number goes out.
pub(crate) fn packet_id(number: u64) -> PacketId {
    let index = u16::try_from(number % IDS).unwrap_or(0);
    PacketId::new(index + 1).unwrap_or(PacketId::MIN)
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
            Self::Published(queued) => queued.number(),
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
        if queued.take_number(self.next) {
            self.next += 1;
        }
    }

    /// Gives a message its number, before anything else becomes of it.
    pub(crate) fn number(&mut self, queued: &mut Queued) -> u64 {
        self.take_number(queued);
        queued.number()
    }

    /// Goes on to the number that all sessions have for a message that comes now, where this one
    /// can: as a step forward after which no two ids in flight can be the same. Never back, for
    /// what was sent may be known to the client under its id even where it is not in flight any
    /// more. For sessions that are not kept: the numbers of others are those of the store.
    ///
    /// Returns the number of the message.
    pub(crate) fn align(&mut self, number: u64) -> u64 {
        let oldest = self.in_flight.front().map_or(number, State::number);
        let is_back = planted!(NumberStepsBack) && self.in_flight.is_empty();
        if is_back || self.next < number && number - oldest < IDS {
            self.next = number;
        }
        self.next
    }

    /// Whether so many messages can be sent at once, under the number of the first.
    pub(crate) fn takes_run(&self, number: u64, len: u64, receive_maximum: u16) -> bool {
        let oldest = self.in_flight.front().map_or(number, State::number);
        self.next == number
            && self.pending() == 0
            && self.tail.is_none()
            && u64::from(self.live) + len <= u64::from(receive_maximum)
            && (number + len).saturating_sub(oldest) <= IDS
    }

    /// Puts a message in flight; returns its packet id.
    pub(crate) fn send(&mut self, mut queued: Queued) -> PacketId {
        debug_assert!(self.resend_at == self.in_flight.len(), "room was asked for");
        self.take_number(&mut queued);
        if planted!(PacketIdReusedEarly)
            && let Some(first) = self.in_flight.front()
        {
            queued.renumber(first.number() + u64::from(self.live));
        }
        let id = packet_id(queued.number());
        debug_assert!(
            planted!(PacketIdReusedEarly)
                || self
                    .in_flight
                    .back()
                    .is_none_or(|last| last.number() < queued.number()),
            "numbers go up"
        );
        self.in_flight.push_back(if queued.message.is_some() {
            State::Published(queued)
        } else {
            State::Released(queued.number())
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
        self.waiting.front().filter(|queued| !queued.is_held())?;
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
            if queued.number() > number {
                break;
            }
            queued.let_out();
        }
        if let Some(tail) = &mut self.tail {
            for queued in tail.followers() {
                if queued.number() <= number {
                    queued.let_out();
                }
            }
        }
    }

    /// What its tables take of memory; the messages themselves are the shard's.
    pub(super) fn heap_bytes(&self) -> u64 {
        allocated(self.in_flight.capacity() * size_of::<State>())
            + allocated(self.waiting.capacity() * size_of::<Queued>())
            + self.tail.as_deref().map_or(0, Tail::heap_bytes)
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
        let fits = |queued: &Queued| queued.is_stored() && !queued.is_held();
        while self.waiting.len() > most
            && self.waiting.back().is_some_and(fits)
            && let Some(queued) = self.waiting.pop_back()
        {
            self.waiting_bytes -= u64::from(queued.cost);
            spilled.push(queued);
        }
        if let Some(first) = spilled.last() {
            let mut tail = Tail::beginning_at(first.number());
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
            for own in tail.take_followers(queued.number()) {
                self.waiting.push_back(own);
            }
            tail.turn(queued.number(), queued.cost);
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
mod tests;
