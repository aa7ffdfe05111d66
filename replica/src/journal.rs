//! The order in which a member's log and snapshot files are written.
//!
//! What lives here: which record goes before which, so that a crash between any two leaves a directory that starts,
//! here and under etcd. What may not: threads, deciding when to sync, the database.

use std::sync::Arc;

use stanchion_disk::Disk;
use stanchion_raft::Snapshot;
use stanchion_snap::Snapshotter;
use stanchion_wal::{EntryRef, HardState, SnapshotMark, Wal};

use crate::consensus::AppendWork;
use crate::release::Release;

/// Why the log or the snapshot files cannot be written. A member that meets it must stop.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log failed.
    #[error(transparent)]
    Wal(#[from] stanchion_wal::Error),
    /// A snapshot file failed.
    #[error(transparent)]
    Snapshot(#[from] stanchion_snap::Error),
}

/// How much is kept on disk beyond what is needed; 0 keeps all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments of the log (`--max-wals`).
    pub segments: usize,
    /// Snapshot files (`--max-snapshots`).
    pub snapshots: usize,
}

/// A member's log with its snapshot files.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    wal: Wal,
    snapshots: Arc<Snapshotter>,
    retention: Retention,
    /// Up to where the newest mark of this start goes; a release never asks for one before that of an earlier start.
    marked: u64,
}

impl Journal {
    /// Over an open log.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, wal: Wal, snapshots: Arc<Snapshotter>, retention: Retention) -> Journal {
        Journal { disk, wal, snapshots, retention, marked: 0 }
    }

    /// Appends what raft wants durable; it is after the next [`sync`](Self::sync).
    ///
    /// A leader's snapshot is durable at once, in etcd's order: the file, its mark in the log, then the hard state,
    /// without which the mark does not count. Its database must have been received before, and is to be
    /// [put in place](crate::boot::install_database) after the sync; a start does that if a crash came first.
    ///
    /// # Errors
    /// [`JournalError`]: stop.
    pub fn append(&mut self, work: &AppendWork) -> Result<(), JournalError> {
        if let Some(snapshot) = work.snapshot() {
            self.save_snapshot(snapshot)?;
        }
        let refs: Vec<EntryRef<'_>> = work
            .entries()
            .iter()
            .map(|entry| EntryRef::new(entry.index, entry.term, entry.entry_type as u8, &entry.data))
            .collect();
        // Raft's own may be older than what a release has recorded meanwhile: with the commit index going down again, the
        // mark would count no more, and the one before it is gone.
        let recorded = self.wal.hard_state().commit;
        let state = work.hard_state().map_or(HardState::default(), |hs| HardState {
            term: hs.term,
            vote: hs.vote,
            commit: hs.commit.max(recorded),
        });
        self.wal.append(&state, &refs)?;
        if work.snapshot().is_some() {
            // A hard state that only raises the commit index would not ask for a sync of its own, and the mark counts
            // only if it is there. The leader is about to be told that the snapshot is safe here.
            self.wal.sync()?;
        }
        Ok(())
    }

    /// The segment that is being written, and the offset in it at which the next record goes, in bytes.
    #[must_use]
    pub fn tail(&self) -> (stanchion_wal::SegmentName, u64) {
        self.wal.tail()
    }

    /// Whether a sync would make anything durable that somebody may rely on.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.wal.needs_sync()
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// [`JournalError`]: stop.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        Ok(self.wal.sync()?)
    }

    /// Starts the next segment if this one is full: best done while nobody waits.
    ///
    /// # Errors
    /// [`JournalError`]: stop.
    pub fn cut_if_due(&mut self) -> Result<(), JournalError> {
        Ok(self.wal.cut_if_due()?)
    }

    /// Marks the log for a release whose snapshot is that of the committed database, and lets go of what is before.
    /// One that a leader's snapshot has overtaken does nothing: its entries are no longer in the log, and a start that
    /// took this last mark for the newest would end at it, before the commit index.
    ///
    /// # Errors
    /// [`JournalError`]: stop.
    pub fn release(&mut self, release: &Release, snapshot: &Snapshot) -> Result<(), JournalError> {
        if snapshot.metadata.index <= self.marked {
            return Ok(());
        }
        self.record_commit(snapshot.metadata.index)?;
        self.save_snapshot(snapshot)?;
        self.wal.release_to(release.keep_from)?;
        if self.retention.segments > 0 {
            stanchion_wal::purge(&*self.disk, self.wal.dir(), self.retention.segments)?;
        }
        if self.retention.snapshots > 0 {
            self.snapshots.purge(self.retention.snapshots)?;
        }
        self.snapshots.remove_databases_below(snapshot.metadata.index)?;
        Ok(())
    }

    /// Closes the log.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn close(self) -> Result<(), JournalError> {
        Ok(self.wal.close()?)
    }

    /// A mark counts only if a hard state says that its entry is committed. The log's own may lag: after a power cut
    /// that took an unsynced hard state, what is applied in the database is known to be committed all the same, and
    /// raft goes on from there without ever writing it down.
    fn record_commit(&mut self, index: u64) -> Result<(), JournalError> {
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::MarkWithoutCommit) {
            return Ok(());
        }
        let state = self.wal.hard_state();
        if state.commit < index {
            self.wal.append(&HardState { commit: index, ..state }, &[])?;
        }
        Ok(())
    }

    /// The file before the mark: every mark that counts has its file.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        let metadata = &snapshot.metadata;
        self.snapshots.save(metadata.term, metadata.index, &snapshot.encode())?;
        let conf_state = Some(metadata.conf_state.encode().into());
        self.wal.save_snapshot(&SnapshotMark { index: metadata.index, term: metadata.term, conf_state })?;
        self.marked = metadata.index;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stanchion_disk::SimDisk;
    use stanchion_raft::{ConfState, Entry, HardState as RaftState, SnapshotMetadata};
    use stanchion_wal::{Options, valid_snapshots};

    use super::*;

    const WAL: &str = "/wal";

    /// A log with five entries of term 1, two of them committed.
    fn journal(disk: &Arc<dyn Disk>) -> Journal {
        let wal = Wal::create(disk.clone(), Path::new(WAL), b"", Options::default()).unwrap();
        let snapshots = Arc::new(Snapshotter::open(disk.clone(), Path::new("/snap")).unwrap().0);
        let mut journal = Journal::new(disk.clone(), wal, snapshots, Retention::default());
        let entry = |index| Entry { term: 1, index, ..Entry::default() };
        journal.append(&AppendWork::of((1..=5).map(entry).collect(), committed(2))).unwrap();
        journal.sync().unwrap();
        journal
    }

    fn committed(commit: u64) -> RaftState {
        RaftState { term: 1, vote: 1, commit }
    }

    fn snapshot(index: u64) -> Snapshot {
        let metadata = SnapshotMetadata { index, term: 1, ..SnapshotMetadata::default() };
        Snapshot { metadata, ..Snapshot::default() }
    }

    fn release(index: u64) -> Release {
        Release { index, term: 1, keep_from: index, conf_state: ConfState::default() }
    }

    fn last_mark(disk: Arc<dyn Disk>) -> Option<u64> {
        valid_snapshots(disk, Path::new(WAL)).unwrap().last().map(|mark| mark.index)
    }

    /// A writer that still has to append what raft said before the release must not take the release's mark back.
    #[test]
    fn an_older_commit_index_behind_a_release_does_not_undo_its_mark() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let mut journal = journal(&disk);
        journal.release(&release(4), &snapshot(4)).unwrap();
        journal.append(&AppendWork::of(Vec::new(), committed(3))).unwrap();
        journal.close().unwrap();
        assert_eq!(last_mark(disk), Some(4));
    }

    /// A release waits for the writer while a leader's snapshot replaces the log.
    #[test]
    fn a_release_that_a_leaders_snapshot_overtook_leaves_no_older_mark_behind_it() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let mut journal = journal(&disk);
        journal.append(&AppendWork::of_snapshot(snapshot(9), committed(9))).unwrap();
        journal.release(&release(4), &snapshot(4)).unwrap();
        journal.close().unwrap();
        assert_eq!(last_mark(disk), Some(9));
    }
}
