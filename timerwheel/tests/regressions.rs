//! A case for each bug that was found, named after its symptom.
#![cfg(not(loom))]

use timerwheel::{Policy, TimerWheel};

#[test]
fn a_timer_was_lost_when_slots_of_two_levels_came_up_at_one_tick() {
    let mut wheel = TimerWheel::new(Policy::Exact, 0);
    wheel.insert(4096, 1);
    wheel.insert(4096 + 64, 2);
    let mut out = Vec::new();
    assert!(
        !wheel.expire(4100, 100, &mut out),
        "the second moves down to level 1"
    );
    wheel.insert(4100 + 60, 3);
    out.clear();
    assert!(!wheel.expire(4160, 100, &mut out));
    assert_eq!(out.len(), 2);
    assert!(wheel.is_empty());
}

#[test]
fn a_leap_in_time_took_a_turn_for_each_time_a_far_timer_might_have_been_looked_at() {
    let mut wheel = TimerWheel::new(
        Policy::Coarse {
            max_slack_ticks: 1000,
        },
        0,
    );
    wheel.insert(u64::MAX, 1);
    let mut out = Vec::new();
    assert!(
        !wheel.expire(u64::MAX - 1, 100, &mut out),
        "a hundred looks are more than enough"
    );
    assert!(out.is_empty());
    assert!(!wheel.expire(u64::MAX, 1, &mut out));
    assert_eq!(out.len(), 1);
}

#[test]
fn slots_due_at_the_same_tick_wait_for_the_next_call_when_the_budget_ends_between_them() {
    let mut wheel = TimerWheel::new(Policy::Exact, 0);
    wheel.insert(4096, 1);
    wheel.advance(4050);
    wheel.insert(4096, 2);
    let mut out = Vec::new();
    assert!(!wheel.expire(4095, 9, &mut out));
    assert!(wheel.expire(4096, 1, &mut out));
    wheel.advance(5000);
    assert_eq!((out.len(), wheel.next_deadline()), (1, Some(4096)));
    assert!(!wheel.expire(5000, 1, &mut out));
    assert_eq!(out.len(), 2);
}
