//! A WebSocket: first the request for it, then its frames.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pollio::PeerAddr;

use super::Fault;
use super::frames::{self, CloseCode, Control, Decoder};
use super::upgrade::{self, ForwardedFor, Refusal, Request};
use crate::network::Network;

/// What a listener asks of those who want a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebRules {
    /// The path that is served.
    pub(crate) path: Box<str>,
    /// The pages whose scripts may connect; empty where all may. Who is no browser says nothing.
    pub(crate) origins: Vec<Box<str>>,
    /// Whose `X-Forwarded-For` is believed.
    pub(crate) proxies: Vec<Network>,
    pub(crate) frame_bytes_max: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Web {
    stage: Stage,
    /// The client that a proxy has named.
    client: Option<PeerAddr>,
}

#[derive(Debug)]
enum Stage {
    Request {
        rules: Arc<WebRules>,
        peer: Option<IpAddr>,
        bytes: Vec<u8>,
    },
    Frames(Decoder),
}

impl Web {
    pub(super) fn new(rules: Arc<WebRules>, peer: Option<IpAddr>) -> Self {
        Self {
            stage: Stage::Request {
                rules,
                peer,
                bytes: Vec::new(),
            },
            client: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Frames(_))
    }

    pub(super) fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Request { bytes, .. } => bytes.len(),
            Stage::Frames(_) => 0,
        }
    }

    pub(super) fn take_client(&mut self) -> Option<PeerAddr> {
        self.client.take()
    }

    /// Takes the frames off, in place; answers go behind `out`, pongs only as long as there is
    /// `room`.
    pub(super) fn unwrap_in_place(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        room: usize,
    ) -> (usize, Result<(), Fault>) {
        match &mut self.stage {
            Stage::Frames(decoder) => decode(decoder, bytes, out, room),
            Stage::Request { bytes: held, .. } => {
                held.extend_from_slice(bytes);
                let rest = match self.read_request(out) {
                    Ok(rest) => rest,
                    Err(refusal) => {
                        refusal.write(out);
                        return (0, Err(Fault::Upgrade(refusal)));
                    }
                };
                // What follows the request came with these bytes: the request was not whole before.
                let (Some(rest), Stage::Frames(decoder)) = (rest, &mut self.stage) else {
                    return (0, Ok(()));
                };
                let Some(place) = bytes.get_mut(..rest.len()) else {
                    return (0, Ok(()));
                };
                place.copy_from_slice(&rest);
                decode(decoder, place, out, room)
            }
        }
    }

    /// Answers the request, if it is there: what followed it.
    fn read_request(&mut self, out: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Refusal> {
        let Stage::Request { rules, peer, bytes } = &self.stage else {
            return Ok(None);
        };
        let Some(request) = upgrade::read(bytes)? else {
            return Ok(None);
        };
        rules.obey(&request)?;
        let is_trusted = peer.is_some_and(|peer| rules.is_proxy(peer));
        let client = is_trusted.then(|| rules.client_of(&request.forwarded_for));
        request.accept(out);
        let rest = bytes.get(request.len..).unwrap_or_default().to_vec();
        let decoder = Decoder::new(rules.frame_bytes_max);
        self.client = client.flatten();
        self.stage = Stage::Frames(decoder);
        Ok(Some(rest))
    }

    /// Closes the WebSocket with the code that says why.
    pub(super) fn say_goodbye(&self, end: Option<&Fault>, is_stop: bool, out: &mut Vec<u8>) {
        let Stage::Frames(decoder) = &self.stage else {
            return;
        };
        let code = match end {
            Some(Fault::Frame(error)) => error.close_code(),
            _ if is_stop => CloseCode::GoingAway,
            _ => CloseCode::Normal,
        };
        // A close frame of the peer is answered by its own code (RFC 6455 section 5.5.1).
        let echo = decoder.close_code().filter(|_| decoder.is_closed());
        out.extend_from_slice(&frames::close(echo.unwrap_or(code as u16)));
    }
}

fn decode(
    decoder: &mut Decoder,
    bytes: &mut [u8],
    out: &mut Vec<u8>,
    room: usize,
) -> (usize, Result<(), Fault>) {
    let most = out.len() + room;
    let (len, result) = decoder.decode(bytes, |control| {
        if let Control::Ping(ping) = control
            && out.len() < most
        {
            frames::pong(ping, out);
        }
    });
    let result = match result {
        Ok(()) if decoder.is_closed() => Err(Fault::Ended),
        result => result.map_err(Fault::Frame),
    };
    (len, result)
}

impl WebRules {
    fn obey(&self, request: &Request<'_>) -> Result<(), Refusal> {
        if request.path != &*self.path {
            return Err(Refusal::NO_SUCH_PATH);
        }
        let is_known = |origin: &str| {
            let mut known = self.origins.iter();
            known.any(|known| known.eq_ignore_ascii_case(origin))
        };
        match request.origin {
            Some(origin) if !self.origins.is_empty() && !is_known(origin) => {
                Err(Refusal::FORBIDDEN_ORIGIN)
            }
            _ => Ok(()),
        }
    }

    fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|proxies| proxies.contains(ip))
    }

    /// The nearest address that is none of our proxies: what lies behind it anybody may have
    /// written.
    fn client_of(&self, forwarded: &ForwardedFor<'_>) -> Option<PeerAddr> {
        let mut client = None;
        for text in forwarded.nearest_first() {
            let (ip, port) = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
                (Ok(ip), _) => (ip, 0),
                (_, Ok(address)) => (address.ip(), address.port()),
                _ => break,
            };
            client = Some(PeerAddr::new(ip, port));
            if !self.is_proxy(ip) {
                break;
            }
        }
        client
    }
}
