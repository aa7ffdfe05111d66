//! Propose to commit and ReadIndex, ours and TiKV's in turn, on one core and without disk or network.
//!
//! Payloads come as `Bytes` here and as a `Vec<u8>` there, which its `propose` asks for; both keep their own
//! in-memory storage, and both are compacted alike.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

mod raft_rs;
#[path = "../../../../raft/benches/support.rs"]
mod support;

fn propose_commit(c: &mut Criterion) {
    for nodes in [3, 5] {
        for size in [128, 4096] {
            for inflight in [1, 64, 1024] {
                let mut g = c.benchmark_group(format!("propose_commit/{nodes}n_{size}B_{inflight}"));
                g.throughput(Throughput::Elements(inflight as u64));
                let payload = Bytes::from(vec![7u8; size]);
                let mut ours = support::Group::new(nodes);
                g.bench_function(BenchmarkId::from_parameter("stanchion"), |b| {
                    b.iter(|| ours.commit(inflight, &payload));
                    assert!(ours.applied() > 1);
                });
                let mut theirs = raft_rs::Group::new(nodes);
                g.bench_function(BenchmarkId::from_parameter("raft-rs"), |b| {
                    b.iter(|| theirs.commit(inflight, &payload));
                    assert!(theirs.applied() > 1);
                });
            }
        }
    }
}

fn reads(c: &mut Criterion) {
    let mut g = c.benchmark_group("read_index/3n_1000");
    let mut ours = support::Group::new(3);
    g.bench_function("stanchion", |b| b.iter(|| assert_eq!(ours.read(1000), 1000)));
    let mut theirs = raft_rs::Group::new(3);
    g.bench_function("raft-rs", |b| b.iter(|| assert_eq!(theirs.read(1000), 1000)));
}

fn ticks(c: &mut Criterion) {
    for groups in [1u64, 10_000] {
        let mut g = c.benchmark_group(format!("tick_idle/{groups}"));
        g.throughput(Throughput::Elements(groups));
        let mut ours: Vec<_> = (0..groups).map(|_| support::idle()).collect();
        g.bench_function("stanchion", |b| b.iter(|| ours.iter_mut().for_each(|n| n.tick().expect("memory"))));
        let mut theirs: Vec<_> = (0..groups).map(|_| raft_rs::idle()).collect();
        g.bench_function("raft-rs", |b| b.iter(|| theirs.iter_mut().for_each(|n| assert!(!n.tick()))));
    }
}

fn long_log(c: &mut Criterion) {
    let mut g = c.benchmark_group("log_1M/term");
    let next = |i: u64| (i + 7919) % 1_000_000;
    let (ours, theirs) = (support::long_log(), raft_rs::long_log());
    let mut i = 0;
    g.bench_function("stanchion", |b| {
        b.iter(|| {
            support::term(&ours, {
                i = next(i);
                i + 1
            })
        })
    });
    g.bench_function("raft-rs", |b| {
        b.iter(|| {
            raft_rs::term(&theirs, {
                i = next(i);
                i + 1
            })
        })
    });
    drop(g);
    let mut g = c.benchmark_group("log_1M/truncate_half");
    let each = BatchSize::PerIteration;
    g.bench_function("stanchion", |b| b.iter_batched_ref(support::long_log, support::truncate, each));
    g.bench_function("raft-rs", |b| {
        b.iter_batched_ref(raft_rs::long_log, |log| raft_rs::truncate(log), each)
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1000));
    targets = propose_commit, reads, ticks, long_log
}
criterion_main!(benches);
