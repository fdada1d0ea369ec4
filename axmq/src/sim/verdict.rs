//! The end of a run: what had to arrive has arrived, or its loss is counted; nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use super::client::Client;
use super::plan::FILTERS;
use super::report::Feature;
use super::{Check, World};
use crate::counters::Counters;
use crate::retained::Position;

/// Deliveries that had to happen to one client, and how many did not.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Owing {
    pub(super) kept: u64,
    pub(super) missing: u64,
    pub(super) kept_once: u64,
    pub(super) missing_once: u64,
    /// The first that did not.
    pub(super) first: Option<u32>,
    pub(super) first_once: Option<u32>,
}

fn add_drops(w: &mut World, counters: &Counters) {
    for (feature, count) in [
        (
            Feature::DroppedSessionQueue,
            counters.dropped_session_queue_full,
        ),
        (Feature::DroppedOutQueue, counters.dropped_out_queue_full),
        (Feature::DroppedStalled, counters.dropped_stalled),
        (Feature::DroppedOffline, counters.dropped_offline),
        (Feature::DroppedTooLarge, counters.dropped_too_large),
        (Feature::DroppedExpired, counters.dropped_expired),
        (Feature::DroppedNoMemory, counters.dropped_no_memory),
        (Feature::DroppedShort, counters.dropped_memory_short),
        (
            Feature::DroppedNotAuthorized,
            counters.dropped_not_authorized,
        ),
        (Feature::PublishersHeld, counters.publishers_held),
        (Feature::StoreHeld, counters.store_held),
        (
            Feature::DroppedGroupQueue,
            counters.dropped_group_queue_full,
        ),
        (Feature::DroppedGroupEnded, counters.dropped_group_ended),
        (Feature::RetainedNotKept, counters.retained_not_kept),
    ] {
        w.report.add(feature, count);
    }
}

/// Compares the books when the broker has come to rest.
pub(super) fn check(w: &mut World, clients: &[Client]) -> Check {
    let mut not_kept = 0;
    for at in 0..w.site.shards.len() {
        let counters = w.site.shards[at].server.counters().clone();
        add_drops(w, &counters);
        not_kept += counters.retained_not_kept;
        let audit = &w.site.shards[at].audit;
        let seen = [
            (Feature::Paused, audit.paused_seen),
            (Feature::Congested, audit.congested_seen),
            (Feature::ReplaySlices, audit.replays_seen),
            (Feature::Funnel, audit.funnel_seen),
        ];
        for (feature, count) in seen {
            w.report.add(feature, count);
        }
    }
    // Any of a group's messages may have been dropped, by its owner or by a member's shard.
    let mut most = may_be_dealt(w);
    for at in 0..w.site.shards.len() {
        most += check_shard(w, clients, at, not_kept > 0)?;
    }
    let dropped = dropped(w);
    check!(
        // How many values of $SYS there were nobody knows.
        dropped <= most || w.plan.sys_interval_s.is_some(),
        "{dropped} drops are counted, clients can have missed {most} messages"
    );
    w.report.add(Feature::DropsBounded, dropped);
    check_groups(w, clients)?;
    check_retained(w, clients, not_kept)
}

fn dropped(w: &World) -> u64 {
    let shards = w.site.shards.iter();
    shards.map(|shard| shard.server.counters().dropped()).sum()
}

fn may_be_dealt(w: &World) -> u64 {
    let shared = w
        .ledger
        .messages
        .iter()
        .filter(|message| w.ledger.is_shared_topic(message.topic));
    shared
        .map(|message| u64::from(message.attempts) * w.plan.groups as u64)
        .sum()
}

/// What clients of one shard miss has been counted, and what was counted they may miss. Returns how
/// much that is at most.
fn check_shard(
    w: &mut World,
    clients: &[Client],
    at: usize,
    may_be_unstored: bool,
) -> Result<u64, String> {
    let counters = w.site.shards[at].server.counters().clone();
    let (mut missing, mut missing_once) = (0, 0);
    let mut who = Vec::new();
    let mut may_be_missing = 0;
    for client in clients {
        if usize::from(w.site.shared.shard_of(&client.name)) != at {
            continue;
        }
        let owing = client.owing(w);
        // One that was not kept is owed to nobody, and nobody can tell which it was.
        let stored = client.owed_still(w).filter(|_| !may_be_unstored);
        let (stored, stored_once): (Vec<_>, Vec<_>) = stored.partition(|owed| owed.qos > 0);
        missing += owing.missing + stored.len() as u64;
        missing_once += owing.missing_once + stored_once.len() as u64;
        may_be_missing += client.may_have_missed(w);
        let first = stored.iter().chain(&stored_once).next();
        let first = first.map(|owed| owed.message);
        if first.is_some() || owing.missing + owing.missing_once > 0 {
            who.push((client.name.clone(), owing.first, owing.first_once, first));
        }
        w.report.add(Feature::OwedChecked, owing.kept);
        w.report.add(Feature::OwedOnce, owing.kept_once);
    }
    let dropped = counters.dropped_session_queue_full + counters.dropped_no_memory;
    check!(
        missing <= dropped,
        "{missing} messages never came to {who:?} of shard {at}, which dropped {dropped}"
    );
    let dropped =
        counters.dropped_out_queue_full + counters.dropped_stalled + counters.dropped_memory_short;
    check!(
        missing_once <= dropped,
        "{missing_once} QoS 0 messages never came to {who:?} of shard {at}, \
         which dropped {dropped}"
    );
    let dropped = counters.dropped();
    check!(
        w.plan.groups > 0 || w.plan.sys_interval_s.is_some() || dropped <= may_be_missing,
        "shard {at} counts {dropped} drops, its clients can have missed {may_be_missing} messages: \
         {counters:?}"
    );
    if w.plan.groups == 0 && missing + missing_once == may_be_missing {
        w.report.add(Feature::DropsExact, dropped);
    }
    Ok(may_be_missing)
}

/// A message for a group that surely had a member all the time has come to somebody, where no
/// member has lost its session since, and with it what it had been sent.
fn check_groups(w: &mut World, clients: &[Client]) -> Check {
    let dropped: u64 = w
        .site
        .shards
        .iter()
        .map(|shard| shard.server.counters())
        .map(|counters| counters.dropped() - counters.dropped_offline)
        .sum();
    let (mut kept, mut missing) = (0, 0);
    for (at, message) in w.ledger.messages.iter().enumerate() {
        let Some(routed) = message.routed else {
            continue;
        };
        let is_for_groups = w.ledger.is_shared_topic(message.topic);
        let is_void = message.path.is_void();
        let is_lost = message.sent <= w.ledger.members_lost;
        if !is_for_groups || message.qos == 0 || is_lost || is_void {
            continue;
        }
        let has_member = |group: usize| {
            w.ledger.matches[FILTERS.len() + group][message.topic]
                && clients
                    .iter()
                    .any(|client| client.is_member(group, message.sent, routed))
        };
        if !(0..w.plan.groups).any(has_member) || message.expiry_s.is_some() {
            continue;
        }
        let has_come = clients
            .iter()
            .any(|client| client.is_dealt(w, message.topic) && client.has_had(at as u32));
        kept += u64::from(has_come);
        missing += u64::from(!has_come);
    }
    w.report.add(Feature::DealtChecked, kept);
    check!(
        missing <= dropped,
        "{missing} messages came to no member of their group, {dropped} were dropped"
    );
    Ok(())
}

fn check_retained(w: &mut World, clients: &[Client], not_kept: u64) -> Check {
    let now_ns = w.site.now_ns();
    let limits = w.site.shared.topic_limits;
    let all = topicmap::Filter::parse("#", &limits).expect("legal");
    let mut stored = BTreeMap::new();
    let mut position = Position::default();
    let is_over = w.site.shared.retained.scan(
        &all,
        &mut position,
        usize::MAX,
        now_ns / 1_000_000,
        &limits,
        |publication| {
            let view = publication.view();
            let number = super::client::number(view.payload());
            stored.insert(view.topic().to_owned(), number.unwrap_or(u32::MAX));
        },
    );
    check!(is_over, "the store cannot be read in one go");
    let count = w.site.shared.retained.len();
    check!(
        count == stored.len() as u64,
        "{} retained messages are there, {count} are counted",
        stored.len()
    );
    w.ledger
        .check_retained(&stored, not_kept, now_ns, &mut w.report)?;
    // One that was not kept may be owed to many.
    let owed: BTreeSet<u32> = clients
        .iter()
        .flat_map(|client| client.owed_still(w))
        .map(|owed| owed.message)
        .collect();
    let dropped = dropped(w);
    check!(
        owed.len() as u64 <= not_kept + dropped,
        "retained messages {owed:?} never came to a new subscription, {not_kept} were not kept"
    );
    Ok(())
}

/// Everybody goes, and time passes: nothing is left.
pub(super) fn finish(w: &mut World, mut clients: Vec<Client>) -> Check {
    let held = w.site.shared.times_accepting_held();
    w.report.add(Feature::ConnectsHeld, held);
    for client in &mut clients {
        client.say_good_bye(w);
    }
    settle(w)?;
    drop(clients);
    for _ in 0..3 {
        settle(w)?;
        w.site.net.advance(2_000_000_000_000_000);
    }
    w.site.catch_up()?;
    w.site.check_empty()?;
    check_visits(w)?;
    let mut reader = w.site.shared.interest.reader();
    for name in &w.ledger.topics {
        let topic = topicmap::Topic::parse(name, &w.site.shared.topic_limits).expect("legal");
        let mask = reader.mask(&topic);
        check!(mask == 0, "the interest in {name} is still {mask:#b}");
    }
    Ok(())
}

/// Hooks have heard of every coming and going.
pub(super) fn check_visits(w: &mut World) -> Check {
    if let Some(visits) = &w.site.visits {
        let heard = visits.check_all_gone()?;
        w.report.add(Feature::HooksHeard, heard);
    }
    Ok(())
}

/// Turns the loops until all of them sleep.
fn settle(w: &mut World) -> Check {
    for _ in 0..10_000 {
        let mut is_idle = !w.site.authenticate_one();
        for at in 0..w.site.loops() {
            is_idle &= w.site.turn(at, false)?.is_none();
        }
        if is_idle {
            break;
        }
    }
    for shard in &w.site.shards {
        w.say(0, || shard.server.core().describe());
    }
    Ok(())
}
