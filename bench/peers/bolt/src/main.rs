//! stanchion-bolt beside redb, LMDB (heed), jammdb and bbolt: the same rows, alternating rounds of one run.
//!
//! Two workloads. `etcd`: rising keys of 17 bytes, values of 300 bytes, a durable commit each 10,000 rows; then point
//! reads, scans of 1,000 rows, and the oldest tenth deleted. `random`: the same with random keys of 32 bytes.
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

use engines::{Bolt, Engine, Heed, Jammdb, Outcome, Redb, bytes_in};
use load::Load;

/// Name, unit, and whether less is better, in the order they are printed.
const METRICS: [(&str, &str, bool); 5] = [
    ("put", "rows/s", false),
    ("get", "ns", true),
    ("scan of 1,000", "µs", true),
    ("delete", "rows/s", false),
    ("file", "MiB", true),
];

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
        let mut results: BTreeMap<&str, Vec<[f64; 5]>> = BTreeMap::new();
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
fn run(engine: &str, load: &Load) -> Outcome<[f64; 5]> {
    let dir = match std::env::var("PEERS_DIR") {
        Ok(parent) => tempfile::tempdir_in(parent)?,
        Err(_) => tempfile::tempdir()?,
    };
    let dir = dir.path();
    let open: &mut dyn Engine = match engine {
        "bolt" => &mut Bolt::open(dir, load.fill_percent())?,
        "redb" => &mut Redb::open(dir)?,
        "lmdb" => &mut Heed::open(dir)?,
        "jammdb" => &mut Jammdb::open(dir)?,
        "bbolt" => return bbolt(dir, load),
        other => return Err(format!("unknown engine {other}").into()),
    };
    let (put, file) = (load.put(open)?, bytes_in(dir)?);
    let (get, scan) = (load.get(open)?, load.scan(open)?);
    // jammdb 0.11 panics when a transaction deletes all rows of a page.
    let delete = if engine == "jammdb" { f64::NAN } else { load.delete(open)? };
    Ok([put, get, scan, delete, file as f64 / f64::from(1 << 20)])
}

fn build_bbolt() -> Outcome<()> {
    let status = Command::new("go")
        .args(["build", "-o", "../target/bbolt", "."])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("bbolt"))
        .status()?;
    if status.success() { Ok(()) } else { Err("the Go program does not build".into()) }
}

/// The Go program prints the five figures in the order of [`METRICS`].
fn bbolt(dir: &Path, load: &Load) -> Outcome<[f64; 5]> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bbolt");
    let output =
        Command::new(program).arg(dir.join("db")).arg(load.name).arg(load.keys.to_string()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let figures: Vec<f64> =
        String::from_utf8(output.stdout)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    figures.try_into().map_err(|_| "the Go program prints five figures".into())
}

fn report(load: &Load, engines: &[&str], results: &BTreeMap<&str, Vec<[f64; 5]>>) {
    println!("{}: {} keys", load.name, load.keys);
    for (metric, (name, unit, less)) in METRICS.into_iter().enumerate() {
        let ours = results.get("bolt").map(|rounds| summary(rounds, metric).1);
        for engine in engines {
            let (low, median, high) = summary(&results[engine], metric);
            let ratio = ours.map_or(String::new(), |ours| {
                format!("{:.2}", if less { median / ours } else { ours / median })
            });
            println!("  {name:<14} {engine:<7} {median:>10.0} {unit:<7} ({low:.0}–{high:.0})  {ratio}");
        }
    }
}

/// Lowest, median and highest over the rounds.
fn summary(rounds: &[[f64; 5]], metric: usize) -> (f64, f64, f64) {
    let mut values: Vec<f64> = rounds.iter().map(|figures| figures[metric]).collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
