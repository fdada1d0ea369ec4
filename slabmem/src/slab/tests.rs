//! What cannot be reached from outside: the end of a slot's life, and the books of the chunks.

use super::*;

/// Recounts the masks and compares them with what is kept.
fn check<T>(slab: &Slab<T>) {
    let hot = |chunk: usize| {
        let slots = slab.hot.slots().iter();
        slots
            .filter(|slot| **slot as usize / SLOTS == chunk)
            .count() as u32
    };
    let entries = slab.store.chunks();
    let (mut live, mut mapped, mut empty, mut open) = (0, 0, 0, entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let group = slab.groups[index / SLOTS];
        let bit = |mask: u64| mask >> (index % SLOTS) & 1 == 1;
        assert_eq!(bit(group.mapped), entry.is_mapped());
        let chunk_is_empty = entry.is_mapped() && entry.live() == 0;
        assert_eq!(bit(group.empty), chunk_is_empty);
        if entry.is_mapped() {
            assert_eq!(bit(group.room), entry.free() != 0);
            live += entry.live().count_ones() - hot(index);
        } else {
            assert_eq!((entry.live(), entry.free()), (0, 0));
        }
        mapped += u32::from(entry.is_mapped());
        empty += u32::from(chunk_is_empty);
        if bit(group.room) {
            open = open.min(index);
        }
        let has_room = slab.summary[index / 4096] >> (index / 64 % 64) & 1 == 1;
        assert_eq!(has_room, group.room != 0);
    }
    assert_eq!(
        (slab.len(), slab.mapped, slab.empty),
        (live as usize, mapped, empty)
    );
    assert_eq!(slab.open as usize, open);
    assert!(slab.reserved <= slab.limit);
}

#[test]
fn a_slot_retires_after_its_last_generation() {
    let mut slab = Slab::new();
    let first = slab.insert(0).unwrap();
    slab.remove(first).unwrap();
    slab.cool(slab.hot.len());
    slab.store.set_vacant_generation(0, u32::MAX - 1);
    let last = slab.insert(1).unwrap();
    assert_eq!((last.index(), last.generation().get()), (0, u32::MAX));
    assert_eq!(slab.remove(last), Some(1));
    assert_eq!(slab.stats().retired, 1);
    let next = slab.insert(2).unwrap();
    assert_eq!(next.index(), 1);
    assert_eq!(
        (slab.get(first), slab.get(last), slab.key_at(0)),
        (None, None, None)
    );
    check(&slab);
}

#[test]
fn a_chunk_with_a_retired_slot_is_not_mapped_again() {
    let mut slab = Slab::new();
    let first = slab.insert(0).unwrap();
    slab.remove(first).unwrap();
    slab.cool(slab.hot.len());
    slab.store.set_vacant_generation(0, u32::MAX - 1);
    let last = slab.insert(1).unwrap();
    slab.remove(last).unwrap();
    slab.trim();
    check(&slab);
    assert_eq!((slab.stats().retired, slab.stats().mapped_bytes), (64, 0));
    assert_eq!(slab.insert(2).unwrap().index(), 64);
    check(&slab);
}

#[test]
fn a_full_chunk_of_retired_slots_leaves_the_books() {
    let mut slab = Slab::new();
    for slot in 0..64 {
        let key = slab.insert(0).unwrap();
        assert_eq!(key.index(), slot);
        slab.remove(key).unwrap();
        slab.cool(slab.hot.len());
        slab.store.set_vacant_generation(slot, u32::MAX - 1);
        let key = slab.insert(0).unwrap();
        slab.remove(key).unwrap();
    }
    check(&slab);
    assert_eq!(slab.stats().retired, 64);
    assert_eq!(slab.insert(0).unwrap().index(), 64);
    slab.trim();
    check(&slab);
}

#[test]
fn generations_survive_the_release_of_a_chunk() {
    let mut slab = Slab::new();
    let mut stale = Vec::new();
    for round in 0..5 {
        let keys: Vec<_> = (0..200)
            .map(|i| slab.insert(round * 1000 + i).unwrap())
            .collect();
        check(&slab);
        for key in &keys {
            slab.remove(*key).unwrap();
        }
        stale.extend(keys);
        slab.trim();
        check(&slab);
        assert_eq!(slab.stats().mapped_bytes, 0);
    }
    let keys: Vec<_> = (0..200).map(|i| slab.insert(i).unwrap()).collect();
    assert!(stale.iter().all(|key| slab.get(*key).is_none()));
    assert!(keys.iter().all(|key| slab.get(*key).is_some()));
}

// Under Miri it would take minutes; the oracle test runs the same code on fewer items.
#[cfg(not(miri))]
#[test]
fn a_storm_leaves_little_behind() {
    let mut slab = Slab::new();
    let keys: Vec<_> = (0..100_000_u64)
        .map(|i| slab.insert([i; 8]).unwrap())
        .collect();
    let peak = slab.stats().mapped_bytes;
    for key in &keys[..90_000] {
        slab.remove(*key).unwrap();
    }
    check(&slab);
    assert!(slab.stats().mapped_bytes * 5 < peak, "{:?}", slab.stats());
    for (key, i) in keys.iter().zip(0..).skip(90_000) {
        assert_eq!(slab.get(*key), Some(&[i; 8]));
    }
    let more: Vec<_> = (0..50_000_u64)
        .map(|i| slab.insert([!i; 8]).unwrap())
        .collect();
    check(&slab);
    assert!(
        more.iter()
            .zip(0..)
            .all(|(key, i)| slab.get(*key) == Some(&[!i; 8]))
    );
    assert!(keys[..90_000].iter().all(|key| !slab.contains(*key)));
    slab.clear();
    check(&slab);
    assert_eq!((slab.len(), slab.stats().mapped_bytes), (0, 0));
}

#[test]
fn chunks_larger_than_a_segment_work() {
    let mut slab = Slab::new();
    let keys: Vec<_> = (0..130_u8)
        .map(|i| slab.insert([i; 40_000]).unwrap())
        .collect();
    check(&slab);
    assert_eq!(slab.stats().mapped_chunks, 3);
    for key in &keys[..128] {
        slab.remove(*key).unwrap();
    }
    slab.trim();
    check(&slab);
    assert_eq!(slab.stats().mapped_chunks, 1);
    assert_eq!(slab.get(keys[129]), Some(&[129; 40_000]));
}

#[test]
fn two_items_at_once() {
    let mut slab = Slab::new();
    let keys: Vec<_> = (0..100).map(|i| slab.insert(i).unwrap()).collect();
    for (a, b) in [(0, 1), (5, 99), (99, 5), (63, 64)] {
        let (first, second) = slab.get2_mut(keys[a], keys[b]).unwrap();
        assert_eq!((*first, *second), (a, b));
    }
    assert!(slab.get2_mut(keys[3], keys[3]).is_none());
    slab.remove(keys[4]).unwrap();
    assert!(slab.get2_mut(keys[3], keys[4]).is_none());
    assert!(slab.get2_mut(keys[4], keys[70]).is_none());
    assert!(
        slab.get2_mut(keys[70], Key::from_bits(1 << 32 | 9999).unwrap())
            .is_none()
    );
}

#[test]
fn a_vacant_entry_that_is_dropped_changes_nothing() {
    let mut slab = Slab::with_limit(2);
    let key = slab.vacant_entry().unwrap().key();
    assert_eq!(slab.vacant_entry().unwrap().key(), key);
    check(&slab);
    let entry = slab.vacant_entry().unwrap();
    assert_eq!(entry.key(), key);
    *entry.insert(7) += 1;
    assert_eq!(slab.remove(key), Some(8));
    check(&slab);
}

#[test]
fn every_item_is_dropped_once() {
    use std::rc::Rc;
    let counter = Rc::new(());
    let mut slab = Slab::with_limit(150);
    let keys: Vec<_> = (0..150)
        .map(|_| slab.insert(counter.clone()).unwrap())
        .collect();
    assert!(slab.insert(counter.clone()).is_err());
    assert_eq!(Rc::strong_count(&counter), 151);
    slab.remove(keys[77]).unwrap();
    slab.retain(|key, _| key.index() % 2 == 0);
    assert_eq!(Rc::strong_count(&counter), 76);
    drop(slab);
    assert_eq!(Rc::strong_count(&counter), 1);
}

static_assertions::assert_impl_all!(Slab<u8>: Send, Sync);
static_assertions::assert_impl_all!(Slab<core::cell::Cell<u8>>: Send);
static_assertions::assert_not_impl_any!(Slab<std::rc::Rc<u8>>: Send, Sync);
static_assertions::assert_not_impl_any!(Slab<core::cell::Cell<u8>>: Sync);

#[test]
fn a_raised_limit_makes_room_and_a_lower_one_changes_nothing() {
    let mut slab = Slab::with_limit(1);
    let first = slab.insert(1).unwrap();
    assert!(slab.insert(2).is_err());
    slab.raise_limit(0);
    assert_eq!(slab.limit(), 1);
    slab.raise_limit(100);
    for n in 2..=100 {
        slab.insert(n).unwrap();
    }
    assert!(slab.insert(101).is_err());
    assert_eq!((slab.len(), slab.get(first)), (100, Some(&1)));
}
