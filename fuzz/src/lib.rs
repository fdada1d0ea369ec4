//! What the targets do. The code is that of the codec's own tests, which replay the seeds.
#![allow(dead_code, reason = "each target uses a part of it")]

mod memory;

#[path = "../../mqtt-codec/tests/support/reencode.rs"]
mod reencode;

#[path = "../../mqtt-codec/tests/support/exercise.rs"]
mod shared;

#[path = "../../topicmap/tests/model/mod.rs"]
mod model;

#[path = "../../axmq/src/front/proxy.rs"]
mod proxy;

#[path = "../../axmq/src/transport/frames.rs"]
mod frames;
#[path = "../../axmq/src/transport/upgrade.rs"]
mod upgrade;

mod auth;
mod configuration;
mod storage;
mod structured;
mod topics;
mod web;

/// The targets, a function each.
pub mod exercise {
    use crate::shared;

    /// A server reads a stream: the first byte chooses the version, the rest is what came.
    pub fn decode_server(data: &[u8]) {
        shared::decode_server(data);
    }

    /// The same for a client.
    pub fn decode_client(data: &[u8]) {
        shared::decode_client(data);
    }

    /// What decodes can be written and decodes again.
    pub fn roundtrip(data: &[u8]) {
        shared::roundtrip(data);
    }

    /// However a stream is cut, it is scanned the same in the end.
    pub fn split(data: &[u8]) {
        shared::split(data);
    }

    /// A write queue answers as a list of byte vectors does.
    pub fn memory_queue(data: &[u8]) {
        crate::memory::run_queue(data);
    }

    /// A slab answers as a hash map does.
    pub fn memory_slab(data: &[u8]) {
        crate::memory::run_slab(data);
    }

    /// A packet built field by field.
    pub fn structured(data: &[u8]) {
        crate::structured::packet(data);
    }

    /// Operations on a `TopicMap`.
    pub fn topic_map(data: &[u8]) {
        crate::topics::map(data);
    }

    /// Operations on a `TopicStore`.
    pub fn topic_store(data: &[u8]) {
        crate::topics::store(data);
    }

    /// A record of the store.
    pub fn store_record(data: &[u8]) {
        crate::storage::record(data);
    }

    /// The broker's configuration file.
    pub fn configuration(data: &[u8]) {
        crate::configuration::load(data);
    }

    /// An ACL file.
    pub fn acl_file(data: &[u8]) {
        crate::auth::acl(data);
    }

    /// A password file.
    pub fn password_file(data: &[u8]) {
        crate::auth::passwords(data);
    }

    /// A request for a WebSocket.
    pub fn web_request(data: &[u8]) {
        crate::web::request(data);
    }

    /// Frames of a client of a WebSocket.
    pub fn web_frames(data: &[u8]) {
        crate::web::frames(data);
    }

    /// Keys and a token, with a NUL between them.
    pub fn token(data: &[u8]) {
        crate::auth::token(data);
    }

    /// What a proxy says of its client: however it is cut, it is read the same, and what wants more
    /// is the beginning of something.
    pub fn proxy_header(data: &[u8]) {
        use crate::proxy;

        let whole = proxy::read(data);
        let Ok(Some(header)) = whole else {
            return;
        };
        assert!(header.len <= data.len());
        for len in 0..header.len {
            assert_eq!(proxy::read(&data[..len]), Ok(None));
        }
        assert_eq!(proxy::read(&data[..header.len]), whole);
    }
}
