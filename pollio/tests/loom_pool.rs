//! The life-cycle of the pool example, however its threads interleave.
//!
//! A cell stands for the connection: loom fails when two threads are in it at once, or when one
//! comes in without seeing what the last one wrote.

#![cfg(loom)]

#[path = "../examples/pool/life.rs"]
mod life;

use life::{Begin, Life, Rest};
use loom::{
    cell::UnsafeCell,
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

#[derive(Default)]
struct Slot {
    life: Life,
    connection: UnsafeCell<()>,
    /// What the kernel has for the connection.
    arrived: AtomicUsize,
    served: AtomicUsize,
    closed: AtomicUsize,
}

impl Slot {
    /// Serves as the owner, as the example does, until there is nothing left or it is the end.
    fn own(&self, tenant: u32) {
        loop {
            self.connection.with_mut(|_| {
                let arrived = self.arrived.load(Ordering::Relaxed);
                self.served.store(arrived, Ordering::Relaxed);
            });
            match self.life.rest(tenant) {
                Rest::Idle => return,
                Rest::Again => {}
                Rest::Close => return self.close(tenant),
            }
        }
    }

    fn close(&self, tenant: u32) {
        self.connection.with_mut(|_| {
            self.closed.fetch_add(1, Ordering::Relaxed);
        });
        self.life.close(tenant);
    }

    fn event(&self, tenant: u32) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        if self.life.begin(tenant) == Begin::Mine {
            self.own(tenant);
        }
    }

    fn kick(&self, tenant: u32) {
        if self.life.kick(tenant) {
            self.close(tenant);
        }
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn spawn(slot: &Arc<Slot>, f: impl Fn(&Slot) + 'static) -> thread::JoinHandle<()> {
    let slot = Arc::clone(slot);
    thread::spawn(move || f(&slot))
}

#[test]
fn one_thread_at_a_time_owns_and_no_event_is_lost() {
    model(|| {
        let slot = Arc::new(Slot::default());
        let tenant = slot.life.open().unwrap();
        let threads = (0..2).map(|_| spawn(&slot, move |slot| slot.event(tenant)));
        let threads: Vec<_> = threads.collect();
        // The thread that accepts is the first owner; events come while it still is.
        slot.own(tenant);
        join(threads);
        assert_eq!(slot.served.load(Ordering::Relaxed), 2);
        assert_eq!(
            slot.life.begin(tenant),
            Begin::Mine,
            "it rests when all is done"
        );
    });
}

#[test]
fn a_kicked_tenant_is_closed_once_by_whoever_owns_it() {
    model(|| {
        let slot = Arc::new(Slot::default());
        let tenant = slot.life.open().unwrap();
        assert_eq!(slot.life.rest(tenant), Rest::Idle);
        join(vec![
            spawn(&slot, move |slot| slot.event(tenant)),
            spawn(&slot, move |slot| slot.kick(tenant)),
            spawn(&slot, move |slot| slot.kick(tenant)),
        ]);
        assert_eq!(slot.closed.load(Ordering::Relaxed), 1);
        assert_eq!(slot.life.begin(tenant), Begin::Stale);
    });
}

#[test]
fn what_was_meant_for_an_earlier_tenant_does_not_touch_the_next() {
    model(|| {
        let slot = Arc::new(Slot::default());
        let tenant = slot.life.open().unwrap();
        let late = spawn(&slot, move |slot| {
            slot.event(tenant);
            slot.kick(tenant);
        });
        slot.kick(tenant);
        // This thread still owns it, and is told at its next rest.
        slot.own(tenant);
        let next = slot.life.open();
        assert_eq!(next, Some(tenant + 1));
        slot.own(tenant + 1);
        late.join().unwrap();
        assert_eq!(slot.closed.load(Ordering::Relaxed), 1);
        assert_eq!(slot.life.begin(tenant + 1), Begin::Mine);
    });
}
