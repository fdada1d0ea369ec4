//! The upgrade from HTTP/1.1 (RFC 6455 section 4.2), read from the bytes of the request.
//!
//! Strict where leniency has let attackers in elsewhere: lines end with CR LF, no line is folded,
//! names of fields are tokens, what may be there once is there once, and there is no body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Bytes of a request, head and all; browsers send well below 2 KiB without cookies.
pub(crate) const REQUEST_BYTES_MAX: usize = 8 * 1_024;
/// Fields of a request.
const FIELDS_MAX: usize = 64;
/// What the key is hashed with (RFC 6455 section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What of a request matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// The path without the query.
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    /// Which page the script comes from; browsers always say so.
    pub(crate) origin: Option<&'a str>,
    /// All that proxies have added, in one line each; to be believed only from a trusted one.
    pub(crate) forwarded_for: ForwardedFor<'a>,
    pub(crate) subprotocol: Subprotocol,
    key: &'a str,
    /// The bytes of the request; frames follow.
    pub(crate) len: usize,
}

/// The last field `X-Forwarded-For`, where there was any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ForwardedFor<'a>(Option<&'a str>);

impl<'a> ForwardedFor<'a> {
    /// The addresses from the nearest to the farthest.
    pub(crate) fn nearest_first(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0
            .unwrap_or_default()
            .rsplit(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
    }
}

/// The subprotocols that are MQTT [MQTT-6.0.0-3].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subprotocol {
    /// `mqtt`: 3.1.1 and 5.0.
    Mqtt,
    /// `mqttv3.1`, as clients of MQTT 3.1 call it.
    MqttV31,
}

impl Subprotocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::MqttV31 => "mqttv3.1",
        }
    }
}

/// Why there is no upgrade: the status of the answer and what is wrong, for the answer and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) why: &'static str,
}

/// The status codes of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    BadRequest = 400,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    UpgradeRequired = 426,
    FieldsTooLarge = 431,
    VersionNotSupported = 505,
}

impl Status {
    const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::UpgradeRequired => "Upgrade Required",
            Self::FieldsTooLarge => "Request Header Fields Too Large",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

impl Refusal {
    pub(crate) const FORBIDDEN_ORIGIN: Self =
        refusal(Status::Forbidden, "this origin may not connect");
    pub(crate) const NO_SUCH_PATH: Self =
        refusal(Status::NotFound, "nothing is served at this path");

    /// Appends the answer, after which the connection ends.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (code, reason) = (self.status as u16, self.status.reason());
        let extra = match self.status {
            Status::MethodNotAllowed => "Allow: GET\r\n",
            // RFC 6455 section 4.4.
            Status::UpgradeRequired => {
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            }
            _ => "",
        };
        let close = if extra.contains("Connection") {
            ""
        } else {
            "Connection: close\r\n"
        };
        let head = format!(
            "HTTP/1.1 {code} {reason}\r\n{extra}{close}Content-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{}\n",
            self.why.len() + 1,
            self.why
        );
        out.extend_from_slice(head.as_bytes());
    }
}

const fn refusal(status: Status, why: &'static str) -> Refusal {
    Refusal { status, why }
}

const fn bad(why: &'static str) -> Refusal {
    refusal(Status::BadRequest, why)
}

/// Reads a request; `None` if it has not all come.
///
/// # Errors
///
/// What is wrong first. A request that can be seen to be wrong is refused before it has all come:
/// what does not begin as one, and what is too long.
///
/// # Complexity
///
/// Linear in the bytes. To be called once more bytes have come, which bounds what a peer that
/// sends them one by one makes it cost to the square of [`REQUEST_BYTES_MAX`].
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    let begin = b"GET ";
    if !bytes.iter().zip(begin).all(|(byte, wanted)| byte == wanted) {
        return Err(not_a_get(bytes));
    }
    let searched = bytes.get(..REQUEST_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = searched.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match bytes.len() < REQUEST_BYTES_MAX {
            true => Ok(None),
            false => Err(refusal(
                Status::FieldsTooLarge,
                "the request is above 8192 bytes",
            )),
        };
    };
    let head = bytes.get(..end).unwrap_or_default();
    let head = str::from_utf8(head).map_err(|_| bad("the request is not UTF-8"))?;
    if head
        .bytes()
        .any(|byte| byte == 0x7F || byte < b' ' && !matches!(byte, b'\r' | b'\n' | b'\t'))
    {
        return Err(bad("the request has control characters"));
    }
    parse(head, end + 4).map(Some)
}

/// What came in place of a GET, as well as that can be told.
fn not_a_get(bytes: &[u8]) -> Refusal {
    let is_method = |byte: &u8| byte.is_ascii_uppercase();
    match bytes {
        // A TLS record of a handshake, and a CONNECT of MQTT.
        [0x16, ..] => bad("TLS on a plain listener"),
        [0x10, ..] => bad("MQTT without WebSocket on a WebSocket listener"),
        _ if bytes.iter().take(3).all(is_method) => {
            refusal(Status::MethodNotAllowed, "only GET is answered")
        }
        _ => bad("this is no HTTP request"),
    }
}

fn parse(head: &str, len: usize) -> Result<Request<'_>, Refusal> {
    let mut lines = head.split("\r\n");
    let path = parse_request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count == FIELDS_MAX {
            return Err(refusal(
                Status::FieldsTooLarge,
                "the request has above 64 fields",
            ));
        }
        fields.take(line)?;
    }
    let host = fields.host.ok_or(bad("the field Host is missing"))?;
    if !fields.upgrades_to_websocket {
        return Err(refusal(
            Status::UpgradeRequired,
            "this is a WebSocket for MQTT",
        ));
    }
    if !fields.connection_upgrades {
        return Err(bad("the field Connection does not name Upgrade"));
    }
    if fields.version != Some("13") {
        return Err(refusal(
            Status::UpgradeRequired,
            "the WebSocket version has to be 13",
        ));
    }
    let key = fields
        .key
        .ok_or(bad("the field Sec-WebSocket-Key is missing"))?;
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(bad("Sec-WebSocket-Key has to be 16 bytes in base64"));
    }
    let subprotocol = fields
        .subprotocol
        .ok_or(bad("Sec-WebSocket-Protocol has to offer mqtt"))?;
    Ok(Request {
        path,
        host,
        origin: fields.origin,
        forwarded_for: ForwardedFor(fields.forwarded_for),
        subprotocol,
        key,
        len,
    })
}

fn parse_request_line(line: &str) -> Result<&str, Refusal> {
    let mut parts = line.split(' ');
    let (Some("GET"), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("the request line is not GET, a path and a version"));
    };
    match version {
        "HTTP/1.1" => {}
        _ if version.starts_with("HTTP/") => {
            return Err(refusal(
                Status::VersionNotSupported,
                "the version has to be HTTP/1.1",
            ));
        }
        _ => return Err(bad("the request line is not GET, a path and a version")),
    }
    let path = target.split('?').next().unwrap_or_default();
    if !path.starts_with('/') || !target.is_ascii() {
        return Err(bad("the request target is no path"));
    }
    Ok(path)
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    origin: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<&'a str>,
    forwarded_for: Option<&'a str>,
    subprotocol: Option<Subprotocol>,
    upgrades_to_websocket: bool,
    connection_upgrades: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a str) -> Result<(), Refusal> {
        if line.contains(['\r', '\n']) {
            return Err(bad("a line ends without CR LF"));
        }
        let (name, value) = line.split_once(':').ok_or(bad("a field has no colon"))?;
        // A folded line begins with a space, and so has no name.
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(bad("the name of a field is no token"));
        }
        let value = value.trim_matches([' ', '\t']);
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("host") {
            once(&mut self.host, value, "there are two fields Host")
        } else if is("origin") {
            once(&mut self.origin, value, "there are two fields Origin")
        } else if is("sec-websocket-key") {
            once(
                &mut self.key,
                value,
                "there are two fields Sec-WebSocket-Key",
            )
        } else if is("sec-websocket-version") {
            once(
                &mut self.version,
                value,
                "there are two fields Sec-WebSocket-Version",
            )
        } else if is("x-forwarded-for") {
            // The nearest proxy writes last.
            self.forwarded_for = Some(value);
            Ok(())
        } else if is("upgrade") {
            self.upgrades_to_websocket |= has(value, "websocket");
            Ok(())
        } else if is("connection") {
            self.connection_upgrades |= has(value, "upgrade");
            Ok(())
        } else if is("sec-websocket-protocol") {
            let offered = list(value).find_map(|name| match name {
                "mqtt" => Some(Subprotocol::Mqtt),
                "mqttv3.1" => Some(Subprotocol::MqttV31),
                _ => None,
            });
            self.subprotocol = self.subprotocol.or(offered);
            Ok(())
        } else if is("transfer-encoding") || is("content-length") && value != "0" {
            Err(bad("a request to upgrade has no body"))
        } else {
            Ok(())
        }
    }
}

fn once<'a>(
    place: &mut Option<&'a str>,
    value: &'a str,
    twice: &'static str,
) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(twice)),
    }
}

/// The elements of a comma-separated field (RFC 9110 section 5.6.1).
fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']))
}

fn has(value: &str, wanted: &str) -> bool {
    list(value).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

impl Request<'_> {
    /// Appends the answer that lets the client in.
    pub(crate) fn accept(&self, out: &mut Vec<u8>) {
        let hash = Sha1::new()
            .chain_update(self.key)
            .chain_update(ACCEPT_GUID)
            .finalize();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            STANDARD.encode(hash),
            self.subprotocol.name()
        );
        out.extend_from_slice(head.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt?a=b HTTP/1.1\r\nHost: example.org:8083\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\
        Origin: https://example.org\r\nX-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n\r\n";

    #[test]
    fn the_example_of_the_specification_is_answered_as_it_says() {
        let bytes = [GOOD.as_bytes(), b"\x82"].concat();
        let request = read(&bytes).unwrap().unwrap();
        assert_eq!(request.len, GOOD.len());
        assert_eq!((request.path, request.host), ("/mqtt", "example.org:8083"));
        assert_eq!(request.origin, Some("https://example.org"));
        let proxies: Vec<_> = request.forwarded_for.nearest_first().collect();
        assert_eq!(proxies, ["192.0.2.7", "10.0.0.1"]);
        let mut answer = Vec::new();
        request.accept(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        // RFC 6455 section 1.3.
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"));
    }

    #[test]
    fn any_beginning_of_a_request_wants_more() {
        for len in 0..GOOD.len() {
            assert_eq!(read(&GOOD.as_bytes()[..len]), Ok(None), "{len}");
        }
    }

    #[test]
    fn each_fault_is_named_and_has_its_status() {
        use Status::*;
        for (from, to, status, why) in [
            ("GET", "POST", MethodNotAllowed, "only GET"),
            ("GET /mqtt", "GET mqtt", BadRequest, "no path"),
            ("HTTP/1.1", "HTTP/1.0", VersionNotSupported, "HTTP/1.1"),
            ("HTTP/1.1", "HTTP/1.1 x", BadRequest, "request line"),
            (
                "Host: example.org:8083\r\n",
                "",
                BadRequest,
                "Host is missing",
            ),
            (
                "Origin: https://example.org",
                "Host: b",
                BadRequest,
                "two fields Host",
            ),
            (
                "Upgrade: websocket",
                "Upgrade: h2c",
                UpgradeRequired,
                "WebSocket",
            ),
            (
                "keep-alive, Upgrade",
                "keep-alive",
                BadRequest,
                "Connection",
            ),
            ("Version: 13", "Version: 8", UpgradeRequired, "13"),
            (
                "dGhlIHNhbXBsZSBub25jZQ==",
                "dGhlIHNhbXBsZSBub25j",
                BadRequest,
                "16 bytes",
            ),
            ("chat, mqtt", "chat", BadRequest, "offer mqtt"),
            ("Origin: https", "Origin : https", BadRequest, "no token"),
            ("Origin: https", " folded: https", BadRequest, "no token"),
            ("Origin: https://example.org", "Origin", BadRequest, "colon"),
            (
                "Origin: https://example.org",
                "A: b\nC: d",
                BadRequest,
                "CR LF",
            ),
            (
                "Origin: https",
                "Content-Length: 7\r\nA: https",
                BadRequest,
                "no body",
            ),
            ("Origin: https", "Origin: \0", BadRequest, "control"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let request = GOOD.replacen(from, to, 1);
            let Err(refusal) = read(request.as_bytes()) else {
                panic!("{to:?} was let pass")
            };
            assert_eq!(refusal.status, status, "{to:?}: {}", refusal.why);
            assert!(refusal.why.contains(why), "{to:?}: {}", refusal.why);
            let mut answer = Vec::new();
            refusal.write(&mut answer);
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {} ", status as u16)));
        }
    }

    #[test]
    fn what_never_ends_or_is_something_else_is_refused_early() {
        let endless = [
            b"GET / HTTP/1.1\r\nA: ".as_slice(),
            &[b'x'; REQUEST_BYTES_MAX],
        ]
        .concat();
        assert_eq!(read(&endless).unwrap_err().status, Status::FieldsTooLarge);
        let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        assert_eq!(
            read(fields.as_bytes()).unwrap_err().status,
            Status::FieldsTooLarge
        );
        assert!(read(b"\x16\x03\x01").unwrap_err().why.contains("TLS"));
        assert!(
            read(b"\x10\x0c\x00\x04MQTT")
                .unwrap_err()
                .why
                .contains("MQTT")
        );
        assert!(read(b"\x00").is_err());
    }
}
