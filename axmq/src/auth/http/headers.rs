//! Headers that go along with each question, such as what the service knows the broker by.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderName, HeaderValue};

use crate::auth::FileError;
use crate::auth::password::read_private;

/// The most headers that a file may have.
const HEADERS_MAX: usize = 16;
/// The longest line of one. What services take is 8 KiB and less, for all headers together.
const LINE_BYTES_MAX: usize = 4_096;
/// What the broker says itself, and what says where a request ends.
const OURS: [&str; 10] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers of a file, which are as secret as a password.
#[derive(Default)]
pub(in crate::auth) struct Headers {
    list: Vec<(HeaderName, HeaderValue)>,
    digest: [u8; 32],
}

impl Headers {
    /// Reads a file with a header in each line. Nobody else may read it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with the key and the line, and never with what the line says.
    pub(super) fn load(path: &Path) -> Result<Self, FileError> {
        let wrong = |what: String| FileError::new(format!("auth.http.header_file: {what}"));
        let text = read_private(path).map_err(|error| wrong(error.to_string()))?;
        let name = path.display();
        let mut list = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let header = parse(line);
            list.push(header.map_err(|what| wrong(format!("{name}:{}: {what}", index + 1)))?);
        }
        match list.len() {
            0 => Err(wrong(format!("{name}: there is no header in this file"))),
            1..=HEADERS_MAX => Ok(Self {
                list,
                digest: Sha256::digest(text.as_bytes()).into(),
            }),
            _ => Err(wrong(format!("{name}: more than {HEADERS_MAX} headers"))),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.list.iter()
    }

    pub(in crate::auth) fn len(&self) -> usize {
        self.list.len()
    }

    /// Tells whether two have been read from the same text.
    pub(in crate::auth) fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// A line as a header, or what is wrong with it.
fn parse(line: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    if line.len() > LINE_BYTES_MAX {
        return Err("the header is longer than 4,096 bytes");
    }
    let (name, value) = line
        .split_once(':')
        .ok_or("a header is `NAME: VALUE`, and there is no colon")?;
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "what stands before the colon is no name of a header")?;
    if OURS.contains(&name.as_str()) {
        return Err("this header is set by the broker");
    }
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Err("there is nothing behind the colon");
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| "a header may have no control characters in it, such as a carriage return")?;
    // The library shows it to nobody then.
    value.set_sensitive(true);
    Ok((name, value))
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.list.iter().map(|(name, _)| name.as_str());
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_header_or_says_what_is_wrong_and_not_what_it_says() {
        let (name, value) = parse("Authorization: Bearer s3cret ").expect("it is one");
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("authorization", &b"Bearer s3cret"[..])
        );
        assert!(!format!("{value:?}").contains("s3cret"));
        let long = format!("X-Key: {}", "s3cret".repeat(1_000));
        for (line, expected) in [
            ("s3cret", "there is no colon"),
            ("s3cret key: x", "no name of a header"),
            (" folded: s3cret", "no name of a header"),
            (": s3cret", "no name of a header"),
            ("X-Key: \t", "nothing behind the colon"),
            ("X-Key: s3cret\rHost: x", "such as a carriage return"),
            ("X-Key: s3cret\n", "such as a carriage return"),
            ("X-Key: s3cret\u{7f}", "control characters"),
            ("Content-Length: 3", "set by the broker"),
            ("hOST: s3cret", "set by the broker"),
            (&long, "longer than"),
        ] {
            let what = parse(line).expect_err(line);
            assert!(what.contains(expected), "{line}: {what}");
            assert!(!what.contains("s3cr"), "{what}");
        }
    }
}
