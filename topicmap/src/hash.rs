//! The hash of a level, and the search for separators eight bytes at a time.
//!
//! The hash of a name is the wrapping **sum** of the hashes of its levels, each salted with its
//! position. So the hash of every prefix falls out of one pass, and the hash of "this topic with
//! `+` in place of levels 1 and 3" costs two subtractions and an addition (see `shape`).
//!
//! A level's hash is two rounds of *folded multiplication* (the low half of a 128-bit product
//! xor its high half) over its bytes and secrets made from the seed. Length and position enter as
//! the multiplier of the second round and not as a xor of the input, where a sender could cancel
//! them with bytes of his own.

const K0: u64 = 0xA076_1D64_78BD_642F;
const K1: u64 = 0xE703_7ED1_A0B4_28DB;
const K2: u64 = 0x8EBC_6AF0_9C88_C6E3;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline(always)]
fn read8(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

#[inline(always)]
fn read4(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        Some(chunk) => u64::from(u32::from_le_bytes(*chunk)),
        None => 0,
    }
}

/// The hash of the level `bytes` at `position` in its name (0 is the first).
#[inline]
pub(crate) fn level_hash(seed: u64, position: usize, bytes: &[u8]) -> u64 {
    let first_secret = seed ^ K0;
    let second_secret = seed.wrapping_mul(K1) ^ K2;
    let len = bytes.len();
    let mixed = if len <= 16 {
        let (a, b) = if len >= 8 {
            (read8(bytes, 0), read8(bytes, len - 8))
        } else if len >= 4 {
            (read4(bytes, 0), read4(bytes, len - 4))
        } else {
            match *bytes {
                [] => (0, 0),
                [x] => (u64::from(x), 0),
                [x, y] => (u64::from(x), u64::from(y)),
                [x, y, z, ..] => (u64::from(x), u64::from(y) | u64::from(z) << 8),
            }
        };
        fold(a ^ first_secret, b ^ second_secret)
    } else {
        long_hash(bytes, first_secret, second_secret)
    };
    let what = (position as u64) << 32 | (len as u64) << 1;
    fold(mixed ^ first_secret, K0.wrapping_add(what))
}

/// The first round for a level of more than 16 bytes.
fn long_hash(bytes: &[u8], first_secret: u64, second_secret: u64) -> u64 {
    let mut state = first_secret;
    let mut at = 0;
    while bytes.len() - at > 16 {
        state = fold(
            read8(bytes, at) ^ state,
            read8(bytes, at + 8) ^ second_secret,
        );
        at += 16;
    }
    let last = bytes.len() - 16;
    fold(
        read8(bytes, last) ^ state,
        read8(bytes, last + 8) ^ second_secret,
    )
}

/// Whether two texts are equal.
///
/// In place of `==`, which calls `memcmp`: texts here are short, and the call costs more than the
/// comparison.
#[inline(always)]
pub(crate) fn is_same(a: &[u8], b: &[u8]) -> bool {
    let len = a.len();
    if len != b.len() {
        return false;
    }
    match len {
        0..=3 => a.iter().zip(b).all(|(a, b)| a == b),
        4..=7 => read4(a, 0) == read4(b, 0) && read4(a, len - 4) == read4(b, len - 4),
        _ => {
            let mut at = 0;
            while at + 8 < len {
                if read8(a, at) != read8(b, at) {
                    return false;
                }
                at += 8;
            }
            read8(a, len - 8) == read8(b, len - 8)
        }
    }
}

const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
const ONES: u64 = 0x0101_0101_0101_0101;

/// The top bit of every byte of `word` that is zero, exactly.
#[inline(always)]
const fn zero_bytes(word: u64) -> u64 {
    !(((word & LOW) + LOW) | word | LOW)
}

/// Eight bytes of a text as one word, with zeroes after its end.
#[inline(always)]
pub(crate) fn load(bytes: &[u8], at: usize) -> u64 {
    if let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        return u64::from_le_bytes(*chunk);
    }
    let left = bytes.len().saturating_sub(at);
    if let (Some(chunk), 1..=7) = (bytes.last_chunk::<8>(), left) {
        return u64::from_le_bytes(*chunk) >> (64 - 8 * left);
    }
    let tail = bytes.get(at..).unwrap_or(&[]);
    tail.iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A bit (the top one of its byte) for every `/` in `word`.
#[inline(always)]
pub(crate) const fn separators(word: u64) -> u64 {
    zero_bytes(word ^ (ONES * b'/' as u64))
}

/// A bit (the top one of its byte) for every `+` and `#` in `word`.
///
/// The two characters (0x2B and 0x23) differ in one bit, so that one comparison finds both.
#[inline(always)]
pub(crate) const fn wildcards(word: u64) -> u64 {
    zero_bytes((word & !(ONES * 0x08)) ^ (ONES * b'#' as u64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_byte_value_is_classified_exactly() {
        for byte in 0..=255_u8 {
            for lane in 0..8 {
                let word = u64::from(byte) << (8 * lane);
                let bit = 0x80_u64 << (8 * lane);
                assert_eq!(separators(word), if byte == b'/' { bit } else { 0 });
                let wild = byte == b'+' || byte == b'#';
                assert_eq!(wildcards(word), if wild { bit } else { 0 });
            }
        }
        assert_eq!(
            separators(u64::from_le_bytes(*b"a/b//c/0")),
            0x0080_0080_8000_8000
        );
        assert_eq!(
            wildcards(u64::from_le_bytes(*b"#+/\xA3\xAB+#x")),
            0x0080_8000_0000_8080
        );
    }

    #[test]
    fn load_pads_with_zeroes() {
        let text = b"0123456789abcdef";
        for len in 0..=text.len() {
            for at in 0..=len {
                let mut expected = [0; 8];
                for (to, from) in expected.iter_mut().zip(&text[at..len]) {
                    *to = *from;
                }
                assert_eq!(
                    load(&text[..len], at),
                    u64::from_le_bytes(expected),
                    "{len} {at}"
                );
            }
        }
    }

    #[test]
    fn is_same_sees_each_byte_at_each_length() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..=text.len() {
            let mut other = text[..len].to_vec();
            assert!(is_same(&text[..len], &other));
            for at in 0..len {
                other[at] ^= 0x40;
                assert!(!is_same(&text[..len], &other), "byte {at} of {len}");
                other[at] ^= 0x40;
            }
            other.push(1);
            assert!(!is_same(&text[..len], &other));
        }
    }

    #[test]
    fn levels_of_all_lengths_hash_apart() {
        let mut seen = HashSet::new();
        let text = "x".repeat(200);
        for len in 0..=200 {
            for position in 0..20 {
                for seed in [0, 1, u64::MAX] {
                    assert!(seen.insert(level_hash(seed, position, &text.as_bytes()[..len])));
                }
            }
        }
    }

    #[test]
    fn each_byte_of_a_level_counts() {
        for len in 1..70 {
            let mut text = vec![b'a'; len];
            let plain = level_hash(9, 0, &text);
            for at in 0..len {
                text[at] = b'b';
                assert_ne!(level_hash(9, 0, &text), plain, "byte {at} of {len}");
                text[at] = b'a';
            }
        }
    }
}
