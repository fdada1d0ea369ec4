//! Where the broker is and how it is reached: the options that all commands share.

use mqtt_codec::Version;

use crate::{
    args::{Opt, Parsed, boolean, flag, value},
    fail::Failure,
    net::{self, Dialer},
    wire::Transport,
};

/// Options of every command that connects to a broker.
pub const OPTIONS: &[Opt] = &[
    flag('\0', "help", "this text"),
    value(
        'h',
        "host",
        "host names or addresses, with commas [localhost]",
    ),
    value('p', "port", "port [1883]"),
    value(
        'V',
        "version",
        "protocol: 3, 4 or 5 [conn, sub and pub: 5; else 4]",
    ),
    value('\0', "ifaddr", "source addresses, with commas"),
    boolean('\0', "ws", "WebSocket, path /mqtt [false]"),
    boolean('S', "ssl", "TLS [false]"),
    value(
        '\0',
        "ssl-version",
        "tlsv1.2 or tlsv1.3 alone; implies --ssl",
    ),
    value(
        '\0',
        "cacertfile",
        "PEM file; the broker's certificate is verified against it [not verified]",
    ),
    value('\0', "certfile", "PEM file with the clients' certificate"),
    value('\0', "keyfile", "PEM file with the clients' private key"),
    value('\0', "ciphers", "cipher suites, with commas"),
    value(
        '\0',
        "signature-algs",
        "signature algorithms for the broker's certificate, with commas",
    ),
    value('\0', "keyex-algs", "key exchange groups, with commas"),
];

/// Where the broker is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// The broker's names, with commas.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The protocol.
    pub version: Version,
    /// Source addresses, with commas.
    pub ifaddr: Option<String>,
    /// What lies between TCP and MQTT.
    pub transport: Transport,
}

impl Target {
    /// Reads the options; `version` is the protocol without one.
    ///
    /// # Errors
    ///
    /// What is wrong with them, or with a file they name.
    pub fn read(parsed: &Parsed, version: u8) -> Result<Self, Failure> {
        let host = parsed.last("host").unwrap_or("localhost");
        Ok(Self {
            host: host.to_owned(),
            port: parsed.number("port", 1883)?,
            version: parsed.version(version)?,
            ifaddr: parsed.last("ifaddr").map(str::to_owned),
            transport: Transport::read(parsed, host)?,
        })
    }

    /// A target on this machine, plain TCP and MQTT 3.1.1.
    #[must_use]
    pub fn local(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            version: Version::V311,
            ifaddr: None,
            transport: Transport::default(),
        }
    }

    /// A way to open `connections` from this process, which come after `first` others.
    ///
    /// # Errors
    ///
    /// If the host is unknown, or ports do not suffice. Descriptors are not looked at.
    pub fn dialer(&self, connections: u64, first: u64) -> Result<Dialer, Failure> {
        let targets = net::resolve(&self.host, self.port)?;
        let dialer = Dialer::new(targets, self.ifaddr.as_deref(), connections, first)?;
        Ok(dialer.with_transport(self.transport.clone()))
    }
}
