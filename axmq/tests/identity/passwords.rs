//! Users and passwords.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use mqtt_codec::encode::{Auth, Connect, ConnectProperties};
use mqtt_codec::{Packet, ReasonCode};
use sha2::{Digest, Sha256};

use crate::support::TempDir;
use crate::{Broker, Peer, V5, V311, ask, login, run};

/// Users of mosquitto, of htpasswd and of PostgreSQL; the password of each is "correct horse".
const OLD_FILE: &str = "\
# From three other programs.
seven:$7$101$MDEyMzQ1Njc4OWFi$bGJdXfn6P9jmSY0ZCpIaCSkQ1XayfQBMBwplxxuT8e+N6cR6JaUl22kyOezT4vgFZz\
RNUODVbwJMCRIfFS1o8A==
six:$6$MDEyMzQ1Njc4OWFi$vMblpzgCS5oj2lUbBcEO+PGDOv2Ychcm2aCJlOM/97en/aLeFXM5JAedC3UgjydjvghOxFal\
EDxmI0OHi3Vlsg==
web:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e
scram:SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFi$F8Lt03VyXfb1S0ByW9Yy9T+P+txr5a0jVYh4uuKi6Q0=:pvBficul/\
qQvtflSqIMUEcrSMJC1ecc0eAo7bkZVN9E=
";
const PASSWORD: &str = "correct horse";

#[test]
fn users_come_in_by_their_passwords_and_nobody_else_does() {
    let home = TempDir::new();
    let out = ask(&home, &["passwd", "add", "users", "ann"], "s3cret words\n");
    assert_eq!(out, "users: set the password of ann\n");
    let file = home.join("users");
    let mode = fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let broker = Broker::start(home, "[auth]\npassword_file = \"users\"\n");
    for (user, password, v5, v311) in [
        (Some("ann"), Some("s3cret words"), 0, 0),
        (Some("ann"), Some("s3cret word"), 0x86, 4),
        (Some("ann"), Some(""), 0x86, 4),
        (Some("ann"), None, 0x86, 4),
        (Some("bob"), Some("s3cret words"), 0x86, 4),
        (Some(""), Some("s3cret words"), 0x86, 4),
        (None, None, 0x87, 5),
    ] {
        assert_eq!(
            broker.login(V5, user, password),
            v5,
            "{user:?} {password:?}"
        );
        assert_eq!(
            broker.login(V311, user, password),
            v311,
            "{user:?} {password:?}"
        );
    }
    // Only 5.0 has a password without a user name.
    assert_eq!(broker.login(V5, None, Some("s3cret words")), 0x86);
    let log = broker.end();
    assert!(
        log.contains("ann") || log.contains("client"),
        "it says who came:\n{log}"
    );
    assert!(!log.contains("s3cret"), "no password is logged:\n{log}");
}

#[test]
fn files_of_other_programs_are_read_and_anonymous_clients_come_in_where_they_may() {
    let home = TempDir::new();
    fs::write(home.join("users"), OLD_FILE).expect("it is writable");
    let lines = "[auth]\npassword_file = \"users\"\n[broker]\nallow_anonymous = true\n";
    let broker = Broker::start(home, lines);
    for user in ["seven", "six", "web", "scram"] {
        assert_eq!(broker.login(V311, Some(user), Some(PASSWORD)), 0, "{user}");
        assert_eq!(broker.login(V311, Some(user), Some("wrong")), 4, "{user}");
    }
    assert_eq!(broker.login(V311, None, None), 0);
    // Who says a name has to show that it is theirs.
    assert_eq!(broker.login(V311, Some("six"), None), 4);
    assert_eq!(broker.login(V311, Some("stranger"), None), 4);
    let log = broker.end();
    assert!(log.contains("auth.file_open"), "others may read it:\n{log}");
}

#[test]
fn a_password_file_lets_other_machines_in() {
    let home = TempDir::new();
    ask(&home, &["passwd", "create", "users"], "");
    let lines = "[auth]\npassword_file = \"users\"\n[[listener]]\naddress = \"0.0.0.0:0\"\n";
    fs::write(home.join("axmq.toml"), lines).expect("it is writable");
    let out = ask(&home, &["config", "check", "--config", "axmq.toml"], "");
    assert_eq!(out, "axmq.toml is accepted\n");
    let out = ask(&home, &["config", "show", "--config", "axmq.toml"], "");
    assert!(out.contains("[auth]\npassword_file = \"users\" "), "{out}");
    assert!(out.contains("\nscram = false "), "{out}");
}

#[test]
fn a_reload_takes_the_file_over_or_nothing() {
    let home = TempDir::new();
    ask(
        &home,
        &["passwd", "batch", "users", "--hash", "pbkdf2-sha512"],
        "ann:one\nbob:two:2\n\n",
    );
    let broker = Broker::start(home, "[auth]\npassword_file = \"users\"\n");
    let home = &broker.home;
    assert_eq!(broker.login(V5, Some("bob"), Some("two:2")), 0);
    let (out, err, code) = run(home, &["passwd", "delete", "users", "carl"], "");
    let expected = ("", "axmq: users has no user carl\n", Some(1));
    assert_eq!((out.as_str(), err.as_str(), code), expected);
    ask(home, &["passwd", "delete", "users", "bob"], "");
    let scram = ["passwd", "add", "users", "carl", "--hash", "scram-sha-256"];
    ask(home, &scram, "three\n");
    ask(home, &["passwd", "add", "users", "dora"], "four\n");
    ask(home, &["passwd", "check", "users", "carl"], "three\n");
    let (_, err, code) = run(home, &["passwd", "check", "users", "bob"], "two:2\n");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no such user, or the password is wrong"),
        "{err}"
    );
    assert_eq!(
        broker.login(V5, Some("carl"), Some("three")),
        0x86,
        "not yet"
    );

    let out = ask(home, &["reload"], "");
    assert!(
        out.contains("the content of auth.password_file: 2 users -> 3 users\n"),
        "{out}"
    );
    assert_eq!(broker.login(V5, Some("carl"), Some("three")), 0);
    assert_eq!(broker.login(V5, Some("bob"), Some("two:2")), 0x86);

    fs::write(home.join("users"), "ann:$1$old$hash\n").expect("it is writable");
    let (_, err, code) = run(home, &["reload"], "");
    assert_eq!(code, Some(1));
    assert!(err.contains("users:1: unknown hash `$1$`"), "{err}");
    assert_eq!(
        broker.login(V5, Some("carl"), Some("three")),
        0,
        "nothing has changed"
    );

    // What is built in at the start is not taken out while it runs.
    ask(home, &["passwd", "add", "users", "ann"], "five\n");
    fs::write(home.join("axmq.toml"), "").expect("it is writable");
    let out = ask(home, &["reload"], "");
    let expected = "auth.password_file: \"users\" -> not set (needs a restart)\n";
    assert!(out.contains(expected), "{out}");
    assert_eq!(broker.login(V5, None, None), 0x87);
}

#[test]
fn a_file_that_cannot_be_trusted_ends_the_start() {
    for (content, mode, expected) in [
        ("", 0o602, "chmod o-w users"),
        (
            "ann:hunter2\n",
            0o600,
            "users:1: this is not the hash of a password",
        ),
        (
            "ann:$9$x\n",
            0o600,
            "users:1: unknown hash `$9$`; known: argon2id",
        ),
    ] {
        let home = TempDir::new();
        fs::write(home.join("users"), content).expect("it is writable");
        fs::set_permissions(home.join("users"), Permissions::from_mode(mode)).expect("ours");
        let lines = "[auth]\npassword_file = \"users\"\n";
        fs::write(home.join("axmq.toml"), lines).expect("it is writable");
        for arguments in [
            &["--config", "axmq.toml"][..],
            &["config", "check", "--config", "axmq.toml"],
        ] {
            let (out, err, code) = run(&home, arguments, "");
            let check = arguments.len() > 2;
            assert_eq!(
                (out.as_str(), code),
                ("", Some(if check { 3 } else { 1 })),
                "{err}"
            );
            assert!(err.contains(expected), "{err}");
            assert!(!err.contains("hunter2"), "{err}");
        }
    }
    let home = TempDir::new();
    fs::write(home.join("axmq.toml"), "[auth]\nscram = true\n").expect("it is writable");
    let (_, err, code) = run(&home, &["config", "check", "--config", "axmq.toml"], "");
    assert_eq!(code, Some(3));
    assert!(
        err.contains("axmq.toml:2:9: `auth.scram` needs `auth.password_file`"),
        "{err}"
    );
}

#[test]
fn a_reload_ends_the_connections_of_users_that_are_gone_where_that_is_wanted() {
    for wanted in [true, false] {
        let home = TempDir::new();
        let batch = ["passwd", "batch", "users", "--hash", "scram-sha-256"];
        ask(&home, &batch, "ann:one\nbob:two\ncarl:three\n");
        let lines = format!(
            "[broker]\nallow_anonymous = true\n\
             [auth]\npassword_file = \"users\"\ndisconnect_revoked = {wanted}\n"
        );
        let broker = Broker::start(home, &lines);
        let connect = |id, user, password| {
            let connect = login(id, user, password);
            Peer::connected(broker.address, V5, &connect)
        };
        let mut ann = connect("a", Some("ann"), Some("one"));
        let mut bob = connect("b", Some("bob"), Some("two"));
        let mut carl = connect("c", Some("carl"), Some("three"));
        let mut nobody = connect("n", None, None);
        let out = ask(&broker.home, &["clients", "show", "b"], "");
        assert!(out.contains("\nuser            bob\n"), "{out}");

        ask(&broker.home, &["passwd", "delete", "users", "ann"], "");
        ask(&broker.home, &["passwd", "batch", "users"], "bob:other\n");
        ask(&broker.home, &["reload"], "");
        for peer in [&mut ann, &mut bob] {
            if wanted {
                let code = peer.read(|packet| match packet {
                    Packet::Disconnect(packet) => packet.reason() as u8,
                    other => panic!("{other:?}"),
                });
                assert_eq!(code, Some(0x98));
                assert_eq!(peer.read(|_| ()), None, "and the connection ends");
            } else {
                assert_eq!(peer.subscribe("a"), 0);
            }
        }
        assert_eq!(carl.subscribe("a"), 0);
        assert_eq!(nobody.subscribe("a"), 0);
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The code of the CONNACK at the end of an exchange of SCRAM-SHA-256.
fn scram(broker: &Broker, user: &str, password: &str) -> u8 {
    let mut peer = Peer::open(broker.address, V5);
    let bare = format!("n={user},r=client");
    let first = format!("n,,{bare}");
    let connect = Connect {
        client_id: "scram",
        clean_start: true,
        properties: ConnectProperties {
            authentication_method: Some("SCRAM-SHA-256"),
            authentication_data: Some(first.as_bytes()),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    };
    peer.send(&connect.encode_to_vec(V5));
    let challenge = peer.read(|packet| match packet {
        Packet::Auth(auth) => Ok(auth.authentication_data().unwrap_or_default().to_vec()),
        Packet::ConnAck(ack) => Err(ack.reason() as u8),
        other => panic!("{other:?}"),
    });
    let challenge = match challenge.expect("it answers") {
        Ok(challenge) => String::from_utf8(challenge).expect("it is text"),
        Err(code) => return code,
    };
    let mut fields = challenge.split(',').filter_map(|field| field.get(2..));
    let mut next = || fields.next().expect("nonce, salt and iterations");
    let (nonce, salt, iterations) = (next(), next(), next());
    let salt = BASE64.decode(salt).expect("base64");
    let iterations = iterations.parse().expect("a number");
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
    let last = format!("c=biws,r={nonce}");
    let client_key = hmac(&salted, "Client Key");
    let stored_key = Sha256::digest(&client_key);
    let signature = hmac(&stored_key, &format!("{bare},{challenge},{last}"));
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let last = format!("{last},p={}", BASE64.encode(proof));
    let answer = Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication_method: Some("SCRAM-SHA-256"),
        authentication_data: Some(last.as_bytes()),
        ..Auth::default()
    };
    peer.send(&answer.encode_to_vec(V5));
    peer.connack()
}

#[test]
fn users_with_a_secret_log_in_by_scram() {
    let home = TempDir::new();
    fs::write(home.join("users"), OLD_FILE).expect("it is writable");
    let broker = Broker::start(home, "[auth]\npassword_file = \"users\"\nscram = true\n");
    assert_eq!(scram(&broker, "scram", PASSWORD), 0);
    assert_eq!(scram(&broker, "scram", "wrong"), 0x87);
    assert_eq!(
        scram(&broker, "seven", PASSWORD),
        0x87,
        "its hash is of another kind"
    );
    assert_eq!(scram(&broker, "nobody", PASSWORD), 0x87);
    assert_eq!(broker.login(V311, Some("scram"), Some(PASSWORD)), 0);

    let home = TempDir::new();
    fs::write(home.join("users"), OLD_FILE).expect("it is writable");
    let broker = Broker::start(home, "[auth]\npassword_file = \"users\"\n");
    assert_eq!(
        scram(&broker, "scram", PASSWORD),
        0x8C,
        "it is off by default"
    );
}
