//! Writes a view again through the encoders, field by field.
//!
//! Encoders write properties in an order of their own, so the result is the canonical form of the
//! packet: writing what was decoded from it gives the same bytes.

use mqtt_codec::{
    Ack, Connect, Packet, PacketType, Publish, PublishHead, ReasonCode, SubscribeFilter, Version,
    encode,
};

/// Returns the packet in its canonical form.
pub(crate) fn reencode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    match packet {
        Packet::Connect(view) => connect(view),
        Packet::ConnAck(view) => connack(view, version),
        Packet::Publish(view) => publish(view, version),
        Packet::PubAck(view) => ack(PacketType::PubAck, view, version),
        Packet::PubRec(view) => ack(PacketType::PubRec, view, version),
        Packet::PubRel(view) => ack(PacketType::PubRel, view, version),
        Packet::PubComp(view) => ack(PacketType::PubComp, view, version),
        Packet::Subscribe(view) => {
            let filters: Vec<SubscribeFilter<'_>> = view.filters().collect();
            assert_eq!(filters.len(), view.filters().len());
            let user: Vec<_> = view.user_properties().collect();
            encode::Subscribe {
                packet_id: view.packet_id(),
                filters: &filters,
                subscription_identifier: view.subscription_identifier(),
                user_properties: &user,
            }
            .encode_to_vec(version)
        }
        Packet::SubAck(view) => {
            let codes: Vec<ReasonCode> = view.codes().collect();
            let user: Vec<_> = view.user_properties().collect();
            encode::SubAck {
                packet_id: view.packet_id(),
                codes: &codes,
                reason_string: view.reason_string(),
                user_properties: &user,
            }
            .encode_to_vec(version)
        }
        Packet::Unsubscribe(view) => {
            let filters: Vec<&str> = view.filters().collect();
            assert_eq!(filters.len(), view.filters().len());
            let user: Vec<_> = view.user_properties().collect();
            encode::Unsubscribe {
                packet_id: view.packet_id(),
                filters: &filters,
                user_properties: &user,
            }
            .encode_to_vec(version)
        }
        Packet::UnsubAck(view) => {
            let codes: Vec<ReasonCode> = view.codes().collect();
            let user: Vec<_> = view.user_properties().collect();
            encode::UnsubAck {
                packet_id: view.packet_id(),
                codes: &codes,
                reason_string: view.reason_string(),
                user_properties: &user,
            }
            .encode_to_vec(version)
        }
        Packet::PingReq => mqtt_codec::PING_REQ.to_vec(),
        Packet::PingResp => mqtt_codec::PING_RESP.to_vec(),
        Packet::Disconnect(view) => {
            let user: Vec<_> = view.user_properties().collect();
            encode::Disconnect {
                reason: view.reason(),
                reason_string: view.reason_string(),
                server_reference: view.server_reference(),
                session_expiry_interval: view.session_expiry_interval(),
                user_properties: &user,
            }
            .encode_to_vec(version)
        }
        Packet::Auth(view) => {
            let user: Vec<_> = view.user_properties().collect();
            encode::Auth {
                reason: view.reason(),
                authentication_method: view.authentication_method(),
                authentication_data: view.authentication_data(),
                reason_string: view.reason_string(),
                user_properties: &user,
            }
            .encode_to_vec(version)
        }
    }
}

fn ack(packet_type: PacketType, view: &Ack<'_>, version: Version) -> Vec<u8> {
    let user: Vec<_> = view.user_properties().collect();
    encode::AckPacket {
        packet_type,
        packet_id: view.packet_id(),
        reason: view.reason(),
        reason_string: view.reason_string(),
        user_properties: &user,
    }
    .encode_to_vec(version)
}

fn publish(view: &Publish<'_>, version: Version) -> Vec<u8> {
    let properties = view.properties();
    let ids: Vec<u32> = properties.subscription_identifiers().collect();
    let pass_through = properties.pass_through().collect::<Vec<_>>().concat();
    assert_eq!(pass_through.len(), properties.pass_through().byte_len());
    assert_eq!(
        properties.is_pass_through(),
        pass_through.len() == properties.raw().len()
    );
    PublishHead {
        dup: view.dup(),
        qos: view.qos(),
        retain: view.retain(),
        topic: view.topic(),
        packet_id: view.packet_id(),
        message_expiry: properties.message_expiry_interval(),
        subscription_ids: &ids,
        topic_alias: properties.topic_alias(),
        pass_through: &pass_through,
        payload_len: view.payload().len(),
    }
    .encode_to_vec(version, view.payload())
}

fn connect(view: &Connect<'_>) -> Vec<u8> {
    let properties = view.properties();
    let user: Vec<_> = properties.user_properties().collect();
    let will_user: Vec<_> = view
        .will()
        .iter()
        .flat_map(|will| will.properties.user_properties())
        .collect();
    let will = view.will().map(|will| encode::Will {
        topic: will.topic,
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        properties: encode::WillProperties {
            delay_interval: will.properties.delay_interval(),
            payload_format_indicator: will.properties.payload_format_indicator(),
            message_expiry_interval: will.properties.message_expiry_interval(),
            content_type: will.properties.content_type(),
            response_topic: will.properties.response_topic(),
            correlation_data: will.properties.correlation_data(),
            user_properties: &will_user,
        },
    });
    encode::Connect {
        client_id: view.client_id(),
        clean_start: view.clean_start(),
        keep_alive: view.keep_alive(),
        username: view.username(),
        password: view.password(),
        will,
        properties: encode::ConnectProperties {
            session_expiry_interval: properties.session_expiry_interval(),
            receive_maximum: properties.receive_maximum(),
            maximum_packet_size: properties.maximum_packet_size(),
            topic_alias_maximum: properties.topic_alias_maximum(),
            request_response_information: Some(properties.request_response_information()),
            request_problem_information: Some(properties.request_problem_information()),
            user_properties: &user,
            authentication_method: properties.authentication_method(),
            authentication_data: properties.authentication_data(),
        },
    }
    .encode_to_vec(view.version())
}

fn connack(view: &mqtt_codec::ConnAck<'_>, version: Version) -> Vec<u8> {
    let properties = view.properties();
    let user: Vec<_> = properties.user_properties().collect();
    encode::ConnAck {
        session_present: view.session_present(),
        reason: view.reason(),
        properties: encode::ConnAckProperties {
            session_expiry_interval: properties.session_expiry_interval(),
            receive_maximum: properties.receive_maximum(),
            maximum_qos: properties.maximum_qos(),
            retain_available: properties.retain_available(),
            maximum_packet_size: properties.maximum_packet_size(),
            assigned_client_id: properties.assigned_client_id(),
            topic_alias_maximum: properties.topic_alias_maximum(),
            reason_string: properties.reason_string(),
            user_properties: &user,
            wildcard_subscription_available: properties.wildcard_subscription_available(),
            subscription_identifiers_available: properties.subscription_identifiers_available(),
            shared_subscription_available: properties.shared_subscription_available(),
            server_keep_alive: properties.server_keep_alive(),
            response_information: properties.response_information(),
            server_reference: properties.server_reference(),
            authentication_method: properties.authentication_method(),
            authentication_data: properties.authentication_data(),
        },
    }
    .encode_to_vec(version)
}
