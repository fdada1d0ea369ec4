//! What a shard has to say to the store, and what waits until that is on disk.
//!
//! Nothing here touches a disk: ops gather in a journal that leaves as a batch at the end of a
//! turn, and the store answers by message. A message that is settled before its batch has left is
//! never written at all.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mqtt_codec::{PacketId, PacketType};
use slabmem::Key;

use crate::message::AcceptTag;
use crate::store::op::{Health, Op, OpBatch, PlaceOp, QueueOp};

/// Numbers that a shard takes from the common series at a time.
const NUMBERS_A_TIME: u64 = 1_024;

/// A batch that is as large as this, or as a quarter of the credit, leaves without waiting for
/// more. It has to be more than what is in flight to busy sessions, or that is written for nothing.
const BATCH_BYTES: u64 = 4 * 1_024 * 1_024;

/// Something that may happen only when a batch is durable.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A publish is accepted, as far as this shard is concerned: its publisher's shard, and which.
    Accept(u16, AcceptTag),
    /// A connection may be written to: its CONNACK comes first.
    ConnAck(Key),
    /// The SUBACK or UNSUBACK that a connection has due.
    SubAck(Key),
    /// PUBREL or PUBCOMP.
    Ack(Key, PacketType, PacketId),
    /// A session with a new connection may be sent again what it has in flight.
    Resend(Key),
    /// A QoS 2 message may go out: its session, and its number there.
    LetOut(Key, u64),
    /// A member may get what is in this place of a group's queue.
    Deal(Key, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Journal {
    is_on: bool,
    ops: Vec<Op>,
    cost: u64,
    /// Where in `ops` a message was queued, by holder and number.
    queued: HashMap<(u64, u64), usize>,
    /// Of those, how many were taken back.
    void: usize,
    /// The number of the batch that is being filled, less one.
    last: u64,
    /// What was said before the last change of this number may be here no more.
    epoch: u64,
    /// Somebody waits for it.
    is_urgent: bool,
    /// Its time has come.
    is_due: bool,
    /// A timer for that is under way.
    pub(super) is_armed: bool,
    waiters: VecDeque<(u64, Waiter)>,
    /// Credit in use: bytes that are not on disk.
    unanswered: u64,
    credit: u64,
    /// The credit was used up, and those who have waited for that since have not been told that
    /// there is room again.
    was_full: bool,
    pub(super) health: Health,
    series: Arc<AtomicU64>,
    next_number: u64,
    numbers_end: u64,
    /// What the publish that is being handled has come to.
    felt: Felt,
}

/// What a publish has written.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Felt {
    /// Something.
    pub(super) writes: bool,
    /// Something that its acknowledgement has to wait for.
    pub(super) waits: bool,
}

impl Journal {
    pub(super) fn new(is_on: bool, credit: u64, series: Arc<AtomicU64>) -> Self {
        Self {
            is_on,
            credit,
            series,
            ..Self::default()
        }
    }

    /// Whether there is a store at all.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn set_credit(&mut self, credit: u64) {
        self.credit = credit;
        self.was_full |= self.is_full();
    }

    /// A number for a holder or a message, never given before.
    pub(super) fn take_number(&mut self) -> u64 {
        if self.next_number == self.numbers_end {
            self.next_number = self.series.fetch_add(NUMBERS_A_TIME, Ordering::Relaxed);
            self.numbers_end = self.next_number + NUMBERS_A_TIME;
        }
        self.next_number += 1;
        self.next_number - 1
    }

    pub(super) fn push(&mut self, op: Op) {
        self.cost += op.cost();
        self.ops.push(op);
        self.was_full |= self.is_full();
    }

    /// The number of the batch that is being filled.
    fn batch(&self) -> u64 {
        self.last + 1
    }

    /// While this is the same, a message that was said need not be said again. Never 0.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch + 1
    }

    pub(super) fn queue(&mut self, op: QueueOp) {
        self.queued.insert((op.holder, op.number), self.ops.len());
        self.push(Op::Queue(op));
    }

    /// A message is settled: where that it was queued has not been said yet, neither has to be.
    pub(super) fn dequeue(&mut self, place: PlaceOp) {
        if !self.take_back(place) {
            self.push(Op::Dequeue(place));
        }
    }

    /// PUBREC has come.
    pub(super) fn release(&mut self, mut place: PlaceOp) {
        if self.take_back(place) {
            place.message = 0;
        }
        self.push(Op::Release(place));
    }

    /// Where it was not said yet that something was queued there, it never is; whether that was so.
    pub(super) fn take_back(&mut self, place: PlaceOp) -> bool {
        if self.queued.is_empty() {
            return false;
        }
        let at = self.queued.remove(&(place.holder, place.number));
        match at.and_then(|at| self.ops.get_mut(at)) {
            Some(op) => {
                *op = Op::Void;
                self.void += 1;
                true
            }
            None => false,
        }
    }

    /// Something is to happen when what has been said so far is durable.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.is_urgent = true;
        self.waiters.push_back((self.batch(), waiter));
    }

    /// What has been said is not to wait for its time.
    pub(super) fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// That something was queued there is said whatever becomes of it: another op of this batch
    /// takes it from where it was before, and what it becomes may be in a batch of another shard.
    pub(super) fn pin(&mut self, holder: u64, number: u64) {
        self.queued.remove(&(holder, number));
        // Before that other shard, and before anything is looked through again.
        self.hurry();
    }

    /// A publish begins.
    pub(super) fn feel(&mut self) {
        self.felt = Felt::default();
    }

    pub(super) fn note(&mut self, waits: bool) {
        self.felt.writes = true;
        self.felt.waits |= waits;
    }

    pub(super) fn felt(&self) -> Felt {
        self.felt
    }

    /// The store has not taken what was said, up to the credit for it.
    pub(super) fn is_full(&self) -> bool {
        self.unanswered + self.cost >= self.credit
    }

    /// It has not taken twice that.
    pub(super) fn is_swamped(&self) -> bool {
        self.is_on && self.unanswered + self.cost >= self.credit.saturating_mul(2)
    }

    /// Whether a batch waits for its time, which a timer has to say.
    pub(super) fn wants_timer(&self) -> bool {
        !self.ops.is_empty() && !self.is_armed && !self.is_urgent
    }

    pub(super) fn set_due(&mut self) {
        self.is_due = true;
    }

    /// The batch of this turn, if it is to leave.
    pub(super) fn take_batch(&mut self, from: u16) -> Option<OpBatch> {
        let most = BATCH_BYTES.min(self.credit / 4);
        let is_large = self.cost >= most;
        if self.void > 0 && !self.is_urgent && (self.is_due || is_large) {
            self.compact();
        }
        // What is left of a large one waits on where it is less than half: so each look through it
        // is paid for by as much as it goes through.
        let leaves = self.is_urgent
            || (!self.ops.is_empty() && (self.is_due || (is_large && self.cost >= most / 2)));
        self.is_due = false;
        if !leaves {
            return None;
        }
        self.last += 1;
        self.epoch += 1;
        self.void = 0;
        self.queued.clear();
        let cost = std::mem::take(&mut self.cost);
        self.unanswered += cost;
        Some(OpBatch {
            from,
            number: self.last,
            cost,
            is_urgent: std::mem::take(&mut self.is_urgent),
            ops: std::mem::take(&mut self.ops),
        })
    }

    /// Lets go of what was taken back, and of messages that nothing here needs any more.
    fn compact(&mut self) {
        let needed: HashSet<u64> = self
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Queue(queue) => Some(queue.message),
                _ => None,
            })
            .collect();
        self.ops.retain(|op| match op {
            Op::Void => false,
            Op::Message(publication) => needed.contains(&publication.number()),
            _ => true,
        });
        self.queued.clear();
        self.cost = 0;
        for (at, op) in self.ops.iter().enumerate() {
            self.cost += op.cost();
            if let Op::Queue(queue) = op {
                self.queued.insert((queue.holder, queue.number), at);
            }
        }
        self.void = 0;
        self.epoch += 1;
    }

    /// The store has answered.
    pub(super) fn on_stored(&mut self, cost: u64, health: Health) {
        self.unanswered = self.unanswered.saturating_sub(cost);
        self.health = health;
    }

    /// Whether there is room again, once for each time that there was none. Answers of the store
    /// make room, and so do a batch that lets go of what was taken back, and a higher credit.
    pub(super) fn finds_room(&mut self) -> bool {
        let finds_room = self.was_full && !self.is_full();
        self.was_full &= !finds_room;
        finds_room
    }

    /// The next thing that may happen, now that batches up to this one are durable.
    pub(super) fn next_ready(&mut self, up_to: u64) -> Option<Waiter> {
        self.waiters.front().filter(|(batch, _)| *batch <= up_to)?;
        self.waiters.pop_front().map(|(_, waiter)| waiter)
    }
}

#[cfg(test)]
mod tests {
    use mqtt_codec::QoS;

    use super::*;

    fn journal(credit: u64) -> Journal {
        Journal::new(true, credit, Arc::new(AtomicU64::new(1)))
    }

    fn queue(holder: u64, number: u64) -> QueueOp {
        QueueOp {
            holder,
            number,
            message: 9,
            cost: 10,
            qos: QoS::ExactlyOnce,
            retain: false,
            is_staged: false,
            extra: None,
        }
    }

    fn place(holder: u64, number: u64) -> PlaceOp {
        PlaceOp {
            holder,
            number,
            message: 9,
        }
    }

    #[test]
    fn what_is_settled_before_its_batch_has_left_is_not_written() {
        let mut journal = journal(1 << 20);
        journal.queue(queue(1, 1));
        journal.queue(queue(1, 2));
        journal.queue(queue(2, 1));
        journal.dequeue(place(1, 1));
        journal.release(place(2, 1));
        journal.set_due();
        let batch = journal.take_batch(3).expect("it is due");
        assert_eq!((batch.from, batch.number, batch.is_urgent), (3, 1, false));
        assert!(matches!(
            &batch.ops[..],
            [
                Op::Queue(QueueOp {
                    holder: 1,
                    number: 2,
                    ..
                }),
                Op::Release(PlaceOp { message: 0, .. })
            ]
        ));
        journal.dequeue(place(1, 2));
        journal.set_due();
        let batch = journal.take_batch(3).expect("it is due");
        assert!(matches!(&batch.ops[..], [Op::Dequeue(_)]));
    }

    fn message(number: u64) -> Op {
        let parts = crate::publication::Parts {
            topic: "t",
            properties: std::iter::empty(),
            payload: &[0; 1_000],
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at_ms: 0,
        };
        let mut publication = crate::publication::Publication::from_parts(parts, None);
        publication.set_number(number);
        Op::Message(Box::new(publication))
    }

    #[test]
    fn what_is_settled_in_time_takes_no_room_and_makes_no_batch() {
        let mut journal = journal(1 << 30);
        let mut epoch = journal.epoch();
        let mut epochs = 1;
        for number in 0..10_000 {
            journal.push(message(number));
            let of = |holder| QueueOp {
                message: number,
                ..queue(holder, number)
            };
            journal.queue(of(1));
            journal.queue(of(2));
            assert!(journal.take_batch(0).is_none(), "there is little to say");
            // What it has said of a message may be gone.
            epochs += u32::from(std::mem::replace(&mut epoch, journal.epoch()) != journal.epoch());
            journal.dequeue(place(1, number));
            if number != 17 {
                journal.dequeue(place(2, number));
            }
        }
        assert!((3..10).contains(&epochs), "{epochs}");
        journal.set_due();
        let batch = journal.take_batch(0).expect("one is left");
        assert!(matches!(
            &batch.ops[..],
            [
                Op::Message(_),
                Op::Queue(QueueOp {
                    holder: 2,
                    message: 17,
                    ..
                })
            ]
        ));
        assert!(batch.cost < 2_000, "{}", batch.cost);
        journal.queue(queue(1, 1));
        journal.dequeue(place(1, 1));
        journal.set_due();
        assert!(journal.take_batch(0).is_none(), "nothing has happened");
    }

    #[test]
    fn a_batch_leaves_when_somebody_waits_or_its_time_has_come_or_it_is_large() {
        let mut journal = journal(1 << 20);
        journal.set_due();
        assert!(journal.take_batch(0).is_none(), "nothing was said");
        journal.push(Op::EndSession { holder: 1 });
        assert!(journal.wants_timer());
        assert!(journal.take_batch(0).is_none(), "not yet");
        let id = PacketId::MIN;
        journal.wait(Waiter::Ack(
            Key::from_bits(1 << 32).expect("a key"),
            PacketType::PubComp,
            id,
        ));
        let batch = journal.take_batch(0).expect("somebody waits");
        assert!(batch.is_urgent);
        assert!(journal.next_ready(0).is_none());
        assert!(matches!(journal.next_ready(1), Some(Waiter::Ack(..))));
        let mut number = 0;
        while journal.take_batch(0).is_none() {
            number += 1;
            journal.queue(queue(1, number));
        }
        assert!(number > 1_000);
    }

    #[test]
    fn credit_is_taken_and_comes_back() {
        let mut journal = journal(500);
        while !journal.is_full() {
            journal.push(Op::EndSession { holder: 1 });
        }
        journal.set_due();
        let batch = journal.take_batch(0).expect("it is due");
        assert!(journal.is_full() && !journal.finds_room(), "under way");
        journal.on_stored(batch.cost, Health::Well);
        assert!(!journal.is_full() && journal.finds_room());
        journal.on_stored(0, Health::Waits);
        assert!(!journal.finds_room(), "it was not full");
        assert_eq!(journal.health, Health::Waits);
    }

    #[test]
    fn room_is_found_however_it_is_made() {
        // By a batch that lets go of what is settled before it was said: nothing leaves, so the
        // store has nothing to answer.
        let mut journal = journal(100_000);
        let mut number = 0;
        while !journal.is_full() {
            number += 1;
            journal.queue(queue(1, number));
        }
        for number in 1..=number {
            let QueueOp {
                holder,
                number,
                message,
                ..
            } = queue(1, number);
            journal.dequeue(PlaceOp {
                holder,
                number,
                message,
            });
        }
        assert!(journal.is_full() && !journal.finds_room());
        journal.set_due();
        assert!(journal.take_batch(0).is_none());
        assert!(journal.finds_room() && !journal.finds_room());
        // By a higher credit, that is used up only because it was lowered before.
        journal.push(Op::EndSession { holder: 1 });
        journal.set_credit(1);
        assert!(journal.is_full() && !journal.finds_room());
        journal.set_credit(100_000);
        assert!(journal.finds_room());
    }

    #[test]
    fn numbers_are_those_of_nobody_else() {
        let series = Arc::new(AtomicU64::new(7));
        let mut one = Journal::new(true, 0, Arc::clone(&series));
        let mut two = Journal::new(true, 0, series);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3_000 {
            assert!(seen.insert(one.take_number()));
            assert!(seen.insert(two.take_number()));
        }
    }
}
