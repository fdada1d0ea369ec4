//! What the disk does not take, what it forgets, and what it gives back wrong.

use super::*;

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    rig.say(0, true, vec![session(1, "a")]);
    rig.turn();
    rig.answers(0);
    // Once found out before writing, once by a write that fails.
    for finds_out in [true, false] {
        if finds_out {
            disk.is_full.store(true, Ordering::Relaxed);
        } else {
            disk.disk.set_weather(Weather::Full);
        }
        let before = disk.disk.writes();
        let batch = rig.say(
            0,
            true,
            vec![session(2, "b"), said(9), queue(2, 0, 9, false)],
        );
        rig.turn();
        let answers = rig.answers(0);
        assert_eq!(answers.len(), 1, "the shards know");
        assert_eq!((answers[0].health, answers[0].cost), (Health::Waits, 0));
        assert_eq!(rig.figures.health(), Health::Waits);
        assert_eq!(disk.disk.writes(), before);
        let later = rig.say(0, true, vec![queue(2, 1, 9, false)]);
        rig.turn();
        assert!(
            rig.answers(0).is_empty(),
            "it does not ask the disk each time"
        );
        rig.net.advance(1_000 * MS);
        rig.turn();
        assert!(rig.answers(0).is_empty(), "still full, and said before");
        disk.is_full.store(false, Ordering::Relaxed);
        disk.disk.set_weather(Weather::Fine);
        rig.net.advance(1_000 * MS);
        rig.turn();
        let answers = rig.answers(0);
        assert_eq!(answers[0].health, Health::Well);
        let told = answers.last().expect("it goes on");
        assert_eq!(told.up_to, later);
        assert_eq!(answers.iter().map(|stored| stored.cost).sum::<u64>(), 20);
        assert!(batch < later);
        // The second time over, the same records are there already.
        assert_eq!(disk.disk.len(Space::Queue), 2);
        assert_eq!(disk.disk.len(Space::Message), 1);
    }
    let (sessions, ..) = recovered(&disk.disk);
    let counts: Vec<_> = sessions.iter().map(|session| session.count).collect();
    assert_eq!(counts, [0, 2]);
}

#[test]
fn a_write_that_fails_is_done_again_on_an_engine_that_is_opened_anew() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    rig.say(0, false, vec![session(1, "a")]);
    rig.turn();
    disk.disk.set_weather(Weather::WriteFails);
    rig.say(0, true, vec![session(2, "b")]);
    rig.turn();
    assert_eq!(rig.figures.health(), Health::Waits);
    // The engine that had the first batch unsynced is gone, and so may be the batch.
    disk.disk.crash(0);
    disk.disk.set_weather(Weather::Fine);
    rig.net.advance(1_000 * MS);
    rig.turn();
    assert_eq!(rig.durable(0), Some(2));
    disk.disk.crash(0);
    assert_eq!(recovered(&disk.disk).0.len(), 2);
}

#[test]
fn a_sync_that_fails_is_the_end_of_the_store() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let first = rig.say(0, true, vec![session(1, "a")]);
    rig.turn();
    assert_eq!(rig.durable(0), Some(first));
    disk.disk.set_weather(Weather::SyncFails);
    rig.say(0, true, vec![session(2, "b")]);
    rig.turn();
    disk.disk.set_weather(Weather::Fine);
    for _ in 0..3 {
        rig.say(0, true, vec![session(3, "c")]);
        rig.turn();
        rig.net.advance(2_000 * MS);
    }
    let answers = rig.answers(0);
    assert!(!answers.is_empty());
    for stored in &answers {
        assert_eq!((stored.health, stored.up_to), (Health::Failed, first));
    }
    let credit: u64 = answers.iter().map(|stored| stored.cost).sum();
    assert_eq!(credit, 40, "nobody is held for ever");
    assert_eq!(disk.disk.syncs(), 1, "no second try");
    assert_eq!(rig.sleeps_ns(), None);
}

#[test]
fn a_record_that_is_corrupt_is_put_aside_and_the_rest_starts() {
    let disk = TestDisk::default();
    recovered(&disk.disk);
    let mut rig = Rig::new(&disk);
    let mut ops: Vec<_> = (1..=3).map(|n| session(n, &format!("c{n}"))).collect();
    for holder in 1..=3 {
        ops.extend([said(10 + holder), queue(holder, 0, 10 + holder, false)]);
    }
    rig.say(0, true, ops);
    rig.turn();
    assert!(disk.disk.corrupt(Space::Session, &key::number(2), 40));
    assert!(disk.disk.corrupt(Space::Queue, &key::queue(3, 0), 20));
    let (sessions, _, aside) = recovered(&disk.disk);
    let found: Vec<_> = sessions
        .iter()
        .map(|session| (&*session.client_id, session.count))
        .collect();
    assert_eq!(found, [("c1", 1), ("c3", 0)]);
    // The session, its queue record, which belongs to nobody now, and the other queue record.
    assert_eq!(aside, 3);
    assert_eq!(disk.disk.len(Space::Quarantine), 3);
    let (sessions, _, aside) = recovered(&disk.disk);
    assert_eq!((sessions.len(), aside), (2, 3), "the alarm stays");
}

#[test]
fn a_message_that_is_corrupt_is_put_aside_when_it_is_read() {
    let disk = TestDisk::default();
    let mut rig = Rig::new(&disk);
    let ops = vec![
        session(1, "s"),
        said(8),
        queue(1, 0, 8, false),
        said(9),
        queue(1, 1, 9, false),
    ];
    rig.say(0, true, ops);
    rig.turn();
    rig.answers(0);
    assert!(disk.disk.corrupt(Space::Message, &key::number(8), 100));
    let read = Op::Read {
        session: Key::from_bits(1 << 32).expect("a key"),
        holder: 1,
        from: 0,
    };
    rig.say(0, true, vec![read]);
    rig.turn();
    let page = rig.answers(0).remove(0).pages.remove(0);
    let numbers: Vec<_> = page.entries.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1]);
    rig.say(0, true, Vec::new());
    rig.turn();
    assert_eq!(disk.disk.len(Space::Quarantine), 1);
}
