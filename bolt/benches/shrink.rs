//! Online shrinking of a file that is 90 % free: how small it becomes, and how long its steps take beside ordinary
//! commits.
//!
//! Rows of 17 + 300 bytes; of each 1,000 the last 900 are deleted, so that what stays is scattered all over the file.
//! Steps then alternate with ordinary commits that write about as many pages, while a thread reads everything again and
//! again.
//!
//! ```text
//! BOLT_SHRINK_ROWS (300000; 3000000 make a file of 1 GiB)   BOLT_SHRINK_STEP (256 pages)
//! BOLT_SHRINK_DIR (the temporary directory)
//! ```

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stanchion_bolt::{BucketMut, Db, Options, Result};
use stanchion_disk::RealDisk;

const BATCH: u64 = 10_000;
/// Of so many rows, the first ones stay.
const STRETCH: u64 = 1000;
const STAYS: u64 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

fn key(i: u64) -> [u8; 17] {
    let mut key = [b'_'; 17];
    key[..8].copy_from_slice(&i.to_be_bytes());
    key
}

fn main() -> Result<()> {
    let (rows, step) = (setting("BOLT_SHRINK_ROWS", 300_000), setting("BOLT_SHRINK_STEP", 256));
    let dir = match std::env::var("BOLT_SHRINK_DIR") {
        Ok(parent) => tempfile::tempdir_in(parent),
        Err(_) => tempfile::tempdir(),
    };
    let dir = dir.expect("a directory");
    let db = Db::open(Arc::new(RealDisk), dir.path().join("db"), Options::default())?;
    report("commit of 10,000 puts", load(&db, rows)?);
    report("commit of 10,000 deletes", delete(&db, rows)?);
    let full = db.file_len()?;
    let (steps, commits) = shrink(&db, rows, step)?;
    report(&format!("step of at most {step} pages"), steps);
    report(&format!("commit of {step} rows beside it"), commits);
    let (shrunk, compacted) = (db.file_len()?, compacted_len(&db, &dir.path().join("compact"))?);
    println!(
        "file: {full} bytes became {shrunk}, compaction makes {compacted}: {:.3} times",
        shrunk as f64 / compacted as f64
    );
    Ok(())
}

/// Fills the bucket; the times of the commits.
fn load(db: &Db, rows: u64) -> Result<Vec<Duration>> {
    let batches = (0..rows).step_by(BATCH as usize);
    let timed = batches.map(|first| {
        timed(db, |bucket| (first..first + BATCH).try_for_each(|i| bucket.put(key(i), [i as u8; 300])))
    });
    timed.collect()
}

/// Deletes nine of ten rows; the times of the commits.
fn delete(db: &Db, rows: u64) -> Result<Vec<Duration>> {
    let dead: Vec<u64> = (0..rows).filter(|i| i % STRETCH >= STAYS).collect();
    let timed = dead
        .chunks(BATCH as usize)
        .map(|dead| timed(db, |bucket| dead.iter().try_for_each(|&i| bucket.delete(key(i)).map(drop))));
    timed.collect()
}

fn timed(db: &Db, change: impl FnOnce(&mut BucketMut<'_>) -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    db.update(|tx| {
        let mut bucket = tx.create_bucket_if_not_exists("key")?;
        bucket.set_fill_percent(0.9);
        change(&mut bucket)
    })?;
    Ok(start.elapsed())
}

/// The times of the steps, and of the ordinary commits between them, while a thread reads.
fn shrink(db: &Db, rows: u64, step: u64) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let tx = db.begin_read().expect("a transaction");
                let bucket = tx.bucket("key").expect("readable").expect("there");
                assert_eq!(bucket.iter().count() as u64, rows / STRETCH * STAYS);
            }
        });
        let times = steps_and_commits(db, rows, step);
        over.store(true, Ordering::Relaxed);
        times
    })
}

fn steps_and_commits(db: &Db, rows: u64, step: u64) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut steps, mut commits) = (Vec::new(), Vec::new());
    let live = rows / STRETCH * STAYS;
    loop {
        let start = Instant::now();
        if db.shrink_step(step)?.done {
            return Ok((steps, commits));
        }
        steps.push(start.elapsed());
        // Rows far from each other, other ones each time.
        let first = commits.len() as u64;
        commits.push(timed(db, |bucket| {
            (0..step).try_for_each(|n| {
                let row = (first + n * live / step) % live;
                let i = row / STAYS * STRETCH + row % STAYS;
                bucket.put(key(i), [i as u8; 300])
            })
        })?);
    }
}

fn compacted_len(db: &Db, path: &Path) -> Result<u64> {
    let options = Options { no_sync: true, ..Options::default() };
    let copy = db.begin_read()?.compact_to(Arc::new(RealDisk), path, options, 0)?;
    Ok(copy.begin_read()?.size())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let millis = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!(
        "{what}: {} times, median {:.1} ms, 99 % within {:.1} ms, longest {:.1} ms",
        times.len(),
        millis(50),
        millis(99),
        millis(100)
    );
}
