//! Every single-bit flip and every truncation of a small log, exhaustively: each is found at its place, or lies
//! outside the bytes that mean anything.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stanchion_disk::RealDisk;
use stanchion_wal::{
    Damage, End, Entry, EntryRef, Error, HardState, Options, Position, Prepare, Record, Records,
    SnapshotMark, Torn, Wal,
};

const VOTE: u64 = 0x8e9e_05c5_2164_694d;

/// Puts the record behind it where it crosses into the next sector.
const FILLER_LEN: usize = 68;

fn options() -> Options {
    Options::default().segment_size(4096).prepare(Prepare::OnDemand)
}

/// Two segments with every kind of record, in both forms that etcd releases write.
fn small_log(dir: &Path) {
    let metadata = [
        0x08, 0xf8, 0x98, 0xf8, 0xa7, 0xaf, 0xe7, 0x8c, 0xcd, 0x24, 0x10, 0x83, 0xdb, 0xf2, 0xf4, 0xc9, 0xbe,
        0xf6, 0x85, 0x6b,
    ];
    let state = |commit| HardState { term: 2, vote: VOTE, commit };
    let mut wal = Wal::create(Arc::new(RealDisk), dir, &metadata, options()).unwrap();
    let context = br#"{"id":2637541321,"peerURLs":["http://localhost:2380"],"name":"default"}"#;
    wal.save(&HardState { term: 1, vote: 0, commit: 1 }, &[EntryRef::new(1, 1, 1, context)]).unwrap();
    // A new leader's first entry, without data, in the forms of 3.5 and of 3.7.
    wal.save(&state(1), &[EntryRef::new(2, 2, 0, b"")]).unwrap();
    wal.save(&state(2), &[EntryRef::encoded(3, 2, &[0x10, 2, 0x18, 3])]).unwrap();
    wal.save(&state(3), &[EntryRef::new(4, 2, 0, b"put a"), EntryRef::new(5, 2, 0, &[0x55; 700])]).unwrap();
    let conf_state = [0x08, 0xf8, 0x98, 0xf8, 0xa7, 0xaf, 0xe7, 0x8c, 0xcd, 0x24, 0x28, 0x00];
    let mark = SnapshotMark { index: 3, term: 2, conf_state: Some(conf_state.to_vec().into()) };
    wal.save_snapshot(&mark).unwrap();
    wal.cut().unwrap();
    wal.save(&state(5), &[EntryRef::new(6, 2, 0, b"put b"), EntryRef::new(6, 2, 0, b"put c")]).unwrap();
    // A whole sector of zeros in a record: looks like one that was never written.
    wal.save(&state(6), &[EntryRef::new(7, 2, 0, &[0; 1100])]).unwrap();
    // A mark whose last bytes lie in the next sector and are zeros: alone they would look like one that was never
    // written, but records follow in it.
    wal.save(&state(7), &[EntryRef::new(8, 2, 0, &[0xaa; FILLER_LEN])]).unwrap();
    let mark = SnapshotMark { index: 7, term: 2, conf_state: Some(vec![0; 24].into()) };
    wal.save_snapshot(&mark).unwrap();
    for index in 9..=40 {
        wal.save(&state(index - 1), &[EntryRef::new(index, 2, 0, &[index as u8; 3])]).unwrap();
    }
    wal.save(&state(40), &[EntryRef::new(41, 2, 0, b"")]).unwrap();
    wal.append(&state(41), &[]).unwrap();
    wal.sync().unwrap();
}

/// A frame of the sound log: its place, its record, and where its meaningful bytes end.
#[derive(Clone, Debug)]
struct Frame {
    position: Position,
    record: Record,
    padding: std::ops::Range<u64>,
}

struct Log {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    frames: Vec<Frame>,
    end: End,
}

impl Log {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("wal");
        small_log(&dir);
        let (records, end) = read(&dir).unwrap();
        let frames = records
            .into_iter()
            .map(|(position, record)| {
                let bytes = fs::read(dir.join(position.segment.to_string())).unwrap();
                let at = position.offset as usize;
                let field = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                let padding_start = position.offset + 8 + (field & 0x00ff_ffff_ffff_ffff);
                Frame { position, record, padding: padding_start..padding_start.next_multiple_of(8) }
            })
            .collect();
        Self { _temp: temp, dir, frames, end }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut names: Vec<_> = self.frames.iter().map(|f| f.position.segment).collect();
        names.dedup();
        names.iter().map(|name| self.dir.join(name.to_string())).collect()
    }

    /// Index of the frame that holds this byte; `None` behind the end.
    fn frame_at(&self, path: &Path, offset: u64) -> Option<usize> {
        self.frames.iter().position(|f| {
            path.ends_with(f.position.segment.to_string())
                && (f.position.offset..f.padding.end).contains(&offset)
        })
    }

    fn sound(&self) -> Vec<(Position, Record)> {
        self.frames.iter().map(|f| (f.position, f.record.clone())).collect()
    }
}

type Read = Result<(Vec<(Position, Record)>, End), Error>;

/// All records, as a dump reads them, then the entries, as a server does: both must accept the log.
fn read(dir: &Path) -> Read {
    let mut records = Records::open(Arc::new(RealDisk), dir)?;
    let mut found = Vec::new();
    while let Some(record) = records.next_record()? {
        found.push(record);
    }
    let end = *records.end().unwrap();
    stanchion_wal::verify(Arc::new(RealDisk), dir, 0, 0)?;
    Ok((found, end))
}

/// File name and offset of the place that an error names.
fn place(error: &Error) -> Option<(String, u64)> {
    match error {
        Error::Damaged { path, offset, .. } | Error::UnknownRecordType { path, offset, .. } => {
            Some((path.file_name()?.to_str()?.to_owned(), *offset))
        }
        _ => None,
    }
}

#[test]
fn every_bit_flip_is_found_or_outside() {
    let log = Log::new();
    let sound = log.sound();
    let crosses_with_zeros = |f: &Frame| {
        let end = f.padding.start;
        matches!(&f.record, Record::Snapshot(mark) if mark.index == 7) && (8..24).contains(&(end % 512))
    };
    assert!(log.frames.iter().any(crosses_with_zeros), "the log holds the case that it is made for");
    let (mut refused, mut outside) = (0, 0);
    for path in log.segments() {
        let original = fs::read(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for bit in 0..8 * original.len() {
            let offset = (bit / 8) as u64;
            if bit % 8 == 0 && offset > 0 {
                file.write_all_at(&original[bit / 8 - 1..bit / 8], offset - 1).unwrap();
            }
            file.write_all_at(&[original[bit / 8] ^ 1 << (bit % 8)], offset).unwrap();
            let context = || format!("bit {} of byte {offset} in {}", bit % 8, path.display());
            let hit = log.frame_at(&path, offset);
            let meaningful = hit.is_some_and(|i| !log.frames[i].padding.contains(&offset));
            match (read(&log.dir), meaningful) {
                // Behind the end or in padding: nothing may be missing. (A bit in what would be the next length
                // field reads as a write that was cut off there.)
                (Ok((found, end)), false) => {
                    assert_eq!(found, sound, "{}", context());
                    assert_eq!(end.position, log.end.position, "{}", context());
                    outside += 1;
                }
                (Err(error), false) => panic!("{}: refused for a bit without meaning: {error}", context()),
                (Ok((_, end)), true) => panic!("{}: not found, end {end:?}", context()),
                (Err(error), true) => {
                    let i = hit.unwrap();
                    let (file, at) = place(&error).unwrap_or_else(|| panic!("{}: {error}", context()));
                    // The first value of the chain is checked by the record that follows it.
                    let places = &log.frames[i..log.frames.len().min(i + 2)];
                    let places: Vec<_> =
                        places.iter().map(|f| (f.position.segment.to_string(), f.position.offset)).collect();
                    assert!(places.contains(&(file, at)), "{}: {error} not at {places:?}", context());
                    refused += 1;
                }
            }
        }
        fs::write(&path, &original).unwrap();
    }
    assert_eq!(read(&log.dir).unwrap().0, sound, "all is as before");
    assert!(refused > 30_000 && outside > 4_000, "{refused} {outside}");
}

#[test]
fn every_truncation_of_the_last_segment_keeps_the_whole_records() {
    let log = Log::new();
    let segments = log.segments();
    let path = segments.last().unwrap();
    let original = fs::read(path).unwrap();
    let last: Vec<_> = log.frames.iter().filter(|f| path.ends_with(f.position.segment.to_string())).collect();
    let before = log.frames.len() - last.len();
    let head_end = last[1].padding.end;
    for len in 0..=original.len() as u64 {
        fs::write(path, &original[..len as usize]).unwrap();
        let whole = last.iter().take_while(|f| f.padding.end <= len).count();
        match read(&log.dir) {
            Ok((found, end)) => {
                assert!(len >= head_end, "{len}");
                assert_eq!(found, log.sound()[..before + whole], "{len}");
                let clean_end = last[whole - 1].padding.end;
                assert_eq!(end.position.offset, clean_end, "{len}");
                // Bytes of a next record that is not whole are a torn write; zeros behind the end are none.
                let cut_record = len >= clean_end + 8 && whole < last.len();
                let rest = &original[clean_end as usize..len as usize];
                let cut_field = (1..8).contains(&rest.len()) && rest.iter().any(|b| *b != 0);
                assert_eq!(end.torn.is_some(), cut_record || cut_field, "{len}: {:?}", end.torn);
            }
            Err(Error::EmptySegment { len: found, .. }) => assert_eq!((len, found), (0, 0)),
            Err(Error::Damaged { offset, damage: Damage::Head(_), .. }) => {
                assert!(len < head_end && offset <= len, "{len}");
            }
            Err(error) => panic!("{len}: {error}"),
        }
    }
}

#[test]
fn every_truncation_of_an_older_segment_is_refused() {
    let log = Log::new();
    let [path, next] = &log.segments()[..] else { panic!("two segments") };
    let original = fs::read(path).unwrap();
    for len in 0..original.len() {
        fs::write(path, &original[..len]).unwrap();
        let error = read(&log.dir).unwrap_err();
        match &error {
            Error::EmptySegment { path: found, .. } => assert_eq!((len, found), (0, path)),
            Error::Damaged { path: found, offset, damage: Damage::Torn(_) | Damage::Head(_) } => {
                assert_eq!(found, path);
                assert!(*offset as usize <= len);
            }
            // Cut between two records: the next segment's first record tells.
            Error::Damaged { path: found, offset: 0, damage: Damage::Crc { .. } } => assert_eq!(found, next),
            _ => panic!("{len}: {error}"),
        }
    }
}

fn open(dir: &Path) -> Result<(Wal, stanchion_wal::Recovery, Vec<Entry>), Error> {
    Wal::open(Arc::new(RealDisk), dir, 0, 0, options())?.read_all()
}

#[test]
fn a_torn_end_is_cut_off_once_and_kept_as_a_copy() {
    let log = Log::new();
    let path = log.segments().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The last entry with data, cut in the middle.
    let frame = log.frames.iter().rfind(|f| matches!(&f.record, Record::Entry(e) if e.index == 40)).unwrap();
    bytes.truncate(frame.position.offset as usize + 20);
    fs::write(&path, &bytes).unwrap();

    let (mut wal, recovery, entries) = open(&log.dir).unwrap();
    let repair = recovery.repair.unwrap();
    assert_eq!((&repair.path, repair.offset), (&path, frame.position.offset));
    assert!(matches!(repair.torn, Torn::Short { found: 12, .. }), "{:?}", repair.torn);
    assert_eq!(fs::read(&repair.copy).unwrap(), bytes);
    assert_eq!(repair.copy, PathBuf::from(format!("{}.broken", path.display())));
    assert_eq!(entries.last().unwrap().index, 39);
    wal.save(&HardState { term: 3, vote: 1, commit: 39 }, &[EntryRef::new(40, 3, 0, b"again")]).unwrap();
    drop(wal);
    let (_, recovery, entries) = open(&log.dir).unwrap();
    assert_eq!(recovery.repair, None);
    assert_eq!((entries.len(), &entries[39].data[..]), (40, &b"again"[..]));
}

#[test]
fn garbage_behind_the_end_is_cleared() {
    let log = Log::new();
    let path = log.segments().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let end = log.end.position.offset as usize;
    bytes[end + 8..end + 24].fill(0xaa);
    fs::write(&path, &bytes).unwrap();
    let (wal, recovery, _) = open(&log.dir).unwrap();
    assert_eq!((recovery.repair, recovery.end.torn), (None, None));
    drop(wal);
    let cleared = fs::read(&path).unwrap();
    assert_eq!(cleared.len(), bytes.len(), "the former size");
    assert!(cleared[end..].iter().all(|b| *b == 0));
}

#[test]
fn a_damaged_middle_is_refused_and_left_as_it_is() {
    let log = Log::new();
    let path = log.segments().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let frame = log.frames.iter().find(|f| matches!(&f.record, Record::Entry(e) if e.index == 5)).unwrap();
    let at = frame.position.offset;
    bytes[at as usize + 100] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    let error = open(&log.dir).unwrap_err();
    let Error::Damaged { offset, damage: Damage::Crc { expected, found }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*offset, at);
    assert_eq!(
        error.to_string(),
        format!(
            "{} is damaged at offset {at}: CRC mismatch: expected {expected:08x}, found {found:08x}",
            path.display()
        )
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(!PathBuf::from(format!("{}.broken", path.display())).exists());
}
