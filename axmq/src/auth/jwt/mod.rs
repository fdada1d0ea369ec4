//! JSON Web Tokens (RFC 7519) in place of passwords.
//!
//! A token is taken if a key that is known here has signed it and its claims are right: it is
//! valid at this time, from the issuer and for the audience that are configured, and names the
//! client that brings it. Nothing of a token is ever logged.

mod der;
mod keys;
#[cfg(test)]
mod tests;
mod token;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub use self::keys::Keys;
use self::token::Token;
pub use self::token::TokenError;
use super::FileError;
use super::brought;
use super::chain::Opinion;
use super::login::{Login, Tag};
use super::password::{read, read_secret};
use crate::config::{Authenticator, JwtSettings, TokenBearer, TokenPlace};
use crate::hooks::{ConnectRequest, Denied, Grant};

/// Lets clients in that have a token.
#[derive(Debug)]
pub(super) struct Jwt {
    settings: JwtSettings,
    keys: Keys,
    /// Of the settings and a key: what a login is known by.
    salt: Tag,
    ends_connections: bool,
}

impl Jwt {
    /// Reads the keys; `None` where there are none.
    ///
    /// # Errors
    ///
    /// What is wrong with their files.
    pub(super) fn load(
        settings: &JwtSettings,
        ends_connections: bool,
    ) -> Result<Option<Self>, FileError> {
        let mut keys = Keys::default();
        if let Some(path) = &settings.key_file {
            // There may be secrets in it.
            let text = Zeroizing::new(read(path)?.0);
            keys.append(Keys::parse(&path.display().to_string(), &text)?);
        }
        if let Some(path) = &settings.secret_file {
            let secret = read_secret(path)?;
            keys.append(Keys::from_secret(&path.display().to_string(), &secret)?);
        }
        Ok((keys.len() > 0).then(|| Self::new(settings, keys, ends_connections)))
    }

    fn new(settings: &JwtSettings, keys: Keys, ends_connections: bool) -> Self {
        Self {
            settings: settings.clone(),
            keys,
            salt: Tag::of(settings.who_and_when().as_bytes()),
            ends_connections,
        }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.keys.digest()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn decide(&self, request: &ConnectRequest) -> Opinion {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.decide_at(request, since.unwrap_or_default().as_secs())
    }

    /// Decides at this time, in seconds since 1970.
    fn decide_at(&self, request: &ConnectRequest, now_s: u64) -> Opinion {
        let bytes = match self.settings.from {
            TokenPlace::Password => request.password(),
            TokenPlace::Username => request.username().map(str::as_bytes),
        };
        let token = match bytes.map(Token::parse) {
            // What is no token is the business of others.
            None | Some(Err(TokenError::Form)) => return Opinion::Pass,
            Some(Err(error)) => return refuse(&error.to_string()),
            Some(Ok(token)) => token,
        };
        let key = match self.keys.signer_of(&token) {
            Ok(key) => key,
            Err(error) => return refuse(&error.to_string()),
        };
        match self.check(&token.payload, request, now_s) {
            Ok((user, mut login, lasts)) => {
                login.tag = key.with(self.salt);
                let grant = Grant::to(user).with_login(login);
                Opinion::Grant(match lasts {
                    Some(lasts) if self.ends_connections => grant.for_at_most(lasts),
                    _ => grant,
                })
            }
            Err(what) => refuse(&what),
        }
    }

    /// Whom the claims name, what they let them do, and for how long.
    fn check(
        &self,
        payload: &[u8],
        request: &ConnectRequest,
        now_s: u64,
    ) -> Result<(String, Login, Option<Duration>), String> {
        let claims = serde_json::from_slice::<Map<String, Value>>(payload);
        let claims = claims.map_err(|_| "the token has no claims".to_owned())?;
        let lasts = self.check_time(&claims, now_s)?;
        let settings = &self.settings;
        if let Some(issuer) = &settings.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err("the token is from another issuer".to_owned());
        }
        if let Some(audience) = &settings.audience {
            let is_meant = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(several)) => several.iter().any(|one| one == audience),
                _ => false,
            };
            if !is_meant {
                return Err("the token is for another audience".to_owned());
            }
        }
        let user = claims.get(&settings.user_claim).and_then(Value::as_str);
        let user = user.filter(|user| is_name(user));
        let user = user.ok_or("the token names no user")?;
        let is_bearer = match settings.must_match {
            TokenBearer::Username => {
                let is_there = settings.from == TokenPlace::Password;
                let name = request.username().filter(|_| is_there);
                name.is_none_or(|name| name == user)
            }
            TokenBearer::ClientId => request.client_id() == user,
            TokenBearer::Nothing => true,
        };
        if !is_bearer {
            let name = settings.must_match.name();
            return Err(format!("the token is for another {name}"));
        }
        let mut login = Login::new(Authenticator::Jwt, Tag::default());
        if let Some(acl) = claims.get("acl") {
            let rules = brought::rules("its token", acl);
            login.rules = Some(rules.map_err(|what| format!("the token's `acl`: {what}"))?);
        }
        if let Some(roles) = claims.get("roles") {
            let roles = brought::roles(roles);
            login.roles = roles.map_err(|what| format!("the token's `roles`: {what}"))?;
        }
        Ok((user.to_owned(), login, lasts))
    }

    /// Whether the token holds now, and for how long it goes on to.
    fn check_time(
        &self,
        claims: &Map<String, Value>,
        now_s: u64,
    ) -> Result<Option<Duration>, String> {
        let leeway_s = u64::from(self.settings.leeway_s);
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => seconds(value)
                .map(Some)
                .ok_or_else(|| format!("the token's `{name}` is no time")),
        };
        for name in ["nbf", "iat"] {
            if time(name)?.is_some_and(|begins_s| begins_s > now_s + leeway_s) {
                return Err("the token is not valid yet".to_owned());
            }
        }
        match time("exp")? {
            None if self.settings.require_expiry => Err("the token never expires".to_owned()),
            None => Ok(None),
            Some(ends_s) => {
                let left_s = ends_s.saturating_add(leeway_s).saturating_sub(now_s);
                // RFC 7519 section 4.1.4: on or after that time it is not taken.
                if left_s == 0 {
                    return Err("the token has expired".to_owned());
                }
                Ok(Some(Duration::from_secs(left_s)))
            }
        }
    }

    /// Whether a token that was taken once would be so by key and settings now.
    pub(super) fn holds(&self, tag: Tag) -> bool {
        self.keys.has(tag.with(self.salt))
    }
}

/// A user name that a topic and a list of clients can bear.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_control)
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction.
fn seconds(value: &Value) -> Option<u64> {
    let whole = value.as_u64();
    // The cast saturates, and takes the fraction off.
    whole.or_else(|| value.as_f64().filter(|s| *s >= 0.0).map(|s| s as u64))
}

fn refuse(what: &str) -> Opinion {
    Opinion::Refuse(Denied::credentials().with_text(what))
}
