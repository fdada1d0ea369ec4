//! The contract of the wheels that threads share.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use timerwheel::{Notify, Policy, RemoteExpired, RemoteTimer, ShardedWheel, WheelOwner};

static_assertions::assert_impl_all!(ShardedWheel<std::cell::Cell<u8>>: Send, Sync, Clone);
static_assertions::assert_impl_all!(RemoteTimer<std::cell::Cell<u8>>: Send, Sync, Clone);
static_assertions::assert_impl_all!(WheelOwner<std::cell::Cell<u8>>: Send);
static_assertions::assert_not_impl_any!(ShardedWheel<std::rc::Rc<u8>>: Send, Sync);
static_assertions::assert_not_impl_any!(RemoteTimer<std::rc::Rc<u8>>: Send, Sync);
static_assertions::assert_not_impl_any!(WheelOwner<std::rc::Rc<u8>>: Send);

fn shards<T>(count: usize) -> (ShardedWheel<T>, Vec<WheelOwner<T>>, Arc<AtomicUsize>) {
    let notified = Arc::new(AtomicUsize::new(0));
    let notify = |_| {
        let notified = Arc::clone(&notified);
        Box::new(move || {
            notified.fetch_add(1, Ordering::Relaxed);
        }) as Notify
    };
    let (wheel, owners) = ShardedWheel::new(Policy::Exact, 0, (0..count).map(notify).collect());
    (wheel, owners, notified)
}

fn expire<T>(owner: &mut WheelOwner<T>, now_tick: u64) -> Vec<RemoteExpired<T>> {
    let mut out = Vec::new();
    assert!(!owner.expire(now_tick, usize::MAX, &mut out));
    out
}

#[test]
fn the_first_message_of_a_batch_notifies() {
    let (wheel, mut owners, notified) = shards(2);
    let timers: Vec<_> = (0..10)
        .map(|tick| wheel.insert(1, tick, tick).unwrap())
        .collect();
    assert_eq!(notified.load(Ordering::Relaxed), 1);
    assert_eq!((owners[1].next_deadline(), owners[1].len()), (Some(0), 10));
    assert!(timers[5].touch(100));
    assert_eq!(notified.load(Ordering::Relaxed), 1, "a touch does not");
    assert!(timers[7].cancel());
    assert!(!timers[7].cancel());
    assert_eq!(notified.load(Ordering::Relaxed), 2);
    assert_eq!(expire(&mut owners[1], 50).len(), 8);
    assert_eq!(expire(&mut owners[1], 99), []);
    assert_eq!(
        expire(&mut owners[1], 100),
        [RemoteExpired {
            deadline_tick: 100,
            value: 5
        }]
    );
    assert!(!timers[5].touch(200) && timers[5].deadline().is_none());
    assert!(wheel.insert(2, 0, 0).is_none());
    assert_eq!(expire(&mut owners[0], 100), []);
}

#[test]
fn a_cancelled_timer_is_dropped_with_its_message() {
    let (wheel, mut owners, _) = shards(1);
    let payload = Arc::new(());
    let local = owners[0].insert(10, Arc::clone(&payload));
    let remote = wheel.insert(0, 10, Arc::clone(&payload)).unwrap();
    assert!(remote.cancel() && local.cancel());
    assert_eq!(Arc::strong_count(&payload), 3);
    assert_eq!(owners[0].next_deadline(), None);
    assert_eq!(Arc::strong_count(&payload), 1);
    assert!(owners[0].is_empty());
}

#[test]
fn the_end_of_time_is_a_deadline_like_any_other() {
    let (wheel, mut owners, _) = shards(1);
    let timer = wheel.insert(0, u64::MAX, 1).unwrap();
    assert!(timer.touch(u64::MAX));
    assert_eq!(timer.deadline(), Some(u64::MAX - 1));
    assert_eq!(expire(&mut owners[0], u64::MAX - 2), []);
    assert_eq!(expire(&mut owners[0], u64::MAX).len(), 1);
    wheel.insert(0, 7, 2);
    assert_eq!(
        expire(&mut owners[0], 3).len(),
        1,
        "time does not go backwards"
    );
}

#[test]
fn every_timer_of_many_threads_ends_once() {
    const THREADS: usize = 4;
    const TIMERS: usize = if cfg!(miri) { 30 } else { 5000 };
    let (wheel, owners, _) = shards::<usize>(2);
    let done = Arc::new(AtomicUsize::new(0));
    let owners: Vec<_> = owners
        .into_iter()
        .map(|mut owner| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let (mut now_tick, mut expired) = (0, Vec::new());
                while done.load(Ordering::Acquire) < THREADS {
                    owner.expire(now_tick, 16, &mut expired);
                    now_tick += 1;
                }
                expired.extend(expire(&mut owner, u64::MAX));
                assert!(owner.is_empty());
                expired
                    .into_iter()
                    .map(|expired| expired.value)
                    .collect::<Vec<usize>>()
            })
        })
        .collect();
    let workers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (wheel, done) = (wheel.clone(), Arc::clone(&done));
            thread::spawn(move || {
                let mut cancelled = Vec::new();
                for number in 0..TIMERS {
                    let value = thread * TIMERS + number;
                    let timer = wheel.insert(value % 2, number as u64 % 64, value).unwrap();
                    timer.touch(number as u64);
                    if number % 3 == 0 && timer.cancel() {
                        cancelled.push(value);
                    }
                }
                done.fetch_add(1, Ordering::Release);
                cancelled
            })
        })
        .collect();
    let mut ended: Vec<usize> = workers
        .into_iter()
        .flat_map(|it| it.join().unwrap())
        .collect();
    ended.extend(owners.into_iter().flat_map(|it| it.join().unwrap()));
    ended.sort_unstable();
    assert_eq!(ended, (0..THREADS * TIMERS).collect::<Vec<usize>>());
}
