//! Frames of a client come to the same however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::web_frames(data));
