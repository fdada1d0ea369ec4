//! Differences too small for one bench after the other: contenders by turns, in short blocks.
//!
//! Criterion measures one contender for seconds, then the next; a machine that changes its pace in
//! between decides the comparison. Here a *round* measures each contender once, for a fraction of a
//! millisecond to a few, in an order that changes; what counts is the median of the rounds' ratios
//! to `pollio`. Each *epoch* makes all sockets, pollers and threads anew, so that where the memory
//! happens to lie is drawn many times as well. The first contender is measured a second time under
//! another name (`pollio_again`): how far that ratio is from 1 tells how far to trust the others.
//!
//! ```sh
//! cargo bench -p bench-time --bench pollio -- ratios
//! ```

use std::{
    io::Write,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pollio::affinity;
use rustix::{
    thread::{sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::{
    contenders::{Contender, Mio, Polling, Pollio, Raw},
    pairs::Pairs,
};

/// Measures one block; the answer is nanoseconds an operation.
type Block = Box<dyn FnMut() -> f64>;

const NAMES: [&str; 5] = ["pollio", "pollio_again", "mio", "polling", "raw"];

/// What the blocks of one kind came to, by contender.
#[derive(Default)]
struct Samples([Vec<f64>; NAMES.len()]);

impl Samples {
    /// Measures `rounds` rounds, each in another order.
    fn add(&mut self, blocks: &mut [Block; NAMES.len()], rounds: usize) {
        for round in 0..rounds {
            // Every rotation of both directions, so that each follows each other one.
            for n in 0..NAMES.len() {
                let place = if round % 2 == 0 {
                    n
                } else {
                    NAMES.len() - 1 - n
                };
                let who = (place + round / 2) % NAMES.len();
                let nanos = blocks[who]();
                self.0[who].push(nanos);
            }
        }
    }

    fn report(&self, what: &str, out: &mut impl Write) {
        for (name, nanos) in NAMES.iter().zip(&self.0) {
            let ratios = nanos
                .iter()
                .zip(&self.0[0])
                .map(|(other, ours)| ours / other);
            let (times, ratios) = (quartiles(nanos.iter().copied()), quartiles(ratios));
            let [low, middle, high] = ratios;
            let middle_half = format_args!("({low:.3} to {high:.3})");
            writeln!(
                out,
                "{what:24} {name:12} {:9.1} ns   pollio is {middle:.3} of it {middle_half}",
                times[1],
            )
            .unwrap();
        }
    }
}

/// The quarter, the half and the three quarters.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

/// One byte there and back over one of `count` connections.
fn ping_pong<C: Contender + 'static>(count: usize) -> Block {
    let pairs = Pairs::new(count);
    let mut ends = Ends {
        contender: pairs.register::<C>(),
        pairs,
        n: 1,
    };
    Box::new(move || ends.block())
}

/// The sources behind the poller, so that they go after it.
struct Ends<C> {
    contender: C,
    pairs: Pairs,
    n: usize,
}

impl<C: Contender> Ends<C> {
    fn block(&mut self) -> f64 {
        const TRIPS: usize = 64;
        let start = Instant::now();
        for _ in 0..TRIPS {
            self.n = (self.n * 48_271) % 0x7fff_ffff;
            let one = self.n % self.pairs.0.len();
            self.pairs.round(&mut self.contender, one..=one);
        }
        start.elapsed().as_nanos() as f64 / TRIPS as f64
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What a wake costs the one who wakes a loop that is at work: processor time of all wakers.
///
/// With `wakers` of 0 the loop's own thread wakes itself, a thousand times between two waits.
fn wake<C: Contender + 'static>(wakers: usize) -> Block {
    const WAKES: usize = 4_000;
    let mut contender = C::new();
    if wakers == 0 {
        let waker = contender.waker();
        return Box::new(move || {
            let mut total = Duration::ZERO;
            for _ in 0..WAKES / 1_000 {
                let start = Instant::now();
                (0..1_000).for_each(|_| C::wake(&waker));
                total += start.elapsed();
                contender.wait(Some(Duration::ZERO), |_| {});
            }
            total.as_nanos() as f64 / WAKES as f64
        });
    }
    Box::new(move || {
        let (done, barrier) = (AtomicUsize::new(0), Barrier::new(wakers + 1));
        let total = thread::scope(|scope| {
            let waking = || {
                let waker = contender.waker();
                let (done, barrier) = (&done, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let start = thread_time();
                    (0..WAKES).for_each(|_| C::wake(&waker));
                    let spent = thread_time() - start;
                    done.fetch_add(1, Ordering::Release);
                    C::wake(&waker);
                    spent
                })
            };
            let threads: Vec<_> = std::iter::repeat_with(waking).take(wakers).collect();
            barrier.wait();
            while done.load(Ordering::Acquire) < wakers {
                contender.wait(None, |_| {});
            }
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum::<Duration>()
        });
        contender.wait(Some(Duration::ZERO), |_| {});
        total.as_nanos() as f64 / (WAKES * wakers) as f64
    })
}

macro_rules! all {
    ($block:ident, $size:expr) => {
        [
            $block::<Pollio>($size),
            $block::<Pollio>($size),
            $block::<Mio>($size),
            $block::<Polling>($size),
            $block::<Raw>($size),
        ]
    };
}

/// Measures and prints everything.
pub fn run() {
    let mut out = std::io::stdout();
    // One processor: the thread moves to none that is colder, and ends are never apart.
    let anywhere = sched_getaffinity(None).unwrap();
    let cpus = affinity::available_cpus().unwrap();
    affinity::pin_current_thread(cpus[cpus.len() - 1]).unwrap();
    for count in [1, 100] {
        let mut samples = Samples::default();
        for _ in 0..20 {
            samples.add(&mut all!(ping_pong, count), 100);
        }
        samples.report(&format!("ping_pong/{count}"), &mut out);
    }
    sched_setaffinity(None, &anywhere).unwrap();
    for (wakers, rounds) in [(0, 200), (1, 50), (8, 20)] {
        let mut samples = Samples::default();
        for _ in 0..10 {
            samples.add(&mut all!(wake, wakers), rounds);
        }
        samples.report(&format!("wake/{wakers}_threads"), &mut out);
    }
}
