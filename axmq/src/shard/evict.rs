//! Closing what banned addresses have open.
//!
//! To find it, all connections have to be looked through, and who is banned is up to strangers. So
//! that is background work, done for all who have been banned in the meantime at once, and begun at
//! most once a second.

use std::collections::HashSet;

use pollio::PeerAddr;
use slabmem::Key;

use super::{Core, Timer};
use crate::defence::{Banned, Host};
use crate::events::Cause;
use crate::network::Network;

/// From the begin of one look through all connections to that of the next.
const EVERY_MS: u64 = 1_000;
/// Slots that one step looks at, however few of them hold a connection: a chunk of the slab.
const SLOTS_A_STEP: u32 = 64;

#[derive(Debug, Default)]
struct Wanted {
    hosts: HashSet<Host>,
    networks: Vec<Network>,
}

impl Wanted {
    fn has(&self, peer: &PeerAddr) -> bool {
        peer.ip().is_some_and(|ip| {
            self.hosts.contains(&Host::from(ip))
                || self.networks.iter().any(|network| network.contains(ip))
        })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// For the next look.
    next: Option<Box<Wanted>>,
    /// Being looked for, and the slot that comes next.
    now: Option<(Box<Wanted>, u32)>,
    begun_ms: u64,
}

impl<S> Core<S> {
    /// Somebody was banned.
    pub(crate) fn on_banned(&mut self, who: Banned) {
        if !self.shared.defence.settings().close_connections {
            return;
        }
        let next = &mut self.eviction.next;
        let is_first = next.is_none();
        match who {
            // That client id can only be one connection, and one of this shard's or of none.
            Banned::Client(client) => {
                let session = self.find(&client.id).and_then(|key| self.sessions.get(key));
                let key = session.and_then(|session| session.connection);
                let is_there = key
                    .and_then(|key| self.connections.get(key))
                    .is_some_and(|it| Host::of(&it.peer) == Some(client.host));
                if let (Some(key), true) = (key, is_there) {
                    self.close(key, Cause::Banned);
                }
                return;
            }
            Banned::Host(host) => {
                next.get_or_insert_default().hosts.insert(host);
            }
            Banned::Network(network) => next.get_or_insert_default().networks.push(network),
        }
        if is_first {
            let at_ms = self.now_ms.max(self.eviction.begun_ms + EVERY_MS);
            self.timers.insert(at_ms, Timer::Evict);
        }
    }

    /// It is time to look through the connections.
    pub(super) fn begin_eviction(&mut self) {
        if self.eviction.now.is_some() {
            // The last one still goes on.
            self.timers.insert(self.now_ms + EVERY_MS, Timer::Evict);
        } else if let Some(wanted) = self.eviction.next.take() {
            self.eviction.now = Some((wanted, 0));
            self.eviction.begun_ms = self.now_ms;
        }
    }

    pub(super) fn has_eviction(&self) -> bool {
        self.eviction.now.is_some()
    }

    /// Looks at a few connections; `false` where nobody is looked for.
    pub(super) fn evict_one(&mut self) -> bool {
        let Some((wanted, from)) = self.eviction.now.take() else {
            return false;
        };
        let slots = self.connections.stats().chunks * SLOTS_A_STEP;
        let to = from + SLOTS_A_STEP;
        for slot in from..to.min(slots) {
            let is_wanted = |key: &Key| {
                self.connections.get(*key).is_some_and(|it| {
                    it.is_connected()
                        && wanted.has(&it.peer)
                        && !it
                            .peer
                            .ip()
                            .is_some_and(|ip| self.shared.defence.is_exempt(ip))
                })
            };
            if let Some(key) = self.connections.key_at(slot).filter(is_wanted) {
                self.close(key, Cause::Banned);
            }
        }
        self.eviction.now = (to < slots).then_some((wanted, to));
        true
    }
}
