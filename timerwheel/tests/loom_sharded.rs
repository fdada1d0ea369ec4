//! Loom models of the wheels that threads share.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use timerwheel::{Notify, Policy, RemoteExpired, ShardedWheel, WheelOwner};

/// A count that loom follows, which a dropped payload lowers.
struct Payload(Arc<AtomicUsize>);

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(check);
}

fn one_shard<T>() -> (ShardedWheel<T>, WheelOwner<T>, Arc<AtomicUsize>) {
    let notified = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&notified);
    let notify: Notify = Box::new(move || {
        counter.fetch_add(1, Ordering::Release);
    });
    let (wheel, mut owners) = ShardedWheel::new(Policy::Exact, 0, vec![notify]);
    (wheel, owners.remove(0), notified)
}

fn expire<T>(owner: &mut WheelOwner<T>, now_tick: u64) -> Vec<RemoteExpired<T>> {
    let mut out = Vec::new();
    assert!(!owner.expire(now_tick, 100, &mut out));
    out
}

#[test]
fn a_touch_counts_or_is_told_that_it_is_too_late() {
    model(|| {
        let (_, mut owner, _) = one_shard();
        let timer = owner.insert(10, ());
        let remote = timer.clone();
        let toucher = thread::spawn(move || remote.touch(20));
        let early = expire(&mut owner, 10).len();
        let counted = toucher.join().unwrap();
        assert_eq!(early, usize::from(!counted));
        assert_eq!(expire(&mut owner, 19).len(), 0);
        assert_eq!(expire(&mut owner, 20).len(), usize::from(counted));
        assert_eq!(timer.deadline(), None);
    });
}

#[test]
fn of_two_touches_the_later_holds() {
    model(|| {
        let (_, mut owner, _) = one_shard();
        let timer = owner.insert(10, ());
        let remotes = [(timer.clone(), 20), (timer.clone(), 30)];
        let touchers = remotes.map(|(remote, tick)| thread::spawn(move || remote.touch(tick)));
        let early = expire(&mut owner, 10).len();
        let [first, second] = touchers.map(|toucher| toucher.join().unwrap());
        // Once one is too late, the timer has expired, unless the other has moved it before.
        assert_eq!(early, usize::from(!first || !second));
        assert_eq!(first, second, "neither alone is told that it is too late");
        assert_eq!(expire(&mut owner, 29).len(), 0);
        assert_eq!(expire(&mut owner, 30).len(), 1 - early);
    });
}

#[test]
fn cancel_or_expiry_ends_a_timer_once_and_its_payload_is_dropped_once() {
    model(|| {
        let live = Arc::new(AtomicUsize::new(1));
        let (_, mut owner, _) = one_shard();
        let timer = owner.insert(10, Payload(Arc::clone(&live)));
        let canceller = thread::spawn(move || timer.cancel());
        let expired = expire(&mut owner, 10).len();
        let cancelled = canceller.join().unwrap();
        assert_eq!(expired, usize::from(!cancelled));
        assert_eq!(expire(&mut owner, 20).len(), 0);
        assert!(owner.is_empty());
        assert_eq!(live.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_remote_insert_is_seen_or_notified() {
    model(|| {
        let (wheel, mut owner, notified) = one_shard();
        let inserters = [1_u64, 2].map(|tick| {
            let wheel = wheel.clone();
            thread::spawn(move || wheel.insert(0, tick, tick).is_some())
        });
        let mut seen = expire(&mut owner, 5).len();
        // The owner goes to sleep here, and is woken by a notification alone.
        let mut woken_for = 0;
        for inserter in inserters {
            assert!(inserter.join().unwrap());
        }
        while woken_for < notified.load(Ordering::Acquire) {
            woken_for += 1;
            seen += expire(&mut owner, 5).len();
        }
        assert_eq!(seen, 2);
        assert_eq!(owner.next_deadline(), None);
    });
}

#[test]
fn a_cancel_by_another_thread_follows_its_insert() {
    model(|| {
        let live = Arc::new(AtomicUsize::new(1));
        let (wheel, mut owner, _) = one_shard();
        let payload = Payload(Arc::clone(&live));
        let inserter = thread::spawn(move || {
            let timer = wheel.insert(0, 10, payload).unwrap();
            thread::spawn(move || timer.cancel()).join().unwrap()
        });
        let expired = expire(&mut owner, 10).len();
        let cancelled = inserter.join().unwrap();
        assert_eq!(expired, usize::from(!cancelled));
        assert_eq!(owner.next_deadline(), None);
        assert_eq!(live.load(Ordering::Relaxed), 0);
    });
}
