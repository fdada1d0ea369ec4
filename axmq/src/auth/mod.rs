//! Enhanced authentication (MQTT 5.0 section 4.12) and the pool of threads that authentication
//! runs on.
//!
//! A [`Mechanism`] is what a client names as its authentication method. For each client that does
//! it begins an [`Exchange`], which takes the client's data and answers, step by step, until it is
//! done or fails. [`scram`] has one that is built in.
//!
//! A client may authenticate anew on a live connection. Its other packets go on meanwhile, with the
//! rights that it had. It may not become somebody else: the identity of the new [`Grant`] has to be
//! that of the old one.
//!
//! What `[auth]` of the configuration asks for, such as a password file, is done by a hook of the
//! same kind that programs write (`guard`).

mod acl;
mod brought;
mod chain;
mod file_error;
mod guard;
mod http;
pub mod jwt;
mod login;
mod password;
mod permission;
mod pool;
mod rights;
pub mod scram;
mod scram_users;

use std::fmt;
use std::sync::Arc;

pub use self::acl::{Acl, Ruling, Subscribing, Want};
pub(crate) use self::chain::Walk;
use self::chain::Walked;
pub use self::file_error::FileError;
pub(crate) use self::guard::{Guard, Policy, check_role_rule};
pub use self::guard::{check_files, test_acl};
pub(crate) use self::http::check_url;
pub(crate) use self::login::{Login, Tag};
pub use self::password::{Passwords, Scheme, run_passwd};
pub(crate) use self::pool::{Busy, Pool};
use crate::hooks::{Authenticate, ConnectRequest, Denied, Grant, Hooks};

/// An authentication method. Called on the threads of the auth pool; may block.
pub trait Mechanism: Send + Sync {
    /// What clients call it: the authentication method property.
    fn name(&self) -> &str;

    /// Begins with a client, at its CONNECT or when it authenticates anew. In the second case
    /// there is neither user name nor password in `request`.
    fn begin(&self, request: &ConnectRequest) -> Box<dyn Exchange>;
}

/// An exchange with one client. Called on the threads of the auth pool, one step at a time; may
/// block. Nobody waits for it but its client, and at CONNECT that no longer than the limit
/// `connect_timeout_ms` in all.
pub trait Exchange: Send {
    /// Takes the data of the client's next packet, empty where it has none.
    fn step(&mut self, data: &[u8]) -> Step;
}

/// What an [`Exchange`] answers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Step {
    /// The client gets this data in an AUTH packet and has to answer.
    Continue(Vec<u8>),
    /// The client is authenticated.
    Done {
        /// As whom.
        grant: Grant,
        /// Data for the last packet, such as the server's own proof.
        data: Option<Vec<u8>>,
    },
    /// It failed.
    Fail(Denied),
}

/// What a thread of the pool has to do for one connection.
pub(crate) enum Work {
    Password(Arc<dyn Authenticate>),
    /// Go on along the chain.
    Chain(Walk),
    Begin(Arc<dyn Mechanism>, Vec<u8>),
    Step(Box<dyn Exchange>, Vec<u8>),
}

/// What came of work.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Answer),
    /// What is next may wait for others, and is for the threads that may.
    Waits(Work),
}

/// What came of it.
pub(crate) enum Answer {
    Granted(Grant, Option<Vec<u8>>),
    Continue(Vec<u8>, Box<dyn Exchange>),
    Denied(Denied),
}

/// An enhanced authentication that has succeeded, on its way to the shard.
pub(crate) struct Enhanced {
    pub(crate) mechanism: Arc<dyn Mechanism>,
    /// For CONNACK.
    pub(crate) data: Option<Vec<u8>>,
}

/// Whose turn it is in an exchange.
pub(crate) enum Turn {
    /// There is none.
    Nobody,
    /// A thread of the pool works on it.
    Pool,
    Client(Box<dyn Exchange>),
}

impl Work {
    /// Does it all; a panic is a denial.
    #[cfg(test)]
    pub(crate) fn run(self, request: &ConnectRequest, hooks: &Hooks) -> Answer {
        match self.step(request, hooks, true) {
            Outcome::Done(answer) => answer,
            Outcome::Waits(work) => work.run(request, hooks),
        }
    }

    /// Does it; a panic is a denial. What may wait for others is left where it `may_wait` not.
    fn step(self, request: &ConnectRequest, hooks: &Hooks, may_wait: bool) -> Outcome {
        let id = request.client_id();
        let answer = match self {
            Self::Chain(walk) => {
                let walked = hooks.guarded("chain", id, || walk.go(request, may_wait));
                match walked {
                    Ok(Walked::Waits(walk)) => return Outcome::Waits(Self::Chain(walk)),
                    Ok(Walked::Decided(Ok(grant))) => Ok(Answer::Granted(grant, None)),
                    Ok(Walked::Decided(Err(denied))) => Ok(Answer::Denied(denied)),
                    Err(broken) => Err(broken),
                }
            }
            Self::Password(hook) => {
                hooks.guarded("authenticate", id, || match hook.authenticate(request) {
                    Ok(grant) => Answer::Granted(grant, None),
                    Err(denied) => Answer::Denied(denied),
                })
            }
            Self::Begin(mechanism, data) => {
                hooks.guarded("mechanism", id, || step(mechanism.begin(request), &data))
            }
            Self::Step(exchange, data) => hooks.guarded("mechanism", id, || step(exchange, &data)),
        };
        Outcome::Done(answer.unwrap_or_else(|_| Answer::Denied(Denied::failed())))
    }
}

fn step(mut exchange: Box<dyn Exchange>, data: &[u8]) -> Answer {
    match exchange.step(data) {
        Step::Continue(data) => Answer::Continue(data, exchange),
        Step::Done { grant, data } => Answer::Granted(grant, data),
        Step::Fail(denied) => Answer::Denied(denied),
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The data is secret.
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Chain(_) => "Chain",
            Self::Begin(..) => "Begin",
            Self::Step(..) => "Step",
        })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(grant, _) => f.debug_tuple("Granted").field(grant).finish(),
            Self::Continue(..) => f.write_str("Continue"),
            Self::Denied(denied) => f.debug_tuple("Denied").field(denied).finish(),
        }
    }
}

impl fmt::Debug for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Enhanced")
            .field(&self.mechanism.name())
            .finish()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Pool => "Pool",
            Self::Client(_) => "Client",
        })
    }
}
