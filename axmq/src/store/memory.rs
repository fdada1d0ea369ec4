//! An engine in memory that plays a disk with faults: for tests, and for the simulator.
//!
//! It keeps what is durable apart from what was only written. A crash keeps the durable part and as
//! much of the rest as the test says: nothing, a beginning of it, or a beginning after the disk has
//! reordered it (an engine with a checksummed journal ends at the first batch that is missing, so
//! reordered and torn writes come to the same for a reader: the batches up to some point).

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::{Engine, EngineError, Entries, Snapshot, Space, WriteBatch};
use super::server::Disk;

/// Records by space and key.
pub(crate) type Map = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// What the next calls come to.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Weather {
    #[default]
    Fine,
    /// Writes find no room.
    Full,
    /// Writes fail; half of a batch may have got to the disk, and is torn.
    WriteFails,
    /// Syncs fail, and what was to be synced is lost or not: nobody knows.
    SyncFails,
    /// Reads fail.
    ReadFails,
}

#[derive(Debug, Default)]
struct Platter {
    /// What a crash leaves.
    durable: Map,
    /// Written since, in order.
    written: Vec<WriteBatch>,
    /// Durable and written: what reads see.
    visible: Map,
    weather: Weather,
    writes: u64,
    syncs: u64,
}

/// The disk: outlives engines that are opened on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<Platter>>);

fn apply(map: &mut Map, batch: &WriteBatch) {
    for change in batch.changes() {
        let key = (change.space, change.key.to_vec());
        match change.value {
            Some(value) => map.insert(key, value.to_vec()),
            None => map.remove(&key),
        };
    }
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> MemoryEngine {
        MemoryEngine(self.clone())
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// The machine stops. Of the batches that were not synced the first `survivors` are there
    /// afterwards; returns how many there were.
    pub(crate) fn crash(&self, survivors: usize) -> usize {
        let mut platter = self.lock();
        let written = std::mem::take(&mut platter.written);
        for batch in written.iter().take(survivors) {
            apply(&mut platter.durable, batch);
        }
        platter.visible = platter.durable.clone();
        written.len()
    }

    /// Shows what each such crash would leave now, of none of the batches to all of them.
    pub(crate) fn after_each_crash<E>(
        &self,
        mut look: impl FnMut(&Map) -> Result<(), E>,
    ) -> Result<(), E> {
        let platter = self.lock();
        look(&platter.durable)?;
        if platter.written.is_empty() {
            return Ok(());
        }
        let mut left = platter.durable.clone();
        for batch in &platter.written {
            apply(&mut left, batch);
            look(&left)?;
        }
        Ok(())
    }

    /// Batches that a crash may lose.
    pub(crate) fn unsynced(&self) -> usize {
        self.lock().written.len()
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Entries of a space.
    pub(crate) fn len(&self, space: Space) -> usize {
        let platter = self.lock();
        platter.visible.keys().filter(|key| key.0 == space).count()
    }

    /// Flips one bit of a value: a corrupt record. `false` where there is no such key.
    pub(crate) fn corrupt(&self, space: Space, key: &[u8], bit: usize) -> bool {
        let mut platter = self.lock();
        let Platter {
            durable, visible, ..
        } = &mut *platter;
        let mut is_there = false;
        for map in [durable, visible] {
            if let Some(value) = map.get_mut(&(space, key.to_vec()))
                && let Some(byte) = value.get_mut(bit / 8)
            {
                *byte ^= 1 << (bit % 8);
                is_there = true;
            }
        }
        is_there
    }

    /// The keys of a space.
    pub(crate) fn keys(&self, space: Space) -> Vec<Vec<u8>> {
        let platter = self.lock();
        let keys = platter.visible.keys().filter(|key| key.0 == space);
        keys.map(|key| key.1.clone()).collect()
    }
}

/// Where such an engine is.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryPlace {
    pub(crate) disk: MemoryDisk,
    /// There is no more room, and the store finds out before it writes.
    pub(crate) is_full: Arc<AtomicBool>,
}

impl Disk for MemoryPlace {
    type Engine = MemoryEngine;

    fn open(&mut self) -> Result<MemoryEngine, EngineError> {
        Ok(self.disk.open())
    }

    fn is_full(&mut self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryEngine(MemoryDisk);

struct MemorySnapshot(Map);

impl Snapshot for MemorySnapshot {
    fn entries(&self, space: Space) -> Entries<'_> {
        let of_space = self.0.iter().filter(move |((other, _), _)| *other == space);
        Box::new(of_space.map(|((_, key), value)| Ok((key.clone(), value.clone()))))
    }
}

impl Engine for MemoryEngine {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut platter = self.0.lock();
        match platter.weather {
            Weather::Full => return Err(EngineError::Full),
            Weather::WriteFails => {
                return Err(EngineError::Io(io::Error::other("the disk says no")));
            }
            Weather::Fine | Weather::SyncFails | Weather::ReadFails => {}
        }
        apply(&mut platter.visible, batch);
        platter.written.push(batch.clone());
        platter.writes += 1;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        let mut platter = self.0.lock();
        if platter.weather == Weather::SyncFails {
            return Err(EngineError::Io(io::Error::other("the disk forgets")));
        }
        platter.syncs += 1;
        let written = std::mem::take(&mut platter.written);
        for batch in &written {
            apply(&mut platter.durable, batch);
        }
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let platter = self.0.lock();
        if platter.weather == Weather::ReadFails {
            return Err(EngineError::Io(io::Error::other("the disk is silent")));
        }
        Ok(platter.visible.get(&(space, key.to_vec())).cloned())
    }

    fn range<'a>(&'a self, space: Space, from: &[u8], to: Option<&[u8]>) -> Entries<'a> {
        let platter = self.0.lock();
        if platter.weather == Weather::ReadFails {
            let error = EngineError::Io(io::Error::other("the disk is silent"));
            return Box::new(std::iter::once(Err(error)));
        }
        let from = Bound::Included((space, from.to_vec()));
        let entries = platter.visible.range((from, Bound::Unbounded));
        let entries: Vec<_> = entries
            .take_while(|((other, key), _)| {
                *other == space && to.is_none_or(|to| key.as_slice() < to)
            })
            .map(|((_, key), value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(entries.into_iter())
    }

    fn last(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError> {
        let keys = self.0.keys(space);
        Ok(keys.into_iter().next_back())
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(MemorySnapshot(self.0.lock().visible.clone()))
    }

    fn bytes(&self) -> u64 {
        let platter = self.0.lock();
        let bytes = platter
            .visible
            .iter()
            .map(|(key, value)| key.1.len() + value.len());
        bytes.sum::<usize>() as u64
    }
}
