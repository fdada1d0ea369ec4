//! A client that knows nothing but bytes: it sends what it is given, and shows what comes.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mqtt_codec::encode::Connect;
use mqtt_codec::{Packet, Role, Scan, Version};

/// How long a packet may take. Far more than it ever does, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) version: Version,
    /// Bytes of packets that have not been shown.
    pub(crate) received: Vec<u8>,
}

/// How a connection has ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Closed,
    Reset,
}

impl Peer {
    pub(crate) fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Self {
            stream,
            version,
            received: Vec::new(),
        }
    }

    /// Opens, and sends this CONNECT.
    pub(crate) fn connect(address: SocketAddr, version: Version, connect: &Connect<'_>) -> Self {
        let mut peer = Self::open(address, version);
        peer.send(&connect.encode_to_vec(version));
        peer
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .expect("the connection is open");
    }

    /// Shows the next packet, and how long it is.
    #[track_caller]
    pub(crate) fn receive<T>(
        &mut self,
        look: impl FnOnce(&Packet<'_>, usize) -> T,
    ) -> Result<T, End> {
        loop {
            let scan = mqtt_codec::scan(&self.received, u32::MAX).expect("a packet");
            if let Scan::Frame(frame) = scan {
                let packet: Vec<u8> = self.received.drain(..frame.total_len).collect();
                let packet = mqtt_codec::decode(&packet, &frame, self.version, Role::Client);
                let packet = packet.expect("the broker keeps to the protocol");
                return Ok(look(&packet, frame.total_len));
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(n) => self.received.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(End::Reset),
                // A signal to the tests as a whole, such as one of a child that has ended.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }
}
