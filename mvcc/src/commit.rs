//! Commits: moving the write buffer into the file.
//!
//! A commit freezes the buffer, writes and syncs it while the writer fills a new one, and lets readers go over to the
//! file. When to commit is the caller's business; [`CommitSchedule`] knows the usual rule.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::file::FileTxn;
use crate::schema::{self, Applied, RecordSink};
use crate::store::Store;
use crate::{Error, Result};

/// What a commit brought into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The last applied raft entry in the file.
    pub applied: Applied,
    /// Rows and records written.
    pub changes: usize,
}

/// What a commit takes along, frozen under the writer's lock.
struct Frozen {
    buffer: Arc<Buffer>,
    applied: Applied,
}

impl Store {
    /// Number of rows and records that wait for a commit.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.writer.lock().pending
    }

    /// Commits everything applied so far to the file, with its applied index and term, and returns when it is durable.
    /// `None` when there is nothing to commit. Write transactions and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Poisoned`] after a failed commit, [`Error::ReadOnly`], or the file's: then nothing is known about what
    /// the file holds, and the store must be opened anew.
    pub fn commit(&self) -> Result<Option<Committed>> {
        self.commit_with(None::<fn(&mut FileTxn<'_>) -> Result<()>>)
    }

    /// As [`commit`](Self::commit), with changes of `also` in the same transaction of the file, made after the buffer's.
    pub(crate) fn commit_with(
        &self,
        also: Option<impl FnOnce(&mut FileTxn<'_>) -> Result<()>>,
    ) -> Result<Option<Committed>> {
        let mut committing = self.committer.lock();
        if committing.poisoned {
            return Err(Error::Poisoned);
        }
        if self.file.is_read_only() {
            return Err(Error::ReadOnly { path: self.path.clone() });
        }
        let Some(frozen) = self.freeze(also.is_some()) else {
            return Ok(None);
        };
        // Until the file is known to hold the frozen rows, nobody may commit anything later.
        committing.poisoned = true;
        let changes = self.write_out(&frozen, also)?;
        self.publish_image()?;
        drop(frozen.buffer);
        committing.poisoned = false;
        Ok(Some(Committed { applied: frozen.applied, changes }))
    }

    /// Moves readers over to the file as it is now, which has all that a frozen buffer held. The committer's lock must be
    /// held.
    pub(crate) fn publish_image(&self) -> Result<()> {
        let image = Arc::new(self.file.image()?);
        let mut published = self.published.write();
        let old = (std::mem::replace(&mut published.rows.image, image), published.rows.frozen.take());
        drop(published);
        // The last reference to an image or a large buffer may be ours: let it go without holding a lock.
        drop(old);
        Ok(())
    }

    /// Puts a new buffer in front of the present one; `None` when there is nothing new.
    fn freeze(&self, even_if_empty: bool) -> Option<Frozen> {
        let mut writer = self.writer.lock();
        if writer.pending == 0 && writer.applied == writer.applied_frozen && !even_if_empty {
            return None;
        }
        writer.pending = 0;
        writer.applied_frozen = writer.applied;
        let mut published = self.published.write();
        assert!(published.rows.frozen.is_none(), "one buffer is committed at a time");
        let next = Arc::new(Buffer::new(published.current + 1));
        let buffer = std::mem::replace(&mut published.rows.active, next);
        published.rows.frozen = Some(buffer.clone());
        Some(Frozen { buffer, applied: writer.applied })
    }

    fn write_out(
        &self,
        frozen: &Frozen,
        also: Option<impl FnOnce(&mut FileTxn<'_>) -> Result<()>>,
    ) -> Result<usize> {
        let mut txn = self.file.write()?;
        let changes = frozen.buffer.len();
        let mut rows = txn.rows()?;
        frozen.buffer.for_each_row(|row| rows.put(&row.key.encode(), &row.value))?;
        for ((table, key), value) in frozen.buffer.records() {
            match value {
                Some(value) => txn.put(table, &key, &value)?,
                None => txn.delete(table, &key)?,
            }
        }
        put_all(&mut txn, |put| schema::put_applied(put, frozen.applied))?;
        if let Some(also) = also {
            also(&mut txn)?;
        }
        txn.commit()?;
        Ok(changes)
    }
}

/// Runs a schema writer against the file, keeping its first error.
pub(crate) fn put_all(txn: &mut FileTxn<'_>, write: impl FnOnce(&mut RecordSink<'_>)) -> Result<()> {
    let mut result = Ok(());
    write(&mut |table, key, value| {
        if result.is_ok() {
            result = txn.put(table, key, value);
        }
    });
    Ok(result?)
}

/// The usual rule of when to commit: every interval, or earlier when many changes wait.
#[derive(Clone, Copy, Debug)]
pub struct CommitSchedule {
    interval: Duration,
    changes: usize,
    /// Time of the last commit.
    last: Duration,
}

impl Default for CommitSchedule {
    /// 100 ms or 10,000 changes.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), 10_000)
    }
}

impl CommitSchedule {
    /// Commits after `interval`, or when `changes` rows and records wait.
    #[must_use]
    pub fn new(interval: Duration, changes: usize) -> Self {
        Self { interval, changes, last: Duration::ZERO }
    }

    /// Whether a store with `pending` changes should commit at `now`, on any clock that starts before it.
    #[must_use]
    pub fn is_due(&self, pending: usize, now: Duration) -> bool {
        pending >= self.changes || (pending > 0 && now.saturating_sub(self.last) >= self.interval)
    }

    /// One turn of the committer's loop: commits if it is due.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn step(&mut self, store: &Store, now: Duration) -> Result<Option<Committed>> {
        if !self.is_due(store.pending(), now) {
            return Ok(None);
        }
        self.last = now;
        store.commit()
    }
}
