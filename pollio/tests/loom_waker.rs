//! No wake is lost, however the threads interleave.
//!
//! A lost wake leaves the loop waiting for a bell that nobody rings, which loom reports as a
//! deadlock. The mail is a relaxed atomic: only the waker makes it visible.

#![cfg(loom)]

use loom::{
    model::Builder,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use pollio::Waker;

/// An eventfd in small: it counts rings, and waiting takes them all.
#[derive(Default)]
struct Bell {
    rings: Mutex<usize>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rings.lock().unwrap() += 1;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let mut rings = self.rings.lock().unwrap();
        while *rings == 0 {
            rings = self.rung.wait(rings).unwrap();
        }
        *rings = 0;
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

fn waker() -> (Waker, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    let ringing = Arc::clone(&bell);
    (Waker::with_hook(move || ringing.ring()), bell)
}

/// The loop as `Poller::wait` has it.
fn wait(waker: &Waker, bell: &Bell) {
    if waker.prepare_park() {
        bell.wait();
        waker.unpark();
    }
}

#[test]
fn two_wakers_are_both_heard() {
    model(|| {
        let (waker, bell) = waker();
        let mail = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (waker, mail) = (waker.clone(), Arc::clone(&mail));
                thread::spawn(move || {
                    mail.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                })
            })
            .collect();
        while mail.load(Ordering::Relaxed) < 2 {
            wait(&waker, &bell);
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_wake_taken_while_running_is_followed_by_a_look() {
    model(|| {
        let (waker, bell) = waker();
        let mail = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (waker, mail) = (waker.clone(), Arc::clone(&mail));
            thread::spawn(move || {
                for _ in 0..2 {
                    mail.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            })
        };
        // The reactor's turn: wait, work, acknowledge, look.
        let mut seen = 0;
        while seen < 2 {
            wait(&waker, &bell);
            waker.acknowledge();
            seen = mail.load(Ordering::Relaxed);
        }
        thread.join().unwrap();
    });
}

#[test]
fn what_was_written_before_the_wake_is_seen_after_it() {
    model(|| {
        let (waker, bell) = waker();
        let mail = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (waker, mail) = (waker.clone(), Arc::clone(&mail));
            thread::spawn(move || {
                mail.store(1, Ordering::Relaxed);
                waker.wake();
            })
        };
        // One wait is enough, since nothing else rings the bell or wakes.
        wait(&waker, &bell);
        assert_eq!(mail.load(Ordering::Relaxed), 1);
        thread.join().unwrap();
    });
}

#[test]
fn two_threads_on_one_poller_miss_nothing_together() {
    model(|| {
        let (waker, bell) = waker();
        let mail = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let (waker, bell) = (waker.clone(), Arc::clone(&bell));
                let (mail, done) = (Arc::clone(&mail), Arc::clone(&done));
                thread::spawn(move || {
                    while done.load(Ordering::Relaxed) == 0 {
                        wait(&waker, &bell);
                        if mail.swap(0, Ordering::Relaxed) == 1 {
                            done.store(1, Ordering::Relaxed);
                        }
                    }
                    // Whoever leaves sends the other home as well.
                    waker.ring();
                })
            })
            .collect();
        mail.store(1, Ordering::Relaxed);
        waker.wake();
        waiting
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}
