//! Arbitrary bytes as a `.snap` file: an error, or a snapshot whose re-saved form reads back the same.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stanchion_disk::SimDisk;
use stanchion_snap::{Snapshotter, decode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = decode(bytes.to_vec().into()) else { return };
    let (snapshots, _) = Snapshotter::open(Arc::new(SimDisk::new(1)), "/snap").expect("open");
    snapshots.save(snapshot.term, snapshot.index, &snapshot.data).expect("save");
    assert_eq!(snapshots.load_newest().expect("load"), (Some(snapshot), vec![]));
});
