//! Calls through the trait beside the same system calls made directly, and the price of one simulated crash.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use stanchion_disk::{Disk, OpenOptions, RealDisk, SimDisk};

const BLOCK: [u8; 4096] = [7; 4096];

fn beside_system_calls(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("f");
    let ours = RealDisk.open(&path, OpenOptions::create()).expect("open");
    let raw = fs::OpenOptions::new().read(true).write(true).open(&path).expect("open");
    ours.write_all_at(&BLOCK, 0).expect("write");
    let mut group = c.benchmark_group("4 KiB");
    let mut buf = BLOCK;
    group.bench_function("read, trait", |b| b.iter(|| ours.read_exact_at(&mut buf, 0).expect("read")));
    group.bench_function("read, system call", |b| b.iter(|| raw.read_exact_at(&mut buf, 0).expect("read")));
    group.bench_function("write, trait", |b| b.iter(|| ours.write_all_at(&BLOCK, 0).expect("write")));
    group.bench_function("write, system call", |b| b.iter(|| raw.write_all_at(&BLOCK, 0).expect("write")));
    group.sample_size(30);
    group.bench_function("write and sync, trait", |b| {
        b.iter(|| {
            ours.write_all_at(&BLOCK, 0).expect("write");
            ours.sync_data().expect("sync");
        });
    });
    group.bench_function("write and sync, system calls", |b| {
        b.iter(|| {
            raw.write_all_at(&BLOCK, 0).expect("write");
            raw.sync_data().expect("sync");
        });
    });
    group.finish();
}

/// A fresh disk, a preallocated segment of 64 MB, 30 small writes with syncs, a power cut, one read of what survived.
fn one_crash_case() {
    let path = Path::new("/f");
    let disk = SimDisk::new(1);
    let file = disk.open(path, OpenOptions::create()).expect("open");
    file.allocate(0, 64_000_000).expect("allocate");
    disk.sync_dir(Path::new("/")).expect("sync");
    for i in 0..30_u64 {
        file.write_all_at(&BLOCK[..128], i * 128).expect("write");
        if i % 4 == 0 {
            file.sync_data().expect("sync");
        }
    }
    let after = disk.after_power_cut(1);
    let file = after.open(path, OpenOptions::read()).expect("open");
    file.read_exact_at(&mut [0; 3840], 0).expect("read");
}

fn simulated(c: &mut Criterion) {
    c.bench_function("simulated crash case", |b| b.iter(one_crash_case));
}

criterion_group!(benches, beside_system_calls, simulated);
criterion_main!(benches);
