//! Entries that a log still holds although they are void: overwritten from below the snapshot that it is opened at, or
//! replaced by a snapshot from elsewhere.

use std::sync::Arc;

use stanchion_disk::SimDisk;
use stanchion_wal::{Entry, EntryRef, HardState, Options, Recovery, SnapshotMark, Wal};

fn create(disk: &SimDisk) -> Wal {
    Wal::create(Arc::new(disk.clone()), "wal", b"", Options::default()).unwrap()
}

/// Appends entries of one term, with what is committed by then.
fn append(wal: &mut Wal, indexes: std::ops::RangeInclusive<u64>, term: u64, commit: u64) {
    let entries: Vec<_> = indexes.map(|index| EntryRef::new(index, term, 0, b"x")).collect();
    wal.save(&HardState { term, vote: 1, commit }, &entries).unwrap();
}

fn open_at(disk: &SimDisk, index: u64, term: u64) -> (Recovery, Vec<(u64, u64)>) {
    let opening = Wal::open(Arc::new(disk.clone()), "wal", index, term, Options::default()).unwrap();
    let (wal, recovery, entries) = opening.read_all().unwrap();
    assert_eq!(wal.last_index(), recovery.last_index);
    (recovery, entries.iter().map(|entry: &Entry| (entry.index, entry.term)).collect())
}

#[test]
fn what_was_overwritten_from_below_the_snapshot_does_not_come_back() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    append(&mut wal, 1..=15, 1, 7);
    append(&mut wal, 8..=11, 3, 11);
    wal.save_snapshot(&SnapshotMark::new(11, 3)).unwrap();
    drop(wal);
    let (recovery, entries) = open_at(&disk, 11, 3);
    assert_eq!((recovery.last_index, entries), (11, vec![]), "12 to 15 are of a term that lost");
}

#[test]
fn entries_of_an_older_term_before_the_mark_are_no_damage() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    append(&mut wal, 1..=15, 1, 7);
    append(&mut wal, 8..=13, 3, 11);
    wal.save_snapshot(&SnapshotMark::new(11, 3)).unwrap();
    append(&mut wal, 14..=14, 3, 13);
    drop(wal);
    let (recovery, entries) = open_at(&disk, 11, 3);
    assert_eq!((recovery.last_index, entries), (14, vec![(12, 3), (13, 3), (14, 3)]));
}

#[test]
fn a_snapshot_of_another_log_replaces_this_one() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    append(&mut wal, 1..=15, 1, 7);
    wal.save_snapshot(&SnapshotMark::new(12, 4)).unwrap();
    assert_eq!(wal.last_index(), 12, "13 to 15 followed another entry 12");
    append(&mut wal, 13..=13, 4, 13);
    drop(wal);
    let (recovery, entries) = open_at(&disk, 12, 4);
    assert_eq!((recovery.last_index, entries), (13, vec![(13, 4)]));
}

#[test]
fn a_second_mark_of_the_same_snapshot_replaces_nothing() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    append(&mut wal, 1..=3, 1, 3);
    wal.save_snapshot(&SnapshotMark::new(12, 4)).unwrap();
    append(&mut wal, 13..=13, 4, 12);
    wal.save_snapshot(&SnapshotMark::new(12, 4)).unwrap();
    append(&mut wal, 14..=14, 4, 13);
    drop(wal);
    let (recovery, entries) = open_at(&disk, 12, 4);
    assert_eq!((recovery.last_index, entries), (14, vec![(13, 4), (14, 4)]));
}

#[test]
fn a_snapshot_of_an_entry_that_is_there_keeps_what_follows() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    append(&mut wal, 1..=15, 1, 12);
    wal.save_snapshot(&SnapshotMark::new(12, 1)).unwrap();
    wal.release_to(13).unwrap();
    // 13 was not committed: another leader may overwrite it.
    append(&mut wal, 13..=13, 2, 12);
    drop(wal);
    let (recovery, entries) = open_at(&disk, 12, 1);
    assert_eq!((recovery.last_index, entries), (13, vec![(13, 2)]));
}
