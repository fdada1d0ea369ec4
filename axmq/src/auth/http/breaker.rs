//! A circuit breaker: a service that fails again and again is left alone for a while.
//!
//! Closed, every question goes through. After so many failures in a row it opens, and no question
//! does. When its time is over it is half open: one question goes through, and what becomes of that
//! decides whether it closes or stays open for as long again.

/// See the module. Time is in milliseconds, and never goes back.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    open_ms: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until_ms: u64,
    },
    /// One question is under way. If nothing comes of it, another one may go after this time.
    HalfOpen {
        until_ms: u64,
    },
}

impl Breaker {
    pub(super) fn new(failures_max: u32, open_ms: u64) -> Self {
        Self {
            failures_max,
            open_ms,
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether a question may go through now. Each that does has to be followed by
    /// [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
    pub(super) fn admits(&mut self, now_ms: u64) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until_ms } | State::HalfOpen { until_ms } => {
                let admits = now_ms >= until_ms;
                if admits {
                    let until_ms = now_ms + self.open_ms;
                    self.state = State::HalfOpen { until_ms };
                }
                admits
            }
        }
    }

    /// A question was answered; whether that closes the breaker.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = !matches!(self.state, State::Closed { .. });
        self.state = State::Closed { failures: 0 };
        was_open
    }

    /// A question failed; whether that opens the breaker, which was closed.
    pub(super) fn failed(&mut self, now_ms: u64) -> bool {
        let until_ms = now_ms + self.open_ms;
        match self.state {
            State::Closed { failures } if failures + 1 < self.failures_max => {
                self.state = State::Closed {
                    failures: failures + 1,
                };
                false
            }
            State::Closed { .. } => {
                self.state = State::Open { until_ms };
                true
            }
            State::HalfOpen { .. } => {
                self.state = State::Open { until_ms };
                false
            }
            // One that went through before it opened.
            State::Open { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let mut breaker = Breaker::new(3, 1_000);
        for _ in 0..2 {
            assert!(breaker.admits(0) && !breaker.failed(0));
        }
        assert!(breaker.admits(0) && !breaker.succeeded());
        for _ in 0..2 {
            assert!(breaker.admits(5) && !breaker.failed(5), "not in a row");
        }
        // Two at once: the first opens it, the second changes nothing.
        assert!(breaker.admits(5) && breaker.admits(5));
        assert!(breaker.failed(5) && !breaker.failed(900));
        assert!(!breaker.admits(1_004));
        assert!(breaker.admits(1_005), "half open");
        assert!(!breaker.admits(1_005), "for one");
        assert!(!breaker.failed(1_100));
        assert!(!breaker.admits(2_099) && breaker.admits(2_100));
        assert!(breaker.succeeded());
        assert!(breaker.admits(2_100) && breaker.admits(2_100));
    }

    #[test]
    fn one_whose_question_comes_to_nothing_does_not_stay_half_open() {
        let mut breaker = Breaker::new(1, 10);
        assert!(breaker.admits(0) && breaker.failed(0));
        assert!(breaker.admits(10) && !breaker.admits(19));
        assert!(
            breaker.admits(20),
            "the one before was never heard of again"
        );
    }
}
