//! What a poller is asked for and what it answers.

#![forbid(unsafe_code)]

use std::{fmt, ops::BitOr};

use rustix::event::epoll;

/// The name under which a source's events come back: any 64-bit number that the caller likes.
///
/// The poller never looks into it. A server that reuses slots puts a generation into the upper half
/// and drops an event whose generation is old, since a source that was closed while its event
/// already lay in the buffer is still reported once.
///
/// [`Token::RESERVED`] belongs to the poller's own waker and is refused.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Token(pub u64);

impl Token {
    /// The token that no source may have: `u64::MAX`.
    pub const RESERVED: Self = Self(u64::MAX);
}

/// The kinds of readiness that a source is registered for.
///
/// Errors and hang-ups are always reported. `READABLE` includes the news that the peer has shut
/// down its writing side.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Interest(u8);

impl Interest {
    /// Bytes, or a connection, can be taken.
    pub const READABLE: Self = Self(1);
    /// Bytes can be given.
    pub const WRITABLE: Self = Self(2);
    /// Both. The right choice for an edge-triggered connection: register once, never modify.
    pub const BOTH: Self = Self(3);

    /// Whether [`Interest::READABLE`] is included.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether [`Interest::WRITABLE`] is included.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & 2 != 0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How often a source that stays ready is reported.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum Mode {
    /// In every wait for as long as it is ready.
    Level,
    /// Once for each change. The receiver reads or writes until `WouldBlock`, or remembers that it
    /// has not.
    Edge,
    /// As `Edge`, and then not again until [`Poller::modify`](crate::Poller::modify) arms it anew.
    /// For pollers that several threads wait on: at most one of them owns the source at a time.
    EdgeOneShot,
    /// As `Edge`, for a descriptor that is registered with several pollers: a change wakes one of
    /// them, or few, instead of all (`EPOLLEXCLUSIVE`, Linux 4.5). Cannot be modified, only deleted
    /// and added; does not report [`Readiness::is_read_closed`] for half-closed peers. For
    /// listeners.
    Exclusive,
}

/// What a source is ready for.
///
/// A hint: the operation may still answer `WouldBlock`. The absence of a bit is no promise either
/// in edge-triggered modes, where each event says only what has changed and what is true beside it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Default)]
pub struct Readiness(u32);

impl Readiness {
    /// Ready for nothing.
    pub const EMPTY: Self = Self(0);
    /// `EPOLLIN`.
    pub const READABLE: Self = Self(epoll::EventFlags::IN.bits());
    /// `EPOLLOUT`.
    pub const WRITABLE: Self = Self(epoll::EventFlags::OUT.bits());
    /// `EPOLLRDHUP`: the peer sends no more.
    pub const READ_CLOSED: Self = Self(epoll::EventFlags::RDHUP.bits());
    /// `EPOLLERR`.
    pub const ERROR: Self = Self(epoll::EventFlags::ERR.bits());
    /// `EPOLLHUP`: both directions are closed.
    pub const HUP: Self = Self(epoll::EventFlags::HUP.bits());

    const KNOWN: u32 =
        Self::READABLE.0 | Self::WRITABLE.0 | Self::READ_CLOSED.0 | Self::ERROR.0 | Self::HUP.0;

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::KNOWN)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Whether there are bytes, connections, or an end of the stream to be read.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether the send buffer has room.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Whether the peer sends no more (`RDHUP` or `HUP`). There may be bytes left to read before
    /// the end of the stream.
    #[must_use]
    pub const fn is_read_closed(self) -> bool {
        self.0 & (Self::READ_CLOSED.0 | Self::HUP.0) != 0
    }

    /// Whether the source has an error waiting, which the next read or write returns.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Whether both directions are closed.
    #[must_use]
    pub const fn is_hup(self) -> bool {
        self.0 & Self::HUP.0 != 0
    }

    /// Whether a read that comes back short does *not* show that all has been read.
    ///
    /// After a short read there is normally nothing left and the read that would answer
    /// `WouldBlock` can be saved. Not so when the event carried `RDHUP`, `HUP` or `ERR`: no further
    /// event comes, so the reader goes on to the end of the stream or the error.
    #[must_use]
    pub const fn must_read_to_end(self) -> bool {
        self.0 & (Self::READ_CLOSED.0 | Self::HUP.0 | Self::ERROR.0) != 0
    }

    /// Whether there is nothing to report.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.merge(other)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READABLE, "readable"),
            (Self::WRITABLE, "writable"),
            (Self::READ_CLOSED, "read_closed"),
            (Self::ERROR, "error"),
            (Self::HUP, "hup"),
        ];
        let set = names
            .into_iter()
            .filter(|(bit, _)| self.0 & bit.0 != 0)
            .map(|(_, name)| name);
        f.debug_set().entries(set).finish()
    }
}

/// The caller's buffer for what one wait reports.
///
/// Allocated once; a wait never makes it larger. Sources that did not fit are reported by the next
/// wait: the kernel goes round its ready list.
pub struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    /// Room for `capacity` events, at least one.
    ///
    /// # Panics
    ///
    /// Above 2^24 events, which no loop should take at a time.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(
            capacity <= 1 << 24,
            "an event buffer of {capacity} events is a mistake"
        );
        Self {
            list: Vec::with_capacity(capacity.max(1)),
        }
    }

    /// How many events fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.list.capacity()
    }

    /// The events of the last wait, in the kernel's order, without those of the poller's own waker.
    pub fn iter(&self) -> impl Iterator<Item = (Token, Readiness)> + '_ {
        self.list
            .iter()
            .map(|event| {
                let (data, flags) = (event.data, event.flags);
                (Token(data.u64()), Readiness::from_bits(flags.bits()))
            })
            .filter(|(token, _)| *token != Token::RESERVED)
    }

    /// Whether the last wait reported no source.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether there is no room for another event.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.list.len() == self.list.capacity()
    }

    /// Forgets all events.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Adds an event, for backends other than epoll. Answers `false` when there is no room.
    pub fn push(&mut self, token: Token, readiness: Readiness) -> bool {
        if self.is_full() {
            return false;
        }
        self.list.push(epoll::Event {
            flags: epoll::EventFlags::from_bits_retain(readiness.bits()),
            data: epoll::EventData::new_u64(token.0),
        });
        true
    }

    pub(crate) fn list_mut(&mut self) -> &mut Vec<epoll::Event> {
        &mut self.list
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    static_assertions::assert_impl_all!(Events: Send, Sync);

    #[test]
    fn readiness_tells_its_bits_apart() {
        let all = [
            Readiness::READABLE,
            Readiness::WRITABLE,
            Readiness::READ_CLOSED,
            Readiness::ERROR,
            Readiness::HUP,
        ];
        let merged = all.into_iter().fold(Readiness::EMPTY, Readiness::merge);
        assert_eq!(merged.bits().count_ones(), 5);
        assert!(Readiness::HUP.is_read_closed() && Readiness::HUP.must_read_to_end());
        assert!(!Readiness::READABLE.is_read_closed() && !Readiness::READABLE.must_read_to_end());
        assert_eq!(
            format!("{:?}", Readiness::READABLE | Readiness::HUP),
            r#"{"readable", "hup"}"#
        );
    }

    #[test]
    fn events_hide_the_waker_and_keep_to_their_capacity() {
        let mut events = Events::with_capacity(2);
        let capacity = events.capacity();
        assert!(events.push(Token::RESERVED, Readiness::READABLE));
        assert!(events.is_empty());
        for n in 1..capacity {
            assert!(events.push(Token(n as u64), Readiness::WRITABLE));
        }
        assert!(!events.push(Token(99), Readiness::WRITABLE));
        assert_eq!(events.iter().next(), Some((Token(1), Readiness::WRITABLE)));
    }
}
