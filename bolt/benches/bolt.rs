//! Loading, lookups, scans, deletions, and what a commit costs beside a large freelist.
//!
//! The two workloads of the comparison with other engines (`bench/peers/bolt`) at a size that fits criterion.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stanchion_bolt::{Db, Error, Options};
use stanchion_disk::RealDisk;

const ROWS: u64 = 200_000;
const BATCH: u64 = 10_000;

/// A number that looks random (the finalizer of SplitMix64).
fn mix(i: u64) -> u64 {
    let z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 17 bytes that rise, as etcd's revisions.
fn rising(i: u64) -> Vec<u8> {
    [&i.to_be_bytes()[..], b"_", &[0; 8]].concat()
}

/// 32 bytes in no order.
fn random(i: u64) -> Vec<u8> {
    (0..4).flat_map(|part| mix(4 * i + part).to_be_bytes()).collect()
}

type Load = (&'static str, fn(u64) -> Vec<u8>, f64);

const LOADS: [Load; 2] = [("rising", rising, 0.9), ("random", random, 0.5)];

fn open(dir: &Path) -> Db {
    Db::open(Arc::new(RealDisk), dir.join("db"), Options::default()).expect("a new database")
}

fn put(db: &Db, load: Load, rows: std::ops::Range<u64>) {
    db.update::<_, Error>(|tx| {
        let mut bucket = tx.create_bucket_if_not_exists("key")?;
        bucket.set_fill_percent(load.2);
        rows.into_iter().try_for_each(|i| bucket.put(load.1(i), [i as u8; 300]))
    })
    .expect("written");
}

fn loaded(dir: &Path, load: Load) -> Db {
    let db = open(dir);
    for first in (0..ROWS).step_by(BATCH as usize) {
        put(&db, load, first..first + BATCH);
    }
    db
}

fn rows(c: &mut Criterion) {
    for load in LOADS {
        let dir = tempfile::tempdir().expect("a directory");
        let db = loaded(dir.path(), load);
        let mut group = c.benchmark_group(load.0);
        group.sample_size(20);
        let tx = db.begin_read().expect("a transaction");
        let bucket = tx.bucket("key").expect("readable").expect("a bucket");
        let mut n = 0;
        group.bench_function("get", |b| {
            b.iter_batched(
                || {
                    n += 1;
                    load.1(mix(n) % ROWS)
                },
                |key| bucket.get(&key).expect("readable").expect("a row")[0],
                BatchSize::SmallInput,
            );
        });
        group.throughput(Throughput::Elements(1000));
        group.bench_function("scan of 1,000", |b| {
            b.iter_batched(
                || {
                    n += 1;
                    load.1(mix(n) % (ROWS - 1000))
                },
                |key| {
                    let entries = bucket.range(key..).take(1000);
                    entries.map(|e| e.expect("readable").1.map_or(0, |v| usize::from(v[0]))).sum::<usize>()
                },
                BatchSize::SmallInput,
            );
        });
        group.throughput(Throughput::Elements(BATCH));
        group.sample_size(10);
        let mut next = ROWS;
        group.bench_function("commit of 10,000 puts", |b| {
            b.iter(|| {
                put(&db, load, next..next + BATCH);
                next += BATCH;
            });
        });
        let mut dead = 0;
        group.bench_function("commit of 1,000 deletes", |b| {
            b.iter(|| {
                db.update::<_, Error>(|tx| {
                    let mut bucket = tx.bucket_mut("key")?;
                    (dead..dead + 1000).try_for_each(|i| bucket.delete(load.1(i)).map(drop))
                })
                .expect("deleted");
                dead += 1000;
            });
        });
    }
}

/// A database of small pages with so many free ones, every other page, so that no two are neighbours.
fn scattered(dir: &Path, free: u64) -> Db {
    let options = Options { page_size: 1024, ..Options::default() };
    let db = Db::open(Arc::new(RealDisk), dir.join("db"), options).expect("a new database");
    let page = |i: u64| (rising(i), vec![1; 600]);
    for first in (0..2 * free).step_by(20_000) {
        db.update::<_, Error>(|tx| {
            let mut bucket = tx.create_bucket_if_not_exists("pages")?;
            bucket.set_fill_percent(1.0);
            (first..first + 20_000).map(page).try_for_each(|(k, v)| bucket.put(k, v))
        })
        .expect("written");
    }
    for first in (0..2 * free).step_by(20_000) {
        db.update::<_, Error>(|tx| {
            let mut bucket = tx.create_bucket_if_not_exists("pages")?;
            (first..first + 20_000).step_by(2).try_for_each(|i| bucket.delete(rising(i)).map(drop))
        })
        .expect("deleted");
    }
    db
}

/// The latency of a small commit with few and with many free pages: 100 rows overwritten.
fn commits(c: &mut Criterion) {
    let most = std::env::var("BOLT_FREE_PAGES").map_or(100_000, |n| n.parse().expect("a number of pages"));
    let mut group = c.benchmark_group("small commit");
    for free in [0, most] {
        let dir = tempfile::tempdir().expect("a directory");
        let db = scattered(dir.path(), free);
        put(&db, LOADS[0], 0..BATCH);
        let mut n = 0;
        group.bench_function(BenchmarkId::new("free pages", db.stats().free_pages), |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    n = (n + 100) % BATCH;
                    let start = Instant::now();
                    put(&db, LOADS[0], n..n + 100);
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
}

/// One step of online shrinking, and how long a file takes to shrink.
fn shrinking(c: &mut Criterion) {
    let mut group = c.benchmark_group("shrink");
    group.sample_size(10);
    group.bench_function("step of 256 pages", |b| {
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            let mut done = 0;
            while done < times {
                let dir = tempfile::tempdir().expect("a directory");
                let db = loaded(dir.path(), LOADS[0]);
                db.update::<_, Error>(|tx| {
                    let mut bucket = tx.bucket_mut("key")?;
                    (0..ROWS)
                        .filter(|i| i / 500 % 2 == 0)
                        .try_for_each(|i| bucket.delete(rising(i)).map(drop))
                })
                .expect("deleted");
                while done < times {
                    let start = Instant::now();
                    let report = db.shrink_step(256).expect("a step");
                    if report.moved + report.joined < 200 {
                        break;
                    }
                    spent += start.elapsed();
                    done += 1;
                }
            }
            spent
        });
    });
}

criterion_group!(benches, rows, commits, shrinking);
criterion_main!(benches);
