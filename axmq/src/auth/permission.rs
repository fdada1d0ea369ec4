//! What clients may do, by the rules of a [`Guard`].
//!
//! Each thread keeps the last decisions about topics in a table of its own, so that a fan-out to a
//! thousand subscribers of a few topics goes through no rules. A reload voids all of them at once:
//! they carry the version of the policy that they were made under.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::acl::{Want, Who};
use super::guard::{Guard, Policy};
use super::login::Login;
use super::rights::Rights;
use crate::hooks::{Action, Authorize, Client, Decision, Grant};

/// Decisions that a thread remembers; a newer one takes the place of an older one.
const SLOTS: usize = 1_024;
/// User name, client id and topic of a decision that is remembered.
const KEY_BYTES_MAX: usize = 256;

impl Authorize for Guard {
    fn authorize(&self, client: &Client<'_>, action: &Action<'_>) -> Decision {
        let is_allowed = DECIDED.with_borrow_mut(|decided| decided.decide(self, client, action));
        if is_allowed {
            Decision::Allow
        } else {
            Decision::Deny
        }
    }

    fn asks_for_deliveries(&self) -> bool {
        self.checks_deliveries()
    }
}

/// A version that no policy of this process has had.
pub(super) fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    static DECIDED: RefCell<Decided> = const { RefCell::new(Decided::new()) };
}

/// What a thread has decided.
struct Decided {
    /// Of the policy; 0 at first, which none has.
    version: u64,
    policy: Option<Arc<Policy>>,
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    hash: u64,
    /// See [`Question`]; empty where there is nothing.
    key: Box<[u8]>,
    is_allowed: bool,
}

impl Decided {
    const fn new() -> Self {
        Self {
            version: 0,
            policy: None,
            slots: Vec::new(),
        }
    }

    fn decide(&mut self, guard: &Guard, client: &Client<'_>, action: &Action<'_>) -> bool {
        if self.version != guard.version() {
            let (version, policy) = guard.versioned_policy();
            self.version = version;
            self.policy = Some(policy);
            self.slots.clear();
        }
        let Some(policy) = &self.policy else {
            return false;
        };
        let rights = policy.rights();
        let login = client.grant.and_then(Grant::login);
        if rights.are_open_to(login) {
            return true;
        }
        let who = Who {
            user: client.identity(),
            client: client.id(),
        };
        let (kind, topic, want) = match *action {
            Action::Publish { topic, .. } => (b'p', topic, Want::Publish(topic)),
            Action::Receive { topic, .. } => (b'r', topic, Want::Receive(topic)),
            // Not often asked twice.
            Action::Subscribe { filter, .. } => {
                let want = Want::Subscribe(filter, rights.subscribing());
                return rights.decide(who, login, want).is_allowed();
            }
        };
        let question = Question::new(rights, login, kind, who, topic);
        let ask = || rights.decide(who, login, want).is_allowed();
        if question.len() > KEY_BYTES_MAX {
            return ask();
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let hash = question.hash();
        let at = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(at) else {
            return ask();
        };
        if slot.hash != hash || !question.is(&slot.key) {
            *slot = Slot {
                hash,
                key: question.key(),
                is_allowed: ask(),
            };
        }
        slot.is_allowed
    }
}

/// What a decision is about: a byte for the action and whether there is a user, the number of the
/// login, user name, client id and topic. The last three have no NUL in them [MQTT-1.5.4-2], so
/// that a NUL between them keeps them apart.
struct Question<'a> {
    kind: [u8; 1],
    /// Of the login, where that has rights of its own.
    login: [u8; 8],
    user: &'a [u8],
    /// Empty where the rules do not ask for it.
    client: &'a [u8],
    topic: &'a [u8],
}

const NUL: &[u8] = b"\0";

impl<'a> Question<'a> {
    fn new(rights: &Rights, login: Option<&Login>, kind: u8, who: Who<'a>, topic: &'a str) -> Self {
        Self {
            kind: [if who.user.is_some() {
                kind.to_ascii_uppercase()
            } else {
                kind
            }],
            login: login.map_or(0, Login::rights_number).to_le_bytes(),
            user: who.user.unwrap_or_default().as_bytes(),
            client: if rights.ask_for_client(login) {
                who.client.as_bytes()
            } else {
                &[]
            },
            topic: topic.as_bytes(),
        }
    }

    fn parts(&self) -> [&[u8]; 7] {
        let Self { kind, login, .. } = self;
        [kind, login, self.user, NUL, self.client, NUL, self.topic]
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    fn key(&self) -> Box<[u8]> {
        self.parts().concat().into()
    }

    fn is(&self, key: &[u8]) -> bool {
        let mut rest = key;
        let begins = self.parts().into_iter().all(|part| {
            let tail = rest.strip_prefix(part);
            rest = tail.unwrap_or_default();
            tail.is_some()
        });
        begins && rest.is_empty() && !key.is_empty()
    }

    /// Quick and not secret: whoever makes two questions meet in a slot has them decided by the
    /// rules each time, and gains nothing.
    fn hash(&self) -> u64 {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut hash = 0_u64;
        let mut mix = |word: u64| hash = (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
        for part in self.parts() {
            let (words, rest) = part.as_chunks::<8>();
            words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            mix(u64::from_le_bytes(last));
        }
        hash ^ hash >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::login::Tag;
    use crate::config::{AuthSettings, Authenticator, Role};

    fn rights(rule: &str) -> Rights {
        let role = Role {
            allow: vec![rule.to_owned()],
            ..Role::default()
        };
        let settings = AuthSettings {
            roles: vec![role],
            ..AuthSettings::default()
        };
        Rights::load(&settings).expect("it is well")
    }

    fn superuser() -> Login {
        let mut login = Login::new(Authenticator::Password, Tag::default());
        login.is_superuser = true;
        login
    }

    #[test]
    fn a_question_is_itself_and_no_other() {
        let rights = rights("read %c");
        let logins = [(); 2].map(|()| superuser());
        let mut all = Vec::new();
        for kind in [b'p', b'r'] {
            for user in [None, Some(""), Some("a"), Some("ab")] {
                for client in ["", "a", "b"] {
                    for topic in ["", "a", "ab", "topic/of/more/than/eight/bytes"] {
                        for login in [None, logins.first(), logins.last()] {
                            let who = Who { user, client };
                            all.push(Question::new(&rights, login, kind, who, topic));
                        }
                    }
                }
            }
        }
        for (at, question) in all.iter().enumerate() {
            let key = question.key();
            assert_eq!(key.len(), question.len());
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(other.is(&key), at == other_at);
                assert!(at == other_at || question.hash() != other.hash());
            }
            assert!(!question.is(&[]));
        }
        let rights = self::rights("read %u");
        let who = |client| Who { user: None, client };
        let of = |client| Question::new(&rights, None, b'p', who(client), "t").key();
        assert_eq!(of("a"), of("b"), "the client does not matter there");
    }
}
