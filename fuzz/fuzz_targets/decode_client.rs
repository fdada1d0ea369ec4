//! A client reads what a server may have sent, in every version.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::decode_client(data));
