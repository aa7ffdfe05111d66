//! Appending: many threads that each make one record durable at a time, through one log, and one thread that makes
//! batches durable.
//!
//! Every record of raft-engine is a key-value pair of a region (8 bytes of key, the same data), its cheapest form.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_engine::{Engine, LogBatch};
use stanchion_disk::RealDisk;
use stanchion_wal::{Committer, EntryRef, HardState, Options, Wal};

use crate::{Outcome, Settings, Spread, noise, raft_engine};

/// One side of a comparison: makes `count` records durable, starting at `index`.
trait Log: Sync {
    fn commit(&self, index: u64, count: u64, data: &[u8]);
}

struct Ours(Committer);

impl Log for Ours {
    fn commit(&self, _index: u64, count: u64, data: &[u8]) {
        let append = |wal: &mut Wal| {
            let next = wal.last_index() + 1;
            let entries: Vec<_> =
                (next..next + count).map(|index| EntryRef::new(index, 1, 0, data)).collect();
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

/// Prints a table of rates: ours, ours without zero-filling, and raft-engine's.
pub fn table(settings: &Settings) -> Outcome<()> {
    println!("| load | stanchion-wal /s | reserved only /s | raft-engine /s | ratio |");
    println!("|---|---|---|---|---|");
    for (threads, batch, len) in [(64, 1, 128), (64, 1, 1024), (1, 1, 128), (1, 16, 128), (1, 256, 1024)] {
        let data = noise(len);
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..settings.rounds {
            // Fresh logs for each round: neither side profits from segments that the other's rounds had written.
            let place = settings.place()?;
            rates[0].push(rate(&ours(place.path(), true)?, threads, batch, &data, settings.length));
            let place = settings.place()?;
            rates[1].push(rate(&ours(place.path(), false)?, threads, batch, &data, settings.length));
            let place = settings.place()?;
            let theirs = RaftEngine(Engine::open(raft_engine(place.path()))?);
            rates[2].push(rate(&theirs, threads, batch, &data, settings.length));
        }
        let [ours, reserved, theirs] = rates.map(Spread::of);
        println!(
            "| {threads} threads, {batch} x {len} B | {ours:.0} | {reserved:.0} | {theirs:.0} | {:.2} |",
            ours.median / theirs.median
        );
    }
    Ok(())
}
