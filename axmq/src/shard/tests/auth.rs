//! Authentication anew on a live connection (MQTT 5.0 section 4.12.1). The test is the auth pool.

use std::sync::Arc;
use std::time::Duration;

use mqtt_codec::encode::Auth;
use mqtt_codec::{ReasonCode, Version};

use super::world::{Client, World, connect, publish};
use super::{V5, clause};
use crate::auth::{Answer, Enhanced, Exchange, Mechanism, Step};
use crate::config::Limits;
use crate::hooks::{ConnectRequest, Denied, Grant, Hooks};

/// A method whose client says what is to happen.
struct Obedient;

impl Mechanism for Obedient {
    fn name(&self) -> &str {
        "OBEDIENT"
    }

    fn begin(&self, request: &ConnectRequest) -> Box<dyn Exchange> {
        assert_eq!(request.password(), None);
        Box::new(Self)
    }
}

impl Exchange for Obedient {
    fn step(&mut self, data: &[u8]) -> Step {
        let done = |name: &str| Step::Done {
            grant: Grant::to(name),
            data: Some(b"welcome".to_vec()),
        };
        match data {
            b"ann" => done("ann"),
            b"bob" => done("bob"),
            b"fail" => Step::Fail(Denied::credentials()),
            b"quota" => Step::Fail(Denied::because(ReasonCode::QuotaExceeded)),
            b"break" => panic!("a mechanism that panics"),
            _ => Step::Continue([data, b"?"].concat()),
        }
    }
}

fn world() -> World {
    World::with_hooks(1, Limits::default(), Hooks::default())
}

fn ann(world: &mut World) -> Client {
    let mut connect = connect("ann's");
    connect.grant = Some(Arc::new(Grant::to("ann").with_data(1_u8)));
    connect.enhanced = Some(Box::new(Enhanced {
        mechanism: Arc::new(Obedient),
        data: Some(b"hello".to_vec()),
    }));
    let client = world.attach(connect);
    assert_eq!(world.read(client), ["connack 0 OBEDIENT hello"]);
    client
}

fn auth(world: &mut World, client: Client, method: &str, reason: ReasonCode, data: &str) {
    let packet = Auth {
        reason,
        authentication_method: Some(method),
        authentication_data: Some(data.as_bytes()),
        ..Auth::default()
    };
    world.try_send(client, &packet.encode_to_vec(V5));
}

/// Does what the core wants from the pool.
fn work(world: &mut World) -> usize {
    let core = &mut world.cores[0];
    let jobs = core.take_auth_jobs();
    let count = jobs.len();
    for job in jobs {
        let answer = job.work.run(&job.request, &world.shared.hooks);
        core.on_authenticated(job.key, answer);
    }
    count
}

const ANEW: ReasonCode = ReasonCode::ReAuthenticate;
const GO_ON: ReasonCode = ReasonCode::ContinueAuthentication;

#[test]
fn a_client_authenticates_anew_while_its_messages_go_on() {
    let mut world = world();
    let client = ann(&mut world);
    world.subscribe(client, "t", 0);
    assert_eq!(world.read(client), ["suback"]);
    auth(&mut world, client, "OBEDIENT", ANEW, "who");
    world.send(client, &publish(V5, "t", "meanwhile", 1, 1));
    assert_eq!(world.read(client), ["t=meanwhile q0", "puback #1"]);
    assert_eq!(work(&mut world), 1);
    // [MQTT-4.12.0-5]: every AUTH carries the method of CONNECT.
    assert_eq!(world.read(client), ["auth 0x18 OBEDIENT who?"]);
    world.send(client, &publish(V5, "t", "and on", 1, 2));
    assert_eq!(world.read(client), ["t=and on q0", "puback #2"]);
    auth(&mut world, client, "OBEDIENT", GO_ON, "ann");
    assert_eq!(work(&mut world), 1);
    assert_eq!(world.read(client), ["auth 0x00 OBEDIENT welcome"]);
    let grant = world.cores[0]
        .connection(client.key)
        .and_then(|connection| connection.grant().cloned());
    let grant = grant.expect("it was granted anew");
    assert_eq!((grant.identity(), grant.data::<u8>()), (Some("ann"), None));
    auth(&mut world, client, "OBEDIENT", ANEW, "ann");
    work(&mut world);
    assert_eq!(
        world.read(client),
        ["auth 0x00 OBEDIENT welcome"],
        "as often as it likes"
    );
    clause::v5(&["4.12.0-5"]);
}

#[test]
fn what_fails_ends_the_connection() {
    // [MQTT-4.12.1-2]
    for (data, answer) in [
        ("fail", "disconnect 0x87"),
        ("bob", "disconnect 0x87"),
        ("break", "disconnect 0x80"),
        ("quota", "disconnect 0x97"),
    ] {
        let mut world = world();
        let client = ann(&mut world);
        auth(&mut world, client, "OBEDIENT", ANEW, data);
        work(&mut world);
        assert_eq!(world.read(client), [answer], "{data}");
        world.settle();
        assert_eq!(world.read(client), ["closed"], "{data}");
    }
    clause::v5(&["4.12.1-2"]);
}

#[test]
fn auth_out_of_turn_is_an_error() {
    let mut world = world();
    // [MQTT-4.12.0-7], [MQTT-4.12.1-1]
    let plain = world.attach(connect("plain"));
    world.read(plain);
    auth(&mut world, plain, "OBEDIENT", ANEW, "ann");
    assert_eq!(world.read(plain), ["disconnect 0x82"]);

    let client = ann(&mut world);
    auth(&mut world, client, "OTHER", ANEW, "ann");
    assert_eq!(world.read(client), ["disconnect 0x8C"]);
    world.settle();

    for steps in [
        // Nothing was begun.
        &[(GO_ON, "ann")][..],
        // The pool has not answered.
        &[(ANEW, "ann"), (ANEW, "ann")],
        &[(ANEW, "ann"), (GO_ON, "ann")],
    ] {
        let client = {
            let mut connect = connect("ann's");
            connect.clean_start = true;
            connect.grant = Some(Arc::new(Grant::to("ann")));
            connect.enhanced = Some(Box::new(Enhanced {
                mechanism: Arc::new(Obedient),
                data: None,
            }));
            world.attach(connect)
        };
        assert_eq!(world.read(client), ["connack 0 OBEDIENT"]);
        for (reason, data) in steps {
            auth(&mut world, client, "OBEDIENT", *reason, data);
        }
        assert_eq!(world.read(client), ["disconnect 0x82"], "{steps:?}");
        // An answer that comes too late finds nobody.
        work(&mut world);
        assert_eq!(world.read(client), ["closed"]);
    }
    clause::v5(&["4.12.0-7", "4.12.1-1"]);
}

#[test]
fn an_auth_that_the_client_does_not_take_ends_the_connection() {
    let mut world = world();
    let mut small = connect("small");
    small.packet_bytes_max = 100;
    small.grant = Some(Arc::new(Grant::to("ann")));
    small.enhanced = Some(Box::new(Enhanced {
        mechanism: Arc::new(Obedient),
        data: None,
    }));
    let client = world.attach(small);
    world.read(client);
    // One that fits has its data and nothing for people to read.
    auth(&mut world, client, "OBEDIENT", ANEW, "who");
    work(&mut world);
    assert_eq!(world.read(client), ["auth 0x18 OBEDIENT who?"]);
    auth(&mut world, client, "OBEDIENT", GO_ON, &"x".repeat(100));
    work(&mut world);
    // [MQTT-3.1.2-24]: no packet above the client's maximum.
    assert_eq!(world.read(client), ["disconnect 0x95"]);
    clause::v5(&["3.1.2-24", "3.15.2-2", "3.15.2-3"]);
}

#[test]
fn before_5_0_there_is_no_auth() {
    let mut world = world();
    let mut old = connect("old");
    old.version = Version::V311;
    let client = world.attach(old);
    world.read(client);
    world.try_send(client, &[0xF0, 0x00]);
    assert_eq!(world.read(client), ["closed"]);
}

#[test]
fn a_full_pool_is_a_denial() {
    let mut world = world();
    let client = ann(&mut world);
    auth(&mut world, client, "OBEDIENT", ANEW, "ann");
    for job in world.cores[0].take_auth_jobs() {
        let refused = Answer::Denied(Denied::because(ReasonCode::QuotaExceeded));
        world.cores[0].on_authenticated(job.key, refused);
    }
    assert_eq!(world.read(client), ["disconnect 0x97"]);
}

#[test]
fn a_grant_that_ends_takes_its_connection_with_it() {
    let mut world = world();
    let lasts = |name: &str, ms| Grant::to(name.to_owned()).for_at_most(Duration::from_millis(ms));
    let mut of_3 = connect("old");
    of_3.version = Version::V311;
    of_3.grant = Some(Arc::new(lasts("ann", 5_000)));
    let mut of_5 = connect("new");
    of_5.grant = Some(Arc::new(lasts("ann", 7_000)));
    let (of_3, of_5) = (world.attach(of_3), world.attach(of_5));
    world.read(of_3);
    world.read(of_5);
    world.pass(4_999);
    assert_eq!(world.read(of_3), [""; 0]);
    world.pass(2);
    assert_eq!(world.read(of_3), ["closed"]);
    assert_eq!(world.read(of_5), [""; 0]);
    world.pass(2_000);
    assert_eq!(world.read(of_5), ["disconnect 0x87"]);
    world.settle();

    // One that authenticates anew gets the time of its new grant; here that is no bound.
    let mut renewed = connect("renewed");
    renewed.grant = Some(Arc::new(lasts("ann", 1_000)));
    renewed.enhanced = Some(Box::new(Enhanced {
        mechanism: Arc::new(Obedient),
        data: None,
    }));
    let renewed = world.attach(renewed);
    world.read(renewed);
    auth(&mut world, renewed, "OBEDIENT", ANEW, "ann");
    work(&mut world);
    assert_eq!(world.read(renewed), ["auth 0x00 OBEDIENT welcome"]);
    world.pass(10_000);
    assert_eq!(world.read(renewed), [""; 0]);

    // Whoever goes before leaves no timer behind.
    world.cut(renewed);
    let mut fleeting = connect("fleeting");
    fleeting.grant = Some(Arc::new(lasts("ann", u64::MAX)));
    let fleeting = world.attach(fleeting);
    world.cut(fleeting);
    world.settle();
    // Until the sessions have ended as well.
    world.pass(1_100_000);
    world.assert_empty();
}
