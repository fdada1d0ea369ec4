//! SCRAM for the users of the password file that have a secret for it.

use std::io;
use std::sync::Arc;

use super::guard::{Guard, Policy};
use super::login::Login;
use super::scram::{self, Scram, Secret, SecretStore};
use super::{Exchange, Mechanism, Step};
use crate::config::Authenticator;
use crate::hooks::{ConnectRequest, Denied};

pub(super) struct ScramUsers {
    guard: Arc<Guard>,
    scram: Scram,
}

impl ScramUsers {
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub(super) fn new(guard: Arc<Guard>) -> io::Result<Self> {
        Ok(Self {
            guard,
            scram: Scram::sha_256(scram::Users::default())?,
        })
    }
}

impl Mechanism for ScramUsers {
    fn name(&self) -> &str {
        scram::NAME
    }

    fn begin(&self, request: &ConnectRequest) -> Box<dyn Exchange> {
        // One policy for the whole exchange: the login is that of the secret that was proved.
        let policy = self.guard.policy();
        let secrets = Arc::new(Secrets(Arc::clone(&policy)));
        Box::new(Conversation {
            exchange: self.scram.with_store(secrets).begin(request),
            policy,
        })
    }
}

struct Secrets(Arc<Policy>);

impl SecretStore for Secrets {
    fn find(&self, user: &str) -> Result<Option<Secret>, Denied> {
        let hash = self.0.passwords().and_then(|all| all.find(user));
        Ok(hash.and_then(|hash| hash.scram().cloned()))
    }
}

struct Conversation {
    exchange: Box<dyn Exchange>,
    policy: Arc<Policy>,
}

impl Exchange for Conversation {
    fn step(&mut self, data: &[u8]) -> Step {
        match self.exchange.step(data) {
            Step::Done { grant, data } => {
                let passwords = self.policy.passwords();
                let hash = grant.identity().and_then(|user| passwords?.find(user));
                let tag = hash.map(|hash| hash.tag()).unwrap_or_default();
                let login = Login::new(Authenticator::Password, tag);
                Step::Done {
                    grant: grant.with_login(login),
                    data,
                }
            }
            other => other,
        }
    }
}
