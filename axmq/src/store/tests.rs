//! The store on a disk with faults: what is durable when, and what becomes of it.

mod bans;
mod faults;
mod model;
mod upgrades;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mqtt_codec::{PacketId, QoS, Version};
use pollio::sim::{SimBackend, SimNet, SimStream};
use pollio::{PeerAddr, Reactor, ReactorOptions, Receiver, Sender, mailbox};
use slabmem::Key;

use super::engine::{Engine, EngineError, Space, WriteBatch};
use super::keeper::Keeper;
use super::memory::{MemoryDisk, MemoryEngine, MemoryPlace as TestDisk, Weather};
use super::op::{Health, Op, OpBatch, PlaceOp, QueueOp, SessionOp, Stored, ToStore, WillOp};
use super::record::{key, seal};
use super::recover::{Recovery, Restored};
use super::server::{StoreParts, StoreServer};
use super::upgrade::{FORMAT, FormatError, format_of, upgrade};
use super::{StoreFigures, WallClock};
use crate::hooks::{Author, Grant};
use crate::message::ToShard;
use crate::publication::{Parts, Publication};

const MS: u64 = 1_000_000;
/// What the clocks show when the store starts.
const NOW_MS: u64 = 1_000;
const WALL_MS: u64 = 1_700_000_000_000;

fn clock() -> WallClock {
    WallClock::new(WALL_MS, NOW_MS)
}

/// A store and the shards that talk to it, all on one thread.
struct Rig {
    net: SimNet,
    reactor: Reactor<SimBackend>,
    server: StoreServer<TestDisk, SimStream>,
    store: Sender<ToStore>,
    shards: Vec<Receiver<ToShard<SimStream>>>,
    figures: Arc<StoreFigures>,
    numbers: Vec<u64>,
}

impl Rig {
    fn new(disk: &TestDisk) -> Self {
        Self::with_keeper(disk, Keeper::new(clock(), HashMap::new()))
    }

    fn with_keeper(disk: &TestDisk, keeper: Keeper) -> Self {
        let net = SimNet::new(1);
        let backend = net.backend();
        let waker = pollio::Backend::waker(&backend);
        let (store, receiver) = mailbox(1, waker);
        let mut shards = Vec::new();
        let mut senders = Vec::new();
        for _ in 0..2 {
            let (sender, receiver) = mailbox(1, pollio::Backend::waker(&net.backend()));
            senders.push(sender);
            shards.push(receiver);
        }
        let figures = Arc::new(StoreFigures::default());
        let parts = StoreParts {
            disk: disk.clone(),
            engine: disk.disk.open(),
            keeper,
            clock: clock(),
            interval_ms: 50,
            receiver,
            shards: senders,
            figures: Arc::clone(&figures),
        };
        Self {
            reactor: Reactor::new(backend, ReactorOptions::default()),
            net,
            server: StoreServer::new(parts),
            store,
            shards,
            figures,
            numbers: vec![0; 2],
        }
    }

    fn say(&mut self, from: u16, is_urgent: bool, ops: Vec<Op>) -> u64 {
        let number = &mut self.numbers[usize::from(from)];
        *number += 1;
        let number = *number;
        self.store.push_unbounded(ToStore::Batch(OpBatch {
            from,
            number,
            cost: 10,
            is_urgent,
            ops,
        }));
        number
    }

    fn turn(&mut self) {
        self.reactor
            .turn_within(&mut self.server, Some(0))
            .expect("the simulated wait never fails");
    }

    fn sleeps_ns(&mut self) -> Option<u64> {
        self.reactor.sleep_ns(&mut self.server)
    }

    fn answers(&mut self, shard: usize) -> Vec<Stored> {
        let mut mail = Vec::new();
        self.shards[shard].drain_into(&mut mail);
        let stored = mail.into_iter().map(|mail| match mail {
            ToShard::Stored(stored) => stored,
            other => panic!("the store says {other:?}"),
        });
        stored.collect()
    }

    /// The newest batch that a shard was told to be durable, in the answers that have come.
    fn durable(&mut self, shard: usize) -> Option<u64> {
        self.answers(shard).last().map(|stored| stored.up_to)
    }
}

fn message(number: u64, topic: &str, payload: &str) -> Publication {
    let parts = Parts {
        topic,
        properties: std::iter::empty(),
        payload: payload.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at_ms: 0,
    };
    let mut publication = Publication::from_parts(parts, None);
    publication.set_number(number);
    publication
}

fn session(holder: u64, client_id: &str) -> Op {
    Op::Session(Box::new(SessionOp {
        holder,
        client_id: client_id.into(),
        is_connected: false,
        expiry_s: 100,
        ends_at_ms: NOW_MS + 100_000,
        sent: 0,
        will: None,
    }))
}

fn queue(holder: u64, number: u64, message: u64, is_staged: bool) -> Op {
    Op::Queue(QueueOp {
        holder,
        number,
        message,
        cost: 7,
        qos: QoS::AtLeastOnce,
        retain: false,
        is_staged,
        extra: None,
    })
}

fn dequeue(holder: u64, number: u64, message: u64) -> Op {
    Op::Dequeue(PlaceOp {
        holder,
        number,
        message,
    })
}

fn said(number: u64) -> Op {
    Op::Message(Box::new(message(number, "t", "payload")))
}

/// What a start on this disk finds.
fn recovered(disk: &MemoryDisk) -> (Vec<Restored>, Vec<Publication>, u64) {
    let mut engine = disk.open();
    let mut recovery = begin(&mut engine).expect("it starts");
    let (mut sessions, mut retained) = (Vec::new(), Vec::new());
    recovery.sessions(|session| sessions.push(session)).unwrap();
    recovery
        .retained(|publication| retained.push(publication))
        .unwrap();
    let (_, aside) = recovery.finish().unwrap();
    (sessions, retained, aside)
}

fn begin(engine: &mut MemoryEngine) -> Result<Recovery<'_, MemoryEngine>, FormatError> {
    Recovery::begin(engine, clock(), NOW_MS, [7; 16])
}

#[test]
fn who_wrote_a_will_is_known_after_a_restart_where_a_name_says_it_all() {
    for (grant, expected) in [
        (None, Some(None)),
        (Some(Grant::to("ann")), Some(Some("ann"))),
        (Some(Grant::to("ann").with_data(5_u8)), None),
    ] {
        let disk = TestDisk::default();
        let mut rig = Rig::new(&disk);
        let mut op = session(1, "a");
        if let Op::Session(session) = &mut op {
            session.will = Some(WillOp {
                publication: message(0, "w", "x"),
                delay_s: 0,
                due_at_ms: 0,
                expiry_s: None,
                author: Some(Box::new(Author {
                    peer: PeerAddr::UNIX,
                    version: Version::V311,
                    grant: grant.map(Arc::new),
                })),
            });
        }
        rig.say(0, true, vec![op]);
        rig.turn();
        let (sessions, ..) = recovered(&disk.disk);
        let will = sessions[0].will.as_ref().expect("it has one");
        let author = will.author.as_deref();
        let found = author.map(|author| {
            assert_eq!(
                (author.peer, author.version),
                (PeerAddr::UNIX, Version::V311)
            );
            author.grant.as_deref().and_then(Grant::identity)
        });
        assert_eq!(found, expected);
    }
}

#[test]
fn one_sync_makes_all_that_came_durable_and_then_the_shards_are_told() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let first = rig.say(0, true, vec![session(1, "a")]);
    let second = rig.say(0, true, vec![session(2, "b")]);
    let other = rig.say(1, false, vec![session(3, "c")]);
    rig.turn();
    assert_eq!(disk.disk.syncs(), 1);
    assert_eq!(disk.disk.unsynced(), 0);
    let answers = rig.answers(0);
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].up_to, answers[0].cost), (second, 20));
    assert!(second > first);
    assert_eq!(rig.durable(1), Some(other));
    assert_eq!(rig.sleeps_ns(), None, "nothing to do: it sleeps for ever");
    assert_eq!(recovered(&disk.disk).0.len(), 3);
}

#[test]
fn what_nobody_waits_for_is_synced_within_the_interval() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let batch = rig.say(0, false, vec![session(1, "a")]);
    rig.turn();
    assert_eq!((disk.disk.writes(), disk.disk.syncs()), (1, 0));
    assert!(rig.answers(0).is_empty());
    // A shard has kept it for at most four fifths of 50 ms before.
    assert_eq!(rig.sleeps_ns(), Some(10 * MS));
    rig.net.advance(9 * MS);
    rig.say(0, false, vec![session(2, "b")]);
    rig.turn();
    assert_eq!(disk.disk.syncs(), 0, "what comes later puts nothing off");
    rig.net.advance(MS);
    rig.turn();
    assert_eq!(disk.disk.syncs(), 1);
    assert_eq!(rig.durable(0), Some(batch + 1));
}

#[test]
fn staged_ops_become_durable_with_their_commit_and_not_before() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    rig.say(0, true, vec![session(1, "s"), session(2, "gone")]);
    rig.say(1, true, vec![session(3, "p")]);
    rig.turn();
    let _ = (rig.answers(0), rig.answers(1));
    let staged = vec![
        said(9),
        queue(1, 0, 9, true),
        queue(1, 1, 9, true),
        queue(2, 0, 9, true),
    ];
    let waits = rig.say(0, true, staged);
    let after = rig.say(
        0,
        true,
        vec![dequeue(1, 1, 9), Op::EndSession { holder: 2 }],
    );
    rig.turn();
    assert_eq!(disk.disk.len(Space::Queue), 0);
    let told = rig.answers(0);
    assert!(
        told.iter().all(|stored| stored.up_to < waits),
        "what waits for a commit is not durable, nor what comes after it: {told:?}"
    );
    let packet_id = PacketId::MIN;
    let commit = vec![
        Op::Receive {
            holder: 3,
            packet_id,
            digest: 7,
        },
        Op::Commit { message: 9 },
    ];
    let committed = rig.say(1, true, commit);
    rig.turn();
    assert_eq!(rig.durable(0), Some(after));
    assert_eq!(rig.durable(1), Some(committed));
    // One was settled and one belonged to a session that has ended.
    assert_eq!(disk.disk.keys(Space::Queue), [key::queue(1, 0)]);
    assert_eq!(disk.disk.len(Space::Incoming), 1);
    assert_eq!(disk.disk.len(Space::Message), 1);
}

#[test]
fn a_commit_and_what_it_commits_are_one_write() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    rig.say(
        0,
        true,
        vec![session(1, "s"), said(9), queue(1, 0, 9, true)],
    );
    rig.say(1, true, vec![session(3, "p")]);
    rig.turn();
    let receive = Op::Receive {
        holder: 3,
        packet_id: PacketId::MIN,
        digest: 7,
    };
    rig.say(1, false, vec![receive, Op::Commit { message: 9 }]);
    rig.turn();
    assert_eq!(disk.disk.unsynced(), 1);
    disk.disk.crash(0);
    let found = (disk.disk.len(Space::Queue), disk.disk.len(Space::Incoming));
    assert_eq!(found, (0, 0));
}

#[test]
fn a_message_is_stored_once_and_goes_with_its_last_place() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let many: Vec<_> = (1..=50).map(|holder| queue(holder, 0, 9, false)).collect();
    rig.say(0, true, std::iter::once(said(9)).chain(many).collect());
    rig.say(1, true, vec![said(9), queue(51, 0, 9, false)]);
    rig.turn();
    assert_eq!(disk.disk.len(Space::Queue), 51);
    assert_eq!(disk.disk.len(Space::Message), 1);
    let gone = (1..=50).map(|holder| dequeue(holder, 0, 9)).collect();
    rig.say(0, true, gone);
    rig.turn();
    assert_eq!(disk.disk.len(Space::Message), 1, "one still wants it");
    let place = PlaceOp {
        holder: 51,
        number: 0,
        message: 9,
    };
    rig.say(1, true, vec![Op::Release(place)]);
    rig.turn();
    assert_eq!(disk.disk.len(Space::Message), 0);
    assert_eq!(disk.disk.len(Space::Queue), 1, "PUBREL is still to be sent");
}

#[test]
fn a_queue_is_read_page_by_page_in_order() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let mut ops = vec![session(1, "s")];
    for number in 0..150 {
        ops.push(said(1_000 + number));
        ops.push(queue(1, number, 1_000 + number, false));
    }
    ops.push(said(9));
    ops.push(queue(1, 150, 9, true));
    rig.say(0, true, ops);
    let session = Key::from_bits(1 << 32).expect("a key");
    let mut from = 0;
    let mut numbers = Vec::new();
    loop {
        let read = Op::Read {
            session,
            holder: 1,
            from,
        };
        rig.say(0, true, vec![read]);
        rig.turn();
        let pages: Vec<_> = rig.answers(0).into_iter().flat_map(|s| s.pages).collect();
        assert_eq!(pages.len(), 1);
        let page = &pages[0];
        assert_eq!((page.session, page.holder), (session, 1));
        for entry in &page.entries {
            numbers.push(entry.number);
            let message = entry.message.as_ref().expect("a message");
            assert_eq!(message.publication.number(), 1_000 + entry.number);
            assert_eq!(message.publication.view().payload(), b"payload");
        }
        match page.entries.last() {
            Some(last) => from = last.number + 1,
            None => break,
        }
        assert!(!page.is_last, "one waits for its commit");
    }
    assert_eq!(numbers, (0..150).collect::<Vec<_>>());
}

#[test]
fn of_two_shards_the_later_retained_message_stays() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let retain = |version, payload| Op::Retain {
        version,
        publication: Box::new(message(1, "r", payload)),
    };
    rig.say(0, true, vec![retain(5, "new")]);
    rig.say(1, true, vec![retain(4, "old")]);
    let unretain = |version| Op::Unretain {
        version,
        topic: "r".into(),
    };
    rig.say(1, true, vec![unretain(3)]);
    rig.turn();
    let (_, retained, _) = recovered(&disk.disk);
    assert_eq!(retained.len(), 1);
    assert_eq!(retained[0].view().payload(), b"new");
    rig.say(1, true, vec![unretain(6)]);
    rig.turn();
    assert!(recovered(&disk.disk).1.is_empty());
}

#[test]
fn a_stop_writes_what_has_come_and_says_that_it_was_in_order() {
    let disk = TestDisk::default();
    recovered(&disk.disk);
    let mut rig = Rig::new(&disk);
    rig.say(0, false, vec![session(1, "a")]);
    rig.store.push_unbounded(ToStore::Stop);
    rig.turn();
    assert!(rig.server.is_done());
    disk.disk.crash(0);
    let mut engine = disk.disk.open();
    assert!(!begin(&mut engine).expect("it starts").is_unclean);
    // It is noted once: the next end may be another.
    assert_eq!(recovered(&disk.disk).0.len(), 1);
    assert!(begin(&mut engine).expect("it starts").is_unclean);
}

#[test]
fn expiry_goes_on_while_the_broker_is_down() {
    let disk = TestDisk::default();
    recovered(&disk.disk);
    let mut rig = Rig::new(&disk);
    let mut expires = message(1, "r/soon", "x");
    expires.expire_at(NOW_MS + 5_000);
    let retain = |version, publication: Publication| Op::Retain {
        version,
        publication: Box::new(publication),
    };
    let ops = vec![
        session(1, "a"),
        retain(1, expires),
        retain(2, message(1, "r/never", "x")),
    ];
    rig.say(0, true, ops);
    rig.turn();
    // An hour later, on a machine that has just been started.
    let later = WallClock::new(WALL_MS + 3_600_000, 10);
    let mut engine = disk.disk.open();
    let mut recovery = Recovery::begin(&mut engine, later, 10, [0; 16]).unwrap();
    let mut sessions = Vec::new();
    recovery.sessions(|session| sessions.push(session)).unwrap();
    assert!(sessions[0].ends_at_ms <= 10, "its time is over");
    let mut retained = Vec::new();
    recovery.retained(|message| retained.push(message)).unwrap();
    assert_eq!(retained.len(), 1);
    assert_eq!(retained[0].view().topic(), "r/never");
    recovery.finish().unwrap();
    assert_eq!(disk.disk.len(Space::Retained), 1, "and it is removed");
}
