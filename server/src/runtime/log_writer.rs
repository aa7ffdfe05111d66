//! The log writer: one `fdatasync` for everything that has gathered while the last one ran.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use stanchion_disk::Disk;
use stanchion_replica::Release;
use stanchion_replica::consensus::AppendWork;
use stanchion_wal::{EntryRef, HardState, SnapshotMark, Wal};

use super::fatal;
use super::raft_loop::ToRaft;
use crate::metrics::Metrics;

/// What the log writer is told.
#[derive(Debug)]
pub(super) enum ToWriter {
    /// To be made durable.
    Append(Vec<AppendWork>),
    /// The database holds everything up to here: mark it, and let go of what is before.
    Release(Release),
    /// End.
    Stop,
}

pub(super) struct LogWriter {
    pub(super) wal: Wal,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Segments that are kept; 0 keeps all.
    pub(super) keep: usize,
    pub(super) inbox: Receiver<ToWriter>,
    pub(super) to_raft: Sender<ToRaft>,
    pub(super) metrics: Arc<Metrics>,
}

/// A sync that takes longer is worth a line.
const SLOW_SYNC: Duration = Duration::from_secs(1);

impl LogWriter {
    pub(super) fn run(mut self) {
        while let Ok(first) = self.inbox.recv() {
            let gathered: Vec<ToWriter> = std::iter::once(first).chain(self.inbox.try_iter()).collect();
            match self.write(gathered) {
                Ok(true) => {}
                Ok(false) => break,
                // After a failed sync nothing known about the file is true.
                Err(error) => fatal("the log cannot be written", &error),
            }
        }
        if let Err(error) = self.wal.close() {
            tracing::error!(%error, "the log could not be closed");
        }
    }

    /// Returns whether to go on.
    fn write(&mut self, gathered: Vec<ToWriter>) -> stanchion_wal::Result<bool> {
        let began = Instant::now();
        let (segment, offset) = self.wal.tail();
        let mut durable = Vec::new();
        let mut releases = Vec::new();
        let mut go_on = true;
        for input in gathered {
            match input {
                ToWriter::Append(works) => {
                    for work in works {
                        self.append(&work)?;
                        durable.push(work);
                    }
                }
                ToWriter::Release(release) => releases.push(release),
                ToWriter::Stop => go_on = false,
            }
        }
        if !durable.is_empty() {
            self.metrics.wal.write_duration.observe(began.elapsed().as_secs_f64());
        }
        if self.wal.needs_sync() && durable.iter().any(AppendWork::is_awaited) {
            self.sync()?;
        }
        if let (same, end) = self.wal.tail()
            && same == segment
        {
            self.metrics.wal.write_bytes.add(end.saturating_sub(offset).cast_signed());
        }
        if !durable.is_empty() {
            let _ = self.to_raft.send(ToRaft::Appended(durable));
            self.wal.cut_if_due()?;
        }
        for release in releases {
            self.release(release)?;
        }
        Ok(go_on)
    }

    fn sync(&mut self) -> stanchion_wal::Result<()> {
        let began = Instant::now();
        self.wal.sync()?;
        let took = began.elapsed();
        self.metrics.wal.fsync_duration.observe(took.as_secs_f64());
        if took > SLOW_SYNC {
            tracing::warn!(?took, expected_duration = ?SLOW_SYNC, "slow fdatasync");
        }
        Ok(())
    }

    fn append(&mut self, work: &AppendWork) -> stanchion_wal::Result<()> {
        if let Some(snapshot) = work.snapshot() {
            let metadata = &snapshot.metadata;
            let conf_state = Some(metadata.conf_state.encode().into());
            self.wal.save_snapshot(&SnapshotMark {
                index: metadata.index,
                term: metadata.term,
                conf_state,
            })?;
        }
        let entry = |e: &stanchion_raft::Entry| (e.index, e.term, e.entry_type as u8, e.data.clone());
        let entries: Vec<_> = work.entries().iter().map(entry).collect();
        let refs: Vec<EntryRef<'_>> = entries
            .iter()
            .map(|(index, term, kind, data)| EntryRef::new(*index, *term, *kind, data))
            .collect();
        let state = work.hard_state().map_or(HardState::default(), |hs| HardState {
            term: hs.term,
            vote: hs.vote,
            commit: hs.commit,
        });
        self.wal.append(&state, &refs)
    }

    fn release(&mut self, release: Release) -> stanchion_wal::Result<()> {
        let conf_state = Some(release.conf_state.encode().into());
        self.wal.save_snapshot(&SnapshotMark { index: release.index, term: release.term, conf_state })?;
        self.wal.release_to(release.keep_from)?;
        if self.keep > 0 {
            stanchion_wal::purge(&*self.disk, &self.dir, self.keep)?;
        }
        let _ = self.to_raft.send(ToRaft::Released(release));
        Ok(())
    }
}
