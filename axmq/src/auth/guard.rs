//! What `[auth]` asks for, as hooks.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::FileError;
use super::password::Passwords;
use super::scram::{Scram, Secret, SecretStore};
use crate::config::{Change, Config};
use crate::hooks::{Authenticate, ConnectRequest, Denied, Grant, Hooks};

/// Decides by a [`Policy`], which a reload replaces.
pub(crate) struct Guard(RwLock<Arc<Policy>>);

/// What the files of `[auth]` say.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    passwords: Option<Passwords>,
    allows_anonymous: bool,
}

/// Reads the files that `[auth]` of a configuration names.
///
/// # Errors
///
/// What is wrong with them.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    Policy::load(config).map(drop)
}

impl Policy {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) fn load(config: &Config) -> Result<Self, FileError> {
        let file = config.auth.password_file.as_deref();
        Ok(Self {
            passwords: file.map(Passwords::load).transpose()?,
            allows_anonymous: config.broker.allow_anonymous,
        })
    }

    fn authenticate(&self, request: &ConnectRequest) -> Result<Grant, Denied> {
        match (request.username(), request.password(), &self.passwords) {
            (None, None, _) if self.allows_anonymous => Ok(Grant::anonymous()),
            (None, None, _) => Err(Denied::not_authorized()),
            (Some(user), Some(password), Some(passwords)) if passwords.admits(user, password) => {
                Ok(Grant::to(user))
            }
            // Whoever says a name has to show that it is theirs, also where it need not be said.
            _ => Err(Denied::credentials()),
        }
    }

    /// What has become of the content of the files.
    fn changes(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let (Some(old), Some(new)) = (&self.passwords, &new.passwords)
            && old.digest() != new.digest()
        {
            changes.push(Change {
                key: "the content of auth.password_file".to_owned(),
                from: format!("{} users", old.len()),
                to: format!("{} users", new.len()),
                needs_restart: false,
            });
        }
        changes
    }
}

impl Guard {
    /// Makes the hooks that the configuration asks for. Where the program has one of its own, that
    /// one decides.
    ///
    /// # Errors
    ///
    /// Where a file that is named cannot be used.
    pub(crate) fn install(config: &Config, hooks: &mut Hooks) -> Result<(), FileError> {
        if !config.auth.authenticates() {
            return Ok(());
        }
        let guard = Arc::new(Self(RwLock::new(Arc::new(Policy::load(config)?))));
        if hooks.authenticate.is_none() {
            hooks.authenticate = Some(Arc::clone(&guard) as Arc<dyn Authenticate>);
        }
        if config.auth.scram {
            let users = ScramUsers(Arc::clone(&guard));
            let scram = Scram::sha_256(users).map_err(|error| FileError::new(error.to_string()))?;
            hooks.add_mechanism(Arc::new(scram));
        }
        hooks.guard = Some(guard);
        Ok(())
    }

    /// Goes on by another policy; what is different in its files.
    pub(crate) fn replace(&self, policy: Policy) -> Vec<Change> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changes = current.changes(&policy);
        *current = Arc::new(policy);
        changes
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Authenticate for Guard {
    fn authenticate(&self, request: &ConnectRequest) -> Result<Grant, Denied> {
        self.policy().authenticate(request)
    }
}

/// The users of the password file that have a secret for SCRAM.
struct ScramUsers(Arc<Guard>);

impl SecretStore for ScramUsers {
    fn find(&self, user: &str) -> Result<Option<Secret>, Denied> {
        let policy = self.0.policy();
        let hash = policy.passwords.as_ref().and_then(|all| all.find(user));
        Ok(hash.and_then(|hash| hash.scram().cloned()))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.policy()).finish()
    }
}
