//! Who a hook is asked about.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mqtt_codec::{ReasonCode, Version};
use pollio::PeerAddr;
use zeroize::Zeroizing;

use crate::auth::{Login, Tag};
use crate::config::Authenticator;

/// What authentication has established: who the client is, and whatever else the program wants to
/// know about it later. Kept as long as the connection.
#[derive(Clone, Default)]
pub struct Grant {
    identity: Option<Arc<str>>,
    data: Option<Arc<dyn Any + Send + Sync>>,
    /// Where `[auth]` has let the client in.
    login: Option<Arc<Login>>,
    lasts: Option<Duration>,
}

impl Grant {
    /// To somebody who need not say who they are.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// To this user, device or tenant.
    #[must_use]
    pub fn to(identity: impl Into<Arc<str>>) -> Self {
        Self {
            identity: Some(identity.into()),
            ..Self::default()
        }
    }

    /// Attaches a value of the program's own, such as roles, to be read with [`Client::data`].
    #[must_use]
    pub fn with_data<T: Send + Sync + 'static>(mut self, data: T) -> Self {
        self.data = Some(Arc::new(data));
        self
    }

    /// Ends the connection after this time, counted from when authentication is done, with reason
    /// 0x87 where the client speaks 5.0. A client that authenticates anew gets the time of its new
    /// grant. Milliseconds count, and more than 136 years are 136 years.
    #[must_use]
    pub fn for_at_most(mut self, time: Duration) -> Self {
        self.lasts = Some(time);
        self
    }

    /// To the user that a certificate names.
    pub(crate) fn certified(user: &str) -> Self {
        Self::to(user).with_login(Login::new(Authenticator::Certificate, Tag::default()))
    }

    /// Whether its user name is all that rules and hooks can see of it.
    pub(crate) fn is_name_only(&self) -> bool {
        let is_plain = |login: &Login| !login.brings_rights();
        self.data.is_none() && self.login().is_none_or(is_plain)
    }

    pub(crate) fn with_login(mut self, login: Login) -> Self {
        self.login = Some(Arc::new(login));
        self
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    /// How long it holds, in milliseconds; `None` where that is not bounded.
    pub(crate) fn lasts_ms(&self) -> Option<u64> {
        let most = Duration::from_secs(u32::MAX.into());
        let ms = self.lasts?.min(most).as_millis();
        Some(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// Who it was granted to.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// The value that was attached, where it is of this type.
    #[must_use]
    pub fn data<T: 'static>(&self) -> Option<&T> {
        self.data.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Why a client is not let in, and what it is told.
///
/// MQTT 3.x has five return codes: 4 for [`credentials`](Self::credentials), 5 for
/// [`not_authorized`](Self::not_authorized) and what else is final, 3 for what may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    reason: ReasonCode,
    text: Option<Box<str>>,
}

impl Denied {
    /// The user name or the password is wrong (0x86).
    #[must_use]
    pub const fn credentials() -> Self {
        Self::because(ReasonCode::BadUserNameOrPassword)
    }

    /// The client may not connect (0x87).
    #[must_use]
    pub const fn not_authorized() -> Self {
        Self::because(ReasonCode::NotAuthorized)
    }

    /// It cannot be decided now (0x88).
    #[must_use]
    pub const fn unavailable() -> Self {
        Self::because(ReasonCode::ServerUnavailable)
    }

    /// The client is locked out (0x8A).
    #[must_use]
    pub const fn banned() -> Self {
        Self::because(ReasonCode::Banned)
    }

    /// As many clients wait to be authenticated as may (0x97).
    pub(crate) fn busy() -> Self {
        Self::because(ReasonCode::QuotaExceeded)
            .with_text("too many clients wait for their authentication")
    }

    /// What decides about it has failed (0x80).
    pub(crate) const fn failed() -> Self {
        Self::because(ReasonCode::UnspecifiedError)
    }

    /// Any other reason. One that a CONNACK cannot refuse with becomes 0x80.
    #[must_use]
    pub const fn because(reason: ReasonCode) -> Self {
        Self { reason, text: None }
    }

    /// Tells a 5.0 client why in words, unless it wants none.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Box<str>>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// The reason code.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.reason
    }

    /// The words for the client.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().unwrap_or_else(|| self.reason.name()))
    }
}

impl std::error::Error for Denied {}

/// A CONNECT that is to be authenticated. The broker has checked it: the client id is not empty,
/// text is UTF-8. Its `Debug` shows neither the password nor the user name, which may be a token.
#[derive(Clone)]
pub struct ConnectRequest {
    pub(crate) client_id: Box<str>,
    pub(crate) username: Option<Box<str>>,
    /// The user that its certificate names.
    pub(crate) certified_user: Option<Box<str>>,
    /// Wiped when nobody needs it any more.
    pub(crate) password: Option<Zeroizing<Box<[u8]>>>,
    pub(crate) peer: PeerAddr,
    pub(crate) version: Version,
}

impl ConnectRequest {
    /// The client id, the assigned one where the client gave none.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The user name, which may be empty.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The user that the client's certificate names, where its listener wants to know
    /// (`tls_identity`). The certificate has been verified.
    #[must_use]
    pub fn certified_user(&self) -> Option<&str> {
        self.certified_user.as_deref()
    }

    /// The password: bytes, not text.
    #[must_use]
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_ref().map(|password| &***password)
    }

    /// Where the client connects from.
    #[must_use]
    pub fn peer(&self) -> PeerAddr {
        self.peer
    }

    /// The version of the protocol that it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("client_id", &self.client_id)
            .field("peer", &self.peer)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The client that a hook is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    pub(crate) id: &'a str,
    pub(crate) peer: PeerAddr,
    pub(crate) version: Version,
    pub(crate) grant: Option<&'a Grant>,
}

impl<'a> Client<'a> {
    /// The client id.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// Where it connects from; for a will, where it had connected from.
    #[must_use]
    pub fn peer(&self) -> PeerAddr {
        self.peer
    }

    /// The version of the protocol that it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Who it is, by what [`Authenticate`](super::Authenticate) has found out; `None` for anonymous
    /// clients. The user name of a CONNECT that nobody has checked is not shown.
    #[must_use]
    pub fn identity(&self) -> Option<&'a str> {
        self.grant?.identity()
    }

    /// What authentication has attached to the client, where it is of this type.
    #[must_use]
    pub fn data<T: 'static>(&self) -> Option<&'a T> {
        self.grant?.data()
    }
}

/// Who wrote a will: kept with it, since the connection is gone when it is published.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    pub(crate) peer: PeerAddr,
    pub(crate) version: Version,
    pub(crate) grant: Option<Arc<Grant>>,
}

impl Author {
    pub(crate) fn client<'a>(&'a self, id: &'a str) -> Client<'a> {
        Client {
            id,
            peer: self.peer,
            version: self.version,
            grant: self.grant.as_deref(),
        }
    }
}
