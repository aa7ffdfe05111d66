//! What the state machine reads of the durable log, and an implementation in memory.

use std::collections::VecDeque;

use crate::proto::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};

/// Why storage did not answer with what was asked (persistent state: paper, figure 2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The entry is replaced by a snapshot (paper, 7).
    #[error("log index {index} is compacted, the log starts at {first}")]
    Compacted {
        /// Index asked for.
        index: u64,
        /// First index held.
        first: u64,
    },
    /// The entry is not there (yet).
    #[error("log index {index} is beyond the last one, {last}")]
    Unavailable {
        /// Index asked for.
        index: u64,
        /// Last index held.
        last: u64,
    },
    /// A snapshot is being made; ask later.
    #[error("snapshot is temporarily unavailable")]
    SnapshotTemporarilyUnavailable,
    /// The snapshot is not newer than what is held.
    #[error("snapshot at {index} is not newer than {held}")]
    SnapshotOutOfDate {
        /// Its index.
        index: u64,
        /// Index held.
        held: u64,
    },
    /// Entries leave a gap behind the last one.
    #[error("entry {index} leaves a gap behind {last}")]
    Gap {
        /// First new index.
        index: u64,
        /// Last index held.
        last: u64,
    },
    /// The answer contradicts itself or the log's positions.
    #[error("storage is inconsistent: {what}: expected {expected}, found {found}")]
    Inconsistent {
        /// What was looked at.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Anything else.
    #[error("storage: {0}")]
    Other(String),
}

/// What a node was before it stopped (persistent state: paper, figure 2; thesis, 3.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialState {
    /// Last recorded hard state, empty if there is none.
    pub hard_state: HardState,
    /// Configuration at the applied index, or of the snapshot.
    pub conf_state: ConfState,
}

/// The durable log as the state machine reads it (paper, 5.3 and 7; the methods are those of etcd's `Storage`). Writing
/// is the caller's work.
///
/// Entries before [`first_index`](Self::first_index) are compacted; the term of the one just before it stays known.
/// Entries handed out are shared and never change. An answer out of range is an error, never a wrong entry.
pub trait Storage {
    /// Hard state and configuration to start from.
    ///
    /// # Errors
    /// Storage failed.
    fn initial_state(&self) -> Result<InitialState, StorageError>;

    /// Appends to `out` the entries `low..high`, as many as fit into `max_bytes` of [`Entry::encoded_len`] and at
    /// least one.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] if `low` is, [`StorageError::Unavailable`] if `high - 1` is beyond the last.
    fn entries(&self, low: u64, high: u64, max_bytes: u64, out: &mut Vec<Entry>) -> Result<(), StorageError>;

    /// Term of the entry at `index`, valid from `first_index() - 1` to `last_index()`.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] before, [`StorageError::Unavailable`] behind.
    fn term(&self, index: u64) -> Result<u64, StorageError>;

    /// Index of the first entry held: snapshot index + 1, also when there is no entry.
    ///
    /// # Errors
    /// Storage failed.
    fn first_index(&self) -> Result<u64, StorageError>;

    /// Index of the last entry held, or the snapshot's when there is none.
    ///
    /// # Errors
    /// Storage failed.
    fn last_index(&self) -> Result<u64, StorageError>;

    /// The newest snapshot.
    ///
    /// # Errors
    /// [`StorageError::SnapshotTemporarilyUnavailable`] while one is being made.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}

/// A log in memory (persistent state: paper, figure 2).
///
/// Invariant: entry `i` of the deque has index `base.index + 1 + i`.
#[derive(Clone, Debug, Default)]
pub struct MemStorage {
    hard_state: HardState,
    snapshot: Snapshot,
    /// Position just before the first entry: index, term.
    base: (u64, u64),
    entries: VecDeque<Entry>,
}

impl MemStorage {
    /// An empty log (paper, figure 2: the first index is 1).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty log whose members are `conf_state`, as if every node had been started with it (thesis, 4.4).
    #[must_use]
    pub fn with_conf_state(conf_state: ConfState) -> Self {
        let mut s = Self::default();
        s.snapshot.metadata.conf_state = conf_state;
        s
    }

    /// Records the hard state (`currentTerm` and `votedFor`: paper, figure 2).
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// The recorded hard state (paper, figure 2).
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Writes `entries`, discarding everything held from the first of them on (AppendEntries, steps 3 and 4:
    /// paper, figure 2). Entries that are compacted already are passed over.
    ///
    /// # Errors
    /// [`StorageError::Gap`]; nothing is written then.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        let Some(start) = entries.first().map(|e| e.index) else { return Ok(()) };
        let (first, last) = (self.base.0 + 1, self.base.0 + self.entries.len() as u64);
        if start > last + 1 {
            return Err(StorageError::Gap { index: start, last });
        }
        let skip = first.saturating_sub(start).min(entries.len() as u64) as usize;
        let kept = &entries[skip..];
        if let Some(from) = kept.first() {
            self.entries.truncate((from.index - first) as usize);
            self.entries.extend(kept.iter().cloned());
        }
        Ok(())
    }

    /// Replaces everything by `snapshot` (InstallSnapshot: paper, figure 13).
    ///
    /// # Errors
    /// [`StorageError::SnapshotOutOfDate`] if a newer one is held.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let (index, held) = (snapshot.metadata.index, self.snapshot.metadata.index);
        if held >= index && index != 0 {
            return Err(StorageError::SnapshotOutOfDate { index, held });
        }
        self.base = (index, snapshot.metadata.term);
        self.entries.clear();
        self.snapshot = snapshot;
        Ok(())
    }

    /// Makes the snapshot (paper, 7; thesis, 5.1) at `index` with the configuration there. The log keeps its entries.
    ///
    /// # Errors
    /// [`StorageError::SnapshotOutOfDate`] or an index that is not in the log.
    pub fn create_snapshot(
        &mut self,
        index: u64,
        conf_state: ConfState,
        data: impl Into<bytes::Bytes>,
    ) -> Result<&Snapshot, StorageError> {
        let held = self.snapshot.metadata.index;
        if index <= held {
            return Err(StorageError::SnapshotOutOfDate { index, held });
        }
        let term = self.term(index)?;
        self.snapshot =
            Snapshot { data: data.into(), metadata: SnapshotMetadata { conf_state, index, term } };
        Ok(&self.snapshot)
    }

    /// Forgets the entries up to and including `index`, which must not exceed the applied index (paper, 7;
    /// thesis, 5.1).
    ///
    /// # Errors
    /// `index` is compacted already or not in the log.
    pub fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        if index <= self.base.0 {
            return Err(StorageError::Compacted { index, first: self.base.0 + 1 });
        }
        let term = self.term(index)?;
        self.entries.drain(..(index - self.base.0) as usize);
        self.base = (index, term);
        Ok(())
    }
}

impl Storage for MemStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let conf_state = self.snapshot.metadata.conf_state.clone();
        Ok(InitialState { hard_state: self.hard_state, conf_state })
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64, out: &mut Vec<Entry>) -> Result<(), StorageError> {
        let (first, last) = (self.base.0 + 1, self.base.0 + self.entries.len() as u64);
        if low < first {
            return Err(StorageError::Compacted { index: low, first });
        }
        if high > last + 1 {
            return Err(StorageError::Unavailable { index: high - 1, last });
        }
        if low >= high {
            return Ok(());
        }
        let range = (low - first) as usize..(high - first) as usize;
        let mut bytes = 0u64;
        for (i, e) in self.entries.range(range).enumerate() {
            bytes += e.encoded_len() as u64;
            if i > 0 && bytes > max_bytes {
                break;
            }
            out.push(e.clone());
        }
        Ok(())
    }

    fn term(&self, index: u64) -> Result<u64, StorageError> {
        if index < self.base.0 {
            return Err(StorageError::Compacted { index, first: self.base.0 + 1 });
        }
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        let last = self.base.0 + self.entries.len() as u64;
        let entry = self.entries.get((index - self.base.0 - 1) as usize);
        entry.map(|e| e.term).ok_or(StorageError::Unavailable { index, last })
    }

    fn first_index(&self) -> Result<u64, StorageError> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64, StorageError> {
        Ok(self.base.0 + self.entries.len() as u64)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.snapshot.clone())
    }
}
