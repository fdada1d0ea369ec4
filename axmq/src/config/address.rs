//! Addresses to listen on, as people write them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::{Endpoint, Listener};

/// An address to listen on: `127.0.0.1:1883`, `[::1]:0`, `localhost:1883`, `unix:/run/axmq.sock`,
/// or `fd:NAME` for a socket that the service manager passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Literal(SocketAddr),
    Name { host: String, port: u16 },
    Other(Endpoint),
}

/// Why a text is not an [`Address`], with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing before the port.
    NoHost {
        /// What stands after the colon.
        port: String,
    },
    /// No port.
    NoPort {
        /// The text with a port added.
        suggestion: String,
    },
    /// What stands for the port is not a number up to 65535.
    Port(String),
    /// An IPv6 address without brackets.
    Brackets {
        /// The text with brackets.
        suggestion: String,
    },
    /// A URL.
    Scheme,
    /// The path of a socket in the file system that is not a full one.
    Path(String),
    /// No name of a socket that the service manager passes.
    PassedName,
    /// What stands for the host is neither an address nor a name.
    Host(String),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost { port } => write!(
                f,
                "the host is missing: write 127.0.0.1:{port} for this machine only, or \
                 0.0.0.0:{port} for every network"
            ),
            Self::NoPort { suggestion } => {
                write!(f, "the port is missing: write {suggestion}")
            }
            Self::Port(port) => write!(f, "{port:?} is not a port: a number from 0 to 65535"),
            Self::Brackets { suggestion } => {
                write!(f, "an IPv6 address stands in brackets: write {suggestion}")
            }
            Self::Path(path) => write!(
                f,
                "{path:?} is no full path: write such as unix:/run/axmq/mqtt.sock"
            ),
            Self::PassedName => f.write_str(
                "the name of the socket is missing: write fd:NAME, as FileDescriptorName= has it",
            ),
            Self::Scheme => f.write_str("host and port only, without a scheme such as mqtt://"),
            Self::Host(host) => {
                write!(f, "{host:?} is neither an address nor the name of a host")
            }
        }
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(literal) = text.parse() {
            return Ok(Self(Form::Literal(literal)));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let is_full = path.starts_with('/') && !path.ends_with('/') && !path.contains('\0');
            let endpoint = Endpoint::Unix(path.into());
            return is_full
                .then_some(Self(Form::Other(endpoint)))
                .ok_or_else(|| AddressError::Path(path.to_owned()));
        }
        if let Some(name) = text.strip_prefix("fd:") {
            let endpoint = Endpoint::Passed(name.to_owned());
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            return is_name
                .then_some(Self(Form::Other(endpoint)))
                .ok_or(AddressError::PassedName);
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(host) = bare.parse::<IpAddr>() {
            // `::1:1883` is an address, but hardly anybody means it as one.
            if let Some((host, port)) = text.rsplit_once(':')
                && host.parse::<IpAddr>().is_ok()
                && port.parse::<u16>().is_ok()
            {
                let suggestion = format!("[{host}]:{port}");
                return Err(AddressError::Brackets { suggestion });
            }
            let suggestion = SocketAddr::new(host, super::MQTT_PORT).to_string();
            return Err(AddressError::NoPort { suggestion });
        }
        if text.contains("://") {
            return Err(AddressError::Scheme);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(if is_name(text) {
                AddressError::NoPort {
                    suggestion: format!("{text}:{}", super::MQTT_PORT),
                }
            } else {
                AddressError::Host(text.to_owned())
            });
        };
        // Only digits: the standard parser also takes a plus sign.
        let number = port
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| port.parse().ok());
        let Some(Some(number)) = number else {
            return Err(AddressError::Port(port.to_owned()));
        };
        if host.is_empty() {
            return Err(AddressError::NoHost {
                port: port.to_owned(),
            });
        }
        if host.contains(':') && host.parse::<IpAddr>().is_ok() {
            return Err(AddressError::Brackets {
                suggestion: format!("[{host}]:{port}"),
            });
        }
        if !is_name(host) {
            return Err(AddressError::Host(host.to_owned()));
        }
        Ok(Self(Form::Name {
            host: host.to_owned(),
            port: number,
        }))
    }
}

/// Whether this could be the name of a host. The resolver has the last word.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Literal(literal) => literal.fmt(f),
            Form::Other(endpoint) => endpoint.fmt(f),
            Form::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Address {
    /// Every address that is meant. A name is looked up, which may take as long as the resolver
    /// waits; an address is not.
    ///
    /// Where a name has addresses of both families, those of IPv6 are
    /// [optional](Listener::optional): `localhost` has one even where IPv6 is turned off.
    ///
    /// # Errors
    ///
    /// What the resolver says; also if it knows no address.
    pub fn resolve(&self) -> io::Result<Vec<Listener>> {
        let (host, port) = match &self.0 {
            Form::Literal(address) => {
                return Ok(vec![Listener::new(*address)]);
            }
            Form::Other(endpoint) => return Ok(vec![Listener::new(endpoint.clone())]),
            Form::Name { host, port } => (host.as_str(), *port),
        };
        let mut found: Vec<SocketAddr> = Vec::new();
        for address in (host, port).to_socket_addrs()? {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        // The family that every machine has comes first.
        found.sort_by_key(SocketAddr::is_ipv6);
        let mixed = found.first().is_some_and(SocketAddr::is_ipv4);
        let listener = |address: SocketAddr| Listener {
            optional: mixed && address.is_ipv6(),
            ..Listener::new(address)
        };
        Ok(found.into_iter().map(listener).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_taken() {
        for text in [
            "127.0.0.1:1883",
            "[::1]:0",
            "0.0.0.0:65535",
            "localhost:1883",
            "a-b.c_d:1",
        ] {
            assert_eq!(
                text.parse::<Address>().map(|a| a.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        for (text, expected) in [
            ("", "neither an address"),
            (":1883", "write 127.0.0.1:1883"),
            ("*:1883", "neither an address"),
            ("127.0.0.1", "write 127.0.0.1:1883"),
            ("::1", "write [::1]:1883"),
            ("[::1]", "write [::1]:1883"),
            ("::1:1883", "brackets: write [::1]:1883"),
            ("fe80::1:2:3:4:5:6:1883", "write [fe80::1:2:3:4:5:6]:1883"),
            ("localhost", "write localhost:1883"),
            ("localhost:", "is not a port"),
            ("localhost:65536", "is not a port"),
            ("localhost:+1", "is not a port"),
            ("localhost:-1", "is not a port"),
            ("mqtt://localhost:1883", "without a scheme"),
            ("two words:1", "neither an address"),
            ("\u{e9}:1", "neither an address"),
        ] {
            match text.parse::<Address>() {
                Ok(address) => panic!("{text:?} was taken as {address}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.contains(expected), "{text:?}: {message}");
                }
            }
        }
    }

    #[test]
    fn a_literal_is_never_optional() {
        for text in ["127.0.0.1:1", "[::1]:1"] {
            let found = text.parse::<Address>().map(|address| address.resolve());
            let Ok(Ok(found)) = found else {
                panic!("{text} is an address")
            };
            assert_eq!(found.len(), 1);
            assert!(found.iter().all(|listener| !listener.optional));
        }
    }
}
