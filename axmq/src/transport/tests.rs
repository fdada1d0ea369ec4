//! Layers as a front and a shard use them.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::frames::{FrameError, close};
use super::*;
use crate::network::Network;

fn rules() -> WebRules {
    WebRules {
        path: "/mqtt".into(),
        origins: Vec::new(),
        proxies: Vec::new(),
        frame_bytes_max: 1_000,
    }
}

fn layers(rules: WebRules, peer: &str) -> Box<Layers> {
    let door = Door {
        tls: None,
        web: Some(Arc::new(rules)),
    };
    let peer: IpAddr = peer.parse().expect("an address");
    Layers::new(&door, Some(peer), 0).expect("there is a WebSocket")
}

fn request(path: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n{fields}\r\n"
    )
    .into()
}

/// A frame of a client with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("it is short");
    [&[first, 0x80 | len, 0, 0, 0, 0], payload].concat()
}

fn take_pending(layers: &mut Layers) -> Vec<u8> {
    let pending = layers.pending().to_vec();
    layers.sent(pending.len());
    pending
}

#[test]
fn a_request_and_frames_may_come_at_once_or_byte_by_byte() {
    let stream = [
        request("/mqtt?x", ""),
        frame(0x82, b"con"),
        frame(0x89, b"are you there"),
        frame(0x82, b"nect"),
    ]
    .concat();
    for step in [1, 7, stream.len()] {
        let mut layers = layers(rules(), "192.0.2.1");
        let mut plain = Vec::new();
        for piece in stream.chunks(step) {
            assert_eq!(layers.receive(piece, &mut plain), Ok(()));
        }
        assert_eq!(plain, b"connect", "{step}");
        assert_eq!(layers.held_bytes(), 0);
        let answer = take_pending(&mut layers);
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(answer.ends_with(b"\r\n\r\n\x8A\x0Dare you there"));
    }
}

#[test]
fn requests_are_refused_by_path_and_origin() {
    let rules = WebRules {
        origins: vec!["https://a.example".into(), "https://b.example".into()],
        ..rules()
    };
    for (path, fields, status) in [
        ("/mqtt", "", 101),
        ("/mqtt", "Origin: https://B.example\r\n", 101),
        ("/mqtt", "Origin: https://c.example\r\n", 403),
        ("/other", "", 404),
    ] {
        let mut layers = layers(rules.clone(), "192.0.2.1");
        let result = layers.receive(&request(path, fields), &mut Vec::new());
        let answer = take_pending(&mut layers);
        let begin = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(begin.as_bytes()), "{path} {fields}");
        assert_eq!(result.is_ok(), status == 101);
        if status != 101 {
            assert!(!layers.say_goodbye(false), "HTTP has no close frame");
        }
    }
}

#[test]
fn only_a_trusted_proxy_says_who_its_client_is() {
    let rules = WebRules {
        proxies: Network::parse_list("10.0.0.0/8").expect("a range"),
        ..rules()
    };
    for (peer, header, client) in [
        ("10.0.0.1", "192.0.2.7", Some("192.0.2.7:0")),
        ("10.0.0.1", "192.0.2.7:99", Some("192.0.2.7:99")),
        // The client wrote the first itself; our own proxies wrote the others.
        (
            "10.0.0.1",
            "1.1.1.1, 192.0.2.7, 10.9.9.9",
            Some("192.0.2.7:0"),
        ),
        ("10.0.0.1", "10.0.0.2", Some("10.0.0.2:0")),
        ("10.0.0.1", "unknown, 10.0.0.2", Some("10.0.0.2:0")),
        ("10.0.0.1", "unknown", None),
        ("192.0.2.1", "192.0.2.7", None),
    ] {
        let mut layers = layers(rules.clone(), peer);
        let fields = format!("X-Forwarded-For: {header}\r\n");
        let request = request("/mqtt", &fields);
        assert_eq!(layers.receive(&request, &mut Vec::new()), Ok(()));
        let found = layers.take_client().map(|peer| peer.to_string());
        assert_eq!(found.as_deref(), client, "{peer} {header}");
    }
}

#[test]
fn each_end_of_a_web_socket_has_its_code() {
    for (last, is_stop, wanted, fault) in [
        (frame(0x88, &[0x0B, 0xB8]), false, 3000, Some(Fault::Ended)),
        (frame(0x88, b""), true, 1001, Some(Fault::Ended)),
        (
            frame(0x81, b"text"),
            false,
            1003,
            Some(Fault::Frame(FrameError::Text)),
        ),
        (frame(0x82, b"x"), false, 1000, None),
        (frame(0x82, b"x"), true, 1001, None),
    ] {
        let mut layers = layers(rules(), "192.0.2.1");
        let mut plain = Vec::new();
        let stream = [request("/mqtt", ""), frame(0x82, b"data"), last].concat();
        let result = layers.receive(&stream, &mut plain);
        assert!(plain.starts_with(b"data"), "what came before counts");
        assert_eq!(result.clone().err(), fault);
        if let Err(fault) = result {
            layers.end_with(fault);
        }
        take_pending(&mut layers);
        assert!(layers.say_goodbye(is_stop));
        assert_eq!(take_pending(&mut layers), close(wanted));
        assert!(!layers.say_goodbye(is_stop), "it is said once");
    }
}

#[test]
fn what_a_write_leaves_over_is_kept_without_a_gap() {
    let mut layers = layers(rules(), "192.0.2.1");
    let pieces: [&[u8]; 3] = [b"head", b"", b"payload"];
    for written in 0..=11 {
        layers.keep_rest(pieces.into_iter(), written);
        assert_eq!(take_pending(&mut layers), b"headpayload"[written..]);
    }
}

#[test]
fn a_client_that_pings_and_reads_nothing_is_not_answered_for_ever() {
    let mut layers = layers(rules(), "192.0.2.1");
    let mut plain = Vec::new();
    let _ = layers.receive(&request("/mqtt", ""), &mut plain);
    for _ in 0..1_000 {
        assert_eq!(layers.receive(&frame(0x89, &[7; 100]), &mut plain), Ok(()));
    }
    assert!(layers.pending().len() < ANSWERS_MAX + 200);
}

/// A client of rustls and the layers of a broker, without a network.
struct Pair {
    client: rustls::ClientConnection,
    layers: Box<Layers>,
    plain: Vec<u8>,
    /// What the client has got.
    got: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = made.expect("a certificate");
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der());
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.expect("a key"))
            .expect("a pair");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a certificate");
        let client = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let door = Door {
            tls: Some(Arc::new(server)),
            web: None,
        };
        Self {
            client: rustls::ClientConnection::new(Arc::new(client), name).expect("a client"),
            layers: Layers::new(&door, None, 0).expect("there is TLS"),
            plain: Vec::new(),
            got: Vec::new(),
        }
    }

    /// Carries bytes to and fro, in pieces, until nobody has any.
    fn settle(&mut self, step: usize) -> Result<(), Fault> {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).expect("a vector takes it");
            }
            for piece in sent.chunks(step) {
                self.layers.receive(piece, &mut self.plain)?;
            }
            let answer = take_pending(&mut self.layers);
            if sent.is_empty() && answer.is_empty() {
                return Ok(());
            }
            let mut rest = &answer[..];
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).expect("a slice gives it");
                self.client.process_new_packets().expect("TLS");
                // There is no more for now, or for ever.
                let _ = self.client.reader().read_to_end(&mut self.got);
            }
        }
    }
}

#[test]
fn tls_may_be_cut_anywhere_and_an_idle_connection_keeps_no_buffer() {
    for step in [1, 100, 20_000] {
        let mut pair = Pair::new();
        assert_eq!(pair.layers.stage(), "TLS handshake");
        assert_eq!(pair.settle(step), Ok(()));
        assert_eq!(pair.layers.stage(), "CONNECT");
        let data: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
        pair.client
            .writer()
            .write_all(&data)
            .expect("it is buffered");
        assert_eq!(pair.settle(step), Ok(()));
        assert_eq!(pair.plain, data, "{step}");
        assert_eq!(pair.layers.wrap(&data), Ok(()));
        assert_eq!(pair.settle(step), Ok(()));
        assert_eq!(pair.got, data);
        assert_eq!(pair.layers.held_bytes(), 0);
        assert_eq!(
            pair.layers.pending.capacity() + pair.layers.held.capacity(),
            0
        );
        assert_eq!(pair.layers.hello(), None, "only while shaking hands");
        assert!(pair.layers.say_goodbye(false));
        pair.client.send_close_notify();
        assert_eq!(pair.settle(step), Err(Fault::Ended));
    }
}

#[test]
fn data_that_finds_no_room_is_held_and_comes_first() {
    let mut pair = Pair::new();
    assert_eq!(pair.settle(20_000), Ok(()));
    pair.client
        .writer()
        .write_all(b"abcdefgh")
        .expect("buffered");
    let mut sent = Vec::new();
    pair.client.write_tls(&mut sent).expect("a vector takes it");
    let mut into = [0; 3];
    assert_eq!(pair.layers.open_into(&mut sent, &mut into), (3, Ok(())));
    let mut got = into.to_vec();
    loop {
        match pair.layers.take_held(&mut into) {
            0 => break,
            len => got.extend_from_slice(&into[..len]),
        }
    }
    assert_eq!(got, b"abcdefgh");
    assert_eq!(pair.layers.held_bytes(), 0);
}

#[test]
fn a_broken_record_is_told_by_an_alert_and_nothing_goes_out_behind_it() {
    let mut pair = Pair::new();
    assert_eq!(pair.settle(20_000), Ok(()));
    let forged = [0x17, 3, 3, 0, 20]
        .into_iter()
        .chain([9; 20])
        .collect::<Vec<_>>();
    let result = pair.layers.receive(&forged, &mut pair.plain);
    assert!(matches!(result, Err(Fault::Tls(_))), "{result:?}");
    let alert = take_pending(&mut pair.layers);
    assert!(!alert.is_empty());
    assert!(pair.layers.wrap(b"more").is_err());
    assert!(!pair.layers.say_goodbye(false));
    let mut rest = &alert[..];
    pair.client.read_tls(&mut rest).expect("a slice gives it");
    let told = pair.client.process_new_packets();
    assert!(
        matches!(told, Err(rustls::Error::AlertReceived(_))),
        "{told:?}"
    );
}
