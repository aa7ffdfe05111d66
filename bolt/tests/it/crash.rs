//! A power cut at every disk operation of random transactions: the state before or after the commit, nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use stanchion_bolt::{Db, Error, Options, ReadTx, Result};
use stanchion_disk::SimDisk;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(disk: &SimDisk, sync_freelist: bool) -> Result<Db> {
    let options = Options { page_size: 1024, sync_freelist, ..Options::default() };
    Db::open(Arc::new(disk.clone()), "db", options)
}

/// Opens what several power cuts leave of a disk that has crashed; all of it must be clean and `sound`. Says how many.
fn survivors(disk: &SimDisk, seed: u64, at: u64, sound: impl Fn(&Contents) -> bool) -> u64 {
    const CUTS: u64 = 4;
    for survivor in 0..CUTS {
        let db = open(&disk.after_power_cut(survivor), seed.is_multiple_of(2)).unwrap();
        let tx = db.begin_read().unwrap();
        assert_eq!(tx.check(), [], "seed {seed}, crash at {at}, survivor {survivor}");
        assert!(sound(&contents(&tx)), "seed {seed}, crash at {at}, survivor {survivor}");
    }
    CUTS
}

fn contents(tx: &ReadTx) -> Contents {
    let Some(bucket) = tx.bucket("b").unwrap() else { return Contents::new() };
    bucket.iter().map(|e| e.map(|(k, v)| (k.to_vec(), v.unwrap().to_vec())).unwrap()).collect()
}

/// One random transaction, and what the database holds when it has committed.
fn transaction(db: &Db, rng: &mut Xoshiro256PlusPlus, before: &Contents) -> (Contents, Result<()>) {
    let mut after = before.clone();
    let result = db.update(|tx| {
        let mut bucket = tx.create_bucket_if_not_exists("b")?;
        for _ in 0..rng.next_u64() % 12 {
            let key = vec![b'k', (rng.next_u64() % 64) as u8];
            if rng.next_u64().is_multiple_of(3) {
                bucket.delete(&key)?;
                after.remove(&key);
            } else {
                let value = vec![rng.next_u64() as u8; (rng.next_u64() % 400) as usize];
                bucket.put(&key, &value)?;
                after.insert(key, value);
            }
        }
        Ok(())
    });
    (after, result)
}

/// Runs three transactions and cuts the power at each change of the disk; returns the number of crashes seen.
fn crash_everywhere(seed: u64, survivors: u64) -> u64 {
    let mut cases = 0;
    let base = SimDisk::new(seed);
    let mut start = Contents::new();
    // Every fifth seed begins without a file: the power is cut while it is created, too.
    if !seed.is_multiple_of(5) {
        let rng = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
        let db = open(&base, seed.is_multiple_of(2)).unwrap();
        for _ in 0..4 {
            let (after, result) = transaction(&db, rng, &start);
            result.unwrap();
            start = after;
        }
    }
    for at in 1.. {
        let disk = base.fork(seed + at).unwrap();
        disk.crash_at(disk.changes() + at);
        let rng = &mut Xoshiro256PlusPlus::seed_from_u64(!seed);
        let mut before = start.clone();
        let mut tried = before.clone();
        if let Ok(db) = open(&disk, seed.is_multiple_of(2)) {
            for _ in 0..3 {
                let (after, result) = transaction(&db, rng, &before);
                tried = after;
                if result.is_err() {
                    break;
                }
                before = tried.clone();
            }
        }
        if !disk.is_crashed() {
            return cases;
        }
        for survivor in 0..survivors {
            let db = open(&disk.after_power_cut(survivor), seed.is_multiple_of(2)).unwrap();
            let tx = db.begin_read().unwrap();
            assert_eq!(tx.check(), [], "seed {seed}, crash at {at}, survivor {survivor}");
            let found = contents(&tx);
            assert!(found == before || found == tried, "seed {seed}, crash at {at}, survivor {survivor}");
            cases += 1;
        }
    }
    cases
}

#[test]
#[cfg_attr(miri, ignore = "thousands of cases")]
fn a_power_cut_leaves_the_state_before_or_after_a_commit() {
    let wanted =
        std::env::var("STANCHION_CRASH_CASES").map_or(100_000, |n| n.parse().expect("a number of cases"));
    let mut cases = 0;
    for seed in 0.. {
        cases += crash_everywhere(seed, 8);
        if cases >= wanted {
            return;
        }
    }
}

/// Overwrites 1,500 rows in one commit, a megabyte: pages are written while others are still being built.
fn overwrite(db: &Db, byte: u8) -> Result<()> {
    db.update(|tx| {
        let mut bucket = tx.create_bucket_if_not_exists("b")?;
        (0..1500_u32).try_for_each(|i| bucket.put(i.wrapping_mul(0x9e37_79b9).to_be_bytes(), [byte; 700]))
    })
}

#[test]
#[cfg_attr(miri, ignore = "thousands of rows")]
fn a_power_cut_between_the_writes_of_a_large_commit_loses_nothing() {
    for seed in 0..4 {
        let base = SimDisk::new(seed);
        let db = open(&base, seed.is_multiple_of(2)).unwrap();
        // A second commit can write at the end of the file only, a third one to the pages that the second one freed.
        for byte in 1..=1 + seed as u8 / 2 {
            overwrite(&db, byte).unwrap();
        }
        let before = contents(&db.begin_read().unwrap());
        drop(db);
        for at in 1.. {
            let disk = base.fork(seed + at).unwrap();
            let db = open(&disk, seed.is_multiple_of(2)).unwrap();
            disk.crash_at(disk.changes() + at);
            let committed = overwrite(&db, 9).is_ok();
            if !disk.is_crashed() {
                assert!(committed && at > 8, "a large commit takes {at} changes of the disk");
                break;
            }
            survivors(&disk, seed, at, |found| {
                let after = found.len() == 1500 && found.values().all(|v| v[..] == [9; 700]);
                after || !committed && *found == before
            });
        }
    }
}

#[test]
fn a_creation_that_was_cut_short_begins_again() {
    let sizes: &[u32] = if cfg!(miri) { &[1 << 10] } else { &[1 << 10, 1 << 16, 1 << 20] };
    for &page_size in sizes {
        let options = Options { page_size, ..Options::default() };
        let open = |disk: &SimDisk| Db::open(Arc::new(disk.clone()), "db", options.clone());
        for at in 1.. {
            let disk = SimDisk::new(at);
            disk.crash_at(disk.changes() + at);
            let created = open(&disk).is_ok();
            if !disk.is_crashed() {
                assert!(created && at > 4, "creation takes {at} changes of the disk");
                break;
            }
            for survivor in 0..if cfg!(miri) { 1 } else { 8 } {
                let db = open(&disk.after_power_cut(survivor)).unwrap();
                assert_eq!((db.stats().page_size, db.begin_read().unwrap().check()), (page_size, vec![]));
            }
        }
    }
}

/// A fragmented database: 400 rows written, nine of ten deleted.
fn fragmented(seed: u64) -> (SimDisk, Contents) {
    let disk = SimDisk::new(seed);
    let db = open(&disk, seed.is_multiple_of(2)).unwrap();
    let mut contents = Contents::new();
    let row = |i: u64| (format!("row-{i:04}").into_bytes(), vec![i as u8; 300 + (i % 7) as usize]);
    db.update::<_, Error>(|tx| {
        let mut bucket = tx.create_bucket("b")?;
        (0..400).map(row).try_for_each(|(key, value)| bucket.put(key, value))
    })
    .unwrap();
    db.update::<_, Error>(|tx| {
        let mut bucket = tx.bucket_mut("b")?;
        for i in 0..400 {
            let (key, value) = row(i);
            // Half of the seeds free whole pages, the others leave thin ones.
            let stays = if seed % 4 < 2 { i % 10 == 0 } else { i / 20 % 10 == 9 };
            if stays {
                contents.insert(key, value);
            } else {
                bucket.delete(key)?;
            }
        }
        Ok(())
    })
    .unwrap();
    drop(db);
    (disk, contents)
}

/// Shrinks with a transaction after every other step. Returns what the database held before and after what was tried
/// last; stops at the first error.
fn shrink(db: &Db, rng: &mut Xoshiro256PlusPlus, start: &Contents) -> (Contents, Contents) {
    let (mut before, mut tried) = (start.clone(), start.clone());
    for step in 0..40 {
        match db.shrink_step(8) {
            Ok(report) if report.done => break,
            Ok(_) => {}
            Err(_) => break,
        }
        if step % 2 == 0 {
            let (after, result) = transaction(db, rng, &before);
            tried = after;
            if result.is_err() {
                break;
            }
            before = tried.clone();
        }
    }
    (before, tried)
}

#[test]
#[cfg_attr(miri, ignore = "thousands of cases")]
fn a_power_cut_while_the_file_shrinks_loses_nothing() {
    let mut cases = 0;
    for seed in 0..24 {
        let (base, start) = fragmented(seed);
        for at in 1.. {
            let disk = base.fork(seed + at).unwrap();
            disk.crash_at(disk.changes() + at);
            let rng = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
            let (before, tried) = match open(&disk, seed.is_multiple_of(2)) {
                Ok(db) => shrink(&db, rng, &start),
                Err(_) => (start.clone(), start.clone()),
            };
            if !disk.is_crashed() {
                let pages = open(&disk, false).unwrap().stats().pages;
                assert!(pages < 130, "seed {seed}: the file has shrunk to {pages} pages only");
                break;
            }
            cases += survivors(&disk, seed, at, |found| *found == before || *found == tried);
        }
    }
    assert!(cases > 2000, "{cases} cases");
}

#[test]
fn a_shrunken_file_is_whole_by_its_older_meta_page_too() {
    for seed in 0..if cfg!(miri) { 1 } else { 8 } {
        let (disk, contents_before) = fragmented(seed);
        let db = open(&disk, seed.is_multiple_of(2)).unwrap();
        let mut steps = 0;
        while !db.shrink_step(8).unwrap().done {
            let txid = db.begin_read().unwrap().txid();
            let copy = disk.fork(steps).unwrap();
            copy.flip_bit(Path::new("db"), (txid % 2) * 1024 + 40, 3).unwrap();
            let older = open(&copy, seed.is_multiple_of(2)).unwrap();
            let tx = older.begin_read().unwrap();
            assert_eq!((tx.txid(), tx.check()), (txid - 1, vec![]), "seed {seed}, step {steps}");
            assert_eq!(contents(&tx), contents_before);
            steps += 1;
        }
        assert!(steps > 3, "{steps} steps");
    }
}
