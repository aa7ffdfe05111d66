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
}

impl Journal {
    /// Over an open log.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, wal: Wal, snapshots: Arc<Snapshotter>, retention: Retention) -> Journal {
        Journal { disk, wal, snapshots, retention }
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
    ///
    /// # Errors
    /// [`JournalError`]: stop.
    pub fn release(&mut self, release: &Release, snapshot: &Snapshot) -> Result<(), JournalError> {
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

    /// A writer that still has to append what raft said before the release must not take the release's mark back.
    #[test]
    fn an_older_commit_index_behind_a_release_does_not_undo_its_mark() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let (wal_dir, snap_dir) = (Path::new("/wal"), Path::new("/snap"));
        let wal = Wal::create(disk.clone(), wal_dir, b"", Options::default()).unwrap();
        let snapshots = Arc::new(Snapshotter::open(disk.clone(), snap_dir).unwrap().0);
        let mut journal = Journal::new(disk.clone(), wal, snapshots, Retention::default());
        let entry = |index| Entry { term: 1, index, ..Entry::default() };
        let state = |commit| RaftState { term: 1, vote: 1, commit };
        journal.append(&AppendWork::of((1..=5).map(entry).collect(), state(2))).unwrap();
        journal.sync().unwrap();
        let metadata = SnapshotMetadata { index: 4, term: 1, ..SnapshotMetadata::default() };
        let snapshot = Snapshot { metadata, ..Snapshot::default() };
        let release = Release { index: 4, term: 1, keep_from: 4, conf_state: ConfState::default() };
        journal.release(&release, &snapshot).unwrap();
        journal.append(&AppendWork::of(Vec::new(), state(3))).unwrap();
        journal.close().unwrap();
        let marks = valid_snapshots(disk, wal_dir).unwrap();
        assert_eq!(marks.last().map(|mark| mark.index), Some(4));
    }
}
