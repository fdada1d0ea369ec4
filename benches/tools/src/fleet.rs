//! Many clients on one loop: sockets, packets in and bytes out. What they say is a [`Load`].

use std::io::{self, ErrorKind, IoSlice};

use mqtt_codec::{
    AckPacket, Packet, PacketId, PacketType, QoS, ReasonCode, Role, Scan, Version, decode, encode,
    scan,
};
use pollio::{Budget, Epoll, Interest, Io, Mode, Progress, Readiness, Server, Token, net::Stream};

use crate::{clock, net::Dialer};

/// The largest packet that is taken from a broker.
const PACKET_BYTES_MAX: u32 = 16 << 20;
const READ_BYTES: usize = 256 * 1024;
/// A buffer that has been written is given back above this.
const OUT_BYTES_KEPT: usize = 1 << 20;

/// A connection, and what it still has to send.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Whether the TCP connection stands.
    open: bool,
    dirty: bool,
    /// Bytes to be sent; [`Fleet::touch`] says that there are some.
    pub out: Vec<u8>,
    sent: usize,
    /// The beginning of a packet whose end has not come.
    rest: Vec<u8>,
}

impl Client {
    /// Bytes that wait to be sent.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.out.len() - self.sent
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
}

/// A message that came in.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its QoS.
    pub qos: QoS,
    /// Its packet identifier, above QoS 0.
    pub id: Option<PacketId>,
    /// Its payload.
    pub payload: &'a [u8],
    /// When it was read, on the monotonic clock.
    pub read_ns: u64,
}

/// Why a connection is gone.
#[derive(Debug)]
pub enum Closed {
    /// It was never made.
    NotConnected(io::Error),
    /// The peer closed it.
    Ended,
    /// It broke.
    Broken(io::Error),
    /// The peer broke the protocol.
    Protocol(String),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotConnected(error) | Self::Broken(error) => write!(f, "{error}"),
            Self::Ended => f.write_str("the broker closed the connection"),
            Self::Protocol(what) => write!(f, "the broker broke the protocol: {what}"),
        }
    }
}

/// What clients do. `id` is the place of a client in the [`Fleet`].
pub trait Load {
    /// The TCP connection stands.
    fn opened(&mut self, client: &mut Client, id: u32);
    /// A message has come.
    fn message(&mut self, client: &mut Client, id: u32, message: &Message<'_>);
    /// Another packet has come.
    fn packet(&mut self, client: &mut Client, id: u32, packet: &Packet<'_>);
    /// The socket has room again.
    fn writable(&mut self, id: u32) {
        let _ = id;
    }
    /// The connection is gone, and its place is free.
    fn closed(&mut self, id: u32, why: Closed);
    /// When [`turn`](Self::turn) is wanted at the latest, on the monotonic clock.
    fn next_deadline(&mut self) -> Option<u64>;
    /// The end of a turn, before output leaves: time to open, send and close. `true` if there is
    /// more to do at once.
    fn turn(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) -> bool;
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    client: Option<Client>,
}

/// The last head of a PUBLISH that was decoded in full: the same bytes mean the same again.
#[derive(Debug, Default)]
struct Known {
    /// Everything up to the end of the topic.
    head: Vec<u8>,
    topic: String,
    qos: QoS,
    total_len: usize,
}

/// The connections of a process.
#[derive(Debug)]
pub struct Fleet {
    slots: Vec<Slot>,
    dirty: Vec<u32>,
    buf: Vec<u8>,
    known: Known,
    version: Version,
    closed: Vec<(u32, Closed)>,
    open: usize,
}

impl Fleet {
    /// Room for so many clients.
    #[must_use]
    pub fn new(clients: usize, version: Version) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(clients, Slot::default);
        Self {
            slots,
            dirty: Vec::new(),
            buf: vec![0; READ_BYTES],
            known: Known::default(),
            version,
            closed: Vec::new(),
            open: 0,
        }
    }

    /// Starts to connect a client whose place is free.
    ///
    /// # Errors
    ///
    /// What [`Dialer::dial`] says, or the registration.
    pub fn open(
        &mut self,
        io: &mut Io<'_, Epoll>,
        dialer: &Dialer,
        id: u32,
        number: u64,
    ) -> io::Result<()> {
        let stream = dialer.dial(number)?;
        let slot = &mut self.slots[id as usize];
        debug_assert!(slot.client.is_none(), "place {id} is taken");
        slot.generation = slot.generation.wrapping_add(1);
        let token = Token(u64::from(slot.generation) << 32 | u64::from(id));
        io.add_stream(&stream, token, Interest::BOTH, Mode::Edge)?;
        let (out, rest) = (Vec::new(), Vec::new());
        slot.client = Some(Client {
            stream,
            open: false,
            dirty: false,
            out,
            sent: 0,
            rest,
        });
        self.open += 1;
        Ok(())
    }

    /// A client, if it is there and its TCP connection stands.
    pub fn client(&mut self, id: u32) -> Option<&mut Client> {
        self.slots
            .get_mut(id as usize)?
            .client
            .as_mut()
            .filter(|client| client.open)
    }

    /// Says that a client has something to send.
    pub fn touch(&mut self, id: u32) {
        if let Some(client) = &mut self.slots[id as usize].client
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Closes a connection. The load is not told.
    pub fn close(&mut self, id: u32) {
        if self.slots[id as usize].client.take().is_some() {
            self.open -= 1;
        }
    }

    /// How many places are taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether all places are free.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    fn fail(&mut self, id: u32, why: Closed) {
        if self.slots[id as usize].client.take().is_some() {
            self.open -= 1;
            self.closed.push((id, why));
        }
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(client) = self.slots[id as usize].client.as_mut() else {
                continue;
            };
            client.dirty = false;
            if let Err(error) = client.send() {
                self.fail(id, Closed::Broken(error));
            }
        }
        self.dirty = dirty;
    }
}

impl Client {
    fn send(&mut self) -> io::Result<()> {
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
}

/// A fleet and its load: a [`Server`] for [`pollio::Reactor`].
#[derive(Debug)]
pub struct Runner<L> {
    /// The connections.
    pub fleet: Fleet,
    /// What they do.
    pub load: L,
}

impl<L: Load> Runner<L> {
    fn settle(&mut self) {
        while let Some((id, why)) = self.fleet.closed.pop() {
            self.load.closed(id, why);
        }
    }

    fn serve(&mut self, id: u32, readiness: Readiness) -> Result<Progress, Closed> {
        let Fleet {
            slots,
            dirty,
            buf,
            known,
            version,
            ..
        } = &mut self.fleet;
        let Some(client) = slots[id as usize].client.as_mut() else {
            return Ok(Progress::Done);
        };
        if !client.open {
            if let Ok(Some(error)) = client.stream.take_error() {
                return Err(Closed::NotConnected(error));
            }
            if !readiness.is_writable() {
                return Ok(Progress::Done);
            }
            client.open = true;
            self.load.opened(client, id);
        } else if readiness.is_writable() {
            self.load.writable(id);
        }
        let mut progress = Progress::Done;
        if readiness.is_readable() || readiness.is_read_closed() || readiness.is_error() {
            let begin = client.rest.len();
            if begin + READ_BYTES / 2 > buf.len() {
                buf.resize(begin + READ_BYTES, 0);
            }
            buf[..begin].copy_from_slice(&client.rest);
            client.rest.clear();
            let (room, mut end, mut gone) = (buf.len(), begin, None);
            loop {
                match client.stream.read(&mut buf[end..room]) {
                    Ok(0) => {
                        gone = Some(Closed::Ended);
                        break;
                    }
                    Ok(count) => end += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => {
                        gone = Some(Closed::Broken(error));
                        break;
                    }
                }
                if end == room {
                    progress = Progress::More;
                    break;
                }
                // A short read has emptied the socket, unless the end of the stream follows.
                if !readiness.is_read_closed() {
                    break;
                }
            }
            let read_ns = clock::now_ns();
            let mut taken = Taken {
                load: &mut self.load,
                known,
                version: *version,
                read_ns,
            };
            let used = taken
                .packets(client, id, &buf[..end])
                .map_err(Closed::Protocol)?;
            client.rest.extend_from_slice(&buf[used..end]);
            // What came before the end has been taken.
            if let Some(why) = gone {
                return Err(why);
            }
        }
        if !client.dirty && client.pending() > 0 {
            client.dirty = true;
            dirty.push(id);
        }
        Ok(progress)
    }
}

struct Taken<'a, L> {
    load: &'a mut L,
    known: &'a mut Known,
    version: Version,
    read_ns: u64,
}

impl<L: Load> Taken<'_, L> {
    /// Takes all whole packets and returns how many bytes they were.
    fn packets(&mut self, client: &mut Client, id: u32, bytes: &[u8]) -> Result<usize, String> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Some(len) = self.known_message(client, id, rest) {
                at += len;
                continue;
            }
            let frame = match scan(rest, PACKET_BYTES_MAX).map_err(|error| error.to_string())? {
                Scan::Incomplete { .. } => break,
                Scan::Frame(frame) => frame,
            };
            let bytes = &rest[..frame.total_len];
            let packet = decode(bytes, &frame, self.version, Role::Client)
                .map_err(|error| error.to_string())?;
            if let Packet::Publish(publish) = packet {
                let message = Message {
                    topic: publish.topic(),
                    qos: publish.qos(),
                    id: publish.packet_id(),
                    payload: publish.payload(),
                    read_ns: self.read_ns,
                };
                self.load.message(client, id, &message);
                self.remember(bytes, &publish);
            } else {
                self.load.packet(client, id, &packet);
            }
            at += frame.total_len;
        }
        Ok(at)
    }

    /// A message whose head is that of the one before, without decoding it again.
    #[inline]
    fn known_message(&mut self, client: &mut Client, id: u32, rest: &[u8]) -> Option<usize> {
        let known = &*self.known;
        let bytes = rest
            .get(..known.total_len)
            .filter(|bytes| !bytes.is_empty())?;
        let mut tail = bytes.strip_prefix(known.head.as_slice())?;
        let mut packet_id = None;
        if known.qos != QoS::AtMostOnce {
            let (number, after) = tail.split_first_chunk::<2>()?;
            packet_id = Some(PacketId::new(u16::from_be_bytes(*number))?);
            tail = after;
        }
        if self.version.has_properties() {
            tail = tail.strip_prefix(&[0])?;
        }
        let message = Message {
            topic: &known.topic,
            qos: known.qos,
            id: packet_id,
            payload: tail,
            read_ns: self.read_ns,
        };
        self.load.message(client, id, &message);
        Some(known.total_len)
    }

    fn remember(&mut self, bytes: &[u8], publish: &mqtt_codec::Publish<'_>) {
        if publish.topic().is_empty() || !publish.properties().is_empty() {
            return;
        }
        let known = &mut *self.known;
        known.head.clear();
        known
            .head
            .extend_from_slice(&bytes[..publish.topic_range().end]);
        known.topic.clear();
        known.topic.push_str(publish.topic());
        known.qos = publish.qos();
        known.total_len = bytes.len();
    }
}

impl<L: Load> Server<Epoll> for Runner<L> {
    fn on_ready(
        &mut self,
        _: &mut Io<'_, Epoll>,
        token: Token,
        readiness: Readiness,
        _: &Budget,
    ) -> Progress {
        let (id, generation) = (token.0 as u32, (token.0 >> 32) as u32);
        let current = self.fleet.slots.get(id as usize);
        if current.is_none_or(|slot| slot.generation != generation) {
            return Progress::Done;
        }
        self.serve(id, readiness).unwrap_or_else(|why| {
            self.fleet.fail(id, why);
            self.settle();
            Progress::Done
        })
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.load.next_deadline()
    }

    fn background(&mut self, io: &mut Io<'_, Epoll>, _: u64) -> Progress {
        let now_ns = io.now_ns();
        let more = self.load.turn(&mut self.fleet, io, now_ns);
        self.fleet.flush();
        self.settle();
        if more { Progress::More } else { Progress::Done }
    }
}
