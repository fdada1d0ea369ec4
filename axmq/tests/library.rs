//! The broker as a library: builder, hooks, authentication and the program's own messages.
//! Everything runs over real connections.
//!
//! Nothing here waits for time to pass: every wait is for bytes, and fails after `PATIENCE`.

#![cfg(not(loom))]

#[path = "support/clause.rs"]
mod clause;
#[path = "support/packets.rs"]
mod packets;
#[path = "support/peer.rs"]
mod peer;

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axmq::auth::scram::{self, Scram, Users};
use axmq::hooks::{Action, Client, ConnectRequest, Decision, Denied, Ending, Grant, OnConnection};
use axmq::{
    Broker, Config, Handle, InvalidMessage, Message, PublishError, ReasonCode, Running, StartError,
    SubscribeError,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use mqtt_codec::encode::{Auth, Connect, ConnectProperties, Disconnect, Subscribe, Will};
use mqtt_codec::{Packet, PacketId, PublishHead, QoS, RetainHandling, SubscribeFilter, Version};
use sha2::{Digest, Sha256};

use self::peer::Peer;

const PATIENCE: Duration = Duration::from_secs(60);
const V5: Version = Version::V5;
const V311: Version = Version::V311;

impl Peer {
    /// The next packet, as a line and with the data that authentication put in; "closed" at the
    /// end.
    fn read(&mut self) -> (String, Vec<u8>) {
        let closed = |_| ("closed".to_owned(), Vec::new());
        self.receive(|packet, _| describe(packet))
            .unwrap_or_else(closed)
    }

    #[track_caller]
    fn expect(&mut self, line: &str) -> Vec<u8> {
        let (found, data) = self.read();
        assert_eq!(found, line);
        data
    }

    fn auth(&mut self, reason: ReasonCode, method: &str, data: &str) {
        let packet = Auth {
            reason,
            authentication_method: Some(method),
            authentication_data: Some(data.as_bytes()),
            ..Auth::default()
        };
        self.send(&packet.encode_to_vec(V5));
    }
}

fn describe(packet: &Packet<'_>) -> (String, Vec<u8>) {
    match packet {
        Packet::ConnAck(ack) => {
            let properties = ack.properties();
            let method = properties.authentication_method().unwrap_or("-");
            let data = properties.authentication_data().unwrap_or_default();
            let code = ack.reason() as u8;
            (format!("connack 0x{code:02X} {method}"), data.to_vec())
        }
        Packet::Auth(auth) => {
            let method = auth.authentication_method().unwrap_or("-");
            let data = auth.authentication_data().unwrap_or_default();
            let code = auth.reason() as u8;
            (format!("auth 0x{code:02X} {method}"), data.to_vec())
        }
        Packet::Disconnect(packet) => {
            let code = packet.reason() as u8;
            (format!("disconnect 0x{code:02X}"), Vec::new())
        }
        Packet::Publish(publish) => ("Publish".to_owned(), publish.payload().to_vec()),
        other => (format!("{:?}", other.packet_type()), Vec::new()),
    }
}

fn login<'a>(client_id: &'a str, user: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        client_id,
        clean_start: true,
        username: Some(user),
        password: Some(password.as_bytes()),
        ..Connect::default()
    }
}

fn by_method<'a>(client_id: &'a str, method: &'a str, data: &'a str) -> Connect<'a> {
    Connect {
        client_id,
        clean_start: true,
        properties: ConnectProperties {
            authentication_method: Some(method),
            authentication_data: Some(data.as_bytes()),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    }
}

fn small() -> Config {
    let mut config = Config::default();
    config.broker.shards = 2;
    config.broker.auth_threads = 1;
    config
}

fn only_ann(request: &ConnectRequest) -> Result<Grant, Denied> {
    assert!(request.peer().ip().is_some_and(|ip| ip.is_loopback()));
    match (request.username(), request.password()) {
        (Some("ann"), Some(b"secret")) => Ok(Grant::to("ann").with_data(request.version())),
        (Some("ann"), _) => Err(Denied::credentials().with_text("no, ann")),
        (Some("panic"), _) => panic!("an authenticator that panics"),
        (Some("odd"), _) => Err(Denied::because(ReasonCode::KeepAliveTimeout)),
        _ => Err(Denied::not_authorized()),
    }
}

#[test]
fn an_authenticator_lets_in_and_refuses_as_each_version_says_it() {
    let running = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .authenticate(only_ann)
        .start()
        .expect("it starts");
    let address = running.listeners()[0];
    for (user, password, v5, v311) in [
        ("ann", "secret", 0x00, 0),
        ("ann", "wrong", 0x86, 4),
        ("bob", "secret", 0x87, 5),
        ("panic", "", 0x80, 3),
        ("odd", "", 0x80, 3),
    ] {
        let mut peer = Peer::connect(address, V5, &login("a", user, password));
        peer.expect(&format!("connack 0x{v5:02X} -"));
        if v5 != 0 {
            peer.expect("closed");
        }
        // The codec gives the reason code that a return code stands for.
        let code = mqtt_codec::ConnectReturnCode::from_u8(v311).expect("a return code");
        let mut peer = Peer::connect(address, V311, &login("a", user, password));
        peer.expect(&format!("connack 0x{:02X} -", code.reason() as u8));
        if v311 != 0 {
            peer.expect("closed");
        }
    }
    assert_eq!(running.hook_counters().panicked, 2);
    clause::v5(&["3.1.4-2", "3.2.2-7", "4.12.0-6"]);
    clause::v311(&["3.2.2-5"]);
    running.shutdown().expect("in good order");
}

/// What clients send while they wait for CONNACK is not lost.
#[test]
fn packets_behind_connect_wait_for_the_authenticator() {
    let (go, gate) = gate();
    let running = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .authenticate(move |_: &ConnectRequest| {
            gate.lock()
                .expect("no panic")
                .recv()
                .expect("the test says go");
            Ok(Grant::anonymous())
        })
        .start()
        .expect("it starts");
    let address = running.listeners()[0];
    let mut early = Peer::open(address, V5);
    let mut bytes = login("early", "", "").encode_to_vec(V5);
    bytes.extend_from_slice(&mqtt_codec::PING_REQ);
    early.send(&bytes);
    early.send(&mqtt_codec::PING_REQ);
    go.send(()).expect("it waits");
    early.expect("connack 0x00 -");
    early.expect("PingResp");
    early.expect("PingResp");
    running.shutdown().expect("in good order");
}

type Gate = Mutex<Receiver<()>>;

fn gate() -> (Sender<()>, Gate) {
    let (go, gate) = mpsc::channel();
    (go, Mutex::new(gate))
}

#[test]
fn a_full_queue_refuses_and_the_deadline_holds() {
    let (go, gate) = gate();
    let (entered, entries) = mpsc::channel();
    let entered = Mutex::new(entered);
    let mut config = small();
    config.limits.auth_queue = 1;
    config.limits.connect_timeout_ms = 2_000;
    let running = Broker::builder()
        .config(config)
        .listen(([127, 0, 0, 1], 0))
        .authenticate(move |_: &ConnectRequest| {
            entered
                .lock()
                .expect("no panic")
                .send(())
                .expect("the test listens");
            gate.lock()
                .expect("no panic")
                .recv()
                .expect("the test says go");
            Ok(Grant::anonymous())
        })
        .start()
        .expect("it starts");
    let address = running.listeners()[0];
    let mut first = Peer::connect(address, V5, &login("first", "", ""));
    entries.recv_timeout(PATIENCE).expect("it is asked");
    // One more waits; which of the others it is, is the front's choice.
    let mut others: Vec<_> = (0..3)
        .map(|n| Peer::connect(address, V5, &login(&format!("other{n}"), "", "")))
        .collect();
    let mut answers: Vec<_> = others.iter_mut().map(|peer| peer.read().0).collect();
    answers.sort();
    // The deadline ends the wait of the one in the queue: server busy.
    assert_eq!(
        answers,
        ["connack 0x89 -", "connack 0x97 -", "connack 0x97 -"]
    );
    first.expect("connack 0x89 -");
    first.expect("closed");
    for _ in 0..2 {
        go.send(()).expect("it waits");
    }
    entries
        .recv_timeout(PATIENCE)
        .expect("the second was asked, too late");
    running.shutdown().expect("in good order");
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The client's last message, and what the server has to answer (RFC 5802 section 3).
fn proof(password: &str, first: &str, challenge: &str) -> (String, String) {
    let mut fields = challenge.split(',');
    let mut field = |name| {
        let field = fields.next().expect("three fields");
        field.strip_prefix(name).expect("in this order").to_owned()
    };
    let (nonce, salt, rounds) = (field("r="), field("s="), field("i="));
    let salt = BASE64.decode(salt).expect("base64");
    let mut salted = [0; 32];
    let rounds = rounds.parse().expect("a number");
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, rounds, &mut salted);
    let client_key = hmac(&salted, b"Client Key");
    let stored_key = Sha256::digest(client_key);
    let without_proof = format!("c=biws,r={nonce}");
    let bare = first.strip_prefix("n,,").expect("no channel binding");
    let message = format!("{bare},{challenge},{without_proof}");
    let mut proof = hmac(&stored_key, message.as_bytes());
    for (byte, key) in proof.iter_mut().zip(client_key) {
        *byte ^= key;
    }
    let signature = hmac(&hmac(&salted, b"Server Key"), message.as_bytes());
    (
        format!("{without_proof},p={}", BASE64.encode(proof)),
        format!("v={}", BASE64.encode(signature)),
    )
}

fn scram_broker() -> Running {
    let mut users = Users::default();
    users.insert("ann", "secret").expect("random numbers");
    users.insert("bob", "secret").expect("random numbers");
    Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .mechanism(Scram::sha_256(users).expect("random numbers"))
        .start()
        .expect("it starts")
}

/// Logs in up to the CONNACK.
fn scram_login(address: SocketAddr) -> Peer {
    let first = "n,,n=ann,r=fyko+d2lbbFgONRv9qkxdawL";
    let mut peer = Peer::connect(address, V5, &by_method("a", scram::NAME, first));
    let challenge = peer.expect("auth 0x18 SCRAM-SHA-256");
    let challenge = String::from_utf8(challenge).expect("text");
    let (proof, signature) = proof("secret", first, &challenge);
    peer.auth(ReasonCode::ContinueAuthentication, scram::NAME, &proof);
    let answer = peer.expect("connack 0x00 SCRAM-SHA-256");
    assert_eq!(String::from_utf8(answer).as_deref(), Ok(&*signature));
    peer
}

#[test]
fn scram_lets_in_who_knows_the_password_and_again_on_the_live_connection() {
    let running = scram_broker();
    let mut peer = scram_login(running.listeners()[0]);
    let first = "n,,n=ann,r=another";
    peer.auth(ReasonCode::ReAuthenticate, scram::NAME, first);
    let challenge = peer.expect("auth 0x18 SCRAM-SHA-256");
    peer.send(&mqtt_codec::PING_REQ);
    peer.expect("PingResp");
    let challenge = String::from_utf8(challenge).expect("text");
    let (proof, signature) = proof("secret", first, &challenge);
    peer.auth(ReasonCode::ContinueAuthentication, scram::NAME, &proof);
    let answer = peer.expect("auth 0x00 SCRAM-SHA-256");
    assert_eq!(String::from_utf8(answer).as_deref(), Ok(&*signature));
    // It may not become somebody else.
    let first = "n,,n=bob,r=another";
    peer.auth(ReasonCode::ReAuthenticate, scram::NAME, first);
    let challenge = peer.expect("auth 0x18 SCRAM-SHA-256");
    let challenge = String::from_utf8(challenge).expect("text");
    let (proof, _) = self::proof("secret", first, &challenge);
    peer.auth(ReasonCode::ContinueAuthentication, scram::NAME, &proof);
    peer.expect("disconnect 0x87");
    peer.expect("closed");
    clause::v5(&["4.12.0-2", "4.12.0-5", "4.12.1-2"]);
    running.shutdown().expect("in good order");
}

#[test]
fn what_goes_wrong_in_an_exchange_refuses_the_connection() {
    let running = scram_broker();
    let address = running.listeners()[0];
    let first = "n,,n=ann,r=abc";
    let begin = || {
        let mut peer = Peer::connect(address, V5, &by_method("a", scram::NAME, first));
        let challenge = peer.expect("auth 0x18 SCRAM-SHA-256");
        (peer, String::from_utf8(challenge).expect("text"))
    };
    // The wrong password [MQTT-4.12.0-4].
    let (mut peer, challenge) = begin();
    let (wrong, _) = proof("guess", first, &challenge);
    peer.auth(ReasonCode::ContinueAuthentication, scram::NAME, &wrong);
    peer.expect("connack 0x87 -");
    peer.expect("closed");
    // Another method [MQTT-4.12.0-5].
    let (mut peer, challenge) = begin();
    let (right, _) = proof("secret", first, &challenge);
    peer.auth(ReasonCode::ContinueAuthentication, "PLAIN", &right);
    peer.expect("connack 0x8C -");
    // Not an answer [MQTT-4.12.0-3].
    let (mut peer, _) = begin();
    peer.auth(ReasonCode::ReAuthenticate, scram::NAME, &right);
    peer.expect("connack 0x82 -");
    // Something else than AUTH [MQTT-3.1.2-30].
    let (mut peer, _) = begin();
    peer.send(&mqtt_codec::PING_REQ);
    peer.expect("connack 0x82 -");
    // What no packet begins with.
    let (mut peer, _) = begin();
    peer.send(&[0xF1, 0x00]);
    peer.expect("connack 0x81 -");
    // The client thinks better of it.
    let (mut peer, _) = begin();
    peer.send(&Disconnect::default().encode_to_vec(V5));
    peer.expect("closed");
    // No such method [MQTT-4.12.0-1].
    let mut peer = Peer::connect(address, V5, &by_method("a", "PLAIN", ""));
    peer.expect("connack 0x8C -");
    peer.expect("closed");
    // No method at all, where there is nothing else.
    let mut peer = Peer::connect(address, V5, &login("a", "ann", "secret"));
    peer.expect("connack 0x87 -");
    let mut peer = Peer::connect(address, V311, &login("a", "ann", "secret"));
    peer.expect("connack 0x87 -");
    clause::v5(&["3.1.2-30", "4.12.0-1", "4.12.0-3", "4.12.0-4", "4.12.0-6"]);
    running.shutdown().expect("in good order");
}

#[test]
fn a_challenge_in_pieces_and_an_answer_in_pieces_are_put_together() {
    let running = scram_broker();
    let address = running.listeners()[0];
    let first = "n,,n=ann,r=abc";
    let mut peer = Peer::open(address, V5);
    for byte in by_method("a", scram::NAME, first).encode_to_vec(V5) {
        peer.send(&[byte]);
    }
    let challenge = peer.expect("auth 0x18 SCRAM-SHA-256");
    let challenge = String::from_utf8(challenge).expect("text");
    let (proof, _) = proof("secret", first, &challenge);
    let packet = Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication_method: Some(scram::NAME),
        authentication_data: Some(proof.as_bytes()),
        ..Auth::default()
    };
    let mut bytes = packet.encode_to_vec(V5);
    bytes.extend_from_slice(&mqtt_codec::PING_REQ);
    for byte in bytes {
        peer.send(&[byte]);
    }
    // [MQTT-3.1.2-30] is the client's duty; a ping behind a last AUTH is served all the same.
    peer.expect("connack 0x00 SCRAM-SHA-256");
    peer.expect("PingResp");
    running.shutdown().expect("in good order");
}

#[test]
fn a_will_that_may_not_be_published_refuses_the_connection() {
    let running = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .authorize(|_: &Client<'_>, action: &Action<'_>| match action {
            Action::Publish { topic, .. } if topic.starts_with("private/") => Decision::Deny,
            _ => Decision::Allow,
        })
        .start()
        .expect("it starts");
    for (topic, line) in [
        ("private/x", "connack 0x87 -"),
        ("public/x", "connack 0x00 -"),
    ] {
        let connect = Connect {
            client_id: "a",
            clean_start: true,
            will: Some(Will {
                topic,
                payload: b"gone",
                ..Will::default()
            }),
            ..Connect::default()
        };
        Peer::connect(running.listeners()[0], V5, &connect).expect(line);
    }
    running.shutdown().expect("in good order");
}

struct Tell(Mutex<Sender<String>>);

impl OnConnection for Tell {
    fn on_connect(&self, client: &Client<'_>, _: bool) {
        let line = format!("{} as {:?}", client.id(), client.identity());
        self.0
            .lock()
            .expect("no panic")
            .send(line)
            .expect("the test listens");
    }

    fn on_disconnect(&self, client: &Client<'_>, ending: &Ending<'_>) {
        let line = format!("{} {:?}: {ending}", client.id(), ending.by());
        self.0
            .lock()
            .expect("no panic")
            .send(line)
            .expect("the test listens");
    }
}

#[test]
fn run_returns_when_it_is_told_to_stop() {
    let (sender, lines) = mpsc::channel();
    let (address_sender, address) = mpsc::channel();
    let builder = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .authenticate(only_ann)
        .on_connection(Tell(Mutex::new(sender)));
    let stopper = builder.stopper();
    let running = builder.start().expect("it starts");
    address_sender
        .send(running.listeners()[0])
        .expect("it is there");
    let thread = std::thread::spawn(move || {
        running.wait().expect("nothing fails");
        running.shutdown()
    });
    let address = address.recv().expect("it was sent");
    let mut peer = Peer::connect(address, V5, &login("a", "ann", "secret"));
    peer.expect("connack 0x00 -");
    assert_eq!(
        lines.recv_timeout(PATIENCE).as_deref(),
        Ok("a as Some(\"ann\")")
    );
    stopper.stop();
    peer.expect("disconnect 0x8B");
    drop(peer);
    thread.join().expect("no panic").expect("in good order");
    assert_eq!(
        lines.recv_timeout(PATIENCE).as_deref(),
        Ok("a Stop: the server stops")
    );

    let builder = Broker::builder().config(small()).listen_nowhere();
    builder.stopper().stop();
    builder.run().expect("it was told to stop before it began");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    let mut config = small();
    config.limits.packet_bytes = 1;
    let refused = Broker::builder().config(config).listen_nowhere().start();
    match refused {
        Err(StartError::Config(found)) => assert!(found[0].message.contains("limits.packet_bytes")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hooks_may_share_state_with_the_program() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let running = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .on_publish(
            move |client: &Client<'_>, draft: &mut axmq::hooks::Draft<'_>| {
                let line = format!("{}: {}", client.id(), draft.topic());
                log.lock().expect("no panic").push(line);
                axmq::hooks::Verdict::Refuse(ReasonCode::QuotaExceeded)
            },
        )
        .start()
        .expect("it starts");
    let mut peer = Peer::connect(running.listeners()[0], V5, &login("a", "", ""));
    peer.expect("connack 0x00 -");
    let head = PublishHead {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "t",
        packet_id: mqtt_codec::PacketId::new(1),
        message_expiry: None,
        subscription_ids: &[],
        topic_alias: None,
        pass_through: &[],
        payload_len: 0,
    };
    peer.send(&head.encode_to_vec(V5, &[]));
    peer.expect("PubAck");
    assert_eq!(*seen.lock().expect("no panic"), ["a: t"]);
    running.shutdown().expect("in good order");
}

/// Publishes at QoS 0.
fn send_message(peer: &mut Peer, topic: &str, payload: &str) {
    peer.send(&packets::publish(V5, topic, payload.as_bytes()));
}

#[test]
fn the_program_and_its_clients_talk_to_each_other() {
    let running = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .start()
        .expect("it starts");
    let handle = running.handle();
    // One on each of the two shards.
    let both = [(); 2].map(|()| handle.subscribe("up/#", 100).expect("it is legal"));
    let mut peer = Peer::connect(running.listeners()[0], V5, &login("a", "", ""));
    peer.expect("connack 0x00 -");
    let filters = [SubscribeFilter {
        filter: "down/#",
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }];
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        filters: &filters,
        subscription_identifier: None,
        user_properties: &[],
    };
    peer.send(&subscribe.encode_to_vec(V5));
    peer.expect("SubAck");
    for n in 0..100 {
        handle
            .publish(Message::new("down/x", format!("{n}")))
            .expect("the broker runs");
    }
    for n in 0..100 {
        assert_eq!(peer.expect("Publish"), format!("{n}").as_bytes());
    }
    for n in 0..100 {
        send_message(&mut peer, "up/x", &n.to_string());
    }
    for subscriber in &both {
        for n in 0..100 {
            let received = subscriber.recv_timeout(PATIENCE).expect("it comes");
            assert_eq!(received.topic(), "up/x");
            assert_eq!(received.payload(), n.to_string().as_bytes());
        }
        assert_eq!(subscriber.dropped(), 0);
    }
    running.shutdown().expect("in good order");
    assert!(both[0].recv().is_err(), "the broker has ended");
    assert_eq!(
        handle.publish(Message::new("down/x", "")),
        Err(PublishError::Stopped)
    );
    assert!(matches!(
        handle.subscribe("a", 1),
        Err(SubscribeError::Stopped)
    ));
}

#[test]
fn what_no_packet_can_carry_is_not_published() {
    let running = Broker::builder()
        .config(small())
        .listen_nowhere()
        .start()
        .expect("it starts");
    let handle = running.handle();
    let topic = handle.try_publish(Message::new("a/+", ""));
    assert!(
        matches!(topic, Err(PublishError::Invalid(InvalidMessage::Topic(_)))),
        "{topic:?}"
    );
    let large = handle.try_publish(Message::new("a", vec![0; 1_048_576]));
    assert_eq!(large, Err(PublishError::Invalid(InvalidMessage::TooLarge)));
    assert!(matches!(
        handle.subscribe("a/#/b", 1),
        Err(SubscribeError::Filter(_))
    ));
    assert!(matches!(
        handle.subscribe("$share/g/a", 1),
        Err(SubscribeError::Shared)
    ));
    running.shutdown().expect("in good order");
}

/// A hook that greets: it publishes without waiting, and may not subscribe.
struct Greeter {
    handle: Arc<OnceLock<Handle>>,
    refused: Mutex<Sender<bool>>,
}

impl OnConnection for Greeter {
    fn on_connect(&self, client: &Client<'_>, _: bool) {
        let Some(handle) = self.handle.get() else {
            return;
        };
        let refused = matches!(handle.subscribe("a", 1), Err(SubscribeError::OnShard));
        self.refused
            .lock()
            .expect("no panic")
            .send(refused)
            .expect("the test listens");
        let message = Message::new(format!("greet/{}", client.id()), "hello");
        handle.publish(message).expect("there is room");
    }
}

#[test]
fn a_hook_may_publish() {
    let cell = Arc::new(OnceLock::new());
    let (sender, refused) = mpsc::channel();
    let running = Broker::builder()
        .config(small())
        .listen(([127, 0, 0, 1], 0))
        .on_connection(Greeter {
            handle: Arc::clone(&cell),
            refused: Mutex::new(sender),
        })
        .start()
        .expect("it starts");
    let handle = cell.get_or_init(|| running.handle());
    let greetings = handle.subscribe("greet/+", 10).expect("it is legal");
    let mut peer = Peer::connect(running.listeners()[0], V5, &login("a", "", ""));
    peer.expect("connack 0x00 -");
    let greeting = greetings.recv_timeout(PATIENCE).expect("it comes");
    assert_eq!(greeting.topic(), "greet/a");
    assert_eq!(refused.recv_timeout(PATIENCE), Ok(true));
    running.shutdown().expect("in good order");
}
