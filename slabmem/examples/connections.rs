//! A connection table: keys as poller tokens, stale events, a storm that comes and goes.
//!
//! Run with `cargo run --release -p slabmem --example connections`.

use std::io::{self, Write};

use slabmem::{Key, Slab};

struct Connection {
    key: Key,
    bytes_in: u64,
}

/// What a poller would report: the token that was registered, as an integer.
fn on_readable(connections: &mut Slab<Connection>, token: u64) -> bool {
    // An event of a connection that was closed in the same batch finds nothing, even where the
    // slot has a new tenant.
    let Some(connection) = Key::from_bits(token).and_then(|key| connections.get_mut(key)) else {
        return false;
    };
    connection.bytes_in += 100;
    true
}

fn accept(connections: &mut Slab<Connection>) -> Option<u64> {
    let entry = connections.vacant_entry()?;
    let key = entry.key();
    Some(entry.insert(Connection { key, bytes_in: 0 }).key.to_bits())
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut connections = Slab::with_limit(1_000_000);

    let first = accept(&mut connections).expect("the table is empty");
    assert!(on_readable(&mut connections, first));
    let closed = Key::from_bits(first).and_then(|key| connections.remove(key));
    let second = accept(&mut connections).expect("there is room");
    writeln!(
        out,
        "first read {} bytes",
        closed.map_or(0, |connection| connection.bytes_in)
    )?;
    writeln!(
        out,
        "stale event delivered: {}",
        on_readable(&mut connections, first)
    )?;
    writeln!(
        out,
        "fresh event delivered: {}",
        on_readable(&mut connections, second)
    )?;

    let mut tokens = Vec::new();
    while let Some(token) = accept(&mut connections) {
        tokens.push(token);
    }
    writeln!(out, "at the limit: {:?}", connections.stats())?;

    for token in &tokens[..900_000] {
        Key::from_bits(*token).and_then(|key| connections.remove(key));
    }
    writeln!(out, "after the storm: {:?}", connections.stats())?;
    let bytes: u64 = connections
        .iter()
        .map(|(_, connection)| connection.bytes_in)
        .sum();
    writeln!(
        out,
        "{} connections have read {bytes} bytes",
        connections.len()
    )
}
