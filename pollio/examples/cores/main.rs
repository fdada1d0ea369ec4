//! An echo server with a reactor a core, sharing nothing.
//!
//! ```sh
//! cargo run -p pollio --example cores -- 127.0.0.1:7777 2
//! ```
//!
//! Each thread has a listener of its own at the same address (`SO_REUSEPORT`), and a connection
//! stays on the thread that accepted it: no lock, no `epoll_ctl` after the first, no state that
//! wanders between processors. Everything is bound and built before a thread is started, so that
//! what can fail fails here. `examples/pool` is the other arrangement.

#[allow(dead_code, reason = "others that use this module count")]
#[path = "../echo/server.rs"]
mod server;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    thread,
};

use pollio::{
    Backend as _, Epoll, Reactor, ReactorOptions, affinity,
    net::{ListenOptions, Listener},
};
use server::{Echo, LISTENER};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7777".into());
    let mut addr: SocketAddr = addr
        .parse()
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let threads = args.next().and_then(|count| count.parse().ok());
    let cpus = affinity::available_cpus()?;
    let options = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };

    let mut loops = Vec::new();
    for _ in 0..threads.unwrap_or(cpus.len()) {
        let listener = Listener::bind(&addr, &options)?;
        // The first may let the system choose the port; the others share it.
        addr = listener.local_addr()?;
        let mut reactor = Reactor::new(Epoll::new()?, ReactorOptions::default());
        reactor.backend().add_listener(&listener, LISTENER)?;
        loops.push((reactor, Echo::new(listener, |_| ())));
    }
    eprintln!("listening on {addr} with {} threads", loops.len());

    thread::scope(|scope| {
        let serving: Vec<_> = loops
            .into_iter()
            .zip(cpus.iter().copied().cycle())
            .map(|((mut reactor, mut server), cpu)| {
                scope.spawn(move || {
                    affinity::pin_current_thread(cpu)?;
                    reactor.run(&mut server, |_| false)
                })
            })
            .collect();
        serving.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
        })
    })
}
