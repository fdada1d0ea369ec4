//! What of a certificate concerns us and rustls does not tell: its subject, and until when it is
//! valid (RFC 5280 section 4.1). Only of certificates that are our own or have been verified.

use std::fmt::Write as _;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8: u8 = 0x0C;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The field of the version, which is there but in the oldest certificates.
const VERSION: u8 = 0xA0;

/// Object identifiers in DER, and how RFC 4514 calls them (section 3, and RFC 4519).
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 1],
        "emailAddress",
    ),
];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// What of a client's certificate is its user name.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Identity {
    CommonName,
    Subject,
}

impl Identity {
    /// What the configuration calls it.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "cn" => Some(Self::CommonName),
            "subject" => Some(Self::Subject),
            _ => None,
        }
    }

    /// The user that a certificate names; `None` where it names none, or is ambiguous.
    pub(crate) fn of(self, der: &[u8]) -> Option<String> {
        let certificate = Certificate::read(der)?;
        match self {
            Self::CommonName => certificate.common_name(),
            Self::Subject => certificate.subject(),
        }
        .filter(|name| !name.is_empty() && !name.contains('\0'))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// Seconds since 1970.
    pub(super) not_after: i64,
    subject: Der<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut certificate = Der(der).inside(SEQUENCE)?;
        let mut body = certificate.inside(SEQUENCE)?;
        if body.0.first() == Some(&VERSION) {
            body.next()?;
        }
        // Serial number, algorithm, issuer.
        for _ in 0..3 {
            body.next()?;
        }
        let mut validity = body.inside(SEQUENCE)?;
        validity.next()?;
        let (kind, not_after) = validity.next()?;
        Some(Self {
            not_after: seconds(kind, not_after)?,
            subject: body.inside(SEQUENCE)?,
        })
    }

    /// The attributes of the subject in order, each with how it is joined to the one before.
    fn attributes(&self) -> Option<Vec<(char, &'a [u8], &'a str)>> {
        let mut found = Vec::new();
        let mut names = self.subject;
        while !names.0.is_empty() {
            let mut set = names.inside(SET)?;
            let mut joint = ',';
            while !set.0.is_empty() {
                let mut pair = set.inside(SEQUENCE)?;
                let id = pair.next().filter(|(kind, _)| *kind == OBJECT_ID)?.1;
                let (kind, value) = pair.next()?;
                let (UTF8 | PRINTABLE | IA5) = kind else {
                    return None;
                };
                found.push((joint, id, str::from_utf8(value).ok()?));
                joint = '+';
            }
        }
        Some(found)
    }

    fn common_name(&self) -> Option<String> {
        let attributes = self.attributes()?;
        let mut names = attributes.iter().filter(|(_, id, _)| *id == COMMON_NAME);
        match (names.next(), names.next()) {
            (Some((_, _, name)), None) => Some((*name).to_owned()),
            _ => None,
        }
    }

    /// As text, by RFC 4514: the last name first.
    fn subject(&self) -> Option<String> {
        let attributes = self.attributes()?;
        let mut names: Vec<String> = Vec::new();
        for (joint, id, value) in attributes {
            let (_, short) = ATTRIBUTES.iter().find(|(known, _)| *known == id)?;
            let name = format!("{short}={}", escaped(value));
            match names.last_mut() {
                Some(last) if joint == '+' => {
                    let _ = write!(last, "+{name}");
                }
                _ => names.push(name),
            }
        }
        names.reverse();
        Some(names.join(","))
    }
}

/// RFC 4514 section 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::new();
    for (at, character) in value.chars().enumerate() {
        let is_special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\');
        let is_edge =
            (at == 0 && matches!(character, ' ' | '#')) || (at == last && character == ' ');
        if is_special || is_edge {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// Seconds since 1970 of a time of X.509, always in UTC (RFC 5280 section 4.1.2.5).
fn seconds(kind: u8, text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z")?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            (
                if year < 50 {
                    2_000 + year
                } else {
                    1_900 + year
                },
                rest,
            )
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let [month, day, hour, minute, second] = std::array::from_fn(|at| {
        let pair = rest.get(2 * at..2 * at + 2);
        pair.and_then(number)
    });
    let (month, day) = (month?, day?);
    if rest.len() != 10 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 by years that begin in March, so that the leap day is the last of one.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour? * 3_600 + minute? * 60 + second?)
}

fn number(digits: &[u8]) -> Option<i64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        let value = |sum, digit: &u8| sum * 10 + i64::from(digit - b'0');
        digits.iter().fold(0, value)
    })
}

/// Takes elements of DER off the front.
#[derive(Copy, Clone, Debug)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Kind and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[kind, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            // No certificate has more than four bytes of length.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0F))?;
                let len = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
                (bytes.iter().fold(0, len), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((kind, content))
    }

    /// What is inside of the next element, if it is of this kind.
    fn inside(&mut self, wanted: u8) -> Option<Self> {
        let (kind, content) = self.next()?;
        (kind == wanted).then_some(Der(content))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(names: &[(DnType, &str)], year: i32) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_after = date_time_ymd(year, 3, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn subject_and_end_are_read() {
        let names = [
            (DnType::CountryName, "AQ"),
            (DnType::OrganizationName, "Penguins, Inc."),
            (DnType::CommonName, "device-7"),
        ];
        let der = certificate(&names, 2030);
        assert_eq!(Identity::CommonName.of(&der).as_deref(), Some("device-7"));
        assert_eq!(
            Identity::Subject.of(&der).as_deref(),
            Some("CN=device-7,O=Penguins\\, Inc.,C=AQ")
        );
        // date -u -d 2030-03-01 +%s
        assert_eq!(Certificate::read(&der).unwrap().not_after, 1_898_553_600);
        let late = certificate(&names, 2500);
        // date -u -d 2500-03-01 +%s
        assert_eq!(Certificate::read(&late).unwrap().not_after, 16_730_323_200);
        for len in 0..der.len() {
            assert!(Certificate::read(&der[..len]).is_none());
        }
    }

    #[test]
    fn a_certificate_without_one_common_name_names_nobody() {
        let none = certificate(&[(DnType::OrganizationName, "o")], 2030);
        assert_eq!(Identity::CommonName.of(&none), None);
        assert_eq!(Identity::Subject.of(&none).as_deref(), Some("O=o"));
        assert_eq!(Identity::parse("cn"), Some(Identity::CommonName));
        assert_eq!(Identity::parse("name"), None);
    }

    #[test]
    fn times_are_counted_as_date_does() {
        // date -u -d 'TIME' +%s
        for (kind, text, seconds_) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229235959Z", Some(951_868_799)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "700101000000", None),
            (GENERALIZED_TIME, "2050010100000Z", None),
        ] {
            assert_eq!(seconds(kind, text.as_bytes()), seconds_, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0..400_usize, byte: u8, cut in 0..500_usize) {
            let mut der = certificate(&[(DnType::CommonName, "c")], 2030);
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            der.truncate(cut);
            let _ = Identity::CommonName.of(&der);
            let _ = Identity::Subject.of(&der);
        }
    }
}
