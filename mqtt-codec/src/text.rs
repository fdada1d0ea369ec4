//! Strings: well-formed UTF-8 without U+0000.

/// Why bytes are not a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextError {
    /// Not well-formed UTF-8.
    NotUtf8,
    /// Well-formed, with a U+0000.
    HasNul,
}

/// Checks a string [MQTT-1.5.4-1, MQTT-1.5.4-2].
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

/// Returns the string of bytes that [`check`] let pass.
///
/// Checks again, which is cheap for what is short and mostly ASCII, instead of trusting.
#[inline]
pub(crate) fn checked_before(bytes: &[u8]) -> &str {
    let text = core::str::from_utf8(bytes);
    debug_assert!(text.is_ok(), "decode lets no other string pass");
    text.unwrap_or_default()
}

/// Looks for a zero byte, eight bytes at a time.
#[inline]
fn has_nul(bytes: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut zero = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        // A borrow reaches the high bit of a byte only if that byte, or one below it, was zero.
        zero |= word.wrapping_sub(LOW) & !word & HIGH;
    }
    let mut found = zero != 0;
    for &byte in rest {
        found |= byte == 0;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_found_at_every_place_and_nowhere_else() {
        for len in 0..40 {
            let clean: [u8; 40] = core::array::from_fn(|at| (at as u8).wrapping_mul(37) | 1);
            assert!(!has_nul(&clean[..len]));
            for place in 0..len {
                let mut bytes = clean;
                bytes[place] = 0;
                assert!(has_nul(&bytes[..len]), "{place} of {len}");
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
