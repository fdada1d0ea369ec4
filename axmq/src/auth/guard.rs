//! What `[auth]` asks for, as hooks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::FileError;
use super::acl::{Acl, Subscribing, Want};
use super::password::Passwords;
use super::permission::next_version;
use super::scram::{Scram, Secret, SecretStore};
use crate::cli::{AclAction, AclCommand};
use crate::config::{Change, Config};
use crate::hooks::{Authenticate, Authorize, ConnectRequest, Denied, Grant, Hooks};

/// Decides by a [`Policy`], which a reload replaces.
pub(crate) struct Guard {
    policy: RwLock<Arc<Policy>>,
    /// Of the policy. Written while the lock is held; read without it, once a decision.
    version: AtomicU64,
    checks_deliveries: bool,
}

/// What the files of `[auth]` say.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    passwords: Option<Passwords>,
    allows_anonymous: bool,
    acl: Option<Acl>,
    subscribing: Subscribing,
}

/// Reads the files that `[auth]` of a configuration names.
///
/// # Errors
///
/// What is wrong with them.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    Policy::load(config).map(drop)
}

/// Carries out `axmq acl test`: whether it is allowed, and by which rule.
///
/// # Errors
///
/// Where there is no ACL, or it cannot be used.
pub fn test_acl(command: &AclCommand, config: &Config) -> Result<(bool, String), FileError> {
    let AclCommand::Test {
        user,
        client,
        action,
        topic,
    } = command;
    let Some(path) = &config.auth.acl_file else {
        return Err(FileError::new(
            "the configuration names no ACL: set `acl_file` under [auth]",
        ));
    };
    let acl = Acl::load(path)?;
    let want = match action {
        AclAction::Publish => Want::Publish(topic),
        AclAction::Receive => Want::Receive(topic),
        AclAction::Subscribe => Want::Subscribe(topic, config.auth.acl_subscribe),
    };
    let user = (user != "-").then_some(user.as_str());
    let ruling = acl.decide(user, client, want);
    Ok((ruling.is_allowed(), ruling.to_string()))
}

impl Policy {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) fn load(config: &Config) -> Result<Self, FileError> {
        let (users, acl) = (&config.auth.password_file, &config.auth.acl_file);
        Ok(Self {
            passwords: users.as_deref().map(Passwords::load).transpose()?,
            allows_anonymous: config.broker.allow_anonymous,
            acl: acl.as_deref().map(Acl::load).transpose()?,
            subscribing: config.auth.acl_subscribe,
        })
    }

    pub(super) fn acl(&self) -> Option<&Acl> {
        self.acl.as_ref()
    }

    pub(super) fn subscribing(&self) -> Subscribing {
        self.subscribing
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
        if let (Some(old), Some(new)) = (&self.acl, &new.acl)
            && old.digest() != new.digest()
        {
            changes.push(Change {
                key: "the content of auth.acl_file".to_owned(),
                from: format!("{} rules", old.len()),
                to: format!("{} rules", new.len()),
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
        let (authenticates, authorizes) =
            (config.auth.authenticates(), config.auth.acl_file.is_some());
        if !authenticates && !authorizes {
            return Ok(());
        }
        let guard = Arc::new(Self {
            policy: RwLock::new(Arc::new(Policy::load(config)?)),
            version: AtomicU64::new(next_version()),
            checks_deliveries: config.auth.acl_deliveries,
        });
        if authorizes && !hooks.authorizes() {
            hooks.set_authorize(Arc::clone(&guard) as Arc<dyn Authorize>);
        }
        if authenticates && hooks.authenticate.is_none() {
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

    /// Goes on by another policy: what is different in its files, and the users whose passwords do
    /// not hold any more.
    pub(crate) fn replace(&self, policy: Policy) -> (Vec<Change>, Vec<Box<str>>) {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let changes = current.changes(&policy);
        let revoked = match (&current.passwords, &policy.passwords) {
            (Some(old), Some(new)) if old.digest() != new.digest() => old.revoked_in(new),
            _ => Vec::new(),
        };
        *current = Arc::new(policy);
        self.version.store(next_version(), Ordering::Release);
        (changes, revoked)
    }

    fn policy(&self) -> Arc<Policy> {
        self.versioned_policy().1
    }

    /// The policy with its version.
    pub(super) fn versioned_policy(&self) -> (u64, Arc<Policy>) {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        (self.version(), Arc::clone(&policy))
    }

    /// Whether it is still the same policy. Whoever sees a new version finds at least that policy:
    /// both are written under the lock.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn checks_deliveries(&self) -> bool {
        self.checks_deliveries
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
        f.debug_struct("Guard")
            .field("policy", &self.policy())
            .finish_non_exhaustive()
    }
}
