//! What a front does with a CONNECT, and with more connections than it may accept.

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt_codec::encode::{Connect, ConnectProperties, Will, WillProperties};
use mqtt_codec::{ConnAck, Packet, PayloadFormat, ReasonCode, Role, Scan, Version};
use pollio::sim::{SimBackend, SimListener, SimNet, SimPeer, SimStream};
use pollio::{Backend, PeerAddr, Reactor, ReactorOptions, Receiver, Sender, mailbox};

use super::admit::{Admitted, ByDoor, CertifiedUser, Refusal, check};
use super::{FrontParts, FrontServer, NS_PER_MS};
use crate::config::{Config, Limits, Listener, ProtocolSettings, Redirect};
use crate::connack;
use crate::memory::Shortage;
use crate::message::{ToFront, ToShard};
use crate::shard::Shared;

const V5: Version = Version::V5;
const V311: Version = Version::V311;

fn admit(shared: &Shared, version: Version, connect: &Connect<'_>) -> Result<Admitted, Refusal> {
    let bytes = connect.encode_to_vec(version);
    let Ok(Scan::Frame(frame)) = mqtt_codec::scan(&bytes, u32::MAX) else {
        panic!("it is one packet");
    };
    let door = ByDoor {
        rules: None,
        user: CertifiedUser::None,
    };
    check(&bytes, &frame, PeerAddr::UNIX, shared, &door)
}

/// The reason why this CONNECT is not let in.
fn refusal(shared: &Shared, connect: &Connect<'_>) -> Option<ReasonCode> {
    admit(shared, V5, connect).err().map(|why| why.reason)
}

/// Shows the CONNACK of a refusal to `see`.
fn connack(refusal: &Refusal, version: Version, see: impl FnOnce(&ConnAck<'_>)) {
    let bytes = refusal.connack();
    let Ok(Scan::Frame(frame)) = mqtt_codec::scan(&bytes, u32::MAX) else {
        panic!("it is one packet");
    };
    match mqtt_codec::decode(&bytes, &frame, version, Role::Client) {
        Ok(Packet::ConnAck(packet)) => see(&packet),
        other => panic!("{other:?}"),
    }
}

fn named(client_id: &str) -> Connect<'_> {
    Connect {
        client_id,
        clean_start: true,
        ..Connect::default()
    }
}

fn with_will<'a>(payload: &'a [u8], properties: WillProperties<'a>) -> Connect<'a> {
    Connect {
        will: Some(Will {
            topic: "will",
            payload,
            properties,
            ..Will::default()
        }),
        ..named("c")
    }
}

#[test]
fn clients_are_sent_elsewhere_and_told_where() {
    for (redirect, reason) in [
        (Redirect::UseAnother, ReasonCode::UseAnotherServer),
        (Redirect::Moved, ReasonCode::ServerMoved),
    ] {
        for reference in [Some("mqtt2.example.com:1883"), None] {
            let shared = Shared::new(Limits::default(), 1).with_protocol(ProtocolSettings {
                redirect,
                server_reference: reference.map(str::to_owned),
                ..ProtocolSettings::default()
            });
            let refused = admit(&shared, V5, &named("c")).err().expect("redirected");
            connack(&refused, V5, |packet| {
                assert_eq!(packet.reason(), reason);
                assert_eq!(packet.properties().server_reference(), reference);
            });
            let refused = admit(&shared, V311, &named("c")).err().expect("redirected");
            // Fixed header, no session, return code 3: the server is unavailable.
            assert_eq!(refused.connack(), [0x20, 2, 0, 3]);
        }
    }
    let shared = Shared::new(Limits::default(), 1).with_protocol(ProtocolSettings {
        server_reference: Some("mqtt2.example.com:1883".to_owned()),
        ..ProtocolSettings::default()
    });
    assert_eq!(refusal(&shared, &named("c")), None, "a reference alone");
}

#[test]
fn what_connack_may_leave_unsaid_goes_where_the_client_has_no_room_for_it() {
    let shared = Shared::new(Limits::default(), 1).with_protocol(ProtocolSettings {
        response_information: Some("answers/".to_owned()),
        ..ProtocolSettings::default()
    });
    let asks = Connect {
        properties: ConnectProperties {
            request_response_information: Some(true),
            ..ConnectProperties::default()
        },
        ..named("")
    };
    let mut connect = admit(&shared, V5, &asks).expect("let in").connect;
    let whole = connack::success(&connect, &shared, false).encoded_len(V5);
    let (words, aliases) = (3 + "answers/".len(), 3);
    for (room, len) in [
        (whole, whole),
        (whole - 1, whole - words),
        (whole - words, whole - words),
        (whole - words - 1, whole - words - aliases),
        (1, whole - words - aliases),
    ] {
        connect.packet_bytes_max = u32::try_from(room).expect("it is short");
        let packet = connack::success(&connect, &shared, false);
        assert_eq!(packet.encoded_len(V5), len);
        assert_eq!(connack::fits(&packet, &connect), room >= len);
        let id = packet.properties.assigned_client_id;
        assert_eq!(
            id,
            Some(&*connect.client_id),
            "[MQTT-3.2.2-16] all the same"
        );
    }
}

#[test]
fn a_wills_payload_has_to_be_what_it_says_where_that_is_checked() {
    let says_utf8 = WillProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        ..WillProperties::default()
    };
    for checks in [false, true] {
        let shared = Shared::new(Limits::default(), 1).with_protocol(ProtocolSettings {
            check_payload_format: checks,
            ..ProtocolSettings::default()
        });
        let wanted = checks.then_some(ReasonCode::PayloadFormatInvalid);
        assert_eq!(refusal(&shared, &with_will(b"\xFF", says_utf8)), wanted);
        assert_eq!(refusal(&shared, &with_will(b"ok", says_utf8)), None);
        let says_nothing = WillProperties::default();
        assert_eq!(refusal(&shared, &with_will(b"\xFF", says_nothing)), None);
    }
}

#[test]
fn user_properties_of_a_will_are_bounded() {
    let limits = Limits {
        user_properties: 2,
        ..Limits::default()
    };
    let shared = Shared::new(limits, 1);
    let all = [("a", "1"), ("a", "2"), ("b", "3")];
    for (count, wanted) in [(2, None), (3, Some(ReasonCode::QuotaExceeded))] {
        let properties = WillProperties {
            user_properties: &all[..count],
            ..WillProperties::default()
        };
        assert_eq!(refusal(&shared, &with_will(b"x", properties)), wanted);
    }
}

fn address() -> SocketAddr {
    "192.0.2.1:1883".parse().expect("an address")
}

/// A front with a listener, and a shard that takes one connection and no more.
struct Site {
    net: SimNet,
    shared: Arc<Shared>,
    listener: SimListener,
    reactor: Reactor<SimBackend>,
    front: FrontServer<SimBackend>,
    mailbox: Sender<ToFront>,
    shard: Receiver<ToShard<SimStream>>,
    peers: Vec<SimPeer>,
}

impl Site {
    /// With sixty that want to connect.
    fn new(connects_per_s: u32, fronts: u64) -> Self {
        let limits = Limits {
            connects_per_s,
            ..Limits::default()
        };
        let mut site = Self::of(Shared::new(limits, 1), fronts);
        site.peers = (0..60)
            .map(|_| site.net.connect(address()).expect("the queue has room"))
            .collect();
        site
    }

    /// Behind proxies.
    fn behind(proxies: &str) -> Self {
        let mut listener = Listener::new(address());
        listener.rules.proxy_protocol_from = proxies.to_owned();
        let shared = Shared::new(Limits::default(), 1).with_listeners(&[listener]);
        Self::of(shared, 1)
    }

    fn of(shared: Shared, fronts: u64) -> Self {
        let net = SimNet::new(1);
        let shared = Arc::new(shared);
        let address = address();
        let listener = net.listen(address).expect("it is free");
        let mut backend = net.backend();
        let (to_shard, shard) = mailbox(1, net.backend().waker());
        let (mailbox, receiver) = mailbox(4, backend.waker());
        let parts = FrontParts {
            shared: Arc::clone(&shared),
            listeners: vec![listener.share()],
            configured: vec![0],
            receiver,
            shards: vec![to_shard],
            accepts_per_turn: 4,
            connections_max: 1_000,
            fronts,
            pre_connect_bytes_max: 20_000,
        };
        let mut front = FrontServer::new(parts, net.now_ns());
        front.start(&mut backend).expect("listening");
        Self {
            net,
            shared,
            listener,
            reactor: Reactor::new(backend, ReactorOptions::default()),
            front,
            mailbox,
            shard,
            peers: Vec::new(),
        }
    }

    /// Lets the front do all that it would do before it sleeps.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let has_work = self.reactor.backend().has_work();
            if !has_work && self.reactor.sleep_ns(&mut self.front) != Some(0) {
                return;
            }
            let turn = self.reactor.turn_within(&mut self.front, Some(0));
            turn.expect("the simulated wait never fails");
        }
        panic!("the front does not come to rest");
    }

    fn pass(&mut self, ms: u64) {
        self.net.advance(ms * NS_PER_MS);
        self.settle();
    }
}

#[test]
fn who_came_first_is_handed_over_first() {
    let mut site = Site::behind("");
    let come = |site: &Site| site.net.connect(address()).expect("the queue has room");
    let say = |peer: &SimPeer, name: &str| {
        assert!(peer.send(&named(name).encode_to_vec(V5)).is_ok());
    };
    let first = come(&site);
    site.settle();
    // More than a turn accepts, so that the next one begins with accepting.
    let silent = [(); 5].map(|()| come(&site));
    let turn = site.reactor.turn_within(&mut site.front, Some(0));
    assert!(turn.is_ok_and(|turn| turn.ready == 1));
    say(&first, "first");
    let second = come(&site);
    say(&second, "second");
    let mut came = Vec::new();
    for _ in 0..3 {
        site.pass(10);
        let mut mail = Vec::new();
        site.shard.drain_into(&mut mail);
        came.extend(mail.iter().filter_map(|message| match message {
            ToShard::Handover(handover) => Some(handover.connect.client_id.to_string()),
            _ => None,
        }));
    }
    assert_eq!(came, ["first", "second"]);
    drop(silent);
}

#[test]
fn who_comes_after_a_reload_is_let_in_by_what_it_says() {
    let mut site = Site::behind("");
    site.settle();
    let none = Limits {
        connections: 0,
        ..Limits::default()
    };
    let reload = ToFront::Reload(Arc::new(Shared::new(none, 1)));
    assert!(site.mailbox.try_push(reload).is_ok());
    let peer = site.net.connect(address()).expect("the queue has room");
    // Both are seen in one turn.
    let turn = site.reactor.turn_within(&mut site.front, Some(0));
    assert!(turn.is_ok_and(|turn| turn.served == 1));
    assert!(peer.server_is_gone());
}

#[test]
fn connections_beyond_the_rate_wait_and_none_is_refused() {
    let mut site = Site::new(20, 2);
    site.settle();
    assert_eq!(site.shared.connections(), 10, "this front's share");
    assert_eq!(site.listener.waiting(), 50);
    assert_eq!(site.shared.times_accepting_held(), 1);
    let sleep_ns = site.reactor.sleep_ns(&mut site.front);
    assert!(
        sleep_ns.is_some_and(|ns| (90 * NS_PER_MS..=100 * NS_PER_MS).contains(&ns)),
        "it wakes by itself when the next may come: {sleep_ns:?}"
    );
    for count in 1..=10 {
        site.pass(100);
        assert_eq!(site.shared.connections(), 10 + count);
    }
    assert_eq!(site.shared.times_accepting_held(), 11);
    site.pass(4_000);
    assert_eq!(site.shared.connections(), 30, "a second's worth at a time");
    assert!(site.peers.iter().all(|peer| !peer.server_is_gone()));
}

#[test]
fn a_reload_without_a_rate_lets_everybody_in() {
    let mut site = Site::new(10, 1);
    site.settle();
    assert_eq!(site.shared.connections(), 10);
    let unbounded = Arc::new(site.shared.with_limits(Limits::default()));
    let sent = site.mailbox.try_push(ToFront::Reload(unbounded));
    assert!(sent.is_ok());
    site.settle();
    assert_eq!(
        (site.shared.connections(), site.listener.waiting()),
        (60, 0)
    );
}

#[test]
fn next_to_nobody_is_accepted_while_memory_is_short() {
    let mut site = Site::new(0, 1);
    let tell = |site: &mut Site, shortage| {
        let sent = site.mailbox.try_push(ToFront::Memory(shortage));
        assert!(sent.is_ok());
        site.settle();
    };
    tell(&mut site, Shortage::FewConnections);
    let count = site.shared.connections();
    assert!(count <= 5, "a turn may come before the message: {count}");
    for more in 1..=5 {
        site.pass(1_000);
        assert_eq!(site.shared.connections(), count + more);
    }
    assert!(site.shared.memory.times_accepting_held() >= 5);
    assert_eq!(site.shared.times_accepting_held(), 0, "not for its rate");
    tell(&mut site, Shortage::NoPublishers);
    tell(&mut site, Shortage::None);
    assert_eq!(
        (site.shared.connections(), site.listener.waiting()),
        (60, 0)
    );
}

#[test]
fn a_front_that_waits_for_a_shard_sleeps_although_the_rate_allows_more() {
    let mut site = Site::new(10, 1);
    site.settle();
    for peer in &site.peers {
        let sent = peer.send(&named("c").encode_to_vec(V5));
        assert!(sent.is_ok_and(|bytes| bytes > 0));
    }
    site.pass(5_000);
    assert_eq!(site.shared.connections(), 10, "the shard's mailbox is full");
    for _ in 0..60 {
        site.shard.drain_into(&mut Vec::new());
        site.pass(100);
    }
    assert!(site.shared.connections() > 10, "and then goes on");
}

#[test]
fn a_proxy_says_for_whom_it_connects_and_the_shard_hears_of_him() {
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4660 1883\r\n".as_slice();
    let stream = [header, &named("c").encode_to_vec(V5), b"\xC0\x00"].concat();
    for piece_len in [1, header.len(), header.len() + 1, stream.len()] {
        let mut site = Site::behind("10.0.0.0/8");
        let peer = site.net.connect(address()).expect("the queue has room");
        for piece in stream.chunks(piece_len) {
            site.settle();
            let sent = peer.send(piece).expect("it is open");
            assert_eq!(sent, piece.len());
        }
        site.settle();
        let mut mail = Vec::new();
        site.shard.drain_into(&mut mail);
        let Some(ToShard::Handover(handover)) = mail.pop() else {
            panic!("let in, however the header is cut");
        };
        let client = "203.0.113.9".parse().expect("an address");
        assert_eq!(handover.peer, PeerAddr::new(client, 4_660));
        assert_eq!(&*handover.connect.client_id, "c");
    }
}

#[test]
fn strangers_and_wrong_headers_are_turned_away_where_proxies_connect() {
    let connect = named("c").encode_to_vec(V5);
    for (proxies, bytes) in [
        ("192.0.2.7, 172.16.0.0/12", b"PROXY UNKNOWN\r\n".as_slice()),
        ("10.0.0.0/8", &connect),
        ("10.0.0.0/8", b"PROXY TCP4 203.0.113.9\r\n"),
        ("10.0.0.0/8", &[b'P'; 200]),
    ] {
        let mut site = Site::behind(proxies);
        let peer = site.net.connect(address()).expect("the queue has room");
        // A stranger is gone before it has said anything.
        site.settle();
        let _ = peer.send(bytes);
        site.settle();
        assert!(peer.server_is_gone(), "{proxies}: {bytes:?}");
        assert_eq!(site.shared.connections(), 0);
    }
}

#[test]
fn a_proxy_that_checks_whether_the_broker_lives_may_connect_for_itself() {
    let mut site = Site::behind("10.0.0.0/8");
    let peer = site.net.connect(address()).expect("the queue has room");
    let stream = [
        b"PROXY UNKNOWN\r\n".as_slice(),
        &named("c").encode_to_vec(V5),
    ]
    .concat();
    assert!(peer.send(&stream).is_ok());
    site.settle();
    let mut mail = Vec::new();
    site.shard.drain_into(&mut mail);
    let Some(ToShard::Handover(handover)) = mail.pop() else {
        panic!("let in");
    };
    assert_eq!(
        handover.peer,
        peer.addr(),
        "the address of the connection counts"
    );
}

/// A front that watches strangers, and CONNECTs that may take ten seconds.
fn watchful() -> Site {
    let shared = Shared::new(Limits::default(), 1).with_defence(&Config::default());
    Site::of(shared, 1)
}

fn figure(site: &Site, name: &str) -> u64 {
    let mut figures = site.shared.defence.figures();
    figures.find(|(n, _)| *n == name).map_or(0, |(_, n)| n)
}

#[test]
fn who_says_nothing_goes_after_two_seconds_and_who_is_slow_after_ten() {
    let mut site = watchful();
    let silent = site.net.connect(address()).expect("the queue has room");
    let slow = site.net.connect(address()).expect("the queue has room");
    site.settle();
    assert!(slow.send(b"\x10").is_ok());
    site.pass(1_999);
    assert!(!silent.server_is_gone());
    site.pass(1);
    assert!(silent.server_is_gone() && !slow.server_is_gone());
    site.pass(7_999);
    assert!(!slow.server_is_gone());
    site.pass(1);
    assert!(slow.server_is_gone());
    assert_eq!(figure(&site, "offences_silent"), 2);
    assert_eq!(site.shared.connections(), 0);
}

#[test]
fn who_is_banned_is_closed_at_accept_and_costs_no_greeting() {
    let mut site = watchful();
    for _ in 0..5 {
        let peer = site.net.connect(address()).expect("the queue has room");
        site.settle();
        assert!(!peer.server_is_gone());
        assert!(peer.send(b"GET / HTTP/1.1\r\n\r\n").is_ok());
        site.settle();
        assert!(peer.server_is_gone());
    }
    assert_eq!(figure(&site, "offences_malformed"), 5);
    let peer = site.net.connect(address()).expect("the queue has room");
    site.settle();
    assert!(peer.server_is_gone());
    assert_eq!(figure(&site, "banned_connections"), 1);
    // Half an hour later it may try again.
    site.pass(1_801_000);
    let peer = site.net.connect(address()).expect("the queue has room");
    site.settle();
    assert!(!peer.server_is_gone());
}

#[test]
fn who_is_banned_while_its_connect_is_under_way_is_told_so() {
    let mut site = watchful();
    let peer = site.net.connect(address()).expect("the queue has room");
    site.settle();
    let range = peer.addr().ip().expect("it has one").to_string();
    let range = range.parse().expect("an address");
    let now_ms = site.net.now_ns() / NS_PER_MS;
    assert!(site.shared.defence.ban(range, Some(60), now_ms).is_ok());
    assert!(peer.send(&named("c").encode_to_vec(V5)).is_ok());
    site.settle();
    let answer = peer.receive_all();
    assert_eq!(answer.get(..4), Some(&[0x20, answer[1], 0, 0x8A][..]));
}

#[test]
fn connections_for_nothing_are_a_strike_by_the_hundred() {
    let mut site = watchful();
    for _ in 0..100 {
        let peer = site.net.connect(address()).expect("the queue has room");
        site.settle();
        drop(peer);
        site.settle();
    }
    assert_eq!(figure(&site, "offences_fruitless"), 100);
    assert_eq!(figure(&site, "bans_set"), 0);
    let banned = (101..).find(|_| {
        let peer = site.net.connect(address()).expect("the queue has room");
        site.settle();
        let is_gone = peer.server_is_gone();
        drop(peer);
        site.settle();
        is_gone
    });
    assert_eq!(banned, Some(402), "four strikes and one");
}

#[test]
fn who_comes_for_a_client_id_that_is_fought_for_waits_and_may_give_up() {
    let mut site = watchful();
    let now_ms = site.net.now_ns() / NS_PER_MS;
    for _ in 0..5 {
        let take_over = crate::defence::TakeOver {
            client_id: "c".into(),
            old: PeerAddr::UNIX,
            new: PeerAddr::UNIX,
        };
        site.shared.defence.take_over(&take_over, now_ms);
    }
    let handed_over = |site: &mut Site| {
        let mut mail = Vec::new();
        site.shard.drain_into(&mut mail);
        mail.len()
    };
    let stays = site.net.connect(address()).expect("the queue has room");
    let leaves = site.net.connect(address()).expect("the queue has room");
    let other = site.net.connect(address()).expect("the queue has room");
    assert!(stays.send(&named("c").encode_to_vec(V5)).is_ok());
    assert!(leaves.send(&named("c").encode_to_vec(V5)).is_ok());
    assert!(other.send(&named("other").encode_to_vec(V5)).is_ok());
    site.settle();
    assert_eq!(handed_over(&mut site), 1, "the other one");
    assert!(stays.send(b"\xC0\x00").is_ok());
    drop(leaves);
    site.pass(1_999);
    assert_eq!((handed_over(&mut site), site.shared.connections()), (0, 2));
    site.pass(1);
    assert_eq!((handed_over(&mut site), site.shared.connections()), (1, 2));
    assert_eq!(figure(&site, "connects_delayed"), 2);
    assert_eq!(figure(&site, "offences_fruitless"), 0);
}
