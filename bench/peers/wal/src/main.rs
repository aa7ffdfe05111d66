//! stanchion-wal beside raft-engine: the same records, the same disk, alternating rounds of one run.
//!
//! Two loads: many threads that each make one record durable at a time, through one log; and one thread that makes
//! batches durable. Every record of raft-engine is a key-value pair of a region (8 bytes of key, the same data), its
//! cheapest form; compression is off, since the data is noise. Prints the median rate of each side over the rounds,
//! the lowest and highest, and the ratio of the medians.
//!
//! `PEERS_DIR` chooses the disk, `PEERS_ROUNDS` (default 5) and `PEERS_MILLIS` (default 1000) the length.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_engine::{Config, Engine, LogBatch, ReadableSize};
use stanchion_disk::RealDisk;
use stanchion_wal::{Committer, EntryRef, HardState, Options, Wal};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// One side of a comparison: makes `count` records durable, starting at `index`.
trait Log: Sync {
    fn commit(&self, index: u64, count: u64, data: &[u8]);
}

struct Ours(Committer);

impl Log for Ours {
    fn commit(&self, _index: u64, count: u64, data: &[u8]) {
        let append = |wal: &mut Wal| {
            let next = wal.last_index() + 1;
            let entries: Vec<_> = (next..next + count).map(|index| EntryRef::new(index, 1, 0, data)).collect();
            wal.append(&HardState::default(), &entries)
        };
        self.0.commit(append).expect("durable");
    }
}

struct RaftEngine(Engine);

impl Log for RaftEngine {
    fn commit(&self, index: u64, count: u64, data: &[u8]) {
        let mut batch = LogBatch::with_capacity(count as usize);
        for index in index..index + count {
            // Few keys, written over and over: its index in memory stays small, as the log would after a purge.
            batch.put(1, (index % 4096).to_be_bytes().to_vec(), data.to_vec()).expect("put");
        }
        self.0.write(&mut batch, true).expect("durable");
    }
}

fn ours(dir: &Path, zero_fill: bool) -> Outcome<Ours> {
    let options = Options::default().zero_fill(zero_fill);
    Ok(Ours(Committer::new(Wal::create(Arc::new(RealDisk), dir.join("wal"), b"", options)?)))
}

fn raft_engine(dir: &Path) -> Outcome<RaftEngine> {
    let mut config = Config::default();
    config.dir = dir.join("raft-engine").to_string_lossy().into_owned();
    config.batch_compression_threshold = ReadableSize(0);
    Ok(RaftEngine(Engine::open(config)?))
}

/// Records a second over one round.
fn rate(log: &dyn Log, threads: u64, batch: u64, data: &[u8], length: Duration) -> f64 {
    let (stop, done, next) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    log.commit(next.fetch_add(batch, Ordering::Relaxed), batch, data);
                    done.fetch_add(batch, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
    });
    done.into_inner() as f64 / start.elapsed().as_secs_f64()
}

fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Median, lowest, highest.
fn summary(rates: &mut [f64]) -> (f64, f64, f64) {
    rates.sort_by(f64::total_cmp);
    (rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

fn main() -> Outcome<()> {
    let base = std::env::var_os("PEERS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let (rounds, length) = (number("PEERS_ROUNDS", 5), Duration::from_millis(number("PEERS_MILLIS", 1000)));
    println!("| load | stanchion-wal /s | reserved only /s | raft-engine /s | ratio |");
    println!("|---|---|---|---|---|");
    for (threads, batch, len) in [(64, 1, 128), (64, 1, 1024), (1, 1, 128), (1, 16, 128), (1, 256, 1024)] {
        let data = noise(len);
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            // Fresh logs for each round: neither side profits from segments that the other's rounds had written.
            let place = tempfile::tempdir_in(&base)?;
            rates[0].push(rate(&ours(place.path(), true)?, threads, batch, &data, length));
            let place = tempfile::tempdir_in(&base)?;
            rates[1].push(rate(&ours(place.path(), false)?, threads, batch, &data, length));
            let place = tempfile::tempdir_in(&base)?;
            rates[2].push(rate(&raft_engine(place.path())?, threads, batch, &data, length));
        }
        let [ours, reserved, theirs] = rates.map(|mut rates| summary(&mut rates));
        let cell = |(median, low, high): (f64, f64, f64)| format!("{median:.0} ({low:.0}–{high:.0})");
        println!(
            "| {threads} threads, {batch} x {len} B | {} | {} | {} | {:.2} |",
            cell(ours),
            cell(reserved),
            cell(theirs),
            ours.0 / theirs.0
        );
    }
    Ok(())
}
