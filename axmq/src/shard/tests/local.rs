//! The program's own messages and subscriptions, on the core. The test is the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};

use mqtt_codec::QoS;
use slabmem::Key;

use super::world::{World, packet, publish};
use super::{V5, client_on, subscriber_on};
use crate::config::Limits;
use crate::local::{Outlet, Received};
use crate::message::{Answer, Local, LocalSubscribe, Query};
use crate::publication::{Parts, Publication};

struct Program {
    shard: usize,
    session: Key,
    received: Receiver<Received>,
    dropped: Arc<AtomicU64>,
}

impl Program {
    fn subscribe(world: &mut World, shard: usize, filter: &str, capacity: usize) -> Self {
        let (sender, received) = mpsc::sync_channel(capacity);
        let (reply, answer) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let outlet = Outlet {
            sender,
            dropped: Arc::clone(&dropped),
        };
        world.cores[shard].on_local(Local::Subscribe(Box::new(LocalSubscribe {
            filter: filter.into(),
            outlet: Arc::new(outlet),
            reply,
        })));
        effects(world, shard);
        let session = answer.try_recv().expect("it is answered");
        Self {
            shard,
            session: session.expect("there is room"),
            received,
            dropped,
        }
    }

    fn read(&self, world: &mut World) -> Vec<String> {
        effects(world, self.shard);
        self.received
            .try_iter()
            .map(|received| {
                let retain = if received.retain() { " retain" } else { "" };
                let payload = String::from_utf8_lossy(received.payload()).into_owned();
                format!(
                    "{}={payload} q{}{retain}",
                    received.topic(),
                    received.qos() as u8
                )
            })
            .collect()
    }

    fn unsubscribe(self, world: &mut World) {
        world.cores[self.shard].on_local(Local::Unsubscribe(self.session));
    }
}

/// Does what the thread around a core does; returns the bytes that may be published again.
fn effects(world: &mut World, shard: usize) -> u64 {
    let core = &mut world.cores[shard];
    let Some(effects) = core.take_local_effects() else {
        return 0;
    };
    for (outlet, received) in effects.received {
        if !outlet.put(received) {
            core.count_local_drop();
        }
    }
    for (reply, session) in effects.replies {
        reply.send(session).expect("the test listens");
    }
    effects.returned
}

fn message(topic: &str, payload: &str, qos: QoS, retain: bool) -> Publication {
    let parts = Parts {
        topic,
        properties: std::iter::empty(),
        payload: payload.as_bytes(),
        qos,
        retain,
        expires_at_ms: 0,
    };
    Publication::from_parts(parts, None)
}

#[test]
fn the_program_gets_what_clients_publish_on_every_shard() {
    let mut world = World::new(2, Limits::default());
    let near = client_on(&mut world, 0, "near");
    let far = client_on(&mut world, 1, "far");
    world.send(far, &packet(V5, "t/old", "0", 1, 1, false, true));
    world.settle();
    let program = Program::subscribe(&mut world, 0, "t/#", 10);
    assert_eq!(program.read(&mut world), ["t/old=0 q1 retain"]);
    world.send(near, &publish(V5, "t/1", "a", 0, 0));
    world.send(near, &publish(V5, "t/2", "b", 2, 7));
    world.send(far, &publish(V5, "t/3", "c", 1, 8));
    world.settle();
    assert_eq!(
        program.read(&mut world),
        ["t/1=a q0", "t/2=b q2", "t/3=c q1"]
    );
    assert_eq!(world.read(near), ["pubrec #7"]);
    assert_eq!(world.read(far), ["puback #1", "puback #8"]);
    program.unsubscribe(&mut world);
    world.send(near, &publish(V5, "t/4", "d", 0, 0));
    world.settle();
    assert_eq!(
        world.cores[0].counters().dropped(),
        0,
        "nobody subscribes any more"
    );
    assert_eq!(effects(&mut world, 0), 0);
}

#[test]
fn what_the_program_has_no_room_for_is_counted() {
    let mut world = World::new(1, Limits::default());
    let client = client_on(&mut world, 0, "pub");
    let program = Program::subscribe(&mut world, 0, "t", 2);
    for payload in ["1", "2", "3", "4"] {
        world.send(client, &publish(V5, "t", payload, 0, 0));
    }
    assert_eq!(program.read(&mut world), ["t=1 q0", "t=2 q0"]);
    assert_eq!(program.dropped.load(Ordering::Relaxed), 2);
    assert_eq!(world.cores[0].counters().dropped_local_full, 2);
}

#[test]
fn clients_get_what_the_program_publishes() {
    let mut world = World::new(2, Limits::default());
    let near = subscriber_on(&mut world, 0, "#", 1);
    let far = subscriber_on(&mut world, 1, "t/+", 2);
    let publication = message("t/1", "a", QoS::ExactlyOnce, true);
    let cost = publication.cost() as u64;
    world.cores[0].on_local(Local::Publish(publication, Some(5)));
    assert_eq!(effects(&mut world, 0), 0, "it is not routed yet");
    world.settle();
    assert_eq!(effects(&mut world, 0), cost);
    assert_eq!(world.read(near), ["t/1=a q1 #1 expires 5"]);
    assert_eq!(world.read(far), ["t/1=a q2 #1 expires 5"]);
    let late = Program::subscribe(&mut world, 1, "t/1", 10);
    assert_eq!(late.read(&mut world), ["t/1=a q2 retain"]);
    world.pass(5_001);
    let later = Program::subscribe(&mut world, 1, "t/1", 10);
    assert!(later.read(&mut world).is_empty(), "it has expired");
}

#[test]
fn the_program_waits_for_a_subscriber_that_is_behind() {
    let limits = Limits {
        out_queue_soft_bytes: 2_000,
        out_queue_bytes: 10_000,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let subscriber = subscriber_on(&mut world, 0, "t", 0);
    for n in 0..20 {
        let text = format!("{n:0>500}");
        let publication = message("t", &text, QoS::AtMostOnce, false);
        world.cores[0].on_local(Local::Publish(publication, None));
    }
    let mut got = 0;
    for _ in 0..20 {
        world.settle();
        let lines = world.read(subscriber);
        assert!(lines.len() < 8, "no more than the soft mark at a time");
        got += lines.len();
    }
    assert_eq!(got, 20, "nothing is dropped");
    assert_eq!(world.cores[0].counters().dropped(), 0);
}

#[test]
fn no_client_takes_over_a_subscription_of_the_program() {
    let mut world = World::new(1, Limits::default());
    let program = Program::subscribe(&mut world, 0, "t", 10);
    let client = world.attach(super::world::connect("$local/0/1"));
    assert_eq!(world.read(client), ["connack 0"]);
    world.send(client, &publish(V5, "t", "1", 0, 0));
    assert_eq!(program.read(&mut world), ["t=1 q0"]);
    program.unsubscribe(&mut world);
    world.cut(client);
    world.settle();
    world.pass(2_000_000);
    world.assert_empty();
}

#[test]
fn the_programs_own_subscriptions_are_no_clients() {
    let mut world = World::new(1, Limits::default());
    let program = Program::subscribe(&mut world, 0, "t", 8);
    let client = subscriber_on(&mut world, 0, "t", 0);
    let Answer::Clients(page) = world.cores[0].answer(Query::Clients { from: 0, most: 10 }) else {
        panic!("it is a page");
    };
    let ids: Vec<_> = page.clients.iter().map(|line| &line.id).collect();
    assert_eq!(ids, ["sub0"]);
    world.subscribe(client, "$SYS/broker/clients/total", 0);
    assert_eq!(
        world.read(client),
        ["suback", "$SYS/broker/clients/total=1 q0 retain"]
    );
    program.unsubscribe(&mut world);
    world.cut(client);
    world.settle();
    world.pass(2_000_000);
    world.assert_empty();
}
