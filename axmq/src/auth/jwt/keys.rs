//! Keys that tokens are signed by, and the check of a signature.
//!
//! The key decides which algorithms it is good for, never the token alone: an RSA key checks RSA
//! signatures and is no secret for HMAC, whatever a token says of itself.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::der::{self, PublicKey};
use super::token::{Algorithm, Token, TokenError};
use crate::auth::FileError;
use crate::auth::login::Tag;

/// RFC 7518 section 3.2: a secret has at least as many bytes as the hash.
const SECRET_BYTES_MIN: usize = 32;
/// What the library takes: moduli from 2,048 to 8,192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;
const ED25519_BYTES: usize = 32;

/// Keys, from a file.
#[derive(Default)]
pub struct Keys {
    keys: Vec<NamedKey>,
    digest: [u8; 32],
}

struct NamedKey {
    /// What tokens call it.
    id: Option<Box<str>>,
    /// The only algorithm that it is for, where it says so.
    only: Option<Algorithm>,
    key: Key,
    tag: Tag,
}

enum Key {
    Secret(Zeroizing<Vec<u8>>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A JSON Web Key (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    k: Option<Zeroizing<String>>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

impl Keys {
    /// Reads the text of the file `name`: a JSON Web Key Set, or public keys in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with it; a private key is refused, for it has no place here.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let refuse = |what: String| FileError::new(format!("{name}: {what}"));
        let mut keys = if text.trim_start().starts_with('{') {
            jwk_set(text).map_err(refuse)?
        } else {
            pem(text).map_err(refuse)?
        };
        if keys.keys.is_empty() {
            return Err(refuse("there is no key in this file".to_owned()));
        }
        keys.digest = Sha256::digest(text).into();
        Ok(keys)
    }

    /// One secret, for HMAC.
    ///
    /// # Errors
    ///
    /// Where it has fewer than 32 bytes, or is a public key.
    pub fn from_secret(name: &str, secret: &[u8]) -> Result<Self, FileError> {
        let refuse = |what: String| FileError::new(format!("{name}: {what}"));
        // Everybody knows it; a token signed by it as a secret would be worth nothing.
        if secret.windows(11).any(|window| window == b"-----BEGIN ") {
            let what = "this is a key in PEM, not a secret; name it as `key_file`";
            return Err(refuse(what.to_owned()));
        }
        let key = secret_key(secret.to_vec()).map_err(refuse)?;
        let mut keys = Self::default();
        keys.add(None, None, key);
        keys.digest = Sha256::digest(secret).into();
        Ok(keys)
    }

    fn add(&mut self, id: Option<Box<str>>, only: Option<Algorithm>, key: Key) {
        let tag = key.tag();
        self.keys.push(NamedKey { id, only, key, tag });
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.keys.append(&mut other.keys);
        self.digest = Sha256::digest([self.digest, other.digest].concat()).into();
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The payload of a token that one of these keys has signed.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn verify(&self, token: &[u8]) -> Result<Vec<u8>, TokenError> {
        let token = Token::parse(token)?;
        self.signer_of(&token)?;
        Ok(token.payload)
    }

    /// Which key has signed a token.
    pub(super) fn signer_of(&self, token: &Token<'_>) -> Result<Tag, TokenError> {
        let is_meant = |key: &&NamedKey| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => *wanted == **id,
            _ => true,
        };
        let mut is_known = false;
        for key in self.keys.iter().filter(is_meant) {
            if key.only.is_some_and(|only| only != token.algorithm)
                || !key.key.is_for(token.algorithm)
            {
                continue;
            }
            is_known = true;
            if key.key.has_signed(token) {
                return Ok(key.tag);
            }
        }
        Err(if is_known {
            TokenError::Signature
        } else {
            TokenError::NoKey
        })
    }

    pub(super) fn has(&self, tag: Tag) -> bool {
        self.keys.iter().any(|key| key.tag == tag)
    }
}

impl Key {
    fn tag(&self) -> Tag {
        match self {
            Self::Secret(secret) => Tag::of(secret),
            Self::Rsa(key) => Tag::of(&[key.n.as_slice(), &key.e].concat()),
            Self::P256(key) | Self::P384(key) | Self::Ed25519(key) => Tag::of(key),
        }
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self {
            Self::Secret(secret) => match algorithm {
                A::Hs256 => true,
                A::Hs384 => secret.len() >= 48,
                A::Hs512 => secret.len() >= 64,
                _ => false,
            },
            Self::Rsa(_) => matches!(
                algorithm,
                A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512
            ),
            Self::P256(_) => algorithm == A::Es256,
            Self::P384(_) => algorithm == A::Es384,
            Self::Ed25519(_) => algorithm == A::EdDsa,
        }
    }

    /// Secrets are compared in constant time; what is public need not be.
    fn has_signed(&self, token: &Token<'_>) -> bool {
        use Algorithm as A;
        let (message, proof) = (token.signed, token.signature.as_slice());
        let by = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key)
                .verify(message, proof)
                .is_ok()
        };
        match (self, token.algorithm) {
            (Self::Secret(key), A::Hs256) => has_mac::<Hmac<Sha256>>(key, message, proof),
            (Self::Secret(key), A::Hs384) => has_mac::<Hmac<Sha384>>(key, message, proof),
            (Self::Secret(key), A::Hs512) => has_mac::<Hmac<Sha512>>(key, message, proof),
            (Self::Rsa(key), algorithm) => {
                let how = match algorithm {
                    A::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    A::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    A::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    A::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    A::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    A::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                key.verify(how, message, proof).is_ok()
            }
            (Self::P256(key), A::Es256) => by(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Self::P384(key), A::Es384) => by(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Self::Ed25519(key), A::EdDsa) => by(&signature::ED25519, key),
            _ => false,
        }
    }
}

fn has_mac<M: Mac + KeyInit>(key: &[u8], message: &[u8], proof: &[u8]) -> bool {
    <M as KeyInit>::new_from_slice(key).is_ok_and(|mut mac| {
        mac.update(message);
        mac.verify_slice(proof).is_ok()
    })
}

fn secret_key(secret: Vec<u8>) -> Result<Key, String> {
    let secret = Zeroizing::new(secret);
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "the secret has {} bytes; below {SECRET_BYTES_MIN} it could be guessed from a token",
            secret.len()
        ));
    }
    Ok(Key::Secret(secret))
}

fn rsa_key(n: &[u8], e: &[u8]) -> Result<Key, String> {
    let bits = n.len() * 8;
    if !RSA_BYTES.contains(&n.len()) {
        return Err(format!(
            "an RSA key of about {bits} bits; from 2,048 to 8,192 are taken"
        ));
    }
    Ok(Key::Rsa(RsaPublicKeyComponents {
        n: n.to_vec(),
        e: e.to_vec(),
    }))
}

/// Reads a JSON Web Key Set. A key of an unknown kind, or for another use, is passed over: sets are
/// shared with others (RFC 7517 section 5).
fn jwk_set(text: &str) -> Result<Keys, String> {
    // The error does not show what stands there.
    let set: JwkSet = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("line {line}, column {column}: this is not a JSON Web Key Set")
    })?;
    let mut keys = Keys::default();
    for (at, jwk) in set.keys.iter().enumerate() {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            continue;
        }
        let only = match &jwk.alg {
            Some(name) => match Algorithm::of_name(name) {
                Some(algorithm) => Some(algorithm),
                None => continue,
            },
            None => None,
        };
        match jwk_key(jwk) {
            Ok(Some(key)) => keys.add(jwk.kid.as_deref().map(Into::into), only, key),
            Ok(None) => {}
            Err(what) => return Err(format!("key {}: {what}", at + 1)),
        }
    }
    Ok(keys)
}

fn jwk_key(jwk: &Jwk) -> Result<Option<Key>, String> {
    let bytes = |name: &str, text: Option<&str>| {
        let text = text.ok_or_else(|| format!("it has no `{name}`"))?;
        let decoded = URL_SAFE_NO_PAD.decode(text);
        decoded.map_err(|_| format!("`{name}` is not base64url"))
    };
    let point = |len: usize| -> Result<Vec<u8>, String> {
        let (x, y) = (bytes("x", jwk.x.as_deref())?, bytes("y", jwk.y.as_deref())?);
        if x.len() != len || y.len() != len {
            return Err(format!("`x` and `y` must have {len} bytes on this curve"));
        }
        Ok([&[4], x.as_slice(), &y].concat())
    };
    Ok(Some(match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => secret_key(bytes("k", jwk.k.as_ref().map(|k| k.as_str()))?)?,
        ("RSA", _) => rsa_key(
            &bytes("n", jwk.n.as_deref())?,
            &bytes("e", jwk.e.as_deref())?,
        )?,
        ("EC", Some("P-256")) => Key::P256(point(P256_BYTES)?),
        ("EC", Some("P-384")) => Key::P384(point(P384_BYTES)?),
        ("OKP", Some("Ed25519")) => {
            let x = bytes("x", jwk.x.as_deref())?;
            if x.len() != ED25519_BYTES {
                return Err(format!("`x` must have {ED25519_BYTES} bytes on this curve"));
            }
            Key::Ed25519(x)
        }
        _ => return Ok(None),
    }))
}

/// Reads public keys in PEM (RFC 7468), as many as there are.
fn pem(text: &str) -> Result<Keys, String> {
    let mut keys = Keys::default();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ");
        let Some(label) = label.and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let base64: String = lines.by_ref().take_while(|line| *line != end).collect();
        let der = STANDARD.decode(base64);
        let der = der.map_err(|_| format!("what stands below BEGIN {label} is not base64"))?;
        let found = match label {
            "PUBLIC KEY" => der::public_key(&der),
            "RSA PUBLIC KEY" => der::rsa_public_key(&der),
            _ if label.contains("PRIVATE") => {
                let what = "a private key has no place here: whoever reads it makes tokens; \
                            write the public key that belongs to it";
                return Err(what.to_owned());
            }
            _ => return Err(format!("BEGIN {label}: only PUBLIC KEY is taken")),
        };
        let key = match found {
            Some(PublicKey::Rsa(n, e)) => rsa_key(n, e)?,
            Some(PublicKey::P256(point)) => Key::P256(point.to_vec()),
            Some(PublicKey::P384(point)) => Key::P384(point.to_vec()),
            Some(PublicKey::Ed25519(point)) => Key::Ed25519(point.to_vec()),
            None => {
                return Err(format!(
                    "BEGIN {label}: this is none of RSA, P-256, P-384 and Ed25519"
                ));
            }
        };
        keys.add(None, None, key);
    }
    Ok(keys)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}
