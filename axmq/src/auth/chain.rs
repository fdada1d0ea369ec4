//! Who decides about a client: one authenticator after the other, until one knows.
//!
//! Each grants, refuses, or passes on what is none of its business: the password file passes on
//! users that it does not have. Whom all pass on is refused.

use std::sync::Arc;

use super::FileError;
use super::guard::Policy;
use super::http::{Figures, Http};
use super::jwt::Jwt;
use super::login::{Login, Tag};
use super::password::Passwords;
use crate::config::{Authenticator, Config};
use crate::hooks::{ConnectRequest, Denied, Grant};

/// What an authenticator says of a client.
pub(crate) enum Opinion {
    Grant(Grant),
    Refuse(Denied),
    /// It does not know.
    Pass,
}

/// The authenticators, with what they go by.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    order: Vec<Authenticator>,
    passwords: Option<Passwords>,
    jwt: Option<Jwt>,
    http: Option<Http>,
}

/// On the way along a chain, under the policy that it began with.
pub(crate) struct Walk {
    policy: Arc<Policy>,
    at: usize,
}

/// How far it has come.
pub(crate) enum Walked {
    Decided(Verdict),
    /// The next one may have to wait for others.
    Waits(Walk),
}

type Verdict = Result<Grant, Denied>;

impl Walk {
    pub(super) fn begin(policy: Arc<Policy>) -> Self {
        Self { policy, at: 0 }
    }

    /// Goes to the end or, where it `may_wait` not, to the first that may have to.
    pub(super) fn go(self, request: &ConnectRequest, may_wait: bool) -> Walked {
        match self.policy.chain().walk(self.at, request, may_wait) {
            Ok(verdict) => Walked::Decided(verdict),
            Err(at) => Walked::Waits(Self { at, ..self }),
        }
    }
}

impl Chain {
    /// Reads what the authenticators go by.
    ///
    /// # Errors
    ///
    /// What is wrong with their files.
    pub(super) fn load(config: &Config, figures: &Arc<Figures>) -> Result<Self, FileError> {
        let settings = &config.auth;
        let users = settings.password_file.as_deref();
        Ok(Self {
            order: settings.order(config.broker.allow_anonymous),
            passwords: users.map(Passwords::load).transpose()?,
            jwt: Jwt::load(&settings.jwt, settings.disconnect_expired)?,
            http: Http::load(&settings.http, settings.disconnect_expired, figures)?,
        })
    }

    pub(super) fn jwt(&self) -> Option<&Jwt> {
        self.jwt.as_ref()
    }

    pub(super) fn http(&self) -> Option<&Http> {
        self.http.as_ref()
    }

    pub(super) fn passwords(&self) -> Option<&Passwords> {
        self.passwords.as_ref()
    }

    /// Asks one after the other, from place `at` on. Where it `may_wait` not, it stops at one that
    /// may have to.
    fn walk(
        &self,
        mut at: usize,
        request: &ConnectRequest,
        may_wait: bool,
    ) -> Result<Verdict, usize> {
        let mut decided = Err(nobody_knows(request));
        while let Some(authenticator) = self.order.get(at) {
            if *authenticator == Authenticator::Http && !may_wait {
                return Err(at);
            }
            match self.ask(*authenticator, request) {
                Opinion::Grant(grant) => return Ok(Ok(grant)),
                Opinion::Refuse(denied) => {
                    decided = Err(denied);
                    break;
                }
                Opinion::Pass => at += 1,
            }
        }
        self.pretend(request);
        Ok(decided)
    }

    fn ask(&self, authenticator: Authenticator, request: &ConnectRequest) -> Opinion {
        match authenticator {
            // It has been verified by the door.
            Authenticator::Certificate => match request.certified_user() {
                Some(user) => Opinion::Grant(Grant::certified(user)),
                None => Opinion::Pass,
            },
            Authenticator::Jwt => match &self.jwt {
                Some(jwt) => jwt.decide(request),
                None => Opinion::Pass,
            },
            Authenticator::Http => match &self.http {
                Some(http) => http.decide(request),
                None => Opinion::Pass,
            },
            Authenticator::Password => self.by_password(request),
            Authenticator::Anonymous => match (request.username(), request.password()) {
                (None, None) => {
                    let login = Login::new(Authenticator::Anonymous, Tag::default());
                    Opinion::Grant(Grant::anonymous().with_login(login))
                }
                // Whoever says a name has to show that it is theirs, also where it need not be
                // said.
                _ => Opinion::Pass,
            },
        }
    }

    fn by_password(&self, request: &ConnectRequest) -> Opinion {
        let (Some(user), Some(passwords)) = (request.username(), &self.passwords) else {
            return Opinion::Pass;
        };
        let Some(hash) = passwords.find(user) else {
            return Opinion::Pass;
        };
        match request.password() {
            Some(password) if hash.admits(password) => {
                let login = Login::new(Authenticator::Password, hash.tag());
                Opinion::Grant(Grant::to(user).with_login(login))
            }
            _ => Opinion::Refuse(Denied::credentials()),
        }
    }

    /// Before a refusal: for a user that the password file does not have, the work is done that a
    /// wrong password of a user makes, so that the time does not tell which users there are.
    fn pretend(&self, request: &ConnectRequest) {
        if let (Some(user), Some(password), Some(passwords)) =
            (request.username(), request.password(), &self.passwords)
            && self.order.contains(&Authenticator::Password)
            && !passwords.contains(user)
        {
            // Refuses, and takes its time.
            let _ = passwords.admits(user, password);
        }
    }

    /// Whether a client that came in like this could do so now.
    pub(super) fn holds(&self, user: Option<&str>, login: &Login) -> bool {
        let is_asked = self.order.contains(&login.by);
        match login.by {
            Authenticator::Certificate | Authenticator::Anonymous => is_asked,
            Authenticator::Jwt => {
                let jwt = self.jwt.as_ref().filter(|_| is_asked);
                jwt.is_some_and(|jwt| jwt.holds(login.tag))
            }
            Authenticator::Http => {
                let http = self.http.as_ref().filter(|_| is_asked);
                http.is_some_and(|http| http.holds(login.tag))
            }
            // Also of those who came in by SCRAM, which stands in no chain.
            Authenticator::Password => {
                let hash = user.and_then(|user| self.passwords.as_ref()?.find(user));
                hash.is_some_and(|hash| hash.tag() == login.tag)
            }
        }
    }
}

/// What a client is told whom everybody has passed on.
fn nobody_knows(request: &ConnectRequest) -> Denied {
    match (request.username(), request.password()) {
        (None, None) => Denied::not_authorized(),
        _ => Denied::credentials(),
    }
}
