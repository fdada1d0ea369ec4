//! A naive model of the wheel and the operations on both, for property tests and fuzzing.

use std::collections::{BTreeMap, HashMap};

use timerwheel::{Expired, Policy, TimerKey, TimerWheel};

/// One step of a test. Ticks and timers are picked by small numbers, so that they meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Insert a timer that long after the present tick, at the next tick that has so many low
    /// zeros.
    Insert { delay: u64, zeros: u32 },
    /// Insert a timer that long before the present tick.
    InsertPast { ago: u64 },
    /// Cancel the timer that was inserted as the `pick`th, live or stale.
    Cancel { pick: usize },
    /// Touch a timer to that long after the present tick.
    Touch { pick: usize, delay: u64 },
    /// Reset a timer to that long after the present tick.
    Reset { pick: usize, delay: u64 },
    /// Let time pass and expire what is due, with a budget a call; call again until there is no
    /// more, or give up after so many calls.
    Expire {
        ticks: u64,
        budget: usize,
        calls: usize,
    },
    /// Let time pass tick by tick as `next_deadline` says.
    Follow { ticks: u64 },
    /// Let time pass and tell only `advance`.
    Advance { ticks: u64 },
}

/// What the model knows of a timer.
#[derive(Clone, Copy, Debug)]
struct Timer {
    key: TimerKey,
    deadline: u64,
    slack: u64,
}

/// The wheel and the model.
pub(crate) struct Pair {
    wheel: TimerWheel<u64>,
    max_slack: u64,
    now: u64,
    next_value: u64,
    live: BTreeMap<u64, Timer>,
    keys: Vec<(TimerKey, u64)>,
    by_key: HashMap<TimerKey, u64>,
    out: Vec<Expired<u64>>,
}

impl Pair {
    pub(crate) fn new(policy: Policy, start: u64) -> Self {
        let max_slack = match policy {
            Policy::Coarse { max_slack_ticks } => max_slack_ticks,
            _ => 0,
        };
        Self {
            wheel: TimerWheel::new(policy, start),
            max_slack,
            now: start,
            next_value: 0,
            live: BTreeMap::new(),
            keys: Vec::new(),
            by_key: HashMap::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, op: Op) {
        match op {
            Op::Insert { delay, zeros } => {
                let deadline = self.now.saturating_add(delay);
                let low = (1 << zeros) - 1;
                self.insert(deadline.saturating_add(low) & !low);
            }
            Op::InsertPast { ago } => self.insert(self.now.saturating_sub(ago)),
            Op::Cancel { pick } => self.cancel(pick),
            Op::Touch { pick, delay } => self.touch(pick, self.now.saturating_add(delay)),
            Op::Reset { pick, delay } => self.reset(pick, self.now.saturating_add(delay)),
            Op::Expire {
                ticks,
                budget,
                calls,
            } => {
                self.now = self.now.saturating_add(ticks);
                self.expire(budget, calls);
            }
            Op::Follow { ticks } => self.follow(ticks),
            Op::Advance { ticks } => {
                self.now = self.now.saturating_add(ticks);
                self.wheel.advance(self.now);
            }
        }
        self.check();
    }

    /// Expires everything that is left, so that nothing is lost.
    pub(crate) fn finish(mut self) {
        self.now = u64::MAX;
        self.expire(usize::MAX, 1);
        assert!(self.live.is_empty() && self.wheel.is_empty());
        assert_eq!(self.wheel.next_deadline(), None);
    }

    fn slack(&self, deadline: u64) -> u64 {
        (deadline.saturating_sub(self.now) / 16).min(self.max_slack)
    }

    fn insert(&mut self, deadline: u64) {
        let value = self.next_value;
        self.next_value += 1;
        let key = self.wheel.insert(deadline, value);
        self.keys.push((key, value));
        assert_eq!(self.by_key.insert(key, value), None, "a key is given once");
        self.live.insert(
            value,
            Timer {
                key,
                deadline,
                slack: self.slack(deadline),
            },
        );
    }

    fn pick(&self, pick: usize) -> Option<(TimerKey, u64)> {
        let index = pick % self.keys.len().max(1);
        self.keys.get(index).copied()
    }

    fn cancel(&mut self, pick: usize) {
        let Some((key, value)) = self.pick(pick) else {
            return;
        };
        let expected = self.live.remove(&value).map(|_| value);
        assert_eq!(self.wheel.cancel(key), expected);
    }

    fn touch(&mut self, pick: usize, tick: u64) {
        let Some((key, value)) = self.pick(pick) else {
            return;
        };
        let timer = self.live.get_mut(&value);
        assert_eq!(self.wheel.touch(key, tick), timer.is_some());
        if let Some(timer) = timer {
            timer.deadline = timer.deadline.max(tick);
        }
    }

    fn reset(&mut self, pick: usize, tick: u64) {
        let Some((key, value)) = self.pick(pick) else {
            return;
        };
        let slack = self.slack(tick);
        let timer = self.live.get_mut(&value);
        assert_eq!(self.wheel.reset_sooner(key, tick), timer.is_some());
        if let Some(timer) = timer {
            timer.deadline = tick;
            timer.slack = slack;
        }
    }

    fn expire(&mut self, budget: usize, calls: usize) {
        let mut more = true;
        for _ in 0..calls {
            self.out.clear();
            more = self.wheel.expire(self.now, budget, &mut self.out);
            assert!(self.out.len() <= budget);
            for due in &self.out {
                assert_eq!(self.by_key.get(&due.key), Some(&due.value));
                let timer = self
                    .live
                    .remove(&due.value)
                    .expect("expires once, and not cancelled");
                assert_eq!((due.key, due.deadline_tick), (timer.key, timer.deadline));
                assert!(
                    timer.deadline <= self.now,
                    "never early: {timer:?} at {}",
                    self.now
                );
            }
            if !more {
                break;
            }
        }
        if !more {
            for timer in self.live.values() {
                let latest = timer.deadline.saturating_add(timer.slack);
                assert!(latest > self.now, "too late: {timer:?} at {}", self.now);
            }
        }
    }

    fn follow(&mut self, ticks: u64) {
        let end = self.now.saturating_add(ticks);
        for _ in 0..200 {
            match self.wheel.next_deadline() {
                Some(tick) if tick <= end => {
                    self.now = self.now.max(tick);
                    self.expire(usize::MAX, 1);
                }
                _ => break,
            }
        }
        self.now = end;
        self.expire(usize::MAX, 1);
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.live.len());
        assert_eq!(self.wheel.next_deadline().is_none(), self.live.is_empty());
        if let Some(next) = self.wheel.next_deadline() {
            for timer in self.live.values() {
                let latest = timer.deadline.saturating_add(timer.slack);
                assert!(
                    next <= latest.max(self.now),
                    "{timer:?} is not waited for: {next}"
                );
            }
        }
        for (key, value) in self.keys.iter().rev().take(4) {
            let timer = self.live.get(value);
            assert_eq!(self.wheel.contains(*key), timer.is_some());
            assert_eq!(self.wheel.deadline(*key), timer.map(|timer| timer.deadline));
            assert_eq!(self.wheel.get(*key), timer.map(|_| value));
        }
    }
}
