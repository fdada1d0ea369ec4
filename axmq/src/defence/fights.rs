//! Devices that have one client id and take the session from each other, over and over.
//!
//! The protocol lets the newcomer win, so two of them never come to rest, and each round costs two
//! connects, a will and whatever was under way. It is noticed, said once with both addresses, and
//! slowed: the newcomer waits for its CONNACK, and until then the other one has the session.

use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pollio::PeerAddr;

use super::buckets::Buckets;
use super::{Defence, lock};

/// Client ids whose take-overs are counted at a time.
const IDS_MAX: usize = 8_192;

/// A connection was replaced by one with the same client id.
#[derive(Clone, Debug)]
pub(crate) struct TakeOver {
    pub(crate) client_id: Box<str>,
    pub(crate) old: PeerAddr,
    pub(crate) new: PeerAddr,
}

#[derive(Debug)]
pub(super) struct Fights {
    counts: Mutex<Buckets>,
    /// The last moment of the last fight: later nobody needs to be looked up.
    until_ms: AtomicU64,
    pub(super) noticed: AtomicU64,
    pub(super) delayed: AtomicU64,
}

impl Default for Fights {
    fn default() -> Self {
        Self {
            counts: Mutex::new(Buckets::new(IDS_MAX)),
            until_ms: AtomicU64::new(0),
            noticed: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
        }
    }
}

impl Fights {
    /// What the table takes of memory.
    pub(super) fn heap_bytes(&self) -> u64 {
        lock(&self.counts).heap_bytes()
    }
}

impl Defence {
    /// Whether take-overs are of interest.
    pub(crate) fn watches_take_overs(&self) -> bool {
        let settings = self.settings();
        settings.enabled && settings.takeovers > 0
    }

    /// What one take-over counts, what is a fight, and what is never exceeded, in microseconds.
    fn fight_measures(&self) -> (u64, u64, u64) {
        let settings = self.settings();
        let window_us = u64::from(settings.takeover_s) * 1_000_000;
        let amount_us = window_us / u64::from(settings.takeovers.max(1));
        // It ends soon after the last take-over, however long it went on.
        (amount_us, window_us - amount_us, 2 * window_us)
    }

    /// Takes note of a take-over.
    pub(crate) fn take_over(&self, it: &TakeOver, now_ms: u64) {
        if !self.watches_take_overs() {
            return;
        }
        let (amount_us, fight_us, most_us) = self.fight_measures();
        let fights = &self.state.fights;
        let key = self.state.hasher.hash_one(&*it.client_id);
        let now_us = now_ms * 1_000;
        let mut counts = lock(&fights.counts);
        let before_us = counts.level(key, key, now_us);
        counts.pour_within(key, key, now_us, amount_us, most_us);
        let after_us = counts.level(key, key, now_us);
        drop(counts);
        if after_us <= fight_us {
            return;
        }
        let until_ms = now_ms + after_us / 1_000;
        fights.until_ms.fetch_max(until_ms, Ordering::Relaxed);
        if before_us > fight_us {
            return;
        }
        fights.noticed.fetch_add(1, Ordering::Relaxed);
        if lock(&self.state.log).allows(now_ms, "takeover.fight", &it.client_id) {
            let settings = self.settings();
            tracing::warn!(
                event = "takeover.fight",
                client = %it.client_id.escape_debug(),
                old = %it.old,
                new = %it.new,
                delay_ms = settings.takeover_delay_ms,
                "{} take-overs within {} s: are there two devices with this client id?",
                settings.takeovers,
                settings.takeover_s
            );
        }
    }

    /// How long a client has to wait for its CONNACK, where its id is fought for; counts it.
    pub(crate) fn connack_delay_ms(&self, client_id: &str, now_ms: u64) -> Option<u64> {
        let fights = &self.state.fights;
        if now_ms >= fights.until_ms.load(Ordering::Relaxed) || !self.watches_take_overs() {
            return None;
        }
        let delay_ms = self.settings().takeover_delay_ms;
        let (_, fight_us, _) = self.fight_measures();
        let key = self.state.hasher.hash_one(client_id);
        let is_fight = lock(&fights.counts).level(key, key, now_ms * 1_000) > fight_us;
        if !is_fight || delay_ms == 0 {
            return None;
        }
        fights.delayed.fetch_add(1, Ordering::Relaxed);
        Some(delay_ms.into())
    }
}
