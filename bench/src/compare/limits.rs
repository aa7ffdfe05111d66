//! What the machine allows: syncs of a file and copies of memory, measured in the same run as the servers.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Bytes of a write before its sync: a log entry with a value of 256 bytes, rounded up to a block.
const SYNC_BYTES: usize = 4096;
/// The file that is written over and over; blocks that exist cost no metadata.
const SYNC_FILE_BYTES: usize = 16 << 20;
/// Larger than any cache.
const COPY_BYTES: usize = 256 << 20;

/// Limits of this machine, measured when the comparison ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Median of a 4 KiB write with `fdatasync`, microseconds, in the servers' directory.
    pub(crate) sync_p50_us: f64,
    /// Its 99th percentile.
    pub(crate) sync_p99_us: f64,
    /// Bytes a second that one thread copies in memory.
    pub(crate) copy_bytes_per_second: f64,
}

impl Limits {
    /// Takes about two seconds.
    pub(crate) fn measure(directory: &Path) -> Result<Limits, Failure> {
        let syncs = syncs(directory, Duration::from_secs(1))
            .map_err(|error| Failure::local(format!("syncing in {}", directory.display()), &error))?;
        let quantile = |q: f64| syncs[((syncs.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
        Ok(Limits {
            sync_p50_us: quantile(0.5),
            sync_p99_us: quantile(0.99),
            copy_bytes_per_second: copy_bytes_per_second(),
        })
    }
}

/// Durations of writes with their sync, sorted.
fn syncs(directory: &Path, duration: Duration) -> std::io::Result<Vec<Duration>> {
    let file: File = tempfile::tempfile_in(directory)?;
    file.write_all_at(&vec![0; SYNC_FILE_BYTES], 0)?;
    file.sync_all()?;
    let block = [7; SYNC_BYTES];
    let mut taken = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < duration || taken.is_empty() {
        let offset = taken.len() * SYNC_BYTES % SYNC_FILE_BYTES;
        let start = Instant::now();
        file.write_all_at(&block, offset as u64)?;
        file.sync_data()?;
        taken.push(start.elapsed());
    }
    taken.sort_unstable();
    Ok(taken)
}

/// The best of five: what other processes take away is no limit of the machine.
fn copy_bytes_per_second() -> f64 {
    let from = vec![1u8; COPY_BYTES];
    let mut to = vec![0u8; COPY_BYTES];
    let best = (0..5).map(|_| {
        let start = Instant::now();
        std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
        start.elapsed()
    });
    COPY_BYTES as f64 / best.min().expect("five").as_secs_f64()
}
