//! What `axmq status` says that memory is for: it has to explain what the process takes.

#![cfg(not(loom))]

#[path = "support/packets.rs"]
mod packets;
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use axmq::control::{MemoryUse, Status};
use mqtt_codec::encode::Connect;
use mqtt_codec::{PacketId, PacketType, PublishHead, QoS, Version};

use self::packets::subscribe;
use self::peer::{End, Peer};
use self::support::{Process, TempDir, program};

const CONNECTIONS: u64 = 3_000;
const RETAINED: u64 = 4_000;
const OFFLINE: u64 = 100;
const QUEUED: u64 = 300;
const PAYLOAD: [u8; 400] = [7; 400];
/// The topics that a shard remembers the routes of have their places from the start.
const TABLES: u64 = 4 << 20;

fn client(address: SocketAddr, id: &str, clean_start: bool, filter: &str, qos: QoS) -> Peer {
    let connect = Connect {
        client_id: id,
        clean_start,
        keep_alive: 300,
        ..Connect::default()
    };
    let mut peer = Peer::connect(address, Version::V311, &connect);
    peer.send(&subscribe(Version::V311, filter, qos));
    expect(&mut peer, PacketType::ConnAck);
    expect(&mut peer, PacketType::SubAck);
    peer
}

#[track_caller]
fn expect(peer: &mut Peer, packet: PacketType) {
    let got = peer.receive(|got, _| got.packet_type());
    assert_eq!(got, Ok(packet));
}

/// Publishes at QoS 1, and waits until every shard has it.
fn publish(peer: &mut Peer, topic: &str, retain: bool) {
    let head = PublishHead {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain,
        topic,
        packet_id: Some(PacketId::MIN),
        message_expiry: None,
        subscription_ids: &[],
        topic_alias: None,
        pass_through: &[],
        payload_len: PAYLOAD.len(),
    };
    peer.send(&head.encode_to_vec(Version::V311, &PAYLOAD));
    expect(peer, PacketType::PubAck);
}

fn memory(home: &TempDir) -> MemoryUse {
    let asked = Process::start(program(home).args(["status", "--json"]));
    let (out, err, _) = asked.end();
    assert_eq!(err, "");
    let status: Status = serde_json::from_str(&out).expect("a status");
    status.memory.expect("it was asked for")
}

#[track_caller]
fn within(memory: &MemoryUse, kind: &str, range: RangeInclusive<u64>) {
    let bytes = memory.of(kind);
    assert!(
        range.contains(&bytes),
        "{kind}: {bytes} not in {range:?}; {memory:#?}"
    );
}

#[track_caller]
fn is_explained(memory: &MemoryUse) {
    let tenth = memory.resident_bytes / 10;
    let unexplained = memory.unexplained_bytes.unsigned_abs();
    assert!(unexplained <= tenth, "{unexplained} bytes: {memory:#?}");
    let kinds: u64 = memory.kinds.iter().map(|kind| kind.bytes).sum();
    let sum = kinds.cast_signed() + memory.unexplained_bytes;
    assert_eq!(sum, memory.resident_bytes.cast_signed());
}

#[test]
fn what_is_resident_is_explained_by_kind() {
    let home = TempDir::new();
    // Queues of those that are away stay in memory.
    let lines = "[store]\ndurability = \"none\"\n";
    let options = ["--listen", "127.0.0.1:0", "--shards", "2"];
    let (_process, address) = Process::broker(&home, lines, &options);

    let empty = memory(&home);
    is_explained(&empty);
    within(&empty, "retained", 0..=16 << 10);

    for n in 0..OFFLINE {
        let id = format!("away-{n}");
        let mut peer = client(address, &id, false, "queue/#", QoS::AtLeastOnce);
        peer.send(&[0xE0, 0]);
        assert_eq!(peer.receive(|_, _| ()), Err(End::Closed), "it has gone");
    }
    let mut publisher = client(address, "publisher", true, "none", QoS::AtMostOnce);
    for _ in 0..QUEUED {
        publish(&mut publisher, "queue/all", false);
    }
    for n in 0..RETAINED {
        publish(&mut publisher, &format!("state/{n}/retained"), true);
    }
    let peers: Vec<Peer> = (0..CONNECTIONS)
        .map(|n| {
            let filter = format!("devices/{n}/commands");
            client(
                address,
                &format!("device-{n}"),
                true,
                &filter,
                QoS::AtMostOnce,
            )
        })
        .collect();

    let full = memory(&home);
    is_explained(&full);
    let sessions = CONNECTIONS + OFFLINE + 1;
    let slack = 256 << 10;
    // The sizes that the code asserts of their slots, and at most half as much again.
    within(
        &full,
        "connections",
        72 * CONNECTIONS..=108 * CONNECTIONS + slack,
    );
    // Slot, client id and index; and 32 bytes for each message that waits.
    let queued = OFFLINE * QUEUED * 32;
    within(
        &full,
        "sessions",
        144 * sessions + queued..=216 * sessions + 2 * queued + slack,
    );
    // docs/topicmap.md: about 60 bytes, and 16 in the map of interests, which doubles.
    within(
        &full,
        "subscriptions",
        60 * CONNECTIONS..=120 * CONNECTIONS + TABLES,
    );
    // A node for each topic and each prefix, and the buffer.
    let each = PAYLOAD.len() as u64;
    within(
        &full,
        "retained",
        RETAINED * (each + 200)..=RETAINED * (each + 600),
    );
    // Both shards may keep a message, which is one buffer.
    within(
        &full,
        "queues",
        QUEUED * each..=QUEUED * 2 * (each + 300) + slack,
    );
    within(&full, "timers", 32 * CONNECTIONS..=64 * CONNECTIONS + slack);
    within(&full, "disconnects", OFFLINE * 64..=OFFLINE * 512 + slack);
    assert!(full.pool_vacant_bytes <= full.of("pool"), "{full:#?}");
    assert!(full.of("program") < full.resident_bytes, "{full:#?}");
    drop(peers);
}
