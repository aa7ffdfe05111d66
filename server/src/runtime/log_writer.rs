//! The log writer: one `fdatasync` for everything that has gathered while the last one ran.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender as Queue;
use stanchion_raft::Snapshot;
use stanchion_replica::Release;
use stanchion_replica::consensus::AppendWork;
use stanchion_replica::journal::{Journal, JournalError};

use super::applier::ToApplier;
use super::fatal;
use super::raft_loop::ToRaft;
use super::turns::Turns;
use crate::metrics::Metrics;

/// What the log writer is told.
#[derive(Debug)]
pub(super) enum ToWriter {
    /// To be made durable.
    Append(Vec<AppendWork>),
    /// The database holds everything up to here: mark it, and let go of what is before.
    Release(Release, Box<Snapshot>),
    /// End.
    Stop,
}

pub(super) struct LogWriter {
    pub(super) journal: Journal,
    pub(super) inbox: Receiver<ToWriter>,
    pub(super) turns: Arc<Turns>,
    pub(super) to_applier: Queue<ToApplier>,
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
        if let Err(error) = self.journal.close() {
            tracing::error!(%error, "the log could not be closed");
        }
    }

    /// Returns whether to go on.
    fn write(&mut self, gathered: Vec<ToWriter>) -> Result<bool, JournalError> {
        let began = Instant::now();
        let (segment, offset) = self.journal.tail();
        let mut durable = Vec::new();
        let mut releases = Vec::new();
        let mut go_on = true;
        for input in gathered {
            match input {
                ToWriter::Append(works) => {
                    for work in works {
                        self.journal.append(&work)?;
                        durable.push(work);
                    }
                }
                ToWriter::Release(release, snapshot) => releases.push((release, snapshot)),
                ToWriter::Stop => go_on = false,
            }
        }
        if !durable.is_empty() {
            self.metrics.wal.write_duration.observe(began.elapsed().as_secs_f64());
        }
        if self.journal.needs_sync() && durable.iter().any(AppendWork::is_awaited) {
            self.sync()?;
        }
        if let (same, end) = self.journal.tail()
            && same == segment
        {
            self.metrics.wal.write_bytes.add(end.saturating_sub(offset).cast_signed());
        }
        durable.iter().for_each(|work| self.install(work));
        if !durable.is_empty() {
            self.turns.offer_and_apply(ToRaft::Appended(durable));
            self.journal.cut_if_due()?;
        }
        for (release, snapshot) in releases {
            self.journal.release(&release, &snapshot)?;
            self.turns.offer(ToRaft::Released(release));
        }
        Ok(go_on)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        let began = Instant::now();
        self.journal.sync()?;
        let took = began.elapsed();
        self.metrics.wal.fsync_duration.observe(took.as_secs_f64());
        if took > SLOW_SYNC {
            tracing::warn!(?took, expected_duration = ?SLOW_SYNC, "slow fdatasync");
        }
        Ok(())
    }

    /// Raft is told of a snapshot only when the state is the snapshot's: what is committed behind it is applied to that.
    fn install(&self, work: &AppendWork) {
        let Some(snapshot) = work.snapshot() else { return };
        let (done, installed) = channel();
        let _ = self.to_applier.send(ToApplier::Install { index: snapshot.metadata.index, done });
        // An applier that is gone has ended the process, or is about to.
        let _ = installed.recv();
    }
}
