//! Random damage to real logs: never a panic, never a wrong answer about what can be opened.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stanchion_disk::{Disk, OpenOptions, SimDisk};
use stanchion_wal::{EntryRef, HardState, Options, Prepare, Wal, verify};

const SEGMENT: &str = "wal/0000000000000001-0000000000000004.wal";

fn options() -> Options {
    Options::default().segment_size(2048).prepare(Prepare::OnDemand)
}

fn log() -> SimDisk {
    let disk = SimDisk::new(0);
    let mut wal = Wal::create(Arc::new(disk.clone()), "wal", b"meta", options()).unwrap();
    for index in 1..=9_u64 {
        let state = HardState { term: 1, vote: 0x1234_5678_9abc_def0, commit: index - 1 };
        wal.save(&state, &[EntryRef::new(index, 1, 0, &vec![index as u8; 60 * index as usize])]).unwrap();
        if index == 3 {
            wal.cut().unwrap();
        }
    }
    disk
}

#[derive(Clone, Debug)]
enum Edit {
    Byte(u16, u8),
    Word(u16, u64),
    Copy(u16, u16),
    Length(u16),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(at, to)| Edit::Byte(at, to)),
        (any::<u16>(), prop_oneof![any::<u64>(), 0..300_u64]).prop_map(|(at, to)| Edit::Word(at, to)),
        any::<(u16, u16)>().prop_map(|(from, to)| Edit::Copy(from, to)),
        any::<u16>().prop_map(Edit::Length),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let frames = (bytes.len() / 8).max(1);
    // Edits hit frame boundaries, where they do most.
    let place = |at: u16| usize::from(at) % frames * 8;
    match *edit {
        _ if bytes.len() < 600 => {}
        Edit::Byte(at, to) => {
            let at = usize::from(at) % bytes.len();
            bytes[at] = to;
        }
        Edit::Word(at, to) => bytes[place(at)..][..8].copy_from_slice(&to.to_le_bytes()),
        Edit::Copy(from, to) => {
            let (from, to) = (place(from).min(bytes.len() - 512), place(to).min(bytes.len() - 512));
            bytes.copy_within(from..from + 512, to);
        }
        Edit::Length(len) => bytes.resize(usize::from(len) % 4096, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_logs_are_refused_or_opened_and_written_on(edits in proptest::collection::vec(edit(), 0..4)) {
        let disk = log();
        let mut bytes = disk.read(Path::new(SEGMENT)).unwrap();
        let len = bytes.len();
        edits.iter().for_each(|edit| apply(&mut bytes, edit));
        let file = disk.open(Path::new(SEGMENT), OpenOptions::write()).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        drop(file);

        let disk: Arc<dyn Disk> = Arc::new(disk);
        let verified = verify(Arc::clone(&disk), "wal", 0, 0);
        let opened = Wal::open(Arc::clone(&disk), "wal", 0, 0, options()).and_then(|o| o.read_all());
        prop_assert_eq!(verified.is_ok(), opened.is_ok());
        prop_assert!(!edits.is_empty() || (opened.is_ok() && bytes.len() == len));
        let Ok((mut wal, _, entries)) = opened else { return Ok(()) };
        // Behind the first segment there are only entries that were written.
        for entry in &entries {
            prop_assert_eq!(&entry.data[..], &vec![entry.index as u8; 60 * entry.index as usize][..]);
        }
        let index = wal.last_index() + 1;
        wal.save(&HardState { term: 1, vote: 1, commit: 1 }, &[EntryRef::new(index, 1, 0, b"more")]).unwrap();
        drop(wal);
        let (_, recovery, again) = Wal::open(disk, "wal", 0, 0, options()).unwrap().read_all().unwrap();
        prop_assert_eq!(recovery.repair, None);
        prop_assert_eq!(again.len(), entries.len() + 1);
    }
}
