//! What waits in a shared subscription until a member is ready. A queue without a protocol: `deal`
//! says who gets what is first, and `entrust` what the store knows of it.

use std::collections::VecDeque;

use crate::group::{QueuePlace, Returned};
use crate::memory::allocated;
use crate::publication::Publication;

/// A QoS 1 or 2 message for which no member was ready.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) publication: Publication,
    pub(super) place: QueuePlace,
    /// Nobody gets it before it is durable, nor what is behind it.
    pub(super) is_held: bool,
}

/// What a buffer takes beside its bytes: its header, and half a step of the allocator with what
/// that needs itself.
const BUFFER_OVERHEAD: u64 = 24 + 16;

/// How much one group may keep.
#[derive(Copy, Clone, Debug)]
pub(super) struct QueueLimits {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct GroupQueue {
    /// Under which the store keeps it; 0 where it does not.
    pub(super) holder: u64,
    next: u64,
    waiting: VecDeque<Waiting>,
    bytes: u64,
}

impl GroupQueue {
    /// A place behind all others.
    pub(super) fn take_place(&mut self) -> QueuePlace {
        self.next += 1;
        QueuePlace {
            holder: self.holder,
            number: self.next - 1,
            is_stored: false,
        }
    }

    /// What it takes of memory, about: its messages are taken to have their buffers alone. O(1).
    pub(super) fn heap_bytes(&self) -> u64 {
        let messages = self.waiting.len() as u64;
        let charged_beside = messages * size_of::<Publication>() as u64;
        allocated(self.waiting.capacity() * size_of::<Waiting>())
            + self.bytes.saturating_sub(charged_beside)
            + messages * BUFFER_OVERHEAD
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        let sum: usize = self.costs().sum();
        assert_eq!(sum as u64, self.bytes, "bytes in a group are counted");
        self.bytes
    }

    #[cfg(test)]
    fn costs(&self) -> impl Iterator<Item = usize> {
        let publications = self.waiting.iter().map(|waiting| &waiting.publication);
        publications.map(Publication::cost)
    }

    /// Keeps a message behind all others; `false` where there is no room.
    pub(super) fn push(&mut self, waiting: Waiting, limits: QueueLimits) -> bool {
        let bytes = self.bytes + waiting.publication.cost() as u64;
        let has_room = self.waiting.len() < limits.messages && bytes <= limits.bytes;
        if has_room {
            self.bytes = bytes;
            self.waiting.push_back(waiting);
        }
        has_room
    }

    /// Puts messages that were given back before all others, in their order. Returns the newest
    /// that had to go for them.
    pub(super) fn put_back(
        &mut self,
        messages: Vec<Returned>,
        limits: QueueLimits,
    ) -> Vec<Waiting> {
        for returned in messages.into_iter().rev() {
            let Returned {
                publication, place, ..
            } = returned;
            self.bytes += publication.cost() as u64;
            self.waiting.push_front(Waiting {
                publication,
                place,
                is_held: false,
            });
        }
        let mut dropped = Vec::new();
        while (self.waiting.len() > limits.messages || self.bytes > limits.bytes)
            && let Some(waiting) = self.waiting.pop_back()
        {
            self.bytes -= waiting.publication.cost() as u64;
            dropped.push(waiting);
        }
        dropped
    }

    /// Goes on with what an earlier run of the broker has left: places from `next` on are free.
    pub(super) fn restore(
        &mut self,
        holder: u64,
        next: u64,
        messages: Vec<Returned>,
        limits: QueueLimits,
    ) -> Vec<Waiting> {
        self.holder = holder;
        self.next = self.next.max(next);
        self.put_back(messages, limits)
    }

    /// The oldest message, where it may go.
    pub(super) fn first(&self) -> Option<&Waiting> {
        self.waiting.front().filter(|first| !first.is_held)
    }

    pub(super) fn take_first(&mut self) -> Option<Waiting> {
        self.first()?;
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.publication.cost() as u64;
        if self.waiting.is_empty() {
            // A burst must not leave its high-water mark behind in every group.
            self.waiting = VecDeque::new();
        }
        Some(waiting)
    }

    /// What is in this place, or in one before it, is durable.
    pub(super) fn let_out(&mut self, number: u64) {
        let held = self.waiting.iter_mut().filter(|waiting| waiting.is_held);
        for waiting in held.take_while(|waiting| waiting.place.number <= number) {
            waiting.is_held = false;
        }
    }
}
