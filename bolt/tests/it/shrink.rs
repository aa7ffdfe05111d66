//! Online shrinking: how far the file shrinks, and what readers and the writer notice of it (nothing).

use std::path::Path;
use std::sync::Arc;

use stanchion_bolt::{Db, Options, ReadTx, ShrinkReport};
use stanchion_disk::RealDisk;

const STEP: u64 = 64;

fn open(path: &Path) -> Db {
    let options = Options { no_sync: true, ..Options::default() };
    Db::open(Arc::new(RealDisk), path, options).unwrap()
}

fn key(i: u64) -> [u8; 17] {
    let mut key = [b'_'; 17];
    key[..8].copy_from_slice(&i.to_be_bytes());
    key
}

/// Rising 17-byte keys with values of 300 bytes, as etcd writes its revisions.
fn load(db: &Db, keys: u64) {
    for first in (0..keys).step_by(10_000) {
        db.update::<_, stanchion_bolt::Error>(|tx| {
            let mut bucket = tx.create_bucket_if_not_exists("key")?;
            bucket.set_fill_percent(0.9);
            (first..keys.min(first + 10_000)).try_for_each(|i| bucket.put(key(i), [i as u8; 300]))
        })
        .unwrap();
    }
}

fn delete(db: &Db, keys: impl Iterator<Item = u64>) {
    let keys: Vec<u64> = keys.collect();
    for part in keys.chunks(10_000) {
        db.update::<_, stanchion_bolt::Error>(|tx| {
            let mut bucket = tx.bucket_mut("key")?;
            part.iter().try_for_each(|&i| bucket.delete(key(i)).map(|found| assert!(found)))
        })
        .unwrap();
    }
}

/// Number of keys and a sum over all that is there.
fn digest(tx: &ReadTx) -> (u64, u64) {
    let bucket = tx.bucket("key").unwrap().unwrap();
    let mut digest = (0, 0_u64);
    for entry in bucket.iter() {
        let (key, value) = entry.unwrap();
        let value = value.unwrap();
        let word = u64::from_be_bytes(key[..8].try_into().unwrap()) ^ u64::from(value[value.len() / 2]) << 56;
        digest = (digest.0 + 1, digest.1.wrapping_mul(31).wrapping_add(word));
    }
    digest
}

/// Steps until there is nothing left to do; `between` runs after each.
fn shrink(db: &Db, mut between: impl FnMut(u64, ShrinkReport)) -> u64 {
    for step in 0..100_000 {
        let report = db.shrink_step(STEP).unwrap();
        assert!(report.moved <= STEP + 64, "{report:?}");
        between(step, report);
        if report.done {
            return step;
        }
    }
    panic!("shrinking does not end");
}

fn compacted_len(db: &Db, path: &Path) -> u64 {
    let tx = db.begin_read().unwrap();
    let options = Options { no_sync: true, ..Options::default() };
    let compact = tx.compact_to(Arc::new(RealDisk), path, options, 0).unwrap();
    compact.begin_read().unwrap().size()
}

/// Fragments a file of `keys` rows by 90 % and shrinks it while a writer goes on, then compares with compaction.
fn fragmented(keys: u64, dead: impl Fn(u64) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("db"));
    load(&db, keys);
    let full = db.file_len().unwrap();
    delete(&db, (0..keys).filter(|&i| dead(i)));
    let before = digest(&db.begin_read().unwrap());
    let mut reader = Some(db.begin_read().unwrap());
    let mut written = 0;
    shrink(&db, |step, _| {
        // The writer goes on beside it for a while: it overwrites a live row with the same bytes.
        if step < 10 {
            let i = (0..keys).rev().filter(|&i| !dead(i)).nth(step as usize).unwrap();
            db.update::<_, stanchion_bolt::Error>(|tx| tx.bucket_mut("key")?.put(key(i), [i as u8; 300]))
                .unwrap();
            written += 1;
        }
        if step == 5
            && let Some(reader) = reader.take()
        {
            assert_eq!(digest(&reader), before);
        }
    });
    assert_eq!((written, reader.is_none()), (10, true), "the shrinking was over too soon");
    let tx = db.begin_read().unwrap();
    assert_eq!(tx.check(), []);
    assert_eq!(digest(&tx), before);
    let (len, compacted) = (db.file_len().unwrap(), compacted_len(&db, &dir.path().join("compact")));
    assert!(
        len * 10 <= compacted * 11,
        "{full} bytes became {len}, compaction makes {compacted}: {:?} {:?}",
        db.stats(),
        tx.bucket_stats()
    );
    drop((tx, db));
    // What is left is a file like any other.
    let db = open(&dir.path().join("db"));
    assert_eq!(digest(&db.begin_read().unwrap()), before);
    load(&db, 2000);
    assert_eq!(db.begin_read().unwrap().check(), []);
}

/// 300,000 rows are 100 MiB; STANCHION_SOAK=3000000 makes it 1 GiB.
fn rows() -> u64 {
    std::env::var("STANCHION_SOAK").map_or(300_000, |n| n.parse().expect("a number of rows"))
}

#[test]
fn old_revisions_deleted_in_one_piece() {
    let keys = rows();
    fragmented(keys, |i| i < keys / 10 * 9);
}

#[test]
fn nine_of_ten_rows_deleted_everywhere() {
    fragmented(rows(), |i| !i.is_multiple_of(10));
}

#[test]
fn nine_of_ten_stretches_deleted() {
    fragmented(rows() / 3, |i| !(i / 500).is_multiple_of(10));
}

#[test]
fn readers_keep_their_pages_and_the_file_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("db"));
    load(&db, 40_000);
    let reader = db.begin_read().unwrap();
    let seen = digest(&reader);
    delete(&db, (0..36_000_u64).filter(|i| !i.is_multiple_of(10)));
    let mut waits = false;
    for _ in 0..200 {
        let report = db.shrink_step(STEP).unwrap();
        assert!(!report.done, "the reader's pages are still there: {report:?}");
        waits = report.waiting_for_readers;
        if waits {
            break;
        }
    }
    assert!(waits);
    assert!(db.file_len().unwrap() >= reader.size());
    assert_eq!((digest(&reader), reader.check()), (seen, vec![]));
    let mut backup = Vec::new();
    assert_eq!(reader.write_to(&mut backup).unwrap(), backup.len() as u64);
    drop(reader);
    let before = db.file_len().unwrap();
    shrink(&db, |_, report| assert!(!report.waiting_for_readers));
    assert!(db.file_len().unwrap() * 3 < before);
    assert_eq!(db.begin_read().unwrap().check(), []);
}

#[test]
fn large_values_and_nested_buckets_move_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("db"));
    db.update::<_, stanchion_bolt::Error>(|tx| {
        let mut outer = tx.create_bucket("outer")?;
        for name in 0..40_u8 {
            let mut inner = outer.create_bucket([name])?;
            for i in 0..40_u64 {
                // From a few bytes to twelve pages.
                inner.put(key(i), vec![name; (i * 1234 % 50_000) as usize])?;
            }
        }
        Ok(())
    })
    .unwrap();
    db.update::<_, stanchion_bolt::Error>(|tx| {
        let mut outer = tx.bucket_mut("outer")?;
        (0..36_u8).try_for_each(|name| outer.delete_bucket([name]))
    })
    .unwrap();
    let before = db.file_len().unwrap();
    shrink(&db, |_, _| {});
    let tx = db.begin_read().unwrap();
    assert_eq!(tx.check(), []);
    let outer = tx.bucket("outer").unwrap().unwrap();
    for name in 36..40_u8 {
        let inner = outer.bucket(&[name]).unwrap().unwrap();
        for i in 0..40_u64 {
            assert_eq!(inner.get(&key(i)).unwrap().unwrap(), vec![name; (i * 1234 % 50_000) as usize]);
        }
    }
    let len = db.file_len().unwrap();
    // The live data are a tenth; a step's worth of pages and a large value's are left free at most.
    assert!(len < before / 10 + 4096 * (2 * STEP + 64), "{before} bytes became {len}");
}
