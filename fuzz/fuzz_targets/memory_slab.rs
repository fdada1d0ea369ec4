//! Operations on a slab, against a hash map of every key that was ever made.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::memory_slab(data));
