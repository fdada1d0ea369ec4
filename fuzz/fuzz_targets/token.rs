//! An ACL file decides or is diagnosed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::token(data));
