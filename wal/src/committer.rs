//! Group commit: many threads append to one log and each waits until its own records are durable, while one
//! `fdatasync` serves all that have gathered.
//!
//! What lives here is who syncs when. What is written, and in which order, is `wal`'s business.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::entry::{ENTRY_NORMAL, EntryRef};
use crate::error::{Error, Result};
use crate::record::HardState;
use crate::wal::Wal;

/// A log that many threads commit to. Share it behind an [`Arc`].
///
/// Records that are committed while a sync runs gather in the log's buffer; the thread that came first among them
/// syncs them all when that sync is over. Batches therefore grow with the load and nobody waits for company: a single
/// thread sees one `fdatasync` of latency. No thread is started.
///
/// ```
/// # use std::sync::Arc;
/// # use stanchion_wal::{Committer, Options, Wal};
/// # let temp = tempfile::tempdir()?;
/// let wal = Wal::create(Arc::new(stanchion_disk::RealDisk), temp.path().join("log"), b"", Options::default())?;
/// let log = Committer::new(wal);
/// std::thread::scope(|scope| {
///     for client in 0..8_u8 {
///         let log = &log;
///         scope.spawn(move || log.commit_data(1, &[client]).expect("durable"));
///     }
/// });
/// assert_eq!(log.into_inner().last_index(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Committer {
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    wal: Wal,
    /// The batch that is gathering.
    open: Arc<Batch>,
    /// Why the log could not be cut when it was due, until a cut works.
    refusal: Option<Arc<Error>>,
}

/// Records that become durable together.
///
/// Invariant: a batch is synced only after `before` is done, so at most one sync is under way and batches are done in
/// order. The first thread to join leads it: it waits for `before`, syncs, and sets `done`.
#[derive(Debug, Default)]
struct Batch {
    done: OnceLock<std::result::Result<(), Arc<Error>>>,
    before: Mutex<Option<Arc<Batch>>>,
    led: std::sync::atomic::AtomicBool,
}

impl Committer {
    /// Takes over a log.
    #[must_use]
    pub fn new(wal: Wal) -> Self {
        Self { shared: Mutex::new(Shared { wal, open: Arc::default(), refusal: None }) }
    }

    /// Runs `append` on the log, then waits until all it has appended is durable. What several threads append has
    /// the order in which their closures ran, and the closures run one at a time: keep them short.
    ///
    /// # Errors
    /// Those of `append`. [`Error::Batch`] when the write or the sync failed: then nobody knows whether the records
    /// will be there after a crash. If it was [`Error::NoSpace`] they stay queued and go with the next batch.
    pub fn commit<T>(&self, append: impl FnOnce(&mut Wal) -> Result<T>) -> Result<T> {
        let mut shared = self.shared.lock();
        shared.check_room()?;
        let value = append(&mut shared.wal)?;
        if !shared.wal.needs_sync() {
            return Ok(value);
        }
        let batch = Arc::clone(&shared.open);
        // Only ever set under the lock.
        let leads = !batch.led.swap(true, std::sync::atomic::Ordering::Relaxed);
        drop(shared);
        if leads {
            self.lead(&batch);
        }
        match batch.done.wait() {
            Ok(()) => Ok(value),
            Err(error) => Err(Error::Batch(Arc::clone(error))),
        }
    }

    /// Commits one entry behind all others, and returns its index.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub fn commit_data(&self, term: u64, data: &[u8]) -> Result<u64> {
        self.commit(|wal| {
            let index = wal.last_index() + 1;
            wal.append(&HardState::default(), &[EntryRef::new(index, term, ENTRY_NORMAL, data)])?;
            Ok(index)
        })
    }

    /// Gives the log back.
    #[must_use]
    pub fn into_inner(self) -> Wal {
        self.shared.into_inner().wal
    }

    /// Syncs the batch once the one before it is done.
    fn lead(&self, batch: &Arc<Batch>) {
        // Taken out, so that batches do not hold on to each other in a chain.
        let before = batch.before.lock().take();
        if let Some(before) = before {
            let _ = before.done.wait();
            // The threads of the batch before have just been woken. Those that are ready to run commit again within
            // microseconds: letting them go first doubles the batch, and costs nothing when there are none.
            std::thread::yield_now();
        }
        let result = self.sync_open(batch).map_err(Arc::new);
        assert!(batch.done.set(result).is_ok(), "a batch has one leader");
    }

    /// Closes the batch to newcomers and makes it durable.
    fn sync_open(&self, batch: &Arc<Batch>) -> Result<()> {
        let job = {
            let mut shared = self.shared.lock();
            shared.open = Arc::new(Batch { before: Mutex::new(Some(Arc::clone(batch))), ..Batch::default() });
            shared.cut_if_due();
            shared.wal.begin_sync()?
        };
        match job {
            Some(job) => {
                let done = job.run();
                self.shared.lock().wal.finish_sync(done)
            }
            // The cut has synced everything.
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Cuts between two syncs. What was accepted is synced to the old tail even if there is no room for a new one;
    /// it is newcomers who are refused then.
    fn cut_if_due(&mut self) {
        self.refusal = self.wal.cut_if_due().err().map(Arc::new);
    }

    /// Refuses records while the log has no room for the next segment.
    fn check_room(&mut self) -> Result<()> {
        if let Some(refusal) = &self.refusal {
            if self.wal.is_syncing() {
                return Err(Error::Batch(Arc::clone(refusal)));
            }
            self.wal.cut_if_due()?;
            self.refusal = None;
        }
        Ok(())
    }
}
