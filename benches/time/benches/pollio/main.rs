//! What the layer between a loop and epoll costs.
//!
//! Both ends of each connection are in this process, and the far ends are plain blocking sockets;
//! the raw loop beside the contenders is the floor.

mod contenders;
mod pairs;
mod ratios;

use std::{
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use contenders::{Contender, Mio, Polling, Pollio, Raw};
use criterion::{BenchmarkGroup, Criterion, criterion_group, measurement::WallTime};
use pairs::Pairs;
use pollio::affinity;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{sched_getaffinity, sched_setaffinity},
};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// One byte to a random one of many connections, and back.
fn ping_pong<C: Contender>(group: &mut Group<'_>, pairs: &Pairs, name: &str) {
    let mut contender: C = pairs.register();
    let mut n = 1;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            n = (n * 48_271) % 0x7fff_ffff;
            let one = n % pairs.0.len();
            pairs.round(&mut contender, one..=one);
        });
    });
    pairs.unregister(&mut contender);
}

/// A hundred active connections among five thousand, in one turn.
fn mostly_idle<C: Contender>(group: &mut Group<'_>, pairs: &Pairs, name: &str) {
    let mut contender: C = pairs.register();
    let step = pairs.0.len() / 100;
    group.bench_function(name, |bencher| {
        bencher.iter(|| pairs.round(&mut contender, (0..pairs.0.len()).step_by(step).take(100)));
    });
    pairs.unregister(&mut contender);
}

/// A wait that ends at once, with a finite timeout: what the deadline of a wheel costs a turn.
fn timeout<C: Contender>(group: &mut Group<'_>, name: &str) {
    let (far, near) = UnixStream::pair().unwrap();
    let mut contender = C::new();
    contender.add(&near, 1);
    contender.wait(Some(Duration::ZERO), |_| {});
    // Wakes make the wait end in each contender's way; the wake itself is part of the time.
    let waker = contender.waker();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            C::wake(&waker);
            contender.wait(Some(Duration::from_micros(300)), |_| {});
        });
    });
    contender.forget(&near);
    drop(far);
}

/// A wake of a loop that is at work and looks only after a thousand of them.
fn wake_busy<C: Contender>(group: &mut Group<'_>, name: &str) {
    let mut contender = C::new();
    let waker = contender.waker();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let start = Instant::now();
            for n in 0..iters {
                C::wake(&waker);
                if n % 1000 == 999 {
                    contender.wait(Some(Duration::ZERO), |_| {});
                }
            }
            start.elapsed()
        });
    });
}

/// Two loops that wake each other and sleep in between: one iteration is there and back.
///
/// On one processor, which takes the distance between two out of the time.
fn wake_idle<C: Contender>(group: &mut Group<'_>, name: &str) {
    let anywhere = sched_getaffinity(None).unwrap();
    let cpu = affinity::available_cpus().unwrap()[0];
    // Threads inherit where they may run.
    affinity::pin_current_thread(cpu).unwrap();
    wake_idle_anywhere::<C>(group, name);
    sched_setaffinity(None, &anywhere).unwrap();
}

/// As `wake_idle`, wherever the system puts the two.
fn wake_idle_anywhere<C: Contender>(group: &mut Group<'_>, name: &str) {
    let mut here = C::new();
    let (to_here, (tell, told)) = (here.waker(), mpsc::channel());
    let (pings, pongs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let (pings, pongs, stop) = (pings.clone(), pongs.clone(), stop.clone());
        thread::spawn(move || {
            let (mut there, mut seen) = (C::new(), 0);
            tell.send(there.waker()).unwrap();
            while !stop.load(Ordering::Acquire) {
                let now = pings.load(Ordering::Acquire);
                if now == seen {
                    there.wait(None, |_| {});
                    continue;
                }
                seen = now;
                pongs.store(now, Ordering::Release);
                C::wake(&to_here);
            }
        })
    };
    let (to_there, mut count) = (told.recv().unwrap(), 0);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            count += 1;
            pings.store(count, Ordering::Release);
            C::wake(&to_there);
            while pongs.load(Ordering::Acquire) != count {
                here.wait(None, |_| {});
            }
        });
    });
    stop.store(true, Ordering::Release);
    C::wake(&to_there);
    thread.join().unwrap();
}

/// Eight threads that wake a loop which counts; one iteration is one wake.
fn wake_many<C: Contender>(group: &mut Group<'_>, name: &str) {
    const THREADS: u64 = 8;
    let mut contender = C::new();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let sent = Arc::new(AtomicU64::new(0));
            let barrier = Arc::new(Barrier::new(THREADS as usize + 1));
            let each = iters.div_ceil(THREADS);
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (sent, barrier, waker) = (sent.clone(), barrier.clone(), contender.waker());
                    thread::spawn(move || {
                        barrier.wait();
                        for _ in 0..each {
                            sent.fetch_add(1, Ordering::Release);
                            C::wake(&waker);
                        }
                    })
                })
                .collect();
            barrier.wait();
            let start = Instant::now();
            while sent.load(Ordering::Acquire) < each * THREADS {
                contender.wait(None, |_| {});
            }
            let elapsed = start.elapsed();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            contender.wait(Some(Duration::ZERO), |_| {});
            elapsed
        });
    });
}

/// Connections that are all there, accepted and registered; one iteration is one of them.
fn accept_storm<C: Contender>(group: &mut Group<'_>, name: &str) {
    const STORM: u64 = 100;
    let mut contender = C::new();
    let (listener, addr) = contender.listen(0);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let (mut left, mut total) = (iters, Duration::ZERO);
            while left > 0 {
                let storm = left.min(STORM);
                let clients: Vec<_> = (0..storm)
                    .map(|_| TcpStream::connect(addr).unwrap())
                    .collect();
                let mut streams = Vec::with_capacity(storm as usize);
                let start = Instant::now();
                while streams.len() < storm as usize {
                    let mut ready = false;
                    contender.wait(None, |token| ready |= token == 0);
                    while ready {
                        match contender.accept(&listener, 1 + streams.len() as u64) {
                            Some(stream) => streams.push(stream),
                            None => ready = false,
                        }
                    }
                }
                total += start.elapsed();
                for client in &clients {
                    // Reset instead of closed, lest all ports wait for their time.
                    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO)).unwrap();
                }
                drop(clients);
                for stream in streams {
                    contender.close(stream);
                }
                contender.wait(Some(Duration::ZERO), |_| {});
                left -= storm;
            }
            total
        });
    });
}

/// Each contender sees the same bytes on the same connections, and each wake.
fn check_one<C: Contender>() {
    let pairs = Pairs::new(600);
    let mut contender: C = pairs.register();
    pairs.round(&mut contender, 0..600);
    pairs.round(&mut contender, (0..600).step_by(7));
    C::wake(&contender.waker());
    contender.wait(None, |_| panic!("only a wake"));
    pairs.unregister(&mut contender);
}

fn check(_: &mut Criterion) {
    check_one::<Pollio>();
    check_one::<Mio>();
    check_one::<Polling>();
    check_one::<Raw>();
}

fn open<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(format!("pollio/{name}"));
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1000));
    group
}

macro_rules! group {
    ($criterion:ident, $name:expr, $bench:ident $(, $pairs:expr)?) => {
        let mut group = open($criterion, $name);
        $bench::<Pollio>(&mut group, $($pairs,)? "pollio");
        $bench::<Mio>(&mut group, $($pairs,)? "mio");
        $bench::<Polling>(&mut group, $($pairs,)? "polling");
        $bench::<Raw>(&mut group, $($pairs,)? "raw");
        group.finish();
    };
}

fn all(criterion: &mut Criterion) {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
    for (size, count) in [("1", 1), ("100", 100), ("9k", 9000)] {
        let pairs = Pairs::new(count);
        group!(criterion, &format!("ping_pong/{size}"), ping_pong, &pairs);
    }
    let pairs = Pairs::new(5100);
    group!(criterion, "mostly_idle/5k_100", mostly_idle, &pairs);
    drop(pairs);
    group!(criterion, "wake_and_wait/1", timeout);
    group!(criterion, "wake_busy/1", wake_busy);
    group!(criterion, "wake_idle/1_cpu", wake_idle);
    group!(criterion, "wake_idle/2_cpus", wake_idle_anywhere);
    group!(criterion, "wake_many/8_threads", wake_many);
    group!(criterion, "accept/100", accept_storm);
}

criterion_group!(benches, check, all);

fn main() {
    if std::env::args().any(|word| word == "ratios") {
        ratios::run();
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
