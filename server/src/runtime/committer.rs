//! The committer: brings the write buffer into the database's file, compactions and defragmentations forward. Nobody waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stanchion_mvcc::{CommitSchedule, Committed, CompactionStep, ReadTxn, Store};
use stanchion_raft::Snapshot;
use stanchion_replica::Release;
use stanchion_replica::snapshot::of_image;
use tokio::sync::oneshot;

use super::log_writer::ToWriter;
use super::store_cell::StoreCell;
use super::{RuntimeConfig, fatal};
use crate::metrics::Metrics;

/// What the committer is told.
#[derive(Debug)]
pub(super) enum ToCommitter {
    /// The log is to be marked: the database must hold everything up to there first.
    Release(Release),
    /// Give free pages back to the file system; answered when that is done.
    Defragment(oneshot::Sender<()>),
    /// End.
    Stop,
}

/// How often it looks.
const TURN: Duration = Duration::from_millis(10);

/// The pause between two steps of a defragmentation, in which commits and compactions have their turn.
const SHRINK_TURN: Duration = Duration::from_millis(1);
/// Pages that one step moves at most: about what an ordinary commit writes.
const SHRINK_PAGES: u64 = 256;
/// How long a defragmentation waits for readers, such as a slow download of an image, before it lets well alone.
const READERS_MAX: Duration = Duration::from_secs(10);

/// A defragmentation under way.
struct Shrinking {
    began: Instant,
    size_before: u64,
    /// Since when only readers are in its way.
    stuck: Option<Instant>,
    waiting: Vec<oneshot::Sender<()>>,
}

pub(super) struct Committer {
    store: Arc<StoreCell>,
    inbox: Receiver<ToCommitter>,
    to_writer: Sender<ToWriter>,
    schedule: CommitSchedule,
    compaction_batch: usize,
    compaction_pause: Duration,
    /// When the last compaction step ended.
    stepped: Instant,
    clock: Instant,
    metrics: Arc<Metrics>,
    /// The compaction that is under way: when it began, and the rows that were counted as removed.
    compacting: Option<(Instant, u64)>,
    shrinking: Option<Shrinking>,
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
        let (compaction_batch, compaction_pause) = (config.compaction_batch, config.compaction_pause);
        Committer {
            store,
            inbox,
            to_writer,
            schedule,
            compaction_batch,
            compaction_pause,
            stepped: clock,
            clock,
            metrics,
            compacting: None,
            shrinking: None,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let turn = if self.shrinking.is_some() { SHRINK_TURN } else { TURN };
            match self.inbox.recv_timeout(turn) {
                Ok(ToCommitter::Release(release)) => {
                    let snapshot = match self.snapshot() {
                        Ok((snapshot, _)) => snapshot,
                        Err(error) => fatal("the database cannot be written", &error),
                    };
                    let release = release.at(&snapshot.metadata);
                    let _ = self.to_writer.send(ToWriter::Release(release, Box::new(snapshot)));
                }
                Ok(ToCommitter::Defragment(reply)) => self.begin_shrinking(reply),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(ToCommitter::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    // The raft thread has ended: so may the log.
                    let _ = self.to_writer.send(ToWriter::Stop);
                    return;
                }
            }
            let began = Instant::now();
            let committed = self.schedule.step(&self.store.now(), self.clock.elapsed());
            self.committed(began, committed);
            if self.store.now().is_compacting() && self.stepped.elapsed() >= self.compaction_pause {
                self.compact();
                self.stepped = Instant::now();
            }
            self.shrink();
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

    fn begin_shrinking(&mut self, reply: oneshot::Sender<()>) {
        let size_before = self.store.now().size();
        let shrinking = self.shrinking.get_or_insert_with(|| {
            self.metrics.backend.defrag_inflight.set(1);
            Shrinking { began: Instant::now(), size_before, stuck: None, waiting: Vec::new() }
        });
        shrinking.waiting.push(reply);
    }

    /// One bounded step of a defragmentation.
    fn shrink(&mut self) {
        let Some(shrinking) = &mut self.shrinking else { return };
        let step = match self.store.now().shrink_step(SHRINK_PAGES) {
            Ok(step) => step,
            Err(error) => fatal("the database cannot be written", &error),
        };
        let stuck = step.waits_for_readers.then(|| *shrinking.stuck.get_or_insert_with(Instant::now));
        shrinking.stuck = stuck;
        let given_up = stuck.is_some_and(|since| since.elapsed() > READERS_MAX);
        if !step.done && !given_up {
            return;
        }
        if let Some(shrinking) = self.shrinking.take() {
            self.end_shrinking(shrinking, given_up);
        }
    }

    fn end_shrinking(&self, shrinking: Shrinking, given_up: bool) {
        let took = shrinking.began.elapsed();
        self.metrics.backend.defrag_duration.observe(took.as_secs_f64());
        self.metrics.backend.defrag_inflight.set(0);
        tracing::info!(
            ?took,
            size_before = shrinking.size_before,
            size_after = self.store.now().size(),
            size_in_use = self.store.now().size_in_use(),
            readers_in_the_way = given_up,
            "finished defragmenting directory"
        );
        for waiting in shrinking.waiting {
            // Who has gone needs no answer.
            let _ = waiting.send(());
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
