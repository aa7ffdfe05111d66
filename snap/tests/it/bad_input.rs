//! What a user sees when something is wrong.

use std::path::Path;
use std::sync::Arc;

use stanchion_disk::{Disk, Faults, OpenOptions, SimDisk};
use stanchion_snap::Snapshotter;

use crate::{DIR, open, payload};

#[test]
fn a_missing_database_is_named() {
    let snapshots = open(&SimDisk::new(1));
    let text = "no database for the snapshot at index 74: /member/snap/000000000000004a.snap.db is missing; restore the \
                member from a backup or let it join anew";
    assert_eq!(snapshots.database(74).unwrap_err().to_string(), text);
    assert_eq!(snapshots.install_database(74, "db").unwrap_err().to_string(), text);
}

#[test]
fn a_full_disk_loses_nothing_and_works_again_with_space() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    snapshots.save(1, 1, &payload(1, 1, b"x")).unwrap();
    disk.set_faults(Faults { space_bytes: Some(8192), ..Faults::default() });
    let large = payload(1, 2, &[7; 10_000]);
    let err = snapshots.save(1, 2, &large).unwrap_err().to_string();
    assert!(
        err.starts_with("cannot write /member/snap/tmp-0000000000000001-0000000000000002.snap: "),
        "{err}"
    );
    let mut incoming = snapshots.receive_database(2).unwrap();
    assert!(
        incoming.write(&large).unwrap_err().to_string().starts_with("cannot write /member/snap/tmp000000: ")
    );
    drop(incoming);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["0000000000000001-0000000000000001.snap"]);
    assert_eq!(snapshots.load_newest().unwrap().0.unwrap().index, 1);
    disk.set_faults(Faults::default());
    snapshots.save(1, 2, &large).unwrap();
    assert_eq!(snapshots.load_newest().unwrap().0.unwrap().index, 2);
}

#[test]
fn a_read_only_file_system_says_so() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk);
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let err = snapshots.save(1, 1, &payload(1, 1, b"x")).unwrap_err().to_string();
    assert!(
        err.contains("cannot create /member/snap/tmp-") && err.contains("Read-only file system"),
        "{err}"
    );
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let disk = SimDisk::new(1);
    disk.open(Path::new("/snap"), OpenOptions::create()).unwrap();
    let err = Snapshotter::open(Arc::new(disk), "/snap").unwrap_err().to_string();
    assert_eq!(err, "cannot create /snap: entity already exists");
}

#[test]
fn snapshots_without_data_and_short_databases_are_refused() {
    let snapshots = open(&SimDisk::new(1));
    assert_eq!(
        snapshots.save(3, 4, b"").unwrap_err().to_string(),
        "a snapshot of term 3 and index 4 without data cannot be saved"
    );
    let mut incoming = snapshots.receive_database(9).unwrap();
    incoming.write(b"abc").unwrap();
    assert_eq!(
        incoming.finish(4).unwrap_err().to_string(),
        "the database received for index 9 has 3 bytes, 4 were announced; it is discarded"
    );
    assert!(snapshots.database(9).is_err());
}
