//! Strings: well-formed UTF-8 without U+0000.

/// Why bytes are not a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextError {
    /// Not well-formed UTF-8.
    NotUtf8,
    /// Well-formed, with a U+0000.
    HasNul,
}

/// What was found in the bytes of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traits {
    /// A byte has its high bit set.
    not_ascii: bool,
    /// A byte is zero.
    has_nul: bool,
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
    if traits(bytes).has_nul {
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
    match traits(bytes) {
        Traits {
            not_ascii: false,
            has_nul: false,
        } => Ok(()),
        _ => check(bytes).map(|_| ()),
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

/// Looks at eight bytes at a time.
///
/// The last word overlaps the one before it, so that there is no loop over single bytes.
#[inline]
fn traits(bytes: &[u8]) -> Traits {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (mut high, mut zero) = (0, 0);
    let mut look = |word: u64| {
        high |= word;
        // A borrow reaches the high bit of a byte only if that byte, or one below it, was zero.
        zero |= word.wrapping_sub(LOW) & !word;
    };
    if let Some(last) = bytes.last_chunk() {
        for word in bytes.as_chunks().0 {
            look(u64::from_ne_bytes(*word));
        }
        look(u64::from_ne_bytes(*last));
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
        look(u64::from(first) << 32 | u64::from(last));
    } else {
        // At most three bytes; the rest of the word is anything that is ASCII and not zero.
        let mut word = LOW;
        for &byte in bytes {
            word = word << 8 | u64::from(byte);
        }
        look(word);
    }
    Traits {
        not_ascii: high & HIGH != 0,
        has_nul: zero & HIGH != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the word sizes, every place, both traits, against the obvious way.
    #[test]
    fn traits_are_those_of_the_bytes() {
        for len in 0..40 {
            let ascii: [u8; 40] = core::array::from_fn(|at| (at as u8).wrapping_mul(37) & 0x7E | 1);
            for (place, byte) in (0..len).flat_map(|at| [(at, 0), (at, 0x80), (at, 0xFF), (at, 1)])
            {
                let mut bytes = ascii;
                bytes[place] = byte;
                let bytes = &bytes[..len];
                let found = Traits {
                    not_ascii: !bytes.is_ascii(),
                    has_nul: bytes.contains(&0),
                };
                assert_eq!(traits(bytes), found, "{byte} at {place} of {len}");
                assert_eq!(check_only(bytes), check(bytes).map(|_| ()));
            }
            let clean = Traits {
                not_ascii: false,
                has_nul: false,
            };
            assert_eq!(traits(&ascii[..len]), clean);
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
