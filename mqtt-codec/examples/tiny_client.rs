//! A client in a hundred lines: connects, subscribes, publishes, and prints what comes back.
//!
//! ```sh
//! cargo run -p mqtt-codec --example tiny_client -- 127.0.0.1:1883 greetings hello
//! ```
#![allow(clippy::print_stdout, reason = "this is what the program is for")]

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use mqtt_codec::{
    AckPacket, Packet, PacketId, PacketType, PublishHead, QoS, ReasonCode, Role, Scan,
    SubscribeFilter, Version, decode, encode, scan,
};

const VERSION: Version = Version::V5;
const PACKET_SIZE_MAX: u32 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:1883".into());
    let topic = arguments.next().unwrap_or_else(|| "greetings".into());
    let payload = arguments
        .next()
        .unwrap_or_else(|| "hello".into())
        .into_bytes();

    let mut stream = Packets {
        socket: TcpStream::connect(address)?,
        buffer: vec![],
    };
    let mut connect = encode::Connect {
        clean_start: true,
        keep_alive: 60,
        ..Default::default()
    };
    connect.properties.maximum_packet_size = Some(PACKET_SIZE_MAX);
    stream.send(&connect.encode_to_vec(VERSION))?;
    stream.receive(|packet| match packet {
        Packet::ConnAck(connack) if !connack.reason().is_error() => Ok(()),
        other => Err(format!("not accepted: {other:?}").into()),
    })?;

    let filter = SubscribeFilter {
        filter: &topic,
        qos: QoS::AtLeastOnce,
        ..Default::default()
    };
    let subscribe = encode::Subscribe {
        packet_id: PacketId::MIN,
        filters: &[filter],
        subscription_identifier: None,
        user_properties: &[],
    };
    subscribe.check(VERSION)?;
    stream.send(&subscribe.encode_to_vec(VERSION))?;

    let head = PublishHead {
        qos: QoS::AtLeastOnce,
        topic: &topic,
        packet_id: Some(PacketId::MIN.next()),
        payload_len: payload.len(),
        ..Default::default()
    };
    head.check(VERSION)?;
    stream.send(&head.encode_to_vec(VERSION, &payload))?;

    loop {
        let answer = stream.receive(|packet| match packet {
            Packet::Publish(publish) => {
                println!("{}: {}", publish.topic(), publish.payload().escape_ascii());
                Ok(publish.packet_id())
            }
            Packet::Disconnect(disconnect) => Err(disconnect.reason().to_string().into()),
            other => {
                println!("{other:?}");
                Ok(None)
            }
        })?;
        if let Some(id) = answer {
            // A quality of 1 was asked for, so nothing comes with 2.
            let ack = AckPacket::new(PacketType::PubAck, id, ReasonCode::Success);
            stream.send(&ack.encode_to_vec(VERSION))?;
        }
    }
}

/// A socket with what was read of the next packets.
struct Packets {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Packets {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Waits for a packet and hands it to `act`.
    fn receive<T>(
        &mut self,
        act: impl FnOnce(Packet<'_>) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        loop {
            let missing = match scan(&self.buffer, PACKET_SIZE_MAX)? {
                Scan::Frame(frame) => {
                    let packet = &self.buffer[..frame.total_len];
                    let result = act(decode(packet, &frame, VERSION, Role::Client)?);
                    self.buffer.drain(..frame.total_len);
                    return result;
                }
                Scan::Incomplete { missing, .. } => missing,
            };
            let mut more = vec![0; missing.max(4096)];
            let len = self.socket.read(&mut more)?;
            if len == 0 {
                return Err("the server closed the connection".into());
            }
            self.buffer.extend_from_slice(&more[..len]);
        }
    }
}
