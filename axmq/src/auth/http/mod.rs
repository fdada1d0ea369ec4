//! A question to an HTTP service: whether to let a client in.
//!
//! It is asked on threads of its own, so that one that hangs holds up nobody but those whom it is
//! asked about. Answers are remembered for a while; a service that fails again and again is left
//! alone for a while. Whatever is no clear answer lets nobody in.

mod answer;
mod breaker;
mod cache;
mod headers;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use self::answer::{Allowed, Answer};
use self::breaker::Breaker;
use self::cache::{Cache, Hasher};
use self::headers::Headers;
use super::FileError;
use super::chain::Opinion;
use super::login::{Login, Tag};
use super::password::read;
use crate::config::{Authenticator, HttpSettings};
use crate::hooks::{ConnectRequest, Denied, Grant};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// Asks a service.
pub(super) struct Http {
    url: String,
    agent: Agent,
    headers: Headers,
    settings: HttpSettings,
    ends_connections: bool,
    hasher: Hasher,
    state: Mutex<State>,
    figures: Arc<Figures>,
    begin: Instant,
}

struct State {
    breaker: Breaker,
    answers: Cache<Answer>,
}

/// What was asked, since the start.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    requests: AtomicU64,
    failures: AtomicU64,
    remembered: AtomicU64,
    left_alone: AtomicU64,
}

impl Figures {
    /// With the names of counters.
    pub(in crate::auth) fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("auth_http_requests", &self.requests),
            ("auth_http_failures", &self.failures),
            ("auth_http_remembered", &self.remembered),
            ("auth_http_left_alone", &self.left_alone),
        ]
        .map(|(name, figure)| (name, figure.load(Ordering::Relaxed)))
    }
}

/// What the service is asked.
#[derive(Serialize)]
struct Asked<'a> {
    clientid: &'a str,
    username: Option<&'a str>,
    /// Where it is text.
    password: Option<&'a str>,
    /// Where it is not.
    password_base64: Option<Zeroizing<String>>,
    peerhost: String,
    protocol: &'static str,
}

impl Http {
    /// `None` where there is no service.
    ///
    /// # Errors
    ///
    /// Where the file of certificates, or that of headers, cannot be used.
    pub(super) fn load(
        settings: &HttpSettings,
        ends_connections: bool,
        figures: &Arc<Figures>,
    ) -> Result<Option<Self>, FileError> {
        let Some(url) = &settings.url else {
            return Ok(None);
        };
        let roots = match &settings.ca_file {
            Some(path) => {
                let (text, _) = read(path)?;
                let name = path.display().to_string();
                RootCerts::new_with_certs(&certificates(&name, &text)?)
            }
            None => RootCerts::WebPki,
        };
        let headers = settings.header_file.as_deref().map(Headers::load);
        let headers = headers.transpose()?.unwrap_or_default();
        if url.starts_with("http://") && !is_loopback(url) {
            tracing::warn!(
                event = "auth.http_plain",
                "passwords go to another machine as they are; use https (auth.http.url)"
            );
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(settings.timeout_ms.into())))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // What stands in the environment is not asked: passwords go where the key says.
            .proxy(None)
            .max_idle_connections_per_host(settings.threads as usize)
            .user_agent(concat!("axmq/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        let hasher = Hasher::new();
        let hasher = hasher.map_err(|_| FileError::new("the system has no random numbers"))?;
        Ok(Some(Self {
            url: url.clone(),
            agent,
            headers,
            settings: settings.clone(),
            ends_connections,
            hasher,
            state: Mutex::new(State {
                breaker: Breaker::new(settings.breaker_failures, settings.breaker_ms.into()),
                answers: Cache::new(settings.cache_entries as usize),
            }),
            figures: Arc::clone(figures),
            begin: Instant::now(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks about a client, or remembers what was answered before. Blocks for no longer than the
    /// limit on time.
    pub(super) fn decide(&self, request: &ConnectRequest) -> Opinion {
        let host = host(request);
        let question = self.hasher.hash(&[
            request.client_id().as_bytes(),
            &[u8::from(request.username().is_some())],
            request.username().unwrap_or_default().as_bytes(),
            &[u8::from(request.password().is_some())],
            request.password().unwrap_or_default(),
            host.as_bytes(),
        ]);
        let now_ms = self.now_ms();
        let mut state = self.state();
        if let Some(answer) = state.answers.find(&question, now_ms) {
            count(&self.figures.remembered);
            return self.opinion(answer, request);
        }
        if !state.breaker.admits(now_ms) {
            count(&self.figures.left_alone);
            return unavailable();
        }
        drop(state);
        count(&self.figures.requests);
        let asked = self.ask(request, host);
        let now_ms = self.now_ms();
        let mut state = self.state();
        match asked {
            Ok(answer) => {
                if state.breaker.succeeded() {
                    tracing::info!(event = "auth.http_recovered", "the service answers again");
                }
                let [allow, deny] = [self.settings.cache_allow_s, self.settings.cache_deny_s];
                let [allow, deny] = [allow, deny].map(|s| Duration::from_secs(s.into()));
                let good_for = answer.good_for(allow, deny, now_s()).as_millis();
                let until_ms = now_ms + u64::try_from(good_for).unwrap_or(0);
                if until_ms > now_ms {
                    state.answers.insert(question, until_ms, answer.clone());
                }
                drop(state);
                self.opinion(answer, request)
            }
            Err(what) => {
                count(&self.figures.failures);
                if state.breaker.failed(now_ms) {
                    let failures = self.settings.breaker_failures;
                    tracing::error!(
                        event = "auth.http_failed",
                        "{what}; after {failures} failures in a row it is left alone for {} ms",
                        self.settings.breaker_ms
                    );
                } else {
                    tracing::debug!(event = "auth.http_failed", "{what}");
                }
                unavailable()
            }
        }
    }

    fn ask(&self, request: &ConnectRequest, peerhost: String) -> Result<Answer, String> {
        let password = request.password();
        let text = password.and_then(|password| std::str::from_utf8(password).ok());
        let other = password.filter(|_| text.is_none());
        let asked = Asked {
            clientid: request.client_id(),
            username: request.username(),
            password: text,
            password_base64: other.map(|password| Zeroizing::new(STANDARD.encode(password))),
            peerhost,
            protocol: "mqtt",
        };
        let body = serde_json::to_vec(&asked);
        let body = Zeroizing::new(body.map_err(|_| "it cannot be asked this".to_owned())?);
        let mut question = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json");
        for (name, value) in self.headers.iter() {
            question = question.header(name, value);
        }
        let sent = question.send(body.as_slice());
        // Errors of the library name no more than the host.
        let mut response = sent.map_err(|error| format!("it cannot be asked: {error}"))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let body = body.read_to_vec();
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        Answer::read(status, &body)
    }

    fn opinion(&self, answer: Answer, request: &ConnectRequest) -> Opinion {
        let Allowed {
            is_superuser,
            rules,
            roles,
            ends_s,
        } = match answer {
            Answer::Allow(allowed) => allowed,
            Answer::Deny => return Opinion::Refuse(Denied::credentials()),
            Answer::Ignore => return Opinion::Pass,
        };
        let mut login = Login::new(Authenticator::Http, self.tag());
        login.is_superuser = is_superuser;
        login.rules = rules;
        login.roles = roles;
        let grant = request.username().map_or_else(Grant::anonymous, Grant::to);
        let grant = grant.with_login(login);
        let Some(ends_s) = ends_s.filter(|_| self.ends_connections) else {
            return Opinion::Grant(grant);
        };
        match ends_s.saturating_sub(now_s()) {
            0 => Opinion::Refuse(Denied::not_authorized().with_text("this has expired")),
            left_s => Opinion::Grant(grant.for_at_most(Duration::from_secs(left_s))),
        }
    }

    pub(super) fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Of those whom this service has let in.
    fn tag(&self) -> Tag {
        Tag::of(self.url.as_bytes())
    }

    pub(super) fn holds(&self, tag: Tag) -> bool {
        self.tag() == tag
    }
}

fn unavailable() -> Opinion {
    let denied = Denied::unavailable();
    Opinion::Refuse(denied.with_text("who you are cannot be asked now"))
}

fn count(figure: &AtomicU64) {
    figure.fetch_add(1, Ordering::Relaxed);
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Where the client connects from, without its port.
fn host(request: &ConnectRequest) -> String {
    let peer = request.peer().to_string();
    match peer.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_canonical().to_string(),
        Err(_) => peer,
    }
}

/// What is wrong with an address of a service, if anything is.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let parsed: Result<ureq::http::Uri, _> = url.parse();
    let uri = parsed.map_err(|error| error.to_string())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(()),
        _ => Err("it has to begin with http:// or https:// and a host".to_owned()),
    }
}

fn is_loopback(url: &str) -> bool {
    let uri: Option<ureq::http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The certificates in a text of PEM.
fn certificates(name: &str, text: &str) -> Result<Vec<Certificate<'static>>, FileError> {
    let mut found = Vec::new();
    for item in parse_pem(text.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(FileError::new(format!("{name}: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(FileError::new(format!(
            "{name}: there is no certificate in this file"
        )));
    }
    Ok(found)
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
