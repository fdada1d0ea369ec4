//! The hash of a password, in the forms that password files have.

use std::fmt;
use std::io;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use crate::auth::login::Tag;
use crate::auth::scram::Secret;

/// Standard base64. mosquitto pads it, the hashes of the argon2 family do not; both are read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BASE64_BARE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false),
);

const SHA_512_BYTES: usize = 64;
const SALT_BYTES: usize = 16;
/// Of a hash by argon2id that is made here.
const ARGON2_BYTES: usize = 32;
/// What OWASP recommends for argon2id: 19 MiB, twice over, in one lane.
const ARGON2_KIB: u32 = 19 * 1_024;
const ARGON2_PASSES: u32 = 2;
/// What OWASP recommends for PBKDF2 with HMAC-SHA-512.
const PBKDF2_ROUNDS: u32 = 210_000;

/// A hash that costs more than these to check would be an attack on the broker itself: each login,
/// right or wrong, costs as much.
const ARGON2_KIB_MAX: u32 = 1 << 20;
const ARGON2_PASSES_MAX: u32 = 64;
const ARGON2_LANES_MAX: u32 = 64;
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;
const BCRYPT_COST_MAX: u32 = 18;
/// Salts and hashes of any family are shorter.
const PART_BYTES_MAX: usize = 128;

/// How a new password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Scheme {
    /// Argon2id with 19 MiB: slow for whoever has stolen the file, and for the broker.
    #[default]
    Argon2id,
    /// PBKDF2 with HMAC-SHA-512 in mosquitto's form `$7$`, which mosquitto reads too.
    Pbkdf2Sha512,
    /// What SCRAM-SHA-256 needs. A password in the CONNECT is checked against it as well.
    ScramSha256,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Argon2id, Self::Pbkdf2Sha512, Self::ScramSha256];

    /// The names of all.
    pub const NAMES: [&'static str; 3] = ["argon2id", "pbkdf2-sha512", "scram-sha-256"];

    /// The one of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Self::ALL.get(at).copied()
    }
}

/// A hash, read or made.
#[derive(Clone)]
pub(crate) struct PasswordHash(Form);

#[derive(Clone)]
enum Form {
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        params: Params,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    /// `$7$`
    Pbkdf2 {
        rounds: u32,
        salt: Box<[u8]>,
        hash: Box<[u8; SHA_512_BYTES]>,
    },
    /// `$6$`: the SHA-512 of password and salt, once.
    Sha512 {
        salt: Box<[u8]>,
        hash: Box<[u8; SHA_512_BYTES]>,
    },
    Bcrypt(Box<str>),
    Scram(Box<Secret>),
}

/// Why a text is not a hash. What to do about it stands in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HashError {
    /// No hash at all, most likely the password itself.
    Plain,
    /// Of a kind that is not known here.
    Unknown(String),
    /// Of a known kind, and broken.
    Malformed(&'static str),
    /// It would cost too much to check.
    TooExpensive(&'static str),
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str(
                "this is not the hash of a password; to hash it: axmq passwd add FILE USER",
            ),
            Self::Unknown(kind) => write!(
                f,
                "unknown hash `${}$`; known: argon2id, argon2i, argon2d, mosquitto's 7 and 6, \
                 bcrypt (2a, 2b, 2y), SCRAM-SHA-256; set the password anew: \
                 axmq passwd add FILE USER",
                kind.escape_debug()
            ),
            Self::Malformed(what) => write!(
                f,
                "a broken hash: {what}; set the password anew: axmq passwd add FILE USER"
            ),
            Self::TooExpensive(what) => write!(
                f,
                "a hash that takes too long to check: {what}; \
                 set the password anew: axmq passwd add FILE USER"
            ),
        }
    }
}

impl PasswordHash {
    /// Hashes a password with a salt of its own. Takes some tens of milliseconds.
    ///
    /// # Errors
    ///
    /// Where the system has no random numbers, or no memory.
    pub(crate) fn of_password(password: &[u8], scheme: Scheme) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let salt = Box::from(salt);
        Ok(Self(match scheme {
            Scheme::Argon2id => {
                let params = Params::new(ARGON2_KIB, ARGON2_PASSES, 1, Some(ARGON2_BYTES))
                    .map_err(io::Error::other)?;
                let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
                let mut hash = [0; ARGON2_BYTES];
                Argon2::new(algorithm, version, params.clone())
                    .hash_password_into(password, &salt, &mut hash)
                    .map_err(io::Error::other)?;
                Form::Argon2 {
                    algorithm,
                    version,
                    params,
                    salt,
                    hash: Box::from(hash),
                }
            }
            Scheme::Pbkdf2Sha512 => {
                let mut hash = Box::new([0; SHA_512_BYTES]);
                pbkdf2_hmac::<Sha512>(password, &salt, PBKDF2_ROUNDS, hash.as_mut_slice());
                Form::Pbkdf2 {
                    rounds: PBKDF2_ROUNDS,
                    salt,
                    hash,
                }
            }
            Scheme::ScramSha256 => {
                let rounds = crate::auth::scram::ITERATIONS;
                Form::Scram(Box::new(Secret::derive_bytes(password, &salt, rounds)))
            }
        }))
    }

    /// Reads what stands behind the colon of a line.
    pub(crate) fn parse(text: &str) -> Result<Self, HashError> {
        if let Some(secret) = text.strip_prefix("SCRAM-SHA-256$") {
            let secret = Secret::parse(secret).ok_or(HashError::Malformed(
                "after SCRAM-SHA-256 come ITERATIONS:SALT$STORED-KEY:SERVER-KEY",
            ))?;
            let rounds = secret.iterations();
            within(rounds, PBKDF2_ROUNDS_MAX, "10,000,000 rounds at most")?;
            return Ok(Self(Form::Scram(Box::new(secret))));
        }
        let (kind, rest) = text
            .strip_prefix('$')
            .and_then(|text| text.split_once('$'))
            .ok_or(HashError::Plain)?;
        let form = match kind {
            "argon2id" => argon2(Algorithm::Argon2id, rest)?,
            "argon2i" => argon2(Algorithm::Argon2i, rest)?,
            "argon2d" => argon2(Algorithm::Argon2d, rest)?,
            "7" => pbkdf2(rest)?,
            "6" => sha512(rest)?,
            "2a" | "2b" | "2y" => bcrypt(text, rest)?,
            other => return Err(HashError::Unknown(other.chars().take(20).collect())),
        };
        Ok(Self(form))
    }

    /// Tells this hash from others, and nothing else.
    pub(crate) fn tag(&self) -> Tag {
        Tag::of(self.to_string().as_bytes())
    }

    /// Whether this is the hash of `password`, compared in constant time. Takes as long as the
    /// hash was made to take.
    pub(crate) fn admits(&self, password: &[u8]) -> bool {
        match &self.0 {
            Form::Argon2 {
                algorithm,
                version,
                params,
                salt,
                hash,
            } => {
                let mut found = vec![0; hash.len()];
                Argon2::new(*algorithm, *version, params.clone())
                    .hash_password_into(password, salt, &mut found)
                    .is_ok()
                    && bool::from(found.ct_eq(hash))
            }
            Form::Pbkdf2 { rounds, salt, hash } => {
                let mut found = [0; SHA_512_BYTES];
                pbkdf2_hmac::<Sha512>(password, salt, *rounds, &mut found);
                bool::from(found.ct_eq(hash.as_slice()))
            }
            Form::Sha512 { salt, hash } => {
                let found = Sha512::new().chain_update(password).chain_update(salt);
                bool::from(found.finalize().as_slice().ct_eq(hash.as_slice()))
            }
            // Its own comparison is in constant time.
            Form::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Form::Scram(secret) => secret.admits(password),
        }
    }

    /// The secret for SCRAM-SHA-256, where the hash is one.
    pub(crate) fn scram(&self) -> Option<&Secret> {
        match &self.0 {
            Form::Scram(secret) => Some(secret),
            _ => None,
        }
    }
}

/// As it stands in a file.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Argon2 {
                algorithm,
                version,
                params,
                salt,
                hash,
            } => write!(
                f,
                "${algorithm}$v={}$m={},t={},p={}${}${}",
                u32::from(*version),
                params.m_cost(),
                params.t_cost(),
                params.p_cost(),
                BASE64_BARE.encode(salt),
                BASE64_BARE.encode(hash)
            ),
            Form::Pbkdf2 { rounds, salt, hash } => write!(
                f,
                "$7${rounds}${}${}",
                BASE64.encode(salt),
                BASE64.encode(hash.as_slice())
            ),
            Form::Sha512 { salt, hash } => write!(
                f,
                "$6${}${}",
                BASE64.encode(salt),
                BASE64.encode(hash.as_slice())
            ),
            Form::Bcrypt(text) => f.write_str(text),
            Form::Scram(secret) => write!(f, "SCRAM-SHA-256${}", secret.encode()),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the hash: it helps whoever reads a log to guess.
        f.write_str(match &self.0 {
            Form::Argon2 { .. } => "Argon2",
            Form::Pbkdf2 { .. } => "Pbkdf2",
            Form::Sha512 { .. } => "Sha512",
            Form::Bcrypt(_) => "Bcrypt",
            Form::Scram(_) => "Scram",
        })
    }
}

fn within(value: u32, max: u32, what: &'static str) -> Result<(), HashError> {
    if value > max {
        return Err(HashError::TooExpensive(what));
    }
    Ok(())
}

fn part(text: &str, what: &'static str) -> Result<Box<[u8]>, HashError> {
    BASE64
        .decode(text)
        .ok()
        .filter(|bytes| (1..=PART_BYTES_MAX).contains(&bytes.len()))
        .map(Vec::into_boxed_slice)
        .ok_or(HashError::Malformed(what))
}

fn digest(text: &str) -> Result<Box<[u8; SHA_512_BYTES]>, HashError> {
    let what = "the hash is not 64 bytes in base64";
    part(text, what)?
        .try_into()
        .map_err(|_| HashError::Malformed(what))
}

const SALT: &str = "the salt is not base64";

/// `v=19$m=19456,t=2,p=1$SALT$HASH`; without `v` it is version 16 (the PHC string format).
fn argon2(algorithm: Algorithm, rest: &str) -> Result<Form, HashError> {
    let shape = HashError::Malformed("after $argon2 come v=19$m=M,t=T,p=P$SALT$HASH");
    let fields: Vec<_> = rest.split('$').collect();
    let (version, costs, salt, hash) = match fields.as_slice() {
        ["v=19", costs, salt, hash] => (Version::V0x13, *costs, *salt, *hash),
        ["v=16", costs, salt, hash] | [costs, salt, hash] => (Version::V0x10, *costs, *salt, *hash),
        _ => return Err(shape),
    };
    let (mut kib, mut passes, mut lanes) = (None, None, None);
    for cost in costs.split(',') {
        let (name, value) = cost.split_once('=').ok_or_else(|| shape.clone())?;
        let slot = match name {
            "m" => &mut kib,
            "t" => &mut passes,
            "p" => &mut lanes,
            _ => return Err(shape),
        };
        *slot = Some(value.parse::<u32>().map_err(|_| shape.clone())?);
    }
    let (Some(kib), Some(passes), Some(lanes)) = (kib, passes, lanes) else {
        return Err(shape);
    };
    within(kib, ARGON2_KIB_MAX, "1 GiB of memory at most (m)")?;
    within(passes, ARGON2_PASSES_MAX, "64 passes at most (t)")?;
    within(lanes, ARGON2_LANES_MAX, "64 lanes at most (p)")?;
    let salt = part(salt, SALT)?;
    let hash = part(hash, "the hash is not base64")?;
    let params = Params::new(kib, passes, lanes, Some(hash.len()))
        .map_err(|_| HashError::Malformed("costs that argon2 does not take"))?;
    if salt.len() < argon2::MIN_SALT_LEN {
        return Err(HashError::Malformed("the salt is shorter than 8 bytes"));
    }
    Ok(Form::Argon2 {
        algorithm,
        version,
        params,
        salt,
        hash,
    })
}

fn pbkdf2(rest: &str) -> Result<Form, HashError> {
    let shape = HashError::Malformed("after $7$ come ROUNDS$SALT$HASH");
    let mut fields = rest.split('$');
    let (Some(rounds), Some(salt), Some(hash), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(shape);
    };
    let rounds = rounds.parse::<u32>().map_err(|_| shape.clone())?;
    if rounds == 0 {
        return Err(shape);
    }
    within(rounds, PBKDF2_ROUNDS_MAX, "10,000,000 rounds at most")?;
    Ok(Form::Pbkdf2 {
        rounds,
        salt: part(salt, SALT)?,
        hash: digest(hash)?,
    })
}

fn sha512(rest: &str) -> Result<Form, HashError> {
    let (salt, hash) = rest
        .split_once('$')
        .ok_or(HashError::Malformed("after $6$ come SALT$HASH"))?;
    Ok(Form::Sha512 {
        salt: part(salt, SALT)?,
        hash: digest(hash)?,
    })
}

/// `$2b$12$` and 53 characters of its own base64: 22 of salt, 31 of hash.
fn bcrypt(text: &str, rest: &str) -> Result<Form, HashError> {
    let (cost, body) = rest
        .split_once('$')
        .ok_or(HashError::Malformed("after $2b$ come COST$SALT-AND-HASH"))?;
    let is_cost = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost = cost.parse::<u32>().ok().filter(|_| is_cost);
    let cost = cost.ok_or(HashError::Malformed("the cost is not of two digits"))?;
    within(cost, BCRYPT_COST_MAX, "a cost of 18 at most")?;
    let is_body = body.len() == 53
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
    if cost < 4 || !is_body {
        return Err(HashError::Malformed("not the salt and hash of bcrypt"));
    }
    Ok(Form::Bcrypt(text.into()))
}
