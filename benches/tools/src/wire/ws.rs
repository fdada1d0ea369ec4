//! WebSocket (RFC 6455), the client's side, as MQTT uses it: one request, then binary frames whose
//! borders mean nothing [MQTT-6.0.0-1, -2].
//!
//! It works on buffers, as everything here does, and copies a payload once. A general library would
//! keep a message of its own for each frame.

use ring::digest;

/// Bytes before the payload of a frame that a client sends, at most.
pub(super) const HEAD_BYTES_MAX: usize = 14;
const REPLY_BYTES_MAX: usize = 8 * 1024;
const FRAME_BYTES_MAX: u64 = 1 << 30;
/// RFC 6455, 1.3: what the server has to hash with the key.
const ACCEPT_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The client's side of a connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    host: String,
    key: String,
    open: bool,
    /// Bytes of the present data frame that have not come.
    left: u64,
    /// Whether the last data frame was not the end of its message.
    unfinished: bool,
    pong: Option<Vec<u8>>,
    random: u64,
}

impl WebSocket {
    /// A connection that has yet to be asked for; `number` keeps keys apart.
    pub(super) fn new(host: &str, number: u64) -> Self {
        let mut new = Self {
            host: host.to_owned(),
            key: String::new(),
            open: false,
            left: 0,
            unfinished: false,
            pong: None,
            random: crate::clock::wall_ns() ^ number.rotate_left(32),
        };
        let (high, low) = (new.next_random(), new.next_random());
        let mut key = [0; 16];
        key[..8].copy_from_slice(&high.to_le_bytes());
        key[8..].copy_from_slice(&low.to_le_bytes());
        new.key = base64(&key);
        new
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Masks are there to keep a page's script from choosing the bytes that a proxy sees; a
    /// generator's own need not be secret.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    /// Writes the request.
    pub(super) fn ask(&self, out: &mut Vec<u8>) {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n",
            self.key
        );
        out.extend_from_slice(request.as_bytes());
    }

    /// Writes the answer to a ping, if one is due.
    pub(super) fn answer(&mut self, out: &mut Vec<u8>) {
        if let Some(payload) = self.pong.take() {
            self.write(PONG, &payload, out);
        }
    }

    /// Writes a frame with `payload`.
    pub(super) fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.write(BINARY, payload, out);
    }

    fn write(&mut self, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
        out.push(0x80 | opcode);
        match payload.len() {
            len @ 0..126 => out.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let [a, b, c, d, ..] = self.next_random().to_le_bytes();
        out.extend_from_slice(&[a, b, c, d]);
        let begin = out.len();
        out.extend_from_slice(payload);
        // Eight bytes at a time: two masks, side by side.
        let mask = [a, b, c, d, a, b, c, d];
        for chunk in out[begin..].chunks_mut(8) {
            for (byte, mask) in chunk.iter_mut().zip(mask) {
                *byte ^= mask;
            }
        }
    }

    /// Takes bytes from the server, appends the payload of data frames and returns how many bytes
    /// were taken; the rest is wanted again with more behind it.
    pub(super) fn receive(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Result<usize, String> {
        let mut at = 0;
        if !self.open {
            match self.read_reply(bytes)? {
                Some(len) => at = len,
                None => return Ok(0),
            }
        }
        loop {
            let take = self.left.min((bytes.len() - at) as u64);
            data.extend_from_slice(&bytes[at..at + take as usize]);
            at += take as usize;
            self.left -= take;
            if self.left > 0 {
                return Ok(at);
            }
            match self.read_head(&bytes[at..])? {
                Some(len) => at += len,
                None => return Ok(at),
            }
        }
    }

    /// The reply to the request. `None` if it is not complete.
    fn read_reply(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            if bytes.len() > REPLY_BYTES_MAX {
                return Err("WebSocket: the reply does not end".to_owned());
            }
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return Err(format!("WebSocket: the reply is `{status}`"));
        }
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| {
            let found = fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value.trim())
        };
        if field("sec-websocket-accept") != accept_of(&self.key) {
            return Err("WebSocket: the reply is to another request".to_owned());
        }
        // [MQTT-6.0.0-4]
        if field("sec-websocket-protocol") != "mqtt" {
            return Err("WebSocket: the server does not speak the sub-protocol mqtt".to_owned());
        }
        self.open = true;
        Ok(Some(end + 4))
    }

    /// The head of a frame, with the whole of a control frame. `None` if it is not complete.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some(([first, second], rest)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let (size, len) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(len) => (2, u64::from(u16::from_be_bytes(*len))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(len) => (8, u64::from_be_bytes(*len)),
                None => return Ok(None),
            },
            len => (0, u64::from(len)),
        };
        let (opcode, last) = (first & 0x0f, first & 0x80 != 0);
        if second & 0x80 != 0 || first & 0x70 != 0 || len > FRAME_BYTES_MAX {
            return Err("WebSocket: a frame that no server may send".to_owned());
        }
        let head = 2 + size;
        match opcode {
            0 | BINARY if (opcode == 0) == self.unfinished => {
                self.unfinished = !last;
                self.left = len;
                Ok(Some(head))
            }
            CLOSE => Err("WebSocket: the server closes the connection".to_owned()),
            PING | PONG if last && len < 126 => {
                let Some(payload) = bytes.get(head..head + len as usize) else {
                    return Ok(None);
                };
                if opcode == PING {
                    self.pong = Some(payload.to_vec());
                }
                Ok(Some(head + len as usize))
            }
            _ => Err(format!(
                "WebSocket: a frame of kind {opcode} has no place here"
            )),
        }
    }
}

/// What a server has to answer a key with (RFC 6455, 4.2.2).
#[must_use]
pub fn accept_of(key: &str) -> String {
    let salted = format!("{key}{ACCEPT_SALT}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes());
    base64(hash.as_ref())
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for at in 0..4_usize {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() {
                letter as char
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection with the key of RFC 6455, 1.3, and the reply to it.
    fn example() -> (WebSocket, Vec<u8>) {
        let mut socket = WebSocket::new("host", 0);
        socket.key = "dGhlIHNhbXBsZSBub25jZQ==".to_owned();
        let reply = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            Sec-WebSocket-Protocol: mqtt\r\n\r\n";
        (socket, reply.to_vec())
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn frames_are_read_however_they_are_torn() {
        let (_, mut bytes) = example();
        bytes.extend_from_slice(&[0x02, 3, b'a', b'b', b'c', 0x89, 1, b'!']);
        bytes.extend_from_slice(&[0x80, 126, 0, 200]);
        bytes.extend_from_slice(&[b'd'; 200]);
        bytes.extend_from_slice(&[0x8a, 0, 0x82, 0]);
        let mut expected = b"abc".to_vec();
        expected.extend_from_slice(&[b'd'; 200]);
        for step in [1, 2, 7, bytes.len()] {
            let (mut socket, _) = example();
            let (mut data, mut kept) = (Vec::new(), Vec::new());
            for chunk in bytes.chunks(step) {
                kept.extend_from_slice(chunk);
                let used = socket.receive(&kept, &mut data).unwrap();
                kept.drain(..used);
            }
            assert_eq!((&data, kept.len()), (&expected, 0), "{step}");
            let mut pong = Vec::new();
            socket.answer(&mut pong);
            assert_eq!(pong[..2], [0x8a, 0x81], "{step}");
            assert_eq!(pong[2] ^ pong[6], b'!', "{step}");
        }
    }

    #[test]
    fn what_is_sent_is_masked_and_has_its_length() {
        let (mut socket, _) = example();
        for len in [0, 5, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|n: u32| n as u8).collect();
            let mut out = Vec::new();
            socket.frame(&payload, &mut out);
            let head = match len {
                0..126 => 2,
                126..65_536 => 4,
                _ => 10,
            };
            assert_eq!(out.len(), head + 4 + payload.len());
            assert!(out[1] & 0x80 != 0 && out[0] == 0x82);
            let (mask, masked) = out[head..].split_at(4);
            let mut clear = masked.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
            assert!(clear.by_ref().eq(payload), "{len}");
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let (_, reply) = example();
        let bad_frames: [&[u8]; 6] = [
            &[0x82, 0x81, 0, 0, 0, 0, 1],
            &[0x81, 1, b'a'],
            &[0x80, 1, b'a'],
            &[0xc2, 0],
            &[0x88, 0],
            &[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255],
        ];
        for frame in bad_frames {
            let (mut socket, _) = example();
            let bytes = [reply.as_slice(), frame].concat();
            assert!(
                socket.receive(&bytes, &mut Vec::new()).is_err(),
                "{frame:?}"
            );
        }
        for (from, to) in [("101", "404"), ("s3p", "s3q"), (": mqtt", ": amqp")] {
            let (mut socket, _) = example();
            let text = String::from_utf8(reply.clone())
                .unwrap()
                .replacen(from, to, 1);
            let error = socket.receive(text.as_bytes(), &mut Vec::new());
            assert!(error.unwrap_err().starts_with("WebSocket"), "{text}");
        }
        let (mut socket, _) = example();
        let endless = vec![b'x'; REPLY_BYTES_MAX + 1];
        assert!(socket.receive(&endless, &mut Vec::new()).is_err());
    }
}
