//! Iteration over a slab.
#![forbid(unsafe_code)]

use core::fmt;
use core::iter::Enumerate;

use crate::Key;
use crate::raw::{ChunksMut, ItemsMut, SLOTS, Store};

/// All items of a [`Slab`](crate::Slab) with their keys.
pub struct Iter<'a, T> {
    store: &'a Store<T>,
    /// The chunk that comes next.
    chunk: usize,
    /// The slots of the chunk before that are still to be visited.
    live: u64,
    left: usize,
}

impl<'a, T> Iter<'a, T> {
    /// All of the `left` items of a store.
    pub(crate) const fn new(store: &'a Store<T>, left: usize) -> Self {
        Self {
            store,
            chunk: 0,
            live: 0,
            left,
        }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (Key, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while self.live == 0 {
                self.live = self.store.chunk(self.chunk)?.live();
                self.chunk += 1;
            }
            let slot = self.live.trailing_zeros() as usize;
            self.live &= self.live - 1;
            let index = ((self.chunk - 1) * SLOTS + slot) as u32;
            // A slot may be reserved for an item to come.
            if let Some(generation) = self.store.generation(index) {
                self.left -= 1;
                let key = Key::new(index, generation)?;
                return Some((key, self.store.item(key)?));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}
impl<T> core::iter::FusedIterator for Iter<'_, T> {}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// All items of a [`Slab`](crate::Slab) with their keys, to be changed.
pub struct IterMut<'a, T> {
    chunks: Enumerate<ChunksMut<'a, T>>,
    current: Option<(usize, ItemsMut<'a, T>)>,
    left: usize,
}

impl<'a, T> IterMut<'a, T> {
    /// All of the `left` items of these chunks.
    pub(crate) fn new(chunks: ChunksMut<'a, T>, left: usize) -> Self {
        Self {
            chunks: chunks.enumerate(),
            current: None,
            left,
        }
    }
}

impl<'a, T> Iterator for IterMut<'a, T> {
    type Item = (Key, &'a mut T);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((index, items)) = &mut self.current
                && let Some((slot, generation, item)) = items.next()
            {
                self.left -= 1;
                return Some((Key::new((*index * SLOTS + slot) as u32, generation)?, item));
            }
            self.current = Some(self.chunks.next()?);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for IterMut<'_, T> {}
impl<T> core::iter::FusedIterator for IterMut<'_, T> {}

impl<T> fmt::Debug for IterMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterMut")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
