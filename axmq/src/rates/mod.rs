//! How fast clients and users publish, held against what they may.
//!
//! A rate is kept as one number, the time at which all that was taken would have been earned: each
//! publish moves it on by what it costs, and nothing moves it back. Up to a burst ahead of now is
//! in order; beyond it, that is how long the client has to wait. So there is nothing to refill, and
//! no timer while nobody waits. A publish that was read is let through, whatever its size: the next
//! one waits for it.

mod users;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::users::Users;
use crate::config::RateSettings;

const NS_PER_S: u64 = 1_000_000_000;

/// What of a rate was exceeded.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Exceeding {
    Publishes,
    Bytes,
}

/// Publishes and bytes a second; 0 is no bound.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rates {
    publishes_per_s: u32,
    bytes_per_s: u32,
    burst_ms: u32,
}

impl Rates {
    /// Those of one client.
    pub(crate) fn of_client(settings: &RateSettings) -> Self {
        Self {
            publishes_per_s: settings.client_publishes_per_s,
            bytes_per_s: settings.client_bytes_per_s,
            burst_ms: settings.burst_ms,
        }
    }

    /// Those of one user.
    pub(crate) fn of_user(settings: &RateSettings) -> Self {
        Self {
            publishes_per_s: settings.user_publishes_per_s,
            bytes_per_s: settings.user_bytes_per_s,
            burst_ms: settings.burst_ms,
        }
    }

    fn publish_ns(self) -> u64 {
        NS_PER_S
            .checked_div(self.publishes_per_s.into())
            .unwrap_or(0)
    }

    fn bytes_ns(self, bytes: usize) -> u64 {
        // A packet is below 2^28 bytes [MQTT-2.1.4], so this is below 2^58.
        let ns = (bytes as u64).saturating_mul(NS_PER_S);
        ns.checked_div(self.bytes_per_s.into()).unwrap_or(0)
    }

    /// Which bound makes for the longer wait, and how long that is, where there is one.
    fn judge(self, publishes_ns: u64, bytes_ns: u64, now_ms: u64) -> Option<(Exceeding, u64)> {
        let free_ns = (now_ms + u64::from(self.burst_ms)) * 1_000_000;
        let over = |at_ns: u64| at_ns.saturating_sub(free_ns).div_ceil(1_000_000);
        let (publishes_ms, bytes_ms) = (over(publishes_ns), over(bytes_ns));
        match publishes_ms.max(bytes_ms) {
            0 => None,
            wait_ms if publishes_ms >= bytes_ms => Some((Exceeding::Publishes, wait_ms)),
            wait_ms => Some((Exceeding::Bytes, wait_ms)),
        }
    }
}

/// What one client has taken.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Taken {
    publishes_ns: u64,
    bytes_ns: u64,
}

impl Taken {
    /// Takes a publish of so many bytes.
    pub(crate) fn take(&mut self, rates: Rates, bytes: usize, now_ms: u64) {
        let now_ns = now_ms * 1_000_000;
        self.publishes_ns = self.publishes_ns.max(now_ns) + rates.publish_ns();
        self.bytes_ns = self.bytes_ns.max(now_ns) + rates.bytes_ns(bytes);
    }

    /// What has been exceeded, and milliseconds to wait; `None` where all is in order.
    pub(crate) fn exceeds(&self, rates: Rates, now_ms: u64) -> Option<(Exceeding, u64)> {
        rates.judge(self.publishes_ns, self.bytes_ns, now_ms)
    }
}

/// What the clients of one user have taken, on whatever shards they are.
#[derive(Debug, Default)]
pub(crate) struct TakenByUser {
    publishes_ns: AtomicU64,
    bytes_ns: AtomicU64,
}

impl TakenByUser {
    /// As [`Taken::take`].
    pub(crate) fn take(&self, rates: Rates, bytes: usize, now_ms: u64) {
        let now_ns = now_ms * 1_000_000;
        let add = |to: &AtomicU64, ns: u64| {
            // Never fails: each try has an answer.
            let _ = to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at_ns| {
                Some(at_ns.max(now_ns) + ns)
            });
        };
        add(&self.publishes_ns, rates.publish_ns());
        add(&self.bytes_ns, rates.bytes_ns(bytes));
    }

    /// As [`Taken::exceeds`].
    pub(crate) fn exceeds(&self, rates: Rates, now_ms: u64) -> Option<(Exceeding, u64)> {
        let load = |at_ns: &AtomicU64| at_ns.load(Ordering::Relaxed);
        rates.judge(load(&self.publishes_ns), load(&self.bytes_ns), now_ms)
    }

    /// Whether everything taken has been earned: then it is as good as new.
    fn is_even(&self, now_ms: u64) -> bool {
        let now_ns = now_ms * 1_000_000;
        self.publishes_ns.load(Ordering::Relaxed) <= now_ns
            && self.bytes_ns.load(Ordering::Relaxed) <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATES: Rates = Rates {
        publishes_per_s: 10,
        bytes_per_s: 1_000,
        burst_ms: 1_000,
    };

    #[test]
    fn a_burst_is_free_and_then_each_has_to_be_waited_for() {
        let mut taken = Taken::default();
        for _ in 0..10 {
            taken.take(RATES, 10, 5_000);
            assert_eq!(taken.exceeds(RATES, 5_000), None);
        }
        taken.take(RATES, 10, 5_000);
        let wait = Some((Exceeding::Publishes, 100));
        assert_eq!(taken.exceeds(RATES, 5_000), wait);
        assert_eq!(taken.exceeds(RATES, 5_099), Some((Exceeding::Publishes, 1)));
        assert_eq!(taken.exceeds(RATES, 5_100), None);
    }

    #[test]
    fn a_large_one_is_let_through_and_waited_for() {
        let mut taken = Taken::default();
        taken.take(RATES, 20_000, 5_000);
        let wait = Some((Exceeding::Bytes, 19_000));
        assert_eq!(taken.exceeds(RATES, 5_000), wait);
        let user = TakenByUser::default();
        user.take(RATES, 20_000, 5_000);
        assert_eq!(user.exceeds(RATES, 5_000), wait);
        assert!(!user.is_even(24_999) && user.is_even(25_000));
    }

    #[test]
    fn without_a_bound_nothing_is_exceeded() {
        let rates = Rates {
            burst_ms: 10,
            ..Rates::default()
        };
        let mut taken = Taken::default();
        for _ in 0..1_000_000 {
            taken.take(rates, 268_435_460, 1);
        }
        assert_eq!(taken.exceeds(rates, 1), None);
    }

    /// A bucket that is filled each millisecond, in billionths of a token: slow and plain.
    struct Bucket {
        tokens: i128,
        full: i128,
        per_ms: i128,
    }

    proptest! {
        /// Against buckets that are filled millisecond by millisecond: the same are let through at
        /// once, and the wait is what it takes to fill up to zero.
        #[test]
        fn it_is_a_token_bucket(
            steps in prop::collection::vec((0..300_u64, 1..600_usize), 1..80),
            per_s in prop::sample::select(vec![1_u32, 2, 5, 10, 100, 1_000]),
            burst_ms in 10..3_000_u32,
        ) {
            let rates = Rates { publishes_per_s: per_s, bytes_per_s: 0, burst_ms };
            let full = i128::from(per_s) * i128::from(burst_ms) * 1_000_000;
            let mut bucket = Bucket { tokens: full, full, per_ms: i128::from(per_s) * 1_000_000 };
            let mut taken = Taken::default();
            let mut now_ms = 1_000;
            for (passes_ms, bytes) in steps {
                now_ms += passes_ms;
                for _ in 0..passes_ms {
                    bucket.tokens = (bucket.tokens + bucket.per_ms).min(bucket.full);
                }
                taken.take(rates, bytes, now_ms);
                bucket.tokens -= 1_000_000_000;
                let missing = (-bucket.tokens).max(0);
                let wait_ms = (missing + bucket.per_ms - 1) / bucket.per_ms;
                let found = taken.exceeds(rates, now_ms).map_or(0, |(_, ms)| i128::from(ms));
                prop_assert_eq!(found, wait_ms);
            }
        }
    }
}
