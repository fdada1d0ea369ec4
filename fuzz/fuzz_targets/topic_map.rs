//! Operations on a `TopicMap` against its model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::topic_map(data));
