//! A histogram of latencies: logarithmic, with 64 steps in each power of two.

const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;

/// Counts values from 0 to `u64::MAX` with a relative error below 1/64, in 30 KiB that never grow.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let octaves = (u64::BITS - STEP_BITS) as usize;
        Self {
            counts: vec![0; STEPS * (octaves + 1)],
            total: 0,
            max: 0,
        }
    }
}

fn index(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let octave = (63 - STEP_BITS) - value.leading_zeros();
    let step = (value >> octave) as usize - STEPS;
    (octave as usize + 1) * STEPS + step
}

/// The largest value that is counted at an index.
fn upper(index: usize) -> u64 {
    let (octave, step) = (index / STEPS, index % STEPS);
    if octave == 0 {
        return step as u64;
    }
    let low = ((STEPS + step) as u64) << (octave - 1);
    low + ((1_u64 << (octave - 1)) - 1)
}

impl Histogram {
    /// Counts a value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[index(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value below or at which the share `q` (0 to 1) of the values lies; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index).min(self.max);
            }
        }
        self.max
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_dense_and_ordered() {
        let mut last = 0;
        for value in 0..100_000_u64 {
            let index = index(value);
            assert!(index == last || index == last + 1, "{value}");
            assert!(
                upper(index) >= value && upper(index) - value <= value / 64,
                "{value}"
            );
            last = index;
        }
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.quantile(0.5), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        for value in 1..=1_000 {
            histogram.record(value * 1_000);
        }
        for (q, exact) in [
            (0.5, 500_000),
            (0.95, 950_000),
            (0.99, 990_000),
            (1.0, 1_000_000),
        ] {
            let found = histogram.quantile(q);
            assert!(
                found >= exact && found <= exact + exact / 64,
                "{q}: {found}"
            );
        }
        assert_eq!((histogram.total(), histogram.max()), (1_000, 1_000_000));
        let mut both = Histogram::default();
        both.record(2_000_000);
        both.merge(&histogram);
        assert_eq!((both.total(), both.max()), (1_001, 2_000_000));
        assert_eq!(both.quantile(0.25), histogram.quantile(0.25));
        histogram.clear();
        assert_eq!((histogram.total(), histogram.quantile(0.99)), (0, 0));
    }
}
