//! What decodes can be written, and decodes again to the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::roundtrip(data));
