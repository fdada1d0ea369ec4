//! What `[auth]` asks for, as hooks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::FileError;
use super::acl::{Rules, Want, Who};
use super::chain::{Chain, Walk};
use super::http::Figures as HttpFigures;
use super::password::Passwords;
use super::permission::next_version;
use super::rights::Rights;
use super::scram_users::ScramUsers;
use crate::cli::{AclAction, AclCommand};
use crate::config::{Change, Config};
use crate::hooks::{Authorize, Grant, Hooks};

/// Decides by a [`Policy`], which a reload replaces.
pub(crate) struct Guard {
    policy: RwLock<Arc<Policy>>,
    /// Of the policy. Written while the lock is held; read without it, once a decision.
    version: AtomicU64,
    figures: Arc<HttpFigures>,
    checks_deliveries: bool,
}

/// What `[auth]` and the files that it names say.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    chain: Chain,
    rights: Rights,
}

/// Reads the files that `[auth]` of a configuration names.
///
/// # Errors
///
/// What is wrong with them.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    Policy::load(config, &Arc::default()).map(drop)
}

/// What is wrong with a rule of a role, if anything is.
pub(crate) fn check_role_rule(text: &str) -> Result<(), String> {
    Rules::new("role").add(false, text)
}

/// Carries out `axmq acl test`: whether it is allowed, and by which rule.
///
/// # Errors
///
/// Where there are no rules, or they cannot be used.
pub fn test_acl(command: &AclCommand, config: &Config) -> Result<(bool, String), FileError> {
    let AclCommand::Test {
        user,
        client,
        action,
        topic,
    } = command;
    let rights = Rights::load(&config.auth)?;
    if rights.are_open_to(None) {
        return Err(FileError::new(
            "the configuration has no rules: set `acl_file` under [auth], or add a [[auth.role]]",
        ));
    }
    let want = match action {
        AclAction::Publish => Want::Publish(topic),
        AclAction::Receive => Want::Receive(topic),
        AclAction::Subscribe => Want::Subscribe(topic, config.auth.acl_subscribe),
    };
    let user = (user != "-").then_some(user.as_str());
    let ruling = rights.decide(Who { user, client }, None, want);
    Ok((ruling.is_allowed(), ruling.to_string()))
}

impl Policy {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    fn load(config: &Config, figures: &Arc<HttpFigures>) -> Result<Self, FileError> {
        Ok(Self {
            chain: Chain::load(config, figures)?,
            rights: Rights::load(&config.auth)?,
        })
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn passwords(&self) -> Option<&Passwords> {
        self.chain.passwords()
    }

    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Whether a client that has come in like this could do so now. Of one that a hook of the
    /// program has let in nothing is known, and that holds.
    pub(crate) fn holds(&self, grant: Option<&Grant>) -> bool {
        let login = grant.and_then(Grant::login);
        login.is_none_or(|login| self.chain.holds(grant.and_then(Grant::identity), login))
    }

    /// What has become of the content of the files.
    fn changes(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut change = |key: &str, from: String, to: String| {
            changes.push(Change {
                key: format!("the content of {key}"),
                from,
                to,
                needs_restart: false,
            });
        };
        if let (Some(old), Some(new)) = (self.passwords(), new.passwords())
            && old.digest() != new.digest()
        {
            let users = |file: &Passwords| format!("{} users", file.len());
            change("auth.password_file", users(old), users(new));
        }
        if let (Some(old), Some(new)) = (self.chain.jwt(), new.chain.jwt())
            && old.digest() != new.digest()
        {
            let (old, new) = (old.len(), new.len());
            let keys = |count| format!("{count} keys");
            change("the key files of auth.jwt", keys(old), keys(new));
        }
        if let (Some(old), Some(new)) = (self.chain.http(), new.chain.http())
            && old.headers().digest() != new.headers().digest()
        {
            let (old, new) = (old.headers().len(), new.headers().len());
            let headers = |count| format!("{count} headers");
            change("auth.http.header_file", headers(old), headers(new));
        }
        if let (Some(old), Some(new)) = (self.rights.acl(), new.rights.acl())
            && old.digest() != new.digest()
        {
            let (old, new) = (old.len(), new.len());
            let rules = |count| format!("{count} rules");
            change("auth.acl_file", rules(old), rules(new));
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
        let (authenticates, authorizes) = (config.auth.authenticates(), config.auth.authorizes());
        if !authenticates && !authorizes && !config.auth.scram {
            return Ok(());
        }
        let figures = Arc::default();
        let guard = Arc::new(Self {
            policy: RwLock::new(Arc::new(Policy::load(config, &figures)?)),
            figures,
            version: AtomicU64::new(next_version()),
            checks_deliveries: config.auth.acl_deliveries,
        });
        if authorizes && !hooks.authorizes() {
            hooks.set_authorize(Arc::clone(&guard) as Arc<dyn Authorize>);
        }
        // With SCRAM alone somebody has to say what becomes of those who do not name it.
        if (authenticates || config.auth.scram) && hooks.authenticate.is_none() {
            hooks.chain = Some(Arc::clone(&guard));
        }
        if config.auth.scram {
            let scram = ScramUsers::new(Arc::clone(&guard));
            let scram = scram.map_err(|error| FileError::new(error.to_string()))?;
            hooks.add_mechanism(Arc::new(scram));
        }
        hooks.guard = Some(guard);
        Ok(())
    }

    /// Reads what a new configuration says, for [`replace`](Self::replace).
    ///
    /// # Errors
    ///
    /// What is wrong with its files.
    pub(crate) fn load(&self, config: &Config) -> Result<Arc<Policy>, FileError> {
        Policy::load(config, &self.figures).map(Arc::new)
    }

    /// What was asked over HTTP, with the names of counters.
    pub(crate) fn http_figures(&self) -> [(&'static str, u64); 4] {
        self.figures.named()
    }

    /// Begins to ask about a client.
    pub(crate) fn walk(&self) -> Walk {
        Walk::begin(self.policy())
    }

    /// Goes on by another policy, and says what is different in its files.
    pub(crate) fn replace(&self, policy: Arc<Policy>) -> Vec<Change> {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let changes = current.changes(&policy);
        *current = policy;
        self.version.store(next_version(), Ordering::Release);
        changes
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
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

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("policy", &self.policy())
            .finish_non_exhaustive()
    }
}
