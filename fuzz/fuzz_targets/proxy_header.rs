//! A PROXY header is read, wants more, or is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::proxy_header(data));
