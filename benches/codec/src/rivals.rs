//! One function a contender: bytes of a whole packet to what it makes of them.

use std::hint::black_box;

use bytes::BytesMut;
use mqtt_codec::{Packet, Role, Scan, Version};
use mqtt_protocol_core::mqtt::packet as core_packet;

use crate::Answer;

/// The largest packet that any contender is asked to take.
pub const SIZE_MAX: u32 = 1 << 20;

/// mqtt-codec: scan and decode, as a server does.
#[inline]
pub fn ours(bytes: &[u8], version: Version) -> Option<Packet<'_>> {
    match mqtt_codec::scan(bytes, SIZE_MAX) {
        Ok(Scan::Frame(frame)) => {
            let packet = bytes.get(..frame.total_len)?;
            mqtt_codec::decode(packet, &frame, version, Role::Server).ok()
        }
        _ => None,
    }
}

/// What mqtt-codec says.
pub fn ours_answer(packet: &Packet<'_>) -> Answer {
    match packet {
        Packet::Publish(view) => Answer::new(
            view.topic(),
            view.payload().len(),
            view.packet_id().map_or(0, |id| id.get()),
            view.properties().user_properties().count(),
        ),
        Packet::Connect(view) => Answer::new(view.client_id(), view.keep_alive().into(), 0, 0),
        Packet::Subscribe(view) => {
            let last = view.filters().last().map_or("", |filter| filter.filter);
            Answer::new(last, view.filters().count(), view.packet_id().get(), 0)
        }
        _ => Answer::default(),
    }
}

/// Decodes as [`ours`] does and hands the packet on from where it was made, without a copy.
#[inline]
pub fn with_ours(bytes: &[u8], version: Version, then: impl FnOnce(&Packet<'_>)) {
    if let Ok(Scan::Frame(frame)) = mqtt_codec::scan(bytes, SIZE_MAX)
        && let Some(packet) = bytes.get(..frame.total_len)
        && let Ok(packet) = &mqtt_codec::decode(packet, &frame, version, Role::Server)
    {
        then(packet);
    }
}

/// Decodes as [`mqttrs`] does and hands the packet on from where it was made, without a copy.
#[inline]
pub fn with_mqttrs(bytes: &[u8], then: impl FnOnce(&mqttrs::Packet<'_>)) {
    if let Ok(Some(packet)) = &mqttrs::decode_slice(bytes) {
        then(packet);
    }
}

/// Reads every field of a CONNECT or PUBLISH, strings as `str`.
#[inline]
pub fn ours_fields(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(view) => {
            let will = view.will();
            let will = will.map(|will| (will.topic, will.payload, will.qos, will.retain));
            black_box((view.client_id(), view.username(), view.password(), will));
        }
        Packet::Publish(view) => {
            black_box((view.topic(), view.payload(), view.packet_id()));
        }
        _ => {}
    }
}

/// Reads what [`ours_fields`] reads.
#[inline]
pub fn mqttrs_fields(packet: &mqttrs::Packet<'_>) {
    match packet {
        mqttrs::Packet::Connect(view) => {
            let will = view.last_will.as_ref();
            let will = will.map(|will| (will.topic, will.message, will.qos, will.retain));
            black_box((view.client_id, view.username, view.password, will));
        }
        mqttrs::Packet::Publish(view) => {
            black_box((view.topic_name, view.payload, view.qospid.pid()));
        }
        _ => {}
    }
}

/// mqttrs, MQTT 3.x only, borrowed.
#[inline]
pub fn mqttrs(bytes: &[u8]) -> Option<mqttrs::Packet<'_>> {
    mqttrs::decode_slice(bytes).ok().flatten()
}

/// What mqttrs says.
pub fn mqttrs_answer(packet: &mqttrs::Packet<'_>) -> Answer {
    match packet {
        mqttrs::Packet::Publish(view) => {
            let id = view.qospid.pid().map_or(0, |pid| pid.get());
            Answer::new(view.topic_name, view.payload.len(), id, 0)
        }
        mqttrs::Packet::Connect(view) => Answer::new(view.client_id, view.keep_alive.into(), 0, 0),
        mqttrs::Packet::Subscribe(view) => {
            let last = view.topics.last().map_or("", |topic| &topic.topic_path);
            Answer::new(last, view.topics.len(), view.pid.get(), 0)
        }
        _ => Answer::default(),
    }
}

/// rumqttc for MQTT 3.1.1.
#[inline]
pub fn rumqttc_v4(bytes: &mut BytesMut) -> Option<rumqttc::mqttbytes::v4::Packet> {
    rumqttc::mqttbytes::v4::Packet::read(bytes, SIZE_MAX as usize).ok()
}

/// What rumqttc says.
pub fn rumqttc_v4_answer(packet: &rumqttc::mqttbytes::v4::Packet) -> Answer {
    use rumqttc::mqttbytes::v4::Packet as P;
    match packet {
        P::Publish(view) => Answer::new(&view.topic, view.payload.len(), view.pkid, 0),
        P::Connect(view) => Answer::new(&view.client_id, view.keep_alive.into(), 0, 0),
        P::Subscribe(view) => {
            let last = view.filters.last().map_or("", |filter| &filter.path);
            Answer::new(last, view.filters.len(), view.pkid, 0)
        }
        _ => Answer::default(),
    }
}

/// rumqttc for MQTT 5.0.
#[inline]
pub fn rumqttc_v5(bytes: &mut BytesMut) -> Option<rumqttc::v5::mqttbytes::v5::Packet> {
    rumqttc::v5::mqttbytes::v5::Packet::read(bytes, Some(SIZE_MAX)).ok()
}

/// What rumqttc says.
pub fn rumqttc_v5_answer(packet: &rumqttc::v5::mqttbytes::v5::Packet) -> Answer {
    use rumqttc::v5::mqttbytes::v5::Packet as P;
    match packet {
        P::Publish(view) => {
            let user = view
                .properties
                .as_ref()
                .map_or(0, |p| p.user_properties.len());
            let topic = String::from_utf8_lossy(&view.topic);
            Answer::new(&topic, view.payload.len(), view.pkid, user)
        }
        P::Connect(view, ..) => Answer::new(&view.client_id, view.keep_alive.into(), 0, 0),
        P::Subscribe(view) => {
            let last = view.filters.last().map_or("", |filter| &filter.path);
            Answer::new(last, view.filters.len(), view.pkid, 0)
        }
        _ => Answer::default(),
    }
}

/// mqtt-protocol-core has no decoder of streams but its connection: the length is read by ours.
#[inline]
pub fn protocol_core(bytes: &[u8], version: Version) -> Option<core_packet::Packet> {
    use core_packet::{Packet as P, v3_1_1 as v3, v5_0 as v5};
    let first = *bytes.first()?;
    let Ok(Scan::Frame(frame)) = mqtt_codec::scan(bytes, SIZE_MAX) else {
        return None;
    };
    let body = bytes.get(frame.header_len..frame.total_len)?;
    let five = version == Version::V5;
    match first >> 4 {
        1 if five => v5::Connect::parse(body).ok().map(|it| P::V5_0Connect(it.0)),
        1 => v3::Connect::parse(body)
            .ok()
            .map(|it| P::V3_1_1Connect(it.0)),
        3 if five => v5::Publish::parse(first & 15, body.into())
            .ok()
            .map(|it| P::V5_0Publish(it.0)),
        3 => v3::Publish::parse(first & 15, body.into())
            .ok()
            .map(|it| P::V3_1_1Publish(it.0)),
        8 if five => v5::Subscribe::parse(body)
            .ok()
            .map(|it| P::V5_0Subscribe(it.0)),
        8 => v3::Subscribe::parse(body)
            .ok()
            .map(|it| P::V3_1_1Subscribe(it.0)),
        10 if five => v5::Unsubscribe::parse(body)
            .ok()
            .map(|it| P::V5_0Unsubscribe(it.0)),
        10 => v3::Unsubscribe::parse(body)
            .ok()
            .map(|it| P::V3_1_1Unsubscribe(it.0)),
        4 if five => v5::Puback::parse(body).ok().map(|it| P::V5_0Puback(it.0)),
        4 => v3::Puback::parse(body).ok().map(|it| P::V3_1_1Puback(it.0)),
        _ => None,
    }
}

/// What mqtt-protocol-core says.
pub fn protocol_core_answer(packet: &core_packet::Packet) -> Answer {
    use core_packet::{Packet as P, Property};
    match packet {
        P::V3_1_1Publish(view) => {
            let id = view.packet_id().unwrap_or(0);
            Answer::new(view.topic_name(), view.payload().len(), id, 0)
        }
        P::V5_0Publish(view) => {
            let user = |it: &&Property| matches!(it, Property::UserProperty(_));
            let user = view.props().iter().filter(user).count();
            let id = view.packet_id().unwrap_or(0);
            Answer::new(view.topic_name(), view.payload().len(), id, user)
        }
        P::V3_1_1Connect(view) => Answer::new(view.client_id(), view.keep_alive().into(), 0, 0),
        P::V5_0Connect(view) => Answer::new(view.client_id(), view.keep_alive().into(), 0, 0),
        P::V3_1_1Subscribe(view) => {
            let last = view
                .entries()
                .last()
                .map_or("", |entry| entry.topic_filter());
            Answer::new(last, view.entries().len(), view.packet_id(), 0)
        }
        P::V5_0Subscribe(view) => {
            let last = view
                .entries()
                .last()
                .map_or("", |entry| entry.topic_filter());
            Answer::new(last, view.entries().len(), view.packet_id(), 0)
        }
        _ => Answer::default(),
    }
}

/// rmqtt-codec for MQTT 3.1 and 3.1.1.
#[inline]
pub fn rmqtt_v3(bytes: &mut BytesMut) -> Option<rmqtt_codec::v3::Packet> {
    use tokio_util::codec::Decoder as _;
    let mut codec = rmqtt_codec::v3::Codec::new(SIZE_MAX);
    codec.decode(bytes).ok().flatten().map(|it| it.0)
}

/// What rmqtt-codec says.
pub fn rmqtt_v3_answer(packet: &rmqtt_codec::v3::Packet) -> Answer {
    use rmqtt_codec::v3::Packet as P;
    match packet {
        P::Publish(view) => {
            let id = view.packet_id.map_or(0, |id| id.get());
            Answer::new(&view.topic, view.payload.len(), id, 0)
        }
        P::Connect(view) => Answer::new(&view.client_id, view.keep_alive.into(), 0, 0),
        P::Subscribe {
            packet_id,
            topic_filters,
        } => {
            let last = topic_filters.last().map_or("", |filter| &filter.0);
            Answer::new(last, topic_filters.len(), packet_id.get(), 0)
        }
        _ => Answer::default(),
    }
}

/// rmqtt-codec for MQTT 5.0.
#[inline]
pub fn rmqtt_v5(bytes: &mut BytesMut) -> Option<rmqtt_codec::v5::Packet> {
    use tokio_util::codec::Decoder as _;
    let mut codec = rmqtt_codec::v5::Codec::new(SIZE_MAX, SIZE_MAX);
    codec.decode(bytes).ok().flatten().map(|it| it.0)
}

/// What rmqtt-codec says.
pub fn rmqtt_v5_answer(packet: &rmqtt_codec::v5::Packet) -> Answer {
    use rmqtt_codec::v5::Packet as P;
    match packet {
        P::Publish(view) => {
            let id = view.packet_id.map_or(0, |id| id.get());
            let user = view
                .properties
                .as_ref()
                .map_or(0, |p| p.user_properties.len());
            Answer::new(&view.topic, view.payload.len(), id, user)
        }
        P::Connect(view) => Answer::new(&view.client_id, view.keep_alive.into(), 0, 0),
        P::Subscribe(view) => {
            let last = view.topic_filters.last().map_or("", |filter| &filter.0);
            Answer::new(last, view.topic_filters.len(), view.packet_id.get(), 0)
        }
        _ => Answer::default(),
    }
}

/// ntex-mqtt for MQTT 3.1.1.
#[inline]
pub fn ntex_v3(bytes: &mut ntex_bytes::BytesMut) -> Option<ntex_mqtt::v3::codec::Decoded> {
    use ntex_codec::Decoder as _;
    ntex_mqtt::v3::codec::Codec::new()
        .decode(bytes)
        .ok()
        .flatten()
}

/// What ntex-mqtt says.
pub fn ntex_v3_answer(packet: &ntex_mqtt::v3::codec::Decoded) -> Answer {
    use ntex_mqtt::v3::codec::{Decoded as D, Packet as P};
    match packet {
        D::Publish(view, payload, _) => {
            let id = view.packet_id.map_or(0, |id| id.get());
            Answer::new(&view.topic, payload.len(), id, 0)
        }
        D::Packet(P::Connect(view), _) => {
            Answer::new(&view.client_id, view.keep_alive.into(), 0, 0)
        }
        D::Packet(
            P::Subscribe {
                packet_id,
                topic_filters,
            },
            _,
        ) => {
            let last = topic_filters.last().map_or("", |filter| &filter.0);
            Answer::new(last, topic_filters.len(), packet_id.get(), 0)
        }
        _ => Answer::default(),
    }
}

/// ntex-mqtt for MQTT 5.0.
#[inline]
pub fn ntex_v5(bytes: &mut ntex_bytes::BytesMut) -> Option<ntex_mqtt::v5::codec::Decoded> {
    use ntex_codec::Decoder as _;
    ntex_mqtt::v5::codec::Codec::new()
        .decode(bytes)
        .ok()
        .flatten()
}

/// What ntex-mqtt says.
pub fn ntex_v5_answer(packet: &ntex_mqtt::v5::codec::Decoded) -> Answer {
    use ntex_mqtt::v5::codec::{Decoded as D, Packet as P};
    match packet {
        D::Publish(view, payload, _) => {
            let id = view.packet_id.map_or(0, |id| id.get());
            let user = view.properties.user_properties.len();
            Answer::new(&view.topic, payload.len(), id, user)
        }
        D::Packet(P::Connect(view), _) => {
            Answer::new(&view.client_id, view.keep_alive.into(), 0, 0)
        }
        D::Packet(P::Subscribe(view), _) => {
            let last = view.topic_filters.last().map_or("", |filter| &filter.0);
            Answer::new(last, view.topic_filters.len(), view.packet_id.get(), 0)
        }
        _ => Answer::default(),
    }
}

/// mqute-codec for MQTT 3.1.1.
#[inline]
pub fn mqute_v4(bytes: &mut BytesMut) -> Option<mqute_codec::protocol::v4::Packet> {
    let raw = mqute_codec::codec::PacketCodec::new(Some(SIZE_MAX as usize), None);
    mqute_codec::protocol::v4::Packet::decode(raw.try_decode(bytes).ok()?).ok()
}

/// What mqute-codec says.
pub fn mqute_v4_answer(packet: &mqute_codec::protocol::v4::Packet) -> Answer {
    use mqute_codec::protocol::v4::Packet as P;
    match packet {
        P::Publish(view) => {
            let id = view.packet_id().unwrap_or(0);
            Answer::new(&view.topic(), view.payload().len(), id, 0)
        }
        P::Connect(view) => Answer::new(
            &view.client_id(),
            view.keep_alive().as_secs() as usize,
            0,
            0,
        ),
        P::Subscribe(view) => {
            let filters = view.filters();
            let last = filters
                .as_ref()
                .last()
                .map_or("", |filter| filter.topic.as_str());
            Answer::new(last, filters.len(), view.packet_id(), 0)
        }
        _ => Answer::default(),
    }
}

/// mqute-codec for MQTT 5.0.
#[inline]
pub fn mqute_v5(bytes: &mut BytesMut) -> Option<mqute_codec::protocol::v5::Packet> {
    let raw = mqute_codec::codec::PacketCodec::new(Some(SIZE_MAX as usize), None);
    mqute_codec::protocol::v5::Packet::decode(raw.try_decode(bytes).ok()?).ok()
}

/// What mqute-codec says.
pub fn mqute_v5_answer(packet: &mqute_codec::protocol::v5::Packet) -> Answer {
    use mqute_codec::protocol::v5::Packet as P;
    match packet {
        P::Publish(view) => {
            let id = view.packet_id().unwrap_or(0);
            let user = view.properties().map_or(0, |p| p.user_properties.len());
            Answer::new(&view.topic(), view.payload().len(), id, user)
        }
        P::Connect(view) => Answer::new(
            &view.client_id(),
            view.keep_alive().as_secs() as usize,
            0,
            0,
        ),
        P::Subscribe(view) => {
            let filters = view.filters();
            let last = filters
                .as_ref()
                .last()
                .map_or("", |filter| filter.topic.as_str());
            Answer::new(last, filters.len(), view.packet_id(), 0)
        }
        _ => Answer::default(),
    }
}

/// mqtt-proto for MQTT 3.1 and 3.1.1.
#[inline]
pub fn mqtt_proto_v3(bytes: &[u8]) -> Option<mqtt_proto::v3::Packet> {
    mqtt_proto::v3::Packet::decode(bytes).ok().flatten()
}

/// What mqtt-proto says.
pub fn mqtt_proto_v3_answer(packet: &mqtt_proto::v3::Packet) -> Answer {
    use mqtt_proto::v3::Packet as P;
    match packet {
        P::Publish(view) => {
            let id = view.qos_pid.pid().map_or(0, |pid| pid.value());
            Answer::new(&view.topic_name, view.payload.len(), id, 0)
        }
        P::Connect(view) => Answer::new(&view.client_id, view.keep_alive.into(), 0, 0),
        P::Subscribe(view) => {
            let last = view.topics.last().map_or("", |topic| &topic.0);
            Answer::new(last, view.topics.len(), view.pid.value(), 0)
        }
        _ => Answer::default(),
    }
}

/// mqtt-proto for MQTT 5.0.
#[inline]
pub fn mqtt_proto_v5(bytes: &[u8]) -> Option<mqtt_proto::v5::Packet> {
    mqtt_proto::v5::Packet::decode(bytes).ok().flatten()
}

/// What mqtt-proto says.
pub fn mqtt_proto_v5_answer(packet: &mqtt_proto::v5::Packet) -> Answer {
    use mqtt_proto::v5::Packet as P;
    match packet {
        P::Publish(view) => {
            let id = view.qos_pid.pid().map_or(0, |pid| pid.value());
            let user = view.properties.user_properties.len();
            Answer::new(&view.topic_name, view.payload.len(), id, user)
        }
        P::Connect(view) => Answer::new(&view.client_id, view.keep_alive.into(), 0, 0),
        P::Subscribe(view) => {
            let last = view.topics.last().map_or("", |topic| &topic.0);
            Answer::new(last, view.topics.len(), view.pid.value(), 0)
        }
        _ => Answer::default(),
    }
}

/// A PUBLISH of MQTT 3.x read by combinators: topic, packet identifier and payload.
#[inline]
pub fn winnow(bytes: &[u8]) -> Option<(&str, u16, &[u8])> {
    use winnow::Parser as _;
    use winnow::binary::{be_u8, be_u16, length_take};
    use winnow::combinator::cond;
    use winnow::error::{ContextError, ErrMode};
    use winnow::token::rest;

    fn remaining(input: &mut &[u8]) -> Result<u32, ErrMode<ContextError>> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte: u8 = be_u8.parse_next(input)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ErrMode::Cut(ContextError::new()))
    }
    let input = &mut &*bytes;
    let first: u8 = be_u8::<_, ErrMode<ContextError>>.parse_next(input).ok()?;
    let qos = (first >> 1) & 3;
    if first >> 4 != 3 || qos == 3 {
        return None;
    }
    let mut body: &[u8] = length_take(remaining).parse_next(input).ok()?;
    let mut topic = length_take(be_u16::<_, ErrMode<ContextError>>)
        .verify_map(|bytes: &[u8]| std::str::from_utf8(bytes).ok())
        .verify(|topic: &str| !topic.as_bytes().contains(&0));
    let topic = topic.parse_next(&mut body).ok()?;
    let mut id = cond(qos > 0, be_u16::<_, ErrMode<ContextError>>);
    let id = id.parse_next(&mut body).ok()?.unwrap_or(0);
    let payload = rest::<_, ErrMode<ContextError>>
        .parse_next(&mut body)
        .ok()?;
    Some((topic, id, payload))
}
