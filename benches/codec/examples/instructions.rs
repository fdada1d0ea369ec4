//! Decodes one packet again and again, for a tool that counts instructions.
//!
//! ```sh
//! cargo build --profile bench -p bench-codec --example instructions
//! for n in 100000 200000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!         target/release/examples/instructions ours connect $n
//! done
//! ```
//!
//! The difference of two counts, divided by that of the numbers, is what one decode takes. Every
//! string is read, so that those who make a `str` early and those who make it late are alike.

use std::hint::black_box;
use std::process::ExitCode;

use bench_codec::{rivals, samples};
use mqtt_codec::Version;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [contender, workload, times] = &arguments[..] else {
        eprintln!("instructions ours|mqttrs connect|publish-16|publish-256|publish-16384 TIMES");
        return ExitCode::FAILURE;
    };
    let bytes = match workload.strip_prefix("publish-") {
        Some(payload) => {
            let payload = payload.parse().expect("a number of bytes");
            samples::publish(Version::V311, payload, 0)
        }
        None => samples::connect(Version::V311),
    };
    let times: u64 = times.parse().expect("a number");
    for _ in 0..times {
        match contender.as_str() {
            "ours" => {
                rivals::with_ours(black_box(&bytes), Version::V311, rivals::ours_fields);
            }
            _ => rivals::with_mqttrs(black_box(&bytes), rivals::mqttrs_fields),
        }
    }
    ExitCode::SUCCESS
}
