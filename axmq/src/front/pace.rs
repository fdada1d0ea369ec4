//! How many connections a front accepts in a second.

/// A token bucket that holds as many connections as one second brings.
#[derive(Debug)]
pub(super) struct Pace {
    /// Connections a second; 0 is no bound.
    rate: u64,
    /// Connections that may be accepted, in thousandths.
    tokens: u64,
    filled_at_ms: u64,
    /// Accepting has stopped, and somebody may wait in the listener's queue.
    is_held: bool,
}

impl Pace {
    /// Begins with a full bucket.
    pub(super) fn new(rate: u32, now_ms: u64) -> Self {
        let rate = u64::from(rate);
        Self {
            rate,
            tokens: rate * 1_000,
            filled_at_ms: now_ms,
            is_held: false,
        }
    }

    /// Goes on at another rate; what has been saved up is no more than that allows.
    pub(super) fn set_rate(&mut self, rate: u32) {
        self.rate = rate.into();
        self.tokens = self.tokens.min(self.rate * 1_000);
    }

    /// Whether one more may be accepted now. If not, accepting stops until it
    /// [resumes](Self::resumes).
    pub(super) fn allows(&mut self, now_ms: u64) -> bool {
        // A full bucket needs no more than a second.
        let passed_ms = now_ms.saturating_sub(self.filled_at_ms).min(1_000);
        self.filled_at_ms = now_ms.max(self.filled_at_ms);
        self.tokens = (self.tokens + passed_ms * self.rate).min(self.rate * 1_000);
        self.is_held = self.rate > 0 && self.tokens < 1_000;
        !self.is_held
    }

    /// One was accepted.
    pub(super) fn spend(&mut self) {
        self.tokens = self.tokens.saturating_sub(1_000);
    }

    /// Whether accepting has stopped.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// When the next one may be accepted, where accepting has stopped.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let missing = 1_000_u64.saturating_sub(self.tokens);
        let wait_ms = missing.div_ceil(self.rate.max(1));
        let wait_ms = if self.rate == 0 { 0 } else { wait_ms };
        self.is_held.then(|| self.filled_at_ms + wait_ms)
    }

    /// Whether accepting, which has stopped, goes on; `true` once.
    pub(super) fn resumes(&mut self, now_ms: u64) -> bool {
        let resumes = self.next_ms().is_some_and(|at_ms| at_ms <= now_ms);
        self.is_held &= !resumes;
        resumes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pace: &mut Pace, now_ms: u64) -> bool {
        let is_allowed = pace.allows(now_ms);
        if is_allowed {
            pace.spend();
        }
        is_allowed
    }

    #[test]
    fn no_time_brings_more_than_its_rate_and_a_full_bucket() {
        let mut pace = Pace::new(100, 5_000);
        let mut accepted = 0;
        for now_ms in 5_000..8_000 {
            while take(&mut pace, now_ms) {
                accepted += 1;
            }
            let next_ms = pace.next_ms().expect("it is held");
            assert!(next_ms > now_ms && next_ms <= now_ms + 10);
        }
        assert_eq!(accepted, 100 + 299, "a bucket, and what 2,999 ms bring");
        let next_ms = pace.next_ms().expect("it is held");
        assert!(!pace.resumes(next_ms - 1));
        assert!(pace.resumes(next_ms) && !pace.resumes(next_ms));
        assert!(take(&mut pace, next_ms), "it is never too early");
    }

    #[test]
    fn a_long_silence_fills_the_bucket_and_no_more() {
        let mut pace = Pace::new(10, 0);
        while take(&mut pace, 0) {}
        let accepted = (0..1_000).filter(|_| take(&mut pace, 3_600_000));
        assert_eq!(accepted.count(), 10);
    }

    #[test]
    fn asking_costs_nothing() {
        let mut pace = Pace::new(1, 0);
        assert!((0..10).all(|_| pace.allows(0)));
        assert!(take(&mut pace, 0) && !take(&mut pace, 999) && take(&mut pace, 1_000));
    }

    #[test]
    fn without_a_rate_nothing_is_held_and_a_rate_taken_back_lets_go() {
        let mut pace = Pace::new(0, 0);
        assert!((0..10_000).all(|_| take(&mut pace, 0)));
        assert_eq!(pace.next_ms(), None);
        pace.set_rate(2);
        assert!(!take(&mut pace, 0), "nothing has been saved up");
        assert_eq!(pace.next_ms(), Some(500));
        pace.set_rate(0);
        assert!(pace.resumes(0) && take(&mut pace, 0));
    }
}
