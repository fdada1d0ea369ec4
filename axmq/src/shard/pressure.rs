//! Back-pressure: what is full makes those who fill it wait; TCP carries that to the devices
//! (DESIGN 8, DECISIONS 2 and 22).

use slabmem::Key;

use super::connection::flag;
use super::{Core, Timer};

/// A queue above the soft mark presses on its publishers while its subscriber makes progress
/// within this time.
const PROGRESS_MS: u64 = 200;
/// With fewer connections that are not read, their list is not looked through.
const PAUSED_MIN: usize = 64;

impl<S> Core<S> {
    /// A connection's out-queue is above the soft mark.
    pub(super) fn press(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.has(flag::STALLED) {
            return;
        }
        self.felt_pressure = true;
        if !connection.has(flag::PRESSED) {
            connection.set(flag::PRESSED);
            self.pressing += 1;
            connection.clear(flag::PROGRESS);
            self.watch(key);
        }
    }

    /// Looks whether a subscriber with a long queue takes anything; one that does not stops
    /// pressing, and its QoS 0 messages are dropped and counted.
    pub(super) fn check_progress(&mut self, key: Key) {
        self.watched.remove(&key);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.has(flag::PRESSED) {
            return;
        }
        if connection.has(flag::PROGRESS) {
            connection.clear(flag::PROGRESS);
            self.watch(key);
            return;
        }
        connection.set(flag::STALLED);
        self.stop_pressing(key);
    }

    /// Has a connection's progress looked at in a while, by one timer, however often its queue is
    /// short and long again.
    fn watch(&mut self, key: Key) {
        let timer = self
            .timers
            .insert(self.now_ms + PROGRESS_MS, Timer::Stall(key));
        if let Some(old) = self.watched.insert(key, timer) {
            self.timers.cancel(old);
        }
    }

    /// Something was written: the queue may be short enough again.
    pub(super) fn relieve(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.clear(flag::STALLED);
            self.found_room(key);
        }
    }

    /// A queue has become shorter: where it is short enough, what waited for that goes on.
    pub(super) fn found_room(&mut self, key: Key) {
        let low = self.shared.limits.out_queue_soft_bytes as usize / 2;
        let holds_publishers = self.holds_publishers();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.out.bytes() > low {
            return;
        }
        let session = connection.session;
        // A publisher waits for memory as well, where that is short.
        let is_held = connection.has(flag::PUBLISHER) && holds_publishers;
        if connection.has(flag::PAUSED) && !is_held {
            connection.clear(flag::PAUSED);
            self.ready.push(key);
        }
        self.stop_pressing(key);
        self.drain_later(session);
        self.unblock_replay(session);
    }

    pub(super) fn stop_pressing(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.has(flag::PRESSED) {
            return;
        }
        connection.clear(flag::PRESSED);
        self.pressing -= 1;
        if self.pressing == 0 {
            self.release_held();
            self.resume_paused();
        }
    }

    /// Gives back the credit that was kept back, where nothing is in the way any more. Credit for
    /// dealt messages waits for subscribers only, credit for forwarded ones for that too: so no
    /// two shards wait for each other. The store waits for nobody.
    pub(super) fn release_held(&mut self) {
        if self.pressing > 0 || self.journal.is_swamped() {
            return;
        }
        let deals_are_congested = self.deals_are_congested();
        for outbox in &mut self.outboxes {
            if outbox.held_dealt_cost > 0 {
                outbox.returned_dealt_cost += std::mem::take(&mut outbox.held_dealt_cost);
                outbox.has_answer = true;
            }
            if outbox.held_cost > 0 && !deals_are_congested {
                outbox.returned_cost += std::mem::take(&mut outbox.held_cost);
                outbox.has_answer = true;
            }
        }
    }

    /// Another shard has not taken what this one sent, up to the credit for it.
    pub(crate) fn is_congested(&self) -> bool {
        let limit = self.credit;
        self.outboxes.iter().any(|outbox| {
            outbox.unanswered + outbox.cost >= limit
                || outbox.dealt_unanswered + outbox.dealt_cost >= limit
        })
    }

    /// Stops reading from a connection until there is room again.
    pub(crate) fn pause(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.has(flag::PAUSED) {
            connection.set(flag::PAUSED);
            self.paused.push(key);
            self.tidy_paused();
        }
    }

    /// A connection whose own queue was in the way goes on without leaving the list: looks through
    /// it before such entries are more than the others could be.
    fn tidy_paused(&mut self) {
        if self.paused.len() <= 2 * self.connections.len() + PAUSED_MIN {
            return;
        }
        self.paused.sort_unstable_by_key(|key| key.to_bits());
        self.paused.dedup();
        let connections = &self.connections;
        self.paused.retain(|key| {
            connections
                .get(*key)
                .is_some_and(|connection| connection.has(flag::PAUSED))
        });
    }

    /// Reads again from a connection that was stopped, if only this was in the way.
    pub(super) fn resume_reading(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.has(flag::PAUSED)
        {
            connection.clear(flag::PAUSED);
            self.ready.push(key);
        }
    }

    /// Reads again from those that were stopped; who is still in the way is stopped again.
    pub(super) fn resume_paused(&mut self) {
        self.resume_local();
        let mut paused = std::mem::take(&mut self.paused);
        for key in paused.drain(..) {
            self.resume_reading(key);
        }
        self.paused = paused;
    }
}
