//! Subscriptions, retained messages, and which message goes where.

use mqtt_codec::encode::Subscribe;
use mqtt_codec::{RetainHandling, SubscribeFilter};

use crate::client::{Broker, filter, id, message};
use crate::{V5, V311, clause};

#[test]
fn filters_match_as_the_grammar_says() {
    let broker = Broker::start();
    let names = [
        "sport",
        "sport/tennis",
        "sport/tennis/p1",
        "/sport",
        "sport/",
        "Sport",
        "$x/a",
    ];
    let cases: &[(&str, &[&str])] = &[
        (
            "#",
            &[
                "sport",
                "sport/tennis",
                "sport/tennis/p1",
                "/sport",
                "sport/",
                "Sport",
            ],
        ),
        (
            "sport/#",
            &["sport", "sport/tennis", "sport/tennis/p1", "sport/"],
        ),
        ("+", &["sport", "Sport"]),
        ("sport/+", &["sport/tennis", "sport/"]),
        ("+/tennis/#", &["sport/tennis", "sport/tennis/p1"]),
        ("+/+", &["sport/tennis", "/sport", "sport/"]),
        ("sport/+/p1", &["sport/tennis/p1"]),
        ("/+", &["/sport"]),
        ("+/a", &[]),
        ("$x/#", &["$x/a"]),
        ("$x/+", &["$x/a"]),
        ("sport", &["sport"]),
    ];
    for version in [V311, V5] {
        let mut publisher = broker.client(version, "publisher");
        let mut watcher = broker.client(version, "watcher");
        for (text, matching) in cases {
            watcher.subscribes(&[filter(text, 0)], "suback #77 00");
            for name in names {
                publisher.publishes(message(name, "x", 0, 0));
            }
            publisher.hears_nothing_else();
            for name in *matching {
                watcher.hears(&format!("{name}=x q0"));
            }
            let gone = if version == V5 {
                "unsuback #78 00"
            } else {
                "unsuback #78"
            };
            watcher.unsubscribes(&[text], gone);
        }
    }
    clause::v5(&["3.3.2-3", "4.7.1-1", "4.7.1-2", "4.7.2-1", "4.7.3-4"]);
    clause::v311(&["3.3.2-3", "4.7.1-2", "4.7.1-3", "4.7.2-1", "4.7.3-4"]);
}

#[test]
fn a_topic_name_with_a_wildcard_ends_the_connection_and_a_bad_filter_is_refused() {
    let broker = Broker::start();
    for (version, refused) in [(V311, "80"), (V5, "8f")] {
        for name in ["a/+", "#"] {
            let mut client = broker.client(version, "wild");
            client.publishes(message(name, "x", 0, 0));
            if version == V5 {
                client.hears("disconnect 90");
            }
            client.hears("end");
        }
        let mut client = broker.client(version, "wild");
        for text in ["a/#/b", "a#", "a/b+", "+a/b"] {
            client.subscribes(&[filter(text, 0)], &format!("suback #77 {refused}"));
        }
    }
    clause::v5(&["3.3.2-2", "4.7.0-1", "4.7.1-1", "4.7.1-2"]);
    clause::v311(&["3.3.2-2", "4.7.1-1", "4.7.1-2", "4.7.1-3"]);
}

#[test]
fn a_subscribe_is_answered_filter_by_filter_and_replaces_what_there_was() {
    let broker = Broker::start();
    for (version, refused) in [(V311, "80"), (V5, "8f")] {
        let mut client = broker.client(version, "client");
        let filters = [
            filter("a", 0),
            filter("b", 1),
            filter("b#", 1),
            filter("c", 2),
        ];
        client.subscribes(&filters, &format!("suback #77 00 01 {refused} 02"));
        for (topic, words) in [("a", "a=x q0"), ("b", "b=x q1 #1"), ("c", "c=x q1 #2")] {
            client.publishes(message(topic, "x", 1, 5));
            let mut heard = [client.read(), client.read()];
            heard.sort();
            assert_eq!(heard, [words, "puback #5"]);
        }
        // One copy, not two, and with the new quality of service.
        client.subscribes(&[filter("a", 2)], "suback #77 02");
        client.publishes(message("a", "y", 0, 0));
        client.hears("a=y q0");
        client.hears_nothing_else();
        client.publishes(message("a", "z", 1, 6));
        let mut heard = [client.read(), client.read()];
        heard.sort();
        assert_eq!(heard, ["a=z q1 #3", "puback #6"]);
    }
    clause::v5(&[
        "2.2.1-6", "3.8.4-1", "3.8.4-2", "3.8.4-3", "3.8.4-5", "3.8.4-6",
    ]);
    clause::v5(&["3.8.4-7", "3.8.4-8", "3.9.3-1"]);
    clause::v311(&[
        "2.3.1-7", "3.8.4-1", "3.8.4-2", "3.8.4-3", "3.8.4-4", "3.8.4-5",
    ]);
    clause::v311(&["3.8.4-6", "3.9.3-1"]);
}

#[test]
fn an_unsubscribe_ends_the_very_same_filter_and_is_answered() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let answer = |codes: &str| match version {
            V5 => format!("unsuback #78{codes}"),
            _ => "unsuback #78".to_owned(),
        };
        let mut client = broker.client(version, "client");
        client.subscribes(&[filter("a/+", 0), filter("a/b", 0)], "suback #77 00 00");
        client.unsubscribes(&["a/#", "A/b"], &answer(" 11 11"));
        client.publishes(message("a/b", "still", 0, 0));
        client.hears("a/b=still q0");
        client.hears_nothing_else();
        client.unsubscribes(&["a/+", "a/b", "a/b"], &answer(" 00 00 11"));
        client.publishes(message("a/b", "no more", 0, 0));
        client.hears_nothing_else();
        // What was under way is brought to its end.
        client.subscribes(&[filter("q", 2)], "suback #77 02");
        client.publishes(message("q", "x", 0, 0));
        client.hears("q=x q0");
        let mut publisher = broker.client(version, "publisher");
        publisher.publishes(message("q", "y", 2, 1));
        client.hears("q=y q2 #1");
        client.unsubscribes(&["q"], &answer(" 00"));
        client.acknowledges(mqtt_codec::PacketType::PubRec, 1);
        client.hears("pubrel #1");
        client.acknowledges(mqtt_codec::PacketType::PubComp, 1);
        client.hears_nothing_else();
    }
    clause::v5(&["2.2.1-6"]);
    clause::v311(&["2.3.1-7"]);
    clause::v5(&[
        "3.10.4-1", "3.10.4-2", "3.10.4-3", "3.10.4-4", "3.10.4-5", "3.10.4-6",
    ]);
    clause::v311(&[
        "3.10.4-1", "3.10.4-2", "3.10.4-3", "3.10.4-4", "3.10.4-5", "3.10.4-6",
    ]);
}

#[test]
fn the_last_retained_message_is_kept_until_an_empty_one() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut publisher = broker.client(version, "publisher");
        let mut live = broker.client(version, "live");
        live.subscribes(&[filter("r", 1)], "suback #77 01");
        let mut late = broker.client(version, "late");
        let mut asks = |answer: &str| {
            late.subscribes(&[filter("r", 0)], "suback #77 00");
            if !answer.is_empty() {
                late.hears(answer);
            }
            late.hears_nothing_else();
            let gone = if version == V5 {
                "unsuback #78 00"
            } else {
                "unsuback #78"
            };
            late.unsubscribes(&["r"], gone);
        };
        asks("");
        publisher.publishes(message("r", "old", 0, 0).retained());
        publisher.publishes(message("r", "new", 1, 1).retained());
        publisher.hears("puback #1");
        // To those who are there it is as any other message.
        live.hears("r=old q0");
        live.hears("r=new q1 #1");
        asks("r=new q0 retain");
        publisher.publishes(message("r", "passing", 0, 0));
        live.hears("r=passing q0");
        asks("r=new q0 retain");
        publisher.publishes(message("r", "newer", 0, 0).retained());
        live.hears("r=newer q0");
        asks("r=newer q0 retain");
        // It is none of the publisher's session.
        publisher.leaves();
        asks("r=newer q0 retain");
        live.publishes(message("r", "", 0, 0).retained());
        live.hears("r= q0");
        asks("");
    }
    clause::v5(&["3.3.1-5", "3.3.1-6", "3.3.1-7", "3.3.1-8", "3.3.1-12"]);
    clause::v311(&["3.1.2-7", "3.3.1-5", "3.3.1-6", "3.3.1-7", "3.3.1-8"]);
    clause::v311(&["3.3.1-9", "3.3.1-10", "3.3.1-11", "3.3.1-12"]);
}

#[test]
fn a_subscription_is_replaced_without_losing_anything() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut publisher = broker.client(version, "publisher");
        publisher.publishes(message("r", "kept", 1, 1).retained());
        publisher.hears("puback #1");
        let mut client = broker.client(version, "client");
        let (mut live, mut kept) = (0, 0);
        for n in 0..20 {
            publisher.publishes(message("r", "live", 0, 0));
            publisher.hears_nothing_else();
            let answer = format!("suback #77 0{}", n % 2);
            let packet = Subscribe {
                packet_id: id(77),
                filters: &[filter("r", n % 2)],
                subscription_identifier: None,
                user_properties: &[],
            };
            client.says(&packet.encode_to_vec(version));
            loop {
                let words = client.read();
                if words == answer {
                    break;
                }
                assert_eq!(words, "r=live q0");
                live += 1;
            }
            assert!(client.read().starts_with(&format!("r=kept q{} ", n % 2)));
            kept += 1;
        }
        // The first was published before there was a subscription.
        assert_eq!((live, kept), (19, 20));
    }
    clause::v5(&["3.3.1-9", "3.8.4-3", "3.8.4-4"]);
    clause::v311(&["3.8.4-3"]);
}

#[test]
fn subscription_options_are_kept() {
    let broker = Broker::start();
    let mut publisher = broker.client(V5, "publisher");
    publisher.publishes(message("r", "kept", 0, 0).retained());
    publisher.hears_nothing_else();
    let mut client = broker.client(V5, "client");
    let mut asks = |retain_handling, answer: Option<&str>| {
        let it = SubscribeFilter {
            retain_handling,
            retain_as_published: true,
            ..filter("r", 0)
        };
        client.subscribes(&[it], "suback #77 00");
        if let Some(answer) = answer {
            client.hears(answer);
        }
        client.hears_nothing_else();
    };
    asks(RetainHandling::DoNotSend, None);
    asks(RetainHandling::SendIfNew, None);
    asks(RetainHandling::SendAtSubscribe, Some("r=kept q0 retain"));
    client.unsubscribes(&["r"], "unsuback #78 00");
    let it = SubscribeFilter {
        retain_handling: RetainHandling::SendIfNew,
        retain_as_published: true,
        no_local: true,
        ..filter("r", 0)
    };
    client.subscribes(&[it], "suback #77 00");
    client.hears("r=kept q0 retain");
    // Retain as published, and not to oneself.
    publisher.publishes(message("r", "again", 0, 0).retained());
    client.hears("r=again q0 retain");
    publisher.publishes(message("r", "plain", 0, 0));
    client.hears("r=plain q0");
    client.publishes(message("r", "mine", 0, 0));
    client.hears_nothing_else();
    clause::v5(&["3.3.1-9", "3.3.1-10", "3.3.1-11", "3.3.1-13", "3.8.3-3"]);
    clause::v5(&["3.8.4-4"]);
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_quality_with_all_identifiers() {
    let broker = Broker::start();
    let mut client = broker.client(V5, "client");
    for (text, qos, number) in [("a/#", 0, 7), ("a/+", 1, 8)] {
        let packet = Subscribe {
            packet_id: id(77),
            filters: &[filter(text, qos)],
            subscription_identifier: Some(number),
            user_properties: &[],
        };
        client.says(&packet.encode_to_vec(V5));
        client.hears(&format!("suback #77 0{qos}"));
    }
    let mut publisher = broker.client(V5, "publisher");
    publisher.publishes(message("a/b", "x", 2, 1));
    let words = client.read();
    assert!(
        ["a/b=x q1 #1 [7] [8]", "a/b=x q1 #1 [8] [7]"].contains(&&*words),
        "{words}"
    );
    client.hears_nothing_else();
    publisher.hears("pubrec #1");
    publisher.publishes(message("a", "y", 0, 0));
    client.hears("a=y q0 [7]");
    let mut old = broker.client(V311, "old");
    old.subscribes(&[filter("b/#", 0), filter("b/+", 2)], "suback #77 00 02");
    publisher.publishes(message("b/c", "x", 1, 2));
    old.hears("b/c=x q1 #1");
    old.hears_nothing_else();
    clause::v5(&["3.3.4-2", "3.3.4-3", "3.3.4-4"]);
    clause::v311(&["3.3.5-1"]);
}
