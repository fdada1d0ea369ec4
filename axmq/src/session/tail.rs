//! The part of a session's queue that is on disk only.
//!
//! A session that is away keeps a few messages in memory; what comes after them is written and
//! forgotten, but for how many there are. When its client is back, they are read page by page.

use std::collections::VecDeque;

use super::queued::Queued;
use crate::memory::allocated;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The lowest number that may be there.
    first: u64,
    count: usize,
    bytes: u64,
    /// Messages below this number may have been sent before the broker was started anew.
    sent: u64,
    /// Messages below this number came before the broker was started anew.
    earlier: u64,
    /// What comes while there is a tail and is not on disk only: memberships' messages, which may
    /// have to be given back, and what is not kept. In the order of their numbers, in between those
    /// on disk.
    followers: VecDeque<Queued>,
    /// A page is being read, and this was the next number of the session when it was asked for.
    asked_at: Option<u64>,
}

impl Tail {
    pub(crate) fn beginning_at(number: u64) -> Self {
        Self {
            first: number,
            count: 0,
            bytes: 0,
            sent: 0,
            earlier: 0,
            followers: VecDeque::new(),
            asked_at: None,
        }
    }

    /// What the store has for a session when the broker starts.
    pub(crate) fn restored(first: u64, count: usize, bytes: u64, sent: u64, next: u64) -> Self {
        Self {
            count,
            bytes,
            sent,
            earlier: next,
            ..Self::beginning_at(first)
        }
    }

    /// What it takes of memory, itself in a box.
    pub(super) fn heap_bytes(&self) -> u64 {
        allocated(size_of::<Self>()) + allocated(self.followers.capacity() * size_of::<Queued>())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.followers.is_empty()
    }

    pub(super) fn add(&mut self, cost: u32) {
        self.count += 1;
        self.bytes += u64::from(cost);
    }

    pub(super) fn follow(&mut self, queued: Queued) {
        self.followers.push_back(queued);
    }

    pub(super) fn followers(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.followers.iter_mut()
    }

    /// Takes out those below a number.
    pub(super) fn take_followers(&mut self, number: u64) -> VecDeque<Queued> {
        let n = self
            .followers
            .partition_point(|queued| queued.number() < number);
        let rest = self.followers.split_off(n);
        std::mem::replace(&mut self.followers, rest)
    }

    /// A membership's message has been read: whether it is to be left out, since it is one of the
    /// followers, or was one and was given back.
    pub(crate) fn leaves_out(&mut self, number: u64) -> bool {
        let is_left_out = number >= self.earlier;
        if is_left_out {
            self.first = self.first.max(number + 1);
        }
        is_left_out
    }

    /// One message has been read.
    pub(super) fn turn(&mut self, number: u64, cost: u32) {
        self.first = self.first.max(number + 1);
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(cost));
    }

    /// A page has come. Whether nothing is left: all was read that was to be, or the store had no
    /// more, and nothing was added after it was asked.
    ///
    /// A tail that has nothing must go at once: what comes would be sent past it, and then read
    /// as well.
    pub(super) fn is_over(&mut self, is_last: bool, next: u64) -> bool {
        let asked_at = self.asked_at.take();
        self.count == 0 || is_last && asked_at == Some(next)
    }

    /// Where the next page begins, if it is to be asked for now: `next` is the session's next
    /// number.
    pub(crate) fn ask(&mut self, next: u64) -> Option<u64> {
        if self.asked_at.is_some() {
            return None;
        }
        self.asked_at = Some(next);
        Some(self.first)
    }

    pub(crate) fn may_be_known(&self, number: u64) -> bool {
        number < self.sent
    }

    pub(super) fn first(&self) -> u64 {
        let follower = self.followers.front().map_or(u64::MAX, Queued::number);
        self.first.max(self.sent).min(follower)
    }

    pub(super) fn len(&self) -> usize {
        self.count + self.followers.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
