//! Tries rumqttc on a running broker: `try-rumqttc HOST PORT [CAFILE]`, by TLS where a file with
//! the authority of its certificate is named, and by WebSocket where the host is
//! `ws://HOST:PORT/PATH` or the same with `wss`.
//!
//! Starts no broker. Prints a line a case and a line with the sum; the exit code is 1 if a case
//! failed and 2 if it was called wrongly.
#![forbid(unsafe_code)]

mod cases;
mod client;

use std::process::ExitCode;

use client::{Broker, Version};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([host, port], cafile) = match arguments.as_slice() {
        [host, port] => ([host, port], None),
        [host, port, cafile] => ([host, port], Some(cafile)),
        _ => {
            eprintln!("usage: try-rumqttc HOST PORT [CAFILE]");
            return ExitCode::from(2);
        }
    };
    let authority = match cafile.map(std::fs::read).transpose() {
        Ok(authority) => authority,
        Err(error) => {
            eprintln!("cannot read the authority: {error}");
            return ExitCode::from(2);
        }
    };
    let Ok(port) = port.parse() else {
        eprintln!("not a port: {port}");
        return ExitCode::from(2);
    };
    let broker = Broker {
        host: host.clone(),
        port,
        authority,
        is_web: host.starts_with("ws"),
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, versions, case) in cases::CASES {
        for version in *versions {
            let label = if *version == Version::V4 {
                "3.1.1"
            } else {
                "5.0"
            };
            match case(&broker, *version) {
                Ok(()) => {
                    passed += 1;
                    println!("ok {name} rumqttc {label}");
                }
                Err(why) => {
                    failed += 1;
                    println!("FAILED {name} rumqttc {label}: {why}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
