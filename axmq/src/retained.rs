//! The retained messages of the whole process, in stripes (DECISIONS 14).
//!
//! Only a publish with the RETAIN flag and a new subscription come here, so the data path of
//! ordinary messages takes none of these locks. A publisher writes the store and then, after a
//! sequentially consistent fence, reads the interest mask; a subscriber sets its bit, fences, and
//! then reads the store: so one of the two sees the other, and no subscriber gets neither the live
//! message nor the stored one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use topicmap::{Cursor, Filter, Limits, Topic, TopicStore};

use crate::config::Durability;
use crate::memory::allocated;
use crate::publication::Publication;

const STRIPES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Retained {
    stripes: Box<[Mutex<TopicStore<Publication>>]>,
    messages: AtomicU64,
    bytes: AtomicU64,
    messages_max: AtomicU64,
    bytes_max: AtomicU64,
    /// Changes so far: which of two was last is decided under the lock of their stripe.
    version: AtomicU64,
}

/// Nodes that are looked at under a lock where memory is added up.
const NODES_A_LOOK: u32 = 1_024;

/// How far a replay has come.
#[derive(Debug, Default)]
pub(crate) struct Position {
    stripe: usize,
    cursor: Option<Cursor>,
}

/// A change of what is kept for a topic.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Change {
    /// That of a later change of the same topic is higher.
    pub(crate) version: u64,
    /// What was there before was to survive a restart.
    pub(crate) had_record: bool,
}

/// The store is at its limit; the message was not kept, and what was there is gone.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct RetainedFull(pub(crate) Change);

fn cost(topic: &str, publication: &Publication) -> u64 {
    (topic.len() + publication.cost()) as u64
}

fn lock(
    stripe: &Mutex<TopicStore<Publication>>,
) -> std::sync::MutexGuard<'_, TopicStore<Publication>> {
    // A panic while it was held leaves at worst one message in or out: the store itself is whole.
    stripe
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Retained {
    pub(crate) fn new(seed: u64, messages_max: u64, bytes_max: u64) -> Self {
        let stripes = (0..STRIPES)
            .map(|_| Mutex::new(TopicStore::new(seed)))
            .collect();
        Self {
            stripes,
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            messages_max: AtomicU64::new(messages_max),
            bytes_max: AtomicU64::new(bytes_max),
            version: AtomicU64::new(0),
        }
    }

    /// Other limits, for what is stored from now on.
    pub(crate) fn set_limits(&self, messages_max: u64, bytes_max: u64) {
        self.messages_max.store(messages_max, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn stripe_of(topic_hash: u64) -> usize {
        // The low bits are the ones that the store's own table uses.
        (topic_hash >> 60) as usize % STRIPES
    }

    /// Keeps the message, or removes the one kept where its payload is empty [MQTT-3.3.1-5, -6].
    /// Ends with the fence that the caller's look at the interest mask needs.
    ///
    /// # Errors
    ///
    /// At the limit of messages or bytes, and only where the topic is not replaced by a message
    /// that is no larger.
    pub(crate) fn store(
        &self,
        topic: &Topic<'_>,
        publication: Publication,
    ) -> Result<Change, RetainedFull> {
        let mut change = Change {
            version: 0,
            had_record: false,
        };
        let Some(stripe) = self.stripes.get(Self::stripe_of(topic.hash())) else {
            return Ok(change);
        };
        let mut store = lock(stripe);
        change.version = self.version.fetch_add(1, Ordering::Relaxed);
        let (is_full, old) = if publication.payload_is_empty() {
            (false, store.remove(topic))
        } else {
            self.replace(&mut store, topic, publication)
        };
        if let Some(old) = &old {
            self.uncount(cost(topic.as_str(), old));
            change.had_record = old.view().durability() != Durability::None;
        }
        drop(store);
        fence(Ordering::SeqCst);
        if is_full {
            return Err(RetainedFull(change));
        }
        Ok(change)
    }

    /// Whether there was no room for it, and what was there before.
    fn replace(
        &self,
        store: &mut TopicStore<Publication>,
        topic: &Topic<'_>,
        publication: Publication,
    ) -> (bool, Option<Publication>) {
        let new = cost(topic.as_str(), &publication);
        let old = store.get(topic).map(|old| cost(topic.as_str(), old));
        let messages = self.messages.load(Ordering::Relaxed) + u64::from(old.is_none());
        let bytes = self.bytes.load(Ordering::Relaxed) + new - old.unwrap_or(0).min(new);
        if messages > self.messages_max.load(Ordering::Relaxed)
            || bytes > self.bytes_max.load(Ordering::Relaxed)
        {
            // The old one would be stale: a late subscriber had better get none (and the drop is
            // counted) than yesterday's value as today's.
            if planted!(RetainedStale) {
                return (true, None);
            }
            return (true, store.remove(topic));
        }
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(new, Ordering::Relaxed);
        (false, store.insert(topic, publication))
    }

    fn uncount(&self, cost: u64) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(cost, Ordering::Relaxed);
    }

    /// Visits messages that match, looking at no more than about `budget` nodes; `false` when
    /// there is more. What has expired is removed on the way. The caller has added its
    /// subscription before: this begins with the fence.
    pub(crate) fn scan(
        &self,
        filter: &Filter<'_>,
        position: &mut Position,
        budget: usize,
        now_ms: u64,
        limits: &Limits,
        mut visit: impl FnMut(&Publication),
    ) -> bool {
        fence(Ordering::SeqCst);
        if filter.is_exact() && position.stripe == 0 && position.cursor.is_none() {
            // An exact filter hashes like the topic of the same text.
            position.stripe = Self::stripe_of(filter.hash());
        }
        let mut left = budget;
        let mut expired: Vec<Box<str>> = Vec::new();
        while let Some(stripe) = self.stripes.get(position.stripe) {
            if left == 0 {
                return false;
            }
            let from = position.cursor.take().unwrap_or_default();
            let mut seen = 0;
            let mut store = lock(stripe);
            let next = store.scan(filter, from, left, |topic, publication| {
                seen += 1;
                if publication.view().is_expired(now_ms) {
                    expired.push(topic.into());
                } else {
                    visit(publication);
                }
            });
            for topic in expired.drain(..) {
                self.remove(&mut store, &topic, limits);
            }
            drop(store);
            if let Some(cursor) = next {
                position.cursor = Some(cursor);
                return false;
            }
            left = left.saturating_sub(seen.max(1));
            position.stripe = if filter.is_exact() {
                STRIPES
            } else {
                position.stripe + 1
            };
        }
        true
    }

    fn remove(&self, store: &mut TopicStore<Publication>, topic: &str, limits: &Limits) {
        // It was stored under this name, so it is legal.
        if let Ok(topic) = Topic::parse(topic, limits)
            && let Some(old) = store.remove(&topic)
        {
            self.uncount(cost(topic.as_str(), &old));
        }
    }

    /// What it takes of memory. Goes through all of it, a few nodes at a time.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let mut bytes = 0;
        for stripe in &self.stripes {
            bytes += lock(stripe).heap_bytes() as u64;
            let (mut from, mut end) = (0, 1);
            while from < end {
                let (mut texts, mut values) = (0, 0);
                let store = lock(stripe);
                end = store.nodes_end();
                let to = end.min(from.saturating_add(NODES_A_LOOK));
                store.for_each_allocation(
                    from..to,
                    |bytes| texts += allocated(bytes),
                    |publication| values += publication.heap_bytes(),
                );
                drop(store);
                bytes += texts + values;
                from = to;
            }
        }
        bytes
    }

    pub(crate) fn len(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Bytes they are charged with, topics included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
