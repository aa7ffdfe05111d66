//! Inspects a database file: `bolt-inspect check|buckets|pages|tree|stats|compact FILE [TARGET]`.
//!
//! `check` prints every finding and exits with 1 if there is one; `compact` writes `TARGET` (default: FILE.compact).
//! All commands open the file read-only.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use stanchion_bolt::{Bucket, Db, Options, ReadTx, Result};
use stanchion_disk::RealDisk;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [command, file, rest @ ..] = args.as_slice() else {
        eprintln!("usage: bolt-inspect check|buckets|pages|tree|stats|compact FILE [TARGET]");
        return ExitCode::from(2);
    };
    match run(command, file, rest) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, file: &str, rest: &[String]) -> Result<ExitCode> {
    let options = Options { lock_timeout: Some(Duration::from_secs(5)), ..Options::read_only() };
    let db = Db::open(Arc::new(RealDisk), file, options)?;
    let tx = db.begin_read()?;
    match command {
        "check" => return Ok(check(&tx)),
        "buckets" => buckets(&tx)?,
        "pages" => pages(&tx)?,
        "tree" => tree(&tx.root(), 0)?,
        "stats" => stats(&db, &tx)?,
        "compact" => {
            let target = rest.first().cloned().unwrap_or_else(|| format!("{file}.compact"));
            let copy = tx.compact_to(Arc::new(RealDisk), &target, Options::default(), 64 << 20)?;
            println!("{} -> {} bytes in {target}", tx.size(), copy.begin_read()?.size());
        }
        other => {
            eprintln!("unknown command {other}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(tx: &ReadTx) -> ExitCode {
    let findings = tx.check();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("OK");
        return ExitCode::SUCCESS;
    }
    println!("{} findings", findings.len());
    ExitCode::FAILURE
}

fn buckets(tx: &ReadTx) -> Result<()> {
    for entry in tx.buckets() {
        let (name, value) = entry?;
        if value.is_none()
            && let Some(bucket) = tx.bucket(name)?
        {
            let stats = tx.stats_below(&bucket)?;
            println!("{}\t{} keys\t{} bytes", name.escape_ascii(), stats.keys, stats.data_bytes);
        }
    }
    Ok(())
}

fn pages(tx: &ReadTx) -> Result<()> {
    println!(
        "{:>10}  {:<8}  {:>6}  {:>8}  {:>10}  {:>5}",
        "id", "kind", "count", "overflow", "used", "depth"
    );
    for p in tx.pages()? {
        let kind = format!("{:?}", p.kind).to_lowercase();
        println!(
            "{:>10}  {kind:<8}  {:>6}  {:>8}  {:>10}  {:>5}",
            p.id, p.count, p.overflow, p.used, p.depth
        );
    }
    Ok(())
}

fn tree(bucket: &Bucket<'_>, indent: usize) -> Result<()> {
    for entry in bucket.iter() {
        let (name, value) = entry?;
        if value.is_none()
            && let Some(nested) = bucket.bucket(name)?
        {
            let place = match nested.root_page() {
                0 => "inline".to_owned(),
                page => format!("page {page}"),
            };
            println!("{:indent$}{} ({place}, sequence {})", "", name.escape_ascii(), nested.sequence());
            tree(&nested, indent + 2)?;
        }
    }
    Ok(())
}

fn stats(db: &Db, tx: &ReadTx) -> Result<()> {
    let (meta, stats) = (tx.meta(), tx.bucket_stats()?);
    println!("file bytes       {}", db.file_len()?);
    println!("page size        {}", meta.page_size);
    println!("transaction      {}", meta.txid);
    println!("pages            {}", meta.high_water);
    println!("buckets          {} ({} inline)", stats.buckets, stats.inline_buckets);
    println!("keys             {}", stats.keys);
    println!("key+value bytes  {}", stats.data_bytes);
    println!("branch pages     {}", stats.branch_pages);
    println!("leaf pages       {}", stats.leaf_pages);
    println!("overflow pages   {}", stats.overflow_pages);
    println!("page fill        {} of {} bytes", stats.used_bytes, stats.allocated_bytes);
    println!("depth            {}", stats.depth);
    Ok(())
}
