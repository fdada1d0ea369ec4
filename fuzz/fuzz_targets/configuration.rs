//! A configuration file is loaded or diagnosed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::configuration(data));
