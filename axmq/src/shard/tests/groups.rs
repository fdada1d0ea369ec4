//! Shared subscriptions, over several shards and with the mail in any order.

use std::collections::BTreeMap;

use mqtt_codec::encode::Subscribe;
use mqtt_codec::{PacketType, QoS, RetainHandling, SubscribeFilter, Version};
use topicmap::Strategy;

use super::world::{Client, World, ack, connect, id, packet, publish, will};
use super::{V5, clause, client_on};
use crate::config::{Limits, ProtocolSettings};
use crate::message::ConnectInfo;

/// A member on a shard of the test's choice.
pub(super) fn member_on(
    world: &mut World,
    shard: usize,
    prefix: &str,
    filter: &str,
    qos: u8,
) -> Client {
    let (member, got) = newcomer_on(world, shard, prefix, filter, qos);
    assert!(got.is_empty(), "{got:?}");
    member
}

/// The same, with what waited for somebody like it.
pub(super) fn newcomer_on(
    world: &mut World,
    shard: usize,
    prefix: &str,
    filter: &str,
    qos: u8,
) -> (Client, Vec<String>) {
    let member = client_on(world, shard, prefix);
    world.subscribe(member, filter, qos);
    world.settle();
    let mut lines = world.read(member);
    assert_eq!(lines.remove(0), "suback");
    (member, lines)
}

/// Publishes `messages` numbered payloads from 1 on.
pub(super) fn publish_some(
    world: &mut World,
    publisher: Client,
    topic: &str,
    qos: u8,
    messages: u16,
) {
    for n in 1..=messages {
        world.send(publisher, &publish(V5, topic, &n.to_string(), qos, n));
    }
    world.settle();
}

pub(super) fn payloads(lines: &[String]) -> Vec<u32> {
    let payload = |line: &String| {
        let (_, rest) = line.split_once('=')?;
        rest.split(' ').next()?.parse().ok()
    };
    lines.iter().filter_map(payload).collect()
}

fn with_strategy(shards: u16, strategy: Strategy) -> World {
    let protocol = ProtocolSettings {
        shared_strategy: strategy,
        ..ProtocolSettings::default()
    };
    World::with_protocol(shards, Limits::default(), protocol)
}

#[test]
fn each_message_goes_to_one_member_in_turn_whatever_shards_they_are_on() {
    for shards in 1..=4_u16 {
        let mut world = World::new(shards, Limits::default());
        let last = usize::from(shards) - 1;
        let members = [(0, "a"), (last / 2, "b"), (last, "c")]
            .map(|(shard, prefix)| member_on(&mut world, shard, prefix, "$share/g/a/+", 1));
        let alone = member_on(&mut world, last, "alone", "$share/other/a/b", 2);
        let publisher = client_on(&mut world, 0, "pub");
        publish_some(&mut world, publisher, "a/b", 1, 9);
        assert_eq!(world.read(publisher).len(), 9, "acknowledged");
        let mut all = Vec::new();
        for member in members {
            let got = payloads(&world.read(member));
            assert_eq!(got.len(), 3, "{shards} shards: {got:?}");
            all.extend(got);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=9).collect::<Vec<_>>());
        let got = payloads(&world.read(alone));
        assert_eq!(got, (1..=9).collect::<Vec<_>>(), "a group of its own");
    }
}

#[test]
fn only_the_owners_shard_is_interested() {
    let mut world = World::new(4, Limits::default());
    for shard in 0..4 {
        member_on(&mut world, shard, "m", "$share/g/t", 0);
    }
    let topic = topicmap::Topic::parse("t", &world.shared.topic_limits).expect("legal");
    let mask = world.shared.interest.reader().mask(&topic);
    assert_eq!(mask.count_ones(), 1);
}

#[test]
fn suback_leaves_when_the_owner_has_the_member() {
    let mut world = World::new(2, Limits::default());
    // One of the two groups belongs to the other shard.
    let member = client_on(&mut world, 0, "m");
    let mut waited = 0;
    for n in 0..20 {
        world.subscribe(member, &format!("$share/g{n}/t"), 0);
        let at_once = world.read(member) == ["suback"];
        if !at_once {
            waited += 1;
            let unread = [0xC0, 0];
            assert_eq!(
                world.try_send(member, &unread),
                0,
                "one SUBACK is due at most"
            );
            world.post();
            assert!(world.deliver(1));
            assert!(world.read(member).is_empty());
            world.settle();
            assert_eq!(world.read(member), ["suback"]);
            assert_eq!(world.try_send(member, &unread), 2);
            assert_eq!(world.read(member), ["PingResp"]);
        }
    }
    assert!((1..20).contains(&waited), "{waited} of 20");
}

#[test]
fn a_session_in_the_group_and_beside_it_gets_separate_copies() {
    let mut world = World::new(2, Limits::default());
    let member = member_on(&mut world, 0, "m", "$share/g/t", 1);
    world.subscribe(member, "t", 2);
    world.read(member);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 2, 1);
    let mut got = world.read(member);
    got.sort();
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(got[0].starts_with("t=1 q1") && got[1].starts_with("t=1 q2"));
}

#[test]
fn qos_is_the_lower_of_publish_and_grant() {
    let mut world = World::new(2, Limits::default());
    for (granted, published, seen) in [(0, 2, 0), (1, 2, 1), (2, 1, 1), (2, 2, 2), (1, 0, 0)] {
        let filter = format!("$share/g/t{granted}{published}");
        let member = member_on(
            &mut world,
            0,
            &format!("m{granted}{published}-"),
            &filter,
            granted,
        );
        let publisher = client_on(&mut world, 1, &format!("p{granted}{published}-"));
        let topic = format!("t{granted}{published}");
        publish_some(&mut world, publisher, &topic, published, 1);
        let got = world.read(member);
        assert!(got[0].contains(&format!("=1 q{seen}")), "{got:?}");
    }
    clause::v5(&["4.8.2-3"]);
}

#[test]
fn no_retained_messages_come_with_a_shared_subscription() {
    let mut world = World::new(1, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &packet(V5, "t", "old", 1, 1, false, true));
    member_on(&mut world, 0, "m", "$share/g/t", 1);
}

#[test]
fn no_local_with_a_shared_subscription_ends_the_connection() {
    let mut world = World::new(1, Limits::default());
    let member = client_on(&mut world, 0, "m");
    let filters = [SubscribeFilter {
        filter: "$share/g/t",
        qos: QoS::AtMostOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }];
    let subscribe = Subscribe {
        packet_id: id(1),
        filters: &filters,
        subscription_identifier: None,
        user_properties: &[],
    };
    world.try_send(member, &subscribe.encode_to_vec(V5));
    assert_eq!(world.read(member), ["disconnect 0x82"], "[MQTT-3.8.3-4]");
    clause::v5(&["3.8.3-4"]);
}

#[test]
fn clients_of_3_1_1_share_too_and_bad_share_names_are_refused() {
    let mut world = World::new(2, Limits::default());
    let v3 = ConnectInfo {
        version: Version::V311,
        ..connect("old")
    };
    let member = world.attach(v3);
    world.subscribe(member, "$share/g/t", 1);
    world.settle();
    assert_eq!(world.read(member), ["connack 0", "suback"]);
    let publisher = client_on(&mut world, 0, "pub");
    publish_some(&mut world, publisher, "t", 1, 1);
    assert_eq!(world.read(member), ["t=1 q1 #1"]);
    for filter in [
        "$share//t",
        "$share/a+/t",
        "$share/a#/t",
        "$share/g/",
        "$share/g",
    ] {
        for (client, code) in [(member, 0x80), (publisher, 0x8F)] {
            world.read(client);
            world.subscribe(client, filter, 1);
            assert_eq!(world.codes(client), [code], "{filter} [MQTT-4.8.2-1, -2]");
        }
    }
    clause::v5(&["4.8.2-1", "4.8.2-2"]);
}

#[test]
fn subscription_identifier_and_retain_as_published_are_the_members_own() {
    let mut world = World::new(2, Limits::default());
    let member = client_on(&mut world, 0, "m");
    let filters = [SubscribeFilter {
        filter: "$share/g/t",
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: RetainHandling::SendAtSubscribe,
    }];
    let subscribe = Subscribe {
        packet_id: id(1),
        filters: &filters,
        subscription_identifier: Some(77),
        user_properties: &[],
    };
    world.send(member, &subscribe.encode_to_vec(V5));
    world.settle();
    world.read(member);
    let publisher = client_on(&mut world, 1, "pub");
    world.send(publisher, &packet(V5, "t", "x", 1, 1, false, true));
    world.settle();
    assert_eq!(world.read(member), ["t=x q1 #1 retain id77"]);
}

#[test]
fn a_will_is_dealt_to_one_member() {
    let mut world = World::new(2, Limits::default());
    let members = [0, 1].map(|shard| member_on(&mut world, shard, "m", "$share/g/will", 1));
    let name = world.name("dies", 0);
    let dies = world.attach(ConnectInfo {
        will: will("will", "7", 0),
        ..connect(&name)
    });
    world.cut(dies);
    world.settle();
    let got: Vec<_> = members
        .iter()
        .flat_map(|member| world.read(*member))
        .collect();
    assert_eq!(payloads(&got), [7]);
}

#[test]
fn groups_are_limited_in_all() {
    let limits = Limits {
        shared_groups: 2,
        ..Limits::default()
    };
    let mut world = World::new(3, limits);
    let member = client_on(&mut world, 0, "m");
    let mut codes = Vec::new();
    for filter in ["$share/a/t", "$share/b/t", "$share/c/t", "$share/a/t"] {
        world.subscribe(member, filter, 1);
        world.settle();
        codes.extend(world.codes(member));
    }
    assert_eq!(codes, [1, 1, 0x97, 1]);
    assert_eq!(world.count(|counters| counters.refused_groups), 1);
    world.unsubscribe(member, "$share/a/t");
    world.settle();
    world.read(member);
    world.subscribe(member, "$share/c/t", 1);
    world.settle();
    assert_eq!(world.codes(member), [1]);
}

#[test]
fn shared_subscriptions_count_among_those_of_the_client() {
    let limits = Limits {
        subscriptions_per_client: 2,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let member = client_on(&mut world, 0, "m");
    let mut codes = Vec::new();
    for filter in ["$share/a/t", "t", "$share/b/t", "u", "$share/a/t"] {
        world.subscribe(member, filter, 1);
        codes.extend(world.codes(member));
    }
    assert_eq!(codes, [1, 1, 0x97, 0x97, 1]);
}

#[test]
fn the_strategies_choose_as_they_say() {
    let shares = |strategy| {
        let mut world = with_strategy(3, strategy);
        let members: Vec<_> = (0..3)
            .map(|shard| member_on(&mut world, shard, "m", "$share/g/t", 1))
            .collect();
        let publishers: Vec<_> = (0..3)
            .map(|shard| client_on(&mut world, shard, "pub"))
            .collect();
        let mut by_publisher = BTreeMap::new();
        for (at, publisher) in publishers.iter().enumerate() {
            for n in 0..30 {
                let payload = (at * 100 + n).to_string();
                world.send(*publisher, &publish(V5, "t", &payload, 1, 1 + n as u16));
                world.settle();
                for (which, member) in members.iter().enumerate() {
                    for payload in payloads(&world.read(*member)) {
                        let publisher = payload as usize / 100;
                        *by_publisher.entry((publisher, which)).or_insert(0) += 1;
                    }
                    // The first member acknowledges nothing.
                    let id = by_publisher
                        .iter()
                        .filter(|((_, other), _)| *other == which)
                        .map(|(_, count)| count)
                        .sum::<u16>();
                    if which > 0 && id > 0 {
                        world.send(*member, &ack(PacketType::PubAck, id));
                    }
                }
            }
        }
        by_publisher
    };
    let total = |shares: &BTreeMap<(usize, usize), u16>, which: usize| {
        let of_member = shares.iter().filter(|((_, member), _)| *member == which);
        of_member.map(|(_, count)| count).sum::<u16>()
    };
    let turns = shares(Strategy::RoundRobin);
    assert!((0..3).all(|which| total(&turns, which) == 30), "{turns:?}");
    let sticky = shares(Strategy::Sticky);
    assert!(
        (0..3).any(|which| total(&sticky, which) == 90),
        "{sticky:?}"
    );
    let by_publisher = shares(Strategy::PublisherHash);
    assert_eq!(by_publisher.len(), 3, "one each: {by_publisher:?}");
    let random = shares(Strategy::Random);
    assert!((0..3).all(|which| total(&random, which) > 10), "{random:?}");
    let least = shares(Strategy::LeastQueued);
    assert_eq!(total(&least, 0), 1, "it never has room sooner: {least:?}");
}

#[test]
fn what_is_dealt_faster_than_taken_holds_up_the_publisher() {
    let limits = Limits {
        mailbox_bytes: 20_000,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    // The owner is the shard without the member.
    let group = (0..)
        .map(|n| format!("$share/g{n}/t"))
        .find(|filter| {
            let name = &filter["$share/".len()..filter.len() - 2];
            world.shared.owner_of(name, "t") == 0
        })
        .expect("the hash reaches every shard");
    let member = member_on(&mut world, 1, "m", &group, 0);
    let publisher = client_on(&mut world, 0, "pub");
    let message = publish(V5, "t", &"x".repeat(500), 0, 0);
    let mut sent = 0;
    while !world.cores[0].is_congested() {
        world.send(publisher, &message);
        sent += 1;
        assert!(sent < 1_000, "the credit has to run out");
    }
    world.settle();
    assert!(!world.cores[0].is_congested(), "the credit comes back");
    assert_eq!(world.read(member).len(), sent, "nothing was lost");
}
