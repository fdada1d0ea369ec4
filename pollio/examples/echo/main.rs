//! An echo server: one reactor, edge-triggered.
//!
//! ```sh
//! cargo run -p pollio --example echo -- 127.0.0.1:7777
//! nc 127.0.0.1 7777
//! ```
//!
//! The server itself is `server.rs` beside this file. `examples/cores` runs one of it for each
//! processor.

#[allow(dead_code, reason = "others that use this module count")]
mod server;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use pollio::{
    Backend as _, Epoll, Reactor, ReactorOptions,
    net::{ListenOptions, Listener},
};
use server::{Echo, LISTENER};

fn main() -> io::Result<()> {
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7777".into());
    let addr: SocketAddr = addr
        .parse()
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let listener = Listener::bind(&addr, &ListenOptions::default())?;
    eprintln!("listening on {}", listener.local_addr()?);

    let mut reactor = Reactor::new(Epoll::new()?, ReactorOptions::default());
    reactor.backend().add_listener(&listener, LISTENER)?;
    reactor.run(&mut Echo::new(listener, |_| ()), |_| false)
}
