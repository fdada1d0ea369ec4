//! The last disconnect of each client: when, why, by whom.
//!
//! A bounded table a shard. A client has one record, which its next disconnect replaces, so a
//! client that comes and goes all day does not push out the others. A new client takes the place of
//! one that has not disconnected again for the longest time, give or take a round (the clock
//! algorithm).

use std::borrow::Cow;
use std::ops::Range;

use hashbrown::HashTable;
use mqtt_codec::ReasonCode;
use pollio::PeerAddr;

use crate::events::Cause;
use crate::memory::allocated;

/// How a client's last connection ended.
#[derive(Debug)]
pub(crate) struct Disconnect<'a> {
    pub(crate) client_id: Cow<'a, str>,
    pub(crate) peer: PeerAddr,
    /// On the clock of the shards.
    pub(crate) at_ms: u64,
    pub(crate) cause: Cause,
    /// Disconnects since the client's record is there, this one among them.
    pub(crate) times: u64,
}

/// A record as it is kept: after a storm there are thousands, and most of what they would take is
/// the same. So an id of ordinary length is kept in place, and a long story in a box.
#[derive(Debug)]
struct Slot {
    client_id: ClientId,
    at_ms: u64,
    cause: Why,
    peer: PeerAddr,
    /// Half of the hash, which tells a place in the index as well as all of it.
    hash: u32,
    times: u32,
    /// Disconnected again since the hand went by: it is passed over once.
    is_recent: bool,
}

const _: () = assert!(size_of::<Slot>() <= 80);

impl Slot {
    fn record(&self) -> Disconnect<'_> {
        Disconnect {
            client_id: self.client_id.as_str(),
            peer: self.peer,
            at_ms: self.at_ms,
            cause: self.cause.to_cause(),
            times: u64::from(self.times),
        }
    }
}

/// Longer ids than this have a place of their own. MQTT 3.1 knew none above 23, and 5.0 lets
/// servers have that limit [MQTT-3.1.3-5].
const SHORT: usize = 22;

#[derive(Debug)]
enum ClientId {
    Short(u8, [u8; SHORT]),
    Long(Box<str>),
}

impl ClientId {
    fn new(id: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..id.len()), u8::try_from(id.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(id.as_bytes());
                Self::Short(len, bytes)
            }
            _ => Self::Long(id.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(id) => id.as_bytes(),
        }
    }

    fn as_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// What it takes beside its slot.
    fn own_bytes(&self) -> u64 {
        match self {
            Self::Short(..) => 0,
            Self::Long(id) => allocated(id.len()),
        }
    }
}

/// A cause in two words: how nearly all connections end, or whatever else it was.
#[derive(Debug)]
enum Why {
    PeerClosed,
    KeepAlive,
    ClientDisconnected(ReasonCode),
    Other(Box<Cause>),
}

impl Why {
    fn new(cause: Cause) -> Self {
        match cause {
            Cause::PeerClosed => Self::PeerClosed,
            Cause::KeepAlive => Self::KeepAlive,
            Cause::ClientDisconnected(reason) => Self::ClientDisconnected(reason),
            other => Self::Other(Box::new(other)),
        }
    }

    fn to_cause(&self) -> Cause {
        match self {
            Self::PeerClosed => Cause::PeerClosed,
            Self::KeepAlive => Cause::KeepAlive,
            Self::ClientDisconnected(reason) => Cause::ClientDisconnected(*reason),
            Self::Other(cause) => Cause::clone(cause),
        }
    }

    fn own_bytes(&self) -> u64 {
        match self {
            Self::Other(_) => allocated(size_of::<Cause>()),
            _ => 0,
        }
    }
}

/// The half of a hash that is kept.
fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The half of a hash that is kept, spread over a whole one as the index wants it: it looks at both
/// ends.
fn spread(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Disconnects {
    slots: Vec<Slot>,
    index: HashTable<u32>,
    hand: usize,
    slots_max: usize,
    /// Records that had to make room.
    replaced: u64,
}

impl Disconnects {
    /// A table of at most so many records; 0 keeps none.
    pub(crate) fn new(slots_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            index: HashTable::new(),
            hand: 0,
            slots_max,
            replaced: 0,
        }
    }

    /// Another limit. What is beyond it goes.
    pub(crate) fn set_max(&mut self, slots_max: usize) {
        self.slots_max = slots_max;
        if self.slots.len() > slots_max {
            self.slots.sort_by_key(|slot| std::cmp::Reverse(slot.at_ms));
            self.replaced += (self.slots.len() - slots_max) as u64;
            self.slots.truncate(slots_max);
            self.slots.shrink_to_fit();
            self.hand = 0;
            self.index.clear();
            let slots = &self.slots;
            for (at, slot) in (0..).zip(slots) {
                self.index.insert_unique(spread(slot.hash), at, |at: &u32| {
                    slots.get(*at as usize).map_or(0, |slot| spread(slot.hash))
                });
            }
        }
    }

    /// Takes note of a disconnect. `hash` is that of the client id. O(1), amortised.
    pub(crate) fn record(
        &mut self,
        hash: u64,
        client_id: &str,
        peer: PeerAddr,
        at_ms: u64,
        cause: Cause,
    ) {
        if self.slots_max == 0 {
            return;
        }
        let cause = Why::new(cause);
        if let Some(slot) = self
            .find(hash, client_id)
            .and_then(|at| self.slots.get_mut(at))
        {
            (slot.peer, slot.at_ms, slot.cause) = (peer, at_ms, cause);
            slot.times = slot.times.saturating_add(1);
            slot.is_recent = true;
            return;
        }
        let hash = half(hash);
        let slot = Slot {
            client_id: ClientId::new(client_id),
            at_ms,
            cause,
            peer,
            hash,
            times: 1,
            is_recent: false,
        };
        let at = self.place();
        match self.slots.get_mut(at) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        let slots = &self.slots;
        self.index
            .insert_unique(spread(hash), u32::try_from(at).unwrap_or(u32::MAX), |at| {
                slots.get(*at as usize).map_or(0, |slot| spread(slot.hash))
            });
    }

    /// Where the next record goes: behind the last one, or where the hand finds one to give up.
    fn place(&mut self) -> usize {
        if self.slots.len() < self.slots_max {
            return self.slots.len();
        }
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let Some(slot) = self.slots.get_mut(at) else {
                return at;
            };
            if std::mem::take(&mut slot.is_recent) {
                continue;
            }
            let hash = spread(slot.hash);
            if let Ok(entry) = self.index.find_entry(hash, |other| *other as usize == at) {
                entry.remove();
            }
            self.replaced += 1;
            return at;
        }
    }

    fn find(&self, hash: u64, client_id: &str) -> Option<usize> {
        let is_it = |at: &u32| {
            self.slots
                .get(*at as usize)
                .is_some_and(|slot| slot.client_id.bytes() == client_id.as_bytes())
        };
        self.index
            .find(spread(half(hash)), is_it)
            .map(|at| *at as usize)
    }

    /// The last disconnect of one client.
    pub(crate) fn of(&self, hash: u64, client_id: &str) -> Option<Disconnect<'_>> {
        let at = self.find(hash, client_id)?;
        self.slots.get(at).map(Slot::record)
    }

    /// The `most` latest ones, the latest first. O(n log n): for people who ask.
    pub(crate) fn latest(&self, most: usize) -> Vec<Disconnect<'_>> {
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.at_ms));
        slots.truncate(most);
        slots.into_iter().map(Slot::record).collect()
    }

    /// What the table takes of memory, without what records own.
    pub(crate) fn table_bytes(&self) -> u64 {
        let slots = self.slots.capacity() * size_of::<Slot>();
        (slots + self.index.allocation_size()) as u64
    }

    /// What the records in these places own.
    pub(crate) fn entry_bytes(&self, places: Range<usize>) -> u64 {
        let end = places.end.min(self.slots.len());
        let slots = self.slots.get(places.start..end).unwrap_or_default();
        let own = slots.iter();
        own.map(|slot| slot.client_id.own_bytes() + slot.cause.own_bytes())
            .sum()
    }

    /// Records there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Records that had to make room for those of other clients.
    pub(crate) fn replaced(&self) -> u64 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    struct Table(Disconnects, RandomState, u64);

    impl Table {
        fn new(slots_max: usize) -> Self {
            Self(Disconnects::new(slots_max), RandomState::new(), 0)
        }

        fn end(&mut self, client: &str) {
            let hash = self.1.hash_one(client);
            self.2 += 1;
            let cause = Cause::KeepAlive;
            self.0.record(hash, client, PeerAddr::UNIX, self.2, cause);
        }

        fn of(&self, client: &str) -> Option<Disconnect<'_>> {
            self.0.of(self.1.hash_one(client), client)
        }
    }

    #[test]
    fn one_that_flaps_pushes_out_nobody_and_stays_itself() {
        let mut table = Table::new(3);
        for client in ["flaps", "b", "c"] {
            table.end(client);
        }
        for _ in 0..10 {
            table.end("flaps");
        }
        assert_eq!(table.0.replaced(), 0);
        table.end("d");
        assert_eq!(table.0.replaced(), 1);
        assert_eq!(table.of("flaps").map(|record| record.times), Some(11));
        assert!(table.of("b").is_none(), "the oldest has made room");
        let latest = table.0.latest(2);
        let latest: Vec<_> = latest.iter().map(|r| &*r.client_id).collect();
        assert_eq!(latest, ["d", "flaps"]);
    }

    #[test]
    fn a_lower_limit_keeps_the_latest() {
        let mut table = Table::new(5);
        for client in ["a", "b", "c", "d", "a"] {
            table.end(client);
        }
        table.0.set_max(2);
        assert!(table.of("a").is_some() && table.of("d").is_some());
        assert!(table.of("b").is_none() && table.of("c").is_none());
        assert_eq!(table.0.replaced(), 2);
        table.end("e");
        assert!(table.of("e").is_some());
        assert_eq!(table.0.len(), 2);
    }

    #[test]
    fn an_id_and_a_cause_of_any_length_come_back_as_they_were() {
        let mut table = Table::new(100);
        let causes = [
            Cause::PeerClosed,
            Cause::KeepAlive,
            Cause::ClientDisconnected(ReasonCode::DisconnectWithWill),
            Cause::TakenOver(PeerAddr::UNIX),
        ];
        for len in [0, 1, SHORT - 2, SHORT - 1, SHORT, SHORT + 1, 300] {
            for (at, cause) in causes.iter().enumerate() {
                // Of more bytes than letters.
                let id = format!("{}é", "x".repeat(len));
                let hash = table.1.hash_one(&*id);
                table.0.record(hash, &id, PeerAddr::UNIX, 7, cause.clone());
                let record = table.of(&id).unwrap();
                assert_eq!(record.client_id, id);
                assert_eq!(record.times, at as u64 + 1);
                assert_eq!(format!("{:?}", record.cause), format!("{cause:?}"));
            }
            let own_bytes = table.0.entry_bytes(table.0.len() - 1..table.0.len());
            let of_id = if len + 2 > SHORT {
                allocated(len + 2)
            } else {
                0
            };
            assert_eq!(own_bytes, of_id + allocated(size_of::<Cause>()));
        }
    }

    #[test]
    fn no_records_are_kept_where_none_are_wanted() {
        let mut table = Table::new(0);
        table.end("a");
        assert!(table.of("a").is_none());
        assert_eq!(table.0.len(), 0);
    }

    proptest! {
        /// Against a list of everything that happened: what the table knows is the last of its
        /// client, the latest client is always known, and the limit holds.
        #[test]
        fn it_knows_last_disconnects_only(
            ends in prop::collection::vec(0..12_u8, 1..200),
            slots_max in 1..8_usize,
        ) {
            let mut table = Table::new(slots_max);
            for (at, client) in ends.iter().enumerate() {
                table.end(&client.to_string());
                prop_assert!(table.0.len() <= slots_max);
                prop_assert!(table.of(&client.to_string()).is_some());
                for known in table.0.latest(usize::MAX) {
                    let last = ends[..=at].iter().rposition(|c| c.to_string() == *known.client_id);
                    prop_assert_eq!(known.at_ms, last.map_or(0, |at| at as u64 + 1));
                }
                let distinct: std::collections::HashSet<_> = ends[..=at].iter().collect();
                if distinct.len() <= slots_max {
                    prop_assert_eq!(table.0.len(), distinct.len(), "nobody makes room for nobody");
                }
            }
        }
    }
}
