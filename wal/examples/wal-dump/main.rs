//! Prints every record of a write-ahead log, and where and why a damaged one ends.
//!
//! ```text
//! wal-dump [--json] [--follow] DIR
//! ```
//!
//! With `--json` each record is one object a line (see `line`). With `--follow` it goes on with what a running server
//! appends, until it is interrupted. Takes no locks and writes nothing.
//!
//! Exit code 0 for a sound log, also one whose last write was cut off; 1 for a damaged one or any other error, which
//! stands in the last line of the output and on standard error; 2 for a wrong call.

mod line;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use stanchion_disk::RealDisk;
use stanchion_wal::{Error, Records};

use crate::line::Line;

/// How long `--follow` sleeps at the end of the log.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

const USAGE: &str = "usage: wal-dump [--json] [--follow] DIR";

struct Arguments {
    json: bool,
    follow: bool,
    dir: PathBuf,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args_os().skip(1)) else {
        let _ = writeln!(io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    let mut out = Output { out: BufWriter::new(io::stdout().lock()), json: arguments.json };
    match dump(&arguments, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(e)) => complain(&e),
        Err(Failure::Log(error)) => {
            let _ = out.line(&Line::error(&error)).and_then(|()| out.out.flush());
            complain(&error)
        }
    }
}

fn complain(error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "wal-dump: {error}");
    ExitCode::FAILURE
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let (mut json, mut follow, mut dir) = (false, false, None);
    for argument in arguments {
        match argument.to_str() {
            Some("--json") => json = true,
            Some("--follow") => follow = true,
            Some(text) if text.starts_with("--") => return None,
            _ if dir.is_some() => return None,
            _ => dir = Some(PathBuf::from(argument)),
        }
    }
    Some(Arguments { json, follow, dir: dir? })
}

enum Failure {
    Log(Error),
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

struct Output<W> {
    out: W,
    json: bool,
}

impl<W: Write> Output<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let text = if self.json { line.to_json() } else { line.to_text() };
        writeln!(self.out, "{text}")
    }
}

fn dump<W: Write>(arguments: &Arguments, out: &mut Output<W>) -> Result<(), Failure> {
    let mut records = Records::open(Arc::new(RealDisk), &arguments.dir)?;
    let mut seen_damage = false;
    loop {
        match records.next_record() {
            Ok(Some((position, record))) => {
                seen_damage = false;
                out.line(&Line::record(position, &record))?;
                continue;
            }
            Ok(None) if !arguments.follow => {
                if let Some(end) = records.end() {
                    out.line(&Line::end(end))?;
                }
                out.out.flush()?;
                return Ok(());
            }
            Ok(None) => {}
            // A record that is being written may be seen half: only what stays is damage.
            Err(Error::Damaged { .. }) if arguments.follow && !seen_damage => seen_damage = true,
            Err(error) => return Err(error.into()),
        }
        out.out.flush()?;
        std::thread::sleep(FOLLOW_INTERVAL);
        records.resume()?;
    }
}
