//! Memory is short: what a shard does about it, step by step (see [`Shortage`]). And what it gives
//! back when a storm is over.

use slabmem::Key;

use super::connection::{Connection, flag};
use super::{Core, Timer};
use crate::events::Cause;
use crate::memory::Shortage;

/// While publishers are not read, those that have messages of ours to acknowledge are read a little
/// this often: what they acknowledge is memory.
const BREATH_MS: u64 = 200;
/// A client with less in its queues is not disconnected for it: that would free next to nothing.
const CLIENT_BYTES_MIN: u64 = 64 * 1_024;
/// Where so many connections have ended, and as many as there still are, what they took is given
/// back to the system, so long after the last of them: they may come again at once.
pub(super) const GONE_MIN: usize = 1_024;
const CALM_MS: u64 = 500;
/// What lists of connections keep room for.
const KEYS_KEPT: usize = 1_024;
/// Clients that one step disconnects; another step follows soon.
const CLIENTS_A_STEP: usize = 64;

impl<S> Core<S> {
    /// Memory is so short now; told again while there is something to be shed.
    pub(crate) fn on_shortage(&mut self, shortage: Shortage) {
        let did_hold = self.holds_publishers();
        self.shortage = shortage;
        self.set_gate();
        if shortage >= Shortage::ShedMessages {
            self.shed_messages();
        } else {
            self.shed_to = usize::MAX;
        }
        if shortage >= Shortage::ShedClients {
            self.shed_clients();
        }
        if shortage > Shortage::None {
            self.drop_reserves();
        }
        if self.holds_publishers() {
            self.arm_breath();
        } else if did_hold {
            if let Some(timer) = self.breath.take() {
                self.timers.cancel(timer);
            }
            self.resume_paused();
        }
    }

    /// Gives back what is kept for connections to come.
    fn drop_reserves(&mut self) {
        self.partials = Vec::new();
        self.dirty.shrink_to(KEYS_KEPT);
        self.ready.shrink_to(KEYS_KEPT);
        self.connections.trim();
        self.sessions.trim();
        self.memberships.trim();
        self.blocks.trim(0);
        if let Some(pool) = self.blocks.pool_mut() {
            pool.trim();
        }
    }

    /// A connection has ended, and all else that had to be done about it and others is done too if
    /// `is_last`.
    pub(super) fn count_gone(&mut self, is_last: bool) {
        self.gone += 1;
        let is_much = self.gone >= GONE_MIN && self.gone >= self.connections.len();
        if is_last && is_much && !self.is_calming {
            self.is_calming = true;
            self.timers.insert(self.now_ms + CALM_MS, Timer::Calm);
        }
    }

    /// A storm is over: most of what it took is vacant.
    pub(super) fn calm_down(&mut self) {
        self.is_calming = false;
        self.gone = 0;
        self.drop_reserves();
        self.shared.memory.release(self.now_ms);
    }

    /// Whether memory is too short for what publishers send.
    pub(super) fn holds_publishers(&self) -> bool {
        self.shortage >= Shortage::NoPublishers
    }

    /// Stops reading from a publisher where another shard, or memory, has no room for more.
    pub(crate) fn hold_publisher(&mut self, key: Key) {
        let is_publisher = self
            .connections
            .get(key)
            .is_some_and(|connection| connection.has(flag::PUBLISHER));
        if !is_publisher {
            return;
        }
        if self.is_gated {
            self.hold_owing(key);
        }
        if self.is_congested() {
            self.pause(key);
        } else if self.holds_publishers() && !self.owes_acknowledgements(key) {
            self.hold(key);
        }
    }

    /// Stops reading from a publisher for want of memory.
    pub(super) fn hold(&mut self, key: Key) {
        let is_new = self
            .connections
            .get(key)
            .is_some_and(|connection| !connection.has(flag::PAUSED));
        self.counters.publishers_held += u64::from(is_new);
        self.pause(key);
    }

    fn owes_acknowledgements(&self, key: Key) -> bool {
        self.connections
            .get(key)
            .is_some_and(|connection| self.unsettled(connection.session) > 0)
    }

    fn unsettled(&self, session: Key) -> usize {
        let session = self.sessions.get(session);
        let flow = session.and_then(|session| session.flow.as_deref());
        flow.map_or(0, |flow| flow.outgoing.unsettled())
    }

    fn arm_breath(&mut self) {
        if self.breath.is_none() {
            let at_ms = self.now_ms + BREATH_MS;
            self.breath = Some(self.timers.insert(at_ms, Timer::Breath));
        }
    }

    /// Reads from those that owe acknowledgements, up to the next message that they publish.
    pub(super) fn breathe(&mut self) {
        self.breath = None;
        if !self.holds_publishers() {
            return;
        }
        let mut paused = std::mem::take(&mut self.paused);
        paused.retain(|key| {
            let owes = self.owes_acknowledgements(*key);
            if owes {
                self.resume_reading(*key);
            }
            !owes
        });
        self.paused = paused;
        self.arm_breath();
    }

    /// Drops QoS 0 messages, the oldest first, of every out-queue that is more than half as long as
    /// the longest. Told again, it goes down by half each time: the longest give first.
    fn shed_messages(&mut self) {
        self.end_run();
        let lens = self.connections.iter().map(|(_, it)| it.out.bytes());
        self.shed_to = self.shed_to.min(lens.max().unwrap_or(0)) / 2;
        let mut shortened = Vec::new();
        for (key, connection) in self.connections.iter_mut() {
            let dropped = shorten(connection, self.shed_to);
            if dropped > 0 {
                self.counters.dropped_memory_short += dropped;
                shortened.push(key);
            }
        }
        for key in shortened {
            self.found_room(key);
        }
    }

    /// Disconnects the clients whose queues are more than half as long as the longest. What a
    /// session keeps beyond its connection stays.
    fn shed_clients(&mut self) {
        self.end_run();
        let connected = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_connected());
        let mut weights: Vec<_> = connected
            .map(|(key, connection)| (self.weight(connection), key))
            .filter(|(weight, _)| *weight >= CLIENT_BYTES_MIN)
            .collect();
        weights.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let longest = weights.first().map_or(0, |(weight, _)| *weight);
        weights.retain(|(weight, _)| weight * 2 > longest);
        weights.truncate(CLIENTS_A_STEP);
        for (_, key) in weights {
            if let Some(connection) = self.connections.get_mut(key) {
                self.counters.dropped_memory_short += shorten(connection, 0);
                // QoS 1 and 2 stay with the session; here they would hold up the last word.
                connection.out.drop_unsent();
                self.counters.clients_shed += 1;
                self.close(key, Cause::MemoryShort);
            }
        }
    }

    /// Bytes that are free when this client has gone.
    fn weight(&self, connection: &Connection<S>) -> u64 {
        let session = self.sessions.get(connection.session);
        let flow = session
            .filter(|session| session.expiry_s == 0)
            .and_then(|session| session.flow.as_deref());
        let waiting = flow.map_or(0, |flow| flow.outgoing.waiting_bytes());
        connection.out.bytes() as u64 + waiting
    }
}

/// Drops QoS 0 messages until no more than `bytes` are queued, or none is left; how many.
fn shorten<S>(connection: &mut Connection<S>, bytes: usize) -> u64 {
    let mut dropped = 0;
    while connection.out.bytes() > bytes && connection.out.drop_oldest().is_some() {
        dropped += 1;
    }
    dropped
}
