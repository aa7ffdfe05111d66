//! Arbitrary payloads behind a right CRC, as records of every type.
//!
//! The first byte is the record's type, the rest its payload. The log writes it as an entry; then the type is
//! exchanged, which no CRC covers.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stanchion_disk::{Disk, OpenOptions, SimDisk};
use stanchion_wal::{EntryRef, HardState, Options, Prepare, Record, Records, Wal};

/// Bytes from a frame's start to the record's type: the length field and a tag.
const TYPE_AT: u64 = 9;

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let disk = SimDisk::new(0);
    let options = Options::default().segment_size(8192).prepare(Prepare::OnDemand);
    let mut wal = Wal::create(Arc::new(disk.clone()), "wal", b"", options).expect("created");
    let (segment, offset) = wal.tail();
    wal.save(&HardState::default(), &[EntryRef::encoded(1, 1, payload)]).expect("saved");
    drop(wal);
    let path = Path::new("wal").join(segment.to_string());
    let file = disk.open(&path, OpenOptions::write()).expect("the segment");
    file.write_all_at(&[*kind], offset + TYPE_AT).expect("written");

    let mut records = Records::open(Arc::new(disk), "wal").expect("a log");
    loop {
        match records.next_record() {
            Ok(Some((position, Record::Entry(entry)))) if position.offset == offset => {
                assert_eq!(&entry.encoded[..], payload);
                assert!(entry.index > 0 && entry.data.len() <= payload.len());
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
});
