//! The CONNACK that lets a client in. The front looks whether the client takes one so long, the
//! shard sends it.

use mqtt_codec::encode::{ConnAck, ConnAckProperties};
use mqtt_codec::{QoS, ReasonCode};

use crate::config::ListenerRules;
use crate::message::ConnectInfo;
use crate::shard::Shared;

/// The CONNACK for a client that is let in. Where it would be longer than the client takes, what
/// may be left unsaid is [MQTT-3.1.2-24]: the rest binds both sides.
pub(crate) fn success<'a>(
    connect: &'a ConnectInfo,
    shared: &'a Shared,
    session_present: bool,
) -> ConnAck<'a> {
    let mut packet = ConnAck {
        session_present,
        reason: ReasonCode::Success,
        properties: properties(connect, shared),
    };
    if !fits(&packet, connect) {
        packet.properties.response_information = None;
    }
    if !fits(&packet, connect) {
        // The client then sends no aliases.
        packet.properties.topic_alias_maximum = None;
    }
    packet
}

/// Whether the client takes a packet so long.
pub(crate) fn fits(packet: &ConnAck<'_>, connect: &ConnectInfo) -> bool {
    let bytes_max = match connect.packet_bytes_max {
        0 => usize::MAX,
        bytes_max => bytes_max as usize,
    };
    packet.encoded_len(connect.version) <= bytes_max
}

fn properties<'a>(connect: &'a ConnectInfo, shared: &'a Shared) -> ConnAckProperties<'a> {
    let limits = &shared.limits;
    let rules = connect.rules.as_deref();
    // What is not said is available [MQTT-3.2.2-9].
    let lacks = |has: fn(&ListenerRules) -> bool| rules.filter(|r| !has(r)).map(|_| false);
    let enhanced = connect.enhanced.as_deref();
    ConnAckProperties {
        maximum_qos: rules.and_then(|rules| QoS::from_u8(rules.maximum_qos)),
        retain_available: lacks(|rules| rules.retain),
        wildcard_subscription_available: lacks(|rules| rules.wildcard_subscriptions),
        shared_subscription_available: lacks(|rules| rules.shared_subscriptions),
        subscription_identifiers_available: lacks(|rules| rules.subscription_identifiers),
        session_expiry_interval: connect
            .session_expiry_imposed
            .then_some(connect.session_expiry_s),
        receive_maximum: Some(shared.receive_maximum()).filter(|max| *max != u16::MAX),
        maximum_packet_size: Some(limits.packet_bytes),
        assigned_client_id: connect.client_id_assigned.then_some(&*connect.client_id),
        topic_alias_maximum: u16::try_from(limits.topic_aliases)
            .ok()
            .filter(|max| *max != 0),
        response_information: shared
            .protocol
            .response_information
            .as_deref()
            .filter(|_| connect.wants_response_information),
        authentication_method: enhanced.map(|enhanced| enhanced.mechanism.name()),
        authentication_data: enhanced.and_then(|enhanced| enhanced.data.as_deref()),
        server_keep_alive: connect.keep_alive_imposed.then_some(connect.keep_alive_s),
        ..ConnAckProperties::default()
    }
}
