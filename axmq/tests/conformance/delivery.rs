//! PUBLISH and its acknowledgements: each quality of service, both ways, and over reconnects.

use std::num::NonZero;

use mqtt_codec::encode::{Connect, ConnectProperties, Will, WillProperties};
use mqtt_codec::{AckPacket, PacketType, PayloadFormat, ReasonCode};

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
        // What the publisher says of its copy does not hold for others.
        watcher.subscribes(&[filter("t", 1)], "suback #77 01");
        client.publishes(message("t", "again", 1, 12).again());
        client.hears("puback #12");
        watcher.hears("t=again q1 #1");
    }
    clause::v5(&["2.2.1-5", "3.3.1-3", "3.3.4-1", "4.3.1-1", "4.3.2-4"]);
    clause::v5(&["4.3.2-5"]);
    clause::v5(&["4.3.3-8", "4.3.3-10", "4.3.3-11", "4.3.3-12"]);
    clause::v311(&["2.3.1-6", "3.3.1-3", "3.3.4-1", "4.3.1-1", "4.3.2-2"]);
    clause::v311(&["4.3.3-2"]);
}

#[test]
fn releases_come_in_the_order_of_the_receipts() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut client = broker.client(version, "client");
        client.subscribes(&[filter("t", 2)], "suback #77 02");
        let mut publisher = broker.client(version, "publisher");
        for n in 1..=3 {
            publisher.publishes(message("t", "x", 2, n));
            client.hears(&format!("t=x q2 #{n}"));
        }
        for n in [2, 3, 1] {
            client.acknowledges(PacketType::PubRec, n);
        }
        for n in [2, 3, 1] {
            client.hears(&format!("pubrel #{n}"));
        }
    }
    clause::v5(&["4.3.3-4", "4.6.0-4"]);
    clause::v311(&["4.6.0-4"]);
}

#[test]
fn what_a_message_says_of_itself_comes_unaltered_and_in_order() {
    let broker = Broker::start();
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribes(&[filter("#", 0)], "suback #77 00");
    let mut late = broker.client(V5, "late");
    let mut publisher = broker.client(V5, "publisher");
    let user = [("b", "1"), ("a", "2"), ("b", "3")];
    let mut with_all = message("t", "x", 0, 0).retained();
    with_all.head.pass_through = b"\x01\x01\x03\x00\x04kind\x08\x00\x05reply\x09\x00\x02\x00\xff\
        \x26\x00\x01b\x00\x011\x26\x00\x01a\x00\x012\x26\x00\x01b\x00\x013";
    let words = "format:1 type:kind answer:reply correlation:[00, ff] b:1 a:2 b:3";
    publisher.publishes(with_all);
    watcher.hears(&format!("t=x q0 {words}"));
    late.subscribes(&[filter("t", 0)], "suback #77 00");
    late.hears(&format!("t=x q0 retain {words}"));
    let connect = Connect {
        client_id: "mortal",
        will: Some(Will {
            topic: "will",
            payload: b"y",
            properties: WillProperties {
                payload_format_indicator: Some(PayloadFormat::Utf8),
                content_type: Some("kind"),
                response_topic: Some("reply"),
                correlation_data: Some(&[0, 0xFF]),
                user_properties: &user,
                ..WillProperties::default()
            },
            ..Will::default()
        }),
        ..Connect::default()
    };
    broker.connect(V5, &connect, "connack 0").is_lost();
    watcher.hears(&format!("will=y q0 {words}"));
    clause::v5(&["3.1.3-10", "3.3.2-4", "3.3.2-15", "3.3.2-16"]);
    clause::v5(&["3.3.2-17", "3.3.2-18", "3.3.2-20"]);
}

#[test]
fn no_alias_is_sent_to_those_that_take_none() {
    let broker = Broker::start();
    let mut publisher = broker.client(V5, "publisher");
    for topic_alias_maximum in [None, Some(0), Some(2)] {
        let connect = Connect {
            client_id: "watcher",
            clean_start: true,
            properties: ConnectProperties {
                topic_alias_maximum,
                ..ConnectProperties::default()
            },
            ..Connect::default()
        };
        let mut watcher = broker.connect(V5, &connect, "connack 0");
        watcher.subscribes(&[filter("#", 0)], "suback #77 00");
        for topic in ["a", "b", "c", "a", "b", "c"] {
            let mut aliased = message(topic, "x", 0, 0);
            aliased.head.topic_alias = NonZero::new(3);
            publisher.publishes(aliased);
            // By its name, and without the publisher's alias.
            watcher.hears(&format!("{topic}=x q0"));
        }
    }
    clause::v5(&["3.1.2-26", "3.1.2-27", "3.3.2-11"]);
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
    // All of it over TCP, a stream in order and without loss.
    clause::v5(&["4.2-1", "4.6.0-5", "4.6.0-6"]);
    clause::v311(&["4.6.0-5", "4.6.0-6", "7.1.1-1"]);
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
