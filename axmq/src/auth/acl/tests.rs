use super::matching::{covers, overlaps};
use super::{Acl, Subscribing, Want};

/// All texts of one to `levels_max` of these levels.
fn texts(levels: &[&str], levels_max: usize) -> Vec<String> {
    let mut all: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    let mut longest = all.clone();
    for _ in 1..levels_max {
        let longer = |text: &String| {
            levels
                .iter()
                .map(move |level| format!("{text}/{level}"))
                .collect::<Vec<_>>()
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.clone());
    }
    all
}

/// MQTT 5.0 section 4.7, read word by word.
fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([first, filter @ ..], [level, topic @ ..]) => {
            (*first == "+" || first == level) && matches(filter, topic)
        }
        _ => false,
    }
}

fn is_match(filter: &str, topic: &str) -> bool {
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    let (filter, topic): (Vec<_>, Vec<_>) =
        (filter.split('/').collect(), topic.split('/').collect());
    !hidden && matches(&filter, &topic)
}

#[test]
fn covering_and_overlapping_are_what_all_topics_together_say() {
    // `z` stands for all levels that no filter has, and topics are longer than filters.
    let topics = texts(&["a", "", "$x", "z"], 4);
    let mut filters = texts(&["a", "", "$x", "+"], 3);
    let open = texts(&["a", "$x", "+"], 2);
    filters.extend(open.iter().map(|filter| format!("{filter}/#")));
    filters.push("#".to_owned());
    let matched: Vec<Vec<bool>> = filters
        .iter()
        .map(|filter| topics.iter().map(|topic| is_match(filter, topic)).collect())
        .collect();
    let same = |a: &str, b: &str| a == b;
    for (rule, by_rule) in filters.iter().zip(&matched) {
        for (filter, by_filter) in filters.iter().zip(&matched) {
            let mut both = by_rule.iter().zip(by_filter);
            let all = both.clone().all(|(rule, filter)| *rule || !filter);
            let any = both.any(|(rule, filter)| *rule && *filter);
            assert_eq!(covers(rule, filter, same), all, "{rule} covers {filter}");
            assert_eq!(
                overlaps(rule, filter, same),
                any,
                "{rule} overlaps {filter}"
            );
        }
    }
    for topic in &topics {
        for filter in &filters {
            let expected = is_match(filter, topic);
            assert_eq!(covers(filter, topic, same), expected, "{filter} {topic}");
            assert_eq!(overlaps(filter, topic, same), expected, "{filter} {topic}");
        }
    }
}

const FILE: &str = "\
# For clients that are nobody.
topic read public/#
topic deny public/inner/#

user ann
topic sensors/#
topic deny sensors/secret
topic write log with blanks/x
\ttopic read $SYS/#

user bob
topic readwrite #
pattern read %u/in
pattern write by/%c-%u/100%
pattern deny no/%u
";

fn acl() -> Acl {
    Acl::parse("acl", FILE).expect("it is well")
}

#[test]
fn rules_are_for_whom_they_name() {
    let acl = acl();
    let nobody = None;
    for (user, client, want, expected) in [
        (nobody, "c", Want::Receive("public/a"), Some(2)),
        (nobody, "c", Want::Publish("public/a"), None),
        (nobody, "c", Want::Receive("public"), Some(2)),
        (Some("ann"), "c", Want::Receive("public/a"), None),
        (Some("ann"), "c", Want::Publish("sensors/a/b"), Some(6)),
        (Some("ann"), "c", Want::Receive("sensors"), Some(6)),
        (
            Some("ann"),
            "c",
            Want::Publish("log with blanks/x"),
            Some(8),
        ),
        (Some("ann"), "c", Want::Receive("log with blanks/x"), None),
        (
            Some("ann"),
            "c",
            Want::Receive("$SYS/broker/uptime"),
            Some(9),
        ),
        (Some("bob"), "c", Want::Publish("any/thing"), Some(12)),
        (Some("bob"), "c", Want::Receive("$SYS/broker/uptime"), None),
        (Some("carl"), "c", Want::Receive("carl/in"), Some(13)),
        (Some("carl"), "c", Want::Receive("ann/in"), None),
        (Some("carl"), "c", Want::Publish("carl/in"), None),
        (Some("carl"), "d", Want::Publish("by/d-carl/100%"), Some(14)),
        (Some("carl"), "d", Want::Publish("by/c-carl/100%"), None),
        (nobody, "d", Want::Publish("by/d-/100%"), None),
        // What belongs to the user comes first, as mosquitto has it.
        (Some("bob"), "c", Want::Publish("no/bob"), Some(12)),
    ] {
        let ruling = acl.decide(user, client, want);
        assert!(
            ruling.is_allowed() == expected.is_some(),
            "{user:?} {want:?}: {ruling}"
        );
        assert_eq!(ruling.line(), expected, "{user:?} {want:?}: {ruling}");
    }
    for (user, want, line) in [
        (nobody, Want::Receive("public/inner/a"), 3),
        (Some("ann"), Want::Publish("sensors/secret"), 7),
        (Some("ann"), Want::Publish("no/ann"), 15),
    ] {
        let ruling = acl.decide(user, "c", want);
        assert_eq!((ruling.is_allowed(), ruling.line()), (false, Some(line)));
    }
    let said = |user, want| acl.decide(user, "c", want).to_string();
    assert_eq!(
        said(Some("carl"), Want::Receive("carl/in")),
        "allowed by acl:13: pattern read %u/in"
    );
    assert_eq!(
        said(Some("ann"), Want::Publish("sensors/secret")),
        "denied by acl:7: topic deny sensors/secret"
    );
    assert_eq!(
        said(nobody, Want::Publish("x")),
        "denied: no rule of acl allows it"
    );
}

#[test]
fn a_subscription_needs_all_or_some_of_what_it_matches() {
    let acl = acl();
    for (user, filter, covered, overlapping) in [
        (Some("ann"), "sensors/a/+", true, true),
        (Some("ann"), "sensors/+/#", false, true),
        (Some("ann"), "sensors/secret", false, false),
        (Some("ann"), "#", false, true),
        (Some("ann"), "$SYS/#", true, true),
        (Some("ann"), "log with blanks/x", false, false),
        (Some("bob"), "#", true, true),
        (Some("bob"), "+/x/#", true, true),
        (Some("bob"), "$SYS/#", false, false),
        (Some("carl"), "+/in", false, true),
        (Some("carl"), "carl/in", true, true),
        (Some("carl"), "ann/in", false, false),
        (None, "public/#", false, true),
        (None, "public/inner/+", false, false),
        (None, "public/outer/+", true, true),
        (None, "carl/in", false, false),
    ] {
        for (mode, expected) in [
            (Subscribing::Covered, covered),
            (Subscribing::Overlapping, overlapping),
        ] {
            let ruling = acl.decide(user, "c", Want::Subscribe(filter, mode));
            assert_eq!(ruling.is_allowed(), expected, "{user:?} {filter}: {ruling}");
        }
    }
}

#[test]
fn names_do_not_reach_into_what_belongs_to_others() {
    let text = "pattern readwrite d/%c/#\npattern deny shut/%u\npattern read open/%u";
    let acl = Acl::parse("acl", text).expect("it is well");
    let may = |user: Option<&str>, client: &str, want: Want<'_>| {
        acl.decide(user, client, want).is_allowed()
    };
    assert!(may(None, "x", Want::Publish("d/x/y")));
    for client in ["x/y", "+", "#", "$x", ""] {
        let topic = format!("d/{client}/y");
        assert!(!may(None, client, Want::Publish(&topic)), "{topic}");
    }
    assert!(!may(
        None,
        "+",
        Want::Subscribe("d/+/y", Subscribing::Covered)
    ));
    assert!(may(Some("u"), "x", Want::Receive("open/u")));
    // Not even by a name for which no rule can be told.
    assert!(!may(Some("u/v"), "x", Want::Publish("d/x/y")));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("user\n", "acl:1:1: `user` needs a user name"),
        ("# x\n\n  topc read a\n", "acl:3:3: unknown word `topc`"),
        ("frobnicate", "a line begins with user, topic or pattern"),
        ("topic", "acl:1:6: there is no topic"),
        ("topic read", "acl:1:7: there is no topic"),
        ("topic raed a/b", "acl:1:7: unknown access `raed`"),
        ("topic read a/#/b", "acl:1:12: "),
        ("pattern a+", "acl:1:9: "),
        (
            "topic read d/%u",
            "acl:1:12: %u and %c stand for names only in a pattern",
        ),
    ] {
        let error = Acl::parse("acl", text)
            .map(|_| ())
            .expect_err(text)
            .to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let error = Acl::parse("acl", "topc read a")
        .map(|_| ())
        .expect_err("it is wrong");
    assert_eq!(
        error.to_string(),
        "acl:1:1: unknown word `topc`\n  1 | topc read a\n    | ^^^^ did you mean `topic`?"
    );
    let many = "x\n".repeat(30);
    let error = Acl::parse("acl", &many)
        .map(|_| ())
        .expect_err("it is wrong");
    assert!(error.to_string().ends_with("\n... and 10 more"));
    let empty = Acl::parse("acl", "\r\n# no rule\n").expect("it is well");
    assert_eq!(empty.len(), 0);
    assert!(!empty.decide(None, "c", Want::Receive("a")).is_allowed());
}
