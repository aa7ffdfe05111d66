//! What was written comes back: over restarts, cuts, overwrites and snapshots, on the real file system.

use std::path::PathBuf;
use std::sync::Arc;

use stanchion_disk::{Disk, RealDisk};
use stanchion_wal::{
    ENTRY_NORMAL, Entry, EntryRef, Error, HardState, Options, Recovery, SnapshotMark, Wal, purge,
    valid_snapshots, verify,
};

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

struct Place {
    _temp: tempfile::TempDir,
    dir: PathBuf,
}

fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    Place { _temp: temp, dir }
}

fn small() -> Options {
    Options::default().segment_size(4096)
}

fn entry(index: u64, term: u64, data: &[u8]) -> EntryRef<'_> {
    EntryRef::new(index, term, ENTRY_NORMAL, data)
}

fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

fn open(place: &Place, index: u64, term: u64) -> (Wal, Recovery, Vec<Entry>) {
    Wal::open(disk(), &place.dir, index, term, small()).unwrap().read_all().unwrap()
}

#[test]
fn many_segments_come_back_in_order() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"meta", small()).unwrap();
    for index in 1..=200_u64 {
        wal.save(&state(1, 9, index - 1), &[entry(index, 1, &[index as u8; 100])]).unwrap();
    }
    let (tail, _) = wal.tail();
    assert!(tail.seq >= 5, "{tail}");
    drop(wal);
    let (wal, recovery, entries) = open(&place, 0, 0);
    assert_eq!(&recovery.metadata[..], b"meta");
    assert_eq!(recovery.hard_state, state(1, 9, 199));
    assert_eq!((recovery.last_index, wal.last_index()), (200, 200));
    assert_eq!(recovery.repair, None);
    assert_eq!(entries.iter().map(|e| e.index).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    assert!(entries.iter().all(|e| e.data[..] == [e.index as u8; 100]));
    assert_eq!(wal.tail().0, tail);
    wal.close().unwrap();
    let left = disk().list(&place.dir).unwrap();
    assert!(left.iter().all(|name| name.ends_with(".wal")), "{left:?}");
}

#[test]
fn segments_are_named_for_the_first_index_they_may_hold() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    wal.save(&state(1, 1, 0), &[entry(1, 1, b"a"), entry(2, 1, b"b")]).unwrap();
    wal.cut().unwrap();
    wal.save_snapshot(&SnapshotMark::new(74, 1)).unwrap();
    wal.cut().unwrap();
    wal.save(&state(1, 1, 74), &[entry(75, 1, b"c")]).unwrap();
    wal.close().unwrap();
    assert_eq!(
        disk().list(&place.dir).unwrap(),
        [
            "0000000000000000-0000000000000000.wal",
            "0000000000000001-0000000000000003.wal",
            "0000000000000002-000000000000004b.wal",
        ]
    );
}

#[test]
fn an_entry_with_an_old_index_overwrites() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    wal.save(&state(1, 1, 1), &[entry(1, 1, b"a"), entry(2, 1, b"b"), entry(3, 1, b"c")]).unwrap();
    wal.save(&state(2, 1, 1), &[entry(2, 2, b"B")]).unwrap();
    drop(wal);
    let (_, recovery, entries) = open(&place, 0, 0);
    assert_eq!(recovery.last_index, 2);
    let found: Vec<_> = entries.iter().map(|e| (e.index, e.term, &e.data[..])).collect();
    assert_eq!(found, [(1, 1, &b"a"[..]), (2, 2, b"B")]);
}

#[test]
fn a_mark_that_was_never_taken_up_is_not_valid_later() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    for index in 1..=5 {
        wal.save(&state(1, 1, index), &[entry(index, 1, b"a")]).unwrap();
    }
    // A leader's snapshot; the process ends before the hard state that goes with it.
    wal.save_snapshot(&SnapshotMark::new(30, 1)).unwrap();
    drop(wal);
    assert!(valid_snapshots(disk(), &place.dir).unwrap().iter().all(|mark| mark.index == 0));
    // Then the entries come after all, over several segments.
    let (mut wal, ..) = open(&place, 0, 0);
    for index in 6..=60 {
        wal.save(&state(1, 1, index), &[entry(index, 1, &[7; 400])]).unwrap();
        if index == 20 {
            wal.save_snapshot(&SnapshotMark::new(index, 1)).unwrap();
        }
    }
    drop(wal);
    let marks = valid_snapshots(disk(), &place.dir).unwrap();
    assert_eq!(marks.last().map(|mark| mark.index), Some(20));
    assert_eq!(open(&place, 20, 1).1.last_index, 60);
}

#[test]
fn opening_at_a_snapshot_leaves_out_what_it_covers() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    for index in 1..=100_u64 {
        wal.save(&state(1, 1, index), &[entry(index, 1, &[7; 200])]).unwrap();
        if index % 10 == 0 {
            wal.save_snapshot(&SnapshotMark::new(index, 1)).unwrap();
        }
    }
    wal.release_to(80).unwrap();
    let held = wal.held_segments().next().unwrap();
    assert!(held.index <= 80 && held.seq > 0);
    purge(&*disk(), &place.dir, 1).unwrap();
    let left = disk().list(&place.dir).unwrap();
    assert!(left.contains(&held.to_string()), "a held segment survives");
    drop(wal);

    let marks = valid_snapshots(disk(), &place.dir).unwrap();
    assert_eq!(marks.last().unwrap().index, 100);
    assert!(matches!(
        Wal::open(disk(), &place.dir, 0, 0, small()),
        Err(Error::SnapshotNotCovered { index: 0, .. })
    ));
    let (wal, recovery, entries) = open(&place, 90, 1);
    assert_eq!(entries.iter().map(|e| e.index).collect::<Vec<_>>(), (91..=100).collect::<Vec<_>>());
    assert!(recovery.snapshot_found);
    drop(wal);
    assert_eq!(verify(disk(), &place.dir, 100, 1).unwrap().last_index, 100);
    assert!(matches!(
        verify(disk(), &place.dir, 100, 2),
        Err(Error::SnapshotMismatch { index: 100, expected: 2, found: 1, .. })
    ));
    assert!(matches!(verify(disk(), &place.dir, 99, 1), Err(Error::SnapshotNotFound { index: 99, .. })));
}

#[test]
fn a_new_commit_index_alone_is_not_written() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    wal.save(&state(1, 1, 0), &[entry(1, 1, b"a")]).unwrap();
    wal.save(&state(1, 1, 1), &[]).unwrap();
    assert!(!wal.needs_sync());
    drop(wal);
    let (mut wal, recovery, _) = open(&place, 0, 0);
    assert_eq!(recovery.hard_state.commit, 0);
    wal.save(&state(1, 1, 1), &[]).unwrap();
    wal.close().unwrap();
    let (_, recovery, _) = open(&place, 0, 0);
    assert_eq!(recovery.hard_state.commit, 1);
}

#[test]
fn a_live_log_can_be_verified() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    for index in 1..=60_u64 {
        wal.save(&state(1, 1, index), &[entry(index, 1, &[1; 150])]).unwrap();
        assert_eq!(verify(disk(), &place.dir, 0, 0).unwrap().last_index, index);
    }
}

#[test]
fn appends_that_do_not_fit_change_nothing() {
    let place = place();
    let mut wal = Wal::create(disk(), &place.dir, b"", small()).unwrap();
    wal.save(&state(2, 1, 0), &[entry(1, 2, b"a")]).unwrap();
    let before = wal.tail();
    for entries in [
        vec![entry(3, 2, b"gap")],
        vec![entry(2, 2, b"fine"), entry(4, 2, b"gap")],
        vec![entry(2, 1, b"old")],
    ] {
        assert!(matches!(wal.append(&state(2, 1, 0), &entries), Err(Error::Order(_))));
    }
    assert!(matches!(wal.append(&state(0, 1, 0), &[]), Err(Error::StateWithoutTerm)));
    assert_eq!((wal.tail(), wal.last_index()), (before, 1));
    wal.save(&state(2, 1, 1), &[entry(2, 2, b"b")]).unwrap();
}
