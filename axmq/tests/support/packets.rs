//! Packets of the plainest kind, for tests that are about something else.

#![allow(dead_code, reason = "each test file uses its part")]

use mqtt_codec::encode::Subscribe;
use mqtt_codec::{PacketId, PublishHead, QoS, RetainHandling, SubscribeFilter, Version};

/// A SUBSCRIBE of one filter, with the lowest packet id.
pub(crate) fn subscribe(version: Version, filter: &str, qos: QoS) -> Vec<u8> {
    let filters = [SubscribeFilter {
        filter,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }];
    let packet = Subscribe {
        packet_id: PacketId::MIN,
        filters: &filters,
        subscription_identifier: None,
        user_properties: &[],
    };
    packet.encode_to_vec(version)
}

/// A PUBLISH at QoS 0.
pub(crate) fn publish(version: Version, topic: &str, payload: &[u8]) -> Vec<u8> {
    let head = PublishHead {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        message_expiry: None,
        subscription_ids: &[],
        topic_alias: None,
        pass_through: &[],
        payload_len: payload.len(),
    };
    head.encode_to_vec(version, payload)
}
