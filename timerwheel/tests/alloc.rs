//! No allocation after warm-up, counted by an allocator.
//!
//! Ground rules of the unsafe code here: `Counting` adds a count to what the system's allocator
//! does and changes nothing about it, so each call upholds the contract by passing it on.
#![cfg(not(any(loom, miri)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use timerwheel::{Policy, TimerWheel};

struct Counting;

thread_local! {
    /// Per thread, so that tests that run at the same time do not count each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody who would read it.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every method passes its arguments to `System` unchanged and returns what that returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is the one that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from `System`, since all blocks of `Counting` do.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System`, since all blocks of `Counting` do.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(
        allocations(|| drop(std::hint::black_box(Box::new(1_u8)))),
        1
    );
}

#[test]
fn nothing_is_allocated_after_warm_up() {
    for policy in [
        Policy::Exact,
        Policy::Coarse {
            max_slack_ticks: 100,
        },
    ] {
        let mut wheel = TimerWheel::with_capacity(policy, 0, 4096);
        let mut out = Vec::with_capacity(4096);
        let mut keys = Vec::with_capacity(4096);
        let mut now = 0;
        let count = allocations(|| {
            for round in 0..200_u64 {
                while wheel.len() < 4096 {
                    let delay = 1 + (round * 7919 + wheel.len() as u64 * 104_729) % 100_000;
                    keys.push(wheel.insert(now + delay, round));
                }
                for (number, key) in keys.drain(..).enumerate() {
                    match number % 4 {
                        0 => assert!(wheel.cancel(key).is_some()),
                        1 => assert!(wheel.touch(key, now + 5000)),
                        2 => assert!(wheel.reset_sooner(key, now + 700)),
                        _ => {}
                    }
                }
                now += 997;
                wheel.expire(now, usize::MAX, &mut out);
                out.clear();
            }
        });
        assert_eq!(count, 0, "{policy:?}");
        let stats = wheel.stats();
        assert!(
            stats.expired > 1000 && stats.cancelled > 1000 && stats.moved > 1000,
            "{stats:?}"
        );
    }
}

#[test]
fn without_a_reserve_a_steady_load_settles() {
    let mut wheel = TimerWheel::new(Policy::Exact, 0);
    let mut out = Vec::with_capacity(1000);
    let mut turn = |now: u64| {
        for delay in 0..10 {
            wheel.insert(now + 50 + delay * 7, now);
        }
        wheel.expire(now, usize::MAX, &mut out);
        out.clear();
    };
    (0..1000).for_each(&mut turn);
    assert_eq!(allocations(|| (1000..20_000).for_each(&mut turn)), 0);
}
