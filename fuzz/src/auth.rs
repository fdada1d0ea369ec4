//! The files that say who clients are and what they may do.

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
