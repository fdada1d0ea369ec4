//! What clients may do, by an ACL.

use std::fs;

use mqtt_codec::QoS;
use mqtt_codec::encode::{Connect, Will, WillProperties};

use crate::support::TempDir;
use crate::{Broker, Peer, V5, V311, ask, login, run};

const ACL: &str = "\
topic read public/#
user ann
topic readwrite sensors/#
topic deny sensors/secret
user bob
topic read #
pattern readwrite devices/%u/%c/#
";

/// A broker with ann and bob, whose passwords are their names, with this ACL, and anybody else.
fn broker(acl: &str, more: &str) -> Broker {
    let home = TempDir::new();
    let batch = ["passwd", "batch", "users", "--hash", "scram-sha-256"];
    ask(&home, &batch, "ann:ann\nbob:bob\n");
    fs::write(home.join("acl"), acl).expect("it is writable");
    let lines = format!(
        "[broker]\nallow_anonymous = true\n\
         [auth]\npassword_file = \"users\"\nacl_file = \"acl\"\n{more}"
    );
    Broker::start(home, &lines)
}

impl Broker {
    /// A client of this user, who is also its password.
    fn client(&self, version: mqtt_codec::Version, id: &str, user: Option<&str>) -> Peer {
        Peer::connected(self.address, version, &login(id, user, user))
    }
}

#[test]
fn publishes_and_subscriptions_are_refused_as_each_version_has_it() {
    let broker = broker(ACL, "");
    let mut observer = broker.client(V5, "observer", Some("bob"));
    assert_eq!(observer.subscribe("sensors/+"), 0);
    assert_eq!(observer.subscribe("devices/#"), 0);
    for (version, refused, unheard) in [(V5, 0x87, 0x87), (V311, 0x80, 0)] {
        let mut ann = broker.client(version, "lamp", Some("ann"));
        // What is refused is not delivered: the next message would show it.
        assert_eq!(ann.publish("sensors/secret"), unheard);
        assert_eq!(ann.publish("devices/ann/door/x"), unheard);
        assert_eq!(ann.publish("elsewhere"), unheard);
        // 0x10: nobody subscribes to it.
        assert_ne!(ann.publish("sensors/a"), 0x87);
        assert_eq!(observer.message(), "sensors/a");
        assert_ne!(ann.publish("devices/ann/lamp/x"), 0x87);
        assert_eq!(observer.message(), "devices/ann/lamp/x");

        assert_eq!(ann.subscribe("sensors/a/+"), 0);
        assert_eq!(ann.subscribe("devices/ann/lamp/#"), 0);
        for filter in [
            "#",
            "sensors/+",
            "sensors/secret",
            "devices/#",
            "public/x",
            "$SYS/#",
        ] {
            assert_eq!(ann.subscribe(filter), refused, "{filter}");
        }
        assert_eq!(ann.subscribe("$share/group/sensors/+"), refused);
        assert_eq!(ann.subscribe("$share/group/sensors/a/+"), 0);

        let mut nobody = broker.client(version, "guest", None);
        assert_eq!(nobody.subscribe("public/#"), 0);
        assert_eq!(nobody.subscribe("sensors/a"), refused);
        assert_eq!(nobody.publish("public/x"), unheard);
    }
}

#[test]
fn a_will_that_may_not_be_published_refuses_its_client() {
    let broker = broker(ACL, "");
    let answer = |version, topic| {
        let will = Will {
            topic,
            payload: b"gone",
            qos: QoS::AtMostOnce,
            retain: false,
            properties: WillProperties::default(),
        };
        let connect = Connect {
            will: Some(will),
            ..login("lamp", Some("ann"), Some("ann"))
        };
        broker.answer(version, &connect)
    };
    assert_eq!(answer(V5, "sensors/secret"), 0x87);
    assert_eq!(answer(V311, "sensors/secret"), 5);
    assert_eq!(answer(V5, "sensors/a"), 0);
    assert_eq!(answer(V311, "sensors/a"), 0);
}

#[test]
fn each_delivery_is_checked_and_a_reload_holds_at_once() {
    let broker = broker(ACL, "");
    let mut ann = broker.client(V5, "reader", Some("ann"));
    assert_eq!(ann.subscribe("sensors/a"), 0);
    assert_eq!(ann.subscribe("sensors/b"), 0);
    let mut writer = broker.client(V5, "writer", Some("ann"));
    assert_eq!(writer.publish("sensors/a"), 0);
    assert_eq!(ann.message(), "sensors/a");

    let acl = ACL.replace("deny sensors/secret", "deny sensors/a");
    fs::write(broker.home.join("acl"), &acl).expect("it is writable");
    assert_eq!(writer.publish("sensors/a"), 0, "not yet");
    assert_eq!(ann.message(), "sensors/a");
    let out = ask(&broker.home, &["reload"], "");
    assert!(
        out.contains("the content of auth.acl_file: 5 rules -> 5 rules\n"),
        "{out}"
    );
    assert_eq!(writer.publish("sensors/a"), 0x87);

    let acl = acl.replace(
        "readwrite sensors/#",
        "write sensors/#\ntopic read sensors/b",
    );
    let acl = acl.replace("topic deny sensors/a\n", "");
    fs::write(broker.home.join("acl"), &acl).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    assert_eq!(writer.publish("sensors/a"), 0, "there is a subscription");
    assert_eq!(writer.publish("sensors/b"), 0);
    assert_eq!(
        ann.message(),
        "sensors/b",
        "the one before was not delivered"
    );

    fs::write(broker.home.join("acl"), "topic raed x\n").expect("it is writable");
    let (_, err, code) = run(&broker.home, &["reload"], "");
    assert_eq!(code, Some(1));
    assert!(err.contains("acl:1:7: unknown access `raed`"), "{err}");
    assert_eq!(writer.publish("sensors/b"), 0, "nothing has changed");
}

#[test]
fn as_mosquitto_has_it_a_subscription_may_match_more_than_its_client_may_read() {
    let broker = broker(ACL, "acl_subscribe = \"overlapping\"\n");
    let mut ann = broker.client(V311, "lamp", Some("ann"));
    assert_eq!(ann.subscribe("#"), 0);
    assert_eq!(ann.subscribe("sensors/secret"), 0x80);
    assert_eq!(ann.subscribe("public/#"), 0x80);
    let mut bob = broker.client(V311, "lamp2", Some("bob"));
    bob.publish("devices/bob/lamp2/x");
    let mut other = broker.client(V311, "other", Some("ann"));
    other.publish("devices/ann/other/x");
    other.publish("sensors/b");
    assert_eq!(ann.message(), "sensors/b", "and nothing of the others");
}

#[test]
fn a_decision_can_be_asked_for() {
    let home = TempDir::new();
    fs::write(home.join("acl"), ACL).expect("it is writable");
    let lines = "[auth]\nacl_file = \"acl\"\n";
    fs::write(home.join("axmq.toml"), lines).expect("it is writable");
    for (arguments, expected, code) in [
        (
            "ann lamp publish sensors/a",
            "allowed by acl:3: topic readwrite sensors/#\n",
            0,
        ),
        (
            "ann lamp publish sensors/secret",
            "denied by acl:4: topic deny sensors/secret\n",
            1,
        ),
        (
            "ann lamp subscribe sensors/#",
            "denied by acl:4: topic deny sensors/secret\n",
            1,
        ),
        (
            "- lamp receive public/x",
            "allowed by acl:1: topic read public/#\n",
            0,
        ),
        ("- lamp publish x", "denied: no rule of acl allows it\n", 1),
        (
            "carl lamp publish devices/carl/lamp/x",
            "allowed by acl:7: pattern readwrite devices/%u/%c/#\n",
            0,
        ),
    ] {
        let mut all = vec!["--config", "axmq.toml", "acl", "test"];
        all.extend(arguments.split(' '));
        let (out, err, found) = run(&home, &all, "");
        assert_eq!(
            (out.as_str(), err.as_str(), found),
            (expected, "", Some(code))
        );
    }
    let (_, err, code) = run(&home, &["acl", "test", "a", "b", "publish", "c"], "");
    assert_eq!(code, Some(3));
    assert!(err.contains("the configuration has no rules"), "{err}");

    fs::write(home.join("acl"), "user ann\n topc read x\n").expect("it is writable");
    for arguments in [
        &["--config", "axmq.toml", "--listen", "127.0.0.1:0"][..],
        &["--config", "axmq.toml", "config", "check"],
    ] {
        let (out, err, code) = run(&home, arguments, "");
        assert_eq!(out, "");
        assert_ne!(code, Some(0));
        let expected = "acl:2:2: unknown word `topc`\n  2 |  topc read x\n    |  ^^^^ did you mean";
        assert!(err.contains(expected), "{err}");
    }
    let lines =
        "[auth]\nacl_file = \"acl\"\nacl_subscribe = \"overlapping\"\nacl_deliveries = false\n";
    fs::write(home.join("axmq.toml"), lines).expect("it is writable");
    let (_, err, code) = run(&home, &["--config", "axmq.toml", "config", "check"], "");
    assert_eq!(code, Some(3));
    assert!(
        err.contains("axmq.toml:4:18: `auth.acl_subscribe = \"overlapping\"` needs"),
        "{err}"
    );
}
