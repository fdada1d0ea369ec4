//! Packets built field by field from the fuzzer's bytes, so that no run is lost on the framing.

use arbitrary::{Arbitrary as _, Result, Unstructured};
use mqtt_codec::{
    AckPacket, EncodeError, PacketId, PacketType, PublishHead, QoS, ReasonCode, RetainHandling,
    Role, Scan, SubscribeFilter, Version, decode, encode, scan,
};

use crate::reencode::reencode;

type Encoded = std::result::Result<Vec<u8>, EncodeError>;

/// Builds a packet; if its encoder takes it, it must decode, and be written the same again.
pub fn packet(data: &[u8]) {
    // An end of the bytes is an end of the packet's making, not an error.
    let _ = build(&mut Unstructured::new(data));
}

fn build(u: &mut Unstructured<'_>) -> Result<()> {
    let version = *u.choose(&[Version::V31, Version::V311, Version::V5])?;
    let (encoded, role) = match u.int_in_range(0..=8)? {
        0 => (connect(u, version)?, Role::Server),
        1 | 2 => publish(u, version)?,
        3 => ack(u, version)?,
        4 => (subscribe(u, version)?, Role::Server),
        5 => (unsubscribe(u, version)?, Role::Server),
        6 => (suback(u, version)?, Role::Client),
        7 => disconnect(u, version)?,
        _ => (connack(u, version)?, Role::Client),
    };
    let Ok(bytes) = encoded else { return Ok(()) };
    let Ok(Scan::Frame(frame)) = scan(&bytes, u32::MAX) else {
        panic!("{bytes:02x?} is no packet");
    };
    assert_eq!(frame.total_len, bytes.len());
    match decode(&bytes, &frame, version, role) {
        Ok(view) => assert_eq!(reencode(&view, version), bytes),
        Err(error) => panic!("{error} in {bytes:02x?}"),
    }
    Ok(())
}

macro_rules! encoded {
    ($packet:expr, $version:expr) => {{
        let packet = $packet;
        packet.check($version).map(|len| {
            let bytes = packet.encode_to_vec($version);
            assert_eq!(bytes.len(), len);
            bytes
        })
    }};
}

/// A string, empty in place of one with U+0000, which encoders do not look for.
fn text<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    let text = <&str>::arbitrary(u)?;
    Ok(if text.contains('\0') { "" } else { text })
}

fn name<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    text(u).map(|text| if text.is_empty() { "t" } else { text })
}

/// A response topic: a name without wildcards.
fn response<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    name(u).map(|text| if text.contains(['+', '#']) { "r" } else { text })
}

fn maybe<'a, T>(
    u: &mut Unstructured<'a>,
    make: impl FnOnce(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    u.arbitrary::<bool>()?.then(|| make(u)).transpose()
}

fn pairs<'a>(u: &mut Unstructured<'a>) -> Result<Vec<(&'a str, &'a str)>> {
    let len = u.int_in_range(0..=4)?;
    (0..len).map(|_| Ok((text(u)?, text(u)?))).collect()
}

fn id(u: &mut Unstructured<'_>) -> Result<PacketId> {
    Ok(PacketId::new(u.arbitrary()?).unwrap_or(PacketId::MAX))
}

fn qos(u: &mut Unstructured<'_>) -> Result<QoS> {
    Ok(*u.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])?)
}

fn reason(u: &mut Unstructured<'_>, packet: PacketType, role: Role) -> Result<ReasonCode> {
    let all = ReasonCode::ALL.iter().copied();
    let allowed: Vec<_> = all
        .filter(|code| code.is_allowed_in(packet, role))
        .collect();
    Ok(*u.choose(&allowed)?)
}

fn connect(u: &mut Unstructured<'_>, version: Version) -> Result<Encoded> {
    let client_id: String = text(u)?.chars().take(23).collect();
    let (user, will_user) = (pairs(u)?, pairs(u)?);
    let will = maybe(u, |u| {
        Ok(encode::Will {
            topic: name(u)?,
            payload: u.arbitrary()?,
            qos: qos(u)?,
            retain: u.arbitrary()?,
            properties: encode::WillProperties {
                delay_interval: u.arbitrary()?,
                message_expiry_interval: u.arbitrary()?,
                content_type: maybe(u, text)?,
                response_topic: maybe(u, response)?,
                correlation_data: u.arbitrary()?,
                user_properties: &will_user,
                ..encode::WillProperties::default()
            },
        })
    })?;
    let username = maybe(u, text)?;
    let connect = encode::Connect {
        client_id: if client_id.is_empty() {
            "c"
        } else {
            &client_id
        },
        clean_start: u.arbitrary()?,
        keep_alive: u.arbitrary()?,
        username,
        password: u.arbitrary()?,
        will,
        properties: encode::ConnectProperties {
            session_expiry_interval: u.arbitrary()?,
            receive_maximum: u.arbitrary()?,
            maximum_packet_size: u.arbitrary()?,
            topic_alias_maximum: u.arbitrary()?,
            request_response_information: Some(u.arbitrary()?),
            request_problem_information: Some(u.arbitrary()?),
            user_properties: &user,
            authentication_method: maybe(u, text)?,
            authentication_data: u.arbitrary()?,
        },
    };
    Ok(encoded!(connect, version))
}

fn publish(u: &mut Unstructured<'_>, version: Version) -> Result<(Encoded, Role)> {
    let role = *u.choose(&[Role::Server, Role::Client])?;
    let ids: [u32; 2] = u.arbitrary()?;
    let count = if role == Role::Client {
        u.int_in_range(0..=2)?
    } else {
        0
    };
    let payload: &[u8] = u.arbitrary()?;
    let head = PublishHead {
        dup: u.arbitrary()?,
        qos: qos(u)?,
        retain: u.arbitrary()?,
        topic: text(u)?,
        packet_id: Some(id(u)?),
        message_expiry: u.arbitrary()?,
        subscription_ids: &ids[..count],
        topic_alias: u.arbitrary()?,
        pass_through: &[],
        payload_len: payload.len(),
    };
    let encoded = head.check(version).map(|len| {
        let bytes = head.encode_to_vec(version, payload);
        assert_eq!(bytes.len(), len);
        let mut scratch = vec![0; head.parts_scratch_len()];
        assert_eq!(head.parts(version, &mut scratch, payload).concat(), bytes);
        bytes
    });
    Ok((encoded, role))
}

fn ack(u: &mut Unstructured<'_>, version: Version) -> Result<(Encoded, Role)> {
    use PacketType::{PubAck, PubComp, PubRec, PubRel};
    let role = *u.choose(&[Role::Server, Role::Client])?;
    let packet_type = *u.choose(&[PubAck, PubRec, PubRel, PubComp])?;
    let ack = AckPacket {
        packet_type,
        packet_id: id(u)?,
        reason: reason(u, packet_type, role)?,
        reason_string: maybe(u, text)?,
        user_properties: &pairs(u)?,
    };
    Ok((encoded!(ack, version), role))
}

fn subscribe(u: &mut Unstructured<'_>, version: Version) -> Result<Encoded> {
    let len = u.int_in_range(0..=5)?;
    let filter = |u: &mut Unstructured<'_>| -> Result<_> {
        use RetainHandling::{DoNotSend, SendAtSubscribe, SendIfNew};
        let filter = text(u)?.to_owned();
        let shared = filter.starts_with("$share/");
        let handling = *u.choose(&[SendAtSubscribe, SendIfNew, DoNotSend])?;
        Ok((
            filter,
            qos(u)?,
            u.arbitrary::<bool>()? && !shared,
            u.arbitrary()?,
            handling,
        ))
    };
    let parts = (0..len).map(|_| filter(u)).collect::<Result<Vec<_>>>()?;
    let filters: Vec<_> = parts
        .iter()
        .map(
            |(filter, qos, no_local, retain_as_published, retain_handling)| SubscribeFilter {
                filter,
                qos: *qos,
                no_local: *no_local,
                retain_as_published: *retain_as_published,
                retain_handling: *retain_handling,
            },
        )
        .collect();
    let subscribe = encode::Subscribe {
        packet_id: id(u)?,
        filters: &filters,
        subscription_identifier: u.arbitrary()?,
        user_properties: &pairs(u)?,
    };
    Ok(encoded!(subscribe, version))
}

fn unsubscribe(u: &mut Unstructured<'_>, version: Version) -> Result<Encoded> {
    let len = u.int_in_range(0..=5)?;
    let filters = (0..len).map(|_| text(u)).collect::<Result<Vec<_>>>()?;
    let (packet_id, user_properties) = (id(u)?, &pairs(u)?[..]);
    let unsubscribe = encode::Unsubscribe {
        packet_id,
        filters: &filters,
        user_properties,
    };
    Ok(encoded!(unsubscribe, version))
}

fn suback(u: &mut Unstructured<'_>, version: Version) -> Result<Encoded> {
    let len = u.int_in_range(0..=5)?;
    let code = |_| reason(u, PacketType::SubAck, Role::Client);
    let codes = (0..len).map(code).collect::<Result<Vec<_>>>()?;
    let suback = encode::SubAck {
        packet_id: id(u)?,
        codes: &codes,
        reason_string: maybe(u, text)?,
        user_properties: &pairs(u)?,
    };
    Ok(encoded!(suback, version))
}

fn disconnect(u: &mut Unstructured<'_>, version: Version) -> Result<(Encoded, Role)> {
    let from_server = version == Version::V5 && u.arbitrary()?;
    let role = if from_server {
        Role::Client
    } else {
        Role::Server
    };
    let disconnect = encode::Disconnect {
        reason: reason(u, PacketType::Disconnect, role)?,
        reason_string: maybe(u, text)?,
        server_reference: maybe(u, text)?.filter(|_| from_server),
        session_expiry_interval: u.arbitrary::<Option<u32>>()?.filter(|_| !from_server),
        user_properties: &pairs(u)?,
    };
    Ok((encoded!(disconnect, version), role))
}

fn connack(u: &mut Unstructured<'_>, version: Version) -> Result<Encoded> {
    let reason = reason(u, PacketType::ConnAck, Role::Client)?;
    let connack = encode::ConnAck {
        session_present: u.arbitrary::<bool>()? && !reason.is_error(),
        reason,
        properties: encode::ConnAckProperties {
            session_expiry_interval: u.arbitrary()?,
            receive_maximum: u.arbitrary()?,
            maximum_packet_size: u.arbitrary()?,
            assigned_client_id: maybe(u, text)?,
            topic_alias_maximum: u.arbitrary()?,
            reason_string: maybe(u, text)?,
            user_properties: &pairs(u)?,
            retain_available: u.arbitrary()?,
            server_keep_alive: u.arbitrary()?,
            ..encode::ConnAckProperties::default()
        },
    };
    Ok(encoded!(connack, version))
}
