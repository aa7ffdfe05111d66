//! The committer: brings the write buffer into the database's file, and compactions forward. Nobody waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stanchion_mvcc::{CommitSchedule, Committed, CompactionStep, ReadTxn, Store};
use stanchion_raft::Snapshot;
use stanchion_replica::Release;
use stanchion_replica::snapshot::of_image;

use super::log_writer::ToWriter;
use super::store_cell::StoreCell;
use super::{RuntimeConfig, fatal};
use crate::metrics::Metrics;

/// What the committer is told.
#[derive(Debug)]
pub(super) enum ToCommitter {
    /// The log is to be marked: the database must hold everything up to there first.
    Release(Release),
}

/// How often it looks; also the pause between compaction steps.
const TURN: Duration = Duration::from_millis(10);

pub(super) struct Committer {
    store: Arc<StoreCell>,
    inbox: Receiver<ToCommitter>,
    to_writer: Sender<ToWriter>,
    schedule: CommitSchedule,
    compaction_batch: usize,
    clock: Instant,
    metrics: Arc<Metrics>,
    /// The compaction that is under way: when it began, and the rows that were counted as removed.
    compacting: Option<(Instant, u64)>,
}

impl Committer {
    pub(super) fn new(
        store: Arc<StoreCell>,
        inbox: Receiver<ToCommitter>,
        to_writer: Sender<ToWriter>,
        config: &RuntimeConfig,
        clock: Instant,
        metrics: Arc<Metrics>,
    ) -> Committer {
        let schedule = CommitSchedule::new(config.commit_interval, config.commit_changes);
        let compaction_batch = config.compaction_batch;
        Committer { store, inbox, to_writer, schedule, compaction_batch, clock, metrics, compacting: None }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.inbox.recv_timeout(TURN) {
                Ok(ToCommitter::Release(release)) => {
                    let snapshot = match self.snapshot() {
                        Ok((snapshot, _)) => snapshot,
                        Err(error) => fatal("the database cannot be written", &error),
                    };
                    let release = release.at(&snapshot.metadata);
                    let _ = self.to_writer.send(ToWriter::Release(release, Box::new(snapshot)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // The raft thread has ended: so may the log.
                    let _ = self.to_writer.send(ToWriter::Stop);
                    return;
                }
            }
            let began = Instant::now();
            let committed = self.schedule.step(&self.store.now(), self.clock.elapsed());
            self.committed(began, committed);
            if self.store.now().is_compacting() {
                self.compact();
            }
        }
    }

    /// Everything that is applied, in the file, as a snapshot and as an image to read it from.
    fn snapshot(&self) -> stanchion_mvcc::Result<(Snapshot, ReadTxn)> {
        let store = self.store.now();
        commit_now(&store, &self.metrics)?;
        let image = store.read();
        Ok((of_image(&image)?, image))
    }

    fn committed(&self, began: Instant, result: stanchion_mvcc::Result<Option<Committed>>) {
        match result {
            Ok(committed) => count(&self.metrics, began, committed),
            Err(error) => fatal("the database cannot be written", &error),
        }
    }

    fn compact(&mut self) {
        let began = Instant::now();
        let step = match self.store.now().compaction_step(self.compaction_batch) {
            Ok(step) => step,
            Err(error) => fatal("the database cannot be written", &error),
        };
        let families = &self.metrics.debugging;
        let (CompactionStep::Working(progress) | CompactionStep::Finished(progress)) = step else { return };
        families.compaction_pause.observe(millis(began.elapsed()));
        let (since, counted) = self.compacting.unwrap_or((began, 0));
        families.compaction_keys.inc_by(progress.rows_removed.saturating_sub(counted));
        self.compacting = Some((since, progress.rows_removed));
        if matches!(step, CompactionStep::Finished(_)) {
            self.compacting = None;
            families.compaction_duration.observe(millis(since.elapsed()));
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            families.compaction_last.set(unix.as_secs().cast_signed());
            tracing::info!(
                compact_revision = progress.revision,
                took = ?since.elapsed(),
                rows_removed = progress.rows_removed,
                "finished scheduled compaction"
            );
        }
    }
}

/// Commits out of turn, for those who need everything that is applied in the file.
pub(super) fn commit_now(store: &Store, metrics: &Metrics) -> stanchion_mvcc::Result<()> {
    let began = Instant::now();
    count(metrics, began, store.commit()?);
    Ok(())
}

fn count(metrics: &Metrics, began: Instant, committed: Option<Committed>) {
    if committed.is_some() {
        metrics.backend.commit_duration.observe(began.elapsed().as_secs_f64());
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
