//! What clients may do, by roles.

use std::fs;

use crate::support::TempDir;
use crate::{Broker, Peer, V5, V311, ask, login, run};

const ROLES: &str = "\
[[auth.role]]
name = \"operator\"
users = [\"ann\"]
allow = [\"plant/#\"]
deny = [\"write plant/secret\"]

[[auth.role]]
name = \"device\"
users = [\"*\"]
allow = [\"write dev/%u/%c/#\", \"read news/#\"]
";

fn broker(lines: &str) -> Broker {
    let home = TempDir::new();
    let batch = ["passwd", "batch", "users", "--hash", "scram-sha-256"];
    ask(&home, &batch, "ann:ann\nbob:bob\n");
    let acl = "topic read public/#\nuser ann\ntopic deny plant/off\ntopic write plant/secret\n";
    fs::write(home.join("acl"), acl).expect("it is writable");
    let lines =
        format!("[broker]\nallow_anonymous = true\n[auth]\npassword_file = \"users\"\n{lines}");
    Broker::start(home, &lines)
}

#[test]
fn users_may_do_what_their_roles_say() {
    let broker = broker(ROLES);
    for (version, heard, unheard, refused) in [(V5, 0, 0x87, 0x87), (V311, 0, 0, 0x80)] {
        let client = |id, user| Peer::connected(broker.address, version, &login(id, user, user));
        let mut ann = client("lamp", Some("ann"));
        assert_eq!(ann.publish("plant/a"), heard);
        assert_eq!(ann.publish("plant/secret"), unheard);
        assert_eq!(ann.publish("dev/ann/lamp/x"), heard);
        assert_eq!(ann.publish("dev/bob/lamp/x"), unheard);
        // What is denied is only to write it.
        assert_eq!(ann.subscribe("plant/#"), 0);
        let mut bob = client("door", Some("bob"));
        assert_eq!(bob.publish("dev/bob/door/x"), heard);
        assert_eq!(bob.subscribe("news/+"), 0);
        assert_eq!(bob.subscribe("plant/a"), refused);
        assert_eq!(client("guest", None).subscribe("news/+"), refused);
    }
}

#[test]
fn the_acl_comes_first_and_both_are_explained() {
    let broker = broker(&format!("acl_file = \"acl\"\n{ROLES}"));
    let mut ann = Peer::connected(broker.address, V5, &login("lamp", Some("ann"), Some("ann")));
    assert_eq!(ann.publish("plant/secret"), 0, "the ACL allows it");
    assert_eq!(ann.subscribe("plant/off"), 0x87);
    assert_eq!(ann.subscribe("plant/on"), 0);
    for (arguments, expected, code) in [
        (
            "ann lamp publish plant/secret",
            "allowed by acl:4: topic write plant/secret\n",
            0,
        ),
        (
            "ann lamp subscribe plant/#",
            "denied by acl:3: topic deny plant/off\n",
            1,
        ),
        (
            "bob door publish dev/bob/door/x",
            "allowed by role device: allow write dev/%u/%c/#\n",
            0,
        ),
        ("bob door publish plant/a", "denied: no rule allows it\n", 1),
    ] {
        let mut all = vec!["--config", "axmq.toml", "acl", "test"];
        all.extend(arguments.split(' '));
        let (out, err, found) = run(&broker.home, &all, "");
        assert_eq!(
            (out.as_str(), err.as_str(), found),
            (expected, "", Some(code))
        );
    }
}

#[test]
fn a_reload_of_roles_holds_at_once_for_who_is_connected() {
    let broker = broker(ROLES);
    let client = |id, user| Peer::connected(broker.address, V5, &login(id, user, user));
    let (mut ann, mut bob) = (client("lamp", Some("ann")), client("door", Some("bob")));
    let mut reader = client("reader", Some("ann"));
    assert_eq!(reader.subscribe("plant/#"), 0);
    assert_eq!(reader.subscribe("news/#"), 0);
    assert_eq!(ann.publish("plant/a"), 0);
    assert_eq!(reader.message(), "plant/a");
    assert_eq!(bob.publish("plant/b"), 0x87);
    let lines = fs::read_to_string(broker.home.join("axmq.toml")).expect("it is there");
    let moved = lines.replace("[\"ann\"]", "[\"bob\", \"carl\"]");
    let moved = moved.replace("\"plant/#\"", "\"plant/#\", \"news/#\"");
    fs::write(broker.home.join("axmq.toml"), moved).expect("it is writable");
    let out = ask(&broker.home, &["reload"], "");
    let expected = "auth.role \"operator\": 1 users, 2 rules -> 2 users, 3 rules\n";
    assert!(out.contains(expected), "{out}");
    assert_eq!(ann.publish("plant/a"), 0x87);
    // The subscription is there still; its deliveries are checked.
    assert_eq!(bob.publish("plant/b"), 0);
    assert_eq!(bob.publish("news/b"), 0);
    assert_eq!(reader.message(), "news/b");

    // The hook that asks is there or not from the start on.
    let none = lines.split("[[auth.role]]").next().expect("the rest");
    fs::write(broker.home.join("axmq.toml"), none).expect("it is writable");
    let out = ask(&broker.home, &["reload"], "");
    let expected = "auth.role \"device\": 1 users, 2 rules -> not there (needs a restart)\n";
    assert!(out.contains(expected), "{out}");
    assert_eq!(ann.publish("plant/a"), 0x87);
}
