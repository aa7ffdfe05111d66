//! Compaction: forgetting what is older than a revision.
//!
//! Accepting a compaction ([`WriteTxn::compact`](crate::WriteTxn::compact)) hides old revisions at once. Their removal
//! is a job that the caller drives with [`Store::compaction_step`], a bounded piece at a time: first the index, leaf by
//! leaf, then the rows of the file, oldest first. After a restart an unfinished job begins again.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;
use parking_lot::MutexGuard;

use crate::commit::put_all;
use crate::file::FileTxn;
use crate::hash::{Kept, KvHash, KvHasher};
use crate::schema::{self, Table};
use crate::store::Store;
use crate::{Error, Result, Revision, RowKey};

/// What one step of compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// There is nothing to compact.
    Idle,
    /// There is more to do.
    Working(CompactionProgress),
    /// The compaction is finished, and the file says so.
    Finished(CompactionProgress),
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionProgress {
    /// The compact revision.
    pub revision: i64,
    /// Rows looked at.
    pub rows_scanned: u64,
    /// Rows removed.
    pub rows_removed: u64,
}

/// Compactions that were accepted but not begun, and what the next one needs to know of the last.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<Job>,
    /// The compact revision after all accepted compactions; -1 for none.
    last: i64,
    /// The last accepted compaction is not finished.
    unfinished: bool,
}

/// A compaction to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    revision: i64,
    previous: i64,
    /// Its hash is kept: only so if the previous compaction had finished when this one was accepted.
    hashed: bool,
}

/// The compaction that is being done.
#[derive(Debug)]
pub(crate) struct Running {
    job: Job,
    progress: CompactionProgress,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Histories in the index are cut from this key on.
    Index { cursor: Vec<u8>, kept: Vec<Revision> },
    /// Rows are removed from this revision on.
    Rows { next: Revision, kept: Kept, hasher: Box<KvHasher> },
}

impl Queue {
    /// The queue of a store whose file says how far compactions got.
    pub(crate) fn recovered(finished: Option<i64>, scheduled: Option<i64>) -> Self {
        let (finished, scheduled) = (finished.unwrap_or(-1), scheduled.unwrap_or(-1));
        let mut waiting = VecDeque::new();
        #[cfg(feature = "mutants")]
        let finished = if crate::mutant::active(crate::mutant::Mutant::CompactionNotResumed) {
            scheduled
        } else {
            finished
        };
        if scheduled > finished {
            waiting.push_back(Job { revision: scheduled, previous: finished, hashed: false });
        }
        Self { last: finished.max(scheduled), unfinished: !waiting.is_empty(), waiting }
    }

    fn push(&mut self, revision: i64) {
        self.waiting.push_back(Job { revision, previous: self.last, hashed: !self.unfinished });
        self.last = revision;
        self.unfinished = true;
    }
}

/// Rows found by one look at the file.
struct Found {
    stale: Vec<RowKey>,
    scanned: usize,
    next: Option<Revision>,
}

impl Store {
    /// Accepts a compaction as a transaction of its own; see [`WriteTxn::compact`](crate::WriteTxn::compact).
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::Future`].
    pub fn compact(&self, revision: i64) -> Result<()> {
        let mut txn = self.write();
        txn.compact(revision)?;
        let written = txn.end();
        assert!(written.events.is_empty(), "a compaction changes no key");
        Ok(())
    }

    pub(crate) fn queue_compaction(&self, revision: i64) {
        self.compactions.lock().push(revision);
    }

    /// There are compactions to be worked on.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.compactions.lock().unfinished
    }

    /// Does a bounded piece of the oldest unfinished compaction: looks at no more than `rows` keys of the index or rows
    /// of the file, and commits what it removed. Puts and reads go on meanwhile; how long to pause between steps is the
    /// caller's choice.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn compaction_step(&self, rows: usize) -> Result<CompactionStep> {
        let rows = rows.max(1);
        let mut compactor = self.compactor.lock();
        if compactor.is_none() {
            let Some(job) = self.compactions.lock().waiting.pop_front() else {
                return Ok(CompactionStep::Idle);
            };
            // The schedule must be in the file before anything is removed, and all rows that may have to be removed.
            self.commit()?;
            let progress = CompactionProgress { revision: job.revision, ..CompactionProgress::default() };
            let phase = Phase::Index { cursor: Vec::new(), kept: Vec::new() };
            *compactor = Some(Running { job, progress, phase });
        }
        let running = compactor.as_mut().expect("a job was taken");
        let finished = match &mut running.phase {
            Phase::Index { cursor, kept } => {
                if let Some(next) =
                    self.compact_index(std::mem::take(cursor), running.job.revision, kept, rows)
                {
                    *cursor = next;
                } else {
                    running.phase = Phase::Rows {
                        next: Revision::default(),
                        kept: Kept::new(std::mem::take(kept)),
                        hasher: Box::new(KvHasher::new(running.job.revision, running.job.previous)),
                    };
                }
                None
            }
            Phase::Rows { next, kept, hasher } => {
                self.compact_rows(running.job, next, kept, hasher, rows, &mut running.progress)?
            }
        };
        let progress = running.progress;
        let Some(hash) = finished else {
            return Ok(CompactionStep::Working(progress));
        };
        if running.job.hashed {
            self.keep_hash(hash);
        }
        *compactor = None;
        let mut queue = self.compactions.lock();
        queue.unfinished = !queue.waiting.is_empty();
        Ok(CompactionStep::Finished(progress))
    }

    /// Cuts the histories of about `keys` keys, a leaf per turn of the locks.
    fn compact_index(
        &self,
        mut cursor: Vec<u8>,
        main: i64,
        kept: &mut Vec<Revision>,
        keys: usize,
    ) -> Option<Vec<u8>> {
        let mut of_leaf = Vec::new();
        // A leaf has at most 64 keys.
        for _ in 0..keys.div_ceil(64) {
            let writer = self.writer.lock();
            let next =
                self.published.write().index.compact_some(&cursor, main, |revision| of_leaf.push(revision));
            // A put that waits must get in before we take the next leaf, or move a list of millions to a larger place.
            MutexGuard::unlock_fair(writer);
            kept.append(&mut of_leaf);
            cursor = next?;
        }
        Some(cursor)
    }

    /// Removes stale rows among the next `rows` rows; the compaction's hash when they were the last ones.
    fn compact_rows(
        &self,
        job: Job,
        next: &mut Revision,
        kept: &mut Kept,
        hasher: &mut KvHasher,
        rows: usize,
        progress: &mut CompactionProgress,
    ) -> Result<Option<KvHash>> {
        let found = self.find_stale(job, *next, kept, hasher, rows)?;
        let last = found.next.is_none();
        if last || !found.stale.is_empty() {
            self.commit_with(Some(|txn: &mut FileTxn<'_>| {
                let mut rows = txn.rows()?;
                for row in &found.stale {
                    rows.delete(&row.encode())?;
                }
                if last {
                    put_all(txn, |put| schema::put_finished_compaction(put, job.revision))
                } else {
                    Ok(())
                }
            }))?;
        }
        progress.rows_scanned += found.scanned as u64;
        progress.rows_removed += found.stale.len() as u64;
        match found.next {
            Some(at) => {
                *next = at;
                Ok(None)
            }
            None => Ok(Some(hasher.finish())),
        }
    }

    fn find_stale(
        &self,
        job: Job,
        from: Revision,
        kept: &mut Kept,
        hasher: &mut KvHasher,
        rows: usize,
    ) -> Result<Found> {
        let image = self.published.read().rows.image.clone();
        let mut found = Found { stale: Vec::new(), scanned: 0, next: None };
        let mut failure = None;
        let nothing_kept = kept.is_empty();
        image.scan(Table::Key, &RowKey::put(from).encode(), |key, value| {
            let Some(row) = RowKey::decode(key) else {
                failure = Some(Error::Record {
                    bucket: Table::Key.name(),
                    key: Bytes::copy_from_slice(key),
                    what: "the key is not a revision".into(),
                });
                return ControlFlow::Break(());
            };
            if row.revision.main > job.revision {
                return ControlFlow::Break(());
            }
            if found.scanned == rows {
                found.next = Some(row.revision);
                return ControlFlow::Break(());
            }
            found.scanned += 1;
            let is_kept = kept.contains(row.revision);
            #[cfg(feature = "mutants")]
            let is_kept = is_kept
                && !(crate::mutant::active(crate::mutant::Mutant::CompactionDropsLast)
                    && row.revision.main == job.revision);
            hasher.row(row, value, || nothing_kept || is_kept);
            if !is_kept {
                found.stale.push(row);
            }
            ControlFlow::Continue(())
        })?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(found),
        }
    }
}
