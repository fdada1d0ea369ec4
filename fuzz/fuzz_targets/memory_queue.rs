//! Operations on a write queue, against a list of byte vectors.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::memory_queue(data));
