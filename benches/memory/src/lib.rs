//! Workloads that the contenders share.

/// A cheap sequence of numbers (xorshift), the same for every contender.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins the sequence anew.
    #[must_use]
    pub const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Returns the next number below `n`.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

/// An item of a cache line.
pub type Item = [u64; 8];

/// What a table of items must do, so that one workload fits all.
pub trait Table {
    /// The handle of an item.
    type Key: Copy;
    /// The name in the reports.
    const NAME: &'static str;
    /// Makes an empty one.
    fn new() -> Self;
    /// Moves an item in.
    fn insert(&mut self, item: Item) -> Self::Key;
    /// Moves an item out.
    fn remove(&mut self, key: Self::Key) -> Option<Item>;
    /// Reads an item.
    fn first_word(&self, key: Self::Key) -> Option<u64>;
    /// Adds up the first words of all items.
    fn sum(&self) -> u64;
}

/// Fills a table.
pub fn filled<T: Table>(count: usize) -> (T, Vec<T::Key>) {
    let mut table = T::new();
    let keys = (0..count as u64).map(|i| table.insert([i; 8])).collect();
    (table, keys)
}

/// Replaces items at random, one by one, and returns a sum of what was read.
#[inline(never)]
pub fn churn<T: Table>(
    table: &mut T,
    keys: &mut [T::Key],
    numbers: &mut Numbers,
    turns: u64,
) -> u64 {
    let mut sum = 0_u64;
    for turn in 0..turns {
        let at = numbers.below(keys.len());
        sum = sum.wrapping_add(table.remove(keys[at]).map_or(0, |item| item[0]));
        keys[at] = table.insert([turn; 8]);
    }
    sum
}

/// Removes 64 items at random and puts as many in, so that no insertion finds what was just freed
/// alone.
#[inline(never)]
pub fn churn_batches<T: Table>(
    table: &mut T,
    keys: &mut [T::Key],
    numbers: &mut Numbers,
    turns: u64,
) -> u64 {
    let mut sum = 0_u64;
    for turn in 0..turns / 64 {
        let start = numbers.below(keys.len() - 64);
        let step = 1 + numbers.below((keys.len() - 64) / 64);
        let len = keys.len();
        let slots = |i: usize| (start + i * step) % len;
        for i in 0..64 {
            sum = sum.wrapping_add(table.remove(keys[slots(i)]).map_or(0, |item| item[0]));
        }
        for i in 0..64 {
            keys[slots(i)] = table.insert([turn; 8]);
        }
    }
    sum
}

/// Reads items at random.
#[inline(never)]
pub fn look_up<T: Table>(table: &T, keys: &[T::Key], numbers: &mut Numbers, turns: u64) -> u64 {
    (0..turns).fold(0, |sum: u64, _| {
        let key = keys[numbers.below(keys.len())];
        sum.wrapping_add(table.first_word(key).unwrap_or(0))
    })
}
