//! Group commit: everybody's records are there, in one order, with far fewer syncs than records.

use std::sync::Arc;

use stanchion_disk::RealDisk;
use stanchion_wal::{Committer, HardState, Options, Wal};

const THREADS: u64 = 16;
const EACH: u64 = 200;

#[test]
fn every_thread_finds_its_records_where_it_was_told() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    // Small segments: cuts happen between the batches.
    let options = Options::default().segment_size(64 << 10);
    let log = Committer::new(Wal::create(Arc::new(RealDisk), &dir, b"", options).unwrap());
    let mut told = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS)
            .map(|client| {
                let log = &log;
                scope.spawn(move || {
                    let commit = |n| {
                        let data = format!("{client} {n} {:>90}", "");
                        (log.commit_data(3, data.as_bytes()).unwrap(), data)
                    };
                    (0..EACH).map(commit).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    // A crash: nothing is synced that was not synced by then.
    drop(log.into_inner());

    let (wal, _, entries) = Wal::open(Arc::new(RealDisk), &dir, 0, 0, options).unwrap().read_all().unwrap();
    told.sort_unstable();
    let found: Vec<_> =
        entries.iter().map(|e| (e.index, String::from_utf8(e.data.to_vec()).unwrap())).collect();
    assert_eq!(found, told);
    assert!(wal.tail().0.seq > 3, "the log was cut on the way");
}

#[test]
fn a_commit_index_alone_waits_for_nobody() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    let log = Committer::new(Wal::create(Arc::new(RealDisk), &dir, b"", Options::default()).unwrap());
    log.commit_data(1, b"a").unwrap();
    log.commit(|wal| wal.append(&HardState { term: 1, vote: 0, commit: 1 }, &[])).unwrap();
    let wal = log.into_inner();
    assert_eq!(wal.hard_state().commit, 1);
}
