//! What a shard holds in memory, in bytes by kind, for an operator who asks.
//!
//! Nothing is counted while messages go by. The tables say what they take when they are asked, and
//! what their entries own is looked at a page of slots at a time, as a list of clients is: a page
//! is what holds up the shard.

use super::answer::CHUNK_SLOTS;
use super::connection::Extras;
use super::{Connection, Core, Partial};
use crate::memory::{Held, allocated};
use crate::message::Will;
use crate::session::Session;

/// Slots of each table that one page looks at.
const SLOTS_A_PAGE: u32 = 2_048;
/// Frames in out-queues that one page looks at; the connection that goes beyond is its last.
const FRAMES_A_PAGE: usize = 16 * 1_024;

fn chunk_slots<T>(slab: &slabmem::Slab<T>) -> u32 {
    slab.stats().chunks.saturating_mul(CHUNK_SLOTS)
}

fn mapped<T>(slab: &slabmem::Slab<T>) -> u64 {
    slab.stats().mapped_bytes as u64
}

impl<S> Core<S> {
    /// The entries of all tables from this slot on, a page of them, and with the first page the
    /// tables themselves; and the slot of the next page.
    pub(super) fn holdings(&self, from: u32) -> (Held, Option<u32>) {
        let mut held = match from {
            0 => self.held_by_tables(),
            _ => Held::default(),
        };
        let end = self.slots_end();
        let mut stop = end.min(from.saturating_add(SLOTS_A_PAGE));
        let mut frames = 0;
        for slot in from..stop {
            let Some(connection) = self.connections.get_at(slot) else {
                continue;
            };
            held.connections += connection_bytes(connection);
            held.queues += allocated(connection.out.heap_bytes());
            frames += connection.out.messages();
            if frames > FRAMES_A_PAGE {
                stop = slot + 1;
                break;
            }
        }
        for slot in from..stop {
            if let Some(session) = self.sessions.get_at(slot) {
                held.sessions += session_bytes(session);
                held.subscriptions += session.filters.heap_bytes();
            }
            if let Some(kept) = self.messages.get_at(slot) {
                held.queues += kept.publication.heap_bytes();
            }
            if let Some(membership) = self.memberships.get_at(slot) {
                held.subscriptions += membership.heap_bytes();
            }
        }
        let subscriptions = &mut held.subscriptions;
        self.topics
            .for_each_allocation(from..stop, |bytes| *subscriptions += allocated(bytes));
        let places = from as usize..stop as usize;
        self.routes.for_each_in(places.clone(), |topic, route| {
            *subscriptions += allocated(topic.len()) + route.heap_bytes();
        });
        self.groups.add_entries(from..stop, &mut held);
        held.disconnects += self.disconnects.entry_bytes(places);
        (held, (stop < end).then_some(stop))
    }

    /// What the slots of all tables are below.
    fn slots_end(&self) -> u32 {
        let places = |count| u32::try_from(count).unwrap_or(u32::MAX);
        [
            chunk_slots(&self.connections),
            chunk_slots(&self.sessions),
            chunk_slots(&self.messages),
            chunk_slots(&self.memberships),
            self.topics.ids_end(),
            self.groups.slots_end(),
            places(self.routes.capacity()),
            places(self.disconnects.len()),
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
    }

    fn held_by_tables(&self) -> Held {
        let lists = [&self.dirty, &self.ready, &self.paused, &self.starved];
        let keys: usize = lists.iter().map(|list| list.capacity()).sum();
        let spare: u64 = self.partials.iter().map(|it| partial_bytes(it)).sum();
        let pool = self.blocks.pool().map(slabmem::Pool::stats);
        let mut held = Held {
            connections: mapped(&self.connections)
                + (keys * size_of::<slabmem::Key>()) as u64
                + spare,
            sessions: mapped(&self.sessions) + self.index.allocation_size() as u64,
            subscriptions: mapped(&self.memberships)
                + (self.topics.table_bytes() + self.routes.table_bytes()) as u64,
            queues: mapped(&self.messages) + self.blocks.heap_bytes() as u64,
            // What has never been a block has no pages.
            pool: pool.map_or(0, |stats| (stats.mapped_bytes - stats.uncut_bytes) as u64),
            pool_vacant: pool.map_or(0, |stats| stats.vacant_bytes as u64),
            timers: (self.keep_alive.stats().bytes + self.timers.stats().bytes) as u64,
            disconnects: self.disconnects.table_bytes(),
        };
        self.groups.add_tables(&mut held);
        held
    }
}

fn connection_bytes<S>(connection: &Connection<S>) -> u64 {
    let partial = connection.partial.as_deref().map_or(0, partial_bytes);
    partial + connection.extras.as_deref().map_or(0, extras_bytes)
}

fn partial_bytes(partial: &Partial) -> u64 {
    let bytes = match partial {
        Partial::Small(bytes) => bytes.capacity(),
        Partial::Large(block) => block.heap_share(),
    };
    allocated(size_of::<Partial>()) + allocated(bytes)
}

fn extras_bytes(extras: &Extras) -> u64 {
    let names = extras.aliases.iter().flatten();
    let aliases: u64 = names.map(|topic| allocated(topic.len())).sum();
    allocated(size_of::<Extras>())
        + allocated(extras.aliases.capacity() * size_of::<Option<Box<str>>>())
        + aliases
        + extras
            .aliases_out
            .as_deref()
            .map_or(0, |own| own.heap_bytes())
        + extras.layers.as_deref().map_or(0, |own| own.heap_bytes())
        + extras.grant.as_ref().map_or(0, |grant| {
            allocated(size_of_val(&**grant) + 16) / std::sync::Arc::strong_count(grant) as u64
        })
        + extras
            .meter
            .as_deref()
            .map_or(0, |own| allocated(size_of_val(own)))
        + extras
            .authentication
            .as_deref()
            .map_or(0, |own| allocated(size_of_val(own)))
}

fn session_bytes(session: &Session) -> u64 {
    let flow = session.flow.as_deref();
    let will = session.will.as_deref();
    allocated(session.client_id.len())
        + flow.map_or(0, |flow| allocated(size_of_val(flow)) + flow.heap_bytes())
        + will.map_or(0, |will| {
            allocated(size_of::<Will>()) + will.publication.heap_bytes()
        })
}
