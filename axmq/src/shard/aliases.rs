//! Topic aliases that the broker sets for a client that takes them (MQTT 5.0 section 3.3.2.3.4): a
//! topic's name is sent once a connection, and then two bytes in its place.
//!
//! The first topics that come get the aliases and keep them. A replacement, such as of the least
//! recently used one, would send a name for each message as soon as a client sees more topics in
//! turn than it has aliases, and cost three bytes each time beside.

use std::hash::BuildHasher;
use std::num::NonZeroU16;

use hashbrown::HashTable;

use super::connection::Connection;
use super::images::{Images, Look, TooLarge};
use crate::keyed_hash::KeyedHash;
use crate::memory::allocated;
use crate::publication::View;

/// A shorter name costs no more than its alias.
const TOPIC_BYTES_MIN: usize = 4;

/// How a PUBLISH names its topic.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Naming {
    Whole,
    /// By its name, which the alias stands for from then on.
    Introduced(NonZeroU16),
    Alias(NonZeroU16),
}

/// The aliases of one connection.
#[derive(Debug)]
pub(crate) struct AliasesOut {
    /// Never above the client's topic alias maximum [MQTT-3.1.2-26].
    max: u16,
    /// Bytes of names that it may still hold.
    bytes_left: u32,
    by_topic: HashTable<(Box<str>, NonZeroU16)>,
}

impl AliasesOut {
    /// Room for so many aliases, for topics of so many bytes in all.
    pub(super) fn new(max: u16, bytes_max: u32) -> Self {
        Self {
            max,
            bytes_left: bytes_max,
            by_topic: HashTable::new(),
        }
    }

    /// What it takes of memory.
    pub(super) fn heap_bytes(&self) -> u64 {
        let names: u64 = self
            .by_topic
            .iter()
            .map(|(name, _)| allocated(name.len()))
            .sum();
        allocated(size_of::<Self>()) + allocated(self.by_topic.allocation_size()) + names
    }

    fn naming(&self, hash: u64, topic: &str) -> Naming {
        if let Some((_, alias)) = self.by_topic.find(hash, |(own, _)| **own == *topic) {
            return Naming::Alias(*alias);
        }
        let next = u16::try_from(self.by_topic.len() + 1).unwrap_or(u16::MAX);
        let has_room = topic.len() >= TOPIC_BYTES_MIN
            && self.by_topic.len() < usize::from(self.max)
            && topic.len() <= self.bytes_left as usize;
        match NonZeroU16::new(next) {
            Some(next) if has_room => Naming::Introduced(next),
            _ => Naming::Whole,
        }
    }

    /// The client has been told.
    fn learn(&mut self, hash: u64, topic: &str, alias: NonZeroU16, hasher: &KeyedHash) {
        let bytes = u32::try_from(topic.len()).unwrap_or(u32::MAX);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.by_topic
            .insert_unique(hash, (topic.into(), alias), |(own, _)| {
                hasher.hash_one(&**own)
            });
    }
}

impl<S> Connection<S> {
    pub(super) fn takes_aliases(&self) -> bool {
        self.extras
            .as_deref()
            .is_some_and(|extras| extras.aliases_out.is_some())
    }
}

/// Queues the frame that a client gets, by an alias where it has one; whether it has.
pub(super) fn push<S>(
    images: &mut Images,
    connection: &mut Connection<S>,
    view: &View<'_>,
    look: Look<'_>,
    hasher: &KeyedHash,
    now_ms: u64,
) -> Result<bool, TooLarge> {
    let bytes_max = connection.packet_bytes_max();
    let extras = connection.extras.as_deref_mut();
    let Some(aliases) = extras.and_then(|extras| extras.aliases_out.as_deref_mut()) else {
        let out = &mut connection.out;
        return images
            .push(out, view, look, bytes_max, now_ms)
            .map(|()| false);
    };
    let topic = view.topic();
    let hash = hasher.hash_one(topic);
    let naming = aliases.naming(hash, topic);
    let named = Look { naming, ..look };
    let out = &mut connection.out;
    match (images.push(out, view, named, bytes_max, now_ms), naming) {
        (Ok(()), Naming::Introduced(alias)) => {
            aliases.learn(hash, topic, alias, hasher);
            Ok(false)
        }
        // Three bytes less are the difference, maybe.
        (Err(TooLarge), Naming::Introduced(_)) => images
            .push(out, view, look, bytes_max, now_ms)
            .map(|()| false),
        (pushed, _) => pushed.map(|()| matches!(naming, Naming::Alias(_))),
    }
}
