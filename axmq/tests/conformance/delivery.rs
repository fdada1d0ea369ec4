//! PUBLISH and its acknowledgements: each quality of service, both ways, and over reconnects.

use mqtt_codec::{AckPacket, PacketType, ReasonCode};

use crate::client::{Broker, filter, id, message};
use crate::{V5, V311, clause};

#[test]
fn each_quality_of_service_has_its_answers() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribes(&[filter("t", 0)], "suback #77 00");
        let mut client = broker.client(version, "publisher");
        client.publishes(message("t", "0", 0, 0));
        client.hears_nothing_else();
        watcher.hears("t=0 q0");
        client.publishes(message("t", "1", 1, 10));
        client.hears("puback #10");
        watcher.hears("t=1 q0");
        // The identifier is free again: what comes with it is another message.
        client.publishes(message("t", "1 too", 1, 10));
        client.hears("puback #10");
        watcher.hears("t=1 too q0");
        client.publishes(message("t", "2", 2, 11));
        client.hears("pubrec #11");
        // Until PUBREL it is the same message.
        client.publishes(message("t", "2", 2, 11).again());
        client.hears("pubrec #11");
        client.acknowledges(PacketType::PubRel, 11);
        client.hears("pubcomp #11");
        watcher.hears("t=2 q0");
        client.publishes(message("t", "2 too", 2, 11));
        client.hears("pubrec #11");
        client.acknowledges(PacketType::PubRel, 11);
        client.hears("pubcomp #11");
        watcher.hears("t=2 too q0");
        watcher.hears_nothing_else();
    }
    clause::v5(&["2.2.1-5", "3.3.4-1", "4.3.2-4", "4.3.2-5"]);
    clause::v5(&["4.3.3-8", "4.3.3-10", "4.3.3-11", "4.3.3-12"]);
    clause::v311(&["2.3.1-6", "3.3.4-1", "4.3.1-1", "4.3.2-2", "4.3.3-2"]);
}

#[test]
fn acknowledgements_come_in_the_order_of_the_messages() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribes(&[filter("#", 0)], "suback #77 00");
        let mut client = broker.client(version, "publisher");
        for n in 1..=20 {
            client.publishes(message("t", "x", 1 + u8::from(n % 2 == 1), n));
        }
        for n in 1..=20 {
            client.hears(&format!(
                "{} #{n}",
                ["puback", "pubrec"][usize::from(n % 2 == 1)]
            ));
            watcher.hears("t=x q0");
        }
        for n in (1..=20).step_by(2) {
            client.acknowledges(PacketType::PubRel, n);
            client.hears(&format!("pubcomp #{n}"));
        }
    }
    clause::v5(&["4.6.0-2", "4.6.0-3"]);
    clause::v311(&["4.6.0-2", "4.6.0-3"]);
}

#[test]
fn messages_of_a_topic_come_in_the_order_they_were_published() {
    let broker = Broker::start();
    const PAYLOADS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];
    for version in [V311, V5] {
        for qos in 0..=2 {
            let mut watcher = broker.client(version, "watcher");
            watcher.subscribes(&[filter("t", qos)], &format!("suback #77 0{qos}"));
            let mut client = broker.client(version, "publisher");
            for (n, payload) in (1..).zip(PAYLOADS) {
                client.publishes(message("t", payload, qos, n));
            }
            for payload in PAYLOADS {
                let words = watcher.read();
                assert!(words.starts_with(&format!("t={payload} q{qos}")), "{words}");
            }
        }
    }
    clause::v5(&["4.6.0-5", "4.6.0-6"]);
    clause::v311(&["4.6.0-5", "4.6.0-6"]);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_with_its_identifier() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let name = format!("forgetful {version}");
        let mut publisher = broker.client(version, "publisher");
        let mut client = broker.resume(version, &name, "connack 0");
        client.subscribes(&[filter("t", 2)], "suback #77 02");
        publisher.publishes(message("t", "one", 1, 1));
        publisher.publishes(message("t", "two", 2, 2));
        client.hears("t=one q1 #1");
        client.hears("t=two q2 #2");
        client.is_lost();
        let mut client = broker.resume(version, &name, "connack 1");
        client.hears("t=one q1 #1 dup");
        client.hears("t=two q2 #2 dup");
        client.acknowledges(PacketType::PubAck, 1);
        client.acknowledges(PacketType::PubRec, 2);
        client.hears("pubrel #2");
        client.is_lost();
        // Of the second only PUBREL is sent again, of the first nothing.
        let mut client = broker.resume(version, &name, "connack 1");
        client.hears("pubrel #2");
        client.hears_nothing_else();
        client.acknowledges(PacketType::PubComp, 2);
        client.is_lost();
        let mut client = broker.resume(version, &name, "connack 1");
        client.hears_nothing_else();
    }
    clause::v5(&[
        "3.3.1-1", "4.3.2-1", "4.3.2-2", "4.3.2-3", "4.4.0-1", "4.6.0-1",
    ]);
    clause::v5(&[
        "4.3.3-1", "4.3.3-2", "4.3.3-3", "4.3.3-4", "4.3.3-5", "4.3.3-6",
    ]);
    clause::v311(&[
        "2.3.1-4", "3.3.1-1", "4.3.2-1", "4.3.3-1", "4.4.0-1", "4.6.0-1",
    ]);
}

#[test]
fn a_refused_message_is_not_sent_again() {
    let broker = Broker::start();
    let mut publisher = broker.client(V5, "publisher");
    let mut client = broker.resume(V5, "picky", "connack 0");
    client.subscribes(&[filter("t", 2)], "suback #77 02");
    publisher.publishes(message("t", "one", 1, 1));
    publisher.publishes(message("t", "two", 2, 2));
    client.hears("t=one q1 #1");
    client.hears("t=two q2 #2");
    for (packet_type, n) in [(PacketType::PubAck, 1), (PacketType::PubRec, 2)] {
        let ack = AckPacket::new(packet_type, id(n), ReasonCode::UnspecifiedError);
        client.says(&ack.encode_to_vec(V5));
    }
    client.hears_nothing_else();
    client.is_lost();
    let mut client = broker.resume(V5, "picky", "connack 1");
    client.hears_nothing_else();
    clause::v5(&["4.4.0-2"]);
}
