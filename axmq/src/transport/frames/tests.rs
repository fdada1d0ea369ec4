//! Frames against tungstenite, and one by one.

use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

use super::*;

/// A frame as a client sends it.
fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(MASKED | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(MASKED | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(MASKED | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// What comes out of a stream that comes in pieces: data, pings, close.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    data: Vec<u8>,
    pings: Vec<Vec<u8>>,
    close: Option<Option<u16>>,
    failed: bool,
}

fn ours(stream: &[u8], cuts: &[usize]) -> Seen {
    let (mut decoder, mut seen) = (Decoder::new(1 << 20), Seen::default());
    let mut rest = stream;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |cut| 1 + cut % rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece, |control| match control {
            Control::Ping(bytes) => seen.pings.push(bytes.to_vec()),
            Control::Pong => {}
            Control::Close(code) => seen.close = Some(code),
        });
        let (plain, decoded) = decoded;
        seen.data.extend(&piece[..plain]);
        if decoded.is_err() {
            seen.failed = true;
            return seen;
        }
    }
    seen
}

struct OneWay(Cursor<Vec<u8>>);

impl Read for OneWay {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(to)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for OneWay {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        Ok(from.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn theirs(stream: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let config = WebSocketConfig::default();
    let io = OneWay(Cursor::new(stream.to_vec()));
    let mut socket = WebSocket::from_raw_socket(io, Role::Server, Some(config));
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => seen.data.extend(bytes),
            Ok(Message::Ping(bytes)) => seen.pings.push(bytes.to_vec()),
            // That is its answer to a close frame that breaks a rule.
            Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                seen.failed = true;
                return seen;
            }
            Ok(Message::Close(frame)) => {
                seen.close = Some(frame.map(|frame| frame.code.into()));
                return seen;
            }
            Ok(Message::Text(_)) => {
                seen.failed = true;
                return seen;
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(_)) => return seen,
            Err(_) => {
                seen.failed = true;
                return seen;
            }
        }
    }
}

fn client_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..140),
        1 => prop::collection::vec(any::<u8>(), 65_530..65_540),
    ];
    let data = (any::<[u8; 4]>(), payload)
        .prop_map(|(mask, payload)| frame(FIN | OPCODE_BINARY, mask, &payload));
    let short = prop::collection::vec(any::<u8>(), 0..=CONTROL_LEN_MAX);
    let ping = (any::<[u8; 4]>(), short, any::<bool>()).prop_map(|(mask, payload, ping)| {
        let opcode = if ping { OPCODE_PING } else { OPCODE_PONG };
        frame(FIN | opcode, mask, &payload)
    });
    // A message in parts, with a ping in between.
    let parts = (
        any::<[u8; 4]>(),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 2..5),
    )
        .prop_map(|(mask, parts)| {
            let last = parts.len() - 1;
            let mut bytes = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                let opcode = if at == 0 {
                    OPCODE_BINARY
                } else {
                    OPCODE_CONTINUATION
                };
                let fin = if at == last { FIN } else { 0 };
                bytes.extend(frame(fin | opcode, mask, part));
                if at == 0 {
                    bytes.extend(frame(FIN | OPCODE_PING, mask, b"within"));
                }
            }
            bytes
        });
    let code = prop_oneof![
        Just(1000u16),
        Just(1005),
        Just(999),
        3000..5000u16,
        any::<u16>()
    ];
    let close = (any::<[u8; 4]>(), code)
        .prop_map(|(mask, code)| frame(FIN | OPCODE_CLOSE, mask, &code.to_be_bytes()));
    let wrong = (
        any::<u8>(),
        any::<[u8; 4]>(),
        prop::collection::vec(any::<u8>(), 0..9),
    )
        .prop_map(|(first, mask, payload)| {
            // The beginning of a text is refused here, its end there.
            let is_text = first & 0x0F == OPCODE_TEXT;
            frame(if is_text { first | FIN } else { first }, mask, &payload)
        });
    prop_oneof![8 => data, 4 => ping, 3 => parts, 1 => close, 1 => wrong]
}

proptest! {
    #[test]
    fn streams_are_read_as_tungstenite_reads_them(
        frames in prop::collection::vec(client_frame(), 1..12),
        cuts in prop::collection::vec(0..5_000usize, 1..20),
    ) {
        let stream = frames.concat();
        let (ours, theirs) = (ours(&stream, &cuts), theirs(&stream));
        prop_assert_eq!(ours.failed, theirs.failed);
        // Data of a message that is not whole is ours already.
        prop_assert!(ours.data.starts_with(&theirs.data));
        if !ours.failed {
            prop_assert_eq!(&ours.pings, &theirs.pings);
            prop_assert_eq!(ours.close, theirs.close);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..40usize) {
        ours(&bytes, &[cut]);
    }

    #[test]
    fn heads_are_read_by_tungstenite(len in prop_oneof![0..300usize, 65_000..66_000usize]) {
        let payload = vec![7; len];
        let (head, head_len) = head(len as u64);
        let stream = [&head[..head_len], &payload, &close(1000)].concat();
        let io = OneWay(Cursor::new(stream));
        let mut socket = WebSocket::from_raw_socket(io, Role::Client, None);
        prop_assert_eq!(socket.read().unwrap().into_data(), payload);
        prop_assert!(socket.read().unwrap().is_close());
    }
}

#[test]
fn each_rule_has_its_error() {
    let mask = [1, 2, 3, 4];
    let error = |bytes: Vec<u8>| Decoder::new(1_000).decode(&mut { bytes }, |_| {}).1;
    let binary = FIN | OPCODE_BINARY;
    let mut unmasked = frame(binary, mask, b"x");
    unmasked[1] &= !MASKED;
    for (bytes, wanted) in [
        (unmasked, FrameError::Unmasked),
        (frame(binary | 0x40, mask, b""), FrameError::ReservedBits),
        (frame(FIN | 3, mask, b""), FrameError::ReservedOpcode(3)),
        (frame(FIN | OPCODE_TEXT, mask, b"x"), FrameError::Text),
        (
            frame(FIN | OPCODE_PING, mask, &[0; 126]),
            FrameError::ControlTooLong,
        ),
        (frame(OPCODE_PING, mask, b""), FrameError::ControlInParts),
        (frame(FIN, mask, b""), FrameError::NothingToContinue),
        (
            [frame(OPCODE_BINARY, mask, b""), frame(binary, mask, b"")].concat(),
            FrameError::NotContinued,
        ),
        (frame(binary, mask, &[0; 1_001]), FrameError::TooLarge),
        (
            vec![binary, MASKED | 126, 0, 125, 0, 0, 0, 0],
            FrameError::LengthNotMinimal,
        ),
        (
            frame(FIN | OPCODE_CLOSE, mask, b"x"),
            FrameError::CloseLength,
        ),
        (
            frame(FIN | OPCODE_CLOSE, mask, b"\x03\xed"),
            FrameError::CloseCode(1005),
        ),
        (
            frame(FIN | OPCODE_CLOSE, mask, b"\x03\xe8\xff"),
            FrameError::CloseReason,
        ),
    ] {
        assert_eq!(error(bytes), Err(wanted), "{wanted}");
    }
}

#[test]
fn nothing_is_read_behind_a_close() {
    let mask = [9; 4];
    let stream = [
        frame(FIN | OPCODE_BINARY, mask, b"before"),
        frame(FIN | OPCODE_CLOSE, mask, b""),
        frame(FIN | OPCODE_BINARY, mask, b"behind"),
    ];
    let seen = ours(&stream.concat(), &[10_000]);
    assert_eq!(
        (seen.data.as_slice(), seen.close),
        (b"before".as_slice(), Some(None))
    );
}
