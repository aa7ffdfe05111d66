//! Cost of the state machine alone: no disk, no network, all nodes of a group on one core.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stanchion_raft::{ConfState, Config, Entry, MemStorage, RawNode, Storage};

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
        let conf_state = ConfState::new(&[1, 2, 3], &[]);
        let node = |seed| {
            let config = Config { seed, ..Config::new(1) };
            RawNode::new(&config, MemStorage::with_conf_state(conf_state.clone()))
                .expect("settings are valid")
        };
        let mut nodes: Vec<_> = (0..groups).map(node).collect();
        g.throughput(Throughput::Elements(groups));
        g.bench_function(BenchmarkId::from_parameter(groups), |b| {
            b.iter(|| {
                for n in &mut nodes {
                    n.tick().expect("memory does not fail");
                    // As a heartbeat would: the group stays idle.
                    n.forget_leader();
                    n.set_randomized_election_timeout(u32::MAX);
                }
            });
        });
    }
}

fn long_log(c: &mut Criterion) {
    const N: u64 = 1_000_000;
    let entries: Vec<Entry> = (1..=N).map(|index| Entry { term: 1, index, ..Entry::default() }).collect();
    let mut storage = MemStorage::new();
    storage.append(&entries).expect("no gap");
    c.bench_function("log_1M/term", |b| {
        let mut i = 0;
        b.iter(|| {
            i = (i + 7919) % N;
            storage.term(i + 1).expect("it is there")
        });
    });
    let tail = [Entry { term: 2, index: N / 2, ..Entry::default() }];
    c.bench_function("log_1M/truncate_half", |b| {
        b.iter_batched_ref(|| storage.clone(), |s| s.append(&tail).expect("no gap"), BatchSize::PerIteration);
    });
}

criterion_group!(benches, propose_commit, reads, ticks, long_log);
criterion_main!(benches);
