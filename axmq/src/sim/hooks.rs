//! The program that embeds the simulated broker: who may come in, what they may do, and what
//! becomes of their messages. The auth pool has no threads: the run does its jobs one by one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mqtt_codec::ReasonCode;

use super::Check;
use super::ledger::Path;
use super::plan::FILTER_DENIED;
use crate::auth::scram::{self, Scram, Secret, Users};
use crate::auth::{Exchange, Mechanism, Pool};
use crate::hooks::{
    Action, Authorize, Client, ConnectRequest, Decision, Denied, Draft, Ending, Grant, Hooks,
    OnConnection, OnPublish, Verdict,
};

/// Everybody's.
pub(super) const PASSWORD: &str = "right";
pub(super) const SALT: &[u8] = b"salt";
/// Of the password hash: what it costs is not what is simulated.
pub(super) const ROUNDS: u32 = 1;

#[derive(Clone, Debug)]
pub(super) struct HookPlan {
    /// Jobs that may wait for the auth pool.
    pub(super) jobs_max: usize,
    /// Somebody asks whether each message may go to each subscriber.
    pub(super) sees_deliveries: bool,
}

pub(super) fn user(client: usize) -> String {
    format!("u{client}")
}

/// Whether a client does not get what is published on a topic.
pub(super) fn denies(client_id: &str, topic: &str) -> bool {
    topic == "t/1" && client_id.ends_with(['0', '3', '6'])
}

/// Hooks for a run, and what they have seen of comings and goings.
pub(super) fn hooks(plan: &HookPlan, clients: usize) -> (Hooks, Arc<Visits>) {
    let visits = Arc::new(Visits::default());
    let mut users = Users::default();
    for client in 0..clients {
        users.insert_secret(user(client), Secret::derive(PASSWORD, SALT, ROUNDS));
    }
    let scram = Scram::sha_256(users).expect("random numbers");
    let nonces = AtomicU64::new(0);
    let mut hooks = Hooks::default();
    hooks.pool = Pool::new(plan.jobs_max);
    hooks.authenticate = Some(Arc::new(by_password));
    hooks.add_mechanism(Arc::new(Repeatable { scram, nonces }));
    hooks.set_authorize(Arc::new(Rules(plan.sees_deliveries)));
    hooks.set_on_publish(Arc::new(Editor));
    hooks.set_on_connection(Arc::clone(&visits) as Arc<dyn OnConnection>);
    (hooks, visits)
}

fn by_password(request: &ConnectRequest) -> Result<Grant, Denied> {
    match (request.username(), request.password()) {
        (Some(user), Some(password)) if password == PASSWORD.as_bytes() => Ok(Grant::to(user)),
        _ => Err(Denied::credentials()),
    }
}

/// SCRAM whose nonces follow from the run.
struct Repeatable {
    scram: Scram,
    nonces: AtomicU64,
}

impl Mechanism for Repeatable {
    fn name(&self) -> &str {
        scram::NAME
    }

    fn begin(&self, _request: &ConnectRequest) -> Box<dyn Exchange> {
        let number = self.nonces.fetch_add(1, Ordering::Relaxed);
        self.scram.begin_with_nonce(format!("server{number}"))
    }
}

/// With it, whether they are asked for deliveries.
struct Rules(bool);

impl Authorize for Rules {
    fn authorize(&self, client: &Client<'_>, action: &Action<'_>) -> Decision {
        let denies = match action {
            Action::Publish { topic, .. } => topic.starts_with(Path::Denied.prefix()),
            Action::Subscribe { filter, .. } => *filter == FILTER_DENIED,
            Action::Receive { topic, .. } => denies(client.id(), topic),
        };
        if denies {
            Decision::Deny
        } else {
            Decision::Allow
        }
    }

    fn asks_for_deliveries(&self) -> bool {
        self.0
    }
}

struct Editor;

impl OnPublish for Editor {
    fn on_publish(&self, _client: &Client<'_>, draft: &mut Draft<'_>) -> Verdict {
        let topic = draft.topic().to_owned();
        if topic.starts_with(Path::Discarded.prefix()) {
            return Verdict::Discard;
        }
        if topic.starts_with(Path::Refused.prefix()) {
            return Verdict::Refuse(ReasonCode::QuotaExceeded);
        }
        if let Some(rest) = topic.strip_prefix(Path::Edited.prefix()) {
            draft.set_topic(rest).expect("it is legal");
        }
        Verdict::Pass
    }
}

/// Who is connected, as a hook hears of it.
#[derive(Debug, Default)]
pub(super) struct Visits(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    connected: BTreeMap<String, bool>,
    connects: u64,
    wrong: Option<String>,
}

impl Visits {
    fn note(&self, id: &str, comes: bool) {
        let mut seen = self.0.lock().expect("nothing panics with it");
        seen.connects += u64::from(comes);
        if seen.connected.insert(id.to_owned(), comes).unwrap_or(false) == comes {
            let what = if comes { "connected" } else { "gone" };
            seen.wrong = Some(format!("a hook hears that {id} is {what} twice"));
        }
    }

    /// At the end: everybody who came has gone, one after the other. Returns how many came.
    pub(super) fn check_all_gone(&self) -> Result<u64, String> {
        let seen = self.0.lock().expect("nothing panics with it");
        if let Some(wrong) = &seen.wrong {
            return Err(wrong.clone());
        }
        for (id, is_there) in &seen.connected {
            check_gone(id, *is_there)?;
        }
        Ok(seen.connects)
    }
}

fn check_gone(id: &str, is_there: bool) -> Check {
    check!(!is_there, "no hook has heard that {id} is gone");
    Ok(())
}

impl OnConnection for Visits {
    fn on_connect(&self, client: &Client<'_>, _session_present: bool) {
        self.note(client.id(), true);
    }

    fn on_disconnect(&self, client: &Client<'_>, _ending: &Ending<'_>) {
        self.note(client.id(), false);
    }
}
