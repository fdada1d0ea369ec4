//! The few forms of ASN.1 (X.690, DER) that public keys come in.

/// `1.2.840.113549.1.1.1`, rsaEncryption (RFC 3279 section 2.3.1).
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
/// `1.2.840.10045.2.1`, id-ecPublicKey (RFC 5480 section 2.1.1).
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`, secp256r1.
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
/// `1.3.132.0.34`, secp384r1.
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
/// `1.3.101.112`, Ed25519 (RFC 8410 section 3).
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// A public key, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey<'a> {
    /// Modulus and exponent, without zeros before them.
    Rsa(&'a [u8], &'a [u8]),
    /// An uncompressed point.
    P256(&'a [u8]),
    P384(&'a [u8]),
    Ed25519(&'a [u8]),
}

/// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1); `None` for what is none, or another kind.
pub(super) fn public_key(bytes: &[u8]) -> Option<PublicKey<'_>> {
    let info = whole(bytes, SEQUENCE)?;
    let (algorithm, rest) = take(info, SEQUENCE)?;
    // Without unused bits.
    let key = whole(rest, BIT_STRING)?.strip_prefix(&[0])?;
    let (kind, parameters) = take(algorithm, OBJECT_IDENTIFIER)?;
    match kind {
        RSA => rsa_public_key(key),
        EC => match whole(parameters, OBJECT_IDENTIFIER)? {
            P256 => Some(PublicKey::P256(key)),
            P384 => Some(PublicKey::P384(key)),
            _ => None,
        },
        ED25519 if parameters.is_empty() => Some(PublicKey::Ed25519(key)),
        _ => None,
    }
}

/// Reads an RSAPublicKey (RFC 8017 appendix A.1.1).
pub(super) fn rsa_public_key(bytes: &[u8]) -> Option<PublicKey<'_>> {
    let (modulus, rest) = take(whole(bytes, SEQUENCE)?, INTEGER)?;
    let exponent = whole(rest, INTEGER)?;
    Some(PublicKey::Rsa(unsigned(modulus)?, unsigned(exponent)?))
}

/// A number that is not negative: one zero stands before a first bit that is set.
fn unsigned(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0, rest @ ..] => Some(rest),
        [first, ..] if *first < 0x80 => Some(bytes),
        _ => None,
    }
}

/// The content of a value of this tag, which is all that there is.
fn whole(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (content, rest) = take(bytes, tag)?;
    rest.is_empty().then_some(content)
}

/// The content of a value of this tag, and what comes behind it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = bytes else {
        return None;
    };
    if *first != tag {
        return None;
    }
    let (length, rest) = match *length {
        short @ 0..=0x7F => (usize::from(short), rest),
        0x81 => {
            let [length, rest @ ..] = rest else {
                return None;
            };
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_anything_else_is_none() {
        let point = [4; 65];
        let spki = |kind: &[u8], parameters: &[u8], key: &[u8]| {
            let value = |tag: u8, content: &[u8]| {
                let length = u8::try_from(content.len()).expect("short");
                [&[tag, 0x81, length], content].concat()
            };
            let algorithm = value(
                SEQUENCE,
                &[value(OBJECT_IDENTIFIER, kind), parameters.to_vec()].concat(),
            );
            let bits = value(BIT_STRING, &[&[0], key].concat());
            value(SEQUENCE, &[algorithm, bits].concat())
        };
        let p256 = [&[OBJECT_IDENTIFIER, 8], P256].concat();
        let ec = spki(EC, &p256, &point);
        assert_eq!(public_key(&ec), Some(PublicKey::P256(&point)));
        let edwards = spki(ED25519, &[], &[7; 32]);
        assert_eq!(public_key(&edwards), Some(PublicKey::Ed25519(&[7; 32])));
        let rsa = [SEQUENCE, 7, INTEGER, 2, 0, 0x80, INTEGER, 1, 3];
        let expected = Some(PublicKey::Rsa(&[0x80], &[3]));
        assert_eq!(rsa_public_key(&rsa), expected);
        assert_eq!(public_key(&spki(RSA, &[5, 0], &rsa)), expected);
        // A negative modulus, an unknown curve, bytes too few and too many.
        let negative = [SEQUENCE, 6, INTEGER, 1, 0x80, INTEGER, 1, 3];
        assert_eq!(rsa_public_key(&negative), None);
        assert_eq!(
            public_key(&spki(EC, &[OBJECT_IDENTIFIER, 1, 1], &point)),
            None
        );
        assert_eq!(public_key(&[ec.as_slice(), &[0]].concat()), None);
        for len in 0..ec.len() {
            assert_eq!(public_key(&ec[..len]), None);
        }
    }
}
