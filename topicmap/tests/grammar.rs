//! The grammar of names and filters, clause by clause.
#![cfg(not(loom))]

use topicmap::{Filter, FilterError, Limits, Topic, TopicError, oracle, parse_subscription};

const LIMITS: Limits = Limits {
    levels_max: 4,
    bytes_max: 40,
    seed: 1,
};

fn topic_error(text: &str) -> TopicError {
    Topic::parse(text, &LIMITS).expect_err(text)
}

fn filter_error(text: &str) -> FilterError {
    Filter::parse(text, &LIMITS).expect_err(text)
}

fn share_error(text: &str) -> FilterError {
    parse_subscription(text, &LIMITS).expect_err(text)
}

#[test]
fn names_have_no_wildcards() {
    // [MQTT-4.7.0-1]
    for (text, position) in [
        ("+", 0),
        ("a/#", 2),
        ("a+b", 1),
        ("0123456789#", 10),
        ("é/+", 3),
    ] {
        let error = topic_error(text);
        assert_eq!(error, TopicError::Wildcard { position }, "{text}");
        assert_eq!(
            (error.clause(), error.position()),
            ("MQTT-4.7.0-1", position)
        );
    }
}

#[test]
fn names_and_filters_are_not_empty_and_bounded() {
    // [MQTT-4.7.3-1] [MQTT-4.7.3-3]
    assert_eq!(topic_error(""), TopicError::Empty);
    assert_eq!(filter_error(""), FilterError::Empty);
    assert_eq!(topic_error("").clause(), "MQTT-4.7.3-1");
    let long = "x".repeat(41);
    assert_eq!(topic_error(&long), TopicError::TooLong { position: 40 });
    assert_eq!(filter_error(&long), FilterError::TooLong { position: 40 });
    assert!(Topic::parse(&long[1..], &LIMITS).is_ok());
    assert_eq!(
        topic_error("a/b//d/e"),
        TopicError::TooManyLevels { position: 7 }
    );
    assert_eq!(
        filter_error("a/b//d/#"),
        FilterError::TooManyLevels { position: 7 }
    );
    assert!(Topic::parse("///", &LIMITS).is_ok());
}

#[test]
fn levels_are_bounded_by_the_ceiling_at_most() {
    let limits = Limits {
        levels_max: u16::MAX,
        ..Limits::default()
    };
    let most = "/".repeat(1023);
    assert_eq!(Topic::parse(&most, &limits).unwrap().level_count(), 1024);
    assert_eq!(Filter::parse(&most, &limits).unwrap().level_count(), 1024);
    let over = "/".repeat(1024);
    assert_eq!(
        Topic::parse(&over, &limits),
        Err(TopicError::TooManyLevels { position: 1024 })
    );
    assert_eq!(
        Filter::parse(&over, &limits),
        Err(FilterError::TooManyLevels { position: 1024 })
    );
}

#[test]
fn wildcards_fill_their_level() {
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2]
    for (text, position) in [("a#", 1), ("#a", 0), ("#/a", 0), ("a/#/b", 2), ("a/b#", 3)] {
        assert_eq!(filter_error(text), FilterError::Hash { position }, "{text}");
    }
    for (text, position) in [("a+", 1), ("+a", 0), ("a/++", 2), ("a/b+/c", 3)] {
        assert_eq!(filter_error(text), FilterError::Plus { position }, "{text}");
    }
    for text in [
        "#",
        "+",
        "/",
        "+/+",
        "/+",
        "+/",
        "a/#",
        "/#",
        "+/#",
        "a//b",
        "sport/+/p1",
    ] {
        assert!(Filter::parse(text, &LIMITS).is_ok(), "{text}");
    }
}

#[test]
fn the_examples_of_the_standard() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        ("sport/#", "sport", true),
        ("#", "a/b", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/x", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("$SYS/a", "$SYS/a", true),
        ("ACCOUNTS", "Accounts", false),
        ("a", "/a", false),
        ("é/+", "é/x", true),
        ("+/x", "é/x", true),
        ("#", "/", true),
        ("+/#", "a", true),
        ("a/+/#", "a/", true),
    ];
    for (filter, topic, expected) in cases {
        assert_eq!(oracle::matches(filter, topic), expected, "{filter} {topic}");
        let parsed = Filter::parse(filter, &LIMITS).unwrap();
        assert_eq!(
            parsed.matches(&Topic::parse(topic, &LIMITS).unwrap()),
            expected
        );
    }
}

#[test]
fn shares_have_a_name_and_a_filter() {
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    let good = parse_subscription("$share/g//a/+", &LIMITS).unwrap();
    assert_eq!((good.group(), good.filter().as_str()), (Some("g"), "/a/+"));
    let plain = parse_subscription("$share", &LIMITS).unwrap();
    assert_eq!((plain.group(), plain.filter().as_str()), (None, "$share"));
    assert_eq!(
        share_error("$share/"),
        FilterError::ShareNameEmpty { position: 7 }
    );
    assert_eq!(
        share_error("$share//a"),
        FilterError::ShareNameEmpty { position: 7 }
    );
    assert_eq!(
        share_error("$share/a+/b"),
        FilterError::ShareNameWildcard { position: 8 }
    );
    assert_eq!(
        share_error("$share/#"),
        FilterError::ShareNameWildcard { position: 7 }
    );
    assert_eq!(
        share_error("$share/g"),
        FilterError::ShareWithoutFilter { position: 8 }
    );
    assert_eq!(
        share_error("$share/g/"),
        FilterError::ShareWithoutFilter { position: 9 }
    );
    assert_eq!(
        share_error("$share/g/a/#/b"),
        FilterError::Hash { position: 11 }
    );
    assert_eq!(share_error("$share//a").clause(), "MQTT-4.8.2-1");
    assert_eq!(share_error("$share/g/").clause(), "MQTT-4.8.2-2");
}

#[test]
fn shape_of_a_filter() {
    let filter = Filter::parse("+/a/+/#", &LIMITS).unwrap();
    assert!(filter.ends_in_hash() && filter.is_first_wild() && !filter.is_exact());
    assert_eq!((filter.plus_mask(), filter.level_count()), (0b101, 4));
    let exact = Filter::parse("$SYS/a", &LIMITS).unwrap();
    assert!(exact.is_exact() && !exact.is_first_wild() && !exact.ends_in_hash());
}
