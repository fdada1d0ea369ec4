//! What the protocol does with the answers of hooks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mqtt_codec::{PacketType, QoS, ReasonCode, Version};

use super::world::{World, ack, connect, packet, publish, will};
use super::{V5, clause, client_on, subscriber_on};
use crate::config::{Limits, ListenerRules};
use crate::hooks::{
    Action, Authorize, Client, Decision, Draft, EndedBy, Ending, Grant, Hooks, OnConnection,
    Verdict,
};
use crate::message::ConnectInfo;
use crate::properties::Properties;

type Log = Arc<Mutex<Vec<String>>>;

fn lines(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().expect("no test panics with it"))
}

fn authorizing(hook: impl Authorize + 'static) -> Hooks {
    let mut hooks = Hooks::default();
    hooks.set_authorize(Arc::new(hook));
    hooks
}

fn on_publish(
    hook: impl Fn(&Client<'_>, &mut Draft<'_>) -> Verdict + Send + Sync + 'static,
) -> Hooks {
    let mut hooks = Hooks::default();
    hooks.set_on_publish(Arc::new(hook));
    hooks
}

/// Denies what has "no" in its topic, and disconnects over what has "out".
fn by_topic(topic: &str) -> Decision {
    if topic.contains("no") {
        Decision::Deny
    } else if topic.contains("out") {
        Decision::Disconnect
    } else {
        Decision::Allow
    }
}

fn publishes_by_topic(_: &Client<'_>, action: &Action<'_>) -> Decision {
    match action {
        Action::Publish { topic, .. } => by_topic(topic),
        _ => Decision::Allow,
    }
}

#[test]
fn a_denied_publish_is_refused_in_order_and_goes_nowhere() {
    let mut world = World::with_hooks(2, Limits::default(), authorizing(publishes_by_topic));
    let near = subscriber_on(&mut world, 0, "#", 2);
    let far = subscriber_on(&mut world, 1, "#", 2);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &publish(V5, "yes", "1", 1, 1));
    world.send(publisher, &publish(V5, "no", "2", 1, 2));
    world.send(publisher, &publish(V5, "no", "3", 2, 3));
    world.send(publisher, &publish(V5, "no", "4", 0, 0));
    world.send(publisher, &packet(V5, "no", "5", 1, 4, false, true));
    assert!(
        world.read(publisher).is_empty(),
        "[MQTT-4.6.0-2]: refusals wait their turn too"
    );
    world.settle();
    assert_eq!(
        world.read(publisher),
        [
            "puback #1",
            "puback #2 0x87",
            "pubrec #3 0x87",
            "puback #4 0x87"
        ]
    );
    // [MQTT-4.3.3-9]: the packet id of a refused QoS 2 message is free for a new message.
    world.send(publisher, &publish(V5, "yes", "6", 2, 3));
    world.settle();
    assert_eq!(world.read(publisher), ["pubrec #3"]);
    for subscriber in [near, far] {
        assert_eq!(world.read(subscriber), ["yes=1 q1 #1", "yes=6 q2 #2"]);
    }
    let late = client_on(&mut world, 1, "late");
    world.subscribe(late, "no", 0);
    world.settle();
    assert_eq!(world.read(late), ["suback"], "it was not retained");
    assert_eq!(world.cores[0].counters().publishes_refused, 4);
    clause::v5(&["4.3.3-9"]);
}

#[test]
fn a_3_x_publisher_gets_an_ordinary_acknowledgement_for_a_denied_message() {
    let mut world = World::with_hooks(1, Limits::default(), authorizing(publishes_by_topic));
    let subscriber = subscriber_on(&mut world, 0, "#", 2);
    let mut connect = connect("old");
    connect.version = Version::V311;
    let publisher = world.attach(connect);
    world.read(publisher);
    world.send(publisher, &publish(Version::V311, "no", "1", 1, 1));
    world.send(publisher, &publish(Version::V311, "no", "2", 2, 2));
    // [MQTT-3.3.5-2] of 3.1.1: a positive acknowledgement, or the end of the connection.
    assert_eq!(world.read(publisher), ["puback #1", "pubrec #2"]);
    world.send(
        publisher,
        &packet(Version::V311, "no", "2", 2, 2, true, false),
    );
    assert_eq!(world.read(publisher), ["pubrec #2"]);
    world.settle();
    assert!(world.read(subscriber).is_empty());
    clause::v311(&["3.3.5-2"]);
}

#[test]
fn a_disconnect_by_policy_says_why_and_publishes_the_will() {
    let mut world = World::with_hooks(1, Limits::default(), authorizing(publishes_by_topic));
    let subscriber = subscriber_on(&mut world, 0, "#", 0);
    let mut connect = connect("bad");
    connect.will = will("will", "gone", 0);
    let publisher = world.attach(connect);
    world.read(publisher);
    world.send(publisher, &publish(V5, "out", "1", 1, 1));
    assert_eq!(world.read(publisher), ["disconnect 0x87"]);
    world.settle();
    assert_eq!(world.read(subscriber), ["will=gone q0"]);
}

#[test]
fn a_will_is_judged_when_it_is_published() {
    let seen = Log::default();
    let log = Arc::clone(&seen);
    let mut hooks = authorizing(publishes_by_topic);
    hooks.set_on_publish(Arc::new(
        move |client: &Client<'_>, draft: &mut Draft<'_>| {
            let line = format!(
                "{} {:?} {}",
                client.id(),
                client.identity(),
                draft.is_will()
            );
            log.lock().expect("no test panics with it").push(line);
            draft.set_topic("edited").expect("it is legal");
            Verdict::Pass
        },
    ));
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let subscriber = subscriber_on(&mut world, 0, "#", 0);
    for (id, topic) in [("allowed", "yes"), ("denied", "no")] {
        let mut connect = connect(id);
        connect.will = will(topic, "gone", 0);
        connect.grant = Some(Arc::new(Grant::to("ann")));
        let client = world.attach(connect);
        world.cut(client);
    }
    world.settle();
    assert_eq!(world.read(subscriber), ["edited=gone q0"]);
    assert_eq!(lines(&seen), ["allowed Some(\"ann\") true"]);
}

#[test]
fn subscriptions_are_denied_one_by_one() {
    let hook = |_: &Client<'_>, action: &Action<'_>| match action {
        Action::Subscribe { filter, group, .. } => by_topic(group.unwrap_or(filter)),
        _ => Decision::Allow,
    };
    let mut world = World::with_hooks(1, Limits::default(), authorizing(hook));
    let client = client_on(&mut world, 0, "sub");
    world.subscribe(client, "yes", 0);
    world.subscribe(client, "no", 0);
    assert_eq!(world.read(client), ["suback", "suback 0x87"]);
    world.subscribe(client, "$share/no/yes", 0);
    assert_eq!(world.read(client), ["suback 0x87"]);
    world.subscribe(client, "a/#/b", 0);
    assert_eq!(world.read(client), ["suback 0x8F"], "nobody is asked");
    let mut old = connect("old");
    old.version = Version::V311;
    let old = world.attach(old);
    world.read(old);
    world.subscribe(old, "no", 0);
    assert_eq!(world.read(old), ["suback 0x80"], "[MQTT-3.9.3-2]");
    world.subscribe(client, "out", 0);
    assert_eq!(world.read(client), ["disconnect 0x87"]);
}

struct Deliveries;

impl Authorize for Deliveries {
    fn authorize(&self, client: &Client<'_>, action: &Action<'_>) -> Decision {
        match action {
            Action::Receive { topic, .. } if client.id().starts_with("sub") => by_topic(topic),
            _ => Decision::Allow,
        }
    }

    fn asks_for_deliveries(&self) -> bool {
        true
    }
}

#[test]
fn a_delivery_that_is_denied_is_counted_and_settled() {
    let mut world = World::with_hooks(1, Limits::default(), authorizing(Deliveries));
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &packet(V5, "no/old", "0", 1, 9, false, true));
    let subscriber = subscriber_on(&mut world, 0, "#", 2);
    let other = client_on(&mut world, 0, "other");
    world.subscribe(other, "#", 0);
    for (n, topic) in [(1, "yes"), (2, "no"), (3, "yes"), (4, "out"), (5, "yes")] {
        world.send(publisher, &publish(V5, topic, "x", 1, n));
    }
    world.settle();
    assert_eq!(
        world.read(subscriber),
        [
            "yes=x q1 #2",
            "yes=x q1 #4",
            "yes=x q1 #6",
            "disconnect 0x87"
        ],
        "what is denied is settled at once; the end comes after the delivery"
    );
    assert_eq!(
        world.read(other).len(),
        7,
        "who is not denied gets them all"
    );
    assert_eq!(world.cores[0].counters().dropped_not_authorized, 3);
    world.cut(publisher);
    world.cut(other);
    world.settle();
    world.pass(2_000_000);
    world.assert_empty();
}

#[test]
fn messages_in_a_row_are_asked_about_one_by_one() {
    let mut world = World::with_hooks(1, Limits::default(), authorizing(Deliveries));
    let publisher = client_on(&mut world, 0, "pub");
    let denied = ["sub-a", "sub-b"].map(|prefix| client_on(&mut world, 0, prefix));
    for client in denied {
        world.subscribe(client, "no", 0);
        world.read(client);
    }
    let other = client_on(&mut world, 0, "other");
    world.subscribe(other, "no", 0);
    world.read(other);
    let burst: Vec<u8> = (0..5).flat_map(|_| publish(V5, "no", "x", 0, 0)).collect();
    world.send(publisher, &burst);
    assert_eq!(world.read(other).len(), 5);
    for client in denied {
        assert!(world.read(client).is_empty());
    }
}

#[test]
fn an_edited_message_is_routed_anew_and_acknowledged_as_it_came() {
    let hooks = on_publish(|client, draft| {
        assert_eq!(client.version(), V5);
        let topic = format!("tenant/{}", draft.topic());
        draft.set_topic(topic).expect("it is legal");
        assert!(draft.set_topic("a/#").is_err(), "a filter is no topic");
        draft.set_payload(format!("<{}>", String::from_utf8_lossy(draft.payload())));
        draft.set_qos(QoS::AtMostOnce);
        draft.set_retain(true);
        let mut properties = draft.properties();
        properties.user.push(("seen".into(), "yes".into()));
        draft.set_properties(&properties).expect("they are legal");
        draft.set_expiry_s(Some(7));
        assert_eq!(draft.expiry_s(), Some(7));
        assert_eq!(draft.properties().user.len(), 1);
        Verdict::Pass
    });
    let mut world = World::with_hooks(2, Limits::default(), hooks);
    let publisher = client_on(&mut world, 0, "pub");
    let far = subscriber_on(&mut world, 1, "tenant/#", 2);
    let old = subscriber_on(&mut world, 0, "a", 2);
    world.send(publisher, &publish(V5, "a", "1", 2, 1));
    assert!(
        world.read(publisher).is_empty(),
        "the far shard has to say yes"
    );
    world.settle();
    assert_eq!(world.read(publisher), ["pubrec #1"]);
    assert_eq!(world.read(far), ["tenant/a=<1> q0 expires 7"]);
    assert!(world.read(old).is_empty());
    let late = client_on(&mut world, 0, "late");
    world.subscribe(late, "tenant/a", 0);
    assert_eq!(
        world.read(late),
        ["suback", "tenant/a=<1> q0 retain expires 7"]
    );
    world.pass(7_001);
    world.subscribe(late, "tenant/a", 0);
    assert_eq!(world.read(late), ["suback"], "it has expired");
}

#[test]
fn a_message_with_properties_comes_through_unharmed() {
    let hooks = on_publish(|_, draft| {
        assert_eq!(draft.properties(), Properties::default());
        assert_eq!(draft.expiry_s(), None);
        Verdict::Pass
    });
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let publisher = client_on(&mut world, 0, "pub");
    let subscriber = subscriber_on(&mut world, 0, "#", 1);
    world.send(publisher, &publish(V5, "a", "1", 1, 1));
    assert_eq!(world.read(publisher), ["puback #1"]);
    assert_eq!(world.read(subscriber), ["a=1 q1 #1"]);
}

#[test]
fn verdicts_discard_refuse_and_disconnect() {
    let hooks = on_publish(|_, draft| match draft.topic() {
        "discard" => Verdict::Discard,
        "quota" => Verdict::Refuse(ReasonCode::QuotaExceeded),
        "odd" => Verdict::Refuse(ReasonCode::KeepAliveTimeout),
        "end" => Verdict::Disconnect(ReasonCode::MessageRateTooHigh),
        _ => Verdict::Pass,
    });
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let publisher = client_on(&mut world, 0, "pub");
    let subscriber = subscriber_on(&mut world, 0, "#", 1);
    for (n, topic) in [(1, "discard"), (2, "quota"), (3, "odd"), (4, "end")] {
        world.send(publisher, &publish(V5, topic, "x", 1, n));
    }
    assert_eq!(
        world.read(publisher),
        [
            "puback #1",
            "puback #2 0x97",
            "puback #3 0x83",
            "disconnect 0x96"
        ]
    );
    assert!(world.read(subscriber).is_empty());
}

#[test]
fn a_duplicate_is_shown_once() {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let hooks = on_publish(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Verdict::Pass
    });
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &publish(V5, "a", "1", 2, 1));
    world.send(publisher, &packet(V5, "a", "1", 2, 1, true, false));
    world.send(publisher, &ack(PacketType::PubRel, 1));
    assert_eq!(
        world.read(publisher),
        ["pubrec #1", "pubrec #1", "pubcomp #1"]
    );
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[derive(Default)]
struct Diary(Log);

impl OnConnection for Diary {
    fn on_connect(&self, client: &Client<'_>, session_present: bool) {
        assert_ne!(client.id(), "breaks", "a hook that panics");
        let line = format!(
            "{} in {session_present} {:?}",
            client.id(),
            client.data::<u8>()
        );
        self.0.lock().expect("asserted before").push(line);
    }

    fn on_disconnect(&self, client: &Client<'_>, ending: &Ending<'_>) {
        let by = match ending.by() {
            EndedBy::Misconduct => format!("misconduct [{}]", ending.clause().unwrap_or("")),
            other => format!("{other:?}"),
        };
        let reason = ending.reason() as u8;
        let line = format!("{} out 0x{reason:02X} {by}", client.id());
        self.0.lock().expect("asserted before").push(line);
    }
}

#[test]
fn comings_and_goings_are_told_in_order_with_the_reason() {
    let log = Log::default();
    let mut hooks = Hooks::default();
    hooks.set_on_connection(Arc::new(Diary(Arc::clone(&log))));
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let mut first = connect("a");
    first.grant = Some(Arc::new(Grant::to("ann").with_data(7_u8)));
    world.attach(first);
    let second = world.attach(connect("a"));
    world.send(second, &[0xE0, 0x01, 0x04]);
    let third = world.attach(connect("a"));
    world.cut(third);
    let fourth = world.attach(connect("a"));
    // PUBREL with the wrong flags.
    world.try_send(fourth, &[0x60, 0x02, 0x00, 0x01]);
    let fifth = world.attach(connect("a"));
    world.cores[0].stop();
    assert_eq!(world.read(fifth), ["connack 1", "disconnect 0x8B"]);
    assert_eq!(
        lines(&log),
        [
            "a in false Some(7)",
            "a out 0x8E TakeOver",
            "a in true None",
            "a out 0x04 Client",
            "a in true None",
            "a out 0x00 Network",
            "a in true None",
            "a out 0x81 misconduct [MQTT-3.6.1-1]",
            "a in true None",
            "a out 0x8B Stop",
        ]
    );
}

/// Takes 5 nanoseconds a call, as far as the clock says.
fn clock() -> u64 {
    static NOW: AtomicU64 = AtomicU64::new(0);
    NOW.fetch_add(5, Ordering::Relaxed)
}

#[test]
fn a_panic_closes_its_client_and_no_other() {
    let mut hooks = on_publish(|_, draft| {
        assert_ne!(draft.topic(), "break", "a hook that panics");
        Verdict::Pass
    });
    hooks.set_on_connection(Arc::new(Diary::default()));
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let good = client_on(&mut world, 0, "good");
    let bad = client_on(&mut world, 0, "bad");
    let subscriber = subscriber_on(&mut world, 0, "#", 1);
    world.send(bad, &publish(V5, "break", "1", 1, 1));
    world.send(good, &publish(V5, "fine", "2", 1, 1));
    assert_eq!(world.read(bad), ["disconnect 0x83"]);
    assert_eq!(world.read(good), ["puback #1"]);
    let old = world.attach(ConnectInfo {
        version: Version::V311,
        ..connect("old")
    });
    world.send(old, &publish(Version::V311, "break", "1", 1, 1));
    assert_eq!(world.read(old), ["closed"], "not even CONNACK was read");
    let greeted = world.attach(connect("breaks"));
    world.settle();
    assert_eq!(world.read(greeted), ["connack 0", "disconnect 0x83"]);
    assert_eq!(world.read(subscriber), ["fine=2 q1 #1"]);
    let counters = world.shared.hooks.counters();
    assert_eq!((counters.panicked, counters.slow), (3, 0));
    clause::v311(&["4.8.0-2"]);
}

#[test]
fn slow_calls_are_counted() {
    for (slow_ns, expected) in [(4, 3), (1_000_000, 0)] {
        let mut hooks = on_publish(|_, _| Verdict::Pass);
        hooks.set_clock(clock, slow_ns);
        let mut world = World::with_hooks(1, Limits::default(), hooks);
        let publisher = client_on(&mut world, 0, "pub");
        for n in 1..=3 {
            world.send(publisher, &publish(V5, "a", "1", 1, n));
        }
        assert_eq!(world.shared.hooks.counters().slow, expected);
    }
}

/// Writes down what is asked, and allows it.
struct Writes(Log);

impl Authorize for Writes {
    fn authorize(&self, _: &Client<'_>, action: &Action<'_>) -> Decision {
        let line = match action {
            Action::Publish { topic, is_will, .. } => format!("publish {topic} {is_will}"),
            Action::Subscribe { filter, group, .. } => format!("subscribe {filter} {group:?}"),
            Action::Receive { topic, .. } => format!("receive {topic}"),
        };
        self.0.lock().expect("no test panics with it").push(line);
        Decision::Allow
    }

    fn asks_for_deliveries(&self) -> bool {
        true
    }
}

#[test]
fn hooks_see_topics_and_filters_under_the_mount_point() {
    let log = Log::default();
    let mut hooks = authorizing(Writes(Arc::clone(&log)));
    hooks.set_on_publish(Arc::new(|_: &Client<'_>, draft: &mut Draft<'_>| {
        if draft.topic() == "site/wrong" {
            draft.set_topic("site/right").expect("a topic");
        }
        Verdict::Pass
    }));
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let rules = ListenerRules {
        mount_point: "site/".to_owned(),
        ..ListenerRules::default()
    };
    let client = world.attach(ConnectInfo {
        // As the front has put it together.
        will: will("site/will", "gone", 0),
        rules: Some(Arc::new(rules)),
        ..connect("mounted")
    });
    let outside = subscriber_on(&mut world, 0, "#", 0);
    lines(&log);
    world.subscribe(client, "a/+", 0);
    world.subscribe(client, "$share/g/b", 0);
    world.settle();
    assert_eq!(
        lines(&log),
        ["subscribe site/a/+ None", "subscribe site/b Some(\"g\")"]
    );
    for topic in ["a/1", "wrong"] {
        world.send(client, &publish(V5, topic, "x", 0, 0));
    }
    assert_eq!(
        world.read(client),
        ["connack 0", "suback", "suback", "a/1=x q0"],
        "the client sees its own names"
    );
    assert_eq!(world.read(outside), ["site/a/1=x q0", "site/right=x q0"]);
    world.cut(client);
    world.settle();
    assert_eq!(world.read(outside), ["site/will=gone q0"]);
    let mut seen = lines(&log);
    seen.retain(|line| !line.starts_with("receive"));
    assert_eq!(
        seen,
        [
            "publish site/a/1 false",
            "publish site/wrong false",
            "publish site/will true"
        ]
    );
}
