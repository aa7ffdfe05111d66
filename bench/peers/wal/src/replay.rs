//! Opening and reading: a log of 256 MiB read to its end, and one of 100 segments opened.
//!
//! Both sides start from closed files in a warm page cache. raft-engine's entries are `eraftpb.Entry` messages of one
//! region; to open, it reads all files and keeps an index in memory, from which entries are then fetched. Ours reads
//! the files in order and hands out the entries, or starts at the newest snapshot.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use raft_engine::{Engine, LogBatch, MessageExt, ReadableSize};
use raft_proto::eraftpb::Entry;
use stanchion_disk::RealDisk;
use stanchion_wal::{EntryRef, HardState, Options, Replay, SnapshotMark, Wal};

use crate::{Outcome, Settings, Spread, noise, raft_engine};

/// Bytes of data in the log that is read.
const LOG_LEN: usize = 256 << 20;
/// Bytes of data written with one sync.
const BATCH_LEN: usize = 1 << 20;
/// Segments of the log that is opened, and their size.
const SEGMENTS: u64 = 100;
const SEGMENT_LEN: u64 = 256 << 10;
/// Entries fetched from raft-engine at once.
const FETCH: u64 = 4096;
/// The region that all entries belong to.
const REGION: u64 = 1;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// Prints a table of times: ours, raft-engine's, and how many times ours theirs is.
pub fn table(settings: &Settings) -> Outcome<()> {
    println!("| load | stanchion-wal ms | raft-engine ms | ratio |");
    println!("|---|---|---|---|");
    for len in [128, 1024, 16 << 10] {
        let place = settings.place()?;
        let count = (LOG_LEN / len) as u64;
        write(place.path(), len, count, u64::MAX)?;
        let sum = count as usize * len;
        row(
            settings,
            &format!("read {count} x {len} B"),
            || read_ours(place.path(), sum),
            || read_theirs(place.path(), sum),
        )?;
    }
    let place = settings.place()?;
    let last = SEGMENTS * SEGMENT_LEN / 1024;
    write(place.path(), 1024, last, SEGMENT_LEN)?;
    let theirs = || Ok(drop(Engine::open(small_files(place.path()))?));
    row(settings, "open 100 segments at the newest snapshot", || open_ours(place.path(), last), theirs)?;
    row(settings, "open 100 segments from the beginning", || open_ours(place.path(), 0), theirs)
}

/// One row: both sides in turn.
fn row(
    settings: &Settings,
    name: &str,
    ours: impl Fn() -> Outcome<()>,
    theirs: impl Fn() -> Outcome<()>,
) -> Outcome<()> {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        our_times.push(millis(&ours)?);
        their_times.push(millis(&theirs)?);
    }
    let (ours, theirs) = (Spread::of(our_times), Spread::of(their_times));
    println!("| {name} | {ours:.2} | {theirs:.2} | {:.2} |", theirs.median / ours.median);
    Ok(())
}

fn millis(work: impl Fn() -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// Writes the same entries with both, in segments of this length (as they come for `u64::MAX`).
fn write(dir: &Path, len: usize, count: u64, segment: u64) -> Outcome<()> {
    let data = noise(len);
    let batch = (BATCH_LEN / len) as u64;
    let (options, config) = if segment == u64::MAX {
        (Options::default(), raft_engine(dir))
    } else {
        (Options::default().segment_size(segment), small_files(dir))
    };
    let mut wal = Wal::create(Arc::new(RealDisk), dir.join("wal"), b"", options)?;
    let engine = Engine::open(config)?;
    for first in (1..=count).step_by(batch as usize) {
        let indexes = first..(first + batch).min(count + 1);
        let entries: Vec<_> = indexes.clone().map(|index| EntryRef::new(index, 1, 0, &data)).collect();
        wal.save(&HardState { term: 1, vote: 1, commit: first }, &entries)?;
        let entries: Vec<_> = indexes.map(|index| entry(index, &data)).collect();
        let mut batch = LogBatch::default();
        batch.add_entries::<Entries>(REGION, &entries)?;
        engine.write(&mut batch, true)?;
    }
    wal.save(&HardState { term: 1, vote: 1, commit: count }, &[])?;
    wal.save_snapshot(&SnapshotMark::new(count, 1))?;
    Ok(wal.close()?)
}

fn entry(index: u64, data: &[u8]) -> Entry {
    let mut entry = Entry::default();
    entry.set_index(index);
    entry.set_term(1);
    entry.set_data(data.to_vec().into());
    entry
}

fn small_files(dir: &Path) -> raft_engine::Config {
    let mut config = raft_engine(dir);
    config.target_file_size = ReadableSize(SEGMENT_LEN);
    config
}

fn read_ours(dir: &Path, expected: usize) -> Outcome<()> {
    let mut sum = 0;
    for entry in Replay::open(Arc::new(RealDisk), dir.join("wal"), 0, 0)? {
        sum += entry?.data.len();
    }
    same(sum, expected)
}

fn read_theirs(dir: &Path, expected: usize) -> Outcome<()> {
    let engine = Engine::open(raft_engine(dir))?;
    let mut next = engine.first_index(REGION).ok_or("no entries")?;
    let end = engine.last_index(REGION).ok_or("no entries")? + 1;
    let (mut sum, mut entries) = (0, Vec::new());
    while next < end {
        entries.clear();
        let to = (next + FETCH).min(end);
        engine.fetch_entries_to::<Entries>(REGION, next, to, None, &mut entries)?;
        sum += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        next = to;
    }
    same(sum, expected)
}

fn open_ours(dir: &Path, index: u64) -> Outcome<()> {
    let options = Options::default().segment_size(SEGMENT_LEN);
    let (wal, _) = Wal::open(Arc::new(RealDisk), dir.join("wal"), index, index.min(1), options)?.finish()?;
    Ok(drop(wal))
}

fn same(found: usize, expected: usize) -> Outcome<()> {
    if found == expected { Ok(()) } else { Err(format!("{found} bytes read, {expected} written").into()) }
}
