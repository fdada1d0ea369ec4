//! A store of another format: upgraded after a copy, or refused.

use super::*;
use crate::store::CopyError;

/// Says that a store has this format.
fn set_format(disk: &MemoryDisk, format: u32) {
    let mut batch = WriteBatch::default();
    let value = seal(Space::Meta, key::FORMAT, |out| {
        out.extend_from_slice(&format.to_be_bytes());
    });
    batch.put(Space::Meta, key::FORMAT, value);
    let mut engine = disk.open();
    engine.write(&batch).unwrap();
    engine.sync().unwrap();
}

/// A store with two sessions, as the version with this format has left it.
fn stored(format: u32) -> TestDisk {
    let disk = TestDisk::default();
    recovered(&disk.disk);
    let mut rig = Rig::new(&disk);
    rig.say(0, true, vec![session(1, "a"), session(7, "b")]);
    rig.turn();
    set_format(&disk.disk, format);
    disk
}

/// What a start upgrades, and how often it makes a copy.
fn upgraded(disk: &MemoryDisk) -> (Result<Option<u32>, FormatError>, u32) {
    let mut copies = 0;
    let result = upgrade(&mut disk.open(), |_, _| {
        copies += 1;
        Ok(())
    });
    (result, copies)
}

#[test]
fn an_older_store_is_copied_once_and_upgraded() {
    let disk = stored(1).disk;
    let (result, copies) = upgraded(&disk);
    assert_eq!((result.unwrap(), copies), (Some(1), 1));
    disk.crash(0);
    let (result, copies) = upgraded(&disk);
    assert_eq!((result.unwrap(), copies), (None, 0), "it is durable");
    let mut engine = disk.open();
    let recovery = begin(&mut engine).expect("it starts");
    assert_eq!((recovery.first_free, recovery.node), (8, [7; 16]));
    assert_eq!(recovered(&disk).0.len(), 2);
}

#[test]
fn a_crash_on_the_way_leaves_the_old_store_and_the_next_start_upgrades_it() {
    // While the copy is made; with it done, before the write, and before that is durable.
    let disk = stored(1).disk;
    let error = upgrade(&mut disk.open(), |_, old| {
        assert_eq!(old, 1);
        Err(CopyError::Engine(EngineError::Full))
    });
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("the disk is full; nothing is changed"),
        "{text}"
    );
    for weather in [Weather::WriteFails, Weather::SyncFails] {
        disk.set_weather(weather);
        let (result, copies) = upgraded(&disk);
        assert!(result.is_err());
        assert_eq!(copies, 1);
        disk.crash(0);
    }
    disk.set_weather(Weather::Fine);
    assert_eq!(recovered_format(&disk), Some(1));
    let (result, copies) = upgraded(&disk);
    assert_eq!((result.unwrap(), copies), (Some(1), 1));
    assert_eq!(recovered(&disk).0.len(), 2);
}

fn recovered_format(disk: &MemoryDisk) -> Option<u32> {
    format_of(&disk.open()).expect("it can be read")
}

#[test]
fn a_newer_store_is_refused_with_advice_and_left_alone() {
    let disk = stored(FORMAT + 1).disk;
    let writes = disk.writes();
    let (result, copies) = upgraded(&disk);
    for error in [result.unwrap_err(), begin(&mut disk.open()).unwrap_err()] {
        assert!(matches!(error, FormatError::Newer(format) if format == FORMAT + 1));
        assert!(error.to_string().contains("the version that wrote it"));
    }
    assert_eq!((copies, disk.writes()), (0, writes));
}

#[test]
fn a_new_store_has_the_newest_format() {
    let disk = MemoryDisk::default();
    let (result, copies) = upgraded(&disk);
    assert_eq!((result.unwrap(), copies), (None, 0));
    recovered(&disk);
    assert_eq!(recovered_format(&disk), Some(FORMAT));
}

#[test]
fn a_store_whose_format_is_corrupt_is_not_taken_for_a_new_one() {
    let disk = stored(FORMAT).disk;
    assert!(disk.corrupt(Space::Meta, key::FORMAT, 9));
    let (result, copies) = upgraded(&disk);
    assert_eq!((result.unwrap(), copies), (Some(1), 1));
    let mut engine = disk.open();
    assert_eq!(begin(&mut engine).expect("it starts").first_free, 8);
    assert_eq!(recovered(&disk).0.len(), 2);
}
