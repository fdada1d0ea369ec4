//! The files that say who clients are and what they may do.

use axmq::auth::jwt::Keys;
use axmq::auth::{Acl, Passwords, Subscribing, Want};

/// Questions that are put to each ACL.
const NAMES: [&str; 4] = ["ann", "a/b", "+", ""];
const FILTERS: [&str; 8] = ["a", "a/b", "a/+", "a/#", "#", "+/b", "$SYS/a", "ann/lamp"];

/// Reads an ACL, a diagnosis has a place; what it decides about subscriptions agrees with what it
/// decides about topics.
pub fn acl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let acl = match Acl::parse("fuzz", text) {
        Ok(acl) => acl,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz:"), "a place: {error}");
            return;
        }
    };
    for user in NAMES.map(Some).into_iter().chain([None]) {
        for client in NAMES {
            for filter in FILTERS {
                let may = |want| acl.decide(user, client, want).is_allowed();
                let all = may(Want::Subscribe(filter, Subscribing::Covered));
                let some = may(Want::Subscribe(filter, Subscribing::Overlapping));
                assert!(some || !all, "all of {filter} but not some of it");
                if !filter.contains(['+', '#']) {
                    let it = may(Want::Receive(filter));
                    assert_eq!((all, some), (it, it), "{filter} is one topic");
                }
            }
        }
    }
}

/// Reads a password file; a diagnosis has a place and does not show what stands there. No hash is
/// computed: a file may ask for as much as is permitted.
pub fn passwords(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Passwords::parse("fuzz", text) {
        Ok(passwords) => {
            for line in text.lines() {
                let name = line.split(':').next().unwrap_or_default();
                let is_user = line.contains(':') && !name.starts_with('#');
                assert!(!is_user || passwords.contains(name), "{name} is missing");
            }
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz:"), "a place: {error}"),
    }
}

/// Reads keys and a token that is said to be signed by them. A diagnosis has a place; a token that
/// is taken is not taken any more where its payload or its signature is another one.
pub fn token(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (keys, token) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let Ok(text) = std::str::from_utf8(keys) else {
        return;
    };
    let keys = match Keys::parse("fuzz", text) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz:"), "a place: {error}");
            return;
        }
    };
    if keys.verify(token).is_err() {
        return;
    }
    let dot = token.iter().position(|byte| *byte == b'.').unwrap_or(0);
    let mut changed = token.to_vec();
    if let Some(byte) = changed.get_mut(dot + 1) {
        *byte = if *byte == b'A' { b'B' } else { b'A' };
    }
    assert!(keys.verify(&changed).is_err(), "another payload");
    assert!(
        keys.verify(&token[..token.len() - 1]).is_err(),
        "less signature"
    );
}
