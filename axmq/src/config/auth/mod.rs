//! The section `[auth]`: who clients are, and what they may do.

mod http;
mod jwt;
mod role;

use std::path::PathBuf;

pub use self::http::HttpSettings;
pub use self::jwt::{JwtSettings, TokenBearer, TokenPlace};
pub use self::role::Role;
pub(super) use self::role::{ROLE, ROLE_LISTS};
use super::keys::{Key, Kind, Value};
use super::{Config, Listener};
use crate::auth::{Subscribing, check_url};

/// Who clients are, and what they may do: the section `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Who is asked about a client, and in which order; empty asks all that are configured. See
    /// [`order`](Self::order).
    pub chain: Vec<Authenticator>,
    /// Users and the hashes of their passwords, as `axmq passwd` writes them; without it, no
    /// password is asked for.
    pub password_file: Option<PathBuf>,
    /// Whether users of the password file may log in by SCRAM-SHA-256.
    pub scram: bool,
    /// Tokens: `[auth.jwt]`.
    pub jwt: JwtSettings,
    /// A service that is asked: `[auth.http]`.
    pub http: HttpSettings,
    /// What clients may do, in the format of mosquitto; without it, and without roles, everything.
    pub acl_file: Option<PathBuf>,
    /// What the users of each role may do: `[[auth.role]]`.
    pub roles: Vec<Role>,
    /// Whether a subscription has to be allowed as a whole.
    pub acl_subscribe: Subscribing,
    /// Whether each message is checked on its way to each subscriber.
    pub acl_deliveries: bool,
    /// Whether a reload ends the connections of clients whose credentials do not hold any more.
    pub disconnect_revoked: bool,
    /// Whether a connection ends when the credential that it came in by expires.
    pub disconnect_expired: bool,
}

/// Who decides about clients that name no authentication method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Authenticator {
    /// The certificate that a client has shown, where its listener takes users from them.
    Certificate,
    /// Tokens.
    Jwt,
    /// The password file.
    Password,
    /// An HTTP service.
    Http,
    /// Lets in whoever claims nothing: neither a user name nor a password.
    Anonymous,
}

impl Authenticator {
    /// In the order in which they are asked unless `auth.chain` says otherwise: what is quick and
    /// says for sure whether it is concerned comes first.
    const ALL: [Self; 5] = [
        Self::Certificate,
        Self::Jwt,
        Self::Password,
        Self::Http,
        Self::Anonymous,
    ];

    const NAMES: &'static [&'static str] = &[
        Self::ALL[0].name(),
        Self::ALL[1].name(),
        Self::ALL[2].name(),
        Self::ALL[3].name(),
        Self::ALL[4].name(),
    ];

    /// What it is called in `auth.chain`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Jwt => "jwt",
            Self::Password => "password",
            Self::Http => "http",
            Self::Anonymous => "anonymous",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            chain: Vec::new(),
            password_file: None,
            scram: false,
            jwt: JwtSettings::default(),
            http: HttpSettings::default(),
            acl_file: None,
            roles: Vec::new(),
            acl_subscribe: Subscribing::Covered,
            acl_deliveries: true,
            disconnect_revoked: false,
            disconnect_expired: true,
        }
    }
}

const SUBSCRIBING: &[&str] = &["covered", "overlapping"];

impl AuthSettings {
    /// Who is asked about a client, one after the other until one decides: [`chain`](Self::chain),
    /// or all that are configured; and whoever claims nothing is let in where `allows_anonymous`.
    #[must_use]
    pub fn order(&self, allows_anonymous: bool) -> Vec<Authenticator> {
        let mut order = self.chain.clone();
        if order.is_empty() {
            let is_there = |it: &Authenticator| self.missing_for(*it).is_none();
            let all = Authenticator::ALL.into_iter().filter(is_there);
            order = all.filter(|it| *it != Authenticator::Anonymous).collect();
        }
        if allows_anonymous && !order.contains(&Authenticator::Anonymous) {
            order.push(Authenticator::Anonymous);
        }
        order
    }

    /// Whether clients have to say who they are.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.order(false).iter().any(|it| match it {
            Authenticator::Anonymous => false,
            // Who has one may show it, also where nobody has to.
            Authenticator::Certificate => !self.chain.is_empty(),
            _ => true,
        })
    }

    /// Whether anything is asked about what clients do: there are rules, or logins may bring some.
    #[must_use]
    pub fn authorizes(&self) -> bool {
        let order = self.order(false);
        let may_bring = order.contains(&Authenticator::Jwt) || order.contains(&Authenticator::Http);
        self.acl_file.is_some() || !self.roles.is_empty() || may_bring
    }

    /// The key without which an authenticator has nothing to go by.
    fn missing_for(&self, authenticator: Authenticator) -> Option<&'static str> {
        match authenticator {
            Authenticator::Password if self.password_file.is_none() => Some("auth.password_file"),
            Authenticator::Http if self.http.url.is_none() => Some("auth.http.url"),
            Authenticator::Jwt if !self.jwt.is_set() => Some("auth.jwt.key_file"),
            _ => None,
        }
    }

    /// Keys that contradict each other.
    pub(super) fn check(
        &self,
        listeners: &[Listener],
    ) -> Vec<(&'static [(&'static str, &'static str)], String)> {
        let mut found: Vec<(&'static [_], String)> = Vec::new();
        let takes_users = |it: &Listener| !it.rules.tls_identity.is_empty();
        if self.chain.contains(&Authenticator::Certificate) && !listeners.iter().any(takes_users) {
            let message = "`certificate` in `auth.chain` needs a listener with `tls_identity`";
            found.push((&[("auth", "chain")], message.to_owned()));
        }
        for (at, authenticator) in self.chain.iter().enumerate() {
            let name = authenticator.name();
            if let Some(key) = self.missing_for(*authenticator) {
                let message = format!("`{name}` in `auth.chain` needs `{key}`");
                found.push((&[("auth", "chain")], message));
            }
            if self.chain.iter().take(at).any(|it| it == authenticator) {
                let message = format!("`{name}` stands in `auth.chain` twice");
                found.push((&[("auth", "chain")], message));
            }
        }
        if self.scram && self.password_file.is_none() {
            let message = "`auth.scram` needs `auth.password_file`, where its users are";
            found.push((&[("auth", "scram")], message.to_owned()));
        }
        if self.acl_subscribe == Subscribing::Overlapping && !self.acl_deliveries {
            let message = "`auth.acl_subscribe = \"overlapping\"` needs `auth.acl_deliveries`: a \
                 subscription may match more than its client may read";
            let keys = &[("auth", "acl_deliveries"), ("auth", "acl_subscribe")];
            found.push((keys, message.to_owned()));
        }
        if let Some(Err(wrong)) = self.http.url.as_deref().map(check_url) {
            let message = format!("`auth.http.url`: {wrong}");
            found.push((&[("auth.http", "url")], message));
        }
        for message in Role::check_all(&self.roles) {
            found.push((&[("auth", ROLE)], message));
        }
        found
    }

    pub(super) const KEYS: &'static [Key] = &[
        Key {
            section: "auth",
            name: "chain",
            unit: "",
            kind: Kind::Words(Authenticator::NAMES),
            read: |config| {
                let chain = &config.auth.chain;
                let words = || chain.iter().map(|it| it.name()).collect();
                (!chain.is_empty()).then(|| Value::Words(words()))
            },
            write: |config, value| {
                if let Value::Words(words) = value {
                    let found = words.into_iter().filter_map(Authenticator::of_name);
                    config.auth.chain = found.collect();
                }
            },
        },
        key!(path, "auth", password_file, auth),
        key!(flag, "auth", scram, auth),
        key!(path, "auth", acl_file, auth),
        Key {
            section: "auth",
            name: "acl_subscribe",
            unit: "",
            kind: Kind::Choice(SUBSCRIBING),
            read: |config| {
                Some(Value::Word(match config.auth.acl_subscribe {
                    Subscribing::Covered => "covered",
                    Subscribing::Overlapping => "overlapping",
                }))
            },
            write: |config, value| {
                if let Value::Word(word) = value {
                    config.auth.acl_subscribe = match word {
                        "overlapping" => Subscribing::Overlapping,
                        _ => Subscribing::Covered,
                    };
                }
            },
        },
        key!(flag, "auth", acl_deliveries, auth),
        key!(flag, "auth", disconnect_revoked, auth),
        key!(flag, "auth", disconnect_expired, auth),
    ];
}

/// Whether a change of `key` gives the broker a part, or takes one away, that is built in at the
/// start: threads that authenticate, and the hook that is asked what clients may do.
pub(super) fn is_structural(key: &Key, from: &Config, to: &Config) -> bool {
    let (from, to) = (&from.auth, &to.auth);
    match (key.section, key.name) {
        ("auth", "acl_file") => from.authorizes() != to.authorizes(),
        ("auth", "chain" | "password_file")
        | ("auth.jwt", "key_file" | "secret_file")
        | ("auth.http", "url") => {
            from.authenticates() != to.authenticates() || from.authorizes() != to.authorizes()
        }
        _ => false,
    }
}
