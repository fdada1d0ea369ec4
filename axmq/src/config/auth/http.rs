//! The section `[auth.http]`: a service that is asked who clients are.

use std::path::PathBuf;

use crate::config::keys::{Key, Kind, Value};

/// A service that is asked who clients are: the section `[auth.http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where the service is.
    pub url: Option<String>,
    /// The authorities that its certificate may be from, instead of those of the web.
    pub ca_file: Option<PathBuf>,
    /// Headers that go along with each question.
    pub header_file: Option<PathBuf>,
    /// How long an answer may take, from the beginning.
    pub timeout_ms: u32,
    /// Threads that ask, and so questions at a time.
    pub threads: u32,
    /// Answers that are remembered; 0 for none.
    pub cache_entries: u32,
    /// How long an answer is remembered that lets a client in.
    pub cache_allow_s: u32,
    /// How long any other answer is remembered.
    pub cache_deny_s: u32,
    /// Failures in a row after which the service is left alone.
    pub breaker_failures: u32,
    /// For how long it is left alone.
    pub breaker_ms: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            header_file: None,
            timeout_ms: 2_000,
            threads: 8,
            cache_entries: 10_000,
            cache_allow_s: 60,
            cache_deny_s: 5,
            breaker_failures: 5,
            breaker_ms: 10_000,
        }
    }
}

impl HttpSettings {
    pub(in crate::config) const KEYS: &'static [Key] = &[
        key!(text, "auth.http", url, auth.http),
        key!(path, "auth.http", ca_file, auth.http),
        key!(path, "auth.http", header_file, auth.http),
        key!(
            number,
            "auth.http",
            timeout_ms,
            auth.http,
            10..=60_000,
            "milliseconds"
        ),
        key!(number, "auth.http", threads, auth.http, 1..=64, "threads"),
        key!(
            number,
            "auth.http",
            cache_entries,
            auth.http,
            0..=10_000_000,
            "answers"
        ),
        key!(
            number,
            "auth.http",
            cache_allow_s,
            auth.http,
            0..=86_400,
            "seconds"
        ),
        key!(
            number,
            "auth.http",
            cache_deny_s,
            auth.http,
            0..=86_400,
            "seconds"
        ),
        key!(
            number,
            "auth.http",
            breaker_failures,
            auth.http,
            1..=1_000,
            "failures"
        ),
        key!(
            number,
            "auth.http",
            breaker_ms,
            auth.http,
            1..=3_600_000,
            "milliseconds"
        ),
    ];
}
