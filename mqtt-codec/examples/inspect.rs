//! Prints the packets of a capture in words, and the error where they stop.
//!
//! ```sh
//! printf '10 0f 00 04 4d515454 05 02 00 3c 00 0002 6869  c0 00' \
//!     | cargo run -p mqtt-codec --example inspect
//! cargo run -p mqtt-codec --example inspect -- --from server --version 3.1.1 capture.bin
//! ```
//!
//! The input is binary, or hexadecimal if it has nothing but digits, blanks and `:`. With
//! `--from client`, the default, a CONNECT sets the version for what follows it.
#![allow(clippy::print_stdout, reason = "this is what the program is for")]

use std::io::Read as _;
use std::process::ExitCode;

use mqtt_codec::{Packet, Publish, Role, Scan, UserProperties, Version, decode, scan};

struct Arguments {
    role: Role,
    version: Version,
    input: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        role: Role::Server,
        version: Version::V5,
        input: None,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--from" => {
                found.role = match rest.next().as_deref() {
                    Some("client") => Role::Server,
                    Some("server") => Role::Client,
                    _ => return Err("--from wants client or server".into()),
                }
            }
            "--version" => {
                found.version = match rest.next().as_deref() {
                    Some("3.1") => Version::V31,
                    Some("3.1.1") => Version::V311,
                    Some("5" | "5.0") => Version::V5,
                    _ => return Err("--version wants 3.1, 3.1.1 or 5.0".into()),
                }
            }
            "-h" | "--help" => {
                return Err(
                    "inspect [--from client|server] [--version 3.1|3.1.1|5.0] [FILE]".into(),
                );
            }
            _ => found.input = Some(argument),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| {
        let bytes = read_input(arguments.input.as_deref()).map_err(|error| error.to_string())?;
        inspect(&from_hex(&bytes).unwrap_or(bytes), &arguments)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn read_input(path: Option<&str>) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    match path {
        None | Some("-") => std::io::stdin().lock().read_to_end(&mut bytes)?,
        Some(path) => std::fs::File::open(path)?.read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// Returns the bytes that hexadecimal text stands for, `None` if it is not such text.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
    let digits: Option<Vec<u8>> = text
        .iter()
        .filter(|byte| !blank(byte))
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Prints packet after packet.
fn inspect(bytes: &[u8], arguments: &Arguments) -> Result<(), String> {
    let (mut version, mut at) = (arguments.version, 0);
    while at < bytes.len() {
        let stopped = |error| format!("{at:>8}  stopped: {error}");
        let frame = match scan(&bytes[at..], u32::MAX).map_err(stopped)? {
            Scan::Frame(frame) => frame,
            Scan::Incomplete { missing, .. } => {
                return Err(format!(
                    "{at:>8}  the last packet lacks at least {missing} bytes"
                ));
            }
        };
        let packet = &bytes[at..at + frame.total_len];
        let view = decode(packet, &frame, version, arguments.role).map_err(stopped)?;
        println!(
            "{at:>8}  {} of {} bytes",
            frame.packet_type, frame.total_len
        );
        if let Packet::Connect(connect) = &view {
            version = connect.version();
        }
        describe(&view, packet);
        at += frame.total_len;
    }
    Ok(())
}

fn describe(view: &Packet<'_>, packet: &[u8]) {
    match view {
        Packet::Connect(connect) => {
            let (version, id) = (connect.version(), connect.client_id());
            line(format_args!(
                "{version}, client {id:?}, user {:?}",
                connect.username()
            ));
            let (clean, keep_alive) = (connect.clean_start(), connect.keep_alive());
            line(format_args!(
                "clean start {clean}, keep alive {keep_alive} s"
            ));
            if let Some(will) = connect.will() {
                let (topic, len) = (will.topic, will.payload.len());
                line(format_args!(
                    "will on {topic:?} with {:?}, {len} bytes",
                    will.qos
                ));
                users(will.properties.user_properties());
            }
            line(format_args!("properties {:?}", connect.properties()));
        }
        Packet::Publish(publish) => describe_publish(publish, packet),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            line(format_args!("id {}, {}", ack.packet_id(), ack.reason()));
            words(ack.reason_string(), ack.user_properties());
        }
        Packet::Subscribe(subscribe) => {
            let number = subscribe.subscription_identifier();
            line(format_args!(
                "id {}, identifier {number:?}",
                subscribe.packet_id()
            ));
            for filter in subscribe.filters() {
                line(format_args!("{filter:?}"));
            }
            users(subscribe.user_properties());
        }
        Packet::Unsubscribe(unsubscribe) => {
            line(format_args!("id {}", unsubscribe.packet_id()));
            for filter in unsubscribe.filters() {
                line(format_args!("{filter:?}"));
            }
            users(unsubscribe.user_properties());
        }
        Packet::SubAck(ack) => {
            line(format_args!("id {}", ack.packet_id()));
            ack.codes().for_each(|code| line(format_args!("{code}")));
            words(ack.reason_string(), ack.user_properties());
        }
        Packet::UnsubAck(ack) => {
            line(format_args!("id {}", ack.packet_id()));
            ack.codes().for_each(|code| line(format_args!("{code}")));
            words(ack.reason_string(), ack.user_properties());
        }
        Packet::ConnAck(connack) => {
            let present = connack.session_present();
            line(format_args!(
                "{}, session present {present}",
                connack.reason()
            ));
            line(format_args!("properties {:?}", connack.properties()));
        }
        Packet::Disconnect(disconnect) => {
            line(format_args!("{}", disconnect.reason()));
            words(disconnect.reason_string(), disconnect.user_properties());
        }
        Packet::Auth(auth) => {
            line(format_args!(
                "{}, method {:?}",
                auth.reason(),
                auth.authentication_method()
            ));
            words(auth.reason_string(), auth.user_properties());
        }
        Packet::PingReq | Packet::PingResp => {}
    }
}

fn describe_publish(publish: &Publish<'_>, packet: &[u8]) {
    let (topic, place) = (publish.topic(), publish.topic_range());
    line(format_args!("topic {topic:?} at {place:?}"));
    let (qos, dup, retain) = (publish.qos(), publish.dup(), publish.retain());
    line(format_args!(
        "{qos:?}, dup {dup}, retain {retain}, id {:?}",
        publish.packet_id()
    ));
    if !publish.properties().is_empty() {
        line(format_args!("properties {:?}", publish.properties()));
    }
    let place = publish.payload_range();
    let shown = &packet[place.clone()][..publish.payload().len().min(48)];
    line(format_args!(
        "payload at {place:?}: {}",
        shown.escape_ascii()
    ));
}

fn words(reason: Option<&str>, properties: UserProperties<'_>) {
    if let Some(reason) = reason {
        line(format_args!("because {reason:?}"));
    }
    users(properties);
}

fn users(properties: UserProperties<'_>) {
    for (name, value) in properties {
        line(format_args!("user property {name:?} = {value:?}"));
    }
}

fn line(text: std::fmt::Arguments<'_>) {
    println!("          {text}");
}
