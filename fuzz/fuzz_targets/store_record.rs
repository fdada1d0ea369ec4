//! Records of the store are read or refused, and nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::store_record(data));
