//! The timerfd driver against a real epoll instance.
#![cfg(all(feature = "timerfd", not(loom)))]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};

use timerwheel::driver::TimerFd;

const TOKEN: u64 = 42;
const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MS;

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// An epoll instance that has the timer registered edge-triggered.
fn watch(timer: &TimerFd) -> OwnedFd {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(
        &epoll,
        timer.as_fd(),
        epoll::EventData::new_u64(TOKEN),
        flags,
    )
    .unwrap();
    epoll
}

/// How many events a wait reports.
fn wait(epoll: &OwnedFd, timeout_s: i64) -> usize {
    let mut space = [MaybeUninit::uninit(); 8];
    let timeout = Timespec {
        tv_sec: timeout_s,
        tv_nsec: 0,
    };
    let (events, _) = epoll::wait(epoll, &mut space, Some(&timeout)).unwrap();
    for event in events.iter() {
        assert_eq!(event.data.u64(), TOKEN);
    }
    events.len()
}

#[test]
fn every_arm_makes_a_new_edge_though_nothing_is_read() {
    let mut timer = TimerFd::new().unwrap();
    let epoll = watch(&timer);
    for round in 1..=20 {
        let deadline = now_ns() + MS / 2;
        timer.arm(deadline).unwrap();
        assert_eq!(wait(&epoll, 10), 1, "round {round}");
        let now = now_ns();
        assert!(now >= deadline, "never early");
        assert!(timer.fired(now));
        assert!(!timer.fired(now), "only once");
        assert_eq!(timer.syscalls(), round);
        assert_eq!(wait(&epoll, 0), 0, "an edge is reported once");
    }
}

#[test]
fn a_deadline_in_the_past_fires_at_once_and_zero_is_one() {
    let mut timer = TimerFd::new().unwrap();
    let epoll = watch(&timer);
    for deadline in [0, 1, now_ns()] {
        timer.arm(deadline).unwrap();
        assert_eq!(wait(&epoll, 10), 1);
        assert!(timer.fired(now_ns()));
    }
}

#[test]
fn only_an_earlier_deadline_costs_a_system_call() {
    let mut timer = TimerFd::new().unwrap();
    let epoll = watch(&timer);
    let start = now_ns();
    timer.arm(start + 2 * HOUR).unwrap();
    for hours in 2..100 {
        timer.arm(start + hours * HOUR).unwrap();
    }
    assert_eq!(
        (timer.syscalls(), timer.armed()),
        (1, Some(start + 2 * HOUR))
    );
    assert!(!timer.fired(now_ns()));
    timer.arm(start + HOUR).unwrap();
    assert_eq!((timer.syscalls(), timer.armed()), (2, Some(start + HOUR)));
    timer.arm(now_ns() + MS).unwrap();
    assert_eq!(timer.syscalls(), 3);
    assert_eq!(wait(&epoll, 10), 1);
    assert!(timer.fired(now_ns()));
    timer.arm(u64::MAX).unwrap();
    assert_eq!((timer.syscalls(), timer.armed()), (4, Some(u64::MAX)));
    assert_eq!(wait(&epoll, 0), 0);
}

#[test]
fn disarm_takes_back_even_what_has_fired() {
    let mut timer = TimerFd::new().unwrap();
    let epoll = watch(&timer);
    timer.disarm().unwrap();
    assert_eq!(timer.syscalls(), 0, "nothing was armed");
    timer.arm(now_ns() + HOUR).unwrap();
    timer.disarm().unwrap();
    assert_eq!((timer.syscalls(), timer.armed()), (2, None));
    timer.arm(1).unwrap();
    timer.disarm().unwrap();
    assert_eq!(wait(&epoll, 0), 0);
    timer.arm(1).unwrap();
    assert_eq!(wait(&epoll, 10), 1, "still usable");
}
