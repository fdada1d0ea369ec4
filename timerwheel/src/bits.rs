//! A growing set of small numbers whose lowest and highest members are found in a step or two.

/// A bit a member, and above it a bit for each word that is not zero.
pub(crate) struct BitSet {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl BitSet {
    pub(crate) const fn new() -> Self {
        Self {
            words: Vec::new(),
            summary: Vec::new(),
        }
    }

    /// Adds a member. Allocates if it is greater than all before.
    pub(crate) fn set(&mut self, member: usize) {
        let word = member / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
            self.summary.resize(word / 64 + 1, 0);
        }
        self.words[word] |= 1 << (member % 64);
        self.summary[word / 64] |= 1 << (word % 64);
    }

    /// Removes a member that was once added.
    pub(crate) fn clear(&mut self, member: usize) {
        let word = member / 64;
        self.words[word] &= !(1 << (member % 64));
        if self.words[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
    }

    /// The lowest member. A million timers have four words to scan.
    pub(crate) fn lowest(&self) -> Option<usize> {
        let top = self.summary.iter().position(|bits| *bits != 0)?;
        let word = top * 64 + self.summary[top].trailing_zeros() as usize;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }

    /// The highest member.
    pub(crate) fn highest(&self) -> Option<usize> {
        let top = self.summary.iter().rposition(|bits| *bits != 0)?;
        let word = top * 64 + self.summary[top].ilog2() as usize;
        Some(word * 64 + self.words[word].ilog2() as usize)
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.words.capacity() + self.summary.capacity()) * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_follows_set_and_clear() {
        let mut bits = BitSet::new();
        assert_eq!(bits.lowest(), None);
        for member in [70_000, 4096, 4095, 64, 3] {
            bits.set(member);
            assert_eq!(
                (bits.lowest(), bits.highest()),
                (Some(member), Some(70_000))
            );
        }
        for member in [3, 64, 4095, 4096] {
            bits.clear(member);
            assert!(bits.lowest() > Some(member));
        }
        bits.set(5);
        bits.clear(70_000);
        assert_eq!((bits.lowest(), bits.highest()), (Some(5), Some(5)));
        bits.clear(5);
        assert_eq!((bits.lowest(), bits.highest()), (None, None));
        assert!(bits.bytes() >= 70_000 / 8);
    }
}
