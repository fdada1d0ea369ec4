//! The timers of a server with one timer a connection, in each contender's own way.
//!
//! Connections have the numbers from 0; a tick is a millisecond. What a contender needs to find a
//! timer again, it keeps in a table by connection, as a server would.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    future::poll_fn,
    task::Poll,
    time::Duration,
};

use hierarchical_hash_wheel_timer::wheels::quad_wheel::{QuadWheelWithOverflow, no_prune};
use timerwheel::{Expired, Policy, TimerKey, TimerWheel};
use tokio::{
    runtime::Runtime,
    time::{Instant, advance},
};
use tokio_util::time::{DelayQueue, delay_queue};

/// One timer for each of `connections` at the most.
pub trait Timers {
    /// All structures start at tick 0.
    fn new(connections: usize) -> Self;
    fn insert(&mut self, connection: u32, deadline_tick: u64);
    fn cancel(&mut self, connection: u32);
    fn touch(&mut self, connection: u32, later_tick: u64);
    /// Appends the connections whose timers are due, which then have none.
    fn expire(&mut self, now_tick: u64, out: &mut Vec<u32>);
}

/// Ours, with the exact policy or, if `COARSE`, with a slack of up to a second.
pub struct Wheel<const COARSE: bool> {
    wheel: TimerWheel<u32>,
    keys: Vec<Option<TimerKey>>,
    due: Vec<Expired<u32>>,
}

impl<const COARSE: bool> Timers for Wheel<COARSE> {
    fn new(connections: usize) -> Self {
        let coarse = Policy::Coarse {
            max_slack_ticks: 1000,
        };
        let policy = if COARSE { coarse } else { Policy::Exact };
        Self {
            wheel: TimerWheel::with_capacity(policy, 0, connections),
            keys: vec![None; connections],
            due: Vec::with_capacity(256),
        }
    }

    fn insert(&mut self, connection: u32, deadline_tick: u64) {
        let key = self.wheel.insert(deadline_tick, connection);
        self.keys[connection as usize] = Some(key);
    }

    fn cancel(&mut self, connection: u32) {
        if let Some(key) = self.keys[connection as usize] {
            self.wheel.cancel(key);
        }
    }

    fn touch(&mut self, connection: u32, later_tick: u64) {
        if let Some(key) = self.keys[connection as usize] {
            self.wheel.touch(key, later_tick);
        }
    }

    fn expire(&mut self, now_tick: u64, out: &mut Vec<u32>) {
        while self.wheel.expire(now_tick, 256, &mut self.due) || !self.due.is_empty() {
            out.extend(self.due.drain(..).map(|expired| expired.value));
        }
    }
}

/// `tokio_util::time::DelayQueue` on a runtime whose clock is advanced by hand.
pub struct Delay {
    queue: DelayQueue<u32>,
    keys: Vec<Option<delay_queue::Key>>,
    start: Instant,
    now_tick: u64,
    runtime: Runtime,
}

impl Delay {
    fn at(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(tick)
    }
}

impl Timers for Delay {
    fn new(connections: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let guard = runtime.enter();
        let (queue, start) = (DelayQueue::with_capacity(connections), Instant::now());
        drop(guard);
        Self {
            queue,
            keys: vec![None; connections],
            start,
            now_tick: 0,
            runtime,
        }
    }

    fn insert(&mut self, connection: u32, deadline_tick: u64) {
        let _guard = self.runtime.enter();
        let key = self.queue.insert_at(connection, self.at(deadline_tick));
        self.keys[connection as usize] = Some(key);
    }

    fn cancel(&mut self, connection: u32) {
        if let Some(key) = self.keys[connection as usize].take() {
            let _guard = self.runtime.enter();
            self.queue.remove(&key);
        }
    }

    fn touch(&mut self, connection: u32, later_tick: u64) {
        if let Some(key) = self.keys[connection as usize] {
            let _guard = self.runtime.enter();
            let when = self.at(later_tick);
            self.queue.reset_at(&key, when);
        }
    }

    fn expire(&mut self, now_tick: u64, out: &mut Vec<u32>) {
        let step = Duration::from_millis(now_tick - self.now_tick);
        self.now_tick = now_tick;
        let (queue, keys) = (&mut self.queue, &mut self.keys);
        let drain = poll_fn(|context| {
            while let Poll::Ready(Some(expired)) = queue.poll_expired(context) {
                let connection = expired.into_inner();
                keys[connection as usize] = None;
                out.push(connection);
            }
            Poll::Ready(())
        });
        self.runtime.block_on(async {
            advance(step).await;
            tokio::task::unconstrained(drain).await;
        });
    }
}

/// `hierarchical_hash_wheel_timer`, whose entries stay until they come up; those that are out of
/// date are recognised by a generation.
pub struct HashWheel {
    wheel: QuadWheelWithOverflow<(u32, u32)>,
    generations: Vec<u32>,
    now_tick: u64,
}

impl Timers for HashWheel {
    fn new(connections: usize) -> Self {
        Self {
            wheel: QuadWheelWithOverflow::new(no_prune),
            generations: vec![0; connections],
            now_tick: 0,
        }
    }

    fn insert(&mut self, connection: u32, deadline_tick: u64) {
        let delay = Duration::from_millis(deadline_tick - self.now_tick);
        let generation = self.generations[connection as usize];
        self.wheel
            .insert_with_delay((connection, generation), delay)
            .unwrap();
    }

    fn cancel(&mut self, connection: u32) {
        self.generations[connection as usize] += 1;
    }

    fn touch(&mut self, connection: u32, later_tick: u64) {
        self.cancel(connection);
        self.insert(connection, later_tick);
    }

    fn expire(&mut self, now_tick: u64, out: &mut Vec<u32>) {
        while self.now_tick < now_tick {
            self.now_tick += 1;
            for (connection, generation) in self.wheel.tick() {
                if self.generations[connection as usize] == generation {
                    self.generations[connection as usize] += 1;
                    out.push(connection);
                }
            }
        }
    }
}

/// A `BTreeSet` of deadlines.
pub struct Tree {
    tree: BTreeSet<(u64, u32)>,
    deadlines: Vec<u64>,
}

impl Timers for Tree {
    fn new(connections: usize) -> Self {
        Self {
            tree: BTreeSet::new(),
            deadlines: vec![0; connections],
        }
    }

    fn insert(&mut self, connection: u32, deadline_tick: u64) {
        self.deadlines[connection as usize] = deadline_tick;
        self.tree.insert((deadline_tick, connection));
    }

    fn cancel(&mut self, connection: u32) {
        self.tree
            .remove(&(self.deadlines[connection as usize], connection));
    }

    fn touch(&mut self, connection: u32, later_tick: u64) {
        self.cancel(connection);
        self.insert(connection, later_tick);
    }

    fn expire(&mut self, now_tick: u64, out: &mut Vec<u32>) {
        while let Some(&(tick, connection)) = self.tree.first()
            && tick <= now_tick
        {
            self.tree.pop_first();
            out.push(connection);
        }
    }
}

/// A binary heap whose entries stay until they come up; it is swept when more than half of it is
/// out of date.
pub struct Heap {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    generations: Vec<u32>,
    dead: usize,
}

impl Timers for Heap {
    fn new(connections: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(connections),
            generations: vec![0; connections],
            dead: 0,
        }
    }

    fn insert(&mut self, connection: u32, deadline_tick: u64) {
        let generation = self.generations[connection as usize];
        self.heap
            .push(Reverse((deadline_tick, connection, generation)));
    }

    fn cancel(&mut self, connection: u32) {
        self.generations[connection as usize] += 1;
        self.dead += 1;
        if self.dead > 1000 && self.dead > self.heap.len() / 2 {
            let generations = &self.generations;
            self.heap
                .retain(|Reverse((_, id, generation))| generations[*id as usize] == *generation);
            self.dead = 0;
        }
    }

    fn touch(&mut self, connection: u32, later_tick: u64) {
        self.cancel(connection);
        self.insert(connection, later_tick);
    }

    fn expire(&mut self, now_tick: u64, out: &mut Vec<u32>) {
        while let Some(&Reverse((tick, connection, generation))) = self.heap.peek()
            && tick <= now_tick
        {
            self.heap.pop();
            if self.generations[connection as usize] == generation {
                self.generations[connection as usize] += 1;
                out.push(connection);
            } else {
                self.dead = self.dead.saturating_sub(1);
            }
        }
    }
}
