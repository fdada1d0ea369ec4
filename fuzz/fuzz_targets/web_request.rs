//! A request for a WebSocket is read, wants more, or is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::web_request(data));
