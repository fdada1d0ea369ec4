//! WebSocket: the request, and the frames of a client.

use crate::frames::{Control, Decoder};
use crate::upgrade;

/// However a request is cut, it wants more until it is read, the same in the end.
pub(crate) fn request(data: &[u8]) {
    let whole = upgrade::read(data);
    let Ok(Some(request)) = whole else {
        return;
    };
    assert!(request.len <= data.len());
    for len in 0..request.len {
        assert_eq!(upgrade::read(&data[..len]), Ok(None));
    }
    assert_eq!(upgrade::read(&data[..request.len]), whole);
    let mut answer = Vec::new();
    request.accept(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
    let _ = request.forwarded_for.nearest_first().count();
}

/// What a stream comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    data: Vec<u8>,
    pings: Vec<Vec<u8>>,
    close: Option<Option<u16>>,
    error: Option<String>,
}

fn read(data: &[u8], step: usize) -> Seen {
    let (mut decoder, mut seen) = (Decoder::new(1 << 16), Seen::default());
    for piece in data.chunks(step.max(1)) {
        let mut piece = piece.to_vec();
        let (len, result) = decoder.decode(&mut piece, |control| match control {
            Control::Ping(bytes) => seen.pings.push(bytes.to_vec()),
            Control::Pong => {}
            Control::Close(code) => seen.close = Some(code),
        });
        seen.data.extend_from_slice(&piece[..len]);
        if let Err(error) = result {
            seen.error = Some(error.to_string());
            break;
        }
    }
    seen
}

/// However a stream of frames is cut, the same comes out of it.
pub(crate) fn frames(data: &[u8]) {
    let Some((step, data)) = data.split_first() else {
        return;
    };
    let whole = read(data, data.len());
    assert!(whole.data.len() <= data.len());
    assert_eq!(read(data, usize::from(*step)), whole);
    assert_eq!(read(data, 1), whole);
}
