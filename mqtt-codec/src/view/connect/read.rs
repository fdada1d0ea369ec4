//! How a CONNECT is read.

use super::{Connect, DecodeOptions, Will, WillProperties};
use crate::error::{Error, ErrorKind, Field};
use crate::frame::Frame;
use crate::properties::Properties;
use crate::property::{PropertyId, set};
use crate::reader::Reader;
use crate::text::TextFields;
use crate::types::{PacketType, QoS, Version};
use crate::view::check_header;

/// The longest client identifier of MQTT 3.1, in characters.
const V31_CLIENT_ID_CHARS_MAX: usize = 23;

const FLAG_RESERVED: u8 = 0b0000_0001;
const FLAG_CLEAN_START: u8 = 0b0000_0010;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAG_WILL_RETAIN: u8 = 0b0010_0000;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USER_NAME: u8 = 0b1000_0000;

/// Decodes a CONNECT packet, which says itself of which version it is.
///
/// `packet` is exactly the packet, and `frame` what [`scan`](crate::scan) found in it.
///
/// # Errors
///
/// The first rule that the packet breaks. Some want an answer of their own:
///
/// - [`ErrorKind::ConnectExpected`]: the packet is not a CONNECT [MQTT-3.1.0-1];
/// - [`ErrorKind::UnknownProtocolName`]: this may not be MQTT at all;
/// - [`ErrorKind::UnsupportedProtocolLevel`]: CONNACK 0x01 (3.x) or 0x84 (5.0), see
///   [`Error::offset`] for the level byte;
/// - [`ErrorKind::ClientIdNotValid`]: CONNACK 0x02 of MQTT 3.x.
///
/// [`Error::version`] tells which version the answer is to have, if it is known.
pub fn decode_connect<'a>(
    packet: &'a [u8],
    frame: &Frame,
    options: &DecodeOptions,
) -> Result<Connect<'a>, Error> {
    read_connect(packet, frame, options, |connect| connect)
}

/// Decodes a CONNECT packet, inlined so that what is made of it is made in its place.
#[inline]
pub(in crate::view) fn read_connect<'a, T>(
    packet: &'a [u8],
    frame: &Frame,
    options: &DecodeOptions,
    make: impl FnOnce(Connect<'a>) -> T,
) -> Result<T, Error> {
    let mut reader = Reader::new(packet, frame, None)?;
    if frame.packet_type != PacketType::Connect {
        return Err(reader.error_at(ErrorKind::ConnectExpected, Field::FixedHeader, 0));
    }
    if frame.flags != 0 {
        return Err(reader.error_at(ErrorKind::InvalidFlags, Field::FixedHeader, 0));
    }
    let (version, flags, keep_alive) = match peek_start(&reader, options) {
        Some(start) => {
            reader.skip_peeked::<10>();
            reader.set_version(start.0);
            check_header(&reader, frame, start.0)?;
            start
        }
        None => {
            let start;
            (reader, start) = read_start_by_field(reader, frame, options)?;
            start
        }
    };
    let properties = match version {
        Version::V5 => {
            let at = reader.offset();
            let repeatable = PropertyId::UserProperty.bit();
            let properties = Properties::read(&mut reader, set::CONNECT, repeatable)?;
            check_auth(&reader, &properties, at)?;
            properties
        }
        Version::V31 | Version::V311 => Properties::default(),
    };
    let payload = match read_text_payload(reader.peek_remaining(), version, flags) {
        Some(payload) => payload,
        None => read_payload(reader, version, flags, options)?,
    };
    Ok(make(Connect {
        client_id: payload.client_id,
        username: payload.username,
        password: payload.password,
        will: payload.will,
        properties,
        keep_alive,
        version,
        clean_start: flags & FLAG_CLEAN_START != 0,
    }))
}

/// Looks at what comes before properties and payload: version, flags and keep alive.
///
/// With MQTT 3.1.1 and 5.0 these are ten bytes, looked at together. What is not right as a whole
/// is gone through field by field, to say what is wrong.
#[inline]
fn peek_start(reader: &Reader<'_>, options: &DecodeOptions) -> Option<(Version, u8, u16)> {
    let [name @ .., level, flags, high, low] = reader.peek::<10>()?;
    let version = match level {
        4 => Version::V311,
        5 => Version::V5,
        _ => return None,
    };
    let valid = name == *b"\x00\x04MQTT"
        && VALID_FLAGS[usize::from(flags)] & 1 << level != 0
        && options.accepts(version);
    valid.then_some((version, flags, u16::from_be_bytes([high, low])))
}

/// Reads the same of MQTT 3.1, or finds the error.
#[cold]
fn read_start_by_field<'a>(
    mut reader: Reader<'a>,
    frame: &Frame,
    options: &DecodeOptions,
) -> Result<(Reader<'a>, (Version, u8, u16)), Error> {
    let version = read_version(&mut reader, options)?;
    reader.set_version(version);
    check_header(&reader, frame, version)?;
    let at = reader.offset();
    let flags = reader.u8(Field::ConnectFlags)?;
    if let Some(kind) = flags_error(flags, version) {
        return Err(reader.error_at(kind, Field::ConnectFlags, at));
    }
    let keep_alive = reader.u16(Field::KeepAlive)?;
    Ok((reader, (version, flags, keep_alive)))
}

/// Reads protocol name and level [MQTT-3.1.2-1, MQTT-3.1.2-2].
fn read_version(reader: &mut Reader<'_>, options: &DecodeOptions) -> Result<Version, Error> {
    let at = reader.offset();
    let is_v31 = if reader.skip(*b"\x00\x04MQTT") {
        false
    } else if reader.binary(Field::ProtocolName)? == b"MQIsdp" {
        true
    } else {
        return Err(reader.error_at(ErrorKind::UnknownProtocolName, Field::ProtocolName, at));
    };
    let at = reader.offset();
    let level = reader.u8(Field::ProtocolLevel)?;
    let version = Version::from_level(level)
        .filter(|&version| (version == Version::V31) == is_v31)
        .filter(|&version| options.accepts(version));
    version.ok_or_else(|| {
        // Tells a caller how to phrase the answer: as the nearest version that there is.
        let spoken = match level {
            ..4 => Version::V31,
            4 => Version::V311,
            5.. => Version::V5,
        };
        let mut reader = *reader;
        reader.set_version(spoken);
        reader.error_at(
            ErrorKind::UnsupportedProtocolLevel,
            Field::ProtocolLevel,
            at,
        )
    })
}

/// The versions by level, as bits, in which connect flags do not contradict each other.
static VALID_FLAGS: [u8; 256] = {
    let mut valid = [0; 256];
    let mut flags = 0;
    while flags < 256 {
        // Below 256.
        let byte = flags as u8;
        valid[flags] = (flags_error(byte, Version::V311).is_none() as u8) << 4
            | (flags_error(byte, Version::V5).is_none() as u8) << 5;
        flags += 1;
    }
    valid
};

/// Tells what is wrong with connect flags.
const fn flags_error(flags: u8, version: Version) -> Option<ErrorKind> {
    // What MQTT 3.1 says of a will that is not there is to be disregarded.
    let no_will = flags & FLAG_WILL == 0 && !matches!(version, Version::V31);
    let no_user = flags & FLAG_USER_NAME == 0 && !matches!(version, Version::V5);
    if flags & FLAG_RESERVED != 0 {
        Some(ErrorKind::ConnectReservedFlag)
    } else if no_will && will_qos(flags) != 0 {
        Some(ErrorKind::WillQosWithoutWill)
    } else if no_will && flags & FLAG_WILL_RETAIN != 0 {
        Some(ErrorKind::WillRetainWithoutWill)
    } else if flags & FLAG_WILL != 0 && will_qos(flags) == 3 {
        Some(ErrorKind::WillQosInvalid)
    } else if no_user && flags & FLAG_PASSWORD != 0 {
        Some(ErrorKind::PasswordWithoutUserName)
    } else {
        None
    }
}

const fn will_qos(flags: u8) -> u8 {
    (flags >> 3) & 0b11
}

/// The payload of a CONNECT.
struct Payload<'a> {
    client_id: &'a str,
    will: Option<Will<'a>>,
    username: Option<&'a str>,
    password: Option<&'a [u8]>,
}

/// Reads a payload that as a whole is one text, as nearly all are: checked at once, then cut.
///
/// `None` says nothing about the payload but that it wants to be read field by field.
#[inline]
fn read_text_payload(payload: &[u8], version: Version, flags: u8) -> Option<Payload<'_>> {
    let has_will = flags & FLAG_WILL != 0;
    // Of MQTT 3.1 fields may be missing, and of 5.0 a will has properties.
    if version == Version::V31 || version == Version::V5 && has_will {
        return None;
    }
    let mut fields = TextFields::new(payload)?;
    let client_id = fields.string()?;
    if client_id.is_empty() && version == Version::V311 && flags & FLAG_CLEAN_START == 0 {
        return None;
    }
    let will = match has_will {
        true => Some(Will {
            topic: fields.string().filter(|topic| !topic.is_empty())?,
            payload: fields.binary()?,
            qos: QoS::from_u8(will_qos(flags))?,
            retain: flags & FLAG_WILL_RETAIN != 0,
            properties: WillProperties::default(),
        }),
        false => None,
    };
    let username = match flags & FLAG_USER_NAME {
        0 => None,
        _ => Some(fields.string()?),
    };
    let password = match flags & FLAG_PASSWORD {
        0 => None,
        _ => Some(fields.binary()?),
    };
    fields.is_empty().then_some(Payload {
        client_id,
        will,
        username,
        password,
    })
}

/// Reads the fields of the payload, which come in this order [MQTT-3.1.3-1].
#[inline(never)]
fn read_payload<'a>(
    mut reader: Reader<'a>,
    version: Version,
    flags: u8,
    options: &DecodeOptions,
) -> Result<Payload<'a>, Error> {
    let reader = &mut reader;
    let client_id = read_client_id(reader, version, flags, options)?;
    let will = match flags & FLAG_WILL {
        0 => None,
        _ => Some(read_will(reader, version, flags)?),
    };
    // MQTT 3.1 keeps peace with its forerunner: a flag may be set and the field missing.
    let may_miss = version == Version::V31;
    let is_there =
        |flag: u8, reader: &Reader<'_>| flags & flag != 0 && !(may_miss && reader.is_empty());
    let username = match is_there(FLAG_USER_NAME, reader) {
        true => Some(reader.string(Field::UserName)?),
        false => None,
    };
    let password = match is_there(FLAG_PASSWORD, reader) {
        true => Some(reader.binary(Field::Password)?),
        false => None,
    };
    reader.finish()?;
    Ok(Payload {
        client_id,
        will,
        username,
        password,
    })
}

/// Reads the client identifier, the first field of the payload [MQTT-3.1.3-3, MQTT-3.1.3-4].
#[inline]
fn read_client_id<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    flags: u8,
    options: &DecodeOptions,
) -> Result<&'a str, Error> {
    let at = reader.offset();
    let id = reader.string(Field::ClientId)?;
    let valid = match version {
        Version::V5 => true,
        // [MQTT-3.1.3-7, MQTT-3.1.3-8]
        Version::V311 => !id.is_empty() || flags & FLAG_CLEAN_START != 0,
        Version::V31 => {
            let short = || id.chars().count() <= V31_CLIENT_ID_CHARS_MAX;
            !id.is_empty() && (options.v31_long_client_id || short())
        }
    };
    if valid {
        Ok(id)
    } else {
        Err(reader.error_at(ErrorKind::ClientIdNotValid, Field::ClientId, at))
    }
}

#[inline]
fn read_will<'a>(reader: &mut Reader<'a>, version: Version, flags: u8) -> Result<Will<'a>, Error> {
    let properties = match version {
        Version::V5 => Properties::read(reader, set::WILL, PropertyId::UserProperty.bit())?,
        Version::V31 | Version::V311 => Properties::default(),
    };
    let at = reader.offset();
    let topic = reader.string(Field::WillTopic)?;
    if topic.is_empty() {
        return Err(reader.error_at(ErrorKind::TopicEmpty, Field::WillTopic, at));
    }
    let payload = reader.binary(Field::WillPayload)?;
    let Some(qos) = QoS::from_u8(will_qos(flags)) else {
        return Err(reader.error(ErrorKind::WillQosInvalid, Field::ConnectFlags));
    };
    let retain = flags & FLAG_WILL_RETAIN != 0;
    Ok(Will {
        topic,
        payload,
        qos,
        retain,
        properties: WillProperties { properties },
    })
}

/// Checks that there is no authentication data without a method.
pub(in crate::view) fn check_auth(
    reader: &Reader<'_>,
    properties: &Properties<'_>,
    at: usize,
) -> Result<(), Error> {
    let (data, method) = (
        PropertyId::AuthenticationData,
        PropertyId::AuthenticationMethod,
    );
    if properties.has(data) && !properties.has(method) {
        return Err(reader.error_at(ErrorKind::AuthMethodMissing, Field::Property(data), at));
    }
    Ok(())
}
