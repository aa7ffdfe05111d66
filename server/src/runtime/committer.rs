//! The committer: brings the write buffer into the database's file, and compactions forward. Nobody waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use stanchion_mvcc::{CommitSchedule, Store};
use stanchion_replica::Release;

use super::log_writer::ToWriter;
use super::{RuntimeConfig, fatal};

/// What the committer is told.
#[derive(Debug)]
pub(super) enum ToCommitter {
    /// The log is to be marked: the database must hold everything up to there first.
    Release(Release),
}

/// How often it looks; also the pause between compaction steps.
const TURN: Duration = Duration::from_millis(10);

pub(super) struct Committer {
    store: Arc<Store>,
    inbox: Receiver<ToCommitter>,
    to_writer: Sender<ToWriter>,
    schedule: CommitSchedule,
    compaction_batch: usize,
    clock: Instant,
}

impl Committer {
    pub(super) fn new(
        store: Arc<Store>,
        inbox: Receiver<ToCommitter>,
        to_writer: Sender<ToWriter>,
        config: &RuntimeConfig,
        clock: Instant,
    ) -> Committer {
        let schedule = CommitSchedule::new(config.commit_interval, config.commit_changes);
        Committer { store, inbox, to_writer, schedule, compaction_batch: config.compaction_batch, clock }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.inbox.recv_timeout(TURN) {
                Ok(ToCommitter::Release(release)) => {
                    self.check(self.store.commit().map(|_| ()));
                    let _ = self.to_writer.send(ToWriter::Release(release));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // The raft thread has ended: so may the log.
                    let _ = self.to_writer.send(ToWriter::Stop);
                    return;
                }
            }
            let committed = self.schedule.step(&self.store, self.clock.elapsed());
            self.check(committed.map(|_| ()));
            if self.store.is_compacting() {
                self.check(self.store.compaction_step(self.compaction_batch).map(|_| ()));
            }
        }
    }

    fn check(&self, result: stanchion_mvcc::Result<()>) {
        if let Err(error) = result {
            fatal("the database cannot be written", &error);
        }
    }
}
