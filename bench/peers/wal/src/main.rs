//! stanchion-wal beside raft-engine: the same records, the same disk, alternating rounds of one run.
//!
//! `append` and `replay` hold the loads; without arguments both are run, with arguments those that are named.
//! raft-engine's compression is off, since the data is noise. Prints the median of each side over the rounds, the lowest and highest, and
//! the ratio of the medians.
//!
//! `PEERS_DIR` chooses the disk, `PEERS_ROUNDS` (default 5) and `PEERS_MILLIS` (default 1000, appends only) the length.

mod append;
mod replay;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raft_engine::{Config, ReadableSize};
use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Where and how long to measure.
struct Settings {
    base: PathBuf,
    rounds: u64,
    length: Duration,
}

impl Settings {
    fn from_environment() -> Self {
        Self {
            base: std::env::var_os("PEERS_DIR").map_or_else(std::env::temp_dir, PathBuf::from),
            rounds: number("PEERS_ROUNDS", 5),
            length: Duration::from_millis(number("PEERS_MILLIS", 1000)),
        }
    }

    /// A fresh directory on the disk that is measured.
    fn place(&self) -> Outcome<TempDir> {
        Ok(tempfile::tempdir_in(&self.base)?)
    }
}

/// What a side reached over the rounds.
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], lowest: values[0], highest: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.lowest, self.highest)
    }
}

fn raft_engine(dir: &Path) -> Config {
    let mut config = Config::default();
    config.dir = dir.join("raft-engine").to_string_lossy().into_owned();
    config.batch_compression_threshold = ReadableSize(0);
    config
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

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

fn main() -> Outcome<()> {
    let settings = Settings::from_environment();
    let named: Vec<_> = std::env::args().skip(1).collect();
    if let Some(unknown) = named.iter().find(|name| !["append", "replay"].contains(&name.as_str())) {
        return Err(format!("unknown load `{unknown}`: append or replay").into());
    }
    let asked_for = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
    if asked_for("append") {
        append::table(&settings)?;
    }
    if asked_for("replay") {
        replay::table(&settings)?;
    }
    Ok(())
}
