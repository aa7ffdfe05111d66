//! When the log is marked and released: by count, as etcd does, and by bytes, so that large values do not fill memory.

use stanchion_raft::{ConfState, SnapshotMetadata};

/// How many entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasePolicy {
    /// Entries applied since the last mark before another is made (`--snapshot-count`).
    pub snapshot_count: u64,
    /// Entries kept before a mark, so that a member that lags a little needs no snapshot.
    pub catch_up_entries: u64,
    /// Bytes of entries that are applied since the last mark before another is made, and that are kept before a mark.
    /// Members that answer and still need more of the log find up to eight times as much.
    pub log_bytes: u64,
}

/// How far beyond `log_bytes` the log is kept for members that are catching up from it.
pub(crate) const LAGGARDS: u64 = 8;

impl Default for ReleasePolicy {
    /// etcd 3.6's 10,000 and 5,000 entries, and 64 MiB.
    fn default() -> Self {
        ReleasePolicy { snapshot_count: 10_000, catch_up_entries: 5_000, log_bytes: 64 << 20 }
    }
}

impl ReleasePolicy {
    pub(crate) fn is_due(&self, applied: u64, marked: u64, bytes: u64) -> bool {
        applied.saturating_sub(marked) > self.snapshot_count || bytes > self.log_bytes
    }

    /// The first entry that is kept when everything up to `marked` is marked.
    pub(crate) fn keep_from(&self, marked: u64) -> u64 {
        marked.saturating_sub(self.catch_up_entries).max(1) + 1
    }
}

impl Release {
    /// The same release, marked where the committed database is by now: at its own place or behind it.
    #[must_use]
    pub fn at(self, metadata: &SnapshotMetadata) -> Release {
        let SnapshotMetadata { conf_state, index, term } = metadata.clone();
        Release { index, term, conf_state, ..self }
    }
}

/// A mark to be made. In this order: the database is committed (so that it is not older than the mark), the mark is
/// written into the log and synced, then the log lets go, in memory and on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Everything up to here is in the database.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The configuration there.
    pub conf_state: ConfState,
    /// The first entry that is kept.
    pub keep_from: u64,
}
