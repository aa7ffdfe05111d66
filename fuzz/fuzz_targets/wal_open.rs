//! Arbitrary bytes as the segments of a log: read, verified, opened with repair, and written on.
//!
//! The first two bytes say where the rest is cut into two segments (beyond its end: one segment).

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stanchion_disk::{Disk, OpenOptions, SimDisk};
use stanchion_wal::{EntryRef, HardState, Options, Prepare, Records, Wal, valid_snapshots, verify};

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first_chunk() else { return };
    let (first, second) = bytes.split_at(usize::from(u16::from_le_bytes(*cut)).min(bytes.len()));
    let disk = SimDisk::new(0);
    disk.create_dir(Path::new("wal"), 0o700).expect("a directory");
    put(&disk, "wal/0000000000000000-0000000000000000.wal", first);
    if !second.is_empty() {
        put(&disk, "wal/0000000000000001-0000000000000002.wal", second);
    }

    let disk: Arc<dyn Disk> = Arc::new(disk);
    let options = Options::default().segment_size(4096).prepare(Prepare::OnDemand);
    if let Ok(mut records) = Records::open(Arc::clone(&disk), "wal") {
        while let Ok(Some(_)) = records.next_record() {}
    }
    let _ = valid_snapshots(Arc::clone(&disk), "wal");
    let verified = verify(Arc::clone(&disk), "wal", 0, 0);
    let opened = Wal::open(Arc::clone(&disk), "wal", 0, 0, options).and_then(|opening| opening.read_all());
    assert_eq!(verified.is_ok(), opened.is_ok(), "what is sound can be opened, and nothing else");

    // What was opened takes more, and is found whole afterwards.
    let Ok((mut wal, _, _)) = opened else { return };
    let index = wal.last_index() + 1;
    let state = HardState { term: wal.hard_state().term.max(1), vote: 1, commit: 0 };
    let taken = wal.save(&state, &[EntryRef::new(index, state.term, 0, b"more")]).is_ok();
    drop(wal);
    let again = Wal::open(disk, "wal", 0, 0, options).and_then(|opening| opening.read_all());
    let (_, recovery, entries) = again.expect("an opened log opens again");
    assert_eq!(recovery.repair, None);
    if taken {
        assert_eq!(entries.last().map(|entry| &entry.data[..]), Some(&b"more"[..]));
    }
});

fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(path), OpenOptions::create_new()).expect("a new file");
    file.write_all_at(bytes, 0).expect("written");
}
