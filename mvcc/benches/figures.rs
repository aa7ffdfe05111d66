//! Figures that are no operation's cost: memory per key, restore, compaction, and how slow the slowest puts are beside
//! heavy work. Prints one line each and fails where a promise is broken.
//!
//! `STANCHION_BENCH_KEYS=1000000` chooses the number of keys.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use std::alloc::System;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cap::Cap;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use stanchion_disk::RealDisk;
use stanchion_mvcc::{CompactionStep, KeyRange, Put, RangeOptions, Store, StoreOptions};

#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

const VALUE: [u8; 256] = [b'v'; 256];
const KEY_LEN: usize = 16;
/// Rows per commit while loading. The file engine keeps a commit's buffers for the next one, so large commits would
/// be counted as memory of the keys.
const COMMIT_ROWS: usize = 1000;
/// Rows per compaction step: a few milliseconds of work.
const COMPACTION_ROWS: usize = 20_000;
/// Pages that a step of shrinking moves at most.
const SHRINK_PAGES: u64 = 256;

fn key(i: u64) -> [u8; KEY_LEN] {
    let mut key = *b"/bench/_________";
    key[8..].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn open(path: &Path, threads: usize) -> Store {
    // Syncs would measure the disk; what is measured here is memory and processors.
    let options = StoreOptions { restore_threads: threads, sync: false, ..StoreOptions::default() };
    Store::open(Arc::new(RealDisk), path, &options).expect("the store opens").0
}

fn put_keys(store: &Store, keys: impl Iterator<Item = u64>) {
    for (n, i) in keys.enumerate() {
        let mut txn = store.write();
        txn.put(Put::new(&key(i), &VALUE)).expect("a put");
        assert_eq!(txn.end().events.len(), 1);
        if n % COMMIT_ROWS == COMMIT_ROWS - 1 {
            store.commit().expect("a commit");
        }
    }
    store.commit().expect("a commit");
}

fn memory(path: &Path, keys: u64) {
    let before = ALLOCATED.allocated();
    let store = open(path, 0);
    let bytes = |from: usize| (ALLOCATED.allocated() - from) as f64;
    put_keys(&store, 0..keys);
    let single = bytes(before) / keys as f64;
    println!(
        "memory: {single:.1} bytes per key of {KEY_LEN} bytes with one revision, written in random order"
    );
    assert!(single <= (KEY_LEN + 96) as f64, "a key with one revision may cost its length and 96 bytes");
    for revisions in 2..=10 {
        put_keys(&store, 0..keys / 10);
        let more = (bytes(before) - single * keys as f64) / (keys / 10) as f64;
        let most = 24.0 * f64::from(revisions - 1) + (KEY_LEN + 96) as f64 - single;
        println!("memory: {revisions} revisions: {more:.1} bytes more than with one");
        assert!(more <= most, "{revisions} revisions may cost {most:.1} bytes more");
    }
}

/// Starts on a file whose pages the system has in memory, as after a restart of the process.
fn restore(path: &Path, keys: u64) {
    put_keys(&open(path, 0), 0..keys);
    for threads in [1, 2] {
        let mut times = Vec::new();
        for _ in 0..5 {
            let before = ALLOCATED.allocated();
            let start = Instant::now();
            let store = open(path, threads);
            times.push(start.elapsed());
            let bytes = (ALLOCATED.allocated() - before) as f64 / keys as f64;
            assert_eq!(store.key_count(), keys);
            assert!(bytes <= (KEY_LEN + 96) as f64, "{bytes} bytes per key after a restore");
        }
        times.sort_unstable();
        println!(
            "restore with {threads} threads: {keys} keys in {:.2?} ({:.2?} to {:.2?}), {:.2} million keys/s",
            times[2],
            times[0],
            times[4],
            keys as f64 / times[2].as_secs_f64() / 1e6,
        );
    }
}

/// Gets of random keys, and beside them what the machine's memory allows: reads of random lines of as many bytes as the
/// file has, each of which must have come before the next can begin.
fn gets(path: &Path, keys: u64) {
    const GETS: u64 = 500_000;
    let store = open(path, 0);
    put_keys(&store, 0..keys);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let lines = Chain::new(store.size() as usize / LINE, &mut random);
    let (mut get, mut read) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..GETS {
            let found = store.get(&key(random.next_u64() % keys), 0).expect("a read");
            assert!(black_box(found).is_some());
        }
        get.push(start.elapsed().as_nanos() as f64 / GETS as f64);
        let start = Instant::now();
        black_box(lines.follow(GETS));
        read.push(start.elapsed().as_nanos() as f64 / GETS as f64);
    }
    for times in [&mut get, &mut read] {
        times.sort_by(f64::total_cmp);
    }
    println!(
        "get: {:.0} ns ({:.0} to {:.0}), as long as {:.1} dependent reads of {} MiB at {:.0} ns ({:.0} to {:.0})",
        get[3],
        get[0],
        get[6],
        get[3] / read[3],
        store.size() >> 20,
        read[3],
        read[0],
        read[6],
    );
}

/// Bytes that a processor fetches at once.
const LINE: usize = 64;

/// Lines of memory, each of which names the next one, in one circle without order.
struct Chain(Vec<[u32; LINE / 4]>);

impl Chain {
    fn new(len: usize, random: &mut impl Rng) -> Self {
        let mut lines: Vec<_> = (0..len as u32).map(|at| [at; LINE / 4]).collect();
        // Sattolo's shuffle: a permutation that is a single circle.
        for i in (1..len).rev() {
            lines.swap(i, (random.next_u64() % i as u64) as usize);
        }
        Self(lines)
    }

    fn follow(&self, steps: u64) -> u32 {
        (0..steps).fold(0, |at, _| self.0[at as usize][0])
    }
}

/// Live keys and a quarter more stale revisions, compacted while puts go on; several times, since one compaction leaves
/// time for a few thousand puts only.
fn compaction(path: &Path, keys: u64) {
    const ROUNDS: usize = 5;
    let store = Arc::new(open(path, 0));
    put_keys(&store, 0..keys);
    let (mut times, mut all) = (Vec::new(), Latencies(Vec::new()));
    for _ in 0..ROUNDS {
        put_keys(&store, 0..keys / 4);
        let (time, latencies) = compact(&store, keys);
        times.push(time);
        all.0.extend(latencies.0);
    }
    times.sort_unstable();
    println!(
        "compaction: {} of {} rows removed in {:.2?} ({:.2?} to {:.2?})",
        keys / 4,
        keys + keys / 4,
        times[ROUNDS / 2],
        times[0],
        times[ROUNDS - 1]
    );
    all.print("beside compactions");
}

/// One compaction: how long it took, and the puts beside it.
fn compact(store: &Store, keys: u64) -> (Duration, Latencies) {
    store.compact(store.revision()).expect("the current revision");
    let start = Instant::now();
    thread::scope(|scope| {
        let compactor = scope.spawn(|| {
            loop {
                if let CompactionStep::Finished(progress) =
                    store.compaction_step(COMPACTION_ROWS).expect("a step")
                {
                    return progress.rows_removed;
                }
            }
        });
        let latencies = Latencies::of_puts(store, keys, || compactor.is_finished());
        // Puts of the round before have made some more rows stale.
        assert!(compactor.join().expect("the compactor ends") >= keys / 4);
        (start.elapsed(), latencies)
    })
}

/// The file is made shorter by what a compaction freed, while puts and commits go on.
fn shrinking(path: &Path, keys: u64) {
    let store = Arc::new(open(path, 0));
    put_keys(&store, 0..keys);
    put_keys(&store, 0..keys / 4);
    store.compact(store.revision()).expect("the current revision");
    while !matches!(store.compaction_step(COMPACTION_ROWS).expect("a step"), CompactionStep::Finished(_)) {}
    let (before, in_use, start) = (store.size(), store.size_in_use(), Instant::now());
    thread::scope(|scope| {
        let shrinker = scope.spawn(|| {
            while !store.shrink_step(SHRINK_PAGES).expect("a step").done {
                store.commit().expect("a commit");
            }
        });
        let latencies = Latencies::of_puts(&store, keys, || shrinker.is_finished());
        latencies.print("beside shrinking");
    });
    println!(
        "shrinking: {} MiB became {} MiB in {:.2?}; {} MiB were in use",
        before >> 20,
        store.size() >> 20,
        start.elapsed(),
        in_use >> 20
    );
    assert!(store.size() < before - (before - in_use) / 2, "at least half of what was free is given back");
}

/// Puts beside a thread that reads all keys again and again, and a committer.
fn ranges(path: &Path, keys: u64) {
    let store = Arc::new(open(path, 0));
    put_keys(&store, 0..keys);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let all = store.read().range(KeyRange::ALL, &RangeOptions::default()).expect("a read");
                assert!(all.count >= keys);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
                store.commit().expect("a commit");
            }
        });
        let start = Instant::now();
        let latencies = Latencies::of_puts(&store, keys, || start.elapsed() > Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        latencies.print("beside ranges of all keys");
    });
}

/// Puts beside a thread that computes and leaves the store alone: what the machine itself does to the slowest ones.
fn machine(path: &Path, keys: u64) {
    let store = open(path, 0);
    put_keys(&store, 0..keys);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let start = Instant::now();
        let latencies = Latencies::of_puts(&store, keys, || start.elapsed() > Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        latencies.print("beside a thread that only computes");
    });
}

/// How long puts took.
struct Latencies(Vec<Duration>);

impl Latencies {
    /// About 20,000 puts a second until it is time to stop.
    fn of_puts(store: &Store, keys: u64, stop: impl Fn() -> bool) -> Self {
        let (mut all, mut i) = (Vec::new(), 0u64);
        while !stop() {
            for _ in 0..20 {
                i += 1;
                let key = key(i.wrapping_mul(0x5851_f42d_4c95_7f2d) % keys);
                let start = Instant::now();
                let mut txn = store.write();
                txn.put(Put::new(&key, &VALUE)).expect("a put");
                assert_eq!(txn.end().events.len(), 1);
                all.push(start.elapsed());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Self(all)
    }

    fn print(mut self, beside: &str) {
        self.0.sort_unstable();
        let at = |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize];
        println!(
            "put {beside}: {} puts, median {:.1?}, p99 {:.1?}, p99.9 {:.1?}, most {:.1?}",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

fn main() {
    let chosen = std::env::var("STANCHION_BENCH_KEYS").unwrap_or_else(|_| "1000000".into());
    let keys: u64 = chosen.parse().expect("a number of keys");
    type Figure = fn(&Path, u64);
    let figures: [(&str, Figure); 7] = [
        ("memory", memory),
        ("gets", gets),
        ("restore", restore),
        ("compaction", compaction),
        ("machine", machine),
        ("ranges", ranges),
        ("shrinking", shrinking),
    ];
    for (name, figure) in figures {
        // Cargo passes `--bench`; any other argument picks figures by name.
        let picked: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        if picked.is_empty() || picked.iter().any(|argument| argument == name) {
            let dir = tempfile::tempdir().expect("a directory");
            figure(&dir.path().join("db"), keys);
        }
    }
}
