//! Publishing to 1, 1,000 and 100,000 watchers of one key; the index with a million entries, beside a plain scan.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stanchion_watch::{Event, EventKind, Hub, KeyRange, Options, RangeIndex};

fn event(revision: i64, key: &[u8]) -> Event {
    let (key, encoded) = (Bytes::copy_from_slice(key), Bytes::from(vec![0; 256]));
    Event { revision, kind: EventKind::Put, created: false, key, encoded }
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish and drain");
    group.sample_size(20);
    for watchers in [1u64, 1_000, 100_000] {
        let mut hub = Hub::new(0, Hub::STREAM_CAPACITY);
        for _ in 0..watchers {
            let stream = hub.open();
            hub.create(stream, 0, KeyRange::new(b"key", b"").unwrap(), Options::default()).unwrap();
        }
        let batch = |revision| -> Arc<[Event]> { Arc::from([event(revision, b"key")]) };
        let mut revision = 0;
        group.throughput(Throughput::Elements(watchers));
        group.bench_function(BenchmarkId::from_parameter(watchers), |b| {
            b.iter(|| {
                revision += 1;
                hub.publish(revision, batch(revision));
                for stream in hub.take_ready() {
                    while let Some(response) = hub.poll(stream) {
                        black_box(response);
                    }
                }
            });
        });
    }
    group.finish();

    let mut hub = Hub::new(0, Hub::STREAM_CAPACITY);
    let stream = hub.open();
    for n in 0..1_000_000 {
        let key = format!("key/{n:08}");
        hub.create(stream, 0, KeyRange::new(key.as_bytes(), b"").unwrap(), Options::default()).unwrap();
        while hub.poll(stream).is_some() {}
    }
    let mut revision = 0;
    c.bench_function("publish to 1 of 1,000,000 watchers", |b| {
        b.iter(|| {
            revision += 1;
            let key = format!("key/{:08}", revision * 7_919 % 1_000_000);
            hub.publish(revision, Arc::from([event(revision, key.as_bytes())]));
            while let Some(response) = hub.poll(stream) {
                black_box(response);
            }
        });
    });
}

fn span(n: u64) -> Arc<KeyRange> {
    let begin = n * 7_919 % 1_000_000;
    let width = 1 + n % 10;
    let (key, end) = (format!("key/{begin:08}"), format!("key/{:08}", begin + width));
    Arc::new(KeyRange::new(key.as_bytes(), end.as_bytes()).unwrap())
}

fn tree(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree-1M");
    group.sample_size(20);
    let spans: Vec<Arc<KeyRange>> = (0..1_000_000).map(span).collect();
    let mut index = RangeIndex::new();
    for (range, n) in spans.iter().zip(0u32..) {
        index.insert(range, n);
    }
    let mut n = 0u64;
    group.bench_function("stab", |b| {
        b.iter(|| {
            n += 1;
            let key = format!("key/{:08}", n * 104_729 % 1_000_000);
            let mut found = 0u32;
            index.for_each_match(key.as_bytes(), |value| found += value);
            black_box(found)
        });
    });
    group.bench_function("remove and insert", |b| {
        b.iter(|| {
            n = (n + 104_729) % 1_000_000;
            index.remove(&spans[n as usize], n as u32);
            black_box(index.insert(&spans[n as usize], n as u32))
        });
    });
    group.sample_size(10);
    group.bench_function("scan of all, for comparison", |b| {
        b.iter(|| spans.iter().filter(|range| range.contains(black_box(b"key/00500000"))).count());
    });
    group.finish();
}

criterion_group!(benches, publish, tree);
criterion_main!(benches);
