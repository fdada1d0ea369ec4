//! A million timers at once, with both policies: each expires once, in its time, and the memory
//! that they took is given back.

#![cfg(not(loom))]

use timerwheel::{Policy, TimerKey, TimerWheel};

const TIMERS: usize = 1_000_000;
const KEEP_ALIVE: u64 = 60_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What a million connections do: they come within a second, most are heard of, some leave.
fn storm(policy: Policy, lateness_max: u64) {
    let mut random = Random(7);
    let mut wheel = TimerWheel::new(policy, 0);
    let mut deadlines = vec![0; TIMERS];
    let mut keys: Vec<TimerKey> = Vec::with_capacity(TIMERS);
    for (n, deadline) in deadlines.iter_mut().enumerate() {
        wheel.advance(n as u64 / 1000);
        *deadline = n as u64 / 1000 + KEEP_ALIVE;
        keys.push(wheel.insert(*deadline, n as u32));
    }
    assert_eq!(wheel.len(), TIMERS);
    let full = wheel.stats().bytes;
    assert!(full < TIMERS * 34, "{full} bytes");

    let (mut due, mut left, mut cancelled) = (Vec::with_capacity(1024), TIMERS, 0);
    // Two rounds of traffic at any time of the first minute; one in 32 leaves.
    for round in 1..=2 {
        wheel.advance(round * 20_000);
        for n in 0..TIMERS {
            match random.next() % 32 {
                0 if wheel.cancel(keys[n]).is_some() => cancelled += 1,
                1..16 => {
                    let deadline = round * 20_000 + KEEP_ALIVE;
                    if wheel.touch(keys[n], deadline) {
                        deadlines[n] = deadline.max(deadlines[n]);
                    }
                }
                _ => {}
            }
        }
    }
    left -= cancelled;
    assert_eq!(wheel.len(), left);

    let mut wakes = 0;
    while let Some(tick) = wheel.next_deadline() {
        wakes += 1;
        loop {
            let more = wheel.expire(tick, 1024, &mut due);
            for expired in due.drain(..) {
                let deadline = std::mem::replace(&mut deadlines[expired.value as usize], u64::MAX);
                assert_eq!(expired.deadline_tick, deadline, "expires once");
                assert!(tick >= deadline && tick - deadline <= lateness_max);
                left -= 1;
            }
            if !more {
                break;
            }
        }
    }
    assert_eq!(left, 0);
    assert!(wheel.is_empty());
    assert!(
        wheel.stats().bytes < full / 10,
        "what is empty is given back"
    );
    // A million timers share the ticks that they come up at.
    let wakes_max = match policy {
        Policy::Exact => 4000,
        _ => 100,
    };
    assert!(wakes < wakes_max, "{wakes} wake-ups");
}

#[test]
fn exact() {
    storm(Policy::Exact, 0);
}

#[test]
fn coarse() {
    let policy = Policy::Coarse {
        max_slack_ticks: 1000,
    };
    storm(policy, 1000);
}
