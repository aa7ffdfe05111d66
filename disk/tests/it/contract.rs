//! What every disk does, run on the real and on the simulated one.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use stanchion_disk::{Disk, LockKind, Map, OpenOptions, RealDisk, SimDisk};

/// Runs a test in an empty directory of each disk.
fn on_both(test: impl Fn(&dyn Disk, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&RealDisk, dir.path());
    let sim = SimDisk::new(1);
    sim.create_dir(Path::new("/d"), 0o700).unwrap();
    test(&sim, Path::new("/d"));
}

#[test]
fn positional_reads_and_writes() {
    on_both(|disk, dir| {
        let file = disk.open(&dir.join("f"), OpenOptions::create()).unwrap();
        file.write_vectored_at(&[IoSlice::new(b"hello "), IoSlice::new(b""), IoSlice::new(b"world")], 3)
            .unwrap();
        assert_eq!(file.len().unwrap(), 14);
        let mut buf = [9; 20];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 14);
        assert_eq!(&buf[..14], b"\0\0\0hello world");
        assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0);
        let err = file.read_exact_at(&mut buf, 0).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::UnexpectedEof);
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        assert_eq!(disk.read(&dir.join("f")).unwrap(), b"\0\0\0hello world");
    });
}

#[test]
fn many_slices_are_written_in_order() {
    on_both(|disk, dir| {
        let file = disk.open(&dir.join("f"), OpenOptions::create()).unwrap();
        let parts: Vec<[u8; 3]> = (0..3000_u16).map(|i| [i as u8, (i >> 8) as u8, 7]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        file.write_vectored_at(&slices, 5).unwrap();
        assert_eq!(disk.read(&dir.join("f")).unwrap()[5..], parts.concat());
    });
}

#[test]
fn lengths_and_allocation() {
    on_both(|disk, dir| {
        let file = disk.open(&dir.join("f"), OpenOptions::create()).unwrap();
        file.allocate(0, 10_000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        file.write_all_at(b"x", 9_999).unwrap();
        file.set_len(9_999).unwrap();
        file.set_len(10_000).unwrap();
        let mut last = [1];
        file.read_exact_at(&mut last, 9_999).unwrap();
        assert_eq!(last, [0]);
        file.allocate(0, 100).unwrap();
        assert_eq!(file.len().unwrap(), 10_000, "allocating inside a file does not cut it");
    });
}

#[test]
fn creating_opening_and_their_errors() {
    on_both(|disk, dir| {
        let path = dir.join("f");
        let kind = |result: std::io::Result<_>| match result {
            Ok(_) => None,
            Err(e) => Some(e.kind()),
        };
        assert_eq!(kind(disk.open(&path, OpenOptions::read())), Some(ErrorKind::NotFound));
        disk.open(&path, OpenOptions::create_new()).unwrap().write_all_at(b"abc", 0).unwrap();
        assert_eq!(kind(disk.open(&path, OpenOptions::create_new())), Some(ErrorKind::AlreadyExists));
        assert_eq!(kind(disk.open(&path.join("g"), OpenOptions::create())), Some(ErrorKind::NotADirectory));
        assert_eq!(kind(disk.open(&dir.join("no/f"), OpenOptions::create())), Some(ErrorKind::NotFound));
        let reader = disk.open(&path, OpenOptions::read()).unwrap();
        assert!(reader.write_all_at(b"x", 0).is_err(), "a read-only handle does not write");
        assert_eq!(disk.open(&path, OpenOptions::create().truncate()).unwrap().len().unwrap(), 0);
        let meta = disk.metadata(&path).unwrap();
        assert_eq!((meta.len, meta.is_dir, meta.mode), (0, false, 0o600));
        assert!(!disk.exists(&dir.join("nope")).unwrap());
    });
}

#[test]
fn names_in_directories() {
    on_both(|disk, dir| {
        disk.create_dir_all(&dir.join("a/b"), 0o700).unwrap();
        disk.create_dir_all(&dir.join("a/b"), 0o700).unwrap();
        assert_eq!(disk.create_dir(&dir.join("a"), 0o700).unwrap_err().kind(), ErrorKind::AlreadyExists);
        for name in ["z", "m", "a/x"] {
            disk.open(&dir.join(name), OpenOptions::create()).unwrap();
        }
        assert_eq!(disk.list(dir).unwrap(), ["a", "m", "z"]);
        disk.rename(&dir.join("z"), &dir.join("a/x")).unwrap();
        disk.rename(&dir.join("a/b"), &dir.join("moved")).unwrap();
        disk.sync_dir(dir).unwrap();
        assert_eq!(disk.list(dir).unwrap(), ["a", "m", "moved"]);
        assert_eq!(disk.list(&dir.join("a")).unwrap(), ["x"]);
        disk.remove_dir_all(&dir.join("a")).unwrap();
        disk.remove_file(&dir.join("m")).unwrap();
        assert_eq!(disk.remove_file(&dir.join("m")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list(dir).unwrap(), ["moved"]);
        assert_eq!(disk.list(&dir.join("nope")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_no_file_system_can_do_is_refused_alike() {
    on_both(|disk, dir| {
        let path = dir.join("f");
        let file = disk.open(&path, OpenOptions::create()).unwrap();
        let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(file.allocate(0, 0)), ErrorKind::InvalidInput);
        assert_eq!(kind(file.allocate(i64::MAX as u64, 10)), ErrorKind::FileTooLarge);
        assert_eq!(kind(file.write_all_at(b"x", u64::MAX)), ErrorKind::InvalidInput);
        assert_eq!(kind(file.set_len(u64::MAX)), ErrorKind::InvalidInput);
        assert_eq!(kind(file.read_at(&mut [0], u64::MAX).map(drop)), ErrorKind::InvalidInput);
        assert_eq!(file.len().unwrap(), 0);
        assert_eq!(kind(disk.create_dir_all(&path, 0o700)), ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.create_dir_all(&path.join("below"), 0o700)), ErrorKind::NotADirectory);
        disk.create_dir(&dir.join("a"), 0o700).unwrap();
        assert_eq!(kind(disk.rename(&dir.join("a"), &dir.join("a/b"))), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.rename(&dir.join("a"), &path)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.rename(&path, &dir.join("a"))), ErrorKind::IsADirectory);
    });
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    on_both(|disk, dir| {
        let file = disk.open(&dir.join("f"), OpenOptions::create()).unwrap();
        file.write_all_at(b"still here", 0).unwrap();
        disk.remove_file(&dir.join("f")).unwrap();
        disk.sync_dir(dir).unwrap();
        let mut buf = [0; 10];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"still here");
    });
}

#[test]
fn locks_exclude_other_handles_of_the_same_kind() {
    on_both(|disk, dir| {
        let open = || disk.open(&dir.join("f"), OpenOptions::create()).unwrap();
        let (a, b) = (open(), open());
        assert!(a.try_lock(LockKind::OfdExclusive).unwrap());
        assert!(a.try_lock(LockKind::OfdExclusive).unwrap(), "again by its owner");
        assert!(!b.try_lock(LockKind::OfdExclusive).unwrap());
        assert!(b.try_lock(LockKind::FlockExclusive).unwrap(), "the two kinds do not see each other");
        assert!(!a.try_lock(LockKind::FlockShared).unwrap());
        b.unlock(LockKind::FlockExclusive).unwrap();
        assert!(a.try_lock(LockKind::FlockShared).unwrap());
        assert!(b.try_lock(LockKind::FlockShared).unwrap());
        assert!(!b.try_lock(LockKind::FlockExclusive).unwrap());
        drop(a);
        assert!(b.try_lock(LockKind::OfdExclusive).unwrap(), "closing releases");
        assert!(b.try_lock(LockKind::FlockExclusive).unwrap());
    });
}

/// A byte as a holder of the map sees it now.
fn seen(map: &Map, at: usize) -> u8 {
    assert!(at < map.len());
    #[expect(unsafe_code, reason = "a map hands out an address only")]
    // SAFETY: `at` lies in the map and, in these tests, in the file; nobody writes meanwhile.
    unsafe {
        map.as_ptr().add(at).read_volatile()
    }
}

#[test]
fn a_map_shows_what_was_written_before_and_after_it() {
    on_both(|disk, dir| {
        let file = disk.open(&dir.join("f"), OpenOptions::create()).unwrap();
        file.write_all_at(&[7; 5000], 0).unwrap();
        let map = file.map(1 << 20).unwrap();
        assert_eq!((map.len(), map.is_empty()), (1 << 20, false));
        assert_eq!((seen(&map, 0), seen(&map, 4999)), (7, 7));
        file.write_all_at(&[8], 4999).unwrap();
        file.write_all_at(&[9; 5000], 100_000).unwrap();
        let later = file.map(1 << 20).unwrap();
        drop(file);
        disk.remove_file(&dir.join("f")).unwrap();
        for map in [&map, &later] {
            let bytes = [4998, 4999, 50_000, 100_000, 104_999].map(|at| seen(map, at));
            assert_eq!(bytes, [7, 8, 0, 9, 9], "the map outlives its handle and the name");
        }
    });
}
