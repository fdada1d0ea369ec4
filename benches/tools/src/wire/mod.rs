//! What lies between TCP and MQTT: nothing, TLS, WebSocket, or one in the other.

mod tls;
mod ws;

use rustls::ClientConnection;

pub use self::ws::accept_of;
use self::{tls::Tls, ws::WebSocket};
use crate::{args::Parsed, fail::Failure};

/// How connections are wrapped. The default is plain TCP.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// The names of the hosts, for the name in TLS and the header in HTTP, in their order.
    hosts: Vec<String>,
    tls: Option<Tls>,
    web_socket: bool,
}

impl Transport {
    /// Reads `--ssl`, `--ws` and what belongs to them; `hosts` is a list with commas.
    ///
    /// # Errors
    ///
    /// What is wrong with them, or with a file they name.
    pub fn read(parsed: &Parsed, hosts: &str) -> Result<Self, Failure> {
        let bare = |host: &str| host.trim().trim_matches(['[', ']']).to_owned();
        let hosts = hosts.split(',').map(bare);
        Ok(Self {
            hosts: hosts.filter(|host| !host.is_empty()).collect(),
            tls: Tls::read(parsed)?,
            web_socket: parsed.is("ws", false),
        })
    }

    /// The layers of a new connection; `None` if there are none.
    ///
    /// # Errors
    ///
    /// If the host has a name that cannot stand in a certificate.
    pub fn layers(&self, number: u64) -> Result<Option<Box<Layers>>, Failure> {
        if self.tls.is_none() && !self.web_socket {
            return Ok(None);
        }
        let at = number % self.hosts.len().max(1) as u64;
        let host = self.hosts.get(at as usize).map_or("", String::as_str);
        let tls = self.tls.as_ref().map(|tls| tls.connection(host));
        Ok(Some(Box::new(Layers {
            tls: tls.transpose()?,
            web_socket: self.web_socket.then(|| WebSocket::new(host, number)),
            asked: false,
            scratch: Vec::new(),
            sealed: Vec::new(),
            sent: 0,
        })))
    }
}

/// The layers of one connection. They see bytes only; the socket belongs to the caller.
#[derive(Debug)]
pub struct Layers {
    tls: Option<ClientConnection>,
    web_socket: Option<WebSocket>,
    /// Whether the WebSocket has been asked for.
    asked: bool,
    scratch: Vec<u8>,
    sealed: Vec<u8>,
    sent: usize,
}

impl Layers {
    /// Whether MQTT can be spoken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let tls = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        tls && self.web_socket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// The TCP connection stands: says what is said first.
    ///
    /// # Errors
    ///
    /// None but TLS's own, which cannot come before a byte of the peer.
    pub fn begin(&mut self) -> Result<(), String> {
        self.go_on()
    }

    /// Takes bytes from the socket and appends what of them is MQTT.
    ///
    /// # Errors
    ///
    /// What the peer has said that it may not, with the name of the layer.
    pub fn receive(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<(), String> {
        let Some(tls) = &mut self.tls else {
            self.scratch.extend_from_slice(bytes);
            self.unframe(mqtt)?;
            return self.go_on();
        };
        let mut rest = bytes;
        let mut clear = std::mem::take(&mut self.scratch);
        while !rest.is_empty() {
            let result = tls::receive(tls, &mut rest, &mut clear);
            if let Err(error) = result {
                // The alert that tells the peer why.
                let _ = tls.write_tls(&mut self.sealed);
                return Err(error);
            }
        }
        if self.web_socket.is_some() {
            self.scratch = clear;
            self.unframe(mqtt)?;
        } else {
            mqtt.append(&mut clear);
            self.scratch = clear;
        }
        self.go_on()
    }

    fn unframe(&mut self, mqtt: &mut Vec<u8>) -> Result<(), String> {
        if let Some(web_socket) = &mut self.web_socket {
            let used = web_socket.receive(&self.scratch, mqtt)?;
            self.scratch.drain(..used);
        }
        Ok(())
    }

    /// Says what the layers have to say of their own.
    fn go_on(&mut self) -> Result<(), String> {
        let over = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        let mut own = Vec::new();
        if let Some(web_socket) = self.web_socket.as_mut().filter(|_| over) {
            if !std::mem::replace(&mut self.asked, true) {
                web_socket.ask(&mut own);
            }
            web_socket.answer(&mut own);
        }
        self.encrypt(&own)
    }

    fn encrypt(&mut self, clear: &[u8]) -> Result<(), String> {
        match &mut self.tls {
            Some(tls) => tls::send(tls, clear, &mut self.sealed),
            None => {
                self.sealed.extend_from_slice(clear);
                Ok(())
            }
        }
    }

    /// Takes all bytes of MQTT that are to be sent.
    ///
    /// # Errors
    ///
    /// If the peer has ended the encrypted connection.
    pub fn seal(&mut self, mqtt: &mut Vec<u8>) -> Result<(), String> {
        if mqtt.is_empty() {
            return Ok(());
        }
        let result = match &mut self.web_socket {
            Some(web_socket) => {
                let mut framed = Vec::with_capacity(mqtt.len() + ws::HEAD_BYTES_MAX);
                web_socket.frame(mqtt, &mut framed);
                self.encrypt(&framed)
            }
            None => self.encrypt(mqtt),
        };
        mqtt.clear();
        result
    }

    /// The bytes for the socket.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.sealed[self.sent..]
    }

    /// Says how many of them the socket has taken.
    pub fn has_sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.sealed.len() {
            self.sealed.clear();
            self.sent = 0;
        }
    }
}
