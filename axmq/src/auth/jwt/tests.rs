//! Tokens and keys that another program has made: PyJWT 2.15.1.

use mqtt_codec::Version;
use pollio::PeerAddr;
use serde_json::Value;

use super::*;
use crate::auth::acl::{Rules, Want, Who};

struct Vectors(Value);

impl Vectors {
    fn read() -> Self {
        let text = include_str!("../../../tests/identity/tokens.json");
        Self(serde_json::from_str(text).expect("it is JSON"))
    }

    fn text(&self, pointer: &str) -> &str {
        let value = self.0.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("{pointer} is there"))
    }

    fn token(&self, algorithm: &str) -> &str {
        self.text(&format!("/tokens/{algorithm}"))
    }

    fn jwks(&self) -> Keys {
        let set = self.0.pointer("/jwks").expect("it is there").to_string();
        Keys::parse("keys", &set).expect("they are keys")
    }

    fn pem(&self, name: &str) -> Result<Keys, FileError> {
        Keys::parse("keys", self.text(&format!("/pem/{name}")))
    }

    fn secret(&self) -> Keys {
        Keys::from_secret("secret", self.text("/secret").as_bytes()).expect("it is a secret")
    }
}

const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];
/// The times in the tokens.
const BEGINS_S: u64 = 1_000_000_000;
const ENDS_S: u64 = 4_102_444_800;

#[test]
fn each_key_takes_tokens_of_its_algorithms_and_of_no_others() {
    let vectors = Vectors::read();
    let all = vectors.jwks();
    assert_eq!(all.len(), 5, "the others are of no use here");
    for (keys, good_for) in [
        (vectors.secret(), &ALGORITHMS[..3]),
        (vectors.pem("rsa").expect("a key"), &ALGORITHMS[3..9]),
        (vectors.pem("rsa_pkcs1").expect("a key"), &ALGORITHMS[3..9]),
        (vectors.pem("p256").expect("a key"), &ALGORITHMS[9..10]),
        (vectors.pem("p384").expect("a key"), &ALGORITHMS[10..11]),
        (vectors.pem("ed").expect("a key"), &ALGORITHMS[11..]),
    ] {
        for algorithm in ALGORITHMS {
            let token = vectors.token(algorithm).as_bytes();
            let expected = if good_for.contains(&algorithm) {
                Ok(())
            } else {
                Err(TokenError::NoKey)
            };
            assert_eq!(keys.verify(token).map(drop), expected, "{algorithm}");
            assert_eq!(all.verify(token).map(drop), Ok(()), "{algorithm}");
        }
    }
}

#[test]
fn a_token_with_any_bit_changed_is_refused() {
    let vectors = Vectors::read();
    let keys = vectors.jwks();
    for algorithm in ["HS256", "RS256", "ES256", "EdDSA"] {
        let token = vectors.token(algorithm).as_bytes();
        for at in 0..token.len() {
            let mut changed = token.to_vec();
            // The last letter of a part has bits that do not count; a decoder that passed over
            // them would let through a second spelling of the token.
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(keys.verify(&changed).is_err(), "{algorithm} at {at}");
            assert!(keys.verify(&token[..at]).is_err(), "{algorithm} to {at}");
        }
    }
}

#[test]
fn no_algorithm_a_public_key_as_secret_and_what_is_critical_are_refused() {
    let vectors = Vectors::read();
    for keys in [
        vectors.jwks(),
        vectors.pem("rsa").expect("a key"),
        vectors.secret(),
    ] {
        let none = vectors.text("/none").as_bytes();
        assert_eq!(keys.verify(none), Err(TokenError::Algorithm));
        let confused = vectors.text("/confused").as_bytes();
        assert!(keys.verify(confused).is_err());
    }
    let encode = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    for (header, expected) in [
        (
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            TokenError::Critical,
        ),
        (r#"{"alg":"None"}"#, TokenError::Algorithm),
        (r#"{"alg":5}"#, TokenError::Form),
        (r#"{"kid":"rsa"}"#, TokenError::Form),
        ("x", TokenError::Form),
        (r#"{"alg":"HS256","kid":"rsa"}"#, TokenError::NoKey),
        // Of two keys of this name none is for the algorithm of the other.
        (r#"{"alg":"ES384","kid":"p256"}"#, TokenError::NoKey),
    ] {
        let token = format!("{}.{}.AAAA", encode(header), encode("{}"));
        let found = vectors.jwks().verify(token.as_bytes());
        assert_eq!(found, Err(expected), "{header}");
    }
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "correct horse",
        "\u{fffd}.a.b",
    ] {
        assert_eq!(
            vectors.secret().verify(text.as_bytes()),
            Err(TokenError::Form)
        );
    }
    let long = "a".repeat(token::TOKEN_BYTES_MAX + 1);
    assert_eq!(
        vectors.secret().verify(long.as_bytes()),
        Err(TokenError::Form)
    );
}

#[test]
fn files_of_keys_that_are_wrong_say_why_and_not_what_is_in_them() {
    let vectors = Vectors::read();
    for (text, expected) in [
        ("", "keys: there is no key in this file"),
        ("{\"keys\":[]}", "keys: there is no key in this file"),
        (
            "{\n \"keys\": [\"s3cret\"]}",
            "keys: line 2, column 18: this is not a JSON Web Key Set",
        ),
        (
            "{\"keys\":[{\"kty\":\"oct\"}]}",
            "keys: key 1: it has no `k`",
        ),
        (
            "{\"keys\":[{\"kty\":\"oct\",\"k\":\"czNjcmV0\"}]}",
            "keys: key 1: the secret has 6 bytes; below 32",
        ),
        (
            "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}",
            "keys: key 1: `x` and `y` must have 32 bytes",
        ),
        (
            "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"s3cret!\"}]}",
            "keys: key 1: `x` is not base64url",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "keys: BEGIN PUBLIC KEY: this is none of RSA, P-256, P-384 and Ed25519",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\ns3cret!\n-----END PUBLIC KEY-----\n",
            "keys: what stands below BEGIN PUBLIC KEY is not base64",
        ),
        (
            vectors.text("/pem/private"),
            "keys: a private key has no place here",
        ),
        (
            vectors.text("/pem/small"),
            "keys: an RSA key of about 1024 bits",
        ),
    ] {
        let error = Keys::parse("keys", text).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let error = |secret: &[u8]| {
        Keys::from_secret("s", secret)
            .expect_err("wrong")
            .to_string()
    };
    assert!(error(b"short").starts_with("s: the secret has 5 bytes"));
    let pem = vectors.text("/pem/rsa").as_bytes();
    assert!(error(pem).starts_with("s: this is a key in PEM"));
}

fn request(user: Option<&str>, client: &str, password: &str) -> ConnectRequest {
    ConnectRequest {
        certified_user: None,
        client_id: client.into(),
        username: user.map(Into::into),
        password: Some(Zeroizing::new(password.as_bytes().into())),
        peer: PeerAddr::UNIX,
        version: Version::V5,
    }
}

/// Who is let in at this time, or why not.
fn decide(jwt: &Jwt, request: &ConnectRequest, now_s: u64) -> Result<Option<Grant>, String> {
    match jwt.decide_at(request, now_s) {
        Opinion::Grant(grant) => Ok(Some(grant)),
        Opinion::Pass => Ok(None),
        Opinion::Refuse(denied) => {
            assert_eq!(
                denied.reason(),
                mqtt_codec::ReasonCode::BadUserNameOrPassword
            );
            Err(denied.to_string())
        }
    }
}

#[test]
fn the_claims_decide_who_it_is_for_how_long_and_what_it_may() {
    let vectors = Vectors::read();
    let token = vectors.token("ES256");
    let jwt = |change: fn(&mut JwtSettings)| {
        let mut settings = JwtSettings::default();
        change(&mut settings);
        Jwt::new(&settings, Vectors::read().jwks(), true)
    };
    let plain = jwt(|_| ());
    let ann = request(Some("ann"), "lamp", token);
    let grant = decide(&plain, &ann, ENDS_S - 10).expect("it holds");
    let grant = grant.expect("it is a token");
    assert_eq!(grant.identity(), Some("ann"));
    assert_eq!(grant.lasts_ms(), Some(40_000), "with the leeway");
    let login = grant.login().expect("by `[auth]`");
    assert_eq!(login.roles, ["operator".into()]);
    let rules = login.rules.as_ref().expect("it brings some");
    let who = Who {
        user: Some("ann"),
        client: "lamp",
    };
    let may = |want| Rules::rule_on([rules].into_iter(), who, want).is_some();
    assert!(may(Want::Publish("dev/ann/x")) && may(Want::Receive("news/x")));
    assert!(!may(Want::Publish("news/x")));

    let check = |change, request: &ConnectRequest, now_s, expected: Result<bool, &str>| {
        let found = decide(&jwt(change), request, now_s);
        let found = found.map(|grant| grant.is_some());
        assert_eq!(found, expected.map_err(str::to_owned));
    };
    let now_s = BEGINS_S + 5;
    check(|_| (), &ann, BEGINS_S - 30, Ok(true));
    check(
        |_| (),
        &ann,
        BEGINS_S - 31,
        Err("the token is not valid yet"),
    );
    check(|_| (), &ann, ENDS_S + 29, Ok(true));
    check(|_| (), &ann, ENDS_S + 30, Err("the token has expired"));
    check(
        |it| it.leeway_s = 0,
        &ann,
        ENDS_S,
        Err("the token has expired"),
    );
    let issuer = |it: &mut JwtSettings| it.issuer = Some("https://issuer.example".into());
    check(issuer, &ann, now_s, Ok(true));
    let issuer = |it: &mut JwtSettings| it.issuer = Some("https://issuer.example/".into());
    check(issuer, &ann, now_s, Err("the token is from another issuer"));
    let audience = |it: &mut JwtSettings| it.audience = Some("mqtt".into());
    check(audience, &ann, now_s, Ok(true));
    let audience = |it: &mut JwtSettings| it.audience = Some("mqtts".into());
    check(
        audience,
        &ann,
        now_s,
        Err("the token is for another audience"),
    );
    let claim = |it: &mut JwtSettings| it.user_claim = "email".into();
    check(claim, &ann, now_s, Err("the token names no user"));

    let bob = request(Some("bob"), "ann", token);
    check(
        |_| (),
        &bob,
        now_s,
        Err("the token is for another username"),
    );
    check(
        |it| it.must_match = TokenBearer::ClientId,
        &bob,
        now_s,
        Ok(true),
    );
    check(
        |it| it.must_match = TokenBearer::Nothing,
        &bob,
        now_s,
        Ok(true),
    );
    let other = "the token is for another client-id";
    check(
        |it| it.must_match = TokenBearer::ClientId,
        &ann,
        now_s,
        Err(other),
    );
    check(|_| (), &request(None, "lamp", token), now_s, Ok(true));
    let as_user = request(Some(token), "lamp", "");
    check(
        |it| it.from = TokenPlace::Username,
        &as_user,
        now_s,
        Ok(true),
    );
    check(|it| it.from = TokenPlace::Username, &ann, now_s, Ok(false));
    check(
        |_| (),
        &request(Some("ann"), "lamp", "a password"),
        now_s,
        Ok(false),
    );
    check(
        |_| (),
        &request(Some("ann"), "lamp", "a.b.c"),
        now_s,
        Ok(false),
    );
}

#[test]
fn claims_that_make_no_sense_are_refused() {
    let jwt = Jwt::new(&JwtSettings::default(), Vectors::read().secret(), true);
    let ann = request(Some("ann"), "lamp", "");
    for (claims, expected) in [
        ("5", "the token has no claims"),
        (r#"{"sub":"ann"}"#, "the token never expires"),
        (
            r#"{"sub":"ann","exp":"tomorrow"}"#,
            "the token's `exp` is no time",
        ),
        (r#"{"sub":"ann","exp":-1}"#, "the token's `exp` is no time"),
        (r#"{"sub":"ann","exp":1.5}"#, "the token has expired"),
        (r#"{"sub":"","exp":1e300}"#, "the token names no user"),
        (r#"{"sub":"a\u0000","exp":9e9}"#, "the token names no user"),
        (r#"{"sub":5,"exp":9e9}"#, "the token names no user"),
        (
            r#"{"sub":"ann","exp":9e9,"acl":5}"#,
            "the token's `acl`: neither",
        ),
        (
            r#"{"sub":"ann","exp":9e9,"roles":"x"}"#,
            "the token's `roles`: roles that",
        ),
        (
            r#"{"sub":"ann","exp":9e9,"nbf":9e9}"#,
            "the token is not valid yet",
        ),
    ] {
        let error = jwt.check(claims.as_bytes(), &ann, 100).expect_err(expected);
        assert!(error.starts_with(expected), "{claims}: {error}");
    }
    let lenient = JwtSettings {
        require_expiry: false,
        ..JwtSettings::default()
    };
    let jwt = Jwt::new(&lenient, Vectors::read().secret(), true);
    let (_, _, lasts) = jwt
        .check(br#"{"sub":"ann"}"#, &ann, 100)
        .expect("it is taken");
    assert_eq!(lasts, None);
}

#[test]
fn a_login_holds_while_its_key_and_the_settings_are_there() {
    let vectors = Vectors::read();
    let jwt = |settings: &JwtSettings, keys| Jwt::new(settings, keys, true);
    let settings = JwtSettings::default();
    let ann = request(None, "lamp", vectors.token("ES256"));
    let grant = decide(&jwt(&settings, vectors.jwks()), &ann, BEGINS_S);
    let grant = grant.expect("it holds").expect("it is a token");
    let tag = grant.login().expect("by `[auth]`").tag;
    assert!(jwt(&settings, vectors.jwks()).holds(tag));
    assert!(jwt(&settings, vectors.pem("p256").expect("a key")).holds(tag));
    assert!(!jwt(&settings, vectors.pem("p384").expect("a key")).holds(tag));
    let other = JwtSettings {
        audience: Some("mqtt".into()),
        ..settings
    };
    assert!(!jwt(&other, vectors.jwks()).holds(tag));
}
