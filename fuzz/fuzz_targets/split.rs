//! A stream cut anywhere is scanned the same in the end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::split(data));
