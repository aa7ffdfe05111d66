//! Cost of the state machine alone: no disk, no network, all nodes of a group on one core.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "support.rs"]
#[allow(unreachable_pub, reason = "a module of this benchmark")]
mod support;
use support::Group;

fn propose_commit(c: &mut Criterion) {
    let mut g = c.benchmark_group("propose_commit");
    for nodes in [3, 5] {
        for size in [128, 4096] {
            for inflight in [1, 64, 1024] {
                let mut group = Group::new(nodes);
                let payload = Bytes::from(vec![7u8; size]);
                g.throughput(Throughput::Elements(inflight as u64));
                g.bench_function(BenchmarkId::new(format!("{nodes}n_{size}B"), inflight), |b| {
                    b.iter(|| group.commit(inflight, &payload));
                });
                assert!(group.applied() > 1);
            }
        }
    }
}

fn reads(c: &mut Criterion) {
    let mut group = Group::new(3);
    c.bench_function("read_index/3n_1000_waiting", |b| b.iter(|| assert_eq!(group.read(1000), 1000)));
}

fn ticks(c: &mut Criterion) {
    let mut g = c.benchmark_group("tick_idle");
    for groups in [1u64, 10_000] {
        let mut nodes: Vec<_> = (0..groups).map(|_| support::idle()).collect();
        g.throughput(Throughput::Elements(groups));
        g.bench_function(BenchmarkId::from_parameter(groups), |b| {
            b.iter(|| nodes.iter_mut().for_each(|n| n.tick().expect("memory does not fail")));
        });
    }
}

fn long_log(c: &mut Criterion) {
    let storage = support::long_log();
    c.bench_function("log_1M/term", |b| {
        let mut i = 0;
        b.iter(|| {
            i = (i + 7919) % 1_000_000;
            support::term(&storage, i + 1)
        });
    });
    c.bench_function("log_1M/truncate_half", |b| {
        b.iter_batched_ref(|| storage.clone(), support::truncate, BatchSize::PerIteration);
    });
}

criterion_group!(benches, propose_commit, reads, ticks, long_log);
criterion_main!(benches);
