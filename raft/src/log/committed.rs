//! Handing out: entries and snapshots to persist, committed entries to apply, and their acknowledgements.

use super::{EntryId, RaftLog};
use crate::error::Error;
use crate::mutant::{self, Mutant};
use crate::proto::{Entry, Snapshot};
use crate::storage::{Storage, StorageError};

impl<S: Storage> RaftLog<S> {
    /// Copies the entries that are not handed out for persistence yet to `out`.
    pub(crate) fn next_unstable(&self, out: &mut Vec<Entry>) {
        self.unstable.next_entries(out);
    }

    pub(crate) fn has_next_unstable(&self) -> bool {
        self.unstable.has_next_entries()
    }

    /// Unstable entries, handed out or not.
    pub(crate) fn has_unstable(&self) -> bool {
        self.unstable.has_entries()
    }

    pub(crate) fn next_snapshot(&self) -> Option<&Snapshot> {
        self.unstable.next_snapshot()
    }

    pub(crate) fn has_next_snapshot(&self) -> bool {
        self.unstable.has_next_snapshot()
    }

    /// A snapshot is waiting for persistence, handed out or not.
    pub(crate) fn has_pending_snapshot(&self) -> bool {
        self.unstable.snapshot_id().is_some()
    }

    /// Everything unstable has been handed out.
    pub(crate) fn accept_unstable(&mut self) {
        self.unstable.accept_in_progress();
    }

    /// The entries up to `id` are durable, if they are still the ones that were handed out.
    pub(crate) fn stable_to(&mut self, id: EntryId) {
        self.unstable.stable_to(id);
    }

    /// The snapshot at `index` is durable.
    pub(crate) fn stable_snapshot_to(&mut self, index: u64) {
        self.unstable.stable_snapshot_to(index);
    }

    fn max_appliable(&self, allow_unstable: bool) -> u64 {
        let committed =
            if mutant::active(Mutant::ApplyUncommitted) { self.last_index() } else { self.committed };
        if allow_unstable { committed } else { committed.min(self.unstable.offset() - 1) }
    }

    pub(crate) fn has_next_committed(&self, allow_unstable: bool) -> bool {
        !self.applying_paused
            && !self.has_pending_snapshot()
            && self.applying < self.max_appliable(allow_unstable)
    }

    /// Copies the committed entries to hand out now, within what is left of the limit, to `out`, which is empty. Answers
    /// their encoded bytes.
    pub(crate) fn next_committed(
        &self,
        allow_unstable: bool,
        out: &mut Vec<Entry>,
    ) -> Result<u64, StorageError> {
        if !self.has_next_committed(allow_unstable) {
            return Ok(0);
        }
        let budget = self.max_applying_bytes.saturating_sub(self.applying_bytes);
        let (next, last) = (self.applying + 1, self.max_appliable(allow_unstable));
        // Only in front of another one: with nothing to hand out there would be no end of asking for it.
        let skips =
            mutant::active(Mutant::ApplySkipsAfterPage) && self.applying > self.applied && next < last;
        self.slice_into(next + u64::from(skips), last + 1, budget, out)
    }

    /// Entries up to `last`, of these encoded bytes, have just been handed out and are on their way to be applied.
    pub(crate) fn accept_applying(&mut self, last: u64, bytes: u64, allow_unstable: bool) {
        self.applying = last;
        self.applying_bytes += bytes;
        // A cut hand-out pauses too: else the rest would come entry by entry, each over the limit.
        self.applying_paused = self.applying_bytes >= self.max_applying_bytes
            || self.applying < self.max_appliable(allow_unstable);
    }

    /// Everything up to `index` is applied, `bytes` of it handed out before.
    pub(crate) fn applied_to(&mut self, index: u64, bytes: u64) -> Result<(), Error> {
        let range = (self.applied, self.committed);
        let uncommitted = index > self.committed && !mutant::active(Mutant::ApplyUncommitted);
        if index < self.applied || uncommitted {
            return Err(Error::AppliedOutOfRange { index, applied: range.0, committed: range.1 });
        }
        self.applied = index;
        self.applying = self.applying.max(index);
        self.applying_bytes = self.applying_bytes.saturating_sub(bytes);
        self.applying_paused = self.applying_bytes >= self.max_applying_bytes;
        Ok(())
    }

    /// Looks for an entry that `test` accepts in `(applied, committed]`, page by page.
    pub(crate) fn any_unapplied(&self, mut test: impl FnMut(&Entry) -> bool) -> Result<bool, Error> {
        let mut low = self.applied + 1;
        // A pending snapshot stands for everything up to it.
        if let Some(id) = self.unstable.snapshot_id() {
            low = low.max(id.index + 1);
        }
        while low <= self.committed {
            let page = self.slice(low, self.committed + 1, self.max_applying_bytes)?;
            if page.iter().any(&mut test) {
                return Ok(true);
            }
            low += page.len() as u64;
        }
        Ok(false)
    }
}

/// Bytes as the limit on handed out entries counts them.
pub(crate) fn encoded_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|e| e.encoded_len() as u64).sum()
}
