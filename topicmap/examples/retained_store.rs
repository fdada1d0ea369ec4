//! Retained messages: a store of 100,000 topics from which a new subscriber gets those that match,
//! a slice at a time, while publishers go on storing and removing.

use std::io::{self, Write};

use topicmap::{Cursor, Filter, Limits, Topic, TopicStore};

/// Nodes to look at in one slice; between two slices a server does its other work.
const BUDGET: usize = 1000;

fn replay(
    store: &mut TopicStore<u32>,
    limits: &Limits,
    text: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let filter = match Filter::parse(text, limits) {
        Ok(filter) => filter,
        Err(error) => return writeln!(out, "{text}: {error}"),
    };
    let (mut slices, mut sent) = (1, 0);
    let mut from = Cursor::start();
    while let Some(next) = store.scan(&filter, from, BUDGET, |_, _| sent += 1) {
        from = next;
        slices += 1;
        // The store may change between slices: what stays is still sent exactly once.
        let room = format!("building/{}/room/0/light", slices % 100);
        if let Ok(topic) = Topic::parse(&room, limits) {
            match slices % 2 {
                0 => drop(store.remove(&topic)),
                _ => drop(store.insert(&topic, slices)),
            }
        }
    }
    writeln!(
        out,
        "{text}: {sent} messages in {slices} slices of at most {BUDGET} nodes"
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limits = Limits::default();
    let mut out = io::stdout().lock();
    let mut store = TopicStore::new(limits.seed);
    for building in 0..100 {
        for room in 0..500 {
            for what in ["light", "heat"] {
                let text = format!("building/{building}/room/{room}/{what}");
                store.insert(&Topic::parse(&text, &limits)?, room);
            }
        }
    }
    writeln!(
        out,
        "{} topics stored, {} KiB of heap",
        store.len(),
        store.heap_bytes() / 1024
    )?;
    for text in [
        "building/7/room/7/light",
        "building/7/#",
        "building/+/room/3/heat",
        "building/42/room/+/light",
        "#",
        "nobody/+/here",
        "building/#/light",
    ] {
        replay(&mut store, &limits, text, &mut out)?;
    }
    Ok(())
}
