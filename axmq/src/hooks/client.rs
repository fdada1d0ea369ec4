//! Who a hook is asked about.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use mqtt_codec::Version;
use pollio::PeerAddr;

/// What authentication has established: who the client is, and whatever else the program wants to
/// know about it later. Kept as long as the connection.
#[derive(Clone, Default)]
pub struct Grant {
    identity: Option<Arc<str>>,
    data: Option<Arc<dyn Any + Send + Sync>>,
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
            data: None,
        }
    }

    /// Attaches a value of the program's own, such as roles, to be read with [`Client::data`].
    #[must_use]
    pub fn with_data<T: Send + Sync + 'static>(mut self, data: T) -> Self {
        self.data = Some(Arc::new(data));
        self
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

    /// Who it is, by what authentication has found out; `None` for anonymous
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
