//! Clients that send anything: valid packets, damaged ones, noise, in any order. Nobody panics,
//! nobody else notices, and nothing is left of them.

use mqtt_codec::{PacketType, Version};

use super::world::{World, ack, connect, packet};
use super::{V5, client_on, publish, subscriber_on};
use crate::config::Limits;
use crate::message::ConnectInfo;
use crate::sim::random::Random;

/// One packet that a client may send, by its kind.
fn valid(random: &mut Random, version: Version) -> Vec<u8> {
    let n = 1 + random.below(5) as u16;
    let topic = ["g/a", "g/b", "$SYS/x", "other"][random.below(4)];
    match random.below(9) {
        0..=2 => {
            let (qos, dup, retain) = (random.below(3) as u8, random.one_in(2), random.one_in(2));
            let payload = "x".repeat(random.below(40));
            packet(version, topic, &payload, qos, n, dup && qos > 0, retain)
        }
        3 => ack(PacketType::PubAck, n),
        4 => ack(PacketType::PubRec, n),
        5 => ack(PacketType::PubRel, n),
        6 => ack(PacketType::PubComp, n),
        7 => vec![0xC0, 0],
        _ => {
            let filter = ["g/#", "g/+", "#", "+/a", "a/#/b", "$share/x/y", ""][random.below(7)];
            let mut body = vec![0, 1];
            let is_subscribe = random.one_in(2);
            if version == V5 {
                body.push(0);
            }
            body.extend((filter.len() as u16).to_be_bytes());
            body.extend(filter.as_bytes());
            if is_subscribe {
                body.push(random.below(3) as u8);
            }
            let first = if is_subscribe { 0x82 } else { 0xA2 };
            let mut packet = vec![first, body.len() as u8];
            packet.extend(body);
            packet
        }
    }
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    match random.below(4) {
        0 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            let at = random.below(bytes.len() + 1);
            bytes.insert(at, random.next() as u8);
        }
        _ => *bytes = (0..random.below(60)).map(|_| random.next() as u8).collect(),
    }
}

#[test]
fn whatever_clients_send_the_others_do_not_notice() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut world = World::new(
            2,
            Limits {
                receive_maximum: 3,
                ..Limits::default()
            },
        );
        let watcher = subscriber_on(&mut world, 0, "news", 0);
        let speaker = client_on(&mut world, 1, "speaker");
        for round in 0..60 {
            let version = [Version::V31, Version::V311, V5][random.below(3)];
            let name = format!("culprit-{}", random.below(4));
            let expiry_s = [0, 5, u32::MAX][random.below(3)];
            let info = ConnectInfo {
                version,
                session_expiry_s: expiry_s,
                clean_start: random.one_in(3),
                ..connect(&name)
            };
            let culprit = world.attach(info);
            for _ in 0..random.below(12) {
                let mut bytes = valid(&mut random, version);
                if random.one_in(6) {
                    damage(&mut random, &mut bytes);
                }
                world.try_send(culprit, &bytes);
                if random.one_in(2) {
                    world.settle();
                    world.read(culprit);
                }
            }
            if random.one_in(2) {
                world.cut(culprit);
            }
            world.pass(random.next() % 3_000);
            let text = round.to_string();
            world.send(speaker, &publish(V5, "news", &text, 0, 0));
            world.settle();
            assert_eq!(
                world.read(watcher),
                [format!("news={text} q0")],
                "seed {seed}"
            );
        }
        world.cut(watcher);
        world.cut(speaker);
        for n in 0..4 {
            // A clean start with expiry 0 takes what is left of each with it.
            let last = ConnectInfo {
                clean_start: true,
                session_expiry_s: 0,
                ..connect(&format!("culprit-{n}"))
            };
            let last = world.attach(last);
            world.cut(last);
        }
        world.settle();
        world.pass(2_000_000);
        world.assert_empty();
    }
}
