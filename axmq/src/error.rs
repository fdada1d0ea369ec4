//! Why the broker did not start, or ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::auth::FileError;
use crate::config::{Endpoint, Violation};
use crate::data_dir::DataDirError;

/// Why [`Broker::start`](crate::Broker::start) failed. Nothing is left behind: no thread, no
/// listener, no lock.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    Bind {
        /// The address as it was configured.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A socket in the file system, or one of the service manager, cannot be listened on.
    Socket {
        /// As it was configured.
        endpoint: Endpoint,
        /// What is in the way.
        source: io::Error,
    },
    /// The configuration is refused; each says why and what to do.
    Config(Vec<Violation>),
    /// A file that `[auth]` names cannot be used.
    Auth(FileError),
    /// A file that a listener names for its TLS cannot be used.
    Tls(FileError),
    /// The data directory cannot be used.
    DataDir(DataDirError),
    /// What is kept on disk cannot be used.
    Store {
        /// Where it is.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// A thread, or what it waits on, could not be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { addr, source } => {
                write!(f, "cannot listen on {addr}: {source}")?;
                let port = addr.port();
                match source.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "; `ss -ltnp 'sport = :{port}'` shows who holds the port, \
                         --listen chooses another"
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, "; `ip address` shows the addresses of this machine")
                    }
                    io::ErrorKind::PermissionDenied if port < 1024 => write!(
                        f,
                        "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE, \
                         --listen chooses another"
                    ),
                    _ => Ok(()),
                }
            }
            Self::Socket { endpoint, source } => {
                write!(f, "cannot listen on {endpoint}: {source}")
            }
            Self::Config(found) => {
                f.write_str("the configuration is refused")?;
                found
                    .iter()
                    .try_for_each(|violation| write!(f, "\n{}", violation.message))
            }
            Self::Auth(error) | Self::Tls(error) => error.fmt(f),
            Self::DataDir(error) => error.fmt(f),
            Self::Store { path, why } => {
                write!(f, "cannot use the store in {}: {why}", path.display())
            }
            Self::Thread(source) => write!(f, "cannot start a thread: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Socket { source, .. } | Self::Thread(source) => {
                Some(source)
            }
            Self::DataDir(error) => Some(error),
            Self::Auth(error) | Self::Tls(error) => Some(error),
            Self::Config(_) | Self::Store { .. } => None,
        }
    }
}

impl From<DataDirError> for StartError {
    fn from(error: DataDirError) -> Self {
        Self::DataDir(error)
    }
}

/// Why a running broker cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// It did not start; only from [`Builder::run`](crate::Builder::run).
    Start(StartError),
    /// A thread ended by a panic.
    Panicked {
        /// The name of the thread.
        thread: String,
    },
    /// A thread met an error that it cannot work around.
    Io {
        /// The name of the thread.
        thread: String,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Panicked { thread } => write!(f, "the thread {thread} ended by a panic"),
            Self::Io { thread, source } => write!(f, "the thread {thread} failed: {source}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Start(error) => Some(error),
            Self::Panicked { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bind_names_the_address_and_a_way_out() {
        for (kind, port, hint) in [
            (io::ErrorKind::AddrInUse, 1883, "ss -ltnp 'sport = :1883'"),
            (io::ErrorKind::AddrNotAvailable, 1883, "ip address"),
            (io::ErrorKind::PermissionDenied, 80, "CAP_NET_BIND_SERVICE"),
        ] {
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            let text = StartError::Bind {
                addr,
                source: kind.into(),
            }
            .to_string();
            assert!(text.contains(&addr.to_string()), "{text}");
            assert!(text.contains(hint), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}
