//! Operations on a `TopicStore` against its model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::exercise::topic_store(data));
