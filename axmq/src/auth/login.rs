//! What `[auth]` knows of a client that it has let in.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::acl::Rules;
use crate::config::Authenticator;

/// How a client has come in. Kept with its [`Grant`](crate::hooks::Grant).
pub(crate) struct Login {
    pub(crate) by: Authenticator,
    /// Of the credential, to tell whether it is still the same. Tells nobody what it was.
    pub(crate) tag: Tag,
    /// What the client may do beside what the files say, where its authenticator knows that.
    pub(crate) rules: Option<Rules>,
    /// Roles that it has beside those that the configuration gives to its user.
    pub(crate) roles: Vec<Box<str>>,
    /// Whether it may do everything.
    pub(crate) is_superuser: bool,
    /// No other login of this process has it.
    number: u64,
}

/// See [`Login::tag`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tag(u64);

impl Tag {
    pub(crate) fn of(credential: &[u8]) -> Self {
        let digest = Sha256::digest(credential);
        let first = digest.first_chunk().copied().unwrap_or_default();
        Self(u64::from_le_bytes(first))
    }

    /// Both in one. With one of them again, it is the other.
    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl Login {
    /// Whether its client may do more, or less, than the files say of its user.
    pub(crate) fn brings_rights(&self) -> bool {
        self.rules.is_some() || !self.roles.is_empty() || self.is_superuser
    }

    pub(crate) fn new(by: Authenticator, tag: Tag) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            by,
            tag,
            rules: None,
            roles: Vec::new(),
            is_superuser: false,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// What tells its rights from those of other logins of the same user; 0 where they are no
    /// others.
    pub(crate) fn rights_number(&self) -> u64 {
        let has_own = self.rules.is_some() || !self.roles.is_empty() || self.is_superuser;
        if has_own { self.number } else { 0 }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}
