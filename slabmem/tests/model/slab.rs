//! Operations on a slab, run against a naive model. Used by the property test and by the fuzz
//! target.

use std::collections::HashMap;

use slabmem::{Key, Slab};

/// An operation. Numbers choose among the keys ever made, so most of them are stale.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Insert(u32),
    InsertMany(u16),
    EntryUnused,
    Remove(usize),
    RemoveMany(usize, u8),
    Get(usize),
    Change(usize, u32),
    ChangeTwo(usize, usize),
    At(u32),
    Forge(u64),
    Retain(u32),
    Iterate,
    ChangeAll,
    Trim,
    Clear,
}

#[derive(Default)]
struct Model {
    live: HashMap<Key, u32>,
    made: Vec<Key>,
    limit: usize,
}

impl Model {
    fn pick(&self, choice: usize) -> Option<Key> {
        let len = self.made.len();
        (len > 0).then(|| self.made[choice % len])
    }

    fn insert(&mut self, slab: &mut Slab<u32>, value: u32) {
        match slab.insert(value) {
            Ok(key) => {
                assert!(self.live.len() < self.limit);
                assert!(self.live.insert(key, value).is_none());
                self.made.push(key);
            }
            Err(full) => {
                assert_eq!(full.into_inner(), value);
                assert_eq!(self.live.len(), self.limit);
            }
        }
    }
}

/// Runs the operations on a slab of that limit and on the model, and compares every answer.
pub(crate) fn run(limit: u32, ops: &[Op]) {
    let mut slab = Slab::with_limit(limit);
    let mut model = Model {
        limit: limit as usize,
        ..Model::default()
    };
    for op in ops {
        step(&mut slab, &mut model, *op);
        assert_eq!(slab.len(), model.live.len());
        assert_eq!(slab.is_empty(), model.live.is_empty());
    }
    for key in &model.made {
        assert_eq!(slab.get(*key), model.live.get(key));
    }
    let mut made = model.made;
    let all = made.len();
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), all, "a key was made twice");
}

fn step(slab: &mut Slab<u32>, model: &mut Model, op: Op) {
    match op {
        Op::Insert(value) => model.insert(slab, value),
        Op::InsertMany(count) => (0..count).for_each(|i| model.insert(slab, u32::from(i))),
        Op::EntryUnused => {
            let expected = model.live.len() < model.limit;
            assert_eq!(slab.vacant_entry().is_some(), expected);
        }
        Op::Remove(choice) => {
            let Some(key) = model.pick(choice) else {
                return;
            };
            assert_eq!(slab.remove(key), model.live.remove(&key));
        }
        Op::RemoveMany(choice, count) => {
            for i in 0..usize::from(count) * 8 {
                let Some(key) = model.pick(choice.wrapping_add(i)) else {
                    return;
                };
                assert_eq!(slab.remove(key), model.live.remove(&key));
            }
        }
        Op::Get(choice) => {
            let Some(key) = model.pick(choice) else {
                return;
            };
            assert_eq!(slab.get(key), model.live.get(&key));
            assert_eq!(slab.contains(key), model.live.contains_key(&key));
        }
        Op::Change(choice, value) => {
            let Some(key) = model.pick(choice) else {
                return;
            };
            let (real, naive) = (slab.get_mut(key), model.live.get_mut(&key));
            assert_eq!(real, naive);
            if let (Some(real), Some(naive)) = (real, naive) {
                (*real, *naive) = (value, value);
            }
        }
        Op::ChangeTwo(a, b) => {
            let (Some(a), Some(b)) = (model.pick(a), model.pick(b)) else {
                return;
            };
            let expected = a != b && model.live.contains_key(&a) && model.live.contains_key(&b);
            let pair = slab.get2_mut(a, b);
            assert_eq!(pair.is_some(), expected);
            if let Some((first, second)) = pair {
                core::mem::swap(first, second);
                let (x, y) = (model.live[&a], model.live[&b]);
                model.live.extend([(a, y), (b, x)]);
            }
        }
        Op::At(index) => {
            let key = model.live.keys().copied().find(|key| key.index() == index);
            assert_eq!(slab.key_at(index), key);
            let mut value = key.map(|key| model.live[&key]);
            assert_eq!(slab.get_at(index).copied(), value);
            assert_eq!(slab.get_at_mut(index), value.as_mut());
        }
        Op::Forge(bits) => {
            let Some(key) = Key::from_bits(bits) else {
                return;
            };
            assert_eq!(slab.get(key), model.live.get(&key));
        }
        Op::Retain(divisor) => {
            let divisor = divisor.max(1);
            slab.retain(|_, value| !value.is_multiple_of(divisor));
            model.live.retain(|_, value| !value.is_multiple_of(divisor));
        }
        Op::Iterate => {
            let items: Vec<_> = slab.iter().map(|(key, value)| (key, *value)).collect();
            assert!(items.is_sorted_by_key(|(key, _)| key.index()));
            assert_eq!(items.len(), model.live.len());
            assert!(
                items
                    .iter()
                    .all(|(key, value)| model.live.get(key) == Some(value))
            );
        }
        Op::ChangeAll => {
            let count = slab
                .iter_mut()
                .map(|(_, value)| *value = value.wrapping_add(1))
                .count();
            assert_eq!(count, model.live.len());
            model
                .live
                .values_mut()
                .for_each(|value| *value = value.wrapping_add(1));
        }
        Op::Trim => slab.trim(),
        Op::Clear => {
            slab.clear();
            model.live.clear();
        }
    }
}
