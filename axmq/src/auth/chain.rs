//! Who decides about a client: one authenticator after the other, until one knows.
//!
//! Each grants, refuses, or passes on what is none of its business: the password file passes on
//! users that it does not have. Whom all pass on is refused.

use super::FileError;
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
}

impl Chain {
    /// Reads what the authenticators go by.
    ///
    /// # Errors
    ///
    /// What is wrong with their files.
    pub(super) fn load(config: &Config) -> Result<Self, FileError> {
        let settings = &config.auth;
        let users = settings.password_file.as_deref();
        Ok(Self {
            order: settings.order(config.broker.allow_anonymous),
            passwords: users.map(Passwords::load).transpose()?,
            jwt: Jwt::load(&settings.jwt, settings.disconnect_expired)?,
        })
    }

    pub(super) fn jwt(&self) -> Option<&Jwt> {
        self.jwt.as_ref()
    }

    pub(super) fn passwords(&self) -> Option<&Passwords> {
        self.passwords.as_ref()
    }

    /// Asks one after the other.
    pub(super) fn decide(&self, request: &ConnectRequest) -> Result<Grant, Denied> {
        let mut decided = Err(nobody_knows(request));
        for authenticator in &self.order {
            match self.ask(*authenticator, request) {
                Opinion::Grant(grant) => return Ok(grant),
                Opinion::Refuse(denied) => {
                    decided = Err(denied);
                    break;
                }
                Opinion::Pass => {}
            }
        }
        self.pretend(request);
        decided
    }

    fn ask(&self, authenticator: Authenticator, request: &ConnectRequest) -> Opinion {
        match authenticator {
            Authenticator::Jwt => match &self.jwt {
                Some(jwt) => jwt.decide(request),
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
            Authenticator::Anonymous => is_asked,
            Authenticator::Jwt => {
                let jwt = self.jwt.as_ref().filter(|_| is_asked);
                jwt.is_some_and(|jwt| jwt.holds(login.tag))
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
