//! MQTT over any stream: what the tests send, and what comes.

use std::io::Read;

use mqtt_codec::encode::Connect;
use mqtt_codec::{Packet, QoS, Role, Scan, Version};

use super::plain;

pub(crate) const V5: Version = Version::V5;

pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    connect_as(client_id, None)
}

pub(crate) fn connect_as(client_id: &str, username: Option<&str>) -> Vec<u8> {
    let packet = Connect {
        client_id,
        clean_start: true,
        username,
        ..Connect::default()
    };
    packet.encode_to_vec(V5)
}

pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    plain::subscribe(V5, filter, QoS::AtLeastOnce)
}

pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    plain::publish(V5, topic, payload)
}

pub(crate) const PING: [u8; 2] = [0xC0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Takes the next packet off what a stream brings.
#[derive(Debug)]
pub(crate) struct Packets<S> {
    pub(crate) stream: S,
    pub(crate) received: Vec<u8>,
}

impl<S: Read> Packets<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// The next packet in words; `end` where there is none.
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        loop {
            let scan = mqtt_codec::scan(&self.received, u32::MAX).expect("a packet");
            if let Scan::Frame(frame) = scan {
                let packet: Vec<u8> = self.received.drain(..frame.total_len).collect();
                let packet = mqtt_codec::decode(&packet, &frame, V5, Role::Client);
                return show(&packet.expect("the broker keeps to the protocol"));
            }
            let mut buffer = vec![0; 300_000];
            match self.stream.read(&mut buffer) {
                Ok(0) => return "end".to_owned(),
                Ok(n) => self.received.extend_from_slice(&buffer[..n]),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }
}

fn show(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(packet) => format!("connack {:#04x}", packet.reason() as u8),
        Packet::SubAck(_) => "suback".to_owned(),
        Packet::Publish(packet) if packet.payload().len() > 40 => {
            format!("{}: {} bytes", packet.topic(), packet.payload().len())
        }
        Packet::Publish(packet) => format!(
            "{}: {}",
            packet.topic(),
            String::from_utf8_lossy(packet.payload())
        ),
        Packet::PingResp => "pingresp".to_owned(),
        Packet::Disconnect(packet) => format!("disconnect {:#04x}", packet.reason() as u8),
        other => format!("{other:?}"),
    }
}
