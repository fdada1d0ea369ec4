//! Small records, packed behind each other.
#![forbid(unsafe_code)]

use core::fmt;

use crate::{Full, Key, Slab};

mod segments;

use segments::{HEADER_BYTES, Place, SEGMENT_BYTES, Segments};

/// The longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = SEGMENT_BYTES / 8 - HEADER_BYTES;

/// What a record takes beyond its own bytes: 6 before it in the log, and 8 in the index.
///
/// The directory of the index takes another half a byte for every slot that was in use at the
/// peak. Nothing is rounded up.
pub const RECORD_OVERHEAD_BYTES: usize = HEADER_BYTES + size_of::<Place>() + 4;

const _: () = assert!(RECORD_OVERHEAD_BYTES == 14);

/// A bounded store of small records, found and removed by key.
///
/// Records are appended to segments of 64 KiB, one behind the other; an index of 8 bytes a record
/// says where each lies. There is no allocation and no pointer a record: a million queued
/// messages of 24 bytes are 38 MB in a few hundred mappings, and freeing them is a few hundred
/// system calls.
///
/// A record that is removed leaves a hole. When the last segment is full, the store looks for the
/// segment with the fewest live bytes. Where holes are half of it, its live records move to a new
/// segment, and it goes back to the system; else a segment more is mapped. So the store takes at
/// most about twice what lives in it, and a byte appended costs at most about one byte moved. Only
/// at the limit does it work harder: there every segment is cleaned of which an eighth is holes.
///
/// Keys are those of a [`Slab`]: 64 bits, never made twice, and a stale one finds nothing.
///
/// # Limits
/// A record has up to [`RECORD_BYTES_MAX`] bytes, and a store up to 4 GiB. `append` never fails
/// while the records, with 6 bytes added to each, take at most seven eighths of the limit less one
/// segment, which is kept for moving. The index counts on top of the limit.
///
/// # Examples
/// ```
/// use slabmem::LogStore;
///
/// let mut log = LogStore::with_limit(16 << 20);
/// let first = log.append(b"topic a, id 1")?;
/// let second = log.append_parts(&[b"topic b, ", b"id 2"])?;
/// assert_eq!(log.get(second), Some(&b"topic b, id 2"[..]));
///
/// assert!(log.remove(first));
/// assert_eq!(log.get(first), None);
/// # Ok::<(), slabmem::LogError>(())
/// ```
pub struct LogStore {
    index: Slab<Place>,
    segments: Segments,
    bytes: usize,
}

impl LogStore {
    /// Makes an empty store that maps at most `max_bytes` for its records, in segments of 64 KiB,
    /// of which it needs two at least. Allocates nothing.
    #[must_use]
    pub const fn with_limit(max_bytes: usize) -> Self {
        Self {
            index: Slab::new(),
            segments: Segments::with_limit(max_bytes),
            bytes: 0,
        }
    }

    /// Appends a copy of these bytes and returns the key of the record.
    ///
    /// # Errors
    /// [`LogError::TooLong`] above [`RECORD_BYTES_MAX`]; [`LogError::Full`] at the limit;
    /// [`LogError::NoMemory`] where the system gives none.
    ///
    /// # Complexity
    /// A copy. One call in as many as fill a segment looks at all segments and may move up to half
    /// a segment of records (seven eighths at the limit).
    #[inline]
    pub fn append(&mut self, record: &[u8]) -> Result<Key, LogError> {
        self.append_parts(&[record])
    }

    /// As [`append`](Self::append), for a record that lies in pieces.
    ///
    /// # Errors
    /// As there.
    pub fn append_parts(&mut self, parts: &[&[u8]]) -> Result<Key, LogError> {
        let len = parts.iter().map(|part| part.len()).sum();
        if len > RECORD_BYTES_MAX {
            return Err(LogError::TooLong);
        }
        self.segments.make_room(len, &mut self.index)?;
        let key = self
            .index
            .insert(Place::NOWHERE)
            .map_err(|Full(_)| LogError::NoMemory)?;
        let place = self.segments.append(key.index(), len, parts);
        if let Some(entry) = self.index.get_mut(key) {
            *entry = place;
        }
        self.bytes += len;
        Ok(key)
    }

    /// Returns the record. `None` for a stale key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&[u8]> {
        self.segments.record(*self.index.get(key)?)
    }

    /// Returns the record, to be changed within its length. `None` for a stale key.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut [u8]> {
        self.segments.record_mut(*self.index.get(key)?)
    }

    /// Returns whether the key's record is still there.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.index.contains(key)
    }

    /// Removes the record. Returns whether there was one.
    ///
    /// # Complexity
    /// O(1). The last record of a segment gives the segment back to the system.
    #[inline]
    pub fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.index.remove(key) else {
            return false;
        };
        self.bytes -= self.segments.forget(place);
        true
    }

    /// Returns all records with their keys, in the order of their indexes, which is not that of
    /// their age.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &[u8])> {
        self.index
            .iter()
            .filter_map(|(key, place)| Some((key, self.segments.record(*place)?)))
    }

    /// Returns how many records there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns whether there are no records.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns the bytes of all records, without overhead.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packs what lives in all segments of which an eighth is free, and gives back what is not in
    /// use, also of the index.
    ///
    /// # Complexity
    /// Linear in the records.
    pub fn trim(&mut self) {
        self.segments.trim(&mut self.index);
        self.index.trim();
    }

    /// Returns the state of the store.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        LogStats {
            records: self.len(),
            bytes: self.bytes,
            mapped_bytes: self.segments.mapped_bytes(),
            max_bytes: self.segments.max_bytes(),
            index_bytes: self.index.stats().mapped_bytes,
            moved_bytes: self.segments.moved_bytes(),
        }
    }
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Why a [`LogStore`] took no record.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LogError {
    /// The record is longer than [`RECORD_BYTES_MAX`].
    TooLong,
    /// The store is at its limit.
    Full,
    /// The system gives no memory.
    NoMemory,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "record is too long for the log",
            Self::Full => "log is at its limit",
            Self::NoMemory => "system gives no memory",
        })
    }
}

impl core::error::Error for LogError {}

/// The state of a [`LogStore`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LogStats {
    /// Records.
    pub records: usize,
    /// Their bytes, without overhead.
    pub bytes: usize,
    /// The memory of all segments in bytes, with holes and the one kept for moving.
    pub mapped_bytes: usize,
    /// What `mapped_bytes` may be at most.
    pub max_bytes: usize,
    /// The memory of the index in bytes.
    pub index_bytes: usize,
    /// How many bytes have been moved to close holes, since the beginning.
    pub moved_bytes: u64,
}
