//! A broker with a fault of choice: a thread a connection, one lock, blocking writes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use axmq_bench::scenario::plan::matches;
use mqtt_codec::{
    AckPacket, Packet, PacketId, PacketType, PublishHead, QoS, ReasonCode, Role, Scan, Version,
    decode, encode, scan,
};

/// What is done to every [`EVERY`]th delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "not each test program uses each")]
pub enum Fault {
    None,
    Drop,
    Duplicate,
    /// It is sent after the next one to the same subscriber.
    Reorder,
    /// It goes to the first subscriber, whoever that is.
    Misdeliver,
    WrongTopic,
    Corrupt,
    Truncate,
    WrongQos,
    /// The connection is closed instead.
    Disconnect,
}

pub const EVERY: u64 = 97;

struct Subscription {
    filter: String,
    qos: QoS,
    stream: TcpStream,
    held: Option<Vec<u8>>,
}

struct Shared {
    fault: Fault,
    subscriptions: Vec<Subscription>,
    deliveries: u64,
    packet_id: PacketId,
}

/// Starts a broker on a port of its own, which lives as long as the process.
#[allow(dead_code, reason = "not each program uses it")]
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || serve_on(&listener, fault));
    addr
}

/// Serves for ever.
pub fn serve_on(listener: &TcpListener, fault: Fault) -> ! {
    let (subscriptions, packet_id) = (Vec::new(), PacketId::MIN);
    let shared = Arc::new(Mutex::new(Shared {
        fault,
        subscriptions,
        deliveries: 0,
        packet_id,
    }));
    loop {
        let (stream, _) = listener.accept().unwrap();
        let shared = Arc::clone(&shared);
        stream.set_nodelay(true).unwrap();
        thread::spawn(move || serve(stream, &shared));
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) {
    let mut version = Version::V311;
    let mut buf = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        let count = match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        buf.extend_from_slice(&chunk[..count]);
        let mut at = 0;
        while let Ok(Scan::Frame(frame)) = scan(&buf[at..], 1 << 20) {
            let bytes = &buf[at..at + frame.total_len];
            let packet = decode(bytes, &frame, version, Role::Server).unwrap();
            if let Packet::Connect(connect) = &packet {
                version = connect.version();
            }
            if answer(&mut stream, version, &packet, shared).is_err() {
                return;
            }
            at += frame.total_len;
        }
        buf.drain(..at);
    }
}

fn answer(
    stream: &mut TcpStream,
    version: Version,
    packet: &Packet<'_>,
    shared: &Mutex<Shared>,
) -> std::io::Result<()> {
    let mut ack = |packet_type, id| {
        let ack = AckPacket::new(packet_type, id, ReasonCode::Success);
        stream.write_all(&ack.encode_to_vec(version))
    };
    match packet {
        Packet::Connect(_) => stream.write_all(&encode::ConnAck::default().encode_to_vec(version)),
        Packet::Subscribe(subscribe) => {
            let mut shared = shared.lock().unwrap();
            let mut codes = Vec::new();
            for filter in subscribe.filters() {
                codes.push(ReasonCode::granted(filter.qos));
                shared.subscriptions.push(Subscription {
                    filter: filter.filter.to_owned(),
                    qos: filter.qos,
                    stream: stream.try_clone()?,
                    held: None,
                });
            }
            let suback = encode::SubAck {
                packet_id: subscribe.packet_id(),
                codes: &codes,
                reason_string: None,
                user_properties: &[],
            };
            stream.write_all(&suback.encode_to_vec(version))
        }
        Packet::Publish(publish) => {
            match (publish.qos(), publish.packet_id()) {
                (QoS::AtLeastOnce, Some(id)) => ack(PacketType::PubAck, id)?,
                (QoS::ExactlyOnce, Some(id)) => ack(PacketType::PubRec, id)?,
                _ => {}
            }
            shared.lock().unwrap().route(version, publish)
        }
        Packet::PubRel(rel) => ack(PacketType::PubComp, rel.packet_id()),
        Packet::PubRec(rec) => ack(PacketType::PubRel, rec.packet_id()),
        Packet::PingReq => stream.write_all(&mqtt_codec::PING_RESP),
        _ => Ok(()),
    }
}

impl Shared {
    fn route(
        &mut self,
        version: Version,
        publish: &mqtt_codec::Publish<'_>,
    ) -> std::io::Result<()> {
        for at in 0..self.subscriptions.len() {
            if !matches(&self.subscriptions[at].filter, publish.topic()) {
                continue;
            }
            self.deliveries += 1;
            let fault = if self.deliveries.is_multiple_of(EVERY) {
                self.fault
            } else {
                Fault::None
            };
            let mut payload = publish.payload().to_vec();
            let mut qos = publish.qos().min(self.subscriptions[at].qos);
            let mut topic = publish.topic().to_owned();
            match fault {
                Fault::Corrupt => payload[20] ^= 0x40,
                Fault::Truncate => payload.truncate(40),
                Fault::WrongQos => qos = QoS::AtMostOnce,
                Fault::WrongTopic => topic.push_str("/else"),
                _ => {}
            }
            let head = PublishHead {
                qos,
                topic: &topic,
                packet_id: Some(self.packet_id),
                payload_len: payload.len(),
                ..Default::default()
            };
            self.packet_id = self.packet_id.next();
            let packet = head.encode_to_vec(version, &payload);
            let to = if fault == Fault::Misdeliver { 0 } else { at };
            let subscription = &mut self.subscriptions[to];
            match fault {
                Fault::Drop => continue,
                Fault::Disconnect => subscription.stream.shutdown(std::net::Shutdown::Both)?,
                Fault::Reorder => {
                    subscription.held = Some(packet);
                    continue;
                }
                _ => subscription.stream.write_all(&packet)?,
            }
            if fault == Fault::Duplicate {
                subscription.stream.write_all(&packet)?;
            }
            if let Some(held) = subscription.held.take() {
                subscription.stream.write_all(&held)?;
            }
        }
        Ok(())
    }
}
