//! Frames (RFC 6455 section 5): those of a client are unmasked in place, those of the server get
//! a head.

use std::fmt;

/// Bytes of payload of a control frame, at most (RFC 6455 section 5.5).
pub(crate) const CONTROL_LEN_MAX: usize = 125;
/// Bytes of the longest head of a frame that a server sends.
pub(crate) const HEAD_LEN_MAX: usize = 10;

const OPCODE_CONTINUATION: u8 = 0x0;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Why a connection is closed (RFC 6455 section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    Protocol = 1002,
    Unsupported = 1003,
    InvalidPayload = 1007,
    TooBig = 1009,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    Unmasked,
    ReservedBits,
    ReservedOpcode(u8),
    /// MQTT is binary data [MQTT-6.0.0-1].
    Text,
    ControlTooLong,
    ControlInParts,
    NothingToContinue,
    NotContinued,
    LengthNotMinimal,
    TooLarge,
    CloseLength,
    CloseCode(u16),
    CloseReason,
}

impl FrameError {
    /// What the peer is told.
    pub(crate) const fn close_code(self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unsupported,
            Self::TooLarge => CloseCode::TooBig,
            Self::CloseReason => CloseCode::InvalidPayload,
            _ => CloseCode::Protocol,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmasked => f.write_str("a frame is not masked"),
            Self::ReservedBits => f.write_str("reserved bits of a frame are set"),
            Self::ReservedOpcode(code) => write!(f, "the opcode {code} of a frame is reserved"),
            Self::Text => f.write_str("a text frame, where MQTT is binary [MQTT-6.0.0-1]"),
            Self::ControlTooLong => f.write_str("a control frame has more than 125 bytes"),
            Self::ControlInParts => f.write_str("a control frame comes in parts"),
            Self::NothingToContinue => f.write_str("a frame continues nothing"),
            Self::NotContinued => f.write_str("a message begins within another"),
            Self::LengthNotMinimal => f.write_str("the length of a frame takes too many bytes"),
            Self::TooLarge => f.write_str("a frame is larger than allowed"),
            Self::CloseLength => f.write_str("a close frame has one byte"),
            Self::CloseCode(code) => write!(f, "the close code {code} may not be sent"),
            Self::CloseReason => f.write_str("the reason of a close frame is not UTF-8"),
        }
    }
}

/// A control frame of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    /// To be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    Pong,
    /// To be answered by a close with the same code; nothing follows.
    Close(Option<u16>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

/// Takes the frames off what a client sends.
///
/// Data frames are no boundaries: their payloads are one stream, in which MQTT packets lie as they
/// come [MQTT-6.0.0-2].
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The head of a frame as far as it has come.
    head: [u8; 14],
    head_len: u8,
    /// Bytes of payload that are still to come.
    left: u64,
    /// The mask, turned so that its first byte is for the next byte.
    mask: [u8; 4],
    kind: Kind,
    /// The last data frame was not the end of its message.
    continues: bool,
    is_closed: bool,
    /// The code of the close frame.
    close_code: Option<u16>,
    /// The payload of a control frame as far as it has come; allocated by the first.
    control: Vec<u8>,
    frame_len_max: u64,
}

impl Decoder {
    /// For frames of at most so many bytes of payload.
    pub(crate) fn new(frame_len_max: u64) -> Self {
        Self {
            head: [0; 14],
            head_len: 0,
            left: 0,
            mask: [0; 4],
            kind: Kind::Data,
            continues: false,
            is_closed: false,
            close_code: None,
            control: Vec::new(),
            frame_len_max,
        }
    }

    /// Tells whether a close frame has come: what follows is not read.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The code of the close frame that has come, if it had one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// Decodes what has been read, in place: returns how many bytes of data are now at the front,
    /// and whether the stream may go on.
    ///
    /// Frames may be cut anywhere between two calls. Control frames are handed out as they end.
    ///
    /// # Errors
    ///
    /// The first rule that a frame breaks. The data is what came before it; the connection has to
    /// be closed.
    ///
    /// # Complexity
    ///
    /// Linear in the bytes, each moved at most once.
    pub(crate) fn decode(
        &mut self,
        bytes: &mut [u8],
        mut on_control: impl FnMut(Control<'_>),
    ) -> (usize, Result<(), FrameError>) {
        let (mut at, mut plain) = (0, 0);
        while at < bytes.len() && !self.is_closed {
            if self.left == 0 {
                match self.read_head(bytes.get(at..).unwrap_or_default()) {
                    Ok(len) => at += len,
                    Err(error) => return (plain, Err(error)),
                }
                if self.left > 0 || self.head_len > 0 {
                    continue;
                }
            } else {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let len = left.min(bytes.len() - at);
                let payload = bytes.get_mut(at..at + len).unwrap_or_default();
                self.unmask(payload);
                if self.kind == Kind::Data {
                    bytes.copy_within(at..at + len, plain);
                    plain += len;
                } else {
                    self.control.extend_from_slice(payload);
                }
                at += len;
                self.left -= len as u64;
            }
            if self.left == 0
                && let Err(error) = self.end_frame(&mut on_control)
            {
                return (plain, Err(error));
            }
        }
        (plain, Ok(()))
    }

    /// Takes bytes of the head of a frame and returns how many; `head_len` is 0 when it is whole.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut taken = 0;
        loop {
            let have = usize::from(self.head_len);
            let wanted = head_len(self.head, have);
            if have == wanted {
                self.head_len = 0;
                self.begin_frame()?;
                return Ok(taken);
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            let len = rest.len().min(wanted - have);
            if len == 0 {
                return Ok(taken);
            }
            let (from, to) = (rest.get(..len), self.head.get_mut(have..have + len));
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
            self.head_len += len as u8;
            taken += len;
            // Said as early as possible, lest a wrong length be waited for.
            if self.head_len >= 2 && have < 2 {
                self.check_start()?;
            }
        }
    }

    /// Checks the first two bytes of a head.
    fn check_start(&mut self) -> Result<(), FrameError> {
        let [first, second, ..] = self.head;
        if first & RESERVED != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = first & 0x0F;
        self.kind = match opcode {
            OPCODE_CONTINUATION if !self.continues => return Err(FrameError::NothingToContinue),
            OPCODE_TEXT => return Err(FrameError::Text),
            OPCODE_BINARY if self.continues => return Err(FrameError::NotContinued),
            OPCODE_CONTINUATION | OPCODE_BINARY => Kind::Data,
            OPCODE_CLOSE => Kind::Close,
            OPCODE_PING => Kind::Ping,
            OPCODE_PONG => Kind::Pong,
            _ => return Err(FrameError::ReservedOpcode(opcode)),
        };
        if second & MASKED == 0 {
            return Err(FrameError::Unmasked);
        }
        if self.kind == Kind::Data {
            self.continues = first & FIN == 0;
        } else if first & FIN == 0 {
            return Err(FrameError::ControlInParts);
        } else if usize::from(second & !MASKED) > CONTROL_LEN_MAX {
            return Err(FrameError::ControlTooLong);
        }
        Ok(())
    }

    /// The head is whole.
    fn begin_frame(&mut self) -> Result<(), FrameError> {
        let [_, second, rest @ ..] = self.head;
        let (len, least, mask_at) = match second & !MASKED {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), 126, 2),
            127 => {
                let len = rest.first_chunk().copied().unwrap_or_default();
                (u64::from_be_bytes(len), 1 << 16, 8)
            }
            len => (u64::from(len), 0, 0),
        };
        if len < least {
            return Err(FrameError::LengthNotMinimal);
        }
        if len > self.frame_len_max {
            return Err(FrameError::TooLarge);
        }
        let mask = rest.get(mask_at..).and_then(|mask| mask.first_chunk());
        self.mask = mask.copied().unwrap_or_default();
        self.left = len;
        Ok(())
    }

    fn end_frame(&mut self, on_control: &mut impl FnMut(Control<'_>)) -> Result<(), FrameError> {
        match self.kind {
            Kind::Data => return Ok(()),
            Kind::Ping => on_control(Control::Ping(&self.control)),
            Kind::Pong => on_control(Control::Pong),
            Kind::Close => {
                self.is_closed = true;
                self.close_code = close_code(&self.control)?;
                on_control(Control::Close(self.close_code));
            }
        }
        // Rare, and an idle connection keeps no buffer.
        self.control = Vec::new();
        Ok(())
    }

    /// Unmasks the next bytes of a payload (RFC 6455 section 5.3).
    fn unmask(&mut self, bytes: &mut [u8]) {
        let wide = u64::from_ne_bytes(std::array::from_fn(|at| self.mask[at % 4]));
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.mask.rotate_left(rest.len() % 4);
    }
}

/// The bytes of a head, as far as what has come of it tells.
fn head_len(head: [u8; 14], have: usize) -> usize {
    if have < 2 {
        return 2;
    }
    let [_, second, ..] = head;
    let mask = 4;
    2 + mask
        + match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(FrameError::CloseLength),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::CloseCode(code));
    }
    match str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(FrameError::CloseReason),
    }
}

/// The head of a binary frame of a server with so many bytes; how many of the array are its own.
pub(crate) fn head(payload_len: u64) -> ([u8; HEAD_LEN_MAX], usize) {
    let mut head = [0; HEAD_LEN_MAX];
    head[0] = FIN | OPCODE_BINARY;
    let len = match payload_len {
        0..126 => {
            head[1] = payload_len as u8;
            2
        }
        126..0x1_0000 => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            head[1] = 127;
            head[2..10].copy_from_slice(&payload_len.to_be_bytes());
            10
        }
    };
    (head, len)
}

/// Appends the pong for a ping of at most [`CONTROL_LEN_MAX`] bytes.
pub(crate) fn pong(ping: &[u8], out: &mut Vec<u8>) {
    let ping = ping.get(..CONTROL_LEN_MAX).unwrap_or(ping);
    out.extend([FIN | OPCODE_PONG, ping.len() as u8]);
    out.extend_from_slice(ping);
}

/// The close frame with a code.
pub(crate) const fn close(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [FIN | OPCODE_CLOSE, 2, high, low]
}

#[cfg(test)]
mod tests;
