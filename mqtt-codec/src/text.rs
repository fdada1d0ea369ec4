//! Strings: well-formed UTF-8 without U+0000.

/// Why bytes are not a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextError {
    /// Not well-formed UTF-8.
    NotUtf8,
    /// Well-formed, with a U+0000.
    HasNul,
}

/// Checks a string [MQTT-1.5.4-1, MQTT-1.5.4-2] and returns it.
///
/// A byte order mark is a character like any other [MQTT-1.5.4-3]. The control characters and
/// non-characters that the specification advises against are allowed, since it does not forbid
/// them. Surrogates are not well-formed, as in Rust.
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Result<&str, TextError> {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return Err(TextError::NotUtf8);
    };
    if has_nul(bytes) {
        Err(TextError::HasNul)
    } else {
        Ok(text)
    }
}

/// Checks a string as [`check`] does, where it is not needed as a `str` yet.
///
/// Two to three times as fast for short ASCII: without `unsafe`, only the library's own check
/// makes a `str`.
#[inline]
pub(crate) fn check_only(bytes: &[u8]) -> Result<(), TextError> {
    if is_plain(bytes) {
        Ok(())
    } else {
        check(bytes).map(|_| ())
    }
}

/// Tells whether U+0000 is in bytes that are known to be UTF-8.
#[inline]
pub(crate) fn has_nul(bytes: &[u8]) -> bool {
    !is_plain(bytes) && bytes.contains(&0)
}

/// Fields of two bytes of length each, checked as one text together and then cut.
///
/// One check of a run of fields costs less than one of each, since most of a check is getting
/// started. Lengths below 256 are text, too: U+0000 and another character.
pub(crate) struct TextFields<'a> {
    run: &'a str,
    /// Where the next field begins.
    at: usize,
}

impl<'a> TextFields<'a> {
    /// The bytes that are looked at as one text, at most, so that a long password or payload is
    /// not looked at in vain.
    const LEN_MAX: usize = 256;

    /// Starts at the first length; `None` if this is no text or too long.
    #[inline]
    pub(crate) fn new(fields: &'a [u8]) -> Option<Self> {
        match fields.len() {
            ..=Self::LEN_MAX => str::from_utf8(fields).ok().map(|run| Self { run, at: 0 }),
            _ => None,
        }
    }

    /// Cuts the next field off; `None` if it is not there as a whole.
    #[inline(always)]
    pub(crate) fn binary(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.run.as_bytes().get(self.at..)?.split_first_chunk()?;
        let field = rest.get(..usize::from(u16::from_be_bytes(len)))?;
        self.at += 2 + field.len();
        Some(field)
    }

    /// Cuts the next string off; `None` also if there is a U+0000 in it.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let field = self.binary()?;
        let text = self.run.get(self.at - field.len()..self.at)?;
        (!has_nul(field)).then_some(text)
    }

    /// Tells whether nothing is left.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.at == self.run.len()
    }
}

/// Returns the string of bytes that [`check`] let pass.
///
/// Checks again, which is cheap for what is short and mostly ASCII, instead of trusting.
#[inline]
pub(crate) fn checked_before(bytes: &[u8]) -> &str {
    let text = core::str::from_utf8(bytes);
    debug_assert!(text.is_ok(), "decode lets no other string pass");
    text.unwrap_or_default()
}

/// Tells whether all bytes are ASCII and not zero, which as signed numbers are those above zero.
///
/// Looks at sixteen bytes at a time, which compilers make one comparison of. The last piece
/// overlaps the one before it, so that there is no loop over single bytes.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<16>() else {
        return is_short_plain(bytes);
    };
    let is_plain = |piece: &[u8; 16]| {
        let signs = piece.iter().map(|byte| byte.cast_signed() > 0);
        signs.fold(true, |all, positive| all & positive)
    };
    bytes.as_chunks().0.iter().all(is_plain) && is_plain(last)
}

/// The same for less than sixteen bytes, in words of eight.
#[inline]
fn is_short_plain(bytes: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (first, last) =
        if let (Some(&first), Some(&last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            (u64::from_ne_bytes(first), u64::from_ne_bytes(last))
        } else if let (Some(&first), Some(&last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            let (first, last) = (u32::from_ne_bytes(first), u32::from_ne_bytes(last));
            let word = u64::from(first) << 32 | u64::from(last);
            (word, word)
        } else {
            // At most three bytes; the rest of the word is anything that is ASCII and not zero.
            let word = bytes
                .iter()
                .fold(LOW, |word, &byte| word << 8 | u64::from(byte));
            (word, word)
        };
    // One less than a zero has its high bit set. What is not ASCII has it already, and a borrow
    // comes out of zeros only.
    let found = first | last | first.wrapping_sub(LOW) | last.wrapping_sub(LOW);
    found & HIGH == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the word sizes, every place, and each kind of byte, against the obvious
    /// way.
    #[test]
    fn plain_bytes_are_told_from_others() {
        for len in 0..40 {
            let ascii: [u8; 40] = core::array::from_fn(|at| (at as u8).wrapping_mul(37) & 0x7E | 1);
            assert!(is_plain(&ascii[..len]));
            for (place, byte) in (0..len).flat_map(|at| [0, 1, 0x7F, 0x80, 0xFF].map(|b| (at, b))) {
                let mut bytes = ascii;
                bytes[place] = byte;
                let bytes = &bytes[..len];
                let plain = bytes.is_ascii() && !bytes.contains(&0);
                assert_eq!(is_plain(bytes), plain, "{byte} at {place} of {len}");
                assert_eq!(has_nul(bytes), bytes.contains(&0));
                assert_eq!(check_only(bytes), check(bytes).map(|_| ()));
            }
        }
    }

    #[test]
    fn text_is_checked() {
        assert_eq!(check(b"a/\xc3\xa9"), Ok("a/é"));
        assert_eq!(check(b""), Ok(""));
        assert_eq!(
            check(b"\xef\xbb\xbfx"),
            Ok("\u{feff}x"),
            "a byte order mark is kept"
        );
        assert_eq!(
            check(b"a\x01\x7f"),
            Ok("a\x01\x7f"),
            "control characters are allowed"
        );
        assert_eq!(check(b"a\x00"), Err(TextError::HasNul));
        assert_eq!(
            check(b"\xed\xa0\x80"),
            Err(TextError::NotUtf8),
            "a surrogate"
        );
        assert_eq!(
            check(b"\xc0\x80"),
            Err(TextError::NotUtf8),
            "an over-long zero"
        );
        assert_eq!(
            check(b"\xf4\x90\x80\x80"),
            Err(TextError::NotUtf8),
            "above U+10FFFF"
        );
    }
}
