//! Packets that break one rule each, with the answer that the specification wants.
#![cfg(feature = "alloc")]

mod support;

use mqtt_codec::{
    DecodeOptions, Error, ErrorKind as E, PacketType, Role, Scan, Version, decode, decode_connect,
    scan,
};
use support::clause::register;

use Role::{Client, Server};
use Version::{V5, V31, V311};

struct Case {
    what: &'static str,
    version: Version,
    role: Role,
    /// The packet in hexadecimal; blanks and what stands in single quotes are for the reader.
    bytes: &'static str,
    kind: E,
    reason: u8,
    clause: &'static str,
    offset: usize,
}

macro_rules! cases {
    ($($what:literal, $version:ident, $role:ident, $bytes:literal
        => $kind:ident, $reason:literal, $clause:literal, $offset:literal;)*) => {
        &[$(Case {
            what: $what,
            version: $version,
            role: $role,
            bytes: $bytes,
            kind: E::$kind,
            reason: $reason,
            clause: $clause,
            offset: $offset,
        }),*]
    };
}

/// Fixed header, and what every packet has.
const FRAMES: &[Case] = cases! {
    "type 0", V5, Server, "00 00" => ReservedPacketType, 0x81, "MQTT 5.0 section 2.1.2", 0;
    "AUTH in 3.1.1", V311, Server, "F0 00"
        => ReservedPacketType, 0x81, "MQTT 3.1.1 section 2.2.1", 0;
    "AUTH in 3.1", V31, Client, "F0 00" => ReservedPacketType, 0x81, "MQTT 3.1 section 2.1", 0;
    "flags of PINGREQ", V5, Server, "C1 00" => InvalidFlags, 0x81, "MQTT-2.1.3-1", 0;
    "flags of PINGREQ", V311, Server, "C8 00" => InvalidFlags, 0x81, "MQTT-2.2.2-2", 0;
    "flags of PINGREQ", V31, Server, "C2 00" => InvalidFlags, 0x81, "MQTT 3.1 section 2.6", 0;
    "flags of PUBACK", V5, Server, "42 02 0001" => InvalidFlags, 0x81, "MQTT-2.1.3-1", 0;
    "flags of PUBREL", V5, Server, "60 02 0001" => InvalidFlags, 0x81, "MQTT-3.6.1-1", 0;
    "flags of PUBREL", V311, Client, "6A 02 0001" => InvalidFlags, 0x81, "MQTT-3.6.1-1", 0;
    "flags of PUBREL", V31, Client, "60 02 0001" => InvalidFlags, 0x81, "MQTT 3.1 section 2.6", 0;
    "flags of SUBSCRIBE", V5, Server, "80 07 0001 00 0001'a'61 00"
        => InvalidFlags, 0x81, "MQTT-3.8.1-1", 0;
    "flags of SUBSCRIBE", V311, Server, "8A 06 0001 0001'a'61 00"
        => InvalidFlags, 0x81, "MQTT-3.8.1-1", 0;
    "flags of UNSUBSCRIBE", V5, Server, "A0 06 0001 00 0001'a'61"
        => InvalidFlags, 0x81, "MQTT-3.10.1-1", 0;
    "flags of UNSUBSCRIBE", V311, Server, "A3 05 0001 0001'a'61"
        => InvalidFlags, 0x81, "MQTT-3.10.1-1", 0;
    "flags of DISCONNECT", V5, Server, "E1 00" => InvalidFlags, 0x81, "MQTT-3.14.1-1", 0;
    "flags of DISCONNECT", V311, Server, "E2 00" => InvalidFlags, 0x81, "MQTT-3.14.1-1", 0;
    "flags of AUTH", V5, Server, "F1 00" => InvalidFlags, 0x81, "MQTT-3.15.1-1", 0;
    "a fifth length byte", V5, Server, "30 FF FF FF FF 01"
        => VarIntTooLong, 0x81, "MQTT 5.0 section 1.5.5", 1;
    "a padded length", V5, Server, "C0 80 00" => VarIntNotMinimal, 0x81, "MQTT-1.5.5-1", 1;
    "a padded length of PUBLISH", V5, Server, "30 84 00 0001'a'61 00"
        => VarIntNotMinimal, 0x81, "MQTT-1.5.5-1", 1;
    "CONNACK to a server", V5, Server, "20 03 00 00 00"
        => WrongDirection, 0x82, "MQTT 5.0 section 2.1.2", 0;
    "SUBACK to a server", V311, Server, "90 03 0001 00"
        => WrongDirection, 0x82, "MQTT 3.1.1 section 2.2.1", 0;
    "UNSUBACK to a server", V5, Server, "B0 04 0001 00 00"
        => WrongDirection, 0x82, "MQTT 5.0 section 2.1.2", 0;
    "PINGRESP to a server", V31, Server, "D0 00" => WrongDirection, 0x82, "MQTT 3.1 section 2.1", 0;
    "CONNECT to a client", V5, Client, "10 0D 0004'MQTT'4D515454 05 02 0000 00 0000"
        => WrongDirection, 0x82, "MQTT 5.0 section 2.1.2", 0;
    "PINGREQ to a client", V5, Client, "C0 00" => WrongDirection, 0x82, "MQTT 5.0 section 2.1.2", 0;
    "DISCONNECT to a client of 3.1.1", V311, Client, "E0 00"
        => WrongDirection, 0x82, "MQTT 3.1.1 section 2.2.1", 0;
    "a body in PINGREQ", V5, Server, "C0 01 00" => TrailingBytes, 0x81, "MQTT-4.13.1-1", 2;
    "a body in DISCONNECT of 3.1.1", V311, Server, "E0 01 00"
        => TrailingBytes, 0x81, "MQTT-4.8.0-1", 2;
};

const PUBLISHES: &[Case] = cases! {
    "qos 3", V5, Server, "36 06 0001'a'61 0001 00" => QosInvalid, 0x81, "MQTT-3.3.1-4", 0;
    "dup with qos 0", V5, Server, "38 04 0001'a'61 00" => DupWithQos0, 0x81, "MQTT-3.3.1-2", 0;
    "dup with qos 0", V311, Client, "38 03 0001'a'61" => DupWithQos0, 0x81, "MQTT-3.3.1-2", 0;
    "no topic at all", V311, Server, "30 00" => Truncated, 0x81, "MQTT-4.8.0-1", 2;
    "half a topic length", V311, Server, "30 01 00" => Truncated, 0x81, "MQTT-4.8.0-1", 2;
    "a topic that is too short", V5, Server, "30 04 0009'a'61 00"
        => Truncated, 0x81, "MQTT-4.13.1-1", 2;
    "an empty topic", V311, Server, "30 02 0000" => TopicEmpty, 0x82, "MQTT-4.7.3-1", 2;
    "an empty topic", V31, Server, "30 02 0000" => TopicEmpty, 0x82, "MQTT 3.1 section 3.3", 2;
    "an empty topic without alias", V5, Server, "30 03 0000 00"
        => TopicEmpty, 0x82, "MQTT 5.0 section 3.3.2.1", 2;
    "a topic that is not utf-8", V5, Server, "30 05 0002 61FF 00"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 4;
    "a surrogate in a topic", V5, Server, "30 06 0003 EDA080 00"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 4;
    "a surrogate in a topic", V311, Server, "30 05 0003 EDA080"
        => StringNotUtf8, 0x81, "MQTT-1.5.3-1", 4;
    "nul in a topic", V5, Server, "30 05 0002 6100 00" => StringHasNul, 0x81, "MQTT-1.5.4-2", 4;
    "nul in a topic", V311, Server, "30 04 0002 0061" => StringHasNul, 0x81, "MQTT-1.5.3-2", 4;
    "packet identifier 0", V5, Server, "32 06 0001'a'61 0000 00"
        => PacketIdZero, 0x82, "MQTT-2.2.1-3", 5;
    "packet identifier 0", V311, Server, "34 05 0001'a'61 0000"
        => PacketIdZero, 0x82, "MQTT-2.3.1-1", 5;
    "no packet identifier", V311, Server, "32 04 0001'a'61 00"
        => Truncated, 0x81, "MQTT-4.8.0-1", 5;
    "no property length", V5, Server, "30 03 0001'a'61" => Truncated, 0x81, "MQTT-4.13.1-1", 5;
    "properties past the end", V5, Server, "30 05 0001'a'61 05 01"
        => Truncated, 0x81, "MQTT-4.13.1-1", 6;
    "a property past its section", V5, Server, "30 09 0001'a'61 02 02 00000001"
        => Truncated, 0x81, "MQTT-4.13.1-1", 7;
    "a padded property length", V5, Server, "30 05 0001'a'61 8000"
        => VarIntNotMinimal, 0x81, "MQTT-1.5.5-1", 5;
    "a property length of five bytes", V5, Server, "30 08 0001'a'61 80808080 00"
        => VarIntTooLong, 0x81, "MQTT 5.0 section 1.5.5", 5;
    "an unknown property", V5, Server, "30 06 0001'a'61 02 7F 00"
        => UnknownProperty, 0x81, "MQTT 5.0 section 2.2.2.2", 6;
    "a property of CONNECT", V5, Server, "30 09 0001'a'61 05 11 00000000"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 6;
    "a property twice", V5, Server, "30 08 0001'a'61 04 01 00 01 00"
        => DuplicateProperty, 0x82, "MQTT 5.0 section 2.2.2.2", 8;
    "payload format 2", V5, Server, "30 06 0001'a'61 02 01 02"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 6;
    "topic alias 0", V5, Server, "30 07 0001'a'61 03 23 0000"
        => TopicAliasZero, 0x94, "MQTT-3.3.2-8", 6;
    "topic alias twice", V5, Server, "30 0A 0001'a'61 06 23 0001 23 0001"
        => DuplicateProperty, 0x82, "MQTT 5.0 section 2.2.2.2", 9;
    "a wildcard in a response topic", V5, Server, "30 09 0001'a'61 05 08 0002 612B"
        => ResponseTopicInvalid, 0x82, "MQTT-3.3.2-14", 6;
    "a # in a response topic", V5, Server, "30 08 0001'a'61 04 08 0001 23"
        => ResponseTopicInvalid, 0x82, "MQTT-3.3.2-14", 6;
    "an empty response topic", V5, Server, "30 07 0001'a'61 03 08 0000"
        => ResponseTopicInvalid, 0x82, "MQTT-3.3.2-14", 6;
    "a response topic that is not utf-8", V5, Server, "30 08 0001'a'61 04 08 0001 FF"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 9;
    "a content type that is not utf-8", V5, Server, "30 08 0001'a'61 04 03 0001 FF"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 9;
    "nul in a name of a user property", V5, Server, "30 0A 0001'a'61 06 26 0001 00 0000"
        => StringHasNul, 0x81, "MQTT-1.5.4-2", 9;
    "nul in a value of a user property", V5, Server, "30 0A 0001'a'61 06 26 0000 0001 00"
        => StringHasNul, 0x81, "MQTT-1.5.4-2", 11;
    "a user property without value", V5, Server, "30 08 0001'a'61 04 26 0001'a'61"
        => Truncated, 0x81, "MQTT-4.13.1-1", 10;
    "a subscription identifier from a client", V5, Server, "30 06 0001'a'61 02 0B 01"
        => SubscriptionIdFromClient, 0x82, "MQTT-3.3.4-6", 5;
    "subscription identifier 0", V5, Client, "30 06 0001'a'61 02 0B 00"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 6;
    "a padded subscription identifier", V5, Client, "30 07 0001'a'61 03 0B 8100"
        => VarIntNotMinimal, 0x81, "MQTT-1.5.5-1", 7;
};

const CONNECTS: &[Case] = cases! {
    "flags", V5, Server, "11 0D 0004'MQTT'4D515454 05 02 0000 00 0000"
        => InvalidFlags, 0x81, "MQTT-2.1.3-1", 0;
    "a strange name", V5, Server, "10 0D 0004'MQTS'4D515453 05 02 0000 00 0000"
        => UnknownProtocolName, 0x84, "MQTT-3.1.2-1", 2;
    "an empty name", V5, Server, "10 09 0000 05 02 0000 00 0000"
        => UnknownProtocolName, 0x84, "MQTT-3.1.2-1", 2;
    "level 6", V5, Server, "10 0D 0004'MQTT'4D515454 06 02 0000 00 0000"
        => UnsupportedProtocolLevel, 0x84, "MQTT-3.1.2-2", 8;
    "level 3 with the name of 4", V31, Server, "10 0C 0004'MQTT'4D515454 03 02 0000 0000"
        => UnsupportedProtocolLevel, 0x84, "MQTT 3.1 section 3.1", 8;
    "level 4 with the name of 3", V311, Server, "10 0E 0006'MQIsdp'4D5149736470 04 02 0000 0000"
        => UnsupportedProtocolLevel, 0x84, "MQTT-3.1.2-2", 10;
    "the reserved flag", V5, Server, "10 0D 0004'MQTT'4D515454 05 03 0000 00 0000"
        => ConnectReservedFlag, 0x81, "MQTT-3.1.2-3", 9;
    "the reserved flag", V311, Server, "10 0C 0004'MQTT'4D515454 04 03 0000 0000"
        => ConnectReservedFlag, 0x81, "MQTT-3.1.2-3", 9;
    "will qos without will", V5, Server, "10 0D 0004'MQTT'4D515454 05 0A 0000 00 0000"
        => WillQosWithoutWill, 0x81, "MQTT-3.1.2-11", 9;
    "will qos without will", V311, Server, "10 0C 0004'MQTT'4D515454 04 12 0000 0000"
        => WillQosWithoutWill, 0x81, "MQTT-3.1.2-13", 9;
    "will retain without will", V5, Server, "10 0D 0004'MQTT'4D515454 05 22 0000 00 0000"
        => WillRetainWithoutWill, 0x81, "MQTT-3.1.2-13", 9;
    "will retain without will", V311, Server, "10 0C 0004'MQTT'4D515454 04 22 0000 0000"
        => WillRetainWithoutWill, 0x81, "MQTT-3.1.2-15", 9;
    "will qos 3", V5, Server, "10 13 0004'MQTT'4D515454 05 1E 0000 00 0000 00 0001'a'61 0000"
        => WillQosInvalid, 0x81, "MQTT-3.1.2-12", 9;
    "will qos 3", V311, Server, "10 11 0004'MQTT'4D515454 04 1E 0000 0000 0001'a'61 0000"
        => WillQosInvalid, 0x81, "MQTT-3.1.2-14", 9;
    "a password without user name", V311, Server, "10 0E 0004'MQTT'4D515454 04 42 0000 0000 0000"
        => PasswordWithoutUserName, 0x81, "MQTT-3.1.2-22", 9;
    "a password without user name", V31, Server,
        "10 11 0006'MQIsdp'4D5149736470 03 42 0000 0001'a'61 0000"
        => PasswordWithoutUserName, 0x81, "MQTT 3.1 section 3.1", 11;
    "no client identifier field", V5, Server, "10 0B 0004'MQTT'4D515454 05 02 0000 00"
        => Truncated, 0x81, "MQTT-4.13.1-1", 13;
    "an empty identifier that is to stay", V311, Server, "10 0C 0004'MQTT'4D515454 04 00 0000 0000"
        => ClientIdNotValid, 0x85, "MQTT-3.1.3-8", 12;
    "an empty identifier", V31, Server, "10 0E 0006'MQIsdp'4D5149736470 03 02 0000 0000"
        => ClientIdNotValid, 0x85, "MQTT 3.1 section 3.1", 14;
    "an identifier that is not utf-8", V5, Server,
        "10 0F 0004'MQTT'4D515454 05 02 0000 00 0002 C328"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 15;
    "an identifier with nul", V311, Server, "10 0D 0004'MQTT'4D515454 04 02 0000 0001 00"
        => StringHasNul, 0x81, "MQTT-1.5.3-2", 14;
    "an empty will topic", V5, Server, "10 12 0004'MQTT'4D515454 05 06 0000 00 0000 00 0000 0000"
        => TopicEmpty, 0x82, "MQTT-4.7.3-1", 16;
    "a will topic that is not utf-8", V5, Server,
        "10 13 0004'MQTT'4D515454 05 06 0000 00 0000 00 0001 FF 0000"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 18;
    "a will without payload", V311, Server, "10 0F 0004'MQTT'4D515454 04 06 0000 0000 0001'a'61"
        => Truncated, 0x81, "MQTT-4.8.0-1", 17;
    "a user name flag without user name", V5, Server, "10 0D 0004'MQTT'4D515454 05 82 0000 00 0000"
        => Truncated, 0x81, "MQTT-4.13.1-1", 15;
    "a user name flag without user name", V311, Server, "10 0C 0004'MQTT'4D515454 04 82 0000 0000"
        => Truncated, 0x81, "MQTT-4.8.0-1", 14;
    "a user name without flag", V311, Server, "10 0F 0004'MQTT'4D515454 04 02 0000 0000 0001'u'75"
        => TrailingBytes, 0x81, "MQTT-4.8.0-1", 14;
    "a user name that is not utf-8", V5, Server,
        "10 10 0004'MQTT'4D515454 05 82 0000 00 0000 0001 FF"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 17;
    "a password flag without password", V5, Server, "10 0D 0004'MQTT'4D515454 05 42 0000 00 0000"
        => Truncated, 0x81, "MQTT-4.13.1-1", 15;
    "a password without flag", V5, Server,
        "10 12 0004'MQTT'4D515454 05 82 0000 00 0000 0001'u'75 0000"
        => TrailingBytes, 0x81, "MQTT-4.13.1-1", 18;
    "a topic alias", V5, Server, "10 10 0004'MQTT'4D515454 05 02 0000 03 23 0001 0000"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 13;
    "receive maximum 0", V5, Server, "10 10 0004'MQTT'4D515454 05 02 0000 03 21 0000 0000"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 13;
    "maximum packet size 0", V5, Server, "10 12 0004'MQTT'4D515454 05 02 0000 05 27 00000000 0000"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 13;
    "request problem information 2", V5, Server, "10 0F 0004'MQTT'4D515454 05 02 0000 02 17 02 0000"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 13;
    "session expiry twice", V5, Server,
        "10 17 0004'MQTT'4D515454 05 02 0000 0A 11 00000001 11 00000001 0000"
        => DuplicateProperty, 0x82, "MQTT 5.0 section 2.2.2.2", 18;
    "authentication data without method", V5, Server,
        "10 10 0004'MQTT'4D515454 05 02 0000 03 16 0000 0000"
        => AuthMethodMissing, 0x82, "MQTT 5.0 section 3.1.2.11.10", 12;
    "will delay among the properties of CONNECT", V5, Server,
        "10 12 0004'MQTT'4D515454 05 02 0000 05 18 00000001 0000"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 13;
    "session expiry among the properties of the will", V5, Server,
        "10 18 0004'MQTT'4D515454 05 06 0000 00 0000 05 11 00000001 0001'a'61 0000"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 16;
};

const ACKS: &[Case] = cases! {
    "packet identifier 0", V5, Server, "40 02 0000" => PacketIdZero, 0x82, "MQTT-2.2.1-3", 2;
    "packet identifier 0", V311, Server, "50 02 0000" => PacketIdZero, 0x82, "MQTT-2.3.1-1", 2;
    "no packet identifier", V5, Server, "40 00" => Truncated, 0x81, "MQTT-4.13.1-1", 2;
    "a reason in 3.1.1", V311, Server, "40 03 0001 00" => TrailingBytes, 0x81, "MQTT-4.8.0-1", 4;
    "a reason not of PUBACK", V5, Server, "40 03 0001 92"
        => ReasonCodeInvalid, 0x82, "MQTT-3.4.2-1", 4;
    "a reason of nothing", V5, Client, "50 03 0001 7F"
        => ReasonCodeInvalid, 0x82, "MQTT-3.5.2-1", 4;
    "a reason not of PUBREL", V5, Server, "62 03 0001 80"
        => ReasonCodeInvalid, 0x82, "MQTT-3.6.2-1", 4;
    "a reason not of PUBCOMP", V5, Server, "70 03 0001 10"
        => ReasonCodeInvalid, 0x82, "MQTT-3.7.2-1", 4;
    "an alias in PUBACK", V5, Server, "40 07 0001 00 03 23 0001"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 6;
    "a reason string twice", V5, Server, "40 0A 0001 00 06 1F 0000 1F 0000"
        => DuplicateProperty, 0x82, "MQTT 5.0 section 2.2.2.2", 9;
    "bytes behind the properties", V5, Server, "40 05 0001 00 00 00"
        => TrailingBytes, 0x81, "MQTT-4.13.1-1", 6;
    "no code in SUBACK", V5, Client, "90 03 0001 00" => NoReasonCode, 0x82, "MQTT-3.8.4-6", 5;
    "no code in SUBACK", V311, Client, "90 02 0001" => NoReasonCode, 0x82, "MQTT-3.8.4-5", 4;
    "code 3 in SUBACK", V311, Client, "90 04 0001 00 03"
        => ReasonCodeInvalid, 0x82, "MQTT-3.9.3-2", 5;
    "code 3 in SUBACK", V5, Client, "90 04 0001 00 03"
        => ReasonCodeInvalid, 0x82, "MQTT-3.9.3-2", 5;
    "no code in UNSUBACK", V5, Client, "B0 03 0001 00" => NoReasonCode, 0x82, "MQTT-3.11.3-1", 5;
    "code 1 in UNSUBACK", V5, Client, "B0 04 0001 00 01"
        => ReasonCodeInvalid, 0x82, "MQTT-3.11.3-2", 5;
    "a code in UNSUBACK of 3.1.1", V311, Client, "B0 03 0001 00"
        => TrailingBytes, 0x81, "MQTT-4.8.0-1", 4;
    "reserved flags of CONNACK", V5, Client, "20 03 02 00 00"
        => AckFlagsReserved, 0x81, "MQTT-3.2.2-1", 2;
    "reserved flags of CONNACK", V311, Client, "20 02 80 00"
        => AckFlagsReserved, 0x81, "MQTT 3.1.1 section 3.2.2.1", 2;
    "a session in a refusal", V5, Client, "20 03 01 80 00"
        => SessionPresentOnRefusal, 0x82, "MQTT-3.2.2-6", 2;
    "a session in a refusal", V311, Client, "20 02 01 05"
        => SessionPresentOnRefusal, 0x82, "MQTT-3.2.2-4", 2;
    "a reason not of CONNACK", V5, Client, "20 03 00 01 00"
        => ReasonCodeInvalid, 0x82, "MQTT-3.2.2-8", 3;
    "return code 6", V311, Client, "20 02 00 06"
        => ReasonCodeInvalid, 0x82, "MQTT 3.1.1 section 3.2.2.3", 3;
    "maximum qos 2", V5, Client, "20 05 00 00 02 24 02"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 5;
};

const SUBSCRIBES: &[Case] = cases! {
    "packet identifier 0", V5, Server, "82 07 0000 00 0001'a'61 00"
        => PacketIdZero, 0x82, "MQTT-2.2.1-3", 2;
    "packet identifier 0", V311, Server, "A2 05 0000 0001'a'61"
        => PacketIdZero, 0x82, "MQTT-2.3.1-1", 2;
    "no filter", V5, Server, "82 03 0001 00" => NoTopicFilter, 0x82, "MQTT-3.8.3-2", 5;
    "no filter", V311, Server, "82 02 0001" => NoTopicFilter, 0x82, "MQTT-3.8.3-3", 4;
    "no filter", V31, Server, "82 02 0001" => NoTopicFilter, 0x82, "MQTT 3.1 section 3.8", 4;
    "no filter in UNSUBSCRIBE", V5, Server, "A2 03 0001 00"
        => NoTopicFilter, 0x82, "MQTT-3.10.3-2", 5;
    "no filter in UNSUBSCRIBE", V311, Server, "A2 02 0001"
        => NoTopicFilter, 0x82, "MQTT-3.10.3-2", 4;
    "a filter that is not utf-8", V5, Server, "82 07 0001 00 0001 FF 00"
        => StringNotUtf8, 0x81, "MQTT-1.5.4-1", 7;
    "a filter with nul in UNSUBSCRIBE", V5, Server, "A2 06 0001 00 0001 00"
        => StringHasNul, 0x81, "MQTT-1.5.4-2", 7;
    "no options", V5, Server, "82 06 0001 00 0001'a'61" => Truncated, 0x81, "MQTT-4.13.1-1", 8;
    "reserved options", V5, Server, "82 07 0001 00 0001'a'61 40"
        => SubscriptionOptionsReserved, 0x81, "MQTT-3.8.3-5", 8;
    "reserved options", V311, Server, "82 06 0001 0001'a'61 04"
        => SubscriptionOptionsReserved, 0x81, "MQTT-3.8.3-4", 7;
    "qos 3", V5, Server, "82 07 0001 00 0001'a'61 03"
        => SubscriptionQosInvalid, 0x82, "MQTT 5.0 section 3.8.3.1", 8;
    "qos 3", V311, Server, "82 06 0001 0001'a'61 03"
        => SubscriptionQosInvalid, 0x82, "MQTT-3.8.3-4", 7;
    "retain handling 3", V5, Server, "82 07 0001 00 0001'a'61 30"
        => RetainHandlingInvalid, 0x82, "MQTT 5.0 section 3.8.3.1", 8;
    "no-local on a shared subscription", V5, Server,
        "82 10 0001 00 000A'$share/g/a'2473686172652F672F61 04"
        => NoLocalOnShared, 0x82, "MQTT-3.8.3-4", 17;
    "subscription identifier 0", V5, Server, "82 09 0001 02 0B 00 0001'a'61 00"
        => PropertyOutOfRange, 0x82, "MQTT 5.0 section 2.2.2.2", 5;
    "two subscription identifiers", V5, Server, "82 0B 0001 04 0B 01 0B 02 0001'a'61 00"
        => DuplicateProperty, 0x82, "MQTT 5.0 section 2.2.2.2", 7;
    "a subscription identifier in UNSUBSCRIBE", V5, Server, "A2 08 0001 02 0B 01 0001'a'61"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 5;
};

const ENDS: &[Case] = cases! {
    "a reason only for servers", V5, Server, "E0 01 8B"
        => ReasonCodeInvalid, 0x82, "MQTT-3.14.2-1", 2;
    "a reason only for clients", V5, Client, "E0 01 04"
        => ReasonCodeInvalid, 0x82, "MQTT-3.14.2-1", 2;
    "session expiry by a server", V5, Client, "E0 07 00 05 11 00000001"
        => SessionExpiryFromServer, 0x82, "MQTT-3.14.2-2", 3;
    "a server reference by a client", V5, Server, "E0 05 00 03 1C 0000"
        => PropertyNotAllowed, 0x81, "MQTT 5.0 section 2.2.2.2", 3;
    "bytes behind the properties", V5, Server, "E0 03 00 00 00"
        => TrailingBytes, 0x81, "MQTT-4.13.1-1", 4;
    "success by a client", V5, Server, "F0 05 00 03 15 0000"
        => ReasonCodeInvalid, 0x82, "MQTT-3.15.2-1", 2;
    "re-authentication by a server", V5, Client, "F0 05 19 03 15 0000"
        => ReasonCodeInvalid, 0x82, "MQTT-3.15.2-1", 2;
    "no reason by a client", V5, Server, "F0 00" => Truncated, 0x81, "MQTT-4.13.1-1", 2;
    "no properties", V5, Server, "F0 01 18" => Truncated, 0x81, "MQTT-4.13.1-1", 3;
    "no method", V5, Server, "F0 02 18 00"
        => AuthMethodMissing, 0x82, "MQTT 5.0 section 3.15.2.2.2", 3;
};

fn unhex(text: &str) -> Vec<u8> {
    let mut quoted = false;
    let mut digits = text.chars().filter(|&c| {
        quoted ^= c == '\'';
        !quoted && c.is_ascii_hexdigit()
    });
    let mut bytes = vec![];
    while let Some(high) = digits.next() {
        let low = digits.next().expect("digits come in pairs");
        let digit = |c: char| c.to_digit(16).expect("a digit") as u8;
        bytes.push(digit(high) << 4 | digit(low));
    }
    bytes
}

fn decode_case(case: &Case) -> Result<(), Error> {
    let bytes = unhex(case.bytes);
    let frame = match scan(&bytes, u32::MAX)? {
        Scan::Frame(frame) => frame,
        incomplete @ Scan::Incomplete { .. } => panic!("{}: {incomplete:?}", case.what),
    };
    assert_eq!(
        frame.total_len,
        bytes.len(),
        "{}: the length is not right",
        case.what
    );
    if frame.packet_type == PacketType::Connect && case.role == Server {
        return decode_connect(&bytes, &frame, &DecodeOptions::STRICT).map(|_| ());
    }
    decode(&bytes, &frame, case.version, case.role).map(|_| ())
}

#[test]
fn each_malformed_packet_gets_its_answer() {
    let all = [FRAMES, PUBLISHES, CONNECTS, ACKS, SUBSCRIBES, ENDS];
    let mut wrong = vec![];
    for case in all.into_iter().flatten() {
        let what = format!("{} ({}, to a {:?})", case.what, case.version, case.role);
        let Err(error) = decode_case(case) else {
            wrong.push(format!("{what}: accepted"));
            continue;
        };
        let found = (
            error.kind(),
            error.reason() as u8,
            error.clause(),
            error.offset(),
        );
        let wanted = (case.kind, case.reason, case.clause, case.offset);
        if found != wanted {
            wrong.push(format!("{what}:\n  found  {found:?}\n  wanted {wanted:?}"));
        } else if case.clause.starts_with("MQTT-") {
            register(if case.version == V5 { "v5" } else { "v311" }, case.clause);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A kind that no packet here causes would be a rule that nothing checks.
#[test]
fn each_kind_of_error_has_a_packet() {
    let all = [FRAMES, PUBLISHES, CONNECTS, ACKS, SUBSCRIBES, ENDS];
    let seen: Vec<E> = all.into_iter().flatten().map(|case| case.kind).collect();
    for kind in E::ALL {
        let has_test_of_its_own = matches!(kind, E::PacketTooLarge | E::ConnectExpected);
        assert!(
            has_test_of_its_own || seen.contains(kind),
            "{kind:?} has no packet"
        );
    }
}

#[test]
fn a_packet_above_the_limit_is_refused_with_its_fixed_header() {
    clause!("MQTT-3.2.2-15");
    let error = scan(b"\x30\x80\x01", 130).expect_err("131 bytes are above 130");
    assert_eq!(
        (error.kind(), error.reason() as u8),
        (E::PacketTooLarge, 0x95)
    );
    assert_eq!((error.offset(), error.clause()), (1, "MQTT-3.2.2-15"));
    assert!(matches!(
        scan(b"\x30\x80\x01", 131),
        Ok(Scan::Incomplete { missing: 128, .. })
    ));
    assert!(
        scan(b"\x30\xff\xff\xff\x7f", u32::MAX).is_ok(),
        "the largest packet there is"
    );
}

#[test]
fn a_frame_that_is_not_the_packets_is_an_error() {
    let bytes = b"\x30\x03\x00\x01a";
    let Ok(Scan::Frame(frame)) = scan(bytes, 100) else {
        panic!()
    };
    for len in 0..bytes.len() {
        let error = decode(&bytes[..len], &frame, V311, Server).expect_err("cut short");
        assert_eq!(error.kind(), E::Truncated);
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode(&longer, &frame, V311, Server).is_err());
}

#[test]
fn an_unknown_level_says_how_to_answer() {
    for (bytes, version) in [
        ("10 0C 0004'MQTT'4D515454 83 02 0000 0000", V5),
        ("10 0C 0004'MQTT'4D515454 02 02 0000 0000", V31),
    ] {
        let bytes = unhex(bytes);
        let Ok(Scan::Frame(frame)) = scan(&bytes, 100) else {
            panic!()
        };
        let error = decode_connect(&bytes, &frame, &DecodeOptions::STRICT).unwrap_err();
        assert_eq!(error.kind(), E::UnsupportedProtocolLevel);
        assert_eq!(error.version(), Some(version));
    }
}

#[test]
fn a_version_that_is_switched_off_is_an_unsupported_level() {
    let mut options = DecodeOptions::default();
    options.accept_v311 = false;
    let bytes = unhex("10 0C 0004'MQTT'4D515454 04 02 0000 0000");
    let Ok(Scan::Frame(frame)) = scan(&bytes, 100) else {
        panic!()
    };
    assert!(decode_connect(&bytes, &frame, &DecodeOptions::STRICT).is_ok());
    let error = decode_connect(&bytes, &frame, &options).unwrap_err();
    assert_eq!(
        (error.kind(), error.version()),
        (E::UnsupportedProtocolLevel, Some(V311))
    );
}

#[test]
fn an_error_tells_an_operator_what_where_and_why() {
    let bytes = unhex("30 06 0001'a'61 02 01 02");
    let Ok(Scan::Frame(frame)) = scan(&bytes, 100) else {
        panic!()
    };
    let error = decode(&bytes, &frame, V5, Server).unwrap_err();
    assert_eq!(
        error.to_string(),
        "PUBLISH property 0x01 payload format indicator at byte 6: the value of the property is \
         out of range [MQTT 5.0 section 2.2.2.2, 0x82 protocol error]",
    );
}

#[test]
fn a_client_identifier_of_mqtt_3_1_has_23_characters_unless_allowed_more() {
    let connect = |client_id| {
        let connect = mqtt_codec::encode::Connect {
            client_id,
            ..Default::default()
        };
        connect.encode_to_vec(V31)
    };
    let decode = |bytes: &[u8], options| {
        let Ok(Scan::Frame(frame)) = scan(bytes, 100) else {
            panic!()
        };
        decode_connect(bytes, &frame, &options)
            .map(|_| ())
            .map_err(|error| error.kind())
    };
    let (short, long) = (
        connect("aäcdefghijklmnopqrstuvw"),
        connect("aäcdefghijklmnopqrstuvwx"),
    );
    let mut lenient = DecodeOptions::STRICT;
    lenient.v31_long_client_id = true;
    assert_eq!(decode(&short, DecodeOptions::STRICT), Ok(()));
    assert_eq!(
        decode(&long, DecodeOptions::STRICT),
        Err(E::ClientIdNotValid)
    );
    assert_eq!(decode(&long, lenient), Ok(()));
    assert_eq!(decode(&connect(""), lenient), Err(E::ClientIdNotValid));
}

#[test]
fn the_first_packet_is_a_connect() {
    clause!("MQTT-3.1.0-1");
    clause!(v311 "MQTT-3.1.0-1");
    let Ok(Scan::Frame(frame)) = scan(b"\xc0\x00", 100) else {
        panic!()
    };
    let error = decode_connect(b"\xc0\x00", &frame, &DecodeOptions::STRICT).unwrap_err();
    assert_eq!(
        (error.kind(), error.reason() as u8),
        (E::ConnectExpected, 0x82)
    );
    assert_eq!((error.clause(), error.version()), ("MQTT-3.1.0-1", None));
}

/// Every pair of flag and field in a CONNECT: what a flag announces must be there, and what none
/// announces must not.
#[test]
fn a_connect_has_the_fields_that_its_flags_announce() {
    clause!(
        "MQTT-3.1.2-9",
        "MQTT-3.1.2-16",
        "MQTT-3.1.2-17",
        "MQTT-3.1.2-18",
        "MQTT-3.1.2-19"
    );
    clause!(v311 "MQTT-3.1.2-18", "MQTT-3.1.2-19", "MQTT-3.1.2-20", "MQTT-3.1.2-21");
    for (version, properties) in [(V5, &b"\0"[..]), (V311, b"")] {
        for announced in 0..8u8 {
            for there in 0..8u8 {
                let will = [properties, b"\0\x01w\0\x03bye"].concat();
                let fields = [(1, &will[..]), (2, b"\0\x05a-usr"), (4, b"\0\x04pass")];
                let flags = 2 | (announced & 1) << 2 | (announced & 2) << 6 | (announced & 4) << 4;
                let mut body = b"\0\x04MQTT".to_vec();
                body.extend([version.level(), flags, 0, 0]);
                body.extend(properties);
                body.extend(b"\0\x01c");
                fields
                    .iter()
                    .filter(|(bit, _)| there & bit != 0)
                    .for_each(|(_, f)| body.extend(*f));
                let mut packet = vec![0x10, body.len() as u8];
                packet.append(&mut body);
                let Ok(Scan::Frame(frame)) = scan(&packet, 100) else {
                    panic!()
                };
                let decoded = decode_connect(&packet, &frame, &DecodeOptions::STRICT);
                let password_alone = version == V311 && announced & 6 == 4;
                // Fields have no names: a password reads as a user name if that was announced, and
                // a will of MQTT 3.1.1 is two fields like any others.
                let shape = |bits: u8| match version {
                    V5 => (bits & 1, (bits & 6).count_ones()),
                    _ => (0, bits.count_ones() + u32::from(bits & 1)),
                };
                let same_shape = shape(there) == shape(announced);
                let valid = same_shape && !password_alone;
                assert_eq!(
                    decoded.is_ok(),
                    valid,
                    "{version}: {announced:03b} {there:03b}"
                );
            }
        }
    }
}

#[test]
fn a_packet_identifier_of_zero_is_refused_from_either_side() {
    clause!("MQTT-2.2.1-3", "MQTT-2.2.1-4");
    let bytes = b"\x32\x06\0\x01a\0\0\0";
    for role in [Server, Client] {
        let error = support::parse(bytes, V5, role).unwrap_err();
        assert_eq!(error.kind(), E::PacketIdZero);
    }
}
