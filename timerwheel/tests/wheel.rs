//! The contract of the wheel through its public interface.
#![cfg(not(loom))]

use timerwheel::{Expired, Policy, TimerKey, TimerWheel};

const COARSE: Policy = Policy::Coarse {
    max_slack_ticks: u64::MAX,
};

static_assertions::assert_impl_all!(TimerWheel<u64>: Send, Sync);

fn all<T>(wheel: &mut TimerWheel<T>, now_tick: u64) -> Vec<Expired<T>> {
    let mut out = Vec::new();
    assert!(!wheel.expire(now_tick, usize::MAX, &mut out));
    out
}

fn values(wheel: &mut TimerWheel<u64>, now_tick: u64) -> Vec<u64> {
    let mut values: Vec<u64> = all(wheel, now_tick).iter().map(|due| due.value).collect();
    values.sort_unstable();
    values
}

#[test]
fn exact_timers_expire_at_their_tick_and_not_before() {
    for start in [0, 1, 63, 64, 4095, 1 << 36, u64::MAX - 5000] {
        let mut wheel = TimerWheel::new(Policy::Exact, start);
        for delay in 1..=5000 {
            wheel.insert(start + delay, delay);
        }
        for delay in 1..=5000 {
            assert_eq!(values(&mut wheel, start + delay), [delay], "start {start}");
        }
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), None);
    }
}

#[test]
fn coarse_timers_share_ticks() {
    let mut wheel = TimerWheel::new(
        Policy::Coarse {
            max_slack_ticks: 100,
        },
        0,
    );
    for delay in 9000..10_000 {
        wheel.insert(delay, delay);
    }
    let (mut wakes, mut seen) = (0, 0);
    while let Some(tick) = wheel.next_deadline() {
        wakes += 1;
        for due in all(&mut wheel, tick) {
            assert!(due.deadline_tick <= tick && tick <= due.deadline_tick + 100);
            seen += 1;
        }
    }
    assert_eq!(seen, 1000);
    assert!(wakes < 40, "{wakes} wake-ups for a thousand ticks");
    assert!(wheel.stats().moved <= 1000, "each was moved once at most");
}

#[test]
fn a_deadline_in_the_past_is_due_at_the_next_expire() {
    for policy in [Policy::Exact, COARSE] {
        let mut wheel = TimerWheel::new(policy, 100);
        let key = wheel.insert(3, 3);
        wheel.insert(100, 100);
        assert!(wheel.next_deadline().is_some_and(|tick| tick <= 100));
        assert_eq!(wheel.deadline(key), Some(3));
        assert_eq!(
            values(&mut wheel, 0),
            [3, 100],
            "an older tick counts as the present one"
        );
    }
}

#[test]
fn touch_only_ever_delays() {
    for policy in [Policy::Exact, COARSE] {
        let mut wheel = TimerWheel::new(policy, 0);
        let key = wheel.insert(10, 0);
        assert!(wheel.touch(key, 15));
        assert!(wheel.touch(key, 12), "ignored, but live");
        assert_eq!(wheel.deadline(key), Some(15));
        assert_eq!(all(&mut wheel, 14), []);
        assert_eq!(wheel.stats().moved, 1);
        assert_eq!(
            all(&mut wheel, 15),
            [Expired {
                key,
                deadline_tick: 15,
                value: 0
            }]
        );
        assert!(!wheel.touch(key, 20));
    }
}

#[test]
fn reset_sooner_moves_both_ways() {
    for policy in [Policy::Exact, COARSE] {
        let mut wheel = TimerWheel::new(policy, 0);
        let key = wheel.insert(1000, 0);
        assert!(wheel.reset_sooner(key, 10));
        assert_eq!(wheel.next_deadline(), Some(10));
        assert!(wheel.reset_sooner(key, 14));
        assert_eq!(wheel.next_deadline(), Some(14));
        assert!(wheel.reset_sooner(key, 0));
        assert_eq!(wheel.next_deadline(), Some(0));
        assert!(wheel.reset_sooner(key, 5));
        assert_eq!(values(&mut wheel, 4), []);
        assert_eq!(values(&mut wheel, 5), [0]);
        assert!(!wheel.reset_sooner(key, 9));
    }
}

#[test]
fn stale_and_foreign_keys_are_refused() {
    let mut wheel = TimerWheel::new(Policy::Exact, 0);
    let old = wheel.insert(1, 1);
    assert_eq!(wheel.cancel(old), Some(1));
    let new = wheel.insert(2, 2);
    for key in [
        Some(old),
        TimerKey::from_bits(u64::MAX),
        TimerKey::from_bits(1 << 63),
    ] {
        let key = key.unwrap();
        assert_eq!(wheel.cancel(key), None);
        assert!(!wheel.touch(key, 100) && !wheel.reset_sooner(key, 0) && !wheel.contains(key));
        assert_eq!((wheel.get(key), wheel.deadline(key)), (None, None));
        assert_eq!(wheel.get_mut(key), None);
    }
    *wheel.get_mut(new).unwrap() += 7;
    assert_eq!((wheel.get(new), wheel.deadline(new)), (Some(&9), Some(2)));
}

#[test]
fn what_is_over_budget_can_still_be_cancelled_touched_and_reset() {
    let mut wheel = TimerWheel::new(Policy::Exact, 0);
    let keys: Vec<TimerKey> = (0..10).map(|value| wheel.insert(5, value)).collect();
    let mut out = Vec::new();
    assert!(wheel.expire(5, 0, &mut out));
    assert!(out.is_empty());
    assert!(wheel.expire(5, 4, &mut out));
    assert_eq!(out.len(), 4);
    assert_eq!((wheel.len(), wheel.next_deadline()), (6, Some(5)));
    let rest: Vec<TimerKey> = keys
        .into_iter()
        .filter(|key| wheel.contains(*key))
        .collect();
    assert!(wheel.cancel(rest[5]).is_some(), "first of the pending list");
    assert!(wheel.cancel(rest[0]).is_some(), "last of the pending list");
    assert!(wheel.cancel(rest[2]).is_some(), "one between");
    assert!(wheel.touch(rest[1], 7));
    assert!(wheel.reset_sooner(rest[3], 9));
    out.clear();
    assert!(!wheel.expire(5, 100, &mut out));
    assert_eq!(out.iter().map(|due| due.key).collect::<Vec<_>>(), [rest[4]]);
    assert_eq!(all(&mut wheel, 7)[0].key, rest[1]);
    assert_eq!(all(&mut wheel, 9)[0].key, rest[3]);
    assert!(wheel.is_empty());
}

#[test]
fn a_long_sleep_costs_no_more_than_its_timers() {
    let mut wheel = TimerWheel::new(Policy::Exact, 0);
    for level in 0..60 {
        wheel.insert(1 << level, level);
    }
    assert_eq!(values(&mut wheel, u64::MAX), (0..60).collect::<Vec<u64>>());
    assert_eq!(
        wheel.stats().moved,
        0,
        "what is due on a far level is not moved down first"
    );
    wheel.insert(u64::MAX, 1);
    assert_eq!(values(&mut wheel, u64::MAX), [1]);
}

#[test]
fn advance_keeps_the_slack_of_a_short_delay_after_a_long_sleep() {
    let mut wheel = TimerWheel::new(COARSE, 0);
    wheel.insert(3_000_000, 1);
    wheel.advance(1_000_000);
    wheel.advance(5);
    wheel.insert(1_000_010, 2);
    assert_eq!(wheel.next_deadline(), Some(1_000_010));
    wheel.advance(2_000_000);
    assert_eq!(values(&mut wheel, 0), [2]);
    let tick = wheel.next_deadline().unwrap();
    assert!(tick <= 3_000_000 + 3_000_000 / 16);
    assert_eq!(values(&mut wheel, 2_999_999), []);
    assert_eq!(values(&mut wheel, 3_000_000 + 3_000_000 / 16), [1]);
}

#[test]
fn counters_and_memory_are_told() {
    let mut wheel = TimerWheel::with_capacity(Policy::Exact, 0, 1000);
    let start = wheel.stats();
    assert_eq!((start.live, start.chunks), (0, 16));
    let keys: Vec<TimerKey> = (0..100_000)
        .map(|value| wheel.insert(value % 5000, value))
        .collect();
    let full = wheel.stats();
    assert_eq!((full.live, full.inserted), (100_000, 100_000));
    assert!(full.bytes < 100_000 * 34, "{full:?}");
    for key in keys.iter().step_by(2) {
        assert!(wheel.cancel(*key).is_some());
    }
    assert_eq!(all(&mut wheel, 6000).len(), 50_000);
    let end = wheel.stats();
    assert_eq!((end.live, end.cancelled, end.expired), (0, 50_000, 50_000));
    assert_eq!(
        end.late_ticks_max, 5999,
        "deadline 1, which was not cancelled"
    );
    assert!(end.chunks <= 20 && end.bytes < 100_000, "{end:?}");
}
