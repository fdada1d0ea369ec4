//! The packets of the workloads, made by mqtt-codec's encoders.

use mqtt_codec::{PacketId, PublishHead, QoS, SubscribeFilter, Version, encode};

const TOPIC: &str = "site/7/line/3/temperature";

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

/// A PUBLISH of QoS 1 with so many bytes of payload and so many user properties.
pub fn publish(version: Version, payload: usize, user_properties: usize) -> Vec<u8> {
    let mut raw = vec![];
    for number in 0..user_properties {
        let (name, value) = (format!("name-{number}"), format!("value {number}"));
        raw.push(0x26);
        for text in [&name, &value] {
            raw.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
            raw.extend(text.as_bytes());
        }
    }
    PublishHead {
        qos: QoS::AtLeastOnce,
        topic: TOPIC,
        packet_id: Some(id(4711)),
        pass_through: &raw,
        payload_len: payload,
        ..PublishHead::default()
    }
    .encode_to_vec(version, &vec![b'x'; payload])
}

/// A CONNECT with user name, password and will; in MQTT 5.0 with properties.
pub fn connect(version: Version) -> Vec<u8> {
    encode::Connect {
        client_id: "device-000042",
        clean_start: false,
        keep_alive: 300,
        username: Some("device"),
        password: Some(b"correct horse"),
        will: Some(encode::Will {
            topic: "site/7/line/3/status",
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: encode::WillProperties {
                delay_interval: 30,
                content_type: Some("text/plain"),
                ..encode::WillProperties::default()
            },
        }),
        properties: encode::ConnectProperties {
            session_expiry_interval: Some(3600),
            receive_maximum: Some(20),
            maximum_packet_size: Some(65_536),
            topic_alias_maximum: Some(10),
            user_properties: &[("firmware", "1.2.3"), ("model", "thermo")],
            ..encode::ConnectProperties::default()
        },
    }
    .encode_to_vec(version)
}

/// A SUBSCRIBE with so many filters.
pub fn subscribe(version: Version, filters: usize) -> Vec<u8> {
    let names: Vec<_> = (0..filters)
        .map(|number| format!("site/{number}/+/temperature"))
        .collect();
    let filters: Vec<_> = names
        .iter()
        .map(|filter| SubscribeFilter {
            filter,
            qos: QoS::AtLeastOnce,
            ..SubscribeFilter::default()
        })
        .collect();
    encode::Subscribe {
        packet_id: id(9),
        filters: &filters,
        subscription_identifier: None,
        user_properties: &[],
    }
    .encode_to_vec(version)
}

/// Packets of MQTT 3.1.1 that every contender refuses.
pub fn malformed() -> Vec<Vec<u8>> {
    vec![
        // QoS 3.
        b"\x36\x06\x00\x01a\x00\x01x".to_vec(),
        // The topic ends after the packet.
        b"\x30\x04\x00\x09ab".to_vec(),
        // A fifth byte of length.
        b"\x30\xff\xff\xff\xff\x01".to_vec(),
        // The topic is not UTF-8.
        b"\x30\x05\x00\x02a\xffx".to_vec(),
    ]
}
