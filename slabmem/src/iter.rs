//! Iteration over a slab.
#![forbid(unsafe_code)]

use core::iter::Enumerate;
use core::{fmt, slice};

use crate::Key;
use crate::raw::{Entry, ItemsMut, SLOTS};

/// All items of a [`Slab`](crate::Slab) with their keys.
pub struct Iter<'a, T> {
    chunks: Enumerate<slice::Iter<'a, Entry<T>>>,
    current: Option<(usize, &'a Entry<T>)>,
    live: u64,
    left: usize,
}

impl<'a, T> Iter<'a, T> {
    /// All of `left` items in the chunks of a directory.
    pub(crate) fn new(entries: &'a [Entry<T>], left: usize) -> Self {
        Self {
            chunks: entries.iter().enumerate(),
            current: None,
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
                let (index, entry) = self.chunks.next()?;
                self.current = Some((index, entry));
                self.live = entry.live();
            }
            let (index, entry) = self.current?;
            let slot = self.live.trailing_zeros() as usize;
            self.live &= self.live - 1;
            // A slot may be reserved for an item to come.
            if let Some(generation) = entry.generation(slot) {
                self.left -= 1;
                let key = Key::new((index * SLOTS + slot) as u32, generation)?;
                return Some((key, entry.item(slot, generation)?));
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
    chunks: Enumerate<slice::IterMut<'a, Entry<T>>>,
    current: Option<(usize, ItemsMut<'a, T>)>,
    left: usize,
}

impl<'a, T> IterMut<'a, T> {
    /// All of `left` items in the chunks of a directory.
    pub(crate) fn new(entries: &'a mut [Entry<T>], left: usize) -> Self {
        Self {
            chunks: entries.iter_mut().enumerate(),
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
            let (index, entry) = self.chunks.next()?;
            self.current = entry.items_mut().map(|items| (index, items));
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
