//! The mailbox, however the threads interleave: nothing lost, doubled, leaked or out of order.

#![cfg(loom)]

use loom::{
    model::Builder,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use pollio::{Full, Receiver, Sender, Waker, mailbox};

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

/// A receiving loop that sleeps between its looks.
struct Loop<T> {
    receiver: Receiver<T>,
    waker: Waker,
    bell: Arc<(Mutex<bool>, Condvar)>,
}

impl<T: Send> Loop<T> {
    fn new(capacity: usize) -> (Sender<T>, Self) {
        let bell = Arc::new((Mutex::new(false), Condvar::new()));
        let ringing = Arc::clone(&bell);
        let waker = Waker::with_hook(move || {
            *ringing.0.lock().unwrap() = true;
            ringing.1.notify_one();
        });
        let (sender, receiver) = mailbox(capacity, waker.clone());
        (
            sender,
            Self {
                receiver,
                waker,
                bell,
            },
        )
    }

    /// Receives at least `count` items, asleep while there are none.
    fn receive(&mut self, count: usize) -> Vec<T> {
        let mut all = Vec::new();
        loop {
            self.receiver.drain_into(&mut all);
            if all.len() >= count {
                return all;
            }
            if self.waker.prepare_park() {
                let mut rung = self.bell.0.lock().unwrap();
                while !*rung {
                    rung = self.bell.1.wait(rung).unwrap();
                }
                *rung = false;
                drop(rung);
                self.waker.unpark();
            }
        }
    }
}

#[test]
fn two_senders_and_a_sleeping_receiver() {
    model(|| {
        let (sender, mut inbox) = Loop::new(2);
        let other = sender.clone();
        let batch = thread::spawn(move || sender.try_push_all(&mut vec![10, 11]).unwrap());
        let singles = thread::spawn(move || {
            other.push_unbounded(20);
            other.push_unbounded(21);
        });
        let all = inbox.receive(4);
        batch.join().unwrap();
        singles.join().unwrap();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [10, 11, 20, 21]);
        let position = |item| all.iter().position(|&is| is == item).unwrap();
        assert_eq!(position(11), position(10) + 1, "a batch stays in one piece");
        assert!(
            position(20) < position(21),
            "a sender's items stay in order"
        );
        assert!(inbox.receiver.is_empty());
    });
}

#[test]
fn buffers_go_round_between_two_senders_and_the_receiver() {
    model(|| {
        let (sender, mut inbox) = Loop::new(8);
        // Something has gone round already: there are spare nodes to fight for.
        sender.push_all_unbounded(&mut vec![0]);
        sender.push_all_unbounded(&mut vec![0]);
        assert_eq!(inbox.receive(2).len(), 2);
        let other = sender.clone();
        let one = thread::spawn(move || sender.push_all_unbounded(&mut vec![1]));
        let two = thread::spawn(move || other.push_all_unbounded(&mut vec![2]));
        let mut all = inbox.receive(2);
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn the_bounded_lane_holds_its_capacity() {
    model(|| {
        let (sender, mut inbox) = Loop::new(1);
        let other = sender.clone();
        let thread = thread::spawn(move || other.try_push(1).is_ok());
        let here = sender.try_push(2).is_ok();
        let there = thread.join().unwrap();
        assert!(here != there, "one fits, and one does");
        assert_eq!(sender.try_push(3), Err(Full(3)));
        assert_eq!(inbox.receive(1).len(), 1);
        sender.try_push(4).unwrap();
    });
}

#[test]
fn room_comes_back_while_it_is_wanted() {
    model(|| {
        let (sender, mut inbox) = Loop::new(1);
        sender.try_push(1).unwrap();
        let thread = thread::spawn(move || {
            let mut items = vec![2, 3];
            let left = match sender.try_push_all(&mut items) {
                Ok(()) => 0,
                Err(Full(left)) => left,
            };
            assert_eq!(left, items.len());
            assert!((1..=2).contains(&left), "there is room for one at the most");
            left
        });
        let mut all = inbox.receive(1);
        let left = thread.join().unwrap();
        inbox.receiver.drain_into(&mut all);
        assert_eq!(all.len(), 3 - left);
        assert_eq!(inbox.receiver.sender().len_bounded(), 0);
    });
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_receiver_that_goes_leaks_nothing() {
    model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let item = || Counted(Arc::clone(&drops));
        let (sender, inbox) = Loop::new(2);
        let (mut batch, alone, other) = (vec![item(), item()], item(), sender.clone());
        let one = thread::spawn(move || {
            let _ = other.try_push_all(&mut batch);
        });
        let two = thread::spawn(move || drop(sender.try_push(alone)));
        drop(inbox);
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}
