//! Frames on the control socket: four bytes of length, the highest first, then JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest question: a client id of 65,535 bytes, each escaped, and some words.
pub(super) const REQUEST_BYTES_MAX: u32 = 512 * 1_024;
/// The largest answer: a page of a thousand clients with long ids.
pub(super) const RESPONSE_BYTES_MAX: u32 = 512 * 1_024 * 1_024;

/// Writes one frame.
///
/// # Errors
///
/// What the stream says; a value too large for a frame is invalid data.
pub(super) fn write<T: Serialize>(stream: &mut impl Write, value: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let len = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    if let Some(head) = frame.first_chunk_mut() {
        *head = len.to_be_bytes();
    }
    stream.write_all(&frame)?;
    stream.flush()
}

/// Reads one frame; `None` where the other side has closed between two.
///
/// # Errors
///
/// What the stream says; a frame beyond `bytes_max`, and one that is not what is expected, are
/// invalid data.
pub(super) fn read<T: DeserializeOwned>(
    stream: &mut impl Read,
    bytes_max: u32,
) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    let mut have = 0;
    while let Some(rest) = head.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let len = u32::from_be_bytes(head);
    if len > bytes_max {
        let message = format!("a frame of {len} bytes, of at most {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    // Grows with what comes, not with what is announced.
    let mut body = Vec::new();
    stream.take(u64::from(len)).read_to_end(&mut body)?;
    if body.len() != len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::types::Request;

    #[test]
    fn what_is_written_is_read_back() {
        let requests = [
            Request::Status,
            Request::Kick {
                id: "with \"quotes\" and \u{0}".into(),
            },
        ];
        let mut bytes = Vec::new();
        for request in &requests {
            write(&mut bytes, request).expect("a vector takes everything");
        }
        let mut rest = &bytes[..];
        for request in requests {
            let read: Option<Request> = read(&mut rest, 1_000).expect("it was written so");
            assert_eq!(read, Some(request));
        }
        assert_eq!(read::<Request>(&mut rest, 1_000).expect("the end"), None);
    }

    #[test]
    fn bad_frames_are_errors() {
        for (bytes, kind) in [
            (&b"\0\0"[..], io::ErrorKind::UnexpectedEof),
            (b"\0\0\0\x05{}", io::ErrorKind::UnexpectedEof),
            (b"\xff\xff\xff\xff{}", io::ErrorKind::InvalidData),
            (b"\0\0\0\x02{}", io::ErrorKind::InvalidData),
            (b"\0\0\0\x02{\xff", io::ErrorKind::InvalidData),
        ] {
            let mut rest = bytes;
            let error = read::<Request>(&mut rest, 1_000).expect_err("it is bad");
            assert_eq!(error.kind(), kind, "{bytes:?}: {error}");
        }
        let unknown = br#"{"command":"sing"}"#;
        let mut frame = (unknown.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(unknown);
        let error = read::<Request>(&mut &frame[..], 1_000).expect_err("no such command");
        assert!(error.to_string().contains("sing"), "{error}");
    }
}
