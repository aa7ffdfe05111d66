//! Reads every snapshot of a directory, prints what it found, one JSON object a line, and saves the whole ones into
//! another directory:
//!
//!     cargo run --release -p stanchion-snap --example snap-copy -- FROM [TO]
//!
//! A line has `name`, and either `term`, `index`, `size` (of the payload) or `damage`. FROM is only read.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use stanchion_disk::{Disk as _, RealDisk};
use stanchion_snap::{Snapshotter, decode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (from, to) = match &args[..] {
        [from] => (from, None),
        [from, to] => (from, Some(to)),
        _ => {
            say("usage: snap-copy FROM [TO]");
            return ExitCode::from(2);
        }
    };
    match copy(Path::new(from), to.map(Path::new)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("snap-copy: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn copy(from: &Path, to: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let target = to.map(|dir| Snapshotter::open(Arc::new(RealDisk), dir)).transpose()?;
    for name in RealDisk.list(from)?.into_iter().filter(|name| name.ends_with(".snap")) {
        match decode(RealDisk.read(&from.join(&name))?.into()) {
            Ok(snapshot) => {
                let (term, index, size) = (snapshot.term, snapshot.index, snapshot.data.len());
                print(&format!(r#"{{"name":"{name}","term":{term},"index":{index},"size":{size}}}"#));
                if let Some((target, _)) = &target {
                    target.save(term, index, &snapshot.data)?;
                }
            }
            Err(damage) => print(&format!(r#"{{"name":"{name}","damage":"{damage}"}}"#)),
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn print(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "a command line program")]
fn say(line: &str) {
    eprintln!("{line}");
}
