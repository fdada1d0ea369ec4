//! mqtt-codec against what a user would pick instead.
//!
//! Borrowing decoders read a slice in place. The others consume a buffer, which is made outside
//! the measured time, as is the drop of what they make: both favour them.

use std::hint::black_box;
use std::time::Duration;

use bench_codec::{Answer, rivals, samples};
use bytes::BytesMut;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use mqtt_codec::{PacketId, PublishHead, QoS, Version, patch_packet_id};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

macro_rules! slice {
    ($group:ident, $bytes:ident, $want:ident, $name:literal, $decode:expr, $answer:expr) => {
        let answer = $decode(&$bytes).map(|packet| $answer(&packet));
        assert_eq!(answer.as_ref(), Some(&$want), $name);
        $group.bench_function($name, |b| b.iter(|| $decode(black_box(&$bytes))));
    };
}

macro_rules! buffer {
    ($group:ident, $bytes:ident, $want:ident, $name:literal, $buffer:ty, $decode:expr,
     $answer:expr) => {
        let fill = || {
            let mut buffer = <$buffer>::with_capacity($bytes.len());
            buffer.extend_from_slice(&$bytes);
            buffer
        };
        let answer = $decode(&mut fill()).map(|packet| $answer(&packet));
        assert_eq!(answer.as_ref(), Some(&$want), $name);
        $group.bench_function($name, |b| {
            b.iter_batched_ref(fill, |buffer| $decode(buffer), BatchSize::SmallInput);
        });
    };
}

/// All decoders of MQTT 3.1.1.
fn v311(mut group: Group<'_>, bytes: &[u8], winnow: bool) {
    let bytes = bytes.to_vec();
    let want = rivals::ours_answer(&rivals::ours(&bytes, Version::V311).expect("valid"));
    let theirs = rivals::mqttrs_answer(&rivals::mqttrs(&bytes).expect("valid"));
    assert_eq!(theirs, want);
    // Neither is to pay for a copy of what it made.
    group.bench_function("ours", |b| {
        b.iter(|| {
            rivals::with_ours(black_box(&bytes), Version::V311, |packet| {
                black_box(packet);
            })
        });
    });
    group.bench_function("mqttrs", |b| {
        b.iter(|| {
            rivals::with_mqttrs(black_box(&bytes), |packet| {
                black_box(packet);
            })
        });
    });
    if winnow {
        let answer = |it: &(&str, u16, &[u8])| Answer::new(it.0, it.2.len(), it.1, 0);
        slice!(group, bytes, want, "winnow", |b| rivals::winnow(b), answer);
    }
    slice!(
        group,
        bytes,
        want,
        "mqtt-proto",
        rivals::mqtt_proto_v3,
        rivals::mqtt_proto_v3_answer
    );
    slice!(
        group,
        bytes,
        want,
        "mqtt-protocol-core",
        |b| rivals::protocol_core(b, Version::V311),
        rivals::protocol_core_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "rumqttc",
        BytesMut,
        rivals::rumqttc_v4,
        rivals::rumqttc_v4_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "rmqtt-codec",
        BytesMut,
        rivals::rmqtt_v3,
        rivals::rmqtt_v3_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "mqute-codec",
        BytesMut,
        rivals::mqute_v4,
        rivals::mqute_v4_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "ntex-mqtt",
        ntex_bytes::BytesMut,
        rivals::ntex_v3,
        rivals::ntex_v3_answer
    );
    floor(&mut group, &bytes);
    group.finish();
}

/// All decoders of MQTT 5.0.
fn v5(mut group: Group<'_>, bytes: &[u8]) {
    let bytes = bytes.to_vec();
    let want = rivals::ours_answer(&rivals::ours(&bytes, Version::V5).expect("valid"));
    slice!(
        group,
        bytes,
        want,
        "ours",
        |b| rivals::ours(b, Version::V5),
        rivals::ours_answer
    );
    slice!(
        group,
        bytes,
        want,
        "mqtt-proto",
        rivals::mqtt_proto_v5,
        rivals::mqtt_proto_v5_answer
    );
    slice!(
        group,
        bytes,
        want,
        "mqtt-protocol-core",
        |b| rivals::protocol_core(b, Version::V5),
        rivals::protocol_core_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "rumqttc",
        BytesMut,
        rivals::rumqttc_v5,
        rivals::rumqttc_v5_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "rmqtt-codec",
        BytesMut,
        rivals::rmqtt_v5,
        rivals::rmqtt_v5_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "mqute-codec",
        BytesMut,
        rivals::mqute_v5,
        rivals::mqute_v5_answer
    );
    buffer!(
        group,
        bytes,
        want,
        "ntex-mqtt",
        ntex_bytes::BytesMut,
        rivals::ntex_v5,
        rivals::ntex_v5_answer
    );
    floor(&mut group, &bytes);
    group.finish();
}

/// Copying the packet to a place that is there already: what touching the bytes costs.
fn floor(group: &mut Group<'_>, bytes: &[u8]) {
    let mut out = vec![0; bytes.len()];
    group.bench_function("memcpy", |b| {
        b.iter(|| black_box(&mut out[..]).copy_from_slice(black_box(bytes)));
    });
}

fn decode(c: &mut Criterion) {
    for payload in [16, 256, 16 << 10] {
        let name = format!("mqtt-codec/decode-publish-v311/{payload}");
        let bytes = samples::publish(Version::V311, payload, 0);
        v311(c.benchmark_group(name), &bytes, true);
    }
    // One makes a `str` of some strings late, the other early: reading them makes both alike.
    let mut group = c.benchmark_group("mqtt-codec/decode-connect-v311/will");
    let bytes = samples::connect(Version::V311);
    group.bench_function("ours-all-read", |b| {
        b.iter(|| rivals::with_ours(black_box(&bytes), Version::V311, rivals::ours_fields));
    });
    group.bench_function("mqttrs-all-read", |b| {
        b.iter(|| rivals::with_mqttrs(black_box(&bytes), rivals::mqttrs_fields));
    });
    group.finish();
    let name = "mqtt-codec/decode-connect-v311/will";
    v311(
        c.benchmark_group(name),
        &samples::connect(Version::V311),
        false,
    );
    for filters in [1, 100] {
        let name = format!("mqtt-codec/decode-subscribe-v311/{filters}");
        let bytes = samples::subscribe(Version::V311, filters);
        v311(c.benchmark_group(name), &bytes, false);
    }
    for user in [0, 1, 10] {
        let name = format!("mqtt-codec/decode-publish-v5-256/{user}-user-properties");
        v5(
            c.benchmark_group(name),
            &samples::publish(Version::V5, 256, user),
        );
    }
    let name = "mqtt-codec/decode-connect-v5/will-and-properties";
    v5(c.benchmark_group(name), &samples::connect(Version::V5));
    for filters in [1, 100] {
        let name = format!("mqtt-codec/decode-subscribe-v5/{filters}");
        v5(
            c.benchmark_group(name),
            &samples::subscribe(Version::V5, filters),
        );
    }
}

/// A stream that comes in pieces, and packets that are refused.
fn streams(c: &mut Criterion) {
    let bytes = samples::publish(Version::V311, 16, 0);
    let mut group = c.benchmark_group("mqtt-codec/split-at-every-byte/publish-16");
    group.bench_function("ours", |b| {
        b.iter(|| {
            (0..=bytes.len())
                .filter(|&len| rivals::ours(black_box(&bytes[..len]), Version::V311).is_some())
                .count()
        });
    });
    group.bench_function("mqttrs", |b| {
        b.iter(|| {
            (0..=bytes.len())
                .filter(|&len| rivals::mqttrs(black_box(&bytes[..len])).is_some())
                .count()
        });
    });
    group.finish();
    let bad = samples::malformed();
    for bytes in &bad {
        assert!(rivals::ours(bytes, Version::V311).is_none());
        assert!(rivals::mqttrs(bytes).is_none());
    }
    let mut group = c.benchmark_group("mqtt-codec/malformed-mix/4");
    group.bench_function("ours", |b| {
        b.iter(|| {
            bad.iter()
                .filter(|b| rivals::ours(black_box(b), Version::V311).is_none())
                .count()
        });
    });
    group.bench_function("mqttrs", |b| {
        b.iter(|| {
            bad.iter()
                .filter(|b| rivals::mqttrs(black_box(b)).is_none())
                .count()
        });
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let want = samples::publish(Version::V311, 256, 0);
    let payload = [b'x'; 256];
    let head = PublishHead {
        qos: QoS::AtLeastOnce,
        topic: "site/7/line/3/temperature",
        packet_id: PacketId::new(4711),
        payload_len: payload.len(),
        ..PublishHead::default()
    };
    let mut group = c.benchmark_group("mqtt-codec/encode-publish-v311/256");
    let mut out = [0; 512];
    let whole = |out: &mut [u8]| {
        let len = head.encode_head(Version::V311, out);
        out[len..][..256].copy_from_slice(&payload);
        len + 256
    };
    let len = whole(&mut out);
    assert_eq!(out[..len], want[..]);
    group.bench_function("ours-whole", |b| b.iter(|| whole(black_box(&mut out))));
    let mut image = out;
    let offset = head.packet_id_offset(Version::V311).expect("qos 1");
    let id = PacketId::new(4711).expect("not zero");
    patch_packet_id(&mut image, offset, id);
    assert_eq!(image[..len], want[..]);
    group.bench_function("ours-patch", |b| {
        b.iter(|| patch_packet_id(black_box(&mut image), black_box(offset), black_box(id)));
    });
    let packet = mqttrs::Packet::Publish(mqttrs::Publish {
        dup: false,
        qospid: mqttrs::QosPid::AtLeastOnce(4711.try_into().expect("not zero")),
        retain: false,
        topic_name: head.topic,
        payload: &payload,
    });
    let len = mqttrs::encode_slice(&packet, &mut out).expect("it fits");
    assert_eq!(out[..len], want[..]);
    group.bench_function("mqttrs", |b| {
        b.iter(|| mqttrs::encode_slice(black_box(&packet), black_box(&mut out)));
    });
    let level = rumqttc::mqttbytes::QoS::AtLeastOnce;
    let mut publish = rumqttc::mqttbytes::v4::Publish::new(head.topic, level, &payload[..]);
    publish.pkid = 4711;
    let mut buffer = BytesMut::with_capacity(512);
    publish.write(&mut buffer).expect("valid");
    assert_eq!(buffer[..], want[..]);
    group.bench_function("rumqttc", |b| {
        b.iter(|| {
            buffer.clear();
            publish.write(black_box(&mut buffer))
        });
    });
    floor(&mut group, &want);
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = decode, streams, encode
}
criterion_main!(all);
