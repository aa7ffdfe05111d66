//! What users run into: each case has an error that says what, where, and what to do.

use std::path::Path;
use std::sync::Arc;

use stanchion_disk::{Disk, Faults, OpenOptions, RealDisk, SimDisk};
use stanchion_wal::{Committer, Entry, EntryRef, Error, HardState, Options, Prepare, Wal, exists};

const SEGMENT_SIZE: u64 = 64 << 10;

fn options() -> Options {
    Options::default().segment_size(SEGMENT_SIZE).prepare(Prepare::OnDemand)
}

fn create(disk: &SimDisk) -> Result<Wal, Error> {
    Wal::create(Arc::new(disk.clone()), "wal", b"meta", options())
}

fn open(disk: &SimDisk) -> Result<(Wal, Vec<Entry>), Error> {
    let (wal, _, entries) = Wal::open(Arc::new(disk.clone()), "wal", 0, 0, options())?.read_all()?;
    Ok((wal, entries))
}

fn save(wal: &mut Wal, data: &[u8]) -> Result<(), Error> {
    let index = wal.last_index() + 1;
    wal.save(&HardState { term: 1, vote: 1, commit: index - 1 }, &[EntryRef::new(index, 1, 0, data)])
}

fn write_file(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(path), OpenOptions::create().truncate()).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

fn full(disk: &SimDisk, more: u64) {
    disk.set_faults(Faults { space_bytes: Some(disk.used_bytes() + more), ..Faults::default() });
}

fn roomy(disk: &SimDisk) {
    disk.set_faults(Faults::default());
}

#[track_caller]
fn message<T>(result: Result<T, Error>, expected: &str) {
    match result {
        Ok(_) => panic!("accepted; expected: {expected}"),
        Err(error) => assert_eq!(error.to_string(), expected),
    }
}

/// A log of three segments with one entry each.
fn three_segments() -> SimDisk {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk).unwrap();
    for _ in 0..3 {
        save(&mut wal, b"entry").unwrap();
        wal.cut().unwrap();
    }
    wal.close().unwrap();
    disk
}

#[test]
fn a_directory_that_is_not_a_log() {
    let disk = SimDisk::new(1);
    message(open(&disk), "cannot list wal: entity not found");
    assert!(!exists(&disk, Path::new("wal")).unwrap());
    disk.create_dir(Path::new("wal"), 0o700).unwrap();
    write_file(&disk, "wal/notes.txt", b"hello");
    message(open(&disk), "wal is not a log: no segment (<seq>-<index>.wal) in it");
    message(create(&disk), "wal is not empty (it holds \"notes.txt\"): will not create a log there");
}

#[test]
fn a_log_where_there_is_one() {
    let disk = three_segments();
    message(create(&disk), "wal already holds a log");
}

#[test]
fn a_locked_log() {
    let disk = three_segments();
    let (holder, _) = open(&disk).unwrap();
    message(
        open(&disk),
        "wal/0000000000000000-0000000000000000.wal is locked: another process has this log open",
    );
    drop(holder);
    open(&disk).unwrap();
}

/// The same on the real file system, whose locks exclude etcd too.
#[test]
fn a_locked_log_on_a_real_disk() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    let holder = Wal::create(Arc::new(RealDisk), &dir, b"", options()).unwrap();
    let path = dir.join("0000000000000000-0000000000000000.wal");
    let locked = format!("{} is locked: another process has this log open", path.display());
    message(Wal::open(Arc::new(RealDisk), &dir, 0, 0, options()), &locked);
    drop(holder);
    Wal::open(Arc::new(RealDisk), &dir, 0, 0, options()).unwrap().finish().unwrap();
}

#[test]
fn a_newer_format() {
    let disk = three_segments();
    let path = "wal/0000000000000001-0000000000000002.wal";
    let mut bytes = disk.read(Path::new(path)).unwrap();
    // The entry is the segment's fourth record; its type is the byte behind the length field and a tag.
    let entry = 16 + 24 + 24;
    assert_eq!(bytes[entry + 8..entry + 10], [0x08, 2]);
    bytes[entry + 9] = 6;
    write_file(&disk, path, &bytes);
    message(
        open(&disk),
        &format!("{path} has a record of unknown type 6 at offset 64: written by a newer release?"),
    );
}

#[test]
fn missing_segments() {
    let disk = three_segments();
    disk.remove_file(Path::new("wal/0000000000000001-0000000000000002.wal")).unwrap();
    message(
        open(&disk),
        "segments 0x0000000000000001 to 0x0000000000000001 are missing in wal, \
         before 0000000000000002-0000000000000003.wal",
    );
    disk.remove_file(Path::new("wal/0000000000000000-0000000000000000.wal")).unwrap();
    message(
        open(&disk),
        "no segment in wal reaches back to snapshot index 0: the oldest is 0000000000000002-0000000000000003.wal",
    );
}

#[test]
fn a_segment_of_zero_length() {
    for (path, len) in [
        ("wal/0000000000000001-0000000000000002.wal", 0),
        ("wal/0000000000000003-0000000000000004.wal", 0),
        ("wal/0000000000000003-0000000000000004.wal", 4096),
    ] {
        let disk = three_segments();
        write_file(&disk, path, &vec![0; len]);
        message(
            open(&disk),
            &format!(
                "{path} is empty ({len} bytes, no record): \
                 remove it if it is the newest segment, else the log is broken"
            ),
        );
    }
    // The advice for the newest one works.
    let disk = three_segments();
    disk.remove_file(Path::new("wal/0000000000000003-0000000000000004.wal")).unwrap();
    assert_eq!(open(&disk).unwrap().1.len(), 3);
}

#[test]
fn a_snapshot_that_the_log_does_not_know() {
    let disk = three_segments();
    let at = |index, term| Wal::open(Arc::new(disk.clone()), "wal", index, term, options())?.finish();
    message(at(2, 1), "the log in wal has no record of a snapshot at index 2");
    message(
        at(0, 5),
        "snapshot at index 0 has term 5, but wal/0000000000000000-0000000000000000.wal says 0 at offset 40",
    );
}

#[test]
fn another_logs_segment() {
    let disk = three_segments();
    let other = SimDisk::new(2);
    let mut wal = Wal::create(Arc::new(other.clone()), "wal", b"other", options()).unwrap();
    save(&mut wal, b"entry").unwrap();
    wal.cut().unwrap();
    wal.close().unwrap();
    let path = "wal/0000000000000001-0000000000000002.wal";
    write_file(&disk, path, &other.read(Path::new(path)).unwrap());
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{path} is damaged at offset 0: CRC mismatch: expected ")), "{error}");
}

#[test]
fn no_space_to_create() {
    let disk = SimDisk::new(1);
    full(&disk, SEGMENT_SIZE / 2);
    let error = create(&disk).unwrap_err();
    assert!(error.is_no_space());
    assert!(
        error.to_string().starts_with("cannot preallocate wal.tmp/0000000000000000-0000000000000000.wal: "),
        "{error}"
    );
    assert!(!exists(&disk, Path::new("wal")).unwrap());
    roomy(&disk);
    create(&disk).unwrap();
}

#[test]
fn no_space_for_the_next_segment() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk).unwrap();
    full(&disk, 8 << 10);
    let mut saved = 0;
    let error = loop {
        match save(&mut wal, &[7; 1000]) {
            Ok(()) => saved += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space());
    let text = error.to_string();
    assert!(text.starts_with("cannot preallocate wal/0.tmp: "), "{text}");
    assert!(text.ends_with("nothing that was appended is lost, try again when there is space"), "{text}");
    assert!(saved >= 60, "{saved}");
    // Refused as often as it is tried, and nothing of it is taken.
    assert!(save(&mut wal, &[7; 1000]).unwrap_err().is_no_space());
    assert_eq!(wal.last_index(), saved);
    assert!(!disk.exists(Path::new("wal/0.tmp")).unwrap(), "what was allocated is given back");

    roomy(&disk);
    for _ in 0..200 {
        save(&mut wal, &[8; 1000]).unwrap();
    }
    assert!(wal.tail().0.seq > 1);
    drop(wal);
    let entries = open(&disk.after_power_cut(1)).unwrap().1;
    assert_eq!(entries.len() as u64, saved + 200);
}

#[test]
fn no_space_for_a_record_that_crosses_the_end() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk).unwrap();
    save(&mut wal, b"small").unwrap();
    full(&disk, 4096);
    let error = save(&mut wal, &vec![9; 3 * SEGMENT_SIZE as usize]).unwrap_err();
    assert!(error.is_no_space());
    assert!(
        error.to_string().starts_with("cannot write wal/0000000000000000-0000000000000000.wal: "),
        "{error}"
    );
    assert!(wal.needs_sync(), "it stays queued");
    // A crash now loses what was never durable, and only that.
    let survivor = disk.after_power_cut(3);
    roomy(&survivor);
    assert_eq!(open(&survivor).unwrap().1.len(), 1);
    roomy(&disk);
    wal.sync().unwrap();
    save(&mut wal, b"after").unwrap();
    drop(wal);
    let entries = open(&disk.after_power_cut(4)).unwrap().1;
    assert_eq!(entries.iter().map(|e| e.data.len() as u64).collect::<Vec<_>>(), [5, 3 * SEGMENT_SIZE, 5]);
}

#[test]
fn no_space_while_many_commit() {
    let disk = SimDisk::new(1);
    let log = Committer::new(create(&disk).unwrap());
    full(&disk, 8 << 10);
    let mut saved = 0;
    let error = loop {
        match log.commit_data(1, &[7; 1000]) {
            Ok(_) => saved += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert!(saved >= 60);
    roomy(&disk);
    for _ in 0..200 {
        log.commit_data(1, &[8; 1000]).unwrap();
    }
    drop(log);
    assert!(open(&disk.after_power_cut(1)).unwrap().1.len() >= saved + 200);
}

/// A sound log opens on a full disk: nothing has to be written to continue it.
#[test]
fn no_space_to_open() {
    let disk = three_segments();
    full(&disk, 0);
    let (mut wal, entries) = open(&disk).unwrap();
    assert_eq!(entries.len(), 3);
    save(&mut wal, b"fits into what is allocated").unwrap();
}

#[test]
fn a_read_only_file_system() {
    let disk = three_segments();
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let error = open(&disk).unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
    );
    assert!(error.to_string().contains("wal/0000000000000000-0000000000000000.wal: "), "{error}");
    // Reading needs no lock and no write.
    assert_eq!(stanchion_wal::verify(Arc::new(disk.clone()), "wal", 0, 0).unwrap().last_index, 3);
    let fresh = SimDisk::new(2);
    fresh.set_faults(Faults { read_only: true, ..Faults::default() });
    let error = create(&fresh).unwrap_err().to_string();
    assert!(error.starts_with("cannot create wal.tmp: "), "{error}");
}

#[test]
fn a_failed_read_names_the_file() {
    let disk = three_segments();
    disk.set_faults(Faults { read_error: 1.0, ..Faults::default() });
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.starts_with("cannot "), "{error}");
    assert!(error.contains("wal"), "{error}");
}
