//! One-shot and a pool of threads, or a reactor a core: the two example servers of pollio under the
//! same clients.
//!
//! The clients are one thread with edge-triggered sockets, in this process: each connection sends
//! 64 bytes, waits for them to come back, and sends again. A message is *slow* if its first byte
//! says so, and then its handler blocks for a millisecond, as one that asks a database does.
//! Printed beside the time of a round trip: the processor time of the whole process a round trip,
//! in which the clients' part is the same for all, and how long round trips without a slow message
//! took.

#[allow(unexpected_cfgs, reason = "pollio also runs it under loom")]
#[path = "../../../../pollio/examples/pool/life.rs"]
mod life;
#[allow(dead_code, reason = "only the example kicks")]
#[path = "../../../../pollio/examples/pool/server.rs"]
mod pool;
#[allow(dead_code, reason = "nothing is counted here")]
#[path = "../../../../pollio/examples/echo/server.rs"]
mod reactor;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use pollio::{
    Backend as _, Epoll, Events, Interest, Mode, Poller, Reactor, ReactorOptions, Token, Waker,
    net::{ListenOptions, Listener},
};
use rustix::time::{ClockId, clock_gettime};

const THREADS: usize = 2;
const MESSAGE: usize = 64;
const SLOW: u8 = 1;

/// Blocks for a millisecond if the message is slow.
fn work(message: &[u8]) {
    if message.first() == Some(&SLOW) {
        thread::park_timeout(Duration::from_millis(1));
    }
}

trait Arrangement: Sized {
    fn start() -> (Self, SocketAddr);
    fn stop(self);
}

struct PoolServer<const N: usize> {
    pool: Arc<pool::Pool>,
    threads: Vec<JoinHandle<()>>,
}

impl<const N: usize> Arrangement for PoolServer<N> {
    fn start() -> (Self, SocketAddr) {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(&any, &ListenOptions::default()).unwrap();
        let addr = listener.local_addr().unwrap();
        let pool = Arc::new(pool::Pool::new(listener, 4096, work).unwrap());
        let threads = (0..N)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || pool.serve().unwrap())
            })
            .collect();
        (Self { pool, threads }, addr)
    }

    fn stop(self) {
        self.pool.stop();
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

struct ReactorServer {
    stop: Arc<AtomicBool>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
}

impl Arrangement for ReactorServer {
    fn start() -> (Self, SocketAddr) {
        let mut addr = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions {
            reuse_port: true,
            ..ListenOptions::default()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (mut wakers, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..THREADS {
            let listener = Listener::bind(&addr, &options).unwrap();
            addr = listener.local_addr().unwrap();
            let mut reactor = Reactor::new(Epoll::new().unwrap(), ReactorOptions::default());
            let token = reactor::LISTENER;
            reactor.backend().add_listener(&listener, token).unwrap();
            wakers.push(reactor.waker());
            let stop = stop.clone();
            threads.push(thread::spawn(move || {
                let mut server = reactor::Echo::new(listener, work);
                let until = |_: &mut reactor::Echo| stop.load(Ordering::Acquire);
                reactor.run(&mut server, until).unwrap();
            }));
        }
        let server = Self {
            stop,
            wakers,
            threads,
        };
        (server, addr)
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.wakers.iter().for_each(Waker::wake);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

struct Client {
    stream: TcpStream,
    got: usize,
    sent: Instant,
    slow: bool,
}

struct Clients {
    poller: Poller,
    events: Events,
    clients: Vec<Client>,
    slow_every: Option<u64>,
    count: u64,
    times_ns: Vec<u64>,
}

impl Clients {
    fn connect(addr: SocketAddr, count: usize, slow_every: Option<u64>) -> Self {
        let poller = Poller::new().unwrap();
        let clients = (0..count)
            .map(|n| {
                let stream = TcpStream::connect(addr).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
                let token = Token(n as u64);
                poller
                    .add(&stream, token, Interest::READABLE, Mode::Edge)
                    .unwrap();
                Client {
                    stream,
                    got: 0,
                    sent: Instant::now(),
                    slow: false,
                }
            })
            .collect();
        Self {
            poller,
            events: Events::with_capacity(256),
            clients,
            slow_every,
            count: 0,
            times_ns: Vec::new(),
        }
    }

    fn send(&mut self, n: usize) {
        self.count += 1;
        let slow = self
            .slow_every
            .is_some_and(|every| self.count.is_multiple_of(every));
        let client = &mut self.clients[n];
        client.slow = slow;
        client.sent = Instant::now();
        let message = [if slow { SLOW } else { 0 }; MESSAGE];
        assert_eq!(client.stream.write(&message).unwrap(), MESSAGE);
    }

    /// As many round trips as that, over all connections at once.
    fn run(&mut self, trips: u64) -> Duration {
        let start = Instant::now();
        let mut unsent = trips;
        for n in 0..self.clients.len() {
            if unsent > 0 {
                unsent -= 1;
                self.send(n);
            }
        }
        let mut left = trips;
        while left > 0 {
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
            self.poller.wait(&mut events, None).unwrap();
            for (token, _) in events.iter() {
                let n = token.0 as usize;
                let client = &mut self.clients[n];
                let mut buf = [0; MESSAGE];
                if let Ok(got) = client.stream.read(&mut buf) {
                    assert_ne!(got, 0, "the server has hung up");
                    client.got += got;
                }
                if client.got < MESSAGE {
                    continue;
                }
                assert_eq!(client.got, MESSAGE);
                client.got = 0;
                if !client.slow {
                    self.times_ns.push(client.sent.elapsed().as_nanos() as u64);
                }
                left -= 1;
                if unsent > 0 {
                    unsent -= 1;
                    self.send(n);
                }
            }
            self.events = events;
        }
        start.elapsed()
    }
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn bench<A: Arrangement>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    connections: usize,
    slow_every: Option<u64>,
) {
    let (server, addr) = A::start();
    let mut clients = Clients::connect(addr, connections, slow_every);
    // All are accepted and have been served once.
    clients.run(2 * connections as u64);
    clients.times_ns.clear();
    let (mut cpu, mut trips) = (0, 0);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let before = cpu_ns();
            let elapsed = clients.run(iters);
            cpu += cpu_ns() - before;
            trips += iters;
            elapsed
        });
    });
    clients.times_ns.sort_unstable();
    let percentile = |part: usize| clients.times_ns[clients.times_ns.len() * part / 1000] / 1000;
    println!(
        "{name}, {connections} connections: {:.2} us of processor time a round trip; \
         half took {} us, the slowest in a hundred {} us, in a thousand {} us",
        cpu as f64 / trips as f64 / 1000.0,
        percentile(500),
        percentile(990),
        percentile(999),
    );
    for client in &clients.clients {
        rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    }
    drop(clients);
    server.stop();
}

fn all(criterion: &mut Criterion) {
    for (size, connections, slow_every) in [
        ("1", 1, None),
        ("100", 100, None),
        ("2000", 2000, None),
        ("100_blocking", 100, Some(100)),
    ] {
        let mut group = criterion.benchmark_group(format!("pollio/arrangement/{size}"));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        bench::<ReactorServer>(&mut group, "reactor_a_core", connections, slow_every);
        bench::<PoolServer<THREADS>>(&mut group, "pool_of_2", connections, slow_every);
        bench::<PoolServer<8>>(&mut group, "pool_of_8", connections, slow_every);
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
