//! Saving and loading a snapshot of a usual size (8 KiB), and receiving a database of 64 MiB in 64 KiB pieces, beside
//! the plain system calls that the same work needs.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stanchion_disk::RealDisk;
use stanchion_snap::Snapshotter;

const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

/// An encoded `raftpb.Snapshot` with metadata of index 11 and term 2.
fn payload() -> Vec<u8> {
    let mut data = vec![0x0a, 0x80, 0x40];
    data.resize(3 + 8192, b'x');
    data.extend_from_slice(b"\x12\x04\x10\x0b\x18\x02");
    data
}

fn snapshots(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (snap, _) = Snapshotter::open(Arc::new(RealDisk), dir.path().join("snap")).expect("open");
    let data = payload();
    let mut group = c.benchmark_group("snap 8 KiB");
    group.bench_function("save", |b| b.iter(|| snap.save(2, 11, &data).expect("save")));
    let (raw, temp) = (dir.path().join("raw"), dir.path().join("raw.tmp"));
    group.bench_function("write, sync, rename, sync", |b| {
        b.iter(|| {
            fs::write(&temp, &data).expect("write");
            fs::File::open(&temp).expect("open").sync_all().expect("sync");
            fs::rename(&temp, &raw).expect("rename");
            fs::File::open(dir.path()).expect("open").sync_all().expect("sync");
        });
    });
    group.bench_function("load", |b| b.iter(|| black_box(snap.load_newest().expect("load"))));
    group.finish();
}

fn databases(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (snap, _) = Snapshotter::open(Arc::new(RealDisk), dir.path().join("snap")).expect("open");
    let piece = vec![7; PIECE];
    let mut group = c.benchmark_group("database 64 MiB");
    group.sample_size(10).throughput(Throughput::Bytes((PIECE * PIECES) as u64));
    group.bench_function("receive", |b| {
        b.iter(|| {
            let mut incoming = snap.receive_database(11).expect("create");
            for _ in 0..PIECES {
                incoming.write(&piece).expect("write");
            }
            incoming.finish((PIECE * PIECES) as u64).expect("finish")
        });
    });
    group.bench_function("write, sync", |b| {
        b.iter(|| {
            use std::io::Write as _;
            let mut file = fs::File::create(dir.path().join("raw.db")).expect("create");
            for _ in 0..PIECES {
                file.write_all(&piece).expect("write");
            }
            file.sync_all().expect("sync");
        });
    });
    group.finish();
}

criterion_group!(benches, snapshots, databases);
criterion_main!(benches);
