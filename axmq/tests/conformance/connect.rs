//! CONNECT, CONNACK, DISCONNECT and sessions.

use mqtt_codec::encode::{Connect, ConnectProperties, Will};
use mqtt_codec::{PacketType, QoS, Version};

use crate::client::{Broker, filter, lasting, message};
use crate::{V5, V311, clause};

fn will<'a>(client_id: &'a str, retain: bool) -> Connect<'a> {
    Connect {
        client_id,
        clean_start: true,
        will: Some(Will {
            topic: "will",
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain,
            ..Will::default()
        }),
        ..Connect::default()
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    let broker = Broker::start();
    let again = |version: Version| {
        let mut client = broker.client(version, "twice");
        let connect = Connect {
            client_id: "twice",
            clean_start: true,
            ..Connect::default()
        };
        client.says(&connect.encode_to_vec(version));
        client
    };
    again(V311).hears("end");
    let mut client = again(V5);
    client.hears("disconnect 82");
    client.hears("end");
    clause::v5(&["3.1.0-2", "3.14.4-1", "3.14.4-2", "4.13.1-1"]);
    clause::v311(&["3.1.0-2", "4.8.0-1"]);
}

#[test]
fn connack_comes_first_and_once() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut client = broker.open(version);
        let name = format!("eager {version}");
        let mut bytes = lasting(&name).encode_to_vec(version);
        bytes.extend(mqtt_codec::PING_REQ);
        client.says(&bytes);
        client.hears("connack 0");
        client.hears("pingresp");
        client.hears_nothing_else();
    }
    clause::v5(&["3.1.4-5", "3.2.0-1", "3.2.0-2", "3.12.4-1"]);
    clause::v311(&["3.1.4-4", "3.2.0-1", "3.12.4-1"]);
}

#[test]
fn what_follows_a_connect_that_is_refused_is_not_looked_at() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribes(&[filter("t", 0)], "suback #77 00");
        let mut bytes = lasting("future").encode_to_vec(version);
        // A protocol level that nobody knows.
        bytes[8] = 9;
        bytes.extend(b"\x30\x04\x00\x01tx");
        // The answer is in words that all versions may know.
        let mut client = broker.open(V311);
        client.says(&bytes);
        client.hears("connack refused 84");
        client.hears("end");
        watcher.hears_nothing_else();
    }
    clause::v5(&[
        "3.1.2-2", "3.1.4-1", "3.1.4-6", "3.2.2-6", "3.2.2-7", "4.13.2-1",
    ]);
}

#[test]
fn a_client_identifier_that_is_refused_is_answered_and_closed() {
    let broker = Broker::start();
    let connect = Connect {
        client_id: "",
        ..Connect::default()
    };
    let mut watcher = broker.client(V311, "watcher");
    watcher.subscribes(&[filter("t", 0)], "suback #77 00");
    let mut client = broker.open(V311);
    let mut bytes = connect.encode_to_vec(V311);
    bytes.extend(b"\x30\x04\x00\x01tx");
    client.says(&bytes);
    client.hears("connack refused 85");
    client.hears("end");
    watcher.hears_nothing_else();
    clause::v311(&["3.1.3-8", "3.1.3-9", "3.1.4-5", "3.2.2-4", "3.2.2-5"]);
}

#[test]
fn a_connect_that_is_malformed_ends_the_connection() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut bytes = lasting("reserved").encode_to_vec(version);
        // The reserved flag.
        bytes[9] |= 1;
        let mut client = broker.open(version);
        client.says(&bytes);
        // 3.1.1 has no return code for that, and so there is no CONNACK.
        if version == V5 {
            client.hears("connack refused 81");
        }
        client.hears("end");
        // Nor did it leave a session.
        broker.resume(version, "reserved", "connack 0").leaves();
        broker.client(version, "reserved").leaves();
    }
    clause::v5(&["3.1.2-3", "3.1.4-1", "3.2.2-6", "3.2.2-7", "3.14.0-1"]);
    clause::v311(&["3.1.2-3", "3.1.4-1", "3.2.2-6"]);
}

#[test]
fn a_refusal_has_no_words_that_the_client_has_no_room_for() {
    let broker = Broker::start();
    for (maximum_packet_size, size) in [(None, 24..200), (Some(12), 5..12)] {
        let connect = Connect {
            client_id: "one",
            properties: ConnectProperties {
                maximum_packet_size,
                authentication_method: Some("unheard of"),
                ..ConnectProperties::default()
            },
            ..Connect::default()
        };
        let mut client = broker.connect(V5, &connect, "connack refused 8c");
        assert!(size.contains(&client.last_len), "{}", client.last_len);
        client.hears("end");
    }
    clause::v5(&["3.2.2-19", "3.2.2-20", "3.14.0-1", "4.12.0-1", "4.13.2-1"]);
}

#[test]
fn acknowledgements_have_no_words_for_those_that_want_none_or_have_no_room() {
    let broker = Broker::start();
    let properties = [
        ConnectProperties {
            request_problem_information: Some(false),
            ..ConnectProperties::default()
        },
        ConnectProperties {
            maximum_packet_size: Some(24),
            ..ConnectProperties::default()
        },
    ];
    for properties in properties {
        let connect = Connect {
            client_id: "terse",
            clean_start: true,
            properties,
            ..Connect::default()
        };
        let mut client = broker.connect(V5, &connect, "connack 0");
        client.subscribes(&[filter("a#", 0), filter("t", 2)], "suback #77 8f 02");
        client.unsubscribes(&["never"], "unsuback #78 11");
        // Nobody but the broker publishes there.
        client.publishes(message("$SYS/mine", "x", 1, 1));
        client.hears("puback #1 87");
        client.publishes(message("$SYS/mine", "x", 2, 2));
        client.hears("pubrec #2 87");
        client.acknowledges(PacketType::PubRel, 2);
        client.hears("pubcomp #2 92");
        let mut publisher = broker.client(V5, "publisher");
        publisher.publishes(message("t", "y", 2, 1));
        client.hears("t=y q2 #1");
        client.acknowledges(PacketType::PubRec, 1);
        client.hears("pubrel #1");
    }
    clause::v5(&["3.1.2-29", "3.4.2-2", "3.4.2-3", "3.5.2-2", "3.5.2-3"]);
    clause::v5(&["3.6.2-2", "3.6.2-3", "3.7.2-2", "3.7.2-3"]);
    clause::v5(&["3.9.2-1", "3.9.2-2", "3.11.2-1", "3.11.2-2"]);
}

#[test]
fn a_client_without_identifier_gets_one() {
    let broker = Broker::start();
    let connect = Connect {
        client_id: "",
        clean_start: true,
        ..Connect::default()
    };
    let mut first = broker.connect(V5, &connect, "connack 0 with an identifier");
    let mut second = broker.connect(V5, &connect, "connack 0 with an identifier");
    // Were they the same, the first would be gone.
    first.hears_nothing_else();
    second.hears_nothing_else();
    let mut old = broker.connect(V311, &connect, "connack 0");
    old.hears_nothing_else();
    clause::v5(&["3.1.3-6", "3.1.3-7", "3.2.2-16"]);
    clause::v311(&["3.1.3-6"]);
}

#[test]
fn the_later_of_two_with_one_identifier_stays() {
    let broker = Broker::start();
    let mut first = broker.client(V311, "same");
    let mut second = broker.client(V5, "same");
    first.hears("end");
    let mut third = broker.client(V311, "same");
    second.hears("disconnect 8e");
    second.hears("end");
    third.hears_nothing_else();
    clause::v5(&["3.1.4-3"]);
    clause::v311(&["3.1.3-2", "3.1.4-2"]);
}

#[test]
fn a_session_is_resumed_until_a_clean_start() {
    let broker = Broker::start();
    for (version, granted) in [(V311, "suback #77 01"), (V5, "suback #77 01")] {
        let name = format!("sleeper {version}");
        let mut publisher = broker.client(version, "publisher");
        let mut sleeper = broker.resume(version, &name, "connack 0");
        sleeper.subscribes(&[filter("kept", 1)], granted);
        sleeper.leaves();
        publisher.publishes(message("kept", "offline", 1, 1));
        publisher.hears("puback #1");
        let mut sleeper = broker.resume(version, &name, "connack 1");
        assert!(sleeper.read().starts_with("kept=offline q1 #"));
        sleeper.leaves();
        // A clean start drops what there was, and leaves nothing behind.
        let mut sleeper = broker.client(version, &name);
        publisher.publishes(message("kept", "after", 1, 2));
        publisher.hears("puback #2");
        sleeper.hears_nothing_else();
        sleeper.leaves();
        let mut sleeper = broker.resume(version, &name, "connack 0");
        sleeper.hears_nothing_else();
    }
    clause::v5(&["3.1.2-4", "3.1.2-5", "3.1.2-6", "3.1.2-23", "3.1.3-2"]);
    clause::v5(&["3.1.4-4", "3.2.2-2", "3.2.2-3", "4.1.0-1", "4.5.0-1"]);
    clause::v311(&["3.1.2-4", "3.1.2-5", "3.1.2-6", "3.1.4-3", "4.1.0-1"]);
    clause::v311(&["3.2.2-1", "3.2.2-2", "3.2.2-3", "4.1.0-2", "4.5.0-1"]);
}

#[test]
fn a_will_is_published_unless_the_client_says_good_bye() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribes(&[filter("will", 0)], "suback #77 00");
        let connect = will("mortal", false);
        broker.connect(version, &connect, "connack 0").leaves();
        watcher.hears_nothing_else();
        broker.client(version, "mortal").is_lost();
        watcher.hears_nothing_else();
        broker.connect(version, &connect, "connack 0").is_lost();
        watcher.hears("will=gone q0");
        // Not retained.
        let mut late = broker.client(version, "late");
        late.subscribes(&[filter("will", 0)], "suback #77 00");
        late.hears_nothing_else();
        let connect = will("mortal", true);
        broker.connect(version, &connect, "connack 0").is_lost();
        watcher.hears("will=gone q0");
        let mut late = broker.client(version, "later");
        late.subscribes(&[filter("will", 0)], "suback #77 00");
        late.hears("will=gone q0 retain");
        late.publishes(message("will", "", 0, 0).retained());
        late.hears("will= q0");
        watcher.hears("will= q0");
    }
    clause::v5(&[
        "3.1.2-7", "3.1.2-8", "3.1.2-10", "3.1.2-14", "3.1.2-15", "3.14.4-3",
    ]);
    clause::v311(&[
        "3.1.2-8", "3.1.2-10", "3.1.2-12", "3.1.2-16", "3.1.2-17", "3.14.4-3",
    ]);
}

#[test]
fn a_packet_that_is_too_large_for_a_client_is_not_sent_to_it() {
    let broker = Broker::start();
    let connect = Connect {
        client_id: "small",
        clean_start: true,
        properties: ConnectProperties {
            maximum_packet_size: Some(24),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    };
    let mut small = broker.connect(V5, &connect, "connack 0");
    small.subscribes(&[filter("t", 1)], "suback #77 01");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publishes(message("t", "more than there is room for", 1, 1));
    publisher.hears("puback #1");
    publisher.publishes(message("t", "fits", 0, 0));
    small.hears("t=fits q0");
    clause::v5(&["3.1.2-24", "3.1.2-25"]);
}

#[test]
fn connack_is_cut_to_what_the_client_takes_or_refuses_it() {
    let broker = Broker::start();
    for (bytes_max, answer, len) in [
        (16, "connack 0", Some(16)),
        // Without the topic alias maximum.
        (15, "connack 0", Some(13)),
        (13, "connack 0", Some(13)),
        // What is left binds both sides: packet size and receive maximum.
        (12, "connack refused 95", Some(5)),
        (5, "connack refused 95", Some(5)),
        (4, "end", None),
    ] {
        let connect = Connect {
            client_id: "tiny",
            clean_start: true,
            properties: ConnectProperties {
                maximum_packet_size: Some(bytes_max),
                ..ConnectProperties::default()
            },
            ..Connect::default()
        };
        let mut client = broker.connect(V5, &connect, answer);
        if let Some(len) = len {
            assert_eq!(client.last_len, len, "{bytes_max}");
        }
        if answer == "connack refused 95" {
            client.hears("end");
        }
    }
    clause::v5(&["3.1.2-24"]);
}

#[test]
fn no_more_is_in_flight_than_the_client_takes() {
    let broker = Broker::start();
    let connect = Connect {
        client_id: "slow",
        clean_start: true,
        properties: ConnectProperties {
            receive_maximum: Some(1),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    };
    let mut slow = broker.connect(V5, &connect, "connack 0");
    slow.subscribes(&[filter("t", 1)], "suback #77 01");
    let mut publisher = broker.client(V5, "publisher");
    for (n, payload) in [(1, "one"), (2, "two")] {
        publisher.publishes(message("t", payload, 1, n));
        publisher.hears(&format!("puback #{n}"));
    }
    slow.hears("t=one q1 #1");
    // QoS 0 and other packets go on; only QoS 1 and 2 wait.
    publisher.publishes(message("t", "zero", 0, 0));
    publisher.hears_nothing_else();
    let mut heard = vec![];
    slow.says(&mqtt_codec::PING_REQ);
    while heard.last().is_none_or(|words| words != "pingresp") {
        heard.push(slow.read());
    }
    assert!(
        !heard.iter().any(|words| words.starts_with("t=two")),
        "{heard:?}"
    );
    slow.acknowledges(PacketType::PubAck, 1);
    assert!(slow.read().starts_with("t=two q1 #"));
    clause::v5(&["3.3.4-9", "3.3.4-10", "4.9.0-1", "4.9.0-2", "4.9.0-3"]);
}
