//! Every record comes back as it was written, and no change of a bit goes unnoticed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mqtt_codec::{PacketId, Version};
use pollio::PeerAddr;
use proptest::prelude::*;

use super::*;
use crate::defence::{BanCause, Banned, ClientOf};
use crate::network::Network;

fn any_qos() -> impl Strategy<Value = QoS> {
    (0_u8..3).prop_map(|bits| QoS::from_u8(bits).expect("0 to 2"))
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

/// What the author of a will is made of, owned; without an address he came by a unix socket.
fn any_author() -> impl Strategy<Value = (Option<String>, Option<SocketAddr>, Version, bool)> {
    let version = (3_u8..=5).prop_map(|level| Version::from_level(level).expect("one of three"));
    (
        any::<Option<String>>(),
        any::<Option<SocketAddr>>(),
        version,
        any::<bool>(),
    )
        .prop_map(|(user, address, version, is_whole)| {
            let user = user.map(|user| user.replace('\0', ""));
            (user, address, version, is_whole)
        })
}

/// What a message is made of, owned.
type Message = (String, Vec<u8>, Vec<u8>, QoS, bool, u64);

fn any_message() -> impl Strategy<Value = Message> {
    (
        "[a-z/é]{1,12}",
        any_bytes(),
        any_bytes(),
        any_qos(),
        any::<bool>(),
        any::<u64>(),
    )
}

fn message(parts: &Message) -> MessageRecord<'_> {
    let (topic, properties, payload, qos, retain, expires_at_ms) = parts;
    MessageRecord {
        topic,
        properties,
        payload,
        qos: *qos,
        retain: *retain,
        expires_at_ms: *expires_at_ms,
    }
}

/// A value under its key is accepted, and is not when a bit of it, or of the key, is another.
fn check_bits(space: Space, key: &[u8], value: &[u8], bit: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(check(space, key, value), Ok(()));
    let mut other = value.to_vec();
    let at = bit / 8 % other.len();
    other[at] ^= 1 << (bit % 8);
    prop_assert_eq!(check(space, key, &other), Err(RecordError::Checksum));
    prop_assert!(check(space, key, &value[..at]).is_err());
    let mut other = key.to_vec();
    let at = bit / 8 % other.len();
    other[at] ^= 1 << (bit % 8);
    prop_assert!(check(space, &other, value).is_err());
    Ok(())
}

proptest! {
    #[test]
    fn messages(parts in any_message(), number: u64, bit in 0_usize..4_000) {
        let record = message(&parts);
        let key = key::number(number);
        let value = record.encode(Space::Message, &key);
        prop_assert_eq!(MessageRecord::decode(Space::Message, &key, &value), Ok(record));
        check_bits(Space::Message, &key, &value, bit)?;
        let key = record.topic.as_bytes();
        let value = record.encode(Space::Retained, key);
        check_bits(Space::Retained, key, &value, bit)?;
    }

    #[test]
    fn sessions(
        client_id in "[a-zé]{1,30}",
        is_connected: bool,
        (expiry_s, ends_at_ms, sent) in (any::<u32>(), any::<u64>(), any::<u64>()),
        will in prop::option::of((any_message(), any::<u32>(), any::<u64>(), any::<Option<u32>>())),
        author in prop::option::of(any_author()),
        number: u64,
        bit in 0_usize..4_000,
    ) {
        let will = will.as_ref().map(|(parts, delay_s, due_at_ms, expiry_s)| WillRecord {
            delay_s: *delay_s,
            due_at_ms: *due_at_ms,
            expiry_s: *expiry_s,
            author: author.as_ref().map(|(user, address, version, is_whole)| AuthorRecord {
                user: user.as_deref(),
                peer: address.map_or(PeerAddr::UNIX, PeerAddr::from),
                version: *version,
                is_whole: *is_whole,
            }),
            message: message(parts),
        });
        let client_id = &*client_id;
        let record = SessionRecord { client_id, is_connected, expiry_s, ends_at_ms, sent, will };
        let key = key::number(number);
        let value = record.encode(&key);
        prop_assert_eq!(SessionRecord::decode(&key, &value), Ok(record));
        check_bits(Space::Session, &key, &value, bit)?;
    }

    #[test]
    fn subscriptions(
        filter in "[a-z/+#é$]{1,30}",
        qos in any_qos(),
        (identifier, no_local, retain_as_published) in (any::<u32>(), any::<bool>(), any::<bool>()),
        holder: u64,
        bit in 0_usize..4_000,
    ) {
        let options = SubscriptionOptions { identifier, qos, no_local, retain_as_published };
        let key = key::subscription(holder, &filter);
        prop_assert_eq!(key::read_subscription(&key), Ok((holder, &*filter)));
        let value = encode_subscription(&key, options);
        prop_assert_eq!(decode_subscription(&key, &value), Ok(options));
        check_bits(Space::Subscription, &key, &value, bit)?;
    }

    #[test]
    fn queued_messages(
        (message, cost, retain) in (any::<u64>(), any::<u32>(), any::<bool>()),
        qos in any_qos(),
        identifiers in prop::collection::vec(any::<u32>(), 0..5),
        group in prop::option::of(("[a-z/+#$]{1,30}", any::<u64>())),
        (holder, number) in (any::<u64>(), any::<u64>()),
        bit in 0_usize..4_000,
    ) {
        let group = group.as_ref().map(|(text, place)| (&**text, *place));
        let queued = QueuedRecord { message, cost, qos, retain, identifiers, group };
        let key = key::queue(holder, number);
        prop_assert_eq!(key::read_queue(&key), Ok((holder, number)));
        for record in [QueueRecord::Message(queued), QueueRecord::Released] {
            let value = record.encode(&key);
            prop_assert_eq!(QueueRecord::decode(&key, &value), Ok(record));
            check_bits(Space::Queue, &key, &value, bit)?;
        }
    }

    #[test]
    fn incoming_ids(
        holder: u64,
        id in 1_u16..,
        digest: u32,
        bit in 0_usize..4_000,
    ) {
        let id = PacketId::new(id).expect("not zero");
        let at = key::incoming(holder, id);
        prop_assert_eq!(key::read_incoming(&at), Ok((holder, id)));
        let value = encode_incoming(&at, digest);
        prop_assert_eq!(decode_incoming(&at, &value), Ok(digest));
        check_bits(Space::Incoming, &at, &value, bit)?;
    }

    #[test]
    fn groups(text in "[a-z/+#é$]{1,30}", holder: u64, bit in 0_usize..4_000) {
        let key = key::number(holder);
        let value = encode_group(&key, &text);
        prop_assert_eq!(decode_group(&key, &value), Ok(&*text));
        check_bits(Space::Group, &key, &value, bit)?;
    }

    #[test]
    fn bans(
        host: u64,
        (first, bits) in (any::<u128>(), 0_u32..=128),
        client_id in prop::option::of("[a-z/+#é$]{1,30}"),
        (until_ms, times, cause) in (any::<u64>(), any::<u8>(), 0_u8..6),
        bit in 0_usize..4_000,
    ) {
        let cause = BanCause::of_number(cause).expect("0 to 5");
        let record = BanRecord { until_ms, times, cause };
        let ip = IpAddr::from(Ipv6Addr::from(u128::from(host) << 64));
        let network = Network::around(Ipv6Addr::from(first).into(), bits);
        let mut banned = vec![Banned::Host(ip.into())];
        banned.extend(Banned::try_from(network));
        banned.extend(client_id.map(|id| Banned::Client(ClientOf {
            host: ip.into(),
            id: id.into(),
        })));
        for who in banned {
            let key = key::ban(&who);
            prop_assert_eq!(key::read_ban(&key), Ok(who));
            let value = record.encode(&key);
            prop_assert_eq!(BanRecord::decode(&key, &value), Ok(record));
            check_bits(Space::Ban, &key, &value, bit)?;
        }
    }

    /// Bytes of any kind under a right checksum: no panic, and what is accepted is written the
    /// same.
    #[test]
    fn any_body(
        space in 0_usize..10,
        body in prop::collection::vec(any::<u8>(), 0..80),
        key in prop_oneof![
            any::<[u8; 8]>().prop_map(Vec::from),
            any::<(u64, [u8; 2])>().prop_map(|(first, id)| {
                [&first.to_be_bytes()[..], &[0; 8], &[64], &id].concat()
            }),
            any_bytes(),
        ],
    ) {
        let space = Space::ALL[space];
        let value = seal(space, &key, |out| out.extend_from_slice(&body));
        if check(space, &key, &value).is_ok() {
            match space {
                Space::Session => {
                    let record = SessionRecord::decode(&key, &value).expect("checked");
                    prop_assert_eq!(record.encode(&key), value);
                }
                Space::Message | Space::Retained => {
                    let record = MessageRecord::decode(space, &key, &value).expect("checked");
                    prop_assert_eq!(record.encode(space, &key), value);
                }
                Space::Ban => {
                    let record = BanRecord::decode(&key, &value).expect("checked");
                    prop_assert_eq!(record.encode(&key), value);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn keys_are_in_the_order_of_their_numbers() {
    assert!(key::queue(1, u64::MAX) < key::queue(2, 0));
    assert!(key::queue(7, 255) < key::queue(7, 256));
    assert_eq!(key::read_holder(&key::queue(7, 256)), Ok(7));
    assert_eq!(key::read_number(&key::number(7)), Ok(7));
    assert_eq!(key::read_number(&[0; 9]), Err(RecordError::Key));
}

#[test]
fn a_ban_has_one_key_and_no_other() {
    let key_of = |text: &str, id: &[u8]| {
        let network: Network = text.parse().expect("a range");
        let mut key = network.first().to_be_bytes().to_vec();
        key.push(u8::try_from(network.bits()).expect("no more than 128"));
        key.extend_from_slice(id);
        key
    };
    for (text, id) in [
        ("192.0.2.7", ""),
        ("192.0.2.7", "c"),
        ("192.0.2.0/24", ""),
        ("2001:db8::/64", "c"),
        ("2001:db8::/48", ""),
        ("::/0", ""),
    ] {
        let key = key_of(text, id.as_bytes());
        let who = key::read_ban(&key).expect(text);
        assert_eq!(key::ban(&who), key);
    }
    for (text, id) in [
        // That is banned with its /64.
        ("2001:db8::1", &b""[..]),
        ("2001:db8::/65", b""),
        // A client is behind one host, and its id is a text.
        ("192.0.2.0/24", b"c"),
        ("192.0.2.7", b"\xFF"),
        ("192.0.2.7", b"\0"),
    ] {
        let found = key::read_ban(&key_of(text, id));
        assert_eq!(found, Err(RecordError::Key), "{text}");
    }
    let mut key = key_of("192.0.2.0/24", b"");
    key[15] = 1;
    assert_eq!(key::read_ban(&key), Err(RecordError::Key), "not the lowest");
    key.truncate(16);
    assert_eq!(key::read_ban(&key), Err(RecordError::Key));
}

#[test]
fn an_unknown_version_says_so() {
    let key = key::number(1);
    let mut value = vec![9, 0];
    let crc = checksum(Space::Session, &key, &value);
    value.extend_from_slice(&crc.to_be_bytes());
    let error = SessionRecord::decode(&key, &value).unwrap_err();
    assert_eq!(error, RecordError::Version(9));
    assert_eq!(error.to_string(), "unknown version 9");
}

/// RFC 3720, appendix B.4: what was written once has to be read by all later versions.
#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(CRC_32C.checksum(b"123456789"), 0xE306_9283);
    assert_eq!(CRC_32C.checksum(&[0; 32]), 0x8A91_36AA);
    assert_eq!(CRC_32C.checksum(&[0xFF; 32]), 0x62A8_AB43);
}
