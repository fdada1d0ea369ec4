//! Packets at random: valid ones, in the bytes that the encoders make of them.

use mqtt_codec::{
    PacketId, PacketType, PayloadFormat, PublishHead, QoS, ReasonCode, RetainHandling, Role,
    SubscribeFilter, Version, encode,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

/// A valid packet: its bytes, its version, and who may receive it.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) role: Role,
}

pub(crate) fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

pub(crate) fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9/_-]{0,24}",
        2 => "[^\\x00]{0,12}",
        1 => "[a-z/é]{100,300}",
    ]
}

fn text_not_empty() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        if text.is_empty() {
            "t".to_owned()
        } else {
            text
        }
    })
}

fn response_topic() -> impl Strategy<Value = String> {
    "[a-zé/]{1,20}"
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop_oneof![3 => Just(vec![]), 1 => vec((text(), text()), 1..6)]
}

fn borrow(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).expect("not zero"))
}

fn format() -> impl Strategy<Value = PayloadFormat> {
    prop_oneof![Just(PayloadFormat::Unspecified), Just(PayloadFormat::Utf8)]
}

fn reason(packet: PacketType, role: Role) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| reason.is_allowed_in(packet, role))
        .collect();
    proptest::sample::select(allowed)
}

fn sample(bytes: Vec<u8>, version: Version, role: Role) -> Sample {
    Sample {
        bytes,
        version,
        role,
    }
}

pub(crate) fn connect() -> impl Strategy<Value = Sample> {
    let will_properties = (
        any::<u32>(),
        of(format()),
        of(any::<u32>()),
        of(text()),
        of(response_topic()),
        of(binary()),
        pairs(),
    );
    let will = (
        text_not_empty(),
        binary(),
        any_qos(),
        any::<bool>(),
        will_properties,
    );
    let properties = (
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(1..=u32::MAX),
        of(any::<u16>()),
        any::<(bool, bool)>(),
        pairs(),
        of((text(), of(binary()))),
    );
    let head = (
        any_version(),
        "[a-zA-Z0-9]{1,23}",
        any::<bool>(),
        any::<u16>(),
    );
    (head, of((text(), of(binary()))), of(will), properties).prop_map(
        |((version, client_id, clean_start, keep_alive), user, will, properties)| {
            let (expiry, receive, size, alias, (response, problem), pairs, auth) = properties;
            let pairs = borrow(&pairs);
            let will_pairs = will
                .as_ref()
                .map(|will| borrow(&will.4.6))
                .unwrap_or_default();
            let will = will
                .as_ref()
                .map(|(topic, payload, qos, retain, properties)| {
                    let (delay, format, expiry, content_type, response, correlation, _) =
                        properties;
                    encode::Will {
                        topic,
                        payload,
                        qos: *qos,
                        retain: *retain,
                        properties: encode::WillProperties {
                            delay_interval: *delay,
                            payload_format_indicator: *format,
                            message_expiry_interval: *expiry,
                            content_type: content_type.as_deref(),
                            response_topic: response.as_deref(),
                            correlation_data: correlation.as_deref(),
                            user_properties: &will_pairs,
                        },
                    }
                });
            let connect = encode::Connect {
                client_id: &client_id,
                clean_start,
                keep_alive,
                username: user.as_ref().map(|(name, _)| name.as_str()),
                password: user.as_ref().and_then(|(_, password)| password.as_deref()),
                will,
                properties: encode::ConnectProperties {
                    session_expiry_interval: expiry,
                    receive_maximum: receive,
                    maximum_packet_size: size,
                    topic_alias_maximum: alias,
                    request_response_information: Some(response),
                    request_problem_information: Some(problem),
                    user_properties: &pairs,
                    authentication_method: auth.as_ref().map(|(method, _)| method.as_str()),
                    authentication_data: auth.as_ref().and_then(|(_, data)| data.as_deref()),
                },
            };
            sample(connect.encode_to_vec(version), version, Role::Server)
        },
    )
}

pub(crate) fn connack() -> impl Strategy<Value = Sample> {
    let numbers = (
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        of(1..=u32::MAX),
        of(any::<u16>()),
        of(any::<u16>()),
    );
    let bits = (
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<bool>()),
    );
    let texts = (of(text()), of(text()), of(text()), of(text()));
    let auth = of((text(), of(binary())));
    let head = (
        any_version(),
        any::<bool>(),
        reason(PacketType::ConnAck, Role::Client),
    );
    (head, numbers, bits, texts, auth, pairs()).prop_map(
        |((version, session_present, reason), numbers, bits, texts, auth, pairs)| {
            let connack = encode::ConnAck {
                session_present,
                reason,
                properties: encode::ConnAckProperties {
                    session_expiry_interval: numbers.0,
                    receive_maximum: numbers.1,
                    maximum_qos: numbers.2,
                    maximum_packet_size: numbers.3,
                    topic_alias_maximum: numbers.4,
                    server_keep_alive: numbers.5,
                    retain_available: bits.0,
                    wildcard_subscription_available: bits.1,
                    subscription_identifiers_available: bits.2,
                    shared_subscription_available: bits.3,
                    assigned_client_id: texts.0.as_deref(),
                    reason_string: texts.1.as_deref(),
                    response_information: texts.2.as_deref(),
                    server_reference: texts.3.as_deref(),
                    user_properties: &borrow(&pairs),
                    authentication_method: auth.as_ref().map(|(method, _)| method.as_str()),
                    authentication_data: auth.as_ref().and_then(|(_, data)| data.as_deref()),
                },
            };
            sample(connack.encode_to_vec(version), version, Role::Client)
        },
    )
}

/// Properties that pass through, raw and in any order.
fn raw_properties() -> impl Strategy<Value = Vec<u8>> {
    let once = (of(format()), of(text()), of(response_topic()), of(binary()));
    (once, pairs(), any::<prop::sample::Index>()).prop_map(|(once, pairs, turn)| {
        let mut all: Vec<Vec<u8>> = vec![];
        let field = |id: u8, bytes: &[u8]| {
            let len = u16::try_from(bytes.len()).expect("short").to_be_bytes();
            [&[id][..], &len, bytes].concat()
        };
        all.extend(once.0.map(|format| vec![0x01, format as u8]));
        all.extend(once.1.map(|text| field(0x03, text.as_bytes())));
        all.extend(pairs.iter().map(|(name, value)| {
            let mut pair = field(0x26, name.as_bytes());
            pair.extend(&field(0, value.as_bytes())[1..]);
            pair
        }));
        all.extend(once.2.map(|text| field(0x08, text.as_bytes())));
        all.extend(once.3.map(|bytes| field(0x09, &bytes)));
        if !all.is_empty() {
            let turn = turn.index(all.len());
            all.rotate_left(turn);
        }
        all.concat()
    })
}

pub(crate) fn publish() -> impl Strategy<Value = Sample> {
    let head = (
        any_version(),
        any_qos(),
        any::<bool>(),
        any::<bool>(),
        packet_id(),
    );
    let ids = vec(1..=mqtt_codec::VAR_INT_MAX, 0..3);
    let properties = (of(any::<u32>()), of(1..=u16::MAX), ids, raw_properties());
    (
        head,
        text_not_empty(),
        any::<bool>(),
        properties,
        vec(any::<u8>(), 0..300),
    )
        .prop_map(
            |((version, qos, dup, retain, id), topic, from_server, properties, payload)| {
                let (expiry, alias, ids, raw) = properties;
                let head = PublishHead {
                    dup,
                    qos,
                    retain,
                    topic: &topic,
                    packet_id: Some(id),
                    message_expiry: expiry,
                    subscription_ids: if from_server { &ids } else { &[] },
                    topic_alias: alias.and_then(std::num::NonZeroU16::new),
                    pass_through: &raw,
                    payload_len: payload.len(),
                };
                let bytes = head.encode_to_vec(version, &payload);
                assert_eq!(head.check(version), Ok(bytes.len()));
                sample(
                    bytes,
                    version,
                    if from_server {
                        Role::Client
                    } else {
                        Role::Server
                    },
                )
            },
        )
}

pub(crate) fn ack() -> impl Strategy<Value = Sample> {
    let types = [
        PacketType::PubAck,
        PacketType::PubRec,
        PacketType::PubRel,
        PacketType::PubComp,
    ];
    let role = prop_oneof![Just(Role::Server), Just(Role::Client)];
    (proptest::sample::select(types.to_vec()), role)
        .prop_flat_map(|(packet_type, role)| {
            let words = (reason(packet_type, role), of(text()), pairs());
            (
                Just(packet_type),
                Just(role),
                any_version(),
                packet_id(),
                words,
            )
        })
        .prop_map(
            |(packet_type, role, version, packet_id, (reason, words, pairs))| {
                let ack = encode::AckPacket {
                    packet_type,
                    packet_id,
                    reason,
                    reason_string: words.as_deref(),
                    user_properties: &borrow(&pairs),
                };
                sample(ack.encode_to_vec(version), version, role)
            },
        )
}

fn filter() -> impl Strategy<Value = (String, QoS, bool, bool, RetainHandling)> {
    let handling = prop_oneof![
        Just(RetainHandling::SendAtSubscribe),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend),
    ];
    (text(), any_qos(), any::<bool>(), any::<bool>(), handling)
}

pub(crate) fn subscribe() -> impl Strategy<Value = Sample> {
    let id = of(1..=mqtt_codec::VAR_INT_MAX);
    (
        any_version(),
        packet_id(),
        vec(filter(), 1..10),
        id,
        pairs(),
    )
        .prop_map(|(version, packet_id, filters, id, pairs)| {
            let filters: Vec<_> = filters
                .iter()
                .map(
                    |(filter, qos, no_local, published, handling)| SubscribeFilter {
                        filter,
                        qos: *qos,
                        no_local: *no_local,
                        retain_as_published: *published,
                        retain_handling: *handling,
                    },
                )
                .collect();
            let subscribe = encode::Subscribe {
                packet_id,
                filters: &filters,
                subscription_identifier: id,
                user_properties: &borrow(&pairs),
            };
            sample(subscribe.encode_to_vec(version), version, Role::Server)
        })
}

pub(crate) fn unsubscribe() -> impl Strategy<Value = Sample> {
    (any_version(), packet_id(), vec(text(), 1..10), pairs()).prop_map(
        |(version, packet_id, filters, pairs)| {
            let filters: Vec<_> = filters.iter().map(String::as_str).collect();
            let user_properties = &borrow(&pairs);
            let unsubscribe = encode::Unsubscribe {
                packet_id,
                filters: &filters,
                user_properties,
            };
            sample(unsubscribe.encode_to_vec(version), version, Role::Server)
        },
    )
}

pub(crate) fn suback() -> impl Strategy<Value = Sample> {
    let codes = vec(reason(PacketType::SubAck, Role::Client), 1..10);
    (any_version(), packet_id(), codes, of(text()), pairs()).prop_map(
        |(version, packet_id, codes, words, pairs)| {
            let suback = encode::SubAck {
                packet_id,
                codes: &codes,
                reason_string: words.as_deref(),
                user_properties: &borrow(&pairs),
            };
            sample(suback.encode_to_vec(version), version, Role::Client)
        },
    )
}

pub(crate) fn unsuback() -> impl Strategy<Value = Sample> {
    let codes = vec(reason(PacketType::UnsubAck, Role::Client), 1..10);
    (any_version(), packet_id(), codes, of(text()), pairs()).prop_map(
        |(version, packet_id, codes, words, pairs)| {
            let unsuback = encode::UnsubAck {
                packet_id,
                codes: &codes,
                reason_string: words.as_deref(),
                user_properties: &borrow(&pairs),
            };
            sample(unsuback.encode_to_vec(version), version, Role::Client)
        },
    )
}

pub(crate) fn disconnect() -> impl Strategy<Value = Sample> {
    let from_client = (
        reason(PacketType::Disconnect, Role::Server),
        of(any::<u32>()),
        any_version(),
    )
        .prop_map(|(reason, expiry, version)| (reason, expiry, None, version, Role::Server));
    let from_server = (reason(PacketType::Disconnect, Role::Client), of(text()))
        .prop_map(|(reason, reference)| (reason, None, reference, Version::V5, Role::Client));
    (prop_oneof![from_client, from_server], of(text()), pairs()).prop_map(
        |((reason, expiry, reference, version, role), words, pairs)| {
            let disconnect = encode::Disconnect {
                reason,
                reason_string: words.as_deref(),
                server_reference: reference.as_deref(),
                session_expiry_interval: expiry,
                user_properties: &borrow(&pairs),
            };
            sample(disconnect.encode_to_vec(version), version, role)
        },
    )
}

pub(crate) fn auth() -> impl Strategy<Value = Sample> {
    let from_client = (reason(PacketType::Auth, Role::Server), Just(Role::Server));
    let from_server = (reason(PacketType::Auth, Role::Client), Just(Role::Client));
    (
        prop_oneof![from_client, from_server],
        text(),
        of(binary()),
        of(text()),
        pairs(),
    )
        .prop_map(|((reason, role), method, data, words, pairs)| {
            let auth = encode::Auth {
                reason,
                authentication_method: Some(&method),
                authentication_data: data.as_deref(),
                reason_string: words.as_deref(),
                user_properties: &borrow(&pairs),
            };
            sample(auth.encode_to_vec(Version::V5), Version::V5, role)
        })
}

pub(crate) fn ping() -> impl Strategy<Value = Sample> {
    (any_version(), any::<bool>()).prop_map(|(version, response)| match response {
        true => sample(mqtt_codec::PING_RESP.to_vec(), version, Role::Client),
        false => sample(mqtt_codec::PING_REQ.to_vec(), version, Role::Server),
    })
}

/// Any valid packet of any version.
pub(crate) fn any_packet() -> impl Strategy<Value = Sample> {
    prop_oneof![
        connect(),
        connack(),
        publish(),
        publish(),
        ack(),
        subscribe(),
        suback(),
        unsubscribe(),
        unsuback(),
        disconnect(),
        auth(),
        ping(),
    ]
}
