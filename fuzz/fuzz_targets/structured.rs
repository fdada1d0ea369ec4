//! Packets built field by field decode to what they were.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::structured(data));
