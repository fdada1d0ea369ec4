//! A server reads what a client may have sent, in every version.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::decode_server(data));
