//! stanchion-bolt beside redb, LMDB (heed), jammdb and bbolt: the same rows, alternating rounds of one run.
//!
//! Two workloads. `etcd`: rising keys of 17 bytes, values of 300 bytes, a durable commit each 10,000 rows; then point
//! reads, scans of 1,000 rows, the oldest tenth deleted, and the file closed and opened for writing. `random`: the same
//! with random keys of 32 bytes. The last figure is the open of a file in which the list of free pages is stored.
//!
//! ```text
//! PEERS_KEYS (1000000)   PEERS_ROUNDS (3)   PEERS_DIR (the temporary directory)
//! PEERS_LOADS (etcd,random)   PEERS_ENGINES (bolt,lmdb,redb,jammdb,bbolt)
//! ```
//!
//! Prints the median over the rounds with the lowest and highest, and how many times better ours is. bbolt is a Go
//! program beside this one (`bbolt/`), built here; it makes the same rows from the same numbers.

mod engines;
mod load;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engines::{Bolt, Engine, Heed, Jammdb, Outcome, Redb, bytes_in};
use load::Load;

/// Name, unit, and whether less is better, in the order they are printed.
const METRICS: [(&str, &str, bool); METRIC_COUNT] = [
    ("put", "rows/s", false),
    ("get", "ns", true),
    ("scan of 1,000", "µs", true),
    ("delete", "rows/s", false),
    ("file", "MiB", true),
    ("open", "µs", true),
    ("open, list", "µs", true),
];
const METRIC_COUNT: usize = 7;
/// Figures of one round, in the order of [`METRICS`]; not a number where an engine has none.
type Figures = [f64; METRIC_COUNT];

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn main() -> Outcome<()> {
    let keys: u64 = setting("PEERS_KEYS", "1000000").parse()?;
    let rounds: usize = setting("PEERS_ROUNDS", "3").parse()?;
    let engines = setting("PEERS_ENGINES", "bolt,lmdb,redb,jammdb,bbolt");
    let engines: Vec<&str> = engines.split(',').collect();
    if engines.contains(&"bbolt") {
        build_bbolt()?;
    }
    for load in setting("PEERS_LOADS", "etcd,random").split(',') {
        let load = Load::new(load, keys)?;
        let mut results: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
        for _ in 0..rounds {
            for &engine in &engines {
                results.entry(engine).or_default().push(run(engine, &load)?);
            }
        }
        report(&load, &engines, &results);
    }
    Ok(())
}

/// One round of one engine in a fresh directory.
fn run(engine: &str, load: &Load) -> Outcome<Figures> {
    let dir = match std::env::var("PEERS_DIR") {
        Ok(parent) => tempfile::tempdir_in(parent)?,
        Err(_) => tempfile::tempdir()?,
    };
    let dir = dir.path();
    if engine == "bbolt" {
        return bbolt(dir, load);
    }
    let mut open = open_engine(engine, dir, load, false)?;
    let (put, file) = (load.put(&mut *open)?, bytes_in(dir)?);
    let (get, scan) = (load.get(&*open)?, load.scan(&*open)?);
    // jammdb 0.11 panics when a transaction deletes all rows of a page.
    let delete = if engine == "jammdb" { f64::NAN } else { load.delete(&mut *open)? };
    drop(open);
    let reopened = reopen(engine, dir, load, false)?;
    let with_list = if engine == "bolt" {
        load.touch(&mut *open_engine(engine, dir, load, true)?)?;
        reopen(engine, dir, load, true)?
    } else {
        f64::NAN
    };
    Ok([put, get, scan, delete, file as f64 / f64::from(1 << 20), reopened, with_list])
}

fn open_engine(engine: &str, dir: &Path, load: &Load, store_list: bool) -> Outcome<Box<dyn Engine>> {
    Ok(match engine {
        "bolt" => Box::new(Bolt::open(dir, load.fill_percent(), store_list)?),
        "redb" => Box::new(Redb::open(dir)?),
        "lmdb" => Box::new(Heed::open(dir)?),
        "jammdb" => Box::new(Jammdb::open(dir)?),
        other => return Err(format!("unknown engine {other}").into()),
    })
}

/// Microseconds until a file that nobody has open can be written to.
fn reopen(engine: &str, dir: &Path, load: &Load, store_list: bool) -> Outcome<f64> {
    let start = Instant::now();
    let open = open_engine(engine, dir, load, store_list)?;
    let micros = start.elapsed().as_micros() as f64;
    drop(open);
    Ok(micros)
}

fn build_bbolt() -> Outcome<()> {
    let status = Command::new("go")
        .args(["build", "-o", "../target/bbolt", "."])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("bbolt"))
        .status()?;
    if status.success() { Ok(()) } else { Err("the Go program does not build".into()) }
}

/// The Go program prints its figures in the order of [`METRICS`].
fn bbolt(dir: &Path, load: &Load) -> Outcome<Figures> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bbolt");
    let output =
        Command::new(program).arg(dir.join("db")).arg(load.name).arg(load.keys.to_string()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let figures: Vec<f64> =
        String::from_utf8(output.stdout)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    figures.try_into().map_err(|_| "the Go program prints another number of figures".into())
}

fn report(load: &Load, engines: &[&str], results: &BTreeMap<&str, Vec<Figures>>) {
    println!("{}: {} keys", load.name, load.keys);
    for (metric, (name, unit, less)) in METRICS.into_iter().enumerate() {
        let ours = results.get("bolt").map(|rounds| summary(rounds, metric).1);
        for engine in engines {
            let (low, median, high) = summary(&results[engine], metric);
            if median.is_nan() {
                continue;
            }
            let ratio = ours.map_or(String::new(), |ours| {
                format!("{:.2}", if less { median / ours } else { ours / median })
            });
            println!("  {name:<14} {engine:<7} {median:>10.0} {unit:<7} ({low:.0}–{high:.0})  {ratio}");
        }
    }
}

/// Lowest, median and highest over the rounds.
fn summary(rounds: &[Figures], metric: usize) -> (f64, f64, f64) {
    let mut values: Vec<f64> = rounds.iter().map(|figures| figures[metric]).collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
