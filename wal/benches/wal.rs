//! Append+sync, replay, open, and the CRC alone. `beside_raw` has append+sync beside the disk's own limit.
//!
//! Set `WAL_BENCH_DIR` to choose the disk.

#[path = "common/load.rs"]
mod load;

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stanchion_wal::{HardState, Options, Replay, SnapshotMark, Wal};

use crate::load::{Load, batch_len, disk, noise, place, state};

fn append_sync(c: &mut Criterion) {
    for entry_len in [128, 1024, 16 << 10] {
        let mut group = c.benchmark_group(format!("append+sync of {entry_len}B entries"));
        group.sample_size(20);
        for batch in [1_u64, 16, 256, 4096] {
            let place = place();
            let mut load = Load::new(entry_len, batch);
            group.throughput(Throughput::Bytes(batch_len(&mut load) as u64));
            let mut wal =
                Wal::create(disk(), place.path().join("wal"), b"", Options::default()).expect("create");
            group.bench_function(format!("batch of {batch}"), |b| {
                b.iter(|| {
                    wal.save(&state(), &load.batch()).expect("save");
                    trim(&mut wal);
                });
            });
        }
        group.finish();
    }
}

/// Keeps the directory small: a long measurement must not fill the disk.
fn trim(wal: &mut Wal) {
    if wal.held_segments().count() > 2 {
        wal.release_to(wal.last_index()).expect("release");
        stanchion_wal::purge(&*disk(), wal.dir(), 1).expect("purge");
    }
}

/// A log of about this many bytes, in the page cache.
fn written_log(dir: &Path, bytes: u64, entry_len: usize, options: Options) -> u64 {
    let mut wal = Wal::create(disk(), dir, b"", options).expect("create");
    let mut load = Load::new(entry_len, 256);
    while load.next * (entry_len as u64) < bytes {
        wal.append(&state(), &load.batch()).expect("append");
    }
    wal.close().expect("close");
    fs::read_dir(dir).expect("list").map(|e| e.expect("entry").metadata().expect("metadata").len()).sum()
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    group.sample_size(10);
    for entry_len in [128, 1024, 16 << 10] {
        let place = place();
        let dir = place.path().join("wal");
        let len = written_log(&dir, 1 << 30, entry_len, Options::default());
        group.throughput(Throughput::Bytes(len));
        group.bench_function(format!("1GiB of {entry_len}B"), |b| {
            b.iter(|| {
                let replay = Replay::open(disk(), &dir, 0, 0).expect("open");
                replay.fold(0, |sum, entry| sum + entry.expect("sound").data.len())
            });
        });
        if entry_len == 1024 {
            group.bench_function("read of the same files", |b| b.iter(|| read_all(&dir)));
        }
    }
    group.finish();
}

/// The limit of a replay: reading the files in blocks and nothing else.
fn read_all(dir: &Path) -> u64 {
    let mut block = vec![0; 1 << 20];
    let mut sum = 0;
    for entry in fs::read_dir(dir).expect("list") {
        let file = File::open(entry.expect("entry").path()).expect("open");
        let mut offset = 0;
        loop {
            let n = file.read_at(&mut block, offset).expect("read");
            if n == 0 {
                break;
            }
            offset += n as u64;
            sum += u64::from(block[0]);
        }
    }
    black_box(sum)
}

fn open(c: &mut Criterion) {
    let place = place();
    let dir = place.path().join("wal");
    let options = Options::default().segment_size(256 << 10);
    let mut wal = Wal::create(disk(), &dir, b"", options).expect("create");
    let mut load = Load::new(1024, 64);
    while wal.tail().0.seq < 99 {
        wal.save(&HardState { commit: load.next, ..state() }, &load.batch()).expect("save");
    }
    let last = wal.last_index();
    wal.save(&HardState { commit: last, ..state() }, &[]).expect("save");
    wal.save_snapshot(&SnapshotMark::new(last, 1)).expect("mark");
    wal.close().expect("close");

    let mut group = c.benchmark_group("open of 100 segments");
    group.sample_size(20);
    for (name, index, term) in [("at the newest snapshot", last, 1), ("from the beginning (26 MB)", 0, 0)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || (),
                |()| Wal::open(disk(), &dir, index, term, options).expect("open").finish().expect("replay"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// The CRC the log computes, through its own crate, beside a copy of the same bytes (memory bandwidth).
fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for len in [128, 1024, 16 << 10, 1 << 20] {
        let bytes = noise(len);
        let mut copy = vec![0; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len}B"), |b| {
            b.iter(|| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, black_box(&bytes)));
        });
        group.bench_function(format!("{len}B memcpy"), |b| {
            b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, append_sync, replay, open, crc);
criterion_main!(benches);
