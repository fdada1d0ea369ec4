//! A connection to the broker: packets go out at once, and a thread says what comes in.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Instant;

use mqtt_codec::encode::{Connect, ConnectProperties, Disconnect, Subscribe, Unsubscribe};
use mqtt_codec::{
    AckPacket, Packet, PacketId, PacketType, QoS, ReasonCode, Role, Scan, SubscribeFilter, Version,
};

use crate::Check;

/// What a client heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Accepted {
        session_present: bool,
    },
    Message(Message),
    Ack {
        kind: PacketType,
        id: PacketId,
        reason: u8,
    },
    End(String),
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) id: Option<PacketId>,
}

/// Who heard it, on which of its connections, and when.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) who: usize,
    pub(crate) link: u32,
    pub(crate) at: Instant,
    pub(crate) heard: Heard,
}

/// A client: a name with a session, and a connection now and then.
pub(crate) struct Client {
    pub(crate) who: usize,
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) receive_maximum: Option<u16>,
    /// Its session has been there when it was asked for something that is kept.
    pub(crate) has_session: bool,
    /// CONNACK has come.
    pub(crate) is_up: bool,
    stream: Option<TcpStream>,
    pub(crate) link: u32,
    news: Sender<News>,
}

impl Client {
    pub(crate) fn new(who: usize, name: &str, version: Version, news: &Sender<News>) -> Self {
        Self {
            who,
            name: name.to_owned(),
            version,
            receive_maximum: None,
            has_session: false,
            is_up: false,
            stream: None,
            link: 0,
            news: news.clone(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Connects and says CONNECT; the rest follows when CONNACK comes.
    pub(crate) fn connect(&mut self, address: SocketAddr, clean_start: bool) -> Check<()> {
        self.cut();
        self.link += 1;
        let failed = |error| format!("{}: {error}", self.name);
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let reader = stream.try_clone().map_err(failed)?;
        let (who, link, version, news) = (self.who, self.link, self.version, self.news.clone());
        std::thread::spawn(move || {
            read(reader, version, |heard| {
                let at = Instant::now();
                // Nobody listens any more when a run has failed.
                let _ = news.send(News {
                    who,
                    link,
                    at,
                    heard,
                });
            });
        });
        self.stream = Some(stream);
        let connect = Connect {
            client_id: &self.name,
            clean_start,
            properties: ConnectProperties {
                session_expiry_interval: (!clean_start).then_some(100_000),
                receive_maximum: self.receive_maximum,
                ..ConnectProperties::default()
            },
            ..Connect::default()
        };
        let bytes = connect.encode_to_vec(self.version);
        self.say(&bytes);
        Ok(())
    }

    /// What it is told when it is accepted.
    pub(crate) fn accepted(&mut self, session_present: bool) -> Check<()> {
        self.is_up = true;
        if self.has_session && !session_present {
            return Err(format!("the session of {} is lost", self.name));
        }
        Ok(())
    }

    /// A connection that has broken is noticed by its reader.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(bytes);
        }
    }

    pub(crate) fn acknowledge(&mut self, kind: PacketType, id: PacketId) {
        let ack = AckPacket::new(kind, id, ReasonCode::Success);
        self.say(&ack.encode_to_vec(self.version));
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS, packet_id: PacketId) {
        let filters = [SubscribeFilter {
            filter,
            qos,
            ..SubscribeFilter::default()
        }];
        let packet = Subscribe {
            packet_id,
            filters: &filters,
            subscription_identifier: None,
            user_properties: &[],
        };
        self.say(&packet.encode_to_vec(self.version));
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str, packet_id: PacketId) {
        let packet = Unsubscribe {
            packet_id,
            filters: &[filter],
            user_properties: &[],
        };
        self.say(&packet.encode_to_vec(self.version));
    }

    /// Ends in order.
    pub(crate) fn leave(&mut self) {
        self.say(&Disconnect::default().encode_to_vec(self.version));
        self.cut();
    }

    /// Ends, and hears nothing more of this connection.
    pub(crate) fn cut(&mut self) {
        self.is_up = false;
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
            self.link += 1;
        }
    }

    /// The broker has gone.
    pub(crate) fn ended(&mut self) {
        self.is_up = false;
        self.stream = None;
    }
}

fn read(mut stream: TcpStream, version: Version, mut tell: impl FnMut(Heard)) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1_024];
    loop {
        loop {
            let frame = match mqtt_codec::scan(&bytes, u32::MAX) {
                Ok(Scan::Frame(frame)) => frame,
                Ok(_) => break,
                Err(error) => return tell(Heard::End(error.to_string())),
            };
            let packet: Vec<u8> = bytes.drain(..frame.total_len).collect();
            match mqtt_codec::decode(&packet, &frame, version, Role::Client) {
                Ok(packet) => tell(understand(&packet)),
                Err(error) => return tell(Heard::End(error.to_string())),
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return tell(Heard::End("closed".to_owned())),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) => return tell(Heard::End(error.to_string())),
        }
    }
}

fn understand(packet: &Packet<'_>) -> Heard {
    let kind = packet.packet_type();
    let worst = |codes: &mut dyn Iterator<Item = ReasonCode>| {
        codes.map(|code| code as u8).max().unwrap_or_default()
    };
    match packet {
        Packet::ConnAck(it) if it.reason() == ReasonCode::Success => Heard::Accepted {
            session_present: it.session_present(),
        },
        Packet::Publish(it) => Heard::Message(Message {
            topic: it.topic().to_owned(),
            payload: it.payload().to_vec(),
            qos: it.qos(),
            retain: it.retain(),
            id: it.packet_id(),
        }),
        Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
            Heard::Ack {
                kind,
                id: it.packet_id(),
                reason: it.reason() as u8,
            }
        }
        Packet::SubAck(it) => Heard::Ack {
            kind,
            id: it.packet_id(),
            reason: worst(&mut it.codes()),
        },
        Packet::UnsubAck(it) => Heard::Ack {
            kind,
            id: it.packet_id(),
            reason: worst(&mut it.codes()),
        },
        other => Heard::End(format!("{other:?}")),
    }
}
