//! What is tried. Each case runs for the versions it is listed with.

use std::sync::atomic::{AtomicU32, Ordering};

use rumqttc::v5::mqttbytes::v5::{Filter, PublishProperties, RetainForwardRule};

use crate::client::{Broker, Client, Message, Options, Outcome, Version, qos5};

static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// A name that no other case and no other run uses.
fn unique(prefix: &str) -> String {
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:x}x{number}", std::process::id())
}

fn equal<T: PartialEq + std::fmt::Debug>(actual: T, expected: T, what: &str) -> Outcome {
    if actual == expected {
        return Ok(());
    }
    let mut text = format!("{what}: expected {expected:?}, got {actual:?}");
    if text.len() > 300 {
        text = text.chars().take(300).collect();
    }
    Err(text)
}

fn open(broker: &Broker, version: Version) -> Outcome<Client> {
    let options = Options {
        client_id: unique("q"),
        ..Options::default()
    };
    Client::connect(broker, version, &options)
}

fn payloads(messages: &[Message]) -> Vec<Vec<u8>> {
    messages
        .iter()
        .map(|message| message.payload.clone())
        .collect()
}

fn numbers(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| number.to_string().into_bytes())
        .collect()
}

fn publish_subscribe(broker: &Broker, version: Version) -> Outcome {
    let mut client = open(broker, version)?;
    for subscribed in 0..3 {
        let topic = unique("t");
        equal(client.subscribe(&topic, subscribed)?, subscribed, "SUBACK")?;
        for published in 0..3 {
            client.publish(&topic, &[b"x".to_vec()], published, false)?;
            let message = client.take_one()?;
            equal(
                (message.topic.as_str(), message.payload),
                (&topic, b"x".to_vec()),
                "message",
            )?;
            equal(message.qos, published.min(subscribed), "QoS")?;
            equal(message.retain, false, "retain flag")?;
        }
    }
    client.stop()
}

// Here and with a persistent session, mosquitto 2.0.11 now and then sends nothing more after the
// last PUBCOMP.
fn a_thousand_in_order(broker: &Broker, version: Version) -> Outcome {
    for qos in 0..3 {
        let topic = unique("t");
        let mut subscriber = open(broker, version)?;
        subscriber.subscribe(&topic, qos)?;
        let mut publisher = open(broker, version)?;
        let expected = numbers(1000);
        publisher.publish(&topic, &expected, qos, false)?;
        equal(
            payloads(&subscriber.take(1000)?),
            expected,
            "messages in order",
        )?;
    }
    Ok(())
}

fn large_payload(broker: &Broker, version: Version) -> Outcome {
    let large = vec![0x5a; (1 << 20) - 64];
    let mut client = open(broker, version)?;
    for qos in 0..3 {
        let topic = unique("t");
        client.subscribe(&topic, qos)?;
        client.publish(&topic, std::slice::from_ref(&large), qos, false)?;
        if client.take_one()?.payload != large {
            return Err(format!("the payload changed at QoS {qos}"));
        }
    }
    Ok(())
}

fn retained(broker: &Broker, version: Version) -> Outcome {
    for qos in 0..3 {
        let base = unique("t");
        let (topic, all) = (format!("{base}/a"), format!("{base}/#"));
        let mut publisher = open(broker, version)?;
        publisher.publish(&topic, &[b"old".to_vec(), b"new".to_vec()], qos, true)?;
        // QoS 0 is not acknowledged; a round trip tells that it has arrived.
        publisher.subscribe(&unique("t"), 0)?;
        let mut late = open(broker, version)?;
        late.subscribe(&all, qos)?;
        let message = late.take_one()?;
        equal(
            (message.payload, message.retain),
            (b"new".to_vec(), true),
            "retained message",
        )?;
        equal(message.qos, qos, "QoS")?;
        publisher.publish(&topic, &[Vec::new()], qos, true)?;
        equal(
            late.take_one()?.payload,
            Vec::new(),
            "live copy of the empty message",
        )?;
        let mut later = open(broker, version)?;
        later.subscribe(&all, qos)?;
        publisher.publish(&topic, &[b"end".to_vec()], qos, false)?;
        equal(
            payloads(&later.take_until(b"end")?),
            Vec::new(),
            "after clearing",
        )?;
    }
    Ok(())
}

fn will(broker: &Broker, version: Version) -> Outcome {
    for qos in 0..3 {
        let topic = unique("t");
        let mut witness = open(broker, version)?;
        witness.subscribe(&topic, 2)?;
        let mut options = Options {
            client_id: unique("q"),
            ..Options::default()
        };
        options.will = Some((topic.clone(), "gone", qos));
        Client::connect(broker, version, &options)?.kill();
        let message = witness.take_one()?;
        equal(
            (message.payload, message.qos),
            (b"gone".to_vec(), qos),
            "will",
        )?;
        Client::connect(broker, version, &options)?.stop()?;
        witness.publish(&topic, &[b"end".to_vec()], 1, false)?;
        equal(
            payloads(&witness.take_until(b"end")?),
            Vec::new(),
            "wills after DISCONNECT",
        )?;
    }
    Ok(())
}

fn persistent_session(broker: &Broker, version: Version) -> Outcome {
    for qos in 1..3 {
        let topic = unique("t");
        let options = Options {
            client_id: unique("s"),
            keep: true,
            ..Options::default()
        };
        let mut client = Client::connect(broker, version, &options)?;
        equal(client.session_present, false, "session present at first")?;
        client.subscribe(&topic, qos)?;
        client.stop()?;
        let mut publisher = open(broker, version)?;
        let expected = numbers(50);
        publisher.publish(&topic, &expected, qos, false)?;
        let mut client = Client::connect(broker, version, &options)?;
        equal(client.session_present, true, "session present then")?;
        equal(payloads(&client.take(50)?), expected, "queued messages")?;
        publisher.publish(&topic, &[b"live".to_vec()], qos, false)?;
        equal(client.take_one()?.payload, b"live".to_vec(), "live message")?;
        client.stop()?;
        let clean = Options {
            keep: false,
            ..options
        };
        let client = Client::connect(broker, version, &clean)?;
        equal(
            client.session_present,
            false,
            "session present after a clean start",
        )?;
        client.stop()?;
    }
    Ok(())
}

fn wildcards(broker: &Broker, version: Version) -> Outcome {
    let base = unique("t");
    let mut client = open(broker, version)?;
    for (filter, expected) in [
        ("+", vec!["a", "b"]),
        ("+/c", vec!["a/c", "b/c"]),
        ("#", vec!["a", "a/c", "b", "b/c", "b/c/d"]),
        ("b/#", vec!["b", "b/c", "b/c/d"]),
        ("+/+/d", vec!["b/c/d"]),
    ] {
        let filter = format!("{base}/{filter}");
        client.subscribe(&filter, 1)?;
        for topic in ["a", "a/c", "b", "b/c", "b/c/d"] {
            client.publish(&format!("{base}/{topic}"), &[b"x".to_vec()], 1, false)?;
        }
        let end = unique("end");
        client.subscribe(&end, 1)?;
        client.publish(&end, &[b"end".to_vec()], 1, false)?;
        let got = client.take_until(b"end")?;
        let got: Vec<&str> = got
            .iter()
            .map(|message| &message.topic[base.len() + 1..])
            .collect();
        equal(got, expected, &filter)?;
        client.unsubscribe(&filter)?;
    }
    Ok(())
}

fn two_clients_with_one_id(broker: &Broker, version: Version) -> Outcome {
    let options = Options {
        client_id: unique("i"),
        ..Options::default()
    };
    let mut first = Client::connect(broker, version, &options)?;
    let mut second = Client::connect(broker, version, &options)?;
    let why = first.wait_gone()?;
    if version == Version::V5 {
        // mosquitto 2.0.11 closes without a DISCONNECT [MQTT-3.1.4-3].
        equal(
            why.contains("SessionTakenOver"),
            true,
            "reason given to the first",
        )?;
    }
    let topic = unique("t");
    second.subscribe(&topic, 1)?;
    second.publish(&topic, &[b"in".to_vec()], 1, false)?;
    equal(
        second.take_one()?.payload,
        b"in".to_vec(),
        "message of the second",
    )
}

fn unsubscribe(broker: &Broker, version: Version) -> Outcome {
    let (topic, other) = (unique("t"), unique("t"));
    let mut client = open(broker, version)?;
    client.subscribe(&topic, 1)?;
    client.subscribe(&other, 1)?;
    client.unsubscribe(&topic)?;
    client.publish(&topic, &[b"x".to_vec()], 1, false)?;
    client.publish(&other, &[b"end".to_vec()], 1, false)?;
    equal(
        payloads(&client.take_until(b"end")?),
        Vec::new(),
        "messages after UNSUBACK",
    )
}

fn properties_pass_through(broker: &Broker, version: Version) -> Outcome {
    let topic = unique("t");
    let mut client = open(broker, version)?;
    client.subscribe(&topic, 1)?;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        response_topic: Some("answers".to_owned()),
        correlation_data: Some(vec![0, 255, 1].into()),
        user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "3")],
        content_type: Some("text/plain".to_owned()),
        ..PublishProperties::default()
    };
    client.publish5(&topic, b"x", properties.clone())?;
    equal(client.take_one()?.properties, properties, "properties")
}

fn subscription_options(broker: &Broker, version: Version) -> Outcome {
    let topic = unique("t");
    let (mut client, mut other) = (open(broker, version)?, open(broker, version)?);
    other.publish(&topic, &[b"kept".to_vec()], 1, true)?;
    let mut filter = Filter::new(topic.clone(), qos5(1));
    filter.nolocal = true;
    filter.preserve_retain = true;
    filter.retain_forward_rule = RetainForwardRule::Never;
    client.subscribe5(filter, Some(42))?;
    client.publish(&topic, &[b"mine".to_vec()], 1, false)?;
    other.publish(&topic, &[b"flag".to_vec()], 1, true)?;
    other.publish(&topic, &[b"end".to_vec()], 1, false)?;
    let messages = client.take_until(b"end")?;
    equal(
        payloads(&messages),
        vec![b"flag".to_vec()],
        "no retained one, none of its own",
    )?;
    equal(messages[0].retain, true, "retain flag as published")?;
    equal(
        &messages[0].properties.subscription_identifiers,
        &vec![42],
        "identifiers",
    )?;
    other.publish(&topic, &[Vec::new()], 1, true)
}

fn assigned_client_id(broker: &Broker, version: Version) -> Outcome {
    let client = Client::connect(broker, version, &Options::default())?;
    match client.assigned.as_deref() {
        Some(id) if !id.is_empty() => client.stop(),
        other => Err(format!("assigned id {other:?}")),
    }
}

fn maximum_packet_size(broker: &Broker, version: Version) -> Outcome {
    let topic = unique("t");
    let mut options = Options {
        client_id: unique("q"),
        ..Options::default()
    };
    options.max_packet_size = Some(200);
    let mut client = Client::connect(broker, version, &options)?;
    client.subscribe(&topic, 1)?;
    let mut publisher = open(broker, version)?;
    publisher.publish(&topic, &[vec![1; 1000], b"end".to_vec()], 1, false)?;
    equal(
        payloads(&client.take_until(b"end")?),
        Vec::new(),
        "packets over the limit",
    )
}

fn will_delay(broker: &Broker, version: Version) -> Outcome {
    let topic = unique("t");
    let mut witness = open(broker, version)?;
    witness.subscribe(&topic, 1)?;
    let mut options = Options {
        client_id: unique("q"),
        keep: true,
        ..Options::default()
    };
    options.will = Some((topic.clone(), "gone", 1));
    options.will_delay = Some(1);
    Client::connect(broker, version, &options)?.kill();
    witness.publish(&topic, &[b"first".to_vec()], 1, false)?;
    equal(
        payloads(&witness.take_until(b"first")?),
        Vec::new(),
        "wills before the delay",
    )?;
    equal(witness.take_one()?.payload, b"gone".to_vec(), "will")
}

type Case = (
    &'static str,
    &'static [Version],
    fn(&Broker, Version) -> Outcome,
);

const BOTH: &[Version] = &[Version::V4, Version::V5];
const ONLY_5: &[Version] = &[Version::V5];

pub const CASES: &[Case] = &[
    ("publish-subscribe", BOTH, publish_subscribe),
    ("a-thousand-in-order", BOTH, a_thousand_in_order),
    ("large-payload", BOTH, large_payload),
    ("retained", BOTH, retained),
    ("will", BOTH, will),
    ("persistent-session", BOTH, persistent_session),
    ("wildcards", BOTH, wildcards),
    ("two-clients-with-one-id", BOTH, two_clients_with_one_id),
    ("unsubscribe", BOTH, unsubscribe),
    ("properties-pass-through", ONLY_5, properties_pass_through),
    ("subscription-options", ONLY_5, subscription_options),
    ("assigned-client-id", ONLY_5, assigned_client_id),
    ("maximum-packet-size", ONLY_5, maximum_packet_size),
    ("will-delay", ONLY_5, will_delay),
];
