//! The log as the state machine sees it: what is durable, what is not yet, what is committed and applied.
//!
//! ```text
//!   storage                        | unstable
//!   first ............. offset - 1 | offset ........... last
//!          applied <= applying <= committed <= last
//! ```

mod committed;
#[cfg(test)]
mod tests;
mod unstable;

pub(crate) use self::committed::encoded_bytes;

use self::unstable::Unstable;
use crate::error::Error;
use crate::mutant::{self, Mutant};
use crate::proto::{Entry, Snapshot};
use crate::storage::{Storage, StorageError};

/// Index and term of an entry: what identifies it (log matching, paper, 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryId {
    /// Position in the log.
    pub index: u64,
    /// Term of its leader.
    pub term: u64,
}

/// Durable and unstable log together.
///
/// Invariants: `applied <= applying <= committed <= last_index()`; `committed` never decreases.
#[derive(Debug)]
pub(crate) struct RaftLog<S> {
    pub(crate) storage: S,
    unstable: Unstable,
    /// Highest entry known to be on a quorum.
    pub(crate) committed: u64,
    /// Highest entry handed out for apply.
    applying: u64,
    /// Highest entry acknowledged as applied.
    pub(crate) applied: u64,
    /// Limit of encoded bytes handed out and not acknowledged.
    max_applying_bytes: u64,
    applying_bytes: u64,
    /// Hand-out waits for acknowledgements.
    applying_paused: bool,
}

impl<S: Storage> RaftLog<S> {
    pub(crate) fn new(storage: S, max_applying_bytes: u64) -> Result<Self, Error> {
        let (first, last) = (storage.first_index()?, storage.last_index()?);
        if first == 0 || last.checked_add(1).is_none_or(|end| end < first) {
            return Err(inconsistent("last index", first.saturating_sub(1), last));
        }
        let before = first - 1;
        Ok(Self {
            storage,
            unstable: Unstable::new(last + 1),
            committed: before,
            applying: before,
            applied: before,
            max_applying_bytes,
            applying_bytes: 0,
            applying_paused: false,
        })
    }

    pub(crate) fn first_index(&self) -> Result<u64, Error> {
        match self.unstable.snapshot_id() {
            Some(id) => Ok(id.index + 1),
            None => Ok(self.storage.first_index()?),
        }
    }

    pub(crate) fn last_index(&self) -> u64 {
        // The offset is one past the last stable entry or past the pending snapshot, whatever is newer.
        self.unstable.end() - 1
    }

    pub(crate) fn last_id(&self) -> Result<EntryId, Error> {
        let index = self.last_index();
        Ok(EntryId { index, term: self.term(index)? })
    }

    /// Term of the entry at `index`; an error rather than 0 when it is not known.
    pub(crate) fn term(&self, index: u64) -> Result<u64, StorageError> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if index >= self.unstable.end() {
            return Err(StorageError::Unavailable { index, last: self.last_index() });
        }
        if let Some(id) = self.unstable.snapshot_id() {
            return Err(StorageError::Compacted { index, first: id.index + 1 });
        }
        self.storage.term(index)
    }

    /// Term at `index`, or `None` if it is compacted or not there.
    pub(crate) fn known_term(&self, index: u64) -> Result<Option<u64>, Error> {
        match self.term(index) {
            Ok(term) => Ok(Some(term)),
            Err(StorageError::Compacted { .. } | StorageError::Unavailable { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn matches(&self, id: EntryId) -> Result<bool, Error> {
        Ok(self.known_term(id.index)? == Some(id.term))
    }

    /// True when a log that ends with `other` has everything that this one may have committed (paper, 5.4.1).
    pub(crate) fn is_up_to_date(&self, other: EntryId) -> Result<bool, Error> {
        let own = self.last_id()?;
        if mutant::active(Mutant::VoteWithoutLogCheck) {
            return Ok(true);
        }
        if mutant::active(Mutant::VoteComparesLengthOnly) {
            return Ok(other.index >= own.index);
        }
        Ok(other.term > own.term || (other.term == own.term && other.index >= own.index))
    }

    /// Appends the entries from `low` on to `out`, which is empty, up to `max_bytes` encoded and at least one. Answers
    /// their encoded bytes.
    pub(crate) fn entries_from(
        &self,
        low: u64,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<u64, StorageError> {
        self.slice_into(low, self.unstable.end(), max_bytes, out)
    }

    /// Entries `low..high`, up to `max_bytes` encoded and at least one; may join both parts.
    pub(crate) fn slice(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let mut out = Vec::new();
        self.slice_into(low, high, max_bytes, &mut out)?;
        Ok(out)
    }

    /// The same, into a vector that is empty; answers the encoded bytes.
    fn slice_into(
        &self,
        low: u64,
        high: u64,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<u64, StorageError> {
        if low >= high {
            return Ok(0);
        }
        let offset = self.unstable.offset();
        let mut used = 0;
        if low < offset {
            if let Some(id) = self.unstable.snapshot_id() {
                return Err(StorageError::Compacted { index: low, first: id.index + 1 });
            }
            let cut = high.min(offset);
            self.storage.entries(low, cut, max_bytes, out)?;
            check_slice(out, low, cut)?;
            used = encoded_bytes(out);
            if (out.len() as u64) < cut - low || used >= max_bytes {
                return Ok(used);
            }
        }
        if high > offset {
            let at_least_one = out.is_empty();
            used += self.unstable.slice(low.max(offset), high, max_bytes - used, at_least_one, out);
        }
        Ok(used)
    }

    /// Puts more entries from `low` on behind those in `out`, as many as `max_bytes` encoded hold. Takes them from the
    /// unstable part only: what has been there for longer is worth a message of its own. Answers their encoded bytes.
    pub(crate) fn extend_from(&self, low: u64, max_bytes: u64, out: &mut Vec<Entry>) -> u64 {
        if low < self.unstable.offset() {
            return 0;
        }
        self.unstable.slice(low, self.unstable.end(), max_bytes, false, out)
    }

    /// Appends to the leader's own log.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) -> u64 {
        self.unstable.truncate_and_append(entries);
        self.last_index()
    }

    /// Takes a leader's `entries` behind `prev`; `None` if `prev` does not match, else the last new index.
    ///
    /// Entries already present stay; from the first that differs on, the log is replaced. That never reaches the
    /// committed part: it would mean that two leaders committed different entries.
    pub(crate) fn maybe_append(
        &mut self,
        prev: EntryId,
        mut entries: Vec<Entry>,
    ) -> Result<Option<u64>, Error> {
        if !self.matches(prev)? && !mutant::active(Mutant::AppendWithoutMatch) {
            return Ok(None);
        }
        let last_new = prev.index + entries.len() as u64;
        let mut keep = 0;
        if !mutant::active(Mutant::AppendTruncatesAlways) {
            for e in &entries {
                if !self.matches(EntryId { index: e.index, term: e.term })? {
                    break;
                }
                keep += 1;
            }
        }
        if keep == entries.len() {
            return Ok(Some(last_new));
        }
        let first_new = entries[keep].index;
        if first_new <= self.committed && !mutant::active(Mutant::AppendTruncatesAlways) {
            return Err(Error::ConflictWithCommitted { index: first_new, committed: self.committed });
        }
        if keep > 0 {
            entries.drain(..keep);
        }
        self.unstable.truncate_and_append(entries);
        Ok(Some(last_new))
    }

    /// The largest index at most `id.index` whose term is at most `id.term`, with its term; the term is 0 when it
    /// is not known. Nothing above it can match a log that has `id`.
    pub(crate) fn find_conflict_by_term(&self, id: EntryId) -> Result<EntryId, Error> {
        let mut index = id.index.min(self.last_index());
        while index > 0 {
            match self.known_term(index)? {
                None => return Ok(EntryId { index, term: 0 }),
                Some(term) if term <= id.term => return Ok(EntryId { index, term }),
                Some(_) => index -= 1,
            }
        }
        Ok(EntryId::default())
    }

    /// Raises the commit index to `to`.
    pub(crate) fn commit_to(&mut self, to: u64) -> Result<(), Error> {
        if to <= self.committed {
            return Ok(());
        }
        let last = self.last_index();
        if to > last {
            return Err(Error::CommitBeyondLog { commit: to, last });
        }
        self.committed = to;
        Ok(())
    }

    /// The newest snapshot, pending or stored.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        match self.unstable.snapshot() {
            Some(s) => Ok(s.clone()),
            None => Ok(self.storage.snapshot()?),
        }
    }

    /// Replaces the whole log by `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: Box<Snapshot>) {
        self.committed = snapshot.metadata.index;
        self.unstable.restore(snapshot);
    }
}

/// Storage gave exactly a prefix of what was asked for.
fn check_slice(entries: &[Entry], low: u64, high: u64) -> Result<(), StorageError> {
    let found = |what, expected, found| StorageError::Inconsistent { what, expected, found };
    let Some(first) = entries.first() else { return Err(found("number of entries", 1, 0)) };
    if first.index != low {
        return Err(found("index of the first entry", low, first.index));
    }
    if entries.len() as u64 > high - low {
        return Err(found("number of entries", high - low, entries.len() as u64));
    }
    let last = low + entries.len() as u64 - 1;
    if entries[entries.len() - 1].index != last {
        return Err(found("index of the last entry", last, entries[entries.len() - 1].index));
    }
    Ok(())
}

fn inconsistent(what: &'static str, expected: u64, found: u64) -> Error {
    StorageError::Inconsistent { what, expected, found }.into()
}
