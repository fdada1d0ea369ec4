//! A JSON Web Token in its compact form (RFC 7515 section 7.1): three parts in base64url, with dots
//! between them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The longest token that is looked at.
pub(super) const TOKEN_BYTES_MAX: usize = 16_384;

/// A token that has been taken apart and not been checked.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) payload: Vec<u8>,
    /// What the signature is about.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// These bytes are no token.
    Form,
    /// It is signed by an algorithm that is not known, or not at all.
    Algorithm,
    /// Its header wants something understood that is not.
    Critical,
    /// No key that is known here is meant.
    NoKey,
    /// Its signature is wrong.
    Signature,
}

/// How a token is signed (RFC 7518 section 3.1, RFC 8037 section 3.1). Not `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Algorithm {
    const ALL: [(&str, Self); 12] = [
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    pub(super) fn of_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, algorithm)| *algorithm)
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// [`TokenError::Form`] where it is none; [`TokenError::Algorithm`] and
    /// [`TokenError::Critical`].
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, TokenError> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Form);
        let mut dots = (0..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'.'));
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenError::Form);
        };
        let part = |from, to| bytes.get(from..to).unwrap_or_default();
        let header = decode(part(0, first))?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Form)?;
        let payload = decode(part(first + 1, second))?;
        let signature = decode(part(second + 1, bytes.len()))?;
        // RFC 7515 section 4.1.11: what is critical and not understood makes it invalid; there are
        // no extensions that are understood here.
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        Ok(Self {
            algorithm: Algorithm::of_name(&header.alg).ok_or(TokenError::Algorithm)?,
            key_id: header.kid,
            payload,
            signed: part(0, second),
            signature,
        })
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "this is not a token",
            Self::Algorithm => "the token is not signed by an algorithm that is taken",
            Self::Critical => "the token wants something understood that is not",
            Self::NoKey => "the token is not signed by a key that is known here",
            Self::Signature => "the signature of the token is wrong",
        })
    }
}

impl std::error::Error for TokenError {}
