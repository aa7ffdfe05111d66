//! Append+sync beside the disk's own limit, in one interleaved run.
//!
//! Each round takes one batch through the log, then the same number of bytes through a bare `pwrite`+`fdatasync` into
//! a preallocated file, then into a file that grows; the order turns from round to round, so that the disk's moods
//! hit all three alike. Prints medians, and the ratios `raw/log` (1 is the limit) and `growing/log` (what
//! preallocation earns). Set `WAL_BENCH_DIR` to choose the disk, `WAL_BENCH_SECONDS` for longer rows (default 2).

#[path = "common/load.rs"]
mod load;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_disk::{Disk, File, OpenOptions, RealDisk};
use stanchion_wal::{Options, Wal};

use crate::load::{Load, batch_len, disk, noise, place, state};

/// The raw side: one write and one fdatasync, in files of a segment's size.
struct Raw {
    dir: PathBuf,
    preallocate: bool,
    bytes: Vec<u8>,
    file: Arc<dyn File>,
    offset: u64,
    count: u64,
}

impl Raw {
    fn new(dir: &Path, preallocate: bool, bytes: Vec<u8>) -> Self {
        let file = Self::next_file(dir, preallocate, 0);
        Self { dir: dir.to_owned(), preallocate, bytes, file, offset: 0, count: 0 }
    }

    fn next_file(dir: &Path, preallocate: bool, count: u64) -> Arc<dyn File> {
        let path = dir.join(format!("raw-{preallocate}-{}", count % 2));
        let file = RealDisk.open(&path, OpenOptions::create().truncate()).expect("create");
        if preallocate {
            file.allocate(0, Options::default().segment_size).expect("preallocate");
        }
        file.sync_data().expect("sync");
        file
    }

    fn step(&mut self) {
        self.file.write_all_at(&self.bytes, self.offset).expect("write");
        self.file.sync_data().expect("sync");
        self.offset += self.bytes.len() as u64;
    }

    /// As a log does between two batches.
    fn turn_over(&mut self) {
        if self.offset >= Options::default().segment_size {
            self.count += 1;
            self.offset = 0;
            self.file = Self::next_file(&self.dir, self.preallocate, self.count);
        }
    }
}

/// One of the three ways, with its times.
struct Way<'a> {
    step: Box<dyn FnMut() + 'a>,
    between: Box<dyn FnMut() + 'a>,
    times: Vec<Duration>,
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Half the distance between the quartiles, as a share of the median.
fn spread(times: &[Duration]) -> f64 {
    let quarter = times.len() / 4;
    let (low, high) = (times[quarter], times[times.len() - 1 - quarter]);
    (high - low).as_secs_f64() / 2.0 / times[times.len() / 2].as_secs_f64()
}

/// Measures one row: times of the log, the preallocated and the growing file.
fn row(entry_len: usize, batch: u64, seconds: u64) -> (usize, [Vec<Duration>; 3]) {
    let place = place();
    let mut load = Load::new(entry_len, batch);
    let len = batch_len(&mut load);
    let wal = Wal::create(disk(), place.path().join("wal"), b"", Options::default()).expect("create");
    let wal = std::cell::RefCell::new(wal);
    let raws = [true, false].map(|pre| std::cell::RefCell::new(Raw::new(place.path(), pre, noise(len))));
    let way = |step, between| Way { step, between, times: Vec::new() };
    let mut ways = [
        way(
            Box::new(|| wal.borrow_mut().save(&state(), &load.batch()).expect("save")),
            // Cuts are rare and pay for a whole segment: they are kept out, as the raw files' turn-over is.
            Box::new(|| wal.borrow_mut().cut_if_due().expect("cut")),
        ),
        way(Box::new(|| raws[0].borrow_mut().step()), Box::new(|| raws[0].borrow_mut().turn_over())),
        way(Box::new(|| raws[1].borrow_mut().step()), Box::new(|| raws[1].borrow_mut().turn_over())),
    ];
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    while round < 9 || Instant::now() < end {
        for turn in 0..3 {
            let way = &mut ways[(turn + round) % 3];
            let start = Instant::now();
            (way.step)();
            way.times.push(start.elapsed());
            (way.between)();
        }
        trim(&mut wal.borrow_mut());
        round += 1;
    }
    (len, ways.map(|way| way.times))
}

/// Keeps the directory small.
fn trim(wal: &mut Wal) {
    if wal.held_segments().count() > 2 {
        wal.release_to(wal.last_index()).expect("release");
        stanchion_wal::purge(&*disk(), wal.dir(), 1).expect("purge");
    }
}

fn main() -> io::Result<()> {
    let seconds = std::env::var("WAL_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "| entries | bytes | log µs | spread | raw µs | spread | growing µs | raw/log | growing/log |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for entry_len in [128, 1024, 16 << 10] {
        for batch in [1, 16, 256, 4096] {
            let (len, [mut log, mut raw, mut growing]) = row(entry_len, batch, seconds);
            let (l, r, g) = (median(&mut log), median(&mut raw), median(&mut growing));
            writeln!(
                out,
                "| {batch} x {entry_len} B | {len} | {:.0} | {:.0} % | {:.0} | {:.0} % | {:.0} | {:.2} | {:.2} |",
                l * 1e6,
                spread(&log) * 100.0,
                r * 1e6,
                spread(&raw) * 100.0,
                g * 1e6,
                r / l,
                g / l,
            )?;
        }
    }
    Ok(())
}
