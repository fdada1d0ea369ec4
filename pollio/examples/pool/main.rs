//! An echo server with one poller, one-shot sources and a pool of threads.
//!
//! ```sh
//! cargo run -p pollio --example pool -- 127.0.0.1:7777 4
//! ```
//!
//! Any thread serves any connection, so that a slow one delays nobody else; a source reports
//! once and is then the thread's own until it is armed again (`life.rs` says whose it is, without
//! a lock). The price is one `epoll_ctl` for each time that a connection is served, and state that
//! wanders between processors. Where connections are many and each event is little work, a reactor
//! a core (`examples/cores`) has neither.

mod life;
#[allow(dead_code, reason = "others that use this module stop it")]
mod server;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    thread,
};

use pollio::net::{ListenOptions, Listener};
use server::Pool;

const SLOTS: u32 = 16_384;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7777".into());
    let addr: SocketAddr = addr
        .parse()
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let threads = args
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(4_usize);
    let listener = Listener::bind(&addr, &ListenOptions::default())?;
    eprintln!(
        "listening on {} with {threads} threads",
        listener.local_addr()?
    );

    let pool = Pool::new(listener, SLOTS, |_| ())?;
    thread::scope(|scope| {
        let serving: Vec<_> = (0..threads).map(|_| scope.spawn(|| pool.serve())).collect();
        serving.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
        })
    })
}
