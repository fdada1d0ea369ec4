//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as an authentication method.
//!
//! The password never travels, the server keeps no password, and the client learns that the server
//! knows it too. There is no channel binding: the header of the client's first message has to be
//! `n,,` or `y,,`. Text is compared as it comes, without SASLprep, which changes nothing for ASCII.
//!
//! ```
//! use axmq::auth::scram::{Scram, Users};
//! use axmq::Broker;
//!
//! let mut users = Users::default();
//! users.insert("ann", "correct horse")?;
//! let running = Broker::builder()
//!     .listen(([127, 0, 0, 1], 0))
//!     .mechanism(Scram::sha_256(users)?)
//!     .start()?;
//! running.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Exchange, Mechanism, Step};
use crate::hooks::{ConnectRequest, Denied, Grant};

/// The name of the method [IANA SASL mechanisms].
pub const NAME: &str = "SCRAM-SHA-256";

/// Rounds of the password hash for new secrets. RFC 7677 asks for at least 4,096; each doubles the
/// work of somebody who has stolen the secrets, and of a client that connects.
pub const ITERATIONS: u32 = 15_000;

const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// Of a nonce, in base64: 24 characters.
const NONCE_BYTES: usize = 18;
/// The longest message of a client that is looked at.
const MESSAGE_BYTES_MAX: usize = 2_048;

type Hash = [u8; HASH_BYTES];

/// What a server keeps of a password: enough to check it, not enough to log in with.
#[derive(Clone)]
pub struct Secret {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Hash,
    server_key: Hash,
}

impl Secret {
    /// From a password, with a salt of its own. Takes some milliseconds.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn of_password(password: &str) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        Ok(Self::derive(password, &salt, ITERATIONS))
    }

    /// From a password, with this salt and this many rounds.
    #[must_use]
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        Self::derive_bytes(password.as_bytes(), salt, iterations)
    }

    pub(crate) fn derive_bytes(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new(Hash::default());
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, salted.as_mut_slice());
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// From what another server has kept: `StoredKey` and `ServerKey` of RFC 5802 section 3.
    #[must_use]
    pub fn from_parts(salt: &[u8], iterations: u32, stored_key: Hash, server_key: Hash) -> Self {
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key,
            server_key,
        }
    }

    /// Reads `ITERATIONS:SALT$STORED-KEY:SERVER-KEY`, as RFC 5803 and password files have it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (how, keys) = text.split_once('$')?;
        let (iterations, salt) = how.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|rounds| *rounds > 0)?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        let hash = |text| Hash::try_from(BASE64.decode(text).ok()?).ok();
        Some(Self::from_parts(
            &salt,
            iterations,
            hash(stored_key)?,
            hash(server_key)?,
        ))
    }

    /// What [`parse`](Self::parse) reads.
    pub(crate) fn encode(&self) -> String {
        format!(
            "{}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        )
    }

    pub(crate) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether it is made from this password.
    pub(crate) fn admits(&self, password: &[u8]) -> bool {
        let found = Self::derive_bytes(password, &self.salt, self.iterations);
        bool::from(found.stored_key.ct_eq(&self.stored_key))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Where secrets are looked up. Called on the auth pool; may block.
pub trait SecretStore: Send + Sync {
    /// The secret of a user.
    ///
    /// # Errors
    ///
    /// [`Denied::unavailable`], where it cannot be looked up now.
    fn find(&self, user: &str) -> Result<Option<Secret>, Denied>;
}

/// Users and their secrets, in memory.
#[derive(Debug, Clone, Default)]
pub struct Users(HashMap<String, Secret>);

impl Users {
    /// Adds a user, or changes the password.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn insert(&mut self, user: impl Into<String>, password: &str) -> io::Result<()> {
        self.insert_secret(user, Secret::of_password(password)?);
        Ok(())
    }

    /// The same, where there is a secret already.
    pub fn insert_secret(&mut self, user: impl Into<String>, secret: Secret) {
        self.0.insert(user.into(), secret);
    }
}

impl SecretStore for Users {
    fn find(&self, user: &str) -> Result<Option<Secret>, Denied> {
        Ok(self.0.get(user).cloned())
    }
}

/// The method, to be given to [`Builder::mechanism`](crate::Builder::mechanism).
pub struct Scram {
    store: Arc<dyn SecretStore>,
    /// Makes up salts for users that there are not, so that nobody finds out which there are.
    decoy: Hash,
}

impl Scram {
    /// SCRAM-SHA-256 with the secrets of this store. The identity that it grants is the user name.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn sha_256(store: impl SecretStore + 'static) -> io::Result<Self> {
        let mut decoy = Hash::default();
        random(&mut decoy)?;
        Ok(Self {
            store: Arc::new(store),
            decoy,
        })
    }

    /// The same with the secrets of another store. Users that there are not look the same in both.
    pub(crate) fn with_store(&self, store: Arc<dyn SecretStore>) -> Self {
        Self {
            store,
            decoy: self.decoy,
        }
    }

    /// Begins with a nonce that a test has chosen.
    #[cfg(test)]
    pub(crate) fn begin_with_nonce(&self, nonce: String) -> Box<dyn Exchange> {
        Box::new(self.begin_with(nonce))
    }

    fn begin_with(&self, nonce: String) -> Conversation {
        Conversation {
            store: Arc::clone(&self.store),
            decoy: self.decoy,
            state: State::First { nonce },
        }
    }
}

impl Mechanism for Scram {
    fn name(&self) -> &str {
        NAME
    }

    fn begin(&self, _request: &ConnectRequest) -> Box<dyn Exchange> {
        let mut bytes = [0; NONCE_BYTES];
        let nonce = random(&mut bytes).map(|()| BASE64.encode(bytes));
        match nonce {
            Ok(nonce) => Box::new(self.begin_with(nonce)),
            Err(_) => Box::new(NoNonce),
        }
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").finish_non_exhaustive()
    }
}

/// Without random numbers there is no exchange.
struct NoNonce;

impl Exchange for NoNonce {
    fn step(&mut self, _data: &[u8]) -> Step {
        Step::Fail(Denied::unavailable())
    }
}

struct Conversation {
    store: Arc<dyn SecretStore>,
    decoy: Hash,
    state: State,
}

enum State {
    /// The client's first message is due.
    First {
        nonce: String,
    },
    /// Its proof is due.
    Proof(Box<Proof>),
    Over,
}

struct Proof {
    user: String,
    /// `None` for a user that there is not.
    secret: Option<Secret>,
    /// The client's header in base64, which it has to repeat.
    header: String,
    nonce: String,
    /// The client's first message without the header, a comma, and ours.
    so_far: String,
}

impl Exchange for Conversation {
    fn step(&mut self, data: &[u8]) -> Step {
        // A message that cannot be read, and one that is wrong, fail alike.
        let denied = || Step::Fail(Denied::not_authorized());
        if data.len() > MESSAGE_BYTES_MAX {
            return denied();
        }
        let Ok(message) = std::str::from_utf8(data) else {
            return denied();
        };
        match std::mem::replace(&mut self.state, State::Over) {
            State::First { nonce } => match self.first(message, &nonce) {
                Ok(Some((proof, answer))) => {
                    self.state = State::Proof(Box::new(proof));
                    Step::Continue(answer.into_bytes())
                }
                Ok(None) => denied(),
                Err(unavailable) => Step::Fail(unavailable),
            },
            State::Proof(proof) => {
                proof
                    .check(message)
                    .map_or_else(denied, |signature| Step::Done {
                        grant: Grant::to(proof.user.as_str()),
                        data: Some(format!("v={}", BASE64.encode(signature)).into_bytes()),
                    })
            }
            State::Over => denied(),
        }
    }
}

impl Conversation {
    /// Reads `client-first-message` and makes `server-first-message` (RFC 5802 section 7).
    fn first(&self, message: &str, nonce: &str) -> Result<Option<(Proof, String)>, Denied> {
        let Some(first) = First::read(message) else {
            return Ok(None);
        };
        let secret = self.store.find(&first.user)?;
        let (salt, iterations) = match &secret {
            Some(secret) => (secret.salt.clone(), secret.iterations),
            None => {
                let made_up = hmac(&self.decoy, first.user.as_bytes());
                let salt = made_up.get(..SALT_BYTES).unwrap_or_default().to_vec();
                (salt, ITERATIONS)
            }
        };
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = BASE64.encode(salt);
        let answer = format!("r={nonce},s={salt},i={iterations}");
        let proof = Proof {
            user: first.user,
            secret,
            header: BASE64.encode(first.header),
            nonce,
            so_far: format!("{},{answer}", first.bare),
        };
        Ok(Some((proof, answer)))
    }
}

struct First<'a> {
    header: &'a str,
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

impl<'a> First<'a> {
    fn read(message: &'a str) -> Option<Self> {
        // No channel binding and no other identity to act as.
        let bare = message
            .strip_prefix("n,,")
            .or_else(|| message.strip_prefix("y,,"))?;
        let header = message.get(..message.len() - bare.len())?;
        // An extension that has to be understood comes first, as `m=`, and there is none.
        let mut fields = bare.split(',');
        let user = plain_name(fields.next()?.strip_prefix("n=")?)?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        let is_nonce = !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic());
        is_nonce.then_some(Self {
            header,
            bare,
            user,
            nonce,
        })
    }
}

impl Proof {
    /// Reads `client-final-message`; the server's signature where the proof holds.
    fn check(&self, message: &str) -> Option<Hash> {
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let header = fields.next()?.strip_prefix("c=")?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        let proof: Hash = BASE64.decode(proof).ok()?.try_into().ok()?;
        if header != self.header || nonce != self.nonce {
            return None;
        }
        // For a user that there is not the same work is done, in vain.
        let nobody = Secret::from_parts(&[], ITERATIONS, [0; HASH_BYTES], [0; HASH_BYTES]);
        let secret = self.secret.as_ref().unwrap_or(&nobody);
        let message = format!("{},{without_proof}", self.so_far);
        let mut client_key = hmac(&secret.stored_key, message.as_bytes());
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let shown: Hash = Sha256::digest(client_key).into();
        let is_right = bool::from(shown.ct_eq(&secret.stored_key));
        let signature = hmac(&secret.server_key, message.as_bytes());
        (is_right && self.secret.is_some()).then_some(signature)
    }
}

/// A user name with `=2C` for a comma and `=3D` for an equals sign; no other `=` is legal.
fn plain_name(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut parts = name.split('=');
    plain.push_str(parts.next()?);
    for part in parts {
        let (sign, rest) = part
            .strip_prefix("2C")
            .map(|rest| (',', rest))
            .or_else(|| part.strip_prefix("3D").map(|rest| ('=', rest)))?;
        plain.push(sign);
        plain.push_str(rest);
    }
    (!plain.is_empty()).then_some(plain)
}

fn hmac(key: &Hash, message: &[u8]) -> Hash {
    // HMAC takes keys of any length; were it not so, no proof would hold.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; HASH_BYTES], |mut mac| {
        mac.update(message);
        mac.finalize().into_bytes().into()
    })
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|_| io::Error::other("the system has no random numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn scram() -> Scram {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let mut users = Users::default();
        users.insert_secret("user", Secret::derive("pencil", &salt, 4_096));
        users.insert_secret("a,b=c", Secret::derive("pencil", &salt, 4_096));
        Scram::sha_256(users).expect("random numbers")
    }

    fn challenge(conversation: &mut Conversation, first: &str) -> String {
        match conversation.step(first.as_bytes()) {
            Step::Continue(data) => String::from_utf8(data).expect("text"),
            other => panic!("{first}: {other:?}"),
        }
    }

    #[track_caller]
    fn assert_fails(conversation: &mut Conversation, message: &str) {
        match conversation.step(message.as_bytes()) {
            Step::Fail(denied) => assert_eq!(denied, Denied::not_authorized()),
            other => panic!("{message}: {other:?}"),
        }
    }

    #[test]
    fn the_example_of_rfc_7677_goes_through() {
        let mut conversation = scram().begin_with(NONCE.to_owned());
        assert_eq!(challenge(&mut conversation, FIRST), CHALLENGE);
        match conversation.step(FINAL.as_bytes()) {
            Step::Done { grant, data } => {
                assert_eq!(grant.identity(), Some("user"));
                assert_eq!(data.as_deref(), Some(SIGNATURE.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
        assert_fails(&mut conversation, FINAL);
    }

    #[test]
    fn a_proof_fails_if_any_part_of_it_is_changed() {
        for (from, to) in [
            ("c=biws", "c=eSws"),
            ("hNlF$k0", "hNlF$k1"),
            ("p=dH", "p=dI"),
            (",p=", ",x=1,p="),
            (",p=dHzb", ",q=dHzb"),
            ("ndVQ=", ""),
        ] {
            let mut conversation = scram().begin_with(NONCE.to_owned());
            challenge(&mut conversation, FIRST);
            let changed = FINAL.replacen(from, to, 1);
            assert_ne!(changed, FINAL);
            assert_fails(&mut conversation, &changed);
        }
    }

    #[test]
    fn a_first_message_that_is_wrong_fails() {
        for wrong in [
            "",
            "n,,",
            "p=tls-unique,,n=user,r=abc",
            "n,a=other,n=user,r=abc",
            "n,,m=ext,n=user,r=abc",
            "n,,n=,r=abc",
            "n,,n=us=er,r=abc",
            "n,,n=user,r=",
            "n,,n=user,r=a b",
            "n,,n=user",
            "\u{fffd}",
        ] {
            assert_fails(&mut scram().begin_with(NONCE.to_owned()), wrong);
        }
        let long = format!("n,,n={},r=abc", "x".repeat(MESSAGE_BYTES_MAX));
        assert_fails(&mut scram().begin_with(NONCE.to_owned()), &long);
        let step = scram().begin_with(NONCE.to_owned()).step(b"n,,n=\xFF,r=a");
        assert!(matches!(step, Step::Fail(_)));
    }

    #[test]
    fn a_user_that_there_is_not_looks_like_one_that_there_is() {
        let scram = scram();
        let ask = |user: &str| {
            let mut conversation = scram.begin_with(NONCE.to_owned());
            let answer = challenge(&mut conversation, &format!("n,,n={user},r=abc"));
            assert_fails(
                &mut conversation,
                &format!("c=biws,r=abc{NONCE},p={}", BASE64.encode([0; HASH_BYTES])),
            );
            answer
        };
        let (first, again, other) = (ask("nobody"), ask("nobody"), ask("somebody"));
        assert_eq!(first, again, "its salt stays the same");
        assert_ne!(first, other, "and is its own");
        assert!(first.ends_with(&format!("i={ITERATIONS}")), "{first}");
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(plain_name("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!(plain_name("a=2cb"), None);
        assert_eq!(plain_name("a="), None);
        let mut conversation = scram().begin_with(NONCE.to_owned());
        let answer = challenge(&mut conversation, "y,,n=a=2Cb=3Dc,r=abc");
        assert!(answer.ends_with("i=4096"), "{answer}");
    }

    #[test]
    fn each_password_gets_a_salt_of_its_own() {
        let secrets = [(); 2].map(|()| Secret::of_password("x").expect("random numbers"));
        assert_ne!(secrets[0].salt, secrets[1].salt);
        assert_ne!(secrets[0].stored_key, secrets[1].stored_key);
    }
}
