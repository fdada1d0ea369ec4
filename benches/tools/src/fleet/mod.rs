//! Many clients on one loop: sockets, packets in and bytes out. What they say is a [`Load`].

mod client;

use std::io::{self, ErrorKind};

use mqtt_codec::{Packet, PacketId, QoS, Role, Scan, Version, decode, scan};
use pollio::{Budget, Epoll, Interest, Io, Mode, Progress, Readiness, Server, Token};

pub use self::client::Client;
use crate::{clock, net::Dialer};

/// The largest packet that is taken from a broker.
const PACKET_BYTES_MAX: u32 = 16 << 20;
const READ_BYTES: usize = 256 * 1024;

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
    /// TLS or WebSocket did not come about, or broke; the text names it.
    Layer(String),
    /// The peer broke the protocol.
    Protocol(String),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotConnected(error) | Self::Broken(error) => write!(f, "{error}"),
            Self::Layer(what) => f.write_str(what),
            Self::Ended => f.write_str("the broker closed the connection"),
            Self::Protocol(what) => write!(f, "the broker broke the protocol: {what}"),
        }
    }
}

/// What clients do. `id` is the place of a client in the [`Fleet`].
pub trait Load {
    /// The connection stands, with its layers.
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
    /// What a read was, below its layers.
    clear: Vec<u8>,
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
            clear: Vec::new(),
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
        let layers = dialer.layers(number).map_err(io::Error::other)?;
        let stream = dialer.dial(number)?;
        let slot = &mut self.slots[id as usize];
        debug_assert!(slot.client.is_none(), "place {id} is taken");
        slot.generation = slot.generation.wrapping_add(1);
        let token = Token(u64::from(slot.generation) << 32 | u64::from(id));
        io.add_stream(&stream, token, Interest::BOTH, Mode::Edge)?;
        slot.client = Some(Client::new(stream, layers));
        self.open += 1;
        Ok(())
    }

    /// A client, if it is there and its connection stands.
    pub fn client(&mut self, id: u32) -> Option<&mut Client> {
        self.slots
            .get_mut(id as usize)?
            .client
            .as_mut()
            .filter(|client| client.ready)
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
            if let Err(why) = client.send() {
                self.fail(id, why);
            }
        }
        self.dirty = dirty;
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
        let fleet = &mut self.fleet;
        let Some(client) = fleet.slots[id as usize].client.as_mut() else {
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
            match &mut client.layers {
                Some(layers) => layers.begin().map_err(Closed::Layer)?,
                None => {
                    client.ready = true;
                    self.load.opened(client, id);
                }
            }
        } else if readiness.is_writable() {
            // Whether there is room for more shows when what has waited is sent.
            client.send()?;
            self.load.writable(id);
        }
        let mut progress = Progress::Done;
        if readiness.is_readable() || readiness.is_read_closed() || readiness.is_error() {
            progress = self.read(id, readiness)?;
        }
        let fleet = &mut self.fleet;
        if let Some(client) = fleet.slots[id as usize].client.as_mut()
            && !client.dirty
            && client.pending() > 0
        {
            client.dirty = true;
            fleet.dirty.push(id);
        }
        Ok(progress)
    }

    fn read(&mut self, id: u32, readiness: Readiness) -> Result<Progress, Closed> {
        let Fleet {
            slots,
            buf,
            clear,
            known,
            version,
            ..
        } = &mut self.fleet;
        let Some(client) = slots[id as usize].client.as_mut() else {
            return Ok(Progress::Done);
        };
        // Under layers, the beginning of a packet waits where they put the rest of it.
        let begin = if client.layers.is_some() {
            0
        } else {
            client.rest.len()
        };
        if begin + READ_BYTES / 2 > buf.len() {
            buf.resize(begin + READ_BYTES, 0);
        }
        buf[..begin].copy_from_slice(&client.rest[..begin]);
        let (room, mut end) = (buf.len(), begin);
        let (mut gone, mut progress) = (None, Progress::Done);
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
        let mut bytes = &buf[..end];
        if let Some(layers) = &mut client.layers {
            clear.clear();
            clear.append(&mut client.rest);
            let received = layers.receive(bytes, clear);
            if !client.ready && layers.is_open() {
                client.ready = true;
                self.load.opened(client, id);
            }
            // What came before the fault is still taken.
            if let Err(what) = received {
                gone = Some(Closed::Layer(what));
            }
            bytes = clear;
        }
        let mut taken = Taken {
            load: &mut self.load,
            known,
            version: *version,
            read_ns,
        };
        let used = taken.packets(client, id, bytes).map_err(Closed::Protocol)?;
        client.rest.clear();
        client.rest.extend_from_slice(&bytes[used..]);
        // What came before the end has been taken.
        gone.map_or(Ok(progress), Err)
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
