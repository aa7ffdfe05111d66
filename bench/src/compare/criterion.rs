//! A table of what Criterion left in its directories: one line for each benchmark, in the order of their names.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::table::short;
use crate::error::Failure;

/// The part of `estimates.json` that is shown; nanoseconds.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// Prints the table.
pub(super) fn table(directories: &[PathBuf], out: &mut impl Write) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for directory in directories {
        let read = collect(directory, directory, &mut rows);
        read.map_err(|error| Failure::local(directory.display().to_string(), &error))?;
    }
    if rows.is_empty() {
        return Err(Failure::Settings("nothing was measured there; run `cargo bench` first".to_owned()));
    }
    rows.sort();
    let written = writeln!(out, "| benchmark | median (95 % interval) |\n|---|---|")
        .and_then(|()| rows.iter().try_for_each(|(name, figures)| writeln!(out, "| {name} | {figures} |")));
    written.map_err(|error| Failure::local("writing", &error))
}

/// Rows of all benchmarks below `directory`, named by their path from `root`.
fn collect(root: &Path, directory: &Path, rows: &mut Vec<(String, String)>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let estimates = path.join("estimates.json");
        // Each benchmark also keeps what it measured the time before.
        if path.ends_with("new") && estimates.exists() {
            let found: Estimates = serde_json::from_slice(&fs::read(&estimates)?)?;
            let Interval { lower_bound, upper_bound } = found.median.confidence_interval;
            let name = directory.strip_prefix(root).unwrap_or(directory).display().to_string();
            let times = [found.median.point_estimate, lower_bound, upper_bound].map(time);
            rows.push((name, format!("{} ({}–{})", times[0], times[1], times[2])));
        } else if path.is_dir() {
            collect(root, &path, rows)?;
        }
    }
    Ok(())
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{} ns", short(n)),
        n if n < 1e6 => format!("{} µs", short(n / 1e3)),
        n if n < 1e9 => format!("{} ms", short(n / 1e6)),
        n => format!("{} s", short(n / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_become_rows_and_old_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        for (name, point) in [("group/one/new", 1500.0), ("group/one/base", 9.0), ("two/new", 2.5e6)] {
            let at = dir.path().join(name);
            fs::create_dir_all(&at).unwrap();
            let estimates = format!(
                "{{\"median\":{{\"point_estimate\":{point},\"confidence_interval\":{{\"confidence_level\":0.95,\
                 \"lower_bound\":{point},\"upper_bound\":{point}}}}}}}"
            );
            fs::write(at.join("estimates.json"), estimates).unwrap();
        }
        let mut out = Vec::new();
        table(&[dir.path().to_path_buf()], &mut out).unwrap();
        let rows = "| group/one | 1.50 µs (1.50 µs–1.50 µs) |\n| two | 2.50 ms (2.50 ms–2.50 ms) |\n";
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("| benchmark | median (95 % interval) |\n|---|---|\n{rows}")
        );
    }

    #[test]
    fn an_empty_directory_is_said_to_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let answer = table(&[dir.path().to_path_buf()], &mut Vec::new());
        assert!(matches!(answer, Err(Failure::Settings(_))));
    }
}
