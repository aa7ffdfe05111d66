//! The part of the log that is not known to be durable: at most one snapshot, and entries behind it.

use std::collections::VecDeque;

use super::EntryId;
use crate::proto::{Entry, Snapshot};

/// Entries `offset..end`, of which those before `offset_in_progress` were handed out for persistence.
///
/// Invariants: `entries[i].index == offset + i`; `offset <= offset_in_progress <= end`; a snapshot ends just before
/// or ahead of `offset`.
#[derive(Debug)]
pub(super) struct Unstable {
    snapshot: Option<Box<Snapshot>>,
    snapshot_in_progress: bool,
    entries: VecDeque<Entry>,
    offset: u64,
    offset_in_progress: u64,
}

impl Unstable {
    pub(super) fn new(offset: u64) -> Self {
        Self {
            snapshot: None,
            snapshot_in_progress: false,
            entries: VecDeque::new(),
            offset,
            offset_in_progress: offset,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// One past the last entry.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.entries.len() as u64
    }

    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }

    pub(super) fn snapshot_id(&self) -> Option<EntryId> {
        self.snapshot.as_ref().map(|s| EntryId { index: s.metadata.index, term: s.metadata.term })
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index < self.offset {
            return self.snapshot_id().filter(|id| id.index == index).map(|id| id.term);
        }
        self.entries.get((index - self.offset) as usize).map(|e| e.term)
    }

    /// Copies entries from `low` on to `out`, as many as `max_bytes` hold, and answers their encoded bytes.
    pub(super) fn slice(
        &self,
        low: u64,
        high: u64,
        max_bytes: u64,
        at_least_one: bool,
        out: &mut Vec<Entry>,
    ) -> u64 {
        let (start, end) = ((low - self.offset) as usize, (high - self.offset) as usize);
        let (mut free, mut bytes) = (at_least_one, 0u64);
        for e in self.entries.range(start..end) {
            let more = bytes + e.encoded_len() as u64;
            if more > max_bytes && !free {
                break;
            }
            (free, bytes) = (false, more);
            out.push(e.clone());
        }
        bytes
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(super) fn has_next_entries(&self) -> bool {
        self.offset_in_progress < self.end()
    }

    pub(super) fn next_entries(&self, out: &mut Vec<Entry>) {
        // One at a time: mostly it is one, and then a loop is cheaper than the preparations of an extend.
        for e in self.entries.range((self.offset_in_progress - self.offset) as usize..) {
            out.push(e.clone());
        }
    }

    pub(super) fn has_next_snapshot(&self) -> bool {
        self.snapshot.is_some() && !self.snapshot_in_progress
    }

    pub(super) fn next_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot().filter(|_| !self.snapshot_in_progress)
    }

    pub(super) fn accept_in_progress(&mut self) {
        self.offset_in_progress = self.end();
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    pub(super) fn stable_to(&mut self, id: EntryId) {
        // Another term: a write of entries that have been replaced since. Below the offset: known already.
        if id.index < self.offset || self.term(id.index) != Some(id.term) {
            return;
        }
        while self.offset <= id.index {
            self.entries.pop_front();
            self.offset += 1;
        }
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
    }

    pub(super) fn stable_snapshot_to(&mut self, index: u64) {
        if self.snapshot_id().is_some_and(|id| id.index == index) {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    pub(super) fn restore(&mut self, snapshot: Box<Snapshot>) {
        self.offset = snapshot.metadata.index + 1;
        self.offset_in_progress = self.offset;
        self.entries.clear();
        self.snapshot = Some(snapshot);
        self.snapshot_in_progress = false;
    }

    /// Appends `entries`, replacing whatever is held from the first of them on.
    pub(super) fn truncate_and_append(&mut self, entries: Vec<Entry>) {
        let Some(from) = entries.first().map(|e| e.index) else { return };
        if from <= self.offset {
            // Durable entries are replaced: storage is told by the entries that it gets next.
            self.offset = from;
            self.entries.clear();
        } else {
            self.entries.truncate((from - self.offset) as usize);
        }
        self.offset_in_progress = self.offset_in_progress.min(from);
        for e in entries {
            self.entries.push_back(e);
        }
    }
}
