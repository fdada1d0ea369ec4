//! Items at stable `u32` ids, in chunks that never move and go back when they're empty.

const CHUNK: usize = 512;
const WORDS: usize = CHUNK / 64;

#[derive(Debug)]
struct Free {
    /// A bit for each free slot.
    bits: [u64; WORDS],
    used: u32,
    /// Whether the chunk is on the list of those with room.
    listed: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// The chunks; one without items has given its memory back.
    chunks: Vec<Box<[Option<T>]>>,
    free: Vec<Free>,
    /// Chunks with room.
    room: Vec<u32>,
    /// An empty chunk that keeps its memory, so that one item that comes and goes costs none.
    spare: Option<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            room: Vec::new(),
            spare: None,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.chunks
            .get(id as usize / CHUNK)?
            .get(id as usize % CHUNK)?
            .as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.chunks
            .get_mut(id as usize / CHUNK)?
            .get_mut(id as usize % CHUNK)?
            .as_mut()
    }

    /// Stores an item; its id may be one that a removed item had.
    ///
    /// Allocates a chunk when none has room.
    ///
    /// # Panics
    ///
    /// When there would be 2^32 − 512 items.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        let chunk = match self.room.last() {
            Some(chunk) => *chunk,
            None => self.add_chunk(),
        };
        let at = chunk as usize;
        if self.chunks[at].is_empty() {
            self.chunks[at] = (0..CHUNK).map(|_| None).collect();
        }
        if self.spare == Some(chunk) {
            self.spare = None;
        }
        let free = &mut self.free[at];
        let Some(word) = free.bits.iter().position(|word| *word != 0) else {
            unreachable!("a listed chunk has room");
        };
        let slot = word * 64 + free.bits[word].trailing_zeros() as usize;
        free.bits[word] &= free.bits[word] - 1;
        free.used += 1;
        if free.used as usize == CHUNK {
            free.listed = false;
            self.room.pop();
        }
        self.chunks[at][slot] = Some(item);
        self.len += 1;
        chunk * CHUNK as u32 + slot as u32
    }

    fn add_chunk(&mut self) -> u32 {
        let chunk = self.chunks.len();
        assert!(chunk < u32::MAX as usize / CHUNK, "the slab is full");
        self.chunks.push(Box::default());
        self.free.push(Free {
            bits: [u64::MAX; WORDS],
            used: 0,
            listed: true,
        });
        self.room.push(chunk as u32);
        chunk as u32
    }

    /// Takes an item out. With the last one all memory goes back, but for a single chunk.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let (at, slot) = (id as usize / CHUNK, id as usize % CHUNK);
        let item = self.chunks.get_mut(at)?.get_mut(slot)?.take()?;
        self.len -= 1;
        if self.len == 0 && self.chunks.len() > 1 {
            *self = Self::new();
            return Some(item);
        }
        let free = &mut self.free[at];
        free.bits[slot / 64] |= 1 << (slot % 64);
        free.used -= 1;
        if !free.listed {
            free.listed = true;
            self.room.push(at as u32);
        }
        if free.used == 0 {
            match self.spare {
                Some(_) => self.chunks[at] = Box::default(),
                None => self.spare = Some(at as u32),
            }
        }
        Some(item)
    }

    /// What all ids are below.
    pub(crate) fn ids_end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// All items with their ids, in the order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks
            .iter()
            .zip((0_u32..).step_by(CHUNK))
            .flat_map(|(chunk, first)| {
                chunk
                    .iter()
                    .zip(first..)
                    .filter_map(|(item, id)| item.as_ref().map(|item| (id, item)))
            })
    }

    /// The heap that the slab itself holds, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let items: usize = self.chunks.iter().map(|chunk| size_of_val(&**chunk)).sum();
        items
            + self.chunks.capacity() * size_of::<Box<[Option<T>]>>()
            + self.free.capacity() * size_of::<Free>()
            + self.room.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn ids_are_stable_and_memory_goes_back() {
        let mut slab = Slab::new();
        let mut model = BTreeMap::new();
        for round in 0..4_u32 {
            for n in 0..3000 {
                let item = Box::new(round * 10_000 + n);
                let id = slab.insert(item.clone());
                assert!(
                    model.insert(id, item).is_none(),
                    "an id was given out twice"
                );
            }
            let all: Vec<u32> = model.keys().copied().collect();
            for id in all.iter().filter(|id| *id % 3 != round % 3) {
                assert_eq!(slab.remove(*id), model.remove(id));
                assert_eq!(slab.remove(*id), None);
            }
            assert_eq!(slab.len(), model.len());
            assert!(slab.iter().eq(model.iter().map(|(id, item)| (*id, item))));
        }
        for id in model.into_keys() {
            assert!(slab.get(id).is_some() && slab.get_mut(id).is_some());
            slab.remove(id);
        }
        let kept = slab.chunks.iter().filter(|chunk| !chunk.is_empty()).count();
        assert_eq!((slab.len(), kept, slab.heap_bytes()), (0, 0, 0));
    }
}
