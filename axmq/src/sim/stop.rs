//! An orderly stop in the middle of traffic: what is known to be routed still arrives, wills that
//! are due are published, each client is told, and it is over in bounded time.

use std::sync::mpsc;

use super::client::Client;
use super::report::Feature;
use super::{Check, World};
use crate::message::{ToFront, ToShard};

/// The broker waits no longer than this for clients to take what is queued for them, and needs a
/// turn to see that.
const STOP_NS: u64 = 5_000_000_000;
const STEP_NS: u64 = 5_000_000;

/// Ends a run by a stop, once the books have been compared.
pub(super) fn check(w: &mut World, mut clients: Vec<Client>) -> Check {
    let rest = w.tick;
    let dropped = dropped_once(w);
    traffic(w, &mut clients)?;
    begin(w, &mut clients)?;
    let begun_ns = w.site.now_ns();
    while !w.site.is_stopped() {
        check!(
            w.site.now_ns() < begun_ns + STOP_NS + 2 * STEP_NS,
            "the broker does not stop"
        );
        turn_all(w)?;
        for client in &mut clients {
            w.tick += 1;
            client.step_at_stop(w)?;
        }
        w.site.net.advance(STEP_NS);
    }
    let is_in_time = w.site.now_ns() < begun_ns + STOP_NS;
    for client in &mut clients {
        client.step_at_stop(w)?;
        client.check_good_bye(w, is_in_time)?;
    }
    let dropped = dropped_once(w) - dropped;
    check_arrived(w, &clients, rest, dropped)?;
    w.site.shards.clear();
    let streams = w.site.net.streams_open();
    check!(streams == 0, "{streams} streams are open after the stop");
    super::verdict::check_visits(w)
}

fn dropped_once(w: &World) -> u64 {
    let counters = w.site.shards.iter().map(|shard| shard.server.counters());
    counters
        .map(|it| it.dropped_out_queue_full + it.dropped_stalled)
        .sum()
}

/// A few messages more, and not all of the turns that they need.
fn traffic(w: &mut World, clients: &mut [Client]) -> Check {
    for client in clients.iter_mut() {
        client.wish(4);
    }
    for _ in 0..w.random.below(200) {
        w.tick += 1;
        let at = w.random.below(clients.len());
        clients[at].step(w)?;
        let at = w.random.below(w.site.loops());
        w.turn(at, false)?;
    }
    Ok(())
}

fn turn_all(w: &mut World) -> Check {
    for at in 0..w.site.loops() {
        w.turn(at, false)?;
    }
    Ok(())
}

/// What `Running::shutdown` does, with the shards at work meanwhile.
fn begin(w: &mut World, clients: &mut [Client]) -> Check {
    w.report.note(Feature::Stop);
    w.stop_began = Some(w.tick);
    let silent = w.random.one_in(3).then(|| w.random.below(clients.len()));
    for (at, client) in clients.iter_mut().enumerate() {
        client.stop_begins(w, silent == Some(at));
    }
    w.site.to_front.push_unbounded(ToFront::Stop);
    while !w.site.is_front_done() {
        let at = w.random.below(w.site.loops());
        w.turn(at, false)?;
    }
    let (done, all_done) = mpsc::channel();
    for shard in &w.site.to_shards {
        shard.push_unbounded(ToShard::PublishWills(done.clone()));
    }
    drop(done);
    let mut left = w.site.to_shards.len();
    while left > 0 {
        let at = w.random.below(w.site.loops());
        w.turn(at, false)?;
        left -= all_done.try_iter().count();
    }
    for shard in &w.site.to_shards {
        shard.push_unbounded(ToShard::Stop);
    }
    Ok(())
}

/// QoS 0 messages that were known to be routed when the stop began, and wills that had to be
/// published by it, are at every subscriber that read to the end.
fn check_arrived(w: &mut World, clients: &[Client], rest: u64, dropped: u64) -> Check {
    let mut missing = Vec::new();
    for client in clients {
        let (kept, wills) = client.arrived_at_stop(w, rest, &mut missing);
        w.report.add(Feature::StopKept, kept);
        w.report.add(Feature::StopWill, wills);
    }
    check!(
        missing.len() as u64 <= dropped,
        "after the stop these messages are missing, {dropped} were dropped: {missing:?}"
    );
    Ok(())
}
