//! TLS and WebSocket before a plain broker: what comes in is unwrapped and passed on, what goes out
//! is wrapped.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use axmq_bench::wire::accept_of;
use rustls::{ServerConfig, ServerConnection};

/// Accepts for ever; `wrap` gets a connection of a client and one to the broker.
fn before(
    broker: SocketAddr,
    wrap: impl Fn(TcpStream, TcpStream) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, wrap) = (client.unwrap(), wrap.clone());
            let broker = TcpStream::connect(broker).unwrap();
            client.set_nodelay(true).unwrap();
            broker.set_nodelay(true).unwrap();
            thread::spawn(move || wrap(client, broker));
        }
    });
    addr
}

/// Reads until the end and passes each piece on; then the other side ends as well.
fn pump(mut from: &TcpStream, to: &TcpStream, mut pass: impl FnMut(&[u8]) -> std::io::Result<()>) {
    let mut chunk = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if pass(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A TLS server before `broker`.
pub fn tls(broker: SocketAddr, config: Arc<ServerConfig>) -> SocketAddr {
    before(broker, move |client, broker| {
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let tls = Arc::new(Mutex::new(tls));
        let (down, client_out, broker_in) = (
            Arc::clone(&tls),
            client.try_clone().unwrap(),
            broker.try_clone().unwrap(),
        );
        thread::spawn(move || {
            pump(&broker_in, &client_out, |bytes| {
                let mut tls = down.lock().unwrap();
                tls.writer().write_all(bytes)?;
                flush(&mut tls, &client_out)
            });
        });
        pump(&client, &broker, |mut bytes| {
            let mut tls = tls.lock().unwrap();
            while !bytes.is_empty() {
                tls.read_tls(&mut bytes)?;
                let state = tls.process_new_packets();
                flush(&mut tls, &client)?;
                let count = state.map_err(std::io::Error::other)?;
                let mut clear = vec![0; count.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut clear)?;
                (&broker).write_all(&clear)?;
            }
            Ok(())
        });
    })
}

fn flush(tls: &mut ServerConnection, mut to: &TcpStream) -> std::io::Result<()> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out)?;
    }
    to.write_all(&out)
}

/// A WebSocket server before `broker`. It tears messages into frames and pings in between.
pub fn web_socket(broker: SocketAddr) -> SocketAddr {
    before(broker, |client, broker| {
        let mut kept = Vec::new();
        let mut open = false;
        let (client_out, broker_in) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
        let mut down = Some(move || {
            pump(&broker_in, &client_out, |bytes| {
                for piece in bytes.chunks(1_000) {
                    let (first, second) = piece.split_at(piece.len() / 2);
                    let mut out = Vec::new();
                    frame(0x02, first, &mut out);
                    frame(0x89, b"?", &mut out);
                    frame(0x80, second, &mut out);
                    (&client_out).write_all(&out)?;
                }
                Ok(())
            });
        });
        pump(&client, &broker, |bytes| {
            kept.extend_from_slice(bytes);
            if !open {
                let Some(reply) = reply(&kept) else {
                    return Ok(());
                };
                kept.clear();
                open = true;
                (&client).write_all(reply.as_bytes())?;
                down.take().map(thread::spawn);
            }
            while let Some((opcode, payload, used)) = unmask(&kept) {
                match opcode {
                    2 => (&broker).write_all(&payload)?,
                    10 => assert_eq!(payload, b"?"),
                    other => panic!("a client sends {other}"),
                }
                kept.drain(..used);
            }
            Ok(())
        });
    })
}

/// The reply to a whole request; the client sends nothing behind it before it has the reply.
fn reply(request: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(request).unwrap();
    let text = text.strip_suffix("\r\n\r\n")?;
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(n, _)| *n == name).unwrap().1
    };
    assert!(text.starts_with("GET /mqtt HTTP/1.1\r\n"), "{text}");
    assert_eq!(field("Sec-WebSocket-Version"), "13");
    assert_eq!(field("Sec-WebSocket-Protocol"), "mqtt");
    let accept = accept_of(field("Sec-WebSocket-Key"));
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    ))
}

fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match u8::try_from(payload.len()) {
        Ok(len @ 0..126) => out.push(len),
        _ => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// A whole frame of a client: its kind, its payload and its length.
fn unmask(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (head, len) = match bytes.get(1)? & 0x7f {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(),
        ),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (10, usize::try_from(len).unwrap())
        }
        len => (2, usize::from(len)),
    };
    assert!(bytes[1] & 0x80 != 0, "what a client sends is masked");
    assert!(bytes[0] & 0x80 != 0, "a client need not tear");
    let mask = bytes.get(head..head + 4)?;
    let masked = bytes.get(head + 4..head + 4 + len)?;
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
    Some((bytes[0] & 0x0f, payload.collect(), head + 4 + len))
}
