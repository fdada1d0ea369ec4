//! The engine on disk: fjall, a log-structured merge tree in safe Rust. `docs/store-engine.md` says
//! why this one.

use std::path::{Path, PathBuf};

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::engine::{Engine, EngineError, Entries, Snapshot, Space, WriteBatch};
use super::server::Disk;

/// Memory for blocks that were read: queues of sessions come back once, in order, so little is
/// gained by more.
const CACHE_BYTES: u64 = 16 << 20;
/// What was written to a space since its last table; from then on it becomes a table.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Journals on disk: what has to be read again at start after a crash.
const JOURNAL_BYTES: u64 = 128 << 20;

/// See the module.
pub(crate) struct DiskEngine {
    database: Database,
    /// In the order of [`Space::ALL`]; `None` where nothing has ever been written to it.
    spaces: Vec<Option<Keyspace>>,
}

impl std::fmt::Debug for DiskEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskEngine")
    }
}

/// Where the engine is.
#[derive(Clone, Debug)]
pub(crate) struct DiskPlace {
    path: PathBuf,
    reserve_bytes: u64,
}

impl DiskPlace {
    pub(crate) fn new(path: &Path, reserve_bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            reserve_bytes,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn error(error: fjall::Error) -> EngineError {
    match error {
        fjall::Error::Io(error) => error.into(),
        fjall::Error::Storage(lsm_tree_error) => {
            let source = std::error::Error::source(&lsm_tree_error);
            match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
                Some(error) => std::io::Error::from(error.kind()).into(),
                None => EngineError::Corrupt(lsm_tree_error.to_string()),
            }
        }
        fjall::Error::Poisoned => EngineError::Io(std::io::Error::other("an earlier write failed")),
        other => EngineError::Corrupt(other.to_string()),
    }
}

/// Opens a space, and makes it where it is not there.
fn open(database: &Database, space: Space) -> Result<Keyspace, EngineError> {
    let options = || {
        let compression = if space.is_bulk() {
            CompressionType::Lz4
        } else {
            CompressionType::None
        };
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .manual_journal_persist(true)
            .data_block_compression_policy(CompressionPolicy::all(compression))
    };
    database.keyspace(space.name(), options).map_err(error)
}

impl Disk for DiskPlace {
    type Engine = DiskEngine;

    fn open(&mut self) -> Result<DiskEngine, EngineError> {
        let database = Database::builder(&self.path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            // One thread turns what was written into tables and merges them.
            .worker_threads(1)
            .open()
            .map_err(error)?;
        // Making one takes some eighteen `fsync`: a first start does not wait for those that it
        // has nothing for.
        let spaces = Space::ALL
            .iter()
            .map(|space| {
                database
                    .keyspace_exists(space.name())
                    .then(|| open(&database, *space))
                    .transpose()
            })
            .collect::<Result<_, _>>()?;
        Ok(DiskEngine { database, spaces })
    }

    fn is_full(&mut self) -> bool {
        // A system that does not say is taken to have room: the write itself finds out.
        rustix::fs::statvfs(&self.path)
            .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < self.reserve_bytes)
    }
}

impl DiskEngine {
    /// `None` where nothing has ever been written to it.
    fn space(&self, space: Space) -> Option<&Keyspace> {
        self.spaces.get(space as usize)?.as_ref()
    }

    /// Makes a space that something is to be written to, if it is not there.
    fn make(&mut self, space: Space) -> Result<(), EngineError> {
        if let Some(place @ None) = self.spaces.get_mut(space as usize) {
            *place = Some(open(&self.database, space)?);
        }
        Ok(())
    }

    /// Merges all tables, so that what was removed takes no room any more.
    pub(crate) fn compact(&mut self) -> Result<(), EngineError> {
        for space in self.spaces.iter().flatten() {
            space.rotate_memtable_and_wait().map_err(error)?;
            space.major_compact().map_err(error)?;
        }
        self.sync()
    }
}

struct DiskSnapshot {
    snapshot: fjall::Snapshot,
    /// As those of the engine.
    spaces: Vec<Option<Keyspace>>,
}

impl Snapshot for DiskSnapshot {
    fn entries(&self, space: Space) -> Entries<'_> {
        let Some(Some(space)) = self.spaces.get(space as usize) else {
            return Box::new(std::iter::empty());
        };
        Box::new(self.snapshot.iter(space).map(|guard| {
            let (key, value) = guard.into_inner().map_err(error)?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }
}

impl Engine for DiskEngine {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut write = self.database.batch();
        for change in batch.changes() {
            if change.value.is_some() {
                self.make(change.space)?;
            }
            // There is nothing to remove where there is no space.
            let Some(space) = self.space(change.space) else {
                continue;
            };
            match change.value {
                Some(value) => write.insert(space, change.key, value),
                None => write.remove(space, change.key),
            }
        }
        write.commit().map_err(error)
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        self.database.persist(PersistMode::SyncData).map_err(error)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(space) = self.space(space) else {
            return Ok(None);
        };
        let value = space.get(key).map_err(error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range<'a>(&'a self, space: Space, from: &[u8], to: Option<&[u8]>) -> Entries<'a> {
        let Some(space) = self.space(space) else {
            return Box::new(std::iter::empty());
        };
        let from = from.to_vec();
        let entries = match to {
            Some(to) => space.range(from..to.to_vec()),
            None => space.range(from..),
        };
        Box::new(entries.map(|guard| {
            let (key, value) = guard.into_inner().map_err(error)?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn last(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError> {
        let last = self.space(space).and_then(|space| space.last_key_value());
        let key = last.map(fjall::Guard::key).transpose().map_err(error)?;
        Ok(key.map(|key| key.to_vec()))
    }

    fn bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }

    fn memory_bytes(&self) -> u64 {
        // What is written and not yet in tables, and blocks of tables. Both are hidden in its
        // documentation, as not stable: where they go, so does this figure.
        self.database.write_buffer_size() + self.database.cache_size()
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(DiskSnapshot {
            snapshot: self.database.snapshot(),
            spaces: self.spaces.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spaces that are there, by what the engine's own files say.
    fn made(place: &mut DiskPlace) -> Vec<Space> {
        let engine = place.open().unwrap();
        let is_made = |space: &Space| engine.database.keyspace_exists(space.name());
        Space::ALL.into_iter().filter(is_made).collect()
    }

    #[test]
    fn a_space_is_made_by_the_first_thing_that_is_written_to_it() {
        let path = std::env::temp_dir().join(format!("axmq-spaces-{}", std::process::id()));
        // Of a run that ended early.
        let _ = std::fs::remove_dir_all(&path);
        let mut place = DiskPlace::new(&path, 0);
        assert_eq!(made(&mut place), []);

        let mut engine = place.open().unwrap();
        let mut batch = WriteBatch::default();
        batch.put(Space::Queue, b"1", b"one");
        batch.remove(Space::Message, b"1");
        engine.write(&batch).unwrap();
        engine.sync().unwrap();
        let of_queue = vec![(b"1".to_vec(), b"one".to_vec())];
        for space in Space::ALL {
            let expected = match space {
                Space::Queue => of_queue.as_slice(),
                _ => &[],
            };
            let entries: Result<Vec<_>, _> = engine.range(space, b"", None).collect();
            assert_eq!(entries.unwrap(), expected, "{space:?}");
            let snapshot: Result<Vec<_>, _> = engine.snapshot().entries(space).collect();
            assert_eq!(snapshot.unwrap(), expected, "{space:?}");
            let last = engine.last(space).unwrap();
            assert_eq!(last.as_ref(), expected.last().map(|(key, _)| key));
            let value = engine.get(space, b"1").unwrap();
            assert_eq!(value.as_ref(), expected.last().map(|(_, value)| value));
        }
        engine.compact().unwrap();
        drop(engine);
        assert_eq!(made(&mut place), [Space::Queue]);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
