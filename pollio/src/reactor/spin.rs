//! How long a loop that has run out of work looks for more before it sleeps.
//!
//! A sleep of a few microseconds costs more than it saves: giving up the processor, the wake-up of
//! it and the way back. So the loop looks again for a while, the *window*, as KVM does before it
//! gives up a processor (Linux, `Documentation/virt/kvm/halt-polling.rst`), and fits the window to
//! what looking would have brought. Idleness is the time from the end of the work to what ended
//! the wait, looking included. After each wait that blocked:
//!
//! - not longer than the window (it ended just when the loop gave up): the window stays;
//! - longer, but not longer than the limit: looking on would have saved the sleep; the window
//!   grows, from the first step to twice itself, up to the limit;
//! - longer than the limit: looking was in vain; the window halves, and below the first step it
//!   is 0.
//!
//! So a loop whose events are further apart than the limit does not look at all after a few of
//! them, and any loop looks in vain for at most one window a sleep.
//!
//! No clock of its own: times come in, in nanoseconds, and only need to be of one clock.

#![forbid(unsafe_code)]

/// The first window, or the limit where that is less. As in KVM (`halt_poll_ns_grow_start`).
const FIRST_NS: u64 = 10_000;

/// The window and the idleness that it is held against.
#[derive(Debug)]
pub(super) struct Spin {
    ns_max: u64,
    window_ns: u64,
    /// When the work ran out. `None` while there is some.
    idle_since_ns: Option<u64>,
}

impl Spin {
    /// Looks for at most `ns_max`; 0 is off.
    pub(super) const fn new(ns_max: u64) -> Self {
        Self {
            ns_max,
            window_ns: 0,
            idle_since_ns: None,
        }
    }

    /// There is no work. Keeps the earlier time if there was none before.
    pub(super) fn rest(&mut self, now_ns: u64) {
        self.idle_since_ns.get_or_insert(now_ns);
    }

    /// There is work.
    pub(super) fn work(&mut self) {
        self.idle_since_ns = None;
    }

    /// There is work, and a wait that could block has brought it.
    pub(super) fn wake(&mut self, now_ns: u64) {
        let Some(since_ns) = self.idle_since_ns.take() else {
            return;
        };
        let idle_ns = now_ns.saturating_sub(since_ns);
        let first_ns = FIRST_NS.min(self.ns_max);
        if idle_ns > self.ns_max {
            self.window_ns /= 2;
            if self.window_ns < first_ns {
                self.window_ns = 0;
            }
        } else if idle_ns > self.window_ns {
            let grown_ns = self.window_ns.saturating_mul(2);
            self.window_ns = grown_ns.clamp(first_ns, self.ns_max);
        }
    }

    /// Whether it ever looks.
    #[inline]
    pub(super) const fn is_on(&self) -> bool {
        self.ns_max > 0
    }

    /// Whether the work has run out.
    pub(super) const fn is_idle(&self) -> bool {
        self.idle_since_ns.is_some()
    }

    /// Whether the loop, which has no work, looks again. No, where it has not been told so.
    pub(super) fn looks_again(&self, now_ns: u64) -> bool {
        self.idle_since_ns
            .is_some_and(|since_ns| now_ns.saturating_sub(since_ns) < self.window_ns)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Idle from `at` for `idle_ns`, and then woken.
    fn sleep(spin: &mut Spin, at_ns: u64, idle_ns: u64) {
        spin.rest(at_ns);
        spin.rest(at_ns + 1);
        spin.wake(at_ns + idle_ns);
        assert!(!spin.is_idle());
    }

    /// The windows that sleeps of these lengths leave behind.
    fn windows(ns_max: u64, sleeps_ns: &[u64]) -> Vec<u64> {
        let mut spin = Spin::new(ns_max);
        sleeps_ns
            .iter()
            .map(|&idle_ns| {
                sleep(&mut spin, 7, idle_ns);
                spin.window_ns
            })
            .collect()
    }

    /// The same said naively, in a table: the window before, the idleness, the window after.
    fn model(ns_max: u64, sleeps_ns: &[u64]) -> Vec<u64> {
        let mut window = 0.0_f64;
        let (max, first) = (ns_max as f64, 10_000.0_f64.min(ns_max as f64));
        let mut windows = Vec::new();
        for &idle in sleeps_ns {
            let candidates = match (idle as f64 <= window, idle as f64 <= max) {
                (true, true) => [window; 3],
                (false, true) => [first, window * 2.0, max],
                (_, false) => {
                    [if window / 2.0 < first {
                        0.0
                    } else {
                        (window / 2.0).floor()
                    }; 3]
                }
            };
            // The middle one: twice the window, between the first step and the limit.
            let mut sorted = candidates;
            sorted.sort_by(f64::total_cmp);
            window = sorted[1];
            windows.push(window as u64);
        }
        windows
    }

    #[test]
    fn short_sleeps_open_the_window_and_long_ones_close_it() {
        assert_eq!(
            windows(
                50_000,
                &[1, 10_001, 20_001, 40_001, 50_000, 50_001, 99_999, 50_001, 1]
            ),
            [
                10_000, 20_000, 40_000, 50_000, 50_000, 25_000, 12_500, 0, 10_000
            ]
        );
        // Sleeps that the window covers change nothing.
        assert_eq!(windows(50_000, &[30_000, 10_000, 1]), [10_000; 3]);
        // A limit below the first step is the first step.
        assert_eq!(windows(3_000, &[3_000, 2_000, 3_001]), [3_000, 3_000, 0]);
    }

    #[test]
    fn a_loop_with_rare_events_never_looks() {
        assert_eq!(windows(50_000, &[4_000_000; 20]), [0; 20]);
        assert_eq!(windows(0, &[0, 1, 5]), [0; 3]);
    }

    #[test]
    fn looks_from_the_end_of_the_work_to_the_end_of_the_window() {
        let mut spin = Spin::new(50_000);
        assert!(
            !spin.looks_again(0),
            "nobody has said that there is no work"
        );
        sleep(&mut spin, 0, 5);
        spin.rest(1_000);
        assert!(spin.looks_again(1_000) && spin.looks_again(10_999));
        assert!(!spin.looks_again(11_000));
        spin.work();
        assert!(!spin.looks_again(1_001));
        spin.rest(20_000);
        assert!(
            spin.looks_again(29_999),
            "each idleness has a window of its own"
        );
        // What looking finds leaves the window as it is.
        spin.work();
        assert_eq!(spin.window_ns, 10_000);
    }

    proptest! {
        #[test]
        fn windows_are_those_of_the_naive_model(
            ns_max in prop_oneof![0..20_000_u64, 0..1_000_000_u64],
            sleeps_ns in prop::collection::vec(prop_oneof![0..20_000_u64, 0..2_000_000_u64], 0..60),
        ) {
            let found = windows(ns_max, &sleeps_ns);
            prop_assert_eq!(&found, &model(ns_max, &sleeps_ns));
            for window_ns in found {
                prop_assert!(window_ns <= ns_max);
                prop_assert!(window_ns == 0 || window_ns >= FIRST_NS.min(ns_max));
            }
        }
    }
}
