//! One client: a socket, what lies over it, and the bytes that wait.

use std::io::{self, ErrorKind, IoSlice};

use mqtt_codec::{AckPacket, PacketId, PacketType, QoS, ReasonCode, Version, encode};
use pollio::net::Stream;

use super::Closed;
use crate::wire::Layers;

/// A buffer that has been written is given back above this.
const OUT_BYTES_KEPT: usize = 1 << 20;

/// A connection, and what it still has to send.
#[derive(Debug)]
pub struct Client {
    pub(super) stream: Stream,
    /// Whether the TCP connection stands.
    pub(super) open: bool,
    /// Whether MQTT can be spoken: the layers below it, if there are any, are open as well.
    pub(super) ready: bool,
    pub(super) layers: Option<Box<Layers>>,
    pub(super) dirty: bool,
    /// Bytes to be sent; [`Fleet::touch`](super::Fleet::touch) says that there are some.
    pub out: Vec<u8>,
    sent: usize,
    /// The beginning of a packet whose end has not come.
    pub(super) rest: Vec<u8>,
}

impl Client {
    pub(super) fn new(stream: Stream, layers: Option<Box<Layers>>) -> Self {
        let (out, rest) = (Vec::new(), Vec::new());
        Self {
            stream,
            open: false,
            ready: false,
            layers,
            dirty: false,
            out,
            sent: 0,
            rest,
        }
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn pending(&self) -> usize {
        let sealed = self
            .layers
            .as_ref()
            .map_or(0, |layers| layers.output().len());
        self.out.len() - self.sent + sealed
    }

    /// Adds an acknowledgement without a reason.
    pub fn acknowledge(&mut self, version: Version, packet_type: PacketType, id: PacketId) {
        let ack = AckPacket::new(packet_type, id, ReasonCode::Success);
        let mut bytes = [0; 8];
        let len = ack.encode(version, &mut bytes);
        self.out.extend_from_slice(&bytes[..len]);
    }

    /// Adds what the receiver of a message owes for it.
    pub fn answer_publish(&mut self, version: Version, qos: QoS, id: Option<PacketId>) {
        match (qos, id) {
            (QoS::AtLeastOnce, Some(id)) => self.acknowledge(version, PacketType::PubAck, id),
            (QoS::ExactlyOnce, Some(id)) => self.acknowledge(version, PacketType::PubRec, id),
            _ => {}
        }
    }

    /// Adds a SUBSCRIBE for filters with one QoS.
    pub fn subscribe(&mut self, version: Version, id: PacketId, filters: &[&str], qos: QoS) {
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| mqtt_codec::SubscribeFilter {
                filter,
                qos,
                ..Default::default()
            })
            .collect();
        let subscribe = encode::Subscribe {
            packet_id: id,
            filters: &filters,
            subscription_identifier: None,
            user_properties: &[],
        };
        self.out
            .extend_from_slice(&subscribe.encode_to_vec(version));
    }

    /// Sends what the socket takes.
    pub(super) fn send(&mut self) -> Result<(), Closed> {
        match self.layers {
            Some(_) => self.send_layered(),
            None => self.send_plain().map_err(Closed::Broken),
        }
    }

    fn send_plain(&mut self) -> io::Result<()> {
        while self.open && self.sent < self.out.len() {
            match self
                .stream
                .write_vectored(&[IoSlice::new(&self.out[self.sent..])])
            {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What is left moves to the front, so that the buffer does not grow for ever.
                    self.out.drain(..self.sent);
                    self.sent = 0;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if self.open {
            self.out.clear();
            self.out.shrink_to(OUT_BYTES_KEPT);
            self.sent = 0;
        }
        Ok(())
    }

    fn send_layered(&mut self) -> Result<(), Closed> {
        let Some(layers) = self.layers.as_mut().filter(|_| self.open) else {
            return Ok(());
        };
        if self.ready {
            layers.seal(&mut self.out).map_err(Closed::Layer)?;
        }
        while !layers.output().is_empty() {
            match self.stream.write_vectored(&[IoSlice::new(layers.output())]) {
                Ok(count) => layers.has_sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(Closed::Broken(error)),
            }
        }
        Ok(())
    }
}
