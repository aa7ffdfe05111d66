//! Operations of the store at growing sizes: their cost should not grow with the number of keys.
//!
//! `STANCHION_BENCH_KEYS=10000,1000000,10000000` chooses the sizes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use stanchion_disk::RealDisk;
use stanchion_mvcc::{KeyRange, Put, RangeEnd, RangeOptions, Store, StoreOptions};

const VALUE: [u8; 256] = [b'v'; 256];

fn sizes() -> Vec<u64> {
    let chosen = std::env::var("STANCHION_BENCH_KEYS").unwrap_or_else(|_| "10000,1000000".into());
    chosen.split(',').map(|text| text.parse().expect("a number of keys")).collect()
}

fn key(i: u64) -> [u8; 16] {
    let mut key = *b"/bench/_________";
    // Spread, so that neighbours in time are not neighbours in the index.
    key[8..].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

/// A store of `keys` keys on the real disk, and the directory that holds it.
struct Loaded {
    store: Arc<Store>,
    keys: u64,
    _dir: tempfile::TempDir,
}

impl Loaded {
    fn new(keys: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions { sync: false, ..StoreOptions::default() };
        let (store, _) =
            Store::open(Arc::new(RealDisk), &dir.path().join("db"), &options).expect("a new store");
        for i in 0..keys {
            put(&store, &key(i));
            if i % 10_000 == 9_999 {
                store.commit().expect("a commit");
            }
        }
        store.commit().expect("a commit");
        Self { store: Arc::new(store), keys, _dir: dir }
    }
}

fn put(store: &Store, key: &[u8]) {
    let mut txn = store.write();
    txn.put(Put::new(key, &VALUE)).expect("a put");
    black_box(txn.end());
}

/// Runs `work` while a committer moves the buffer to the file, and `readers` threads read random keys and pages.
fn beside<T>(loaded: &Loaded, readers: usize, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
                if loaded.store.pending() >= 10_000 {
                    loaded.store.commit().expect("a commit");
                }
            }
        });
        for reader in 0..readers {
            let (stop, store, keys) = (&stop, &loaded.store, loaded.keys);
            scope.spawn(move || {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(reader as u64);
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..100 {
                        black_box(store.get(&key(random.next_u64() % keys), 0).expect("a read"));
                    }
                    black_box(page(store, &key(random.next_u64() % keys), 100));
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn page(store: &Store, from: &[u8], limit: usize) -> usize {
    let range = KeyRange { start: from, end: RangeEnd::Unbounded };
    let options = RangeOptions { limit, ..RangeOptions::default() };
    store.read().range(range, &options).expect("a read").rows.len()
}

fn reads(c: &mut Criterion, loaded: &Loaded) {
    let (store, keys) = (&loaded.store, loaded.keys);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut group = c.benchmark_group("read");
    group.bench_function(BenchmarkId::new("get", keys), |b| {
        b.iter(|| store.get(&key(random.next_u64() % keys), 0).expect("a read"));
    });
    for limit in [10, 1000, 100_000] {
        if limit as u64 <= keys {
            group.bench_function(BenchmarkId::new(format!("page_of_{limit}"), keys), |b| {
                b.iter(|| page(store, b"\0", limit));
            });
        }
    }
    group.bench_function(BenchmarkId::new("count_all", keys), |b| {
        b.iter(|| store.read().count(KeyRange::ALL, 0).expect("a count"));
    });
    // A page at a pinned revision, as a paged list reads it while others write.
    let pinned = store.revision();
    for i in 0..1000 {
        put(store, &key(keys + i));
    }
    let options = RangeOptions { revision: pinned, limit: 1000, ..RangeOptions::default() };
    group.bench_function(BenchmarkId::new("page_of_1000_pinned_1000_births_ago", keys), |b| {
        b.iter(|| store.read().range(KeyRange::ALL, &options).expect("a read").count);
    });
    group.finish();
}

fn writes(c: &mut Criterion, loaded: &Loaded) {
    let (store, keys) = (&loaded.store, loaded.keys);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(1));
    for readers in [0, 1, 2] {
        let id = BenchmarkId::new(format!("put_beside_{readers}_readers"), keys);
        beside(loaded, readers, || {
            group.bench_function(id, |b| b.iter(|| put(store, &key(random.next_u64() % keys))));
        });
    }
    group.throughput(Throughput::Elements(10));
    beside(loaded, 0, || {
        group.bench_function(BenchmarkId::new("txn_of_10", keys), |b| {
            b.iter_batched(
                || (0..10).map(|_| key(random.next_u64() % keys)).collect::<Vec<_>>(),
                |keys| {
                    let mut txn = store.write();
                    for key in &keys {
                        txn.put(Put::new(key, &VALUE)).expect("a put");
                    }
                    txn.end()
                },
                BatchSize::SmallInput,
            );
        });
    });
    group.finish();
}

fn store(c: &mut Criterion) {
    for keys in sizes() {
        let loaded = Loaded::new(keys);
        reads(c, &loaded);
        writes(c, &loaded);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = store
}
criterion_main!(benches);
