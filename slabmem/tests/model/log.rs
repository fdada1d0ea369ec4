//! Operations on a log store, run against a hash map. Used by the property test and by the fuzz
//! target.

use std::collections::HashMap;

use slabmem::{Key, LogError, LogStore, RECORD_BYTES_MAX};

const SEGMENT_BYTES: usize = 64 << 10;

/// An operation. A choice picks one of all keys that were ever made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Append(usize),
    AppendMany(usize, u8),
    Remove(usize),
    RemoveMany(usize, u8),
    Get(usize),
    Change(usize, u8),
    Iterate,
    Trim,
}

struct World {
    log: LogStore,
    limit: usize,
    live: HashMap<Key, Vec<u8>>,
    bytes: usize,
    made: Vec<Key>,
    counter: u8,
}

impl World {
    fn pick(&self, choice: usize) -> Option<Key> {
        let len = self.made.len();
        (len > 0).then(|| self.made[choice % len])
    }

    fn append(&mut self, len: usize) {
        self.counter = self.counter.wrapping_mul(5).wrapping_add(17);
        let start = self.counter;
        let record: Vec<u8> = (0..len).map(|i| start.wrapping_add(i as u8)).collect();
        let (front, back) = record.split_at(len / 3);
        match self.log.append_parts(&[front, back]) {
            Ok(key) => {
                assert!(len <= RECORD_BYTES_MAX);
                self.bytes += len;
                assert!(self.live.insert(key, record).is_none());
                self.made.push(key);
            }
            Err(LogError::TooLong) => assert!(len > RECORD_BYTES_MAX),
            Err(error) => {
                assert_eq!(error, LogError::Full);
                let usable = (self.limit / SEGMENT_BYTES).saturating_sub(1) * SEGMENT_BYTES;
                assert!(self.bytes + self.live.len() * 6 > usable / 8 * 7 || usable == 0);
            }
        }
    }

    fn remove(&mut self, choice: usize) {
        let Some(key) = self.pick(choice) else {
            return;
        };
        let expected = self.live.remove(&key);
        self.bytes -= expected.as_ref().map_or(0, Vec::len);
        assert_eq!(self.log.remove(key), expected.is_some());
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Append(len) => self.append(len),
            Op::AppendMany(len, count) => (0..count).for_each(|_| self.append(len)),
            Op::Remove(choice) => self.remove(choice),
            Op::RemoveMany(choice, count) => {
                (0..usize::from(count) * 4).for_each(|i| self.remove(choice.wrapping_add(i)));
            }
            Op::Get(choice) => {
                let Some(key) = self.pick(choice) else {
                    return;
                };
                assert_eq!(self.log.get(key), self.live.get(&key).map(Vec::as_slice));
                assert_eq!(self.log.contains(key), self.live.contains_key(&key));
            }
            Op::Change(choice, value) => {
                let Some(key) = self.pick(choice) else {
                    return;
                };
                let (real, naive) = (self.log.get_mut(key), self.live.get_mut(&key));
                assert_eq!(
                    real.as_deref(),
                    naive.as_ref().map(|bytes| bytes.as_slice())
                );
                if let (Some(real), Some(naive)) = (real, naive) {
                    real.fill(value);
                    naive.fill(value);
                }
            }
            Op::Iterate => self.compare(),
            Op::Trim => {
                self.log.trim();
                self.compare();
            }
        }
        let stats = self.log.stats();
        assert_eq!((stats.records, stats.bytes), (self.live.len(), self.bytes));
        assert!(stats.mapped_bytes <= self.limit);
    }

    fn compare(&self) {
        assert_eq!(self.log.iter().count(), self.live.len());
        for (key, record) in self.log.iter() {
            assert_eq!(self.live.get(&key).map(Vec::as_slice), Some(record));
        }
    }
}

/// Runs the operations on a store of that limit and on the model, and compares every answer.
pub(crate) fn run(limit: usize, ops: &[Op]) {
    let mut world = World {
        log: LogStore::with_limit(limit),
        limit,
        live: HashMap::new(),
        bytes: 0,
        made: Vec::new(),
        counter: 0,
    };
    for op in ops {
        world.step(*op);
    }
    world.compare();
}
