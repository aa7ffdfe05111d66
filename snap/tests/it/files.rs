//! Saving, loading, purging, receiving.

use std::path::Path;
use std::sync::Arc;

use stanchion_disk::{Disk, OpenOptions, RealDisk, SimDisk};
use stanchion_snap::{Damage, Snapshotter};

use crate::{DIR, open, payload};

#[test]
fn the_newest_by_term_and_index_is_loaded() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    assert_eq!(snapshots.load_newest().unwrap(), (None, vec![]));
    for (term, index) in [(1, 100), (2, 30), (1, 200)] {
        snapshots.save(term, index, &payload(term, index, b"x")).unwrap();
    }
    let newest = snapshots.load_newest().unwrap().0.unwrap();
    assert_eq!((newest.term, newest.index), (2, 30));
    assert_eq!(newest.data, payload(2, 30, b"x"));
    let known = snapshots.load_newest_of(&[(1, 100), (1, 200), (9, 9)]).unwrap().0.unwrap();
    assert_eq!((known.term, known.index), (1, 200));
    assert_eq!(snapshots.load_newest_of(&[(2, 31)]).unwrap().0, None);
}

#[test]
fn broken_files_are_set_aside_and_the_next_one_is_taken() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    snapshots.save(1, 1, &payload(1, 1, b"good")).unwrap();
    let path = snapshots.save(1, 2, &payload(1, 2, b"bad")).unwrap();
    disk.flip_bit(&path, 12, 3).unwrap();
    disk.open(&Path::new(DIR).join("0000000000000001-0000000000000003.snap"), OpenOptions::create()).unwrap();
    let (newest, broken) = snapshots.load_newest().unwrap();
    assert_eq!(newest.unwrap().index, 1);
    assert_eq!(broken[0].damage, Damage::Empty);
    assert!(matches!(broken[1].damage, Damage::Crc { .. }), "{:?}", broken[1]);
    assert_eq!(
        disk.list(Path::new(DIR)).unwrap(),
        [
            "0000000000000001-0000000000000001.snap",
            "0000000000000001-0000000000000002.snap.broken",
            "0000000000000001-0000000000000003.snap.broken",
        ]
    );
}

#[test]
fn purging_keeps_the_newest_snapshots_and_databases_that_may_be_waited_for() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    for index in 1..=4 {
        snapshots.save(1, index, &payload(1, index, b"x")).unwrap();
        snapshots.receive_database(index).unwrap().finish(0).unwrap();
    }
    assert_eq!(snapshots.purge(0).unwrap().len(), 0);
    assert_eq!(snapshots.purge(3).unwrap(), ["0000000000000001-0000000000000001.snap"]);
    assert_eq!(
        snapshots.remove_databases_below(4).unwrap(),
        ["0000000000000001.snap.db", "0000000000000002.snap.db", "0000000000000003.snap.db"]
    );
    assert_eq!(
        disk.list(Path::new(DIR)).unwrap(),
        [
            "0000000000000001-0000000000000002.snap",
            "0000000000000001-0000000000000003.snap",
            "0000000000000001-0000000000000004.snap",
            "0000000000000004.snap.db",
        ]
    );
}

#[test]
fn a_database_arrives_in_pieces_and_replaces_the_old_one() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    let mut incoming = snapshots.receive_database(74).unwrap();
    let mut other = snapshots.receive_database(75).unwrap();
    for piece in [&[1_u8; 5000][..], &[2; 3]] {
        incoming.write(piece).unwrap();
        other.write(b"x").unwrap();
    }
    assert_eq!(incoming.written(), 5003);
    let path = incoming.finish(5003).unwrap();
    assert_eq!(path, snapshots.database(74).unwrap());
    drop(other);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["000000000000004a.snap.db"]);
    let db = snapshots.install_database(74, "db").unwrap();
    assert_eq!(disk.read(&db).unwrap(), [&[1; 5000][..], &[2; 3]].concat());
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["db"]);
}

#[test]
fn opening_removes_orphans() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    std::mem::forget(snapshots.receive_database(3).unwrap());
    disk.open(&Path::new(DIR).join("db.tmp.7"), OpenOptions::create()).unwrap();
    disk.open(&Path::new(DIR).join("db"), OpenOptions::create()).unwrap();
    let (_, removed) = Snapshotter::open(Arc::new(disk.clone()), DIR).unwrap();
    assert_eq!(removed, ["db.tmp.7", "tmp000000"]);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["db"]);
}

#[test]
fn real_files_have_etcds_names_and_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("snap");
    let (snapshots, _) = Snapshotter::open(Arc::new(RealDisk), &dir).unwrap();
    let path = snapshots.save(2, 11, &payload(2, 11, b"x")).unwrap();
    assert_eq!(path, dir.join("0000000000000002-000000000000000b.snap"));
    assert_eq!(RealDisk.metadata(&dir).unwrap().mode, 0o700);
    assert_eq!(RealDisk.metadata(&path).unwrap().mode & 0o111, 0);
    assert_eq!(snapshots.load_newest().unwrap().0.unwrap().index, 11);
}
