//! WebSocket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Bytes, Message};

use super::Broker;
use super::packets::{DISCONNECT, PING, Packets, connect, publish, subscribe};
use super::support::PATIENCE;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Opens a connection; nothing waits longer than `PATIENCE`.
pub(crate) fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Sends a request; the head of the answer.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("it is open");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("there is an answer");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("HTTP is text")
}

/// A WebSocket as other people's library has it, as a stream of bytes.
pub(crate) struct Web<S: Read + Write>(pub(crate) WebSocket<S>);

impl<S: Read + Write> Web<S> {
    pub(crate) fn over(mut stream: S) -> Self {
        let answer = ask(&mut stream, REQUEST);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        self.0.send(message).expect("it is open");
    }

    /// The close frame that comes next but for data.
    fn close_code(&mut self) -> u16 {
        loop {
            let message = self.0.read().expect("there is a close frame");
            if let Message::Close(frame) = message {
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }
}

impl<S: Read + Write> Read for Web<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read() {
                Ok(Message::Binary(bytes)) if bytes.is_empty() => {}
                Ok(Message::Binary(bytes)) => {
                    // The packets of these tests ask for more than a frame has, and get it.
                    assert!(bytes.len() <= into.len(), "a longer buffer is needed");
                    into[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Ok(Message::Close(_)) => return Ok(0),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }
}

fn client(broker: &Broker, id: &str) -> Packets<Web<TcpStream>> {
    let mut client = Packets::new(Web::over(open(broker.address)));
    client.stream.send(&connect(id));
    assert_eq!(client.next(), "connack 0x00");
    client
}

/// A frame of a client with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("it is short");
    [&[first, 0x80 | len, 0, 0, 0, 0], payload].concat()
}

#[test]
fn packets_go_across_frames_and_several_into_one() {
    let broker = Broker::start("websocket = true");
    let mut client = client(&broker, "c");
    client
        .stream
        .send(&[subscribe("t"), PING.to_vec()].concat());
    assert_eq!(client.next(), "suback");
    assert_eq!(client.next(), "pingresp");
    let stream = [publish("t", b"one"), publish("t", &[7; 200_000])].concat();
    for piece in stream.chunks(999) {
        client.stream.send(piece);
    }
    client
        .stream
        .0
        .send(Message::Ping(Bytes::from_static(b"within")))
        .expect("it is open");
    assert_eq!(client.next(), "t: one");
    assert_eq!(client.next(), "t: 200000 bytes");
    client.stream.send(&DISCONNECT);
    assert_eq!(client.stream.close_code(), 1000);
}

#[test]
fn frames_stay_whole_for_a_client_that_reads_late() {
    let broker = Broker::start(
        "websocket = true\n[limits]\nout_queue_bytes = 100_000_000\n\
        out_queue_soft_bytes = 50_000_000",
    );
    let mut late = client(&broker, "late");
    late.stream.send(&subscribe("t"));
    assert_eq!(late.next(), "suback");
    let mut busy = client(&broker, "busy");
    // More than the kernel keeps for a socket that nobody reads.
    for _ in 0..600 {
        busy.stream.send(&publish("t", &[7; 20_000]));
    }
    busy.stream.send(&PING);
    assert_eq!(busy.next(), "pingresp");
    for _ in 0..600 {
        assert_eq!(late.next(), "t: 20000 bytes");
    }
}

#[test]
fn what_is_no_request_is_answered_by_its_status_and_logged() {
    let mut broker = Broker::start("websocket = true\nwebsocket_origins = \"https://a.example\"");
    let endless = format!("GET /mqtt HTTP/1.1\r\nCookie: {}", "x".repeat(9_000));
    for (request, status, why) in [
        (endless.as_str(), "431", "above 8192 bytes"),
        ("POST /mqtt HTTP/1.1\r\n\r\n", "405", "only GET"),
        ("GET /other HTTP/1.1\r\nHost: h\r\n\r\n", "426", "WebSocket"),
        (&REQUEST.replace("/mqtt", "/x"), "404", "nothing is served"),
        (&REQUEST.replace(": 13", ": 8"), "426", "has to be 13"),
        (
            &REQUEST.replace("Host: broker", "Host: h\r\nOrigin: https://b.example"),
            "403",
            "origin",
        ),
        ("\x16\x03\x01", "400", "TLS on a plain listener"),
    ] {
        let mut stream = open(broker.address);
        let answer = ask(&mut stream, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let line = broker.process.err.wait_for("connection.refused");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn a_request_that_does_not_end_has_a_time_limit() {
    let keys = "websocket = true\n[limits]\nconnect_timeout_ms = 100";
    let mut broker = Broker::start(keys);
    let mut stream = open(broker.address);
    stream.write_all(b"GET /mqtt HTTP/1.1\r\n").expect("open");
    let line = broker.process.err.wait_for("connection.refused");
    assert!(
        line.contains("no complete request for a WebSocket"),
        "{line}"
    );
    assert_eq!(stream.read(&mut [0; 9]).expect("it ends"), 0);
}

#[test]
fn each_wrong_frame_is_closed_with_its_code_and_logged() {
    let mut broker = Broker::start("websocket = true\nwebsocket_frame_bytes = 1_000");
    let unmasked = [0x82, 2, 0xC0, 0];
    let large = [0x82, 0xFE, 0x03, 0xE9, 0, 0, 0, 0];
    for (bytes, code, why) in [
        (unmasked.as_slice(), 1002, "is not masked"),
        (&large, 1009, "larger than allowed"),
        (&frame(0x81, b"x"), 1003, "[MQTT-6.0.0-1]"),
        (&frame(0xC2, b"x"), 1002, "reserved bits"),
    ] {
        for is_connected in [false, true] {
            let mut stream = open(broker.address);
            let answer = ask(&mut stream, REQUEST);
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            if is_connected {
                stream
                    .write_all(&frame(0x82, &connect("c")))
                    .expect("it is open");
            }
            stream.write_all(bytes).expect("it is open");
            let mut web = Web(WebSocket::from_raw_socket(stream, Role::Client, None));
            assert_eq!(web.close_code(), code, "{why}");
            let line = broker.process.err.wait_for(why);
            let event = if is_connected {
                "client.disconnected"
            } else {
                "connection.refused"
            };
            // A frame that comes at once behind CONNECT may still be the front's.
            assert!(
                line.contains(event) || is_connected && line.contains("connection.refused"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let keys = "websocket = true\nproxy_protocol_from = \"127.0.0.1\"\n\
        forwarded_for_from = \"10.0.0.0/8\"\n[log]\nlevel = \"debug\"";
    let mut broker = Broker::start(keys);
    let mut stream = open(broker.address);
    let request = REQUEST.replace("Host: broker", "Host: h\r\nX-Forwarded-For: 192.0.2.7");
    let proxied = format!("PROXY TCP4 10.1.2.3 10.0.0.1 4660 1883\r\n{request}");
    let answer = ask(&mut stream, &proxied);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(&frame(0x82, &connect("c"))).expect("open");
    let line = broker.process.err.wait_for("client.connected");
    assert!(line.contains("192.0.2.7:0"), "{line}");
}

#[test]
fn a_reload_holds_for_those_who_come_after_it() {
    let mut broker = Broker::start("websocket = true");
    let mut before = client(&broker, "before");
    let text = broker.reload("websocket = true\nwebsocket_path = \"/other\"");
    assert!(text.contains("websocket_path"), "{text}");
    // The fronts hear of it by message; the next one that they read asks by the new rules.
    let is_there = |path| {
        let request = REQUEST.replace("/mqtt", path);
        let answer = ask(&mut open(broker.address), &request);
        answer.starts_with("HTTP/1.1 101 ")
    };
    while !is_there("/other") {}
    assert!(!is_there("/mqtt"));
    before.stream.send(&PING);
    assert_eq!(before.next(), "pingresp");
}

#[test]
fn a_refused_client_reads_why() {
    let broker = Broker::start("websocket = true\nmqtt_5_0 = false");
    let mut client = Packets::new(Web::over(open(broker.address)));
    client.stream.send(&connect("c"));
    assert_eq!(client.next(), "connack 0x84");
    assert_eq!(client.stream.close_code(), 1000);
}
