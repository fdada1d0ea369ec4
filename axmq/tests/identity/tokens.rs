//! Tokens in place of passwords. Keys and tokens are of PyJWT 2.15.1; they hold until 2100.

use std::fs;

use crate::support::TempDir;
use crate::{Broker, Peer, V5, V311, ask, login, run};

/// A text of the file with keys and tokens.
fn text(pointer: &str) -> String {
    let all: serde_json::Value =
        serde_json::from_str(include_str!("tokens.json")).expect("it is JSON");
    let value = all.pointer(pointer).expect("it is there");
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A broker with all keys, a user bob whose password is his name, and these lines of `[auth]` and
/// the tables in it.
fn broker(lines: &str) -> Broker {
    let home = TempDir::new();
    let batch = ["passwd", "batch", "users", "--hash", "scram-sha-256"];
    ask(&home, &batch, "bob:bob\n");
    fs::write(home.join("keys"), text("/jwks")).expect("it is writable");
    fs::write(home.join("secret"), text("/secret") + "\n").expect("it is writable");
    Broker::start(home, &format!("[auth]\npassword_file = \"users\"\n{lines}"))
}

#[test]
fn who_has_a_token_comes_in_and_no_token_is_logged() {
    let broker = broker("[auth.jwt]\nkey_file = \"keys\"\n");
    let token = |name: &str| text(&format!("/tokens/{name}"));
    for algorithm in ["HS256", "RS256", "PS512", "ES256", "ES384", "EdDSA"] {
        let token = token(algorithm);
        let answer = |version, user| broker.login(version, user, Some(&token));
        assert_eq!(answer(V5, Some("ann")), 0, "{algorithm}");
        assert_eq!(answer(V311, Some("ann")), 0, "{algorithm}");
        assert_eq!(answer(V5, None), 0, "MQTT 5.0 has passwords without names");
        assert_eq!(answer(V311, Some("bob")), 4, "the token is ann's");
    }
    for wrong in ["/none", "/confused", "/expired"] {
        let token = text(wrong);
        assert_eq!(broker.login(V5, Some("ann"), Some(&token)), 0x86, "{wrong}");
        assert_eq!(broker.login(V311, Some("ann"), Some(&token)), 4, "{wrong}");
    }
    // What is no token is a password.
    assert_eq!(broker.login(V5, Some("bob"), Some("bob")), 0);
    assert_eq!(broker.login(V5, Some("ann"), Some("ann")), 0x86);
    let log = broker.end();
    assert!(
        log.contains("the token is for another username"),
        "it says why:\n{log}"
    );
    for part in token("HS256")
        .split('.')
        .chain(["bob:bob", &text("/secret")])
    {
        assert!(!log.contains(part), "no part of a token is logged:\n{log}");
    }
}

#[test]
fn a_token_brings_rights_and_roles() {
    let broker = broker(
        "[auth.jwt]\nkey_file = \"keys\"\n\
         [[auth.role]]\nname = \"operator\"\nallow = [\"plant/#\"]\ndeny = [\"dev/ann/x\"]\n",
    );
    let token = text("/tokens/ES256");
    let connect = login("lamp", Some("ann"), Some(&token));
    let mut ann = Peer::connected(broker.address, V5, &connect);
    assert_eq!(
        ann.publish("dev/ann/x"),
        0,
        "what the token says comes first"
    );
    assert_eq!(ann.publish("dev/bob/x"), 0x87);
    assert_eq!(ann.subscribe("news/#"), 0);
    assert_eq!(ann.subscribe("dev/#"), 0x87);
    assert_eq!(
        ann.publish("plant/a"),
        0,
        "by the role that the token names"
    );
    let mut bob = Peer::connected(broker.address, V5, &login("door", Some("bob"), Some("bob")));
    assert_eq!(bob.publish("plant/a"), 0x87);
}

#[test]
fn a_key_that_is_gone_takes_its_clients_along_where_that_is_wanted() {
    let lines = "disconnect_revoked = true\n[auth.jwt]\nkey_file = \"keys\"\n";
    let broker = broker(lines);
    let client = |id, algorithm: &str| {
        let token = text(&format!("/tokens/{algorithm}"));
        let connect = login(id, Some("ann"), Some(&token));
        Peer::connected(broker.address, V5, &connect)
    };
    let (mut by_rsa, mut by_ec) = (client("rsa", "RS256"), client("ec", "ES256"));
    let mut bob = Peer::connected(broker.address, V5, &login("b", Some("bob"), Some("bob")));
    fs::write(broker.home.join("keys"), text("/pem/p256")).expect("it is writable");
    let out = ask(&broker.home, &["reload"], "");
    let expected = "the content of the key files of auth.jwt: 5 keys -> 1 keys\n";
    assert!(out.contains(expected), "{out}");
    assert_eq!(by_rsa.disconnect(), 0x98);
    assert_eq!(by_ec.subscribe("news/a"), 0);
    let token = text("/tokens/RS256");
    assert_eq!(broker.login(V5, Some("ann"), Some(&token)), 0x86);

    // Another audience: none of the tokens that came in is looked at any more.
    let of_nobody = format!("[auth]\npassword_file = \"users\"\n{lines}audience = \"nobody\"\n");
    fs::write(broker.home.join("axmq.toml"), of_nobody).expect("it is writable");
    let out = ask(&broker.home, &["reload"], "");
    assert!(
        out.contains("auth.jwt.audience: not set -> \"nobody\"\n"),
        "{out}"
    );
    assert_eq!(by_ec.disconnect(), 0x98);
    assert_eq!(bob.subscribe("a"), 0, "he came by a password");
}

#[test]
fn keys_that_cannot_be_trusted_end_the_start() {
    let home = TempDir::new();
    let case = |lines: &str, file: &str, content: &str, expected: &str| {
        fs::write(home.join(file), content).expect("it is writable");
        fs::write(home.join("axmq.toml"), lines).expect("it is writable");
        let check = ["--config", "axmq.toml", "config", "check"];
        let (_, err, code) = run(&home, &check, "");
        assert_eq!(code, Some(3), "{lines}: {err}");
        assert!(err.contains(expected), "{lines}: {err}");
        assert!(!err.contains("hunter2"), "{err}");
    };
    let key_file = "[auth.jwt]\nkey_file = \"keys\"\n";
    case(
        key_file,
        "keys",
        "hunter2",
        "keys: there is no key in this file",
    );
    let private = text("/pem/private");
    case(
        key_file,
        "keys",
        &private,
        "keys: a private key has no place here",
    );
    let secret_file = "[auth.jwt]\nsecret_file = \"secret\"\n";
    case(
        secret_file,
        "secret",
        "hunter2\n",
        "secret: the secret has 7 bytes",
    );
    let chain = "[auth]\nchain = [\"jwt\"]\n";
    case(
        chain,
        "unused",
        "",
        "axmq.toml:2:9: `jwt` in `auth.chain` needs `auth.jwt.key_file`",
    );
    let misspelt = "[auth.jwt]\nkey_fiel = \"keys\"\n";
    case(
        misspelt,
        "unused",
        "",
        "unknown key `key_fiel` in [auth.jwt]",
    );
    case("[auth.jtw]\n", "unused", "", "did you mean `jwt`?");
}
