//! Copies a write-ahead log record by record: what is read with this crate is written with this crate.
//!
//! ```text
//! wal-copy [--entries encoded|parts] [--segment-size BYTES] [--drop-snapshots] FROM TO
//! ```
//!
//! `--entries encoded` (the default) writes entries as they stood in the file, `parts` puts them together anew from
//! index, term, type and data. `--drop-snapshots` leaves out the marks of snapshots, for a log that is to be replayed
//! from its beginning without any. Overwritten entries are copied too. FROM must begin with its first segment.
//!
//! Exit code 0 for a complete copy, also of a log whose last write was cut off; 1 for an error; 2 for a wrong call.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use stanchion_disk::RealDisk;
use stanchion_wal::{Entry, EntryRef, Error, HardState, Options, Record, Records, SEGMENT_SIZE, Wal};

const USAGE: &str =
    "usage: wal-copy [--entries encoded|parts] [--segment-size BYTES] [--drop-snapshots] FROM TO";

/// Entries that are appended in one call at most; their bytes are in memory meanwhile.
const BATCH: usize = 256;

struct Arguments {
    anew: bool,
    segment_size: u64,
    drop_snapshots: bool,
    from: PathBuf,
    to: PathBuf,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args_os().skip(1)) else { return complain(&USAGE, 2) };
    match copy(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format_args!("wal-copy: {error}"), 1),
    }
}

#[allow(clippy::print_stderr, reason = "a command's complaints belong there")]
fn complain(what: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{what}");
    ExitCode::from(code)
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let (mut anew, mut segment_size, mut drop_snapshots) = (false, SEGMENT_SIZE, false);
    let mut places = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--entries") => {
                anew = match arguments.next()?.to_str()? {
                    "encoded" => false,
                    "parts" => true,
                    _ => return None,
                };
            }
            Some("--segment-size") => segment_size = arguments.next()?.to_str()?.parse().ok()?,
            Some("--drop-snapshots") => drop_snapshots = true,
            Some(text) if text.starts_with("--") => return None,
            _ => places.push(PathBuf::from(argument)),
        }
    }
    let to = places.pop()?;
    let from = places.pop()?;
    places.is_empty().then_some(Arguments { anew, segment_size, drop_snapshots, from, to })
}

fn copy(arguments: &Arguments) -> Result<(), Error> {
    let mut records = Records::open(Arc::new(RealDisk), &arguments.from)?;
    let mut copy: Option<Copy> = None;
    while let Some((_, record)) = records.next_record()? {
        match (record, &mut copy) {
            // Each segment repeats the metadata; the first one makes the log.
            (Record::Metadata(metadata), None) => {
                let options = Options::default().segment_size(arguments.segment_size);
                let wal = Wal::create(Arc::new(RealDisk), &arguments.to, &metadata, options)?;
                copy = Some(Copy { wal, batch: Vec::new(), anew: arguments.anew });
            }
            (Record::Entry(entry), Some(copy)) => copy.entry(entry)?,
            (Record::State(state), Some(copy)) => copy.append(&state)?,
            // Creating the log wrote the mark at 0.
            (Record::Snapshot(mark), Some(copy)) if mark.index > 0 && !arguments.drop_snapshots => {
                copy.append(&HardState::default())?;
                copy.wal.save_snapshot(&mark)?;
            }
            _ => {}
        }
    }
    if let Some(mut copy) = copy {
        copy.append(&HardState::default())?;
        copy.wal.sync()?;
        copy.wal.close()?;
    }
    Ok(())
}

struct Copy {
    wal: Wal,
    /// Read, and not appended yet: entries come before the hard state that they were saved with.
    batch: Vec<Entry>,
    anew: bool,
}

impl Copy {
    fn entry(&mut self, entry: Entry) -> Result<(), Error> {
        self.batch.push(entry);
        if self.batch.len() == BATCH { self.append(&HardState::default()) } else { Ok(()) }
    }

    fn append(&mut self, state: &HardState) -> Result<(), Error> {
        let entries: Vec<_> = self.batch.iter().map(|entry| self.entry_ref(entry)).collect();
        self.wal.append(state, &entries)?;
        self.batch.clear();
        // Without a sync now and then the whole copy would gather in memory.
        self.wal.sync()
    }

    fn entry_ref<'a>(&self, entry: &'a Entry) -> EntryRef<'a> {
        if self.anew {
            EntryRef::new(entry.index, entry.term, entry.kind, &entry.data)
        } else {
            EntryRef::encoded(entry.index, entry.term, &entry.encoded)
        }
    }
}
