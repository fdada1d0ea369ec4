//! Bans in the store: kept, forgotten, and back after a start.

use std::net::IpAddr;

use pollio::PeerAddr;

use super::*;
use crate::config::Config;
use crate::defence::{BanCause, Banned, Defence, KeptBan, Offence, Resumed};
use crate::keyed_hash::KeyedHash;
use crate::network::Network;

const S: u64 = 1_000;

fn defence() -> Defence {
    Defence::off(&KeyedHash::with_keys([1, 2])).with_config(&Config::default())
}

/// One whose bans go to this store.
fn kept(rig: &Rig) -> Defence {
    let (defence, store) = (defence(), rig.store.clone());
    defence.keep_by(move |change| store.push_unbounded(ToStore::Ban(change)));
    defence
}

fn range(text: &str) -> Network {
    text.parse().expect("a range")
}

fn peer(ip: &str) -> PeerAddr {
    PeerAddr::new(ip.parse().expect("an address"), 1)
}

/// Has an address, or a client of it, earn a ban.
fn earn(defence: &Defence, ip: &str, client: Option<&str>, now_ms: u64) {
    for _ in 0..5 {
        defence.offend(&peer(ip), client, Offence::Login, now_ms);
    }
}

/// A start so many milliseconds after the first, with a clock that begins anew.
fn restart(disk: &MemoryDisk, after_ms: u64) -> (Defence, Vec<Resumed>, u64) {
    let mut engine = disk.open();
    let clock = WallClock::new(WALL_MS + after_ms, NOW_MS);
    let mut recovery = Recovery::begin(&mut engine, clock, NOW_MS, [7; 16]).unwrap();
    let defence = defence();
    let mut found = Vec::new();
    let each = |who, ban: KeptBan, over_for_ms| {
        found.push(defence.resume(who, &ban, over_for_ms, NOW_MS));
        found.last() != Some(&Resumed::Over)
    };
    recovery.bans(each).unwrap();
    let (_, aside) = recovery.finish().unwrap();
    (defence, found, aside)
}

/// A defence with a ban of each kind, and the store with them, synced.
fn banned() -> (Defence, TestDisk, Rig) {
    let disk = TestDisk::default();
    recovered(&disk.disk);
    let mut rig = Rig::new(&disk);
    let defence = kept(&rig);
    defence.ban(range("203.0.113.0/24"), None, NOW_MS).unwrap();
    defence
        .ban(range("2001:db8::7"), Some(100), NOW_MS)
        .unwrap();
    earn(&defence, "192.0.2.7", None, NOW_MS);
    earn(&defence, "198.51.100.1", Some("broken"), NOW_MS);
    rig.turn();
    assert_eq!(rig.sleeps_ns(), Some(10 * MS), "nobody waits for them");
    rig.net.advance(10 * MS);
    rig.turn();
    disk.disk.crash(0);
    assert_eq!(disk.disk.len(Space::Ban), 4);
    (defence, disk, rig)
}

#[test]
fn bans_are_back_after_a_start_for_as_long_as_they_would_have_held() {
    let (_, disk, _rig) = banned();
    let (defence, found, _) = restart(&disk.disk, 60 * S);
    assert_eq!(found, [Resumed::Known; 4]);
    for ip in ["203.0.113.9", "2001:db8::1", "192.0.2.7"] {
        assert!(defence.turns_away(&peer(ip), NOW_MS), "{ip}");
    }
    let nat = peer("198.51.100.1");
    assert!(defence.turns_away_client(&nat, "broken", NOW_MS));
    assert!(!defence.turns_away_client(&nat, "fine", NOW_MS));
    assert!(!defence.turns_away(&nat, NOW_MS));
    // 40 s are left of 100, and 1,740 of 1,800.
    for (ip, left_s) in [("2001:db8::1", 40), ("192.0.2.7", 1_740)] {
        let until_ms = NOW_MS + left_s * S;
        assert!(defence.turns_away(&peer(ip), until_ms - 1), "{ip}");
        assert!(!defence.turns_away(&peer(ip), until_ms), "{ip}");
    }
    let (list, _) = defence.list(10, NOW_MS);
    let causes: Vec<_> = list.iter().map(|ban| (ban.cause, ban.times)).collect();
    let login = BanCause::Offence(Offence::Login);
    let operator = BanCause::Operator;
    assert_eq!(
        causes,
        [(operator, 0), (login, 1), (login, 1), (operator, 0)]
    );
    // The next one in a row is as long as it would have been without the start.
    earn(&defence, "192.0.2.7", None, NOW_MS + 1_800 * S);
    assert!(defence.turns_away(&peer("192.0.2.7"), NOW_MS + 5_399 * S));
}

#[test]
fn one_that_is_over_does_not_come_back_and_is_removed_when_it_is_forgotten() {
    let (_, disk, _rig) = banned();
    // All but one are over. What lasted for half an hour is remembered for as long again, and so
    // is what an operator has set, from when it was over.
    let (defence, found, _) = restart(&disk.disk, 3_500 * S);
    assert_eq!(found.iter().filter(|one| **one == Resumed::Over).count(), 1);
    assert_eq!(disk.disk.len(Space::Ban), 3);
    assert!(!defence.turns_away(&peer("192.0.2.7"), NOW_MS));
    assert_eq!(defence.list(10, NOW_MS).1, 1);
    restart(&disk.disk, 3_700 * S);
    assert_eq!(disk.disk.len(Space::Ban), 1, "for ever is for ever");
}

#[test]
fn one_that_is_lifted_does_not_come_back() {
    let (defence, disk, mut rig) = banned();
    for text in ["203.0.113.0/24", "2001:db8::1", "192.0.2.7"] {
        assert_eq!(defence.lift(range(text), NOW_MS), Ok(true));
    }
    assert!(defence.lift_client(range("198.51.100.1"), "broken", NOW_MS));
    rig.store.push_unbounded(ToStore::Stop);
    rig.turn();
    assert_eq!(disk.disk.len(Space::Ban), 0);
    assert_eq!(restart(&disk.disk, S).1, []);
}

#[test]
fn what_the_table_forgets_the_store_forgets() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let defence = kept(&rig);
    let host = |n: u32| Network::around(IpAddr::V4((0xC633_0000 + n).into()), 128);
    // Each ends after a second, and few are remembered at a time: tables are looked through as
    // they grow.
    for n in 0..10_000 {
        let now_ms = NOW_MS + u64::from(n) * 200 * S;
        defence.ban(host(n), Some(1), now_ms).unwrap();
    }
    rig.turn();
    // 16 tables, and 64 in each before it is looked through.
    assert!(disk.disk.len(Space::Ban) <= 1_024);
}

#[test]
fn a_ban_that_is_corrupt_is_put_aside_and_the_others_hold() {
    let (_, disk, _rig) = banned();
    let who = Banned::try_from(range("192.0.2.7")).unwrap();
    assert!(disk.disk.corrupt(Space::Ban, &key::ban(&who), 17));
    let (defence, found, aside) = restart(&disk.disk, S);
    assert_eq!((found.len(), aside), (3, 1));
    assert!(!defence.turns_away(&peer("192.0.2.7"), NOW_MS));
    assert!(defence.turns_away(&peer("203.0.113.9"), NOW_MS));
    assert_eq!(disk.disk.len(Space::Ban), 3);
}

#[test]
fn bans_hold_in_memory_when_the_store_has_failed_and_wait_when_it_waits() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let defence = kept(&rig);
    let lost = || {
        let mut figures = defence.figures();
        figures
            .find(|(name, _)| *name == "bans_not_kept")
            .unwrap()
            .1
    };
    disk.is_full.store(true, Ordering::Relaxed);
    defence.ban(range("192.0.2.1"), None, NOW_MS).unwrap();
    rig.turn();
    assert_eq!((disk.disk.len(Space::Ban), lost()), (0, 0));
    disk.is_full.store(false, Ordering::Relaxed);
    rig.net.advance(1_000 * MS);
    rig.turn();
    assert_eq!(disk.disk.len(Space::Ban), 1);
    disk.disk.set_weather(Weather::SyncFails);
    rig.net.advance(10 * MS);
    rig.turn();
    assert_eq!(rig.figures.health(), Health::Failed);
    defence.ban(range("192.0.2.2"), None, NOW_MS).unwrap();
    rig.turn();
    assert_eq!(lost(), 1);
    assert!(defence.turns_away(&peer("192.0.2.2"), NOW_MS));
    assert_eq!(rig.sleeps_ns(), None);
}
