//! Strikes and bans of addresses and clients, by a clock that the tests turn.

use super::kernel::Order;
use super::*;

const S: u64 = 1_000;

fn defence(change: impl FnOnce(&mut DefenceSettings)) -> Defence {
    let mut config = Config::default();
    change(&mut config.defence);
    Defence::off(&KeyedHash::with_keys([1, 2])).with_config(&config)
}

fn peer(ip: &str) -> PeerAddr {
    PeerAddr::new(ip.parse().expect("an address"), 4_660)
}

fn range(text: &str) -> Network {
    text.parse().expect("a range")
}

#[test]
fn the_fifth_strike_is_a_ban_which_ends_by_itself() {
    let defence = defence(|_| {});
    let bad = peer("192.0.2.7");
    for at_s in [1_000, 1_010, 1_020, 1_030] {
        defence.offend(&bad, None, Offence::Malformed, at_s * S);
        assert!(!defence.turns_away(&bad, at_s * S));
    }
    defence.offend(&bad, None, Offence::Silent, 1_040 * S);
    assert!(defence.turns_away(&bad, 1_040 * S));
    assert!(!defence.turns_away(&peer("192.0.2.8"), 1_040 * S));
    assert!(defence.turns_away(&bad, 2_839 * S) && !defence.turns_away(&bad, 2_840 * S));
    // Again, and for twice as long.
    for _ in 0..5 {
        defence.offend(&bad, None, Offence::Oversized, 2_900 * S);
    }
    assert!(defence.turns_away(&bad, 6_499 * S) && !defence.turns_away(&bad, 6_500 * S));
    let figures: Vec<_> = defence.figures().filter(|(_, n)| *n > 0).collect();
    assert_eq!(
        figures,
        [
            ("offences_silent", 1),
            ("offences_malformed", 4),
            ("offences_oversized", 5),
            ("bans_set", 2),
            ("banned_connections", 3),
        ]
    );
}

#[test]
fn strikes_that_come_as_slowly_as_they_are_forgiven_never_ban() {
    let defence = defence(|_| {});
    let clumsy = peer("192.0.2.7");
    for minute in 0..10_000 {
        defence.offend(&clumsy, None, Offence::Login, minute * 60 * S);
        defence.offend(&clumsy, None, Offence::Fruitless, minute * 60 * S + 30);
        assert!(
            !defence.turns_away(&clumsy, minute * 60 * S + 40),
            "{minute}"
        );
        if minute == 250 {
            // One hundredth of a strike more than is forgiven each minute, and still far away.
            break;
        }
    }
}

#[test]
fn a_bad_client_is_banned_and_the_others_behind_its_address_are_not() {
    let defence = defence(|_| {});
    let nat = peer("198.51.100.1");
    for _ in 0..5 {
        defence.offend(&nat, Some("broken"), Offence::Login, 9 * S);
    }
    assert!(defence.turns_away_client(&nat, "broken", 9 * S));
    assert!(!defence.turns_away_client(&nat, "fine", 9 * S));
    assert!(!defence.turns_away_client(&peer("198.51.100.2"), "broken", 9 * S));
    assert!(!defence.turns_away(&nat, 9 * S));
    // It goes on trying, twice a second: that is its own affair.
    for half in 20..220 {
        defence.offend(&nat, None, Offence::Fruitless, half * 500);
    }
    assert!(!defence.turns_away(&nat, 110 * S));
}

#[test]
fn one_who_takes_another_client_id_each_time_is_banned_by_address() {
    let defence = defence(|_| {});
    let guesser = peer("2001:db8::1");
    let banned = (0..).find(|n| {
        let id = format!("c{n}");
        defence.offend(&guesser, Some(&id), Offence::Login, 9 * S);
        defence.turns_away(&guesser, 9 * S)
    });
    assert_eq!(banned, Some(20), "the 21st is the first above four strikes");
    assert!(
        defence.turns_away(&peer("2001:db8::ffff:1"), 9 * S),
        "the /64"
    );
    assert!(!defence.turns_away(&peer("2001:db8:0:1::1"), 9 * S));
}

#[test]
fn loopback_proxies_and_who_is_allowed_are_never_banned() {
    let mut config = Config::default();
    config.defence.allow = "192.0.2.0/24, 2001:db8::5".into();
    config.listeners[0].rules.proxy_protocol_from = "10.0.0.1".into();
    let defence = Defence::off(&KeyedHash::with_keys([1, 2])).with_config(&config);
    for exempt in ["127.0.0.9", "::1", "192.0.2.200", "2001:db8::5", "10.0.0.1"] {
        for _ in 0..50 {
            defence.offend(&peer(exempt), Some("c"), Offence::Malformed, 9 * S);
        }
        assert!(!defence.turns_away(&peer(exempt), 9 * S), "{exempt}");
        assert!(!defence.turns_away_client(&peer(exempt), "c", 9 * S));
        assert!(defence.ban(range(exempt), None, 9 * S).is_err());
    }
    // A range around one: the others in it are banned.
    assert!(defence.ban(range("192.0.0.0/16"), None, 9 * S).is_ok());
    assert!(!defence.turns_away(&peer("192.0.2.1"), 9 * S));
    assert!(defence.turns_away(&peer("192.0.3.1"), 9 * S));
    assert!(!defence.watches(&PeerAddr::UNIX));
}

#[test]
fn turned_off_it_bans_nobody_but_whom_an_operator_bans() {
    let defence = defence(|settings| settings.enabled = false);
    let load = peer("192.0.2.7");
    for _ in 0..1_000 {
        defence.offend(&load, Some("c"), Offence::Malformed, 9 * S);
    }
    assert!(!defence.turns_away(&load, 9 * S));
    assert!(defence.ban(range("192.0.2.7"), Some(60), 9 * S).is_ok());
    assert!(defence.turns_away(&load, 68 * S) && !defence.turns_away(&load, 69 * S));
}

#[test]
fn operators_ban_addresses_and_ranges_and_see_and_lift_them() {
    let defence = defence(|_| {});
    for (text, who) in [
        ("192.0.2.7", "192.0.2.7"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:db8:5::/48", "2001:db8:5::/48"),
    ] {
        let banned = defence.ban(range(text), Some(100), 9 * S);
        assert_eq!(banned.map(|who| who.to_string()), Ok(who.to_owned()));
    }
    assert_eq!(
        defence.ban(range("2001:db8::/96"), None, 9 * S),
        Err(BanError::Narrow)
    );
    let long = range("198.51.100.0/24");
    assert!(defence.ban(long, None, 9 * S).is_ok());
    for (ip, is_banned) in [
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("203.0.113.255", true),
        ("203.0.114.0", false),
        ("2001:db8::8", true),
        ("2001:db8:5:9::1", true),
        ("2001:db8:6::1", false),
    ] {
        assert_eq!(defence.turns_away(&peer(ip), 10 * S), is_banned, "{ip}");
    }
    let (listed, total) = defence.list(2, 10 * S);
    let lines: Vec<_> = listed
        .iter()
        .map(|ban| (ban.who.to_string(), ban.ends_in_s))
        .collect();
    assert_eq!((lines.len(), total), (2, 5));
    assert_eq!(lines[0], ("198.51.100.0/24".to_owned(), None));
    assert_eq!(lines[1].1, Some(99));
    assert_eq!(defence.lift(long, 10 * S), Ok(true));
    assert_eq!(defence.lift(long, 10 * S), Ok(false));
    assert_eq!(defence.lift(range("2001:db8::9"), 10 * S), Ok(true));
    assert!(!defence.turns_away(&peer("2001:db8::8"), 10 * S));
    assert_eq!(defence.list(100, 200 * S).1, 0, "all are over");
}

#[test]
fn a_lifted_ban_leaves_no_strikes() {
    let defence = defence(|_| {});
    let bad = peer("192.0.2.7");
    for _ in 0..5 {
        defence.offend(&bad, Some("c"), Offence::Login, 9 * S);
    }
    assert!(defence.turns_away_client(&bad, "c", 9 * S));
    assert!(defence.lift_client(range("192.0.2.7"), "c", 9 * S));
    assert!(!defence.turns_away_client(&bad, "c", 9 * S));
    defence.offend(&bad, Some("c"), Offence::Login, 9 * S);
    assert!(!defence.turns_away_client(&bad, "c", 9 * S));
}

#[test]
fn a_full_table_is_counted_and_takes_no_more() {
    let defence = defence(|settings| settings.bans = 1_024);
    for n in 0..4_000_u32 {
        let ip = IpAddr::V4((0xC633_0000 + n).into());
        let peer = PeerAddr::new(ip, 1);
        for _ in 0..5 {
            defence.offend(&peer, None, Offence::Malformed, 9 * S);
        }
    }
    let figure = |name| defence.figures().find(|(n, _)| *n == name).map(|(_, n)| n);
    assert_eq!(figure("bans_set"), Some(1_024));
    assert_eq!(defence.list(0, 9 * S).1, 1_024);
    assert!(figure("bans_refused").is_some_and(|n| n > 2_000));
}

#[test]
fn a_fight_for_a_client_id_is_noticed_once_slowed_and_over_when_it_is_over() {
    let defence = defence(|_| {});
    let take_over = |id: &str| TakeOver {
        client_id: id.into(),
        old: peer("127.0.0.1"),
        new: peer("192.0.2.7"),
    };
    let figure = |name| defence.figures().find(|(n, _)| *n == name).map(|(_, n)| n);
    for at_s in 100..104 {
        defence.take_over(&take_over("twin"), at_s * S);
        assert_eq!(defence.connack_delay_ms("twin", at_s * S), None);
    }
    for at_s in 104..1_000 {
        defence.take_over(&take_over("twin"), at_s * S);
        assert_eq!(defence.connack_delay_ms("twin", at_s * S), Some(2_000));
        assert_eq!(defence.connack_delay_ms("other", at_s * S), None);
    }
    assert_eq!(figure("takeover_fights"), Some(1));
    let is_over = (1_000..2_000).find(|at_s| defence.connack_delay_ms("twin", at_s * S).is_none());
    assert!(is_over.is_some_and(|at_s| at_s < 1_120), "{is_over:?}");
    // One a minute is a device that roams.
    for at_s in (5_000..9_000).step_by(60) {
        defence.take_over(&take_over("roams"), at_s * S);
        assert_eq!(defence.connack_delay_ms("roams", at_s * S), None);
    }
}

#[test]
fn what_is_to_be_kept_is_bounded_and_what_is_lifted_gets_through() {
    let defence = defence(|_| {});
    let under_way = Arc::new(Mutex::new(Vec::new()));
    let at_store = Arc::clone(&under_way);
    defence.keep_by(move |change| lock(&at_store).push(change));
    let host = |n: u32| Network::around(IpAddr::V4((0xC633_0000 + n).into()), 128);
    let figure = || defence.figures().find(|(name, _)| *name == "bans_not_kept");
    for n in 0..65_537 {
        assert!(defence.ban(host(n), None, 9 * S).is_ok());
    }
    assert_eq!(lock(&under_way).len(), 65_536);
    assert_eq!(figure(), Some(("bans_not_kept", 1)));
    assert_eq!(defence.list(0, 9 * S).1, 65_537, "it holds all the same");
    assert_eq!(defence.lift(host(7), 9 * S), Ok(true));
    let last = lock(&under_way).pop().expect("it got through");
    let lifted = Banned::try_from(host(7)).expect("an address");
    assert!(last.who == lifted && last.ban.is_none());
    // There is room when the store has taken them, but an id must fit into a key.
    drop(last);
    lock(&under_way).clear();
    let long = "c".repeat(60_001);
    for id in ["short", &long] {
        for _ in 0..5 {
            defence.offend(&peer("192.0.2.7"), Some(id), Offence::Login, 9 * S);
        }
        assert!(defence.turns_away_client(&peer("192.0.2.7"), id, 9 * S));
    }
    assert_eq!(lock(&under_way).len(), 1);
    assert_eq!(figure(), Some(("bans_not_kept", 2)));
}

#[test]
fn the_kernel_is_told_of_bans_of_an_earlier_run_and_what_is_left_of_them() {
    let defence = defence(|_| {});
    let resume = |text, until_ms| {
        let who = Banned::try_from(range(text)).expect("an address");
        let (times, cause) = (1, BanCause::Operator);
        let ban = KeptBan {
            until_ms,
            times,
            cause,
        };
        assert_eq!(defence.resume(who, &ban, 0, 9 * S), Resumed::Known);
    };
    resume("192.0.2.7", 49 * S - 999);
    resume("2001:db8::/64", u64::MAX);
    // At accept only.
    resume("203.0.113.0/24", 49 * S);
    // Over, and remembered.
    resume("192.0.2.8", 9 * S);
    let mut orders = defence.orders_in_force(9 * S);
    orders.sort_by_key(|order| matches!(order, Order::Ban(_, None)));
    let host = |ip: &str| Host::from(ip.parse::<IpAddr>().expect("an address"));
    assert_eq!(
        orders,
        [
            Order::Ban(host("192.0.2.7"), Some(40)),
            Order::Ban(host("2001:db8::"), None),
        ]
    );
}
