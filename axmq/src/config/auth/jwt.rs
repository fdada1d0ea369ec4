//! The section `[auth.jwt]`: tokens.

use std::path::PathBuf;

use crate::config::keys::{Key, Kind, Value};

/// JSON Web Tokens that clients log in with: the section `[auth.jwt]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    /// The keys that tokens are signed by: a JSON Web Key Set, or public keys in PEM.
    pub key_file: Option<PathBuf>,
    /// A secret that tokens are signed by (HMAC).
    pub secret_file: Option<PathBuf>,
    /// Where clients put their tokens.
    pub from: TokenPlace,
    /// The claim that names the user.
    pub user_claim: String,
    /// What of the client that claim has to name.
    pub must_match: TokenBearer,
    /// The issuer that tokens have to be from, if it matters.
    pub issuer: Option<String>,
    /// The audience that tokens have to be for, if it matters.
    pub audience: Option<String>,
    /// Seconds by which clocks may differ.
    pub leeway_s: u32,
    /// Whether a token that never expires is refused.
    pub require_expiry: bool,
}

/// Where clients put their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TokenPlace {
    /// In the password.
    #[default]
    Password,
    /// In the user name.
    Username,
}

/// What of a client its token has to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TokenBearer {
    /// The user name, where the client has one.
    #[default]
    Username,
    /// The client id.
    ClientId,
    /// Nothing.
    Nothing,
}

const PLACES: &[&str] = &["password", "username"];
const BEARERS: &[&str] = &["username", "client-id", "nothing"];

impl TokenPlace {
    fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Username => "username",
        }
    }
}

impl TokenBearer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::ClientId => "client-id",
            Self::Nothing => "nothing",
        }
    }
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            key_file: None,
            secret_file: None,
            from: TokenPlace::Password,
            user_claim: "sub".to_owned(),
            must_match: TokenBearer::Username,
            issuer: None,
            audience: None,
            leeway_s: 30,
            require_expiry: true,
        }
    }
}

impl JwtSettings {
    pub(super) fn is_set(&self) -> bool {
        self.key_file.is_some() || self.secret_file.is_some()
    }

    /// All that decides whether a token that has been taken would be taken again.
    pub(crate) fn who_and_when(&self) -> String {
        let (issuer, audience) = (&self.issuer, &self.audience);
        let names = [self.from.name(), &self.user_claim, self.must_match.name()];
        format!("{issuer:?} {audience:?} {names:?} {}", self.require_expiry)
    }

    pub(in crate::config) const KEYS: &'static [Key] = &[
        key!(path, "auth.jwt", key_file, auth.jwt),
        key!(path, "auth.jwt", secret_file, auth.jwt),
        Key {
            section: "auth.jwt",
            name: "from",
            unit: "",
            kind: Kind::Choice(PLACES),
            read: |config| Some(Value::Word(config.auth.jwt.from.name())),
            write: |config, value| {
                if let Value::Word(word) = value {
                    config.auth.jwt.from = match word {
                        "username" => TokenPlace::Username,
                        _ => TokenPlace::Password,
                    };
                }
            },
        },
        Key {
            section: "auth.jwt",
            name: "user_claim",
            unit: "",
            kind: Kind::Text,
            read: |config| Some(Value::Text(config.auth.jwt.user_claim.clone())),
            write: |config, value| {
                if let Value::Text(text) = value {
                    config.auth.jwt.user_claim = text;
                }
            },
        },
        Key {
            section: "auth.jwt",
            name: "must_match",
            unit: "",
            kind: Kind::Choice(BEARERS),
            read: |config| Some(Value::Word(config.auth.jwt.must_match.name())),
            write: |config, value| {
                if let Value::Word(word) = value {
                    config.auth.jwt.must_match = match word {
                        "client-id" => TokenBearer::ClientId,
                        "nothing" => TokenBearer::Nothing,
                        _ => TokenBearer::Username,
                    };
                }
            },
        },
        key!(text, "auth.jwt", issuer, auth.jwt),
        key!(text, "auth.jwt", audience, auth.jwt),
        key!(number, "auth.jwt", leeway_s, auth.jwt, 0..=3_600, "seconds"),
        key!(flag, "auth.jwt", require_expiry, auth.jwt),
    ];
}
