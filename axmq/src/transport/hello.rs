//! What a TLS client says first, read for the log: whom it wants, and which versions it speaks.
//!
//! rustls reads the same bytes and decides; it does not tell what it has read when it refuses.

use std::fmt;

/// A record's head and a handshake message's.
const RECORD_LEN: usize = 5;
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;
/// The longest name in DNS.
const NAME_LEN_MAX: usize = 255;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The name of the server that it wants (SNI), where it says one.
    pub(crate) server_name: Option<Box<str>>,
    /// The versions, as on the wire; the list of the extension, or the old field.
    versions: Vec<u16>,
}

impl Hello {
    /// Reads a ClientHello that is whole in the first record; `None` for anything else.
    ///
    /// # Complexity
    ///
    /// Linear.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let &[HANDSHAKE, 3, _, high, low, ..] = bytes else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let mut record = Reader(bytes.get(RECORD_LEN..RECORD_LEN + len)?);
        if record.number(1)? != u64::from(CLIENT_HELLO) {
            return None;
        }
        let mut body = record.block(3)?;
        let legacy = u16::try_from(body.number(2)?).ok()?;
        body.take(32)?;
        body.block(1)?;
        body.block(2)?;
        body.block(1)?;
        let mut hello = Self {
            server_name: None,
            versions: vec![legacy],
        };
        // Old clients have no extensions.
        let mut extensions = body.block(2).unwrap_or(Reader(&[]));
        while let (Some(kind), Some(extension)) = (extensions.number(2), extensions.block(2)) {
            match u16::try_from(kind) {
                Ok(SERVER_NAME) => hello.server_name = server_name(extension),
                Ok(SUPPORTED_VERSIONS) => hello.versions = versions(extension)?,
                _ => {}
            }
        }
        Some(hello)
    }
}

fn server_name(mut extension: Reader<'_>) -> Option<Box<str>> {
    let mut list = extension.block(2)?;
    // The only kind there is: the name of a host.
    let 0 = list.number(1)? else { return None };
    let name = str::from_utf8(list.block(2)?.0).ok()?;
    (name.len() <= NAME_LEN_MAX).then(|| name.into())
}

fn versions(mut extension: Reader<'_>) -> Option<Vec<u16>> {
    let list = extension.block(1)?;
    let (pairs, _) = list.0.as_chunks::<2>();
    Some(pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
}

/// Takes numbers and blocks off the front.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, at most eight.
    fn number(&mut self, len: usize) -> Option<u64> {
        let bytes = self.take(len)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }

    /// A block behind its length of so many bytes.
    fn block(&mut self, len_bytes: usize) -> Option<Self> {
        let len = usize::try_from(self.number(len_bytes)?).ok()?;
        self.take(len).map(Reader)
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server_name {
            Some(name) => write!(f, "sni {}", name.escape_debug())?,
            None => f.write_str("no sni")?,
        }
        f.write_str(", versions")?;
        let known = |version: &&u16| (0x0300..=0x0304).contains(*version);
        for version in self.versions.iter().filter(known) {
            match version {
                0x0300 => f.write_str(" SSL 3")?,
                version => write!(f, " 1.{}", version - 0x0301)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(len_bytes: usize, bytes: &[u8]) -> Vec<u8> {
        let len = (bytes.len() as u64).to_be_bytes();
        [&len[8 - len_bytes..], bytes].concat()
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &block(1, b"session"),
            &block(2, &[0x13, 1]),
            &block(1, &[0]),
            extensions,
        ]
        .concat();
        let message = [&[CLIENT_HELLO][..], &block(3, &body)].concat();
        [&[HANDSHAKE, 3, 1][..], &block(2, &message)].concat()
    }

    fn extension(kind: u16, bytes: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &block(2, bytes)].concat()
    }

    #[test]
    fn name_and_versions_are_read() {
        let name = [&[0][..], &block(2, b"broker.example")].concat();
        let extensions = [
            extension(10, b"groups"),
            extension(SERVER_NAME, &block(2, &name)),
            // The first is a greased value (RFC 8701).
            extension(SUPPORTED_VERSIONS, &block(1, &[0x0A, 0x0A, 3, 4, 3, 3])),
        ];
        let bytes = hello(&block(2, &extensions.concat()));
        let read = Hello::read(&bytes).unwrap();
        assert_eq!(read.to_string(), "sni broker.example, versions 1.3 1.2");
        for len in 0..bytes.len() {
            assert_eq!(Hello::read(&bytes[..len]), None);
        }
        let old = Hello::read(&hello(&[])).unwrap();
        assert_eq!(old.to_string(), "no sni, versions 1.2");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Hello::read(&bytes).map(|hello| hello.to_string());
            let _ = Hello::read(&hello(&block(2, &bytes))).map(|hello| hello.to_string());
        }
    }
}
