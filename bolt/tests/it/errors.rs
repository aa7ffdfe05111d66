//! Bad input and bad luck: what the errors say, and that the database is usable afterwards where it can be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_bolt::{Db, Error, MAX_KEY_SIZE, MAX_VALUE_SIZE, Options, Result};
use stanchion_disk::{Disk as _, Faults, OpenOptions, RealDisk, SimDisk};

const PAGE: u64 = 4096;

fn open(disk: &SimDisk) -> Result<Db> {
    Db::open(Arc::new(disk.clone()), "db", Options::default())
}

/// A database with a few hundred rows in bucket `b`, closed; returns it with the id of its last commit.
fn filled() -> (SimDisk, u64) {
    let disk = SimDisk::new(1);
    let db = open(&disk).unwrap();
    db.update::<_, Error>(|tx| {
        let mut bucket = tx.create_bucket("b")?;
        (0..300_u32).try_for_each(|i| bucket.put(i.to_be_bytes(), [7; 100]))
    })
    .unwrap();
    let txid = db.begin_read().unwrap().txid();
    drop(db);
    (disk, txid)
}

fn overwrite(disk: &SimDisk, offset: u64, bytes: &[u8]) {
    let file = disk.open(Path::new("db"), OpenOptions::write()).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn read(disk: &SimDisk, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.open(Path::new("db"), OpenOptions::read()).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Rewrites a field of both meta pages, with the right checksum.
fn set_meta(disk: &SimDisk, at: usize, field: &[u8]) {
    for page in 0..2 {
        let mut meta = read(disk, page * PAGE + 16, 64);
        meta[at..at + field.len()].copy_from_slice(field);
        let sum = meta[..56]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, &b| (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        meta[56..].copy_from_slice(&sum.to_le_bytes());
        overwrite(disk, page * PAGE + 16, &meta);
    }
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("this must be refused").to_string()
}

#[test]
fn not_a_bolt_file() {
    let disk = SimDisk::new(1);
    disk.open(Path::new("db"), OpenOptions::create()).unwrap().write_all_at(&[b'x'; 10_000], 0).unwrap();
    let expected = r#""db" is not a bolt file: no meta page with magic 0xED0CDAED (file has 10000 bytes)"#;
    assert_eq!(message(open(&disk)), expected);
    assert_eq!(read(&disk, 0, 10_000), [b'x'; 10_000], "a foreign file is left alone");
}

#[test]
fn wrong_version() {
    let (disk, _) = filled();
    set_meta(&disk, 4, &3_u32.to_le_bytes());
    assert_eq!(message(open(&disk)), r#""db" has format version 3, expected 2"#);
}

#[test]
fn wrong_page_size() {
    let (disk, _) = filled();
    set_meta(&disk, 8, &5000_u32.to_le_bytes());
    let expected = r#""db" has page size 5000, which is no power of two from 1024 to 16777216"#;
    assert_eq!(message(open(&disk)), expected);
    let options = Options { page_size: 1000, ..Options::default() };
    let created = Db::open(Arc::new(SimDisk::new(1)), "db", options);
    assert_eq!(
        message(created),
        r#""db" has page size 1000, which is no power of two from 1024 to 16777216"#
    );
}

#[test]
fn a_file_shorter_than_its_meta_page_says() {
    let (disk, _) = filled();
    let pages = open(&disk).unwrap().stats().pages;
    let file = disk.open(Path::new("db"), OpenOptions::write()).unwrap();
    file.set_len(pages * PAGE - 1).unwrap();
    let expected =
        format!(r#""db" has {} bytes, but its meta page counts {} bytes"#, pages * PAGE - 1, pages * PAGE);
    assert_eq!(message(open(&disk)), expected);
}

#[test]
fn one_damaged_meta_page_is_survived_and_two_are_not() {
    let (disk, txid) = filled();
    disk.flip_bit(Path::new("db"), (txid % 2) * PAGE + 40, 0).unwrap();
    let db = open(&disk).unwrap();
    assert_eq!(db.begin_read().unwrap().txid(), txid - 1, "the older meta page counts");
    drop(db);
    disk.flip_bit(Path::new("db"), (1 - txid % 2) * PAGE + 40, 0).unwrap();
    let text = message(open(&disk));
    assert!(text.starts_with(r#""db": both meta pages are damaged (meta checksum 0x"#), "{text}");
}

#[test]
fn corrupt_pages_are_named() {
    let (disk, _) = filled();
    let root = open(&disk).unwrap().begin_read().unwrap().meta().root;
    overwrite(&disk, root * PAGE + 8, &[0x20, 0]);
    assert_eq!(message(open(&disk)), format!("page {root}: type 0x20, expected branch (0x1) or leaf (0x2)"));
    // A file that is only read is opened: damage elsewhere does not matter.
    let db = Db::open(Arc::new(disk.clone()), "db", Options::read_only()).unwrap();
    let tx = db.begin_read().unwrap();
    let text = message(tx.bucket("b"));
    assert_eq!(text, format!("page {root}: type 0x20, expected branch (0x1) or leaf (0x2)"));
    assert_eq!(tx.check().len(), 1, "{:?}", tx.check());
}

#[test]
fn a_branch_that_leads_back_to_itself_is_no_endless_loop() {
    let (disk, _) = filled();
    let branch = {
        let db = open(&disk).unwrap();
        let tx = db.begin_read().unwrap();
        tx.bucket("b").unwrap().unwrap().root_page()
    };
    // The first element's child: the branch itself.
    overwrite(&disk, branch * PAGE + 16 + 8, &branch.to_le_bytes());
    assert_eq!(message(open(&disk)), format!("page {branch}: used twice"));
    let db = Db::open(Arc::new(disk), "db", Options::read_only()).unwrap();
    let tx = db.begin_read().unwrap();
    let bucket = tx.bucket("b").unwrap().unwrap();
    let text = message(bucket.get(&0_u32.to_be_bytes()));
    assert!(text.contains("deeper than 64 pages (a cycle?)"), "{text}");
    assert!(bucket.iter().count() < 1000);
    assert!(tx.check().iter().any(|f| f.what.contains("referenced more than once")));
    assert!(message(tx.pages()).contains("reached twice (a cycle?)"));
}

#[test]
#[cfg_attr(miri, ignore = "locks a real file")]
fn a_locked_file_is_waited_for_as_long_as_the_caller_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let open = |options: Options| Db::open(Arc::new(RealDisk), &path, options);
    let held = open(Options::default()).unwrap();
    let limit = Duration::from_millis(60);
    let start = Instant::now();
    let text = message(open(Options { lock_timeout: Some(limit), ..Options::default() }));
    assert!(start.elapsed() >= limit);
    assert_eq!(text, format!("{path:?} is locked by another handle; gave up after 60ms"));
    let text = message(open(Options { lock_timeout: Some(Duration::ZERO), ..Options::read_only() }));
    assert_eq!(text, format!("{path:?} is locked by another handle; gave up after 0ns"));
    // A transaction keeps the file as well.
    let reader = held.begin_read().unwrap();
    drop(held);
    open(Options { lock_timeout: Some(Duration::ZERO), ..Options::default() }).unwrap_err();
    drop(reader);
    // Several may read; nobody writes meanwhile.
    let first = open(Options::read_only()).unwrap();
    let second = open(Options::read_only()).unwrap();
    open(Options { lock_timeout: Some(Duration::ZERO), ..Options::default() }).unwrap_err();
    drop((first, second));
    open(Options { lock_timeout: Some(Duration::ZERO), ..Options::default() }).unwrap();
}

#[test]
fn read_only_media_and_read_only_handles() {
    let (disk, txid) = filled();
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let db = Db::open(Arc::new(disk.clone()), "db", Options::read_only()).unwrap();
    assert_eq!(db.begin_read().unwrap().txid(), txid);
    assert_eq!(message(db.begin_write()), "the database was opened read-only");
    assert_eq!(message(db.shrink_step(8)), "the database was opened read-only");
    drop(db);
    let text = message(open(&disk).and_then(|db| db.begin_write()?.commit()));
    assert!(text.starts_with(r#"open "db": "#) || text.starts_with(r#"write "db": "#), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    let missing = Db::open(Arc::new(SimDisk::new(1)), "db", Options::read_only());
    assert!(message(missing).starts_with(r#"open "db": "#));
}

#[test]
#[cfg_attr(miri, ignore = "ten thousands of rows")]
fn a_full_disk_fails_the_transaction_and_nothing_else() {
    for shrinking in [false, true] {
        let (disk, txid) = filled();
        let db = open(&disk).unwrap();
        let before = db.begin_read().unwrap();
        disk.set_faults(Faults { space_bytes: Some(disk.used_bytes()), ..Faults::default() });
        for _ in 0..3 {
            let text = message(db.update::<_, Error>(|tx| {
                let mut bucket = tx.bucket_mut("b")?;
                (0..3000_u32).try_for_each(|i| bucket.put(i.to_be_bytes(), [8; 500]))
            }));
            assert!(text.contains("No space left on device"), "{text}");
            let tx = db.begin_read().unwrap();
            assert_eq!((tx.txid(), tx.check()), (txid, vec![]));
            let rows: Vec<_> = tx.bucket("b").unwrap().unwrap().iter().map(Result::unwrap).collect();
            let old: Vec<_> = before.bucket("b").unwrap().unwrap().iter().map(Result::unwrap).collect();
            assert_eq!(rows, old);
        }
        if shrinking {
            db.shrink_step(8).unwrap();
        }
        disk.set_faults(Faults::default());
        db.update::<_, Error>(|tx| tx.bucket_mut("b")?.put("more", [9; 50_000])).unwrap();
        assert_eq!(db.begin_read().unwrap().check(), []);
        drop((before, db));
        let db = open(&disk).unwrap();
        let tx = db.begin_read().unwrap();
        assert_eq!(tx.bucket("b").unwrap().unwrap().get(b"more").unwrap(), Some(&[9; 50_000][..]));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_the_file_is_opened_again() {
    let (disk, _) = filled();
    let db = open(&disk).unwrap();
    let mut tx = db.begin_write().unwrap();
    tx.bucket_mut("b").unwrap().put("k", "v").unwrap();
    disk.set_faults(Faults { sync_error: 1.0, ..Faults::default() });
    assert!(message(tx.commit()).starts_with(r#"sync "db": "#));
    disk.set_faults(Faults::default());
    let poisoned = "an earlier sync or meta write failed; open the database again";
    assert_eq!(message(db.begin_write()), poisoned);
    assert_eq!(message(db.begin_read()), poisoned);
    assert_eq!(message(db.shrink_step(8)), poisoned);
    drop(db);
    let db = open(&disk).unwrap();
    assert_eq!(db.begin_read().unwrap().check(), []);
    db.update::<_, Error>(|tx| tx.bucket_mut("b")?.put("k", "v")).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "a value of 2 GiB")]
fn keys_and_values_of_the_wrong_size() {
    let (disk, _) = filled();
    let db = open(&disk).unwrap();
    let mut tx = db.begin_write().unwrap();
    let mut bucket = tx.bucket_mut("b").unwrap();
    assert_eq!(message(bucket.put("", "v")), "the key is empty");
    let key = vec![1; MAX_KEY_SIZE + 1];
    assert_eq!(message(bucket.put(&key, "v")), "the key has 32769 bytes, at most 32768 are allowed");
    bucket.put(&key[1..], "v").unwrap();
    // Zeros that were never written cost no memory.
    let value = vec![0; MAX_VALUE_SIZE + 1];
    let expected = "the value has 2147483647 bytes, at most 2147483646 are allowed";
    assert_eq!(message(bucket.put("k", &value)), expected);
    assert_eq!(message(bucket.create_bucket("")), "the bucket name is empty");
    assert_eq!(message(tx.create_bucket("")), "the bucket name is empty");
    assert_eq!(message(tx.create_bucket(&key)), "the key has 32769 bytes, at most 32768 are allowed");
    tx.commit().unwrap();
    let tx = db.begin_read().unwrap();
    assert_eq!(
        (tx.bucket("b").unwrap().unwrap().get(&key[1..]).unwrap(), tx.check()),
        (Some(&b"v"[..]), vec![])
    );
}

#[test]
fn buckets_that_exist_are_missing_or_are_values() {
    let (disk, _) = filled();
    let db = open(&disk).unwrap();
    let mut tx = db.begin_write().unwrap();
    assert_eq!(message(tx.create_bucket("b")), r#"bucket "b" exists"#);
    assert_eq!(message(tx.bucket_mut("c")), r#"bucket "c" not found"#);
    assert_eq!(message(tx.delete_bucket("c")), r#"bucket "c" not found"#);
    let mut bucket = tx.bucket_mut("b").unwrap();
    bucket.create_bucket("inner").unwrap();
    bucket.put("value", "v").unwrap();
    assert_eq!(message(bucket.put("inner", "v")), r#""inner" is a bucket, not a value"#);
    assert_eq!(message(bucket.delete("inner")), r#""inner" is a bucket, not a value"#);
    assert_eq!(bucket.get("inner").unwrap(), None);
    assert_eq!(message(bucket.bucket_mut("value")), r#""value" is a value, not a bucket"#);
    assert_eq!(message(bucket.create_bucket("value")), r#""value" is a value, not a bucket"#);
    assert_eq!(message(bucket.create_bucket_if_not_exists("value")), r#""value" is a value, not a bucket"#);
    assert_eq!(message(bucket.delete_bucket("value")), r#""value" is a value, not a bucket"#);
    assert_eq!(message(bucket.bucket("value")), r#""value" is a value, not a bucket"#);
}

#[test]
fn a_stored_freelist_that_cannot_be_true_is_refused() {
    let disk = SimDisk::new(1);
    let options = Options { sync_freelist: true, ..Options::default() };
    let open = || Db::open(Arc::new(disk.clone()), "db", options.clone());
    let db = open().unwrap();
    for i in 0..3_u32 {
        db.update::<_, Error>(|tx| tx.create_bucket_if_not_exists("b")?.put(i.to_be_bytes(), [1; 5000]))
            .unwrap();
    }
    let meta = db.begin_read().unwrap().meta();
    let free = db.stats().free_pages + db.stats().pending_pages;
    drop(db);
    let db = open().unwrap();
    assert_eq!(db.stats().free_pages, free, "the stored list says what was free or pending");
    drop(db);
    let list = meta.freelist * PAGE;
    let ids = read(&disk, list + 16, 16);
    let bad: [(u64, &str); 3] =
        [(meta.root, "which is in use"), (1, "outside 2.."), (1 << 40, "outside 2..")];
    for (page, what) in bad {
        overwrite(&disk, list + 16, &page.to_le_bytes());
        let text = message(open());
        assert!(text.contains(&format!("freelist holds page {page}, {what}")), "{text}");
    }
    let first = u64::from_le_bytes(ids[..8].try_into().unwrap());
    for page in (2..meta.high_water).filter(|page| *page != first) {
        overwrite(&disk, list + 16, &page.to_le_bytes());
        let text = message(open());
        assert!(text.contains(&format!("freelist holds page {page}, ")), "{text}");
    }
    overwrite(&disk, list + 16, &ids[8..]);
    assert!(message(open()).ends_with("twice"), "{}", message(open()));
    overwrite(&disk, list + 16, &ids);
    open().unwrap();
}
