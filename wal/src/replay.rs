//! Replaying a log from a snapshot on: which entries count, and what the last states are.
//!
//! Reads only. Opening for append is `open`'s business.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use stanchion_disk::Disk;

use crate::dir;
use crate::entry::Entry;
use crate::error::{Damage, Error, Result};
use crate::order::Order;
use crate::record::{HardState, Record, SnapshotMark};
use crate::records::{End, Position, Records, Segment};
use crate::repair::Repair;

/// What a replay found besides the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// What the log's creator wrote about it.
    pub metadata: Bytes,
    /// The last hard state; empty if none was ever saved.
    pub hard_state: HardState,
    /// Index of the last entry, or of the snapshot if no entry follows it.
    pub last_index: u64,
    /// Whether the log has a mark of the snapshot it was opened at. Always true for an index above 0; a log whose
    /// first segment has no mark at all is still read from the beginning.
    pub snapshot_found: bool,
    /// Where the log ends, and whether its last write was cut off there.
    pub end: End,
    /// What was cut off to make the log writable again; `None` when nothing had to be.
    pub repair: Option<Repair>,
}

/// The entries of a log behind a snapshot, in the order in which they were written.
///
/// An entry whose index is not above that of the one before *overwrites*: all entries from its index on are void. So do
/// entries that the snapshot covers, and a snapshot of another log; neither is handed out, so that at the end all
/// entries above [`Recovery::last_index`] are void too. [`Replay::read_all`] applies these rules; who iterates keeps them
/// himself. The iterator holds about 1 MiB (or the
/// largest record) and has ended after an error.
#[derive(Debug)]
pub struct Replay {
    records: Records,
    dir: PathBuf,
    at: SnapshotMark,
    order: Order,
    hard_state: HardState,
    snapshot_found: bool,
    /// Index and term of the last entry read that the snapshot covers, or of the snapshot once it has replaced the log.
    below: (u64, u64),
    failed: bool,
}

impl Replay {
    /// Reads a log without locking or changing it, from the snapshot `(index, term)` on; `(0, 0)` is the beginning.
    ///
    /// # Errors
    /// [`Error::NotALog`], [`Error::MissingSegments`], [`Error::SnapshotNotCovered`], or as the file system.
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>, index: u64, term: u64) -> Result<Self> {
        let dir = dir.into();
        let names = dir::segments_from(&*disk, &dir, index)?;
        let segments = names.into_iter().map(|name| Segment { name, file: None }).collect();
        Self::new(disk, dir, segments, index, term)
    }

    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segments: Vec<Segment>,
        index: u64,
        term: u64,
    ) -> Result<Self> {
        Ok(Self {
            records: Records::new(disk, dir.clone(), segments)?,
            dir,
            at: SnapshotMark::new(index, term),
            order: Order::after(index, term),
            hard_state: HardState::default(),
            snapshot_found: false,
            below: (0, 0),
            failed: false,
        })
    }

    /// Reads on to the end and tells what was found. Entries that were not taken are checked and dropped.
    ///
    /// # Errors
    /// As the iterator; [`Error::SnapshotNotFound`].
    pub fn finish(mut self) -> Result<Recovery> {
        while self.next_entry()?.is_some() {}
        self.recovery()
    }

    /// Reads all entries that count.
    ///
    /// # Errors
    /// As [`Replay::finish`].
    pub fn read_all(mut self) -> Result<(Recovery, Vec<Entry>)> {
        let mut entries = Vec::new();
        self.read_entries(&mut entries)?;
        Ok((self.recovery()?, entries))
    }

    /// Reads on to the end, applying the overwrite rule.
    pub(crate) fn read_entries(&mut self, entries: &mut Vec<Entry>) -> Result<()> {
        while let Some(entry) = self.next_entry()? {
            // Indexes have no gap, so an entry's place follows from its index.
            let kept = (entry.index - self.at.index - 1) as usize;
            entries.truncate(kept);
            entries.push(entry);
        }
        // What was overwritten from below the snapshot, or replaced by it.
        entries.truncate((self.order.next() - 1 - self.at.index) as usize);
        Ok(())
    }

    /// What was found; only after the end was reached.
    pub(crate) fn recovery(&self) -> Result<Recovery> {
        if !self.snapshot_found && self.at.index > 0 {
            return Err(Error::SnapshotNotFound { dir: self.dir.clone(), index: self.at.index });
        }
        let (Some(end), Some(metadata)) = (self.records.end(), self.records.metadata()) else {
            unreachable!("the end of a log was reached without its head");
        };
        Ok(Recovery {
            metadata: metadata.clone(),
            hard_state: self.hard_state,
            last_index: self.order.next() - 1,
            snapshot_found: self.snapshot_found,
            end: *end,
            repair: None,
        })
    }

    pub(crate) fn into_parts(self) -> (Records, Order) {
        (self.records, self.order)
    }

    /// The next entry behind the snapshot; everything else is taken note of.
    #[inline]
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some((offset, entry)) = self.records.next_usual_entry() {
                if self.admit(offset, &entry)? {
                    return Ok(Some(entry));
                }
                continue;
            }
            let Some((position, record)) = self.records.next_record()? else { return Ok(None) };
            match record {
                Record::Entry(entry) => {
                    if self.admit(position.offset, &entry)? {
                        return Ok(Some(entry));
                    }
                }
                Record::State(state) => {
                    self.order.observe_term(state.term);
                    self.hard_state = state;
                }
                Record::Snapshot(mark) if mark.index == self.at.index => {
                    self.check_mark(position, &mark)?;
                    self.snapshot_found = true;
                    if self.below != (mark.index, mark.term) {
                        // Not the mark of an entry that was here: a leader's snapshot, which has replaced the log.
                        self.order.rewind_below_base(mark.term);
                        self.below = (mark.index, mark.term);
                    }
                }
                Record::Snapshot(_) | Record::Metadata(_) | Record::Crc(_) => {}
            }
        }
    }

    /// Takes note of an entry at this offset; says whether it is behind the snapshot.
    #[inline]
    fn admit(&mut self, offset: u64, entry: &Entry) -> Result<bool> {
        if entry.index <= self.at.index {
            self.below = (entry.index, entry.term);
            self.order.rewind_below_base(entry.term);
            return Ok(false);
        }
        self.order
            .admit(entry.index, entry.term)
            .map_err(|error| self.damaged(offset, Damage::Order(error)))?;
        Ok(true)
    }

    fn check_mark(&self, position: Position, mark: &SnapshotMark) -> Result<()> {
        if mark.term == self.at.term {
            return Ok(());
        }
        Err(Error::SnapshotMismatch {
            path: self.records.path().to_owned(),
            offset: position.offset,
            index: mark.index,
            expected: self.at.term,
            found: mark.term,
        })
    }

    #[cold]
    fn damaged(&self, offset: u64, damage: Damage) -> Error {
        Error::Damaged { path: self.records.path().to_owned(), offset, damage }
    }
}

impl Iterator for Replay {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_entry();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// The marks of all snapshots that the log says are usable: those at or below the last hard state's commit index and
/// followed by no entry that they cover, in the order of the log. Reads from the oldest segment, without locks; a torn end
/// is passed over.
///
/// # Errors
/// As [`Records`].
pub fn valid_snapshots(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<Vec<SnapshotMark>> {
    let mut records = Records::open(disk, dir)?;
    let mut marks = Vec::new();
    let mut commit = 0;
    while let Some((_, record)) = records.next_record()? {
        match record {
            Record::Snapshot(mark) => marks.push(mark),
            Record::State(state) => commit = state.commit,
            // A log never goes back behind a snapshot that was taken up: the process must have ended between the mark and
            // the hard state that goes with it. That what is committed reaches the mark by and by makes it no base of
            // this log.
            Record::Entry(entry) => marks.retain(|mark| mark.index < entry.index),
            Record::Metadata(_) | Record::Crc(_) => {}
        }
    }
    marks.retain(|mark| mark.index <= commit);
    // A mark shares memory with the block it was read in; what is kept gets memory of its own.
    for mark in &mut marks {
        mark.conf_state = mark.conf_state.as_ref().map(|bytes| Bytes::copy_from_slice(bytes));
    }
    Ok(marks)
}

/// Checks a log from the snapshot `(index, term)` on without locking or changing it, also while somebody writes it.
///
/// # Errors
/// As [`Replay::finish`].
pub fn verify(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>, index: u64, term: u64) -> Result<Recovery> {
    Replay::open(disk, dir, index, term)?.finish()
}
