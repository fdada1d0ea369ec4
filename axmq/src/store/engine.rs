//! What the store asks of the thing below it: sorted keys, atomic batches, a sync.

use std::fmt;
use std::io;

/// Kinds of data. Each is a sorted map of its own, with its own compression; a batch changes
/// several of them at once.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(u8)]
pub(crate) enum Space {
    Meta = 0,
    Session = 1,
    Subscription = 2,
    Queue = 3,
    Message = 4,
    Incoming = 5,
    Retained = 6,
    Quarantine = 7,
    Group = 8,
    Ban = 9,
}

impl Space {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::Meta,
        Self::Session,
        Self::Subscription,
        Self::Queue,
        Self::Message,
        Self::Incoming,
        Self::Retained,
        Self::Quarantine,
        Self::Group,
        Self::Ban,
    ];

    /// The name of its files, and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Queue => "queue",
            Self::Message => "message",
            Self::Incoming => "incoming",
            Self::Retained => "retained",
            Self::Quarantine => "quarantine",
            Self::Group => "group",
            Self::Ban => "ban",
        }
    }

    /// Whether its values are payloads, which compress, rather than small hot state.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Message | Self::Retained)
    }
}

/// One change of a batch.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change<'a> {
    pub(crate) space: Space,
    pub(crate) key: &'a [u8],
    /// `None` removes the key.
    pub(crate) value: Option<&'a [u8]>,
}

/// Changes that happen together or not at all.
///
/// All their bytes are in one block, key by value: records are small and come by the hundred
/// thousand, and what a batch has it keeps until it is synced.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteBatch {
    bytes: Vec<u8>,
    ends: Vec<Ends>,
}

/// Where the bytes of a change end; they begin where those of the one before it end.
#[derive(Copy, Clone, Debug)]
struct Ends {
    space: Space,
    is_put: bool,
    key: usize,
    value: usize,
}

impl WriteBatch {
    pub(crate) fn put(&mut self, space: Space, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(space, key.as_ref(), Some(value.as_ref()));
    }

    pub(crate) fn remove(&mut self, space: Space, key: impl AsRef<[u8]>) {
        self.push(space, key.as_ref(), None);
    }

    fn push(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(key);
        let key = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.ends.push(Ends {
            space,
            is_put: value.is_some(),
            key,
            value: self.bytes.len(),
        });
    }

    /// In the order in which they came.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut from = 0;
        self.ends.iter().map(move |ends| {
            let key = self.bytes.get(from..ends.key).unwrap_or_default();
            let value = self.bytes.get(ends.key..ends.value);
            from = ends.value;
            Change {
                space: ends.space,
                key,
                value: value.filter(|_| ends.is_put),
            }
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// Entries in the order of their keys.
pub(crate) type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, EngineError>> + 'a>;

/// A store of sorted keys. One thread uses it.
///
/// What [`write`](Self::write) has written is there for reads at once. It is there after a crash
/// once [`sync`](Self::sync) has returned `Ok`; of what was written since, a crash leaves the
/// batches up to some point, each whole.
pub(crate) trait Engine {
    /// Makes all changes of the batch, the later ones of a key after the earlier ones.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Makes everything written durable.
    ///
    /// # Errors
    ///
    /// After an error nobody knows what the disk has: the engine is not to be used any more.
    fn sync(&mut self) -> Result<(), EngineError>;

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Entries from `from` on, up to but without `to`.
    fn range<'a>(&'a self, space: Space, from: &[u8], to: Option<&[u8]>) -> Entries<'a>;

    /// The last key of a space.
    fn last(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError>;

    /// Bytes on disk, about.
    fn bytes(&self) -> u64;

    /// Bytes of memory that it knows of.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// What is there now, to be read by another thread while this one goes on.
    fn snapshot(&self) -> Box<dyn Snapshot>;
}

/// A store as it was at one moment, between two batches.
pub(crate) trait Snapshot: Send {
    /// All entries of a space.
    fn entries(&self, space: Space) -> Entries<'_>;
}

/// What went wrong, as far as what to do depends on it.
#[derive(Debug)]
pub(crate) enum EngineError {
    /// The disk is full.
    Full,
    /// Reading or writing failed.
    Io(io::Error),
    /// What is on disk does not make sense.
    Corrupt(String),
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full"),
            Self::Io(error) => error.fmt(f),
            Self::Corrupt(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for EngineError {}

/// The key after all keys that begin with `prefix`; `None` where there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_into_it() {
        let mut batch = WriteBatch::default();
        assert!(batch.is_empty());
        batch.put(Space::Meta, b"key", b"value");
        batch.remove(Space::Queue, b"gone");
        batch.put(Space::Group, b"", b"");
        batch.put(Space::Group, b"last", vec![0; 70_000]);
        let seen: Vec<_> = batch
            .changes()
            .map(|change| (change.space, change.key, change.value))
            .collect();
        assert_eq!(
            seen,
            [
                (Space::Meta, &b"key"[..], Some(&b"value"[..])),
                (Space::Queue, b"gone", None),
                (Space::Group, b"", Some(b"")),
                (Space::Group, b"last", Some(&[0; 70_000])),
            ]
        );
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 0xFF, 0xFF]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xFF]), None);
        assert_eq!(after_prefix(b""), None);
    }
}
