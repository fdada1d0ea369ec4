//! Where a listener's clients connect to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a listener's clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// An address and a port; port 0 lets the kernel choose one.
    Internet(SocketAddr),
    /// A socket in the file system, by its full path.
    Unix(PathBuf),
    /// A listening socket that the service manager has made, by the name that it gives it
    /// (`sd_listen_fds(3)`).
    Passed(String),
}

impl Endpoint {
    /// The port, where it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Internet(address) => Some(address.port()),
            _ => None,
        }
    }

    /// Whether other machines may be able to reach it. What the service manager listens on is not
    /// ours to know.
    pub(super) fn is_public(&self) -> bool {
        match self {
            Self::Internet(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
            Self::Passed(_) => true,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(name) => write!(f, "fd:{name}"),
        }
    }
}
