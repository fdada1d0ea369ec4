//! Shared subscriptions: what waits in them survives, and comes to one member.

use mqtt_codec::{PacketType, Version};
use rustix::process::Signal;

use super::client::{Broker, Client, message};
use super::support::TempDir;
use super::{ALWAYS, killed, subscriber};

const GROUP: &str = "$share/g/t/#";
const PAYLOADS: [&str; 5] = ["1", "2", "3", "4", "5"];

/// The lines of what a member gets, in any order of theirs, without their packet ids.
fn gets(client: &mut Client, count: usize) -> Vec<String> {
    let mut lines: Vec<_> = (0..count)
        .map(|_| {
            let line = client.read();
            let text = line.split(" #").next();
            text.unwrap_or_default().to_owned()
        })
        .collect();
    lines.sort();
    lines
}

fn publish(broker: &Broker, count: u16, qos: u8) {
    let mut publisher = broker.client(Version::V5, "p");
    for n in 1..=count {
        publisher.publishes(message("t/1", PAYLOADS[usize::from(n) - 1], qos, n));
        let answer = if qos == 1 { "puback" } else { "pubrec" };
        publisher.hears(&format!("{answer} #{n}"));
    }
}

fn numbered(count: u16, qos: u8) -> Vec<String> {
    (1..=count).map(|n| format!("t/1={n} q{qos}")).collect()
}

#[test]
fn what_waits_in_a_group_survives_a_kill_and_comes_to_whoever_is_there_first() {
    for qos in [1, 2] {
        let mut broker = Broker::at(TempDir::new(), 2, ALWAYS);
        for name in ["a", "b"] {
            subscriber(&broker, name, GROUP, qos).leaves();
        }
        publish(&broker, 5, qos);
        broker = killed(broker, 3);
        broker = killed(broker, 1);
        let mut client = broker.resume(Version::V5, "b", "connack 1");
        assert_eq!(gets(&mut client, 5), numbered(5, qos));
        broker
            .resume(Version::V5, "a", "connack 1")
            .hears_nothing_else();
    }
}

#[test]
fn an_orderly_stop_takes_back_what_a_member_has_not_got_and_leaves_it_what_is_its_own() {
    for durability in ["interval", "always"] {
        let settings: &[(&str, &str)] = &[("AXMQ_STORE__DURABILITY", durability)];
        let mut broker = Broker::at(TempDir::new(), 2, settings);
        // One is away, so all goes to the other, and more than that acknowledges.
        subscriber(&broker, "away", GROUP, 2).leaves();
        let mut member = subscriber(&broker, "member", GROUP, 2);
        publish(&broker, 3, 1);
        assert_eq!(gets(&mut member, 3), numbered(3, 1));
        let mut publisher = broker.client(Version::V5, "p2");
        publisher.publishes(message("t/2", "own", 2, 1));
        publisher.hears("pubrec #1");
        assert_eq!(gets(&mut member, 1), ["t/2=own q2"]);
        broker = Broker::at(broker.end(Signal::TERM), 3, settings);
        let mut away = broker.resume(Version::V5, "away", "connack 1");
        assert_eq!(gets(&mut away, 3), numbered(3, 1));
        away.hears_nothing_else();
        let mut member = broker.resume(Version::V5, "member", "connack 1");
        assert_eq!(gets(&mut member, 1), ["t/2=own q2"]);
        member.acknowledges(PacketType::PubRec, 4);
        member.hears("pubrel #4");
        member.hears_nothing_else();
    }
}

#[test]
fn after_a_kill_what_a_member_may_have_got_at_qos_2_waits_for_it_and_the_rest_for_anybody() {
    let mut broker = Broker::at(TempDir::new(), 2, ALWAYS);
    subscriber(&broker, "away", GROUP, 2).leaves();
    let mut member = subscriber(&broker, "member", GROUP, 2);
    publish(&broker, 2, 2);
    assert_eq!(gets(&mut member, 2), numbered(2, 2));
    let mut publisher = broker.client(Version::V5, "p2");
    publisher.publishes(message("t/2", "free", 1, 1));
    publisher.hears("puback #1");
    assert_eq!(gets(&mut member, 1), ["t/2=free q1"]);
    broker = killed(broker, 1);
    let mut away = broker.resume(Version::V5, "away", "connack 1");
    assert_eq!(gets(&mut away, 1), ["t/2=free q1"]);
    away.hears_nothing_else();
    let mut member = broker.resume(Version::V5, "member", "connack 1");
    assert_eq!(gets(&mut member, 2), numbered(2, 2));
    member.hears_nothing_else();
}
