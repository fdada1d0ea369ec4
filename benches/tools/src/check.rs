//! Exact accounting of what was delivered: every message carries its stream and its number in it.

/// Bytes that a stamped payload has at least.
pub const STAMP_BYTES: usize = 32;

const MAGIC: u32 = 0x6178_6d71;

/// What stands at the beginning of a payload; its last eight bytes are a sum of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The stream: all messages of one publisher on one topic.
    pub stream: u32,
    /// The number in the stream, from 0.
    pub number: u64,
    /// When it was sent, or, at a fixed rate, when it should have been, in nanoseconds.
    pub sent_ns: u64,
}

impl Stamp {
    fn tail(&self) -> u64 {
        let mixed = self.sent_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.number.rotate_left(32) ^ u64::from(self.stream) ^ mixed
    }

    /// Writes the stamp over the beginning and the end of a payload.
    ///
    /// # Panics
    ///
    /// If the payload is shorter than [`STAMP_BYTES`].
    pub fn write(&self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&MAGIC.to_le_bytes());
        payload[4..8].copy_from_slice(&self.stream.to_le_bytes());
        payload[8..16].copy_from_slice(&self.number.to_le_bytes());
        payload[16..24].copy_from_slice(&self.sent_ns.to_le_bytes());
        let end = payload.len() - 8;
        payload[end..].copy_from_slice(&self.tail().to_le_bytes());
    }

    /// Reads the stamp of a payload; `None` if it has none, or not its own end.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() < STAMP_BYTES {
            return None;
        }
        let (magic, rest) = payload.split_first_chunk::<4>()?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (sent_ns, rest) = rest.split_first_chunk::<8>()?;
        let stamp = Self {
            stream: u32::from_le_bytes(*stream),
            number: u64::from_le_bytes(*number),
            sent_ns: u64::from_le_bytes(*sent_ns),
        };
        let whole = u32::from_le_bytes(*magic) == MAGIC
            && u64::from_le_bytes(*rest.last_chunk::<8>()?) == stamp.tail();
        whole.then_some(stamp)
    }
}

/// What came of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is the next one, or it follows a gap.
    InOrder,
    /// It is new, but a later one came before it.
    Late,
    /// It has come before.
    Again,
}

/// The numbers of one stream as one subscriber saw them: 16 bytes while nothing is amiss.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    next: u64,
    /// The gaps below `next`, as ranges, in order.
    #[allow(
        clippy::box_collection,
        reason = "8 bytes instead of 24, a tracker a pair"
    )]
    gaps: Option<Box<Vec<(u64, u64)>>>,
}

impl Tracker {
    /// Takes note of a number.
    #[inline]
    pub fn see(&mut self, number: u64) -> Seen {
        if number == self.next {
            self.next += 1;
            return Seen::InOrder;
        }
        self.see_amiss(number)
    }

    #[cold]
    fn see_amiss(&mut self, number: u64) -> Seen {
        if number > self.next {
            self.gaps.get_or_insert_default().push((self.next, number));
            self.next = number + 1;
            return Seen::InOrder;
        }
        let Some(gaps) = &mut self.gaps else {
            return Seen::Again;
        };
        let at = gaps.partition_point(|&(_, end)| end <= number);
        match gaps.get(at).copied() {
            Some((start, end)) if start <= number => {
                gaps.remove(at);
                if number + 1 < end {
                    gaps.insert(at, (number + 1, end));
                }
                if start < number {
                    gaps.insert(at, (start, number));
                }
                Seen::Late
            }
            _ => Seen::Again,
        }
    }

    /// How many of the first `sent` numbers have not come.
    #[must_use]
    pub fn lost(&self, sent: u64) -> u64 {
        let gaps = self.gaps.iter().flat_map(|gaps| gaps.iter());
        gaps.map(|(start, end)| end - start).sum::<u64>() + sent.saturating_sub(self.next)
    }
}

/// The totals of a run. All but `delivered` are 0 with a broker that keeps its promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that came where they should, once.
    pub delivered: u64,
    /// Messages that should have come.
    pub expected: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came after a later one of their stream.
    pub reordered: u64,
    /// Messages that came to a subscriber that had not asked for them, or under a wrong topic.
    pub misdelivered: u64,
    /// Messages whose payload was not that of any that was sent.
    pub corrupted: u64,
    /// Messages that came with a QoS that was not asked for.
    pub wrong_qos: u64,
}

impl Verdict {
    /// What is wrong, in words; `None` if nothing is. A duplicate at QoS 1 is allowed by the
    /// protocol, and is named all the same.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let faults = [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.misdelivered, "misdelivered"),
            (self.corrupted, "corrupted"),
            (self.wrong_qos, "with a wrong QoS"),
        ];
        let named: Vec<String> = faults
            .into_iter()
            .filter(|&(count, _)| count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        if named.is_empty() {
            None
        } else {
            Some(named.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_a_torn_one_is_not() {
        let stamp = Stamp {
            stream: 7,
            number: 1 << 40,
            sent_ns: 99,
        };
        let mut payload = vec![b'a'; 256];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..255]), None);
        for at in [0, 5, 9, 17, 250] {
            let mut torn = payload.clone();
            torn[at] ^= 1;
            assert_eq!(Stamp::read(&torn), None, "{at}");
        }
    }

    /// The tracker against a set and a maximum, over all short sequences.
    #[test]
    fn a_tracker_agrees_with_a_set() {
        for sequence in 0..5_u32.pow(6) {
            let mut rest = sequence;
            let mut tracker = Tracker::default();
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..6 {
                let number = u64::from(rest % 5);
                rest /= 5;
                let late = seen.last().is_some_and(|&last| last > number);
                let expected = match (seen.insert(number), late) {
                    (false, _) => Seen::Again,
                    (true, true) => Seen::Late,
                    (true, false) => Seen::InOrder,
                };
                assert_eq!(tracker.see(number), expected, "{sequence}");
                assert_eq!(tracker.lost(5), 5 - seen.len() as u64, "{sequence}");
            }
        }
    }
}
