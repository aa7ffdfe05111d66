//! Propose to commit and ReadIndex, ours and TiKV's in turn, on one core and without disk or network.
//!
//! Payloads come as `Bytes` here and as a `Vec<u8>` there, which its `propose` asks for; both keep their own
//! in-memory storage, and both are compacted alike.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

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
                });
                assert!(ours.applied() > 1);
                let mut theirs = raft_rs::Group::new(nodes);
                g.bench_function(BenchmarkId::from_parameter("raft-rs"), |b| {
                    b.iter(|| theirs.commit(inflight, &payload));
                });
                assert!(theirs.applied() > 1);
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1000));
    targets = propose_commit, reads
}
criterion_main!(benches);
