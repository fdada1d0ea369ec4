//! A message as one session has it, in 32 bytes.

use mqtt_codec::QoS;
use slabmem::Key;

/// The number of a message that has none yet.
const UNNUMBERED: u64 = u64::MAX;

mod flag {
    pub(super) const RETAIN: u8 = 1;
    /// It may have been sent before the broker was started anew.
    pub(super) const MAY_BE_KNOWN: u8 = 1 << 1;
    /// It waits until it is durable.
    pub(super) const HELD: u8 = 1 << 2;
    /// The store has it.
    pub(super) const STORED: u8 = 1 << 3;
}

/// A message for one session; the message itself is in the shard's table (DECISIONS 24).
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// `None` where PUBREC has come before the broker was started anew: only PUBREL is to be sent.
    pub(crate) message: Option<Key>,
    extra: Option<Box<Extra>>,
    number: u64,
    pub(crate) cost: u32,
    pub(crate) qos: QoS,
    flags: u8,
}

/// What few messages have.
#[derive(Clone, Debug)]
struct Extra {
    identifiers: Box<[u32]>,
    member: Option<Key>,
    /// In the queue of that group.
    place: u64,
}

const _: () = assert!(size_of::<Queued>() <= 32);

impl Queued {
    pub(crate) fn new(message: Key, cost: usize, qos: QoS, retain: bool) -> Self {
        Self {
            message: Some(message),
            extra: None,
            number: UNNUMBERED,
            cost: u32::try_from(cost).unwrap_or(u32::MAX),
            qos,
            flags: if retain { flag::RETAIN } else { 0 },
        }
    }

    /// A message of which only PUBREL is to be sent.
    pub(crate) fn released(number: u64) -> Self {
        Self {
            message: None,
            extra: None,
            number,
            cost: 0,
            qos: QoS::ExactlyOnce,
            flags: flag::STORED,
        }
    }

    /// Adds the subscription identifiers that go with it, and the membership by which the session
    /// got it with its place in the group's queue.
    pub(crate) fn with(mut self, identifiers: &[u32], dealing: Option<(Key, u64)>) -> Self {
        if !identifiers.is_empty() || dealing.is_some() {
            let identifiers = identifiers.into();
            self.extra = Some(Box::new(Extra {
                identifiers,
                member: dealing.map(|(member, _)| member),
                place: dealing.map_or(0, |(_, place)| place),
            }));
        }
        self
    }

    /// It comes from the store, where it has this number.
    pub(crate) fn stored_as(mut self, number: u64, may_be_known: bool) -> Self {
        self.number = number;
        self.flags |= flag::STORED;
        if may_be_known {
            self.flags |= flag::MAY_BE_KNOWN;
        }
        self
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Takes this number, where it has none; whether it did.
    pub(super) fn take_number(&mut self, number: u64) -> bool {
        let takes = self.number == UNNUMBERED;
        if takes {
            self.number = number;
        }
        takes
    }

    /// Another number, for a bug that is planted.
    pub(super) fn renumber(&mut self, number: u64) {
        self.number = number;
    }

    pub(crate) fn retain(&self) -> bool {
        self.flags & flag::RETAIN != 0
    }

    pub(crate) fn may_be_known(&self) -> bool {
        self.flags & flag::MAY_BE_KNOWN != 0
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.flags & flag::STORED != 0
    }

    pub(crate) fn set_stored(&mut self) {
        self.flags |= flag::STORED;
    }

    pub(crate) fn set_held(&mut self) {
        self.flags |= flag::HELD;
    }

    pub(super) fn is_held(&self) -> bool {
        self.flags & flag::HELD != 0
    }

    /// It is durable.
    pub(super) fn let_out(&mut self) {
        self.flags &= !flag::HELD;
    }

    pub(crate) fn identifiers(&self) -> &[u32] {
        self.extra
            .as_deref()
            .map_or(&[], |extra| &extra.identifiers)
    }

    /// The membership by which the session got it, where it is a group's message.
    pub(crate) fn member(&self) -> Option<Key> {
        self.extra.as_deref().and_then(|extra| extra.member)
    }

    /// Its place in the queue of that group.
    pub(crate) fn place(&self) -> u64 {
        self.extra.as_deref().map_or(0, |extra| extra.place)
    }

    pub(super) fn clear_member(&mut self) {
        if let Some(extra) = self.extra.as_deref_mut() {
            extra.member = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key::from_bits(n << 32).expect("not zero")
    }

    #[test]
    fn a_message_keeps_what_goes_with_it() {
        let queued = || Queued::new(key(1), 10, QoS::AtLeastOnce, false);
        assert!(queued().with(&[], None).extra.is_none());
        let with = |identifiers: &[u32], dealing| {
            let queued = queued().with(identifiers, dealing);
            let (member, place) = (queued.member(), queued.place());
            (queued.identifiers().to_vec(), member, place)
        };
        let dealing = Some((key(3), 9));
        assert_eq!(with(&[], None), (vec![], None, 0));
        assert_eq!(with(&[3, 5], None), (vec![3, 5], None, 0));
        assert_eq!(with(&[], dealing), (vec![], Some(key(3)), 9));
        assert_eq!(with(&[7], dealing), (vec![7], Some(key(3)), 9));
    }
}
