//! A password file is read or diagnosed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::password_file(data));
