//! Grant, renew, expire and promote with a million leases.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use stanchion_lease::{Config, Lessor, ROUND_MS};

const LEASES: i64 = 1_000_000;

fn million() -> Lessor {
    let mut lessor = Lessor::new(Config::default());
    lessor.promote(0, 0);
    for id in 1..=LEASES {
        lessor.grant(0, id, 3_600 + id % 3_600).unwrap();
    }
    lessor
}

fn lessor(c: &mut Criterion) {
    let mut group = c.benchmark_group("lessor-1M");
    group.sample_size(20);

    let mut lessor = million();
    let mut id = LEASES;
    group.bench_function("grant and revoke", |b| {
        b.iter(|| {
            id += 1;
            lessor.grant(0, id, 100).unwrap();
            black_box(lessor.revoke(id).unwrap());
        });
    });
    // A millisecond for each renewal: every lease comes again well before it runs out.
    let (mut at, mut now_ms) = (0, 0);
    group.bench_function("renew", |b| {
        b.iter(|| {
            at = (at + 7_919) % LEASES;
            now_ms += 1;
            black_box(lessor.renew(now_ms, at + 1).unwrap())
        });
    });
    drop(lessor);

    // 100,000 leases run out at once among a million: one round finds one batch, however many wait.
    let mut lessor = Lessor::new(Config::default());
    lessor.promote(0, 0);
    for id in 1..=LEASES {
        lessor.grant(0, id, if id % 10 == 0 { 60 } else { 8_000_000 }).unwrap();
    }
    let mut now_ms = 60_000;
    group.bench_function("round of 500 in a burst of 100,000", |b| {
        b.iter(|| {
            now_ms += ROUND_MS;
            lessor.handle_tick(now_ms);
            black_box(lessor.take_expired().unwrap())
        });
    });
    group.bench_function("renew during the burst", |b| {
        b.iter(|| {
            at = (at + 7_919) % LEASES;
            now_ms += 1;
            let id = at + 1;
            black_box(lessor.renew(now_ms, if id % 10 == 0 { id - 1 } else { id }).unwrap())
        });
    });

    group.sample_size(10);
    group.bench_function("promote", |b| {
        b.iter_batched_ref(|| (), |()| lessor.promote(now_ms, 1_000), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, lessor);
criterion_main!(benches);
