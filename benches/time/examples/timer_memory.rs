//! How much resident memory a million timers take: `timer_memory CONTENDER`, a process for each.

#![allow(dead_code, reason = "only insertion is of interest here")]

#[path = "../benches/timerwheel/contenders.rs"]
mod contenders;

use contenders::{Delay, HashWheel, Heap, Timers, Tree, Wheel};

const TIMERS: usize = 1_000_000;

/// Resident bytes of this process, from the kernel's count of pages.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap();
    pages * rustix::param::page_size() as u64
}

fn fill<T: Timers>() -> T {
    let mut timers = T::new(TIMERS);
    for id in 0..TIMERS as u32 {
        timers.insert(id, 1 + u64::from(id) * 7919 % 60_000);
    }
    timers
}

fn main() {
    let contender = std::env::args().nth(1).unwrap_or_default();
    let before = resident();
    let kept: Box<dyn std::any::Any> = match &*contender {
        "exact" => Box::new(fill::<Wheel<false>>()),
        "delay_queue" => Box::new(fill::<Delay>()),
        "hash_wheel" => Box::new(fill::<HashWheel>()),
        "btree" => Box::new(fill::<Tree>()),
        "heap" => Box::new(fill::<Heap>()),
        _ => panic!("exact, delay_queue, hash_wheel, btree or heap"),
    };
    let bytes = resident() - before;
    drop(kept);
    println!(
        "{contender}: {:.1} bytes a timer, with the table of keys",
        bytes as f64 / TIMERS as f64
    );
}
