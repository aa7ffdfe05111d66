//! What can go wrong with a watch.

use crate::WatchId;

/// Why a watcher was not created. The stream lives on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The range holds no key.
    #[error("watcher range is empty")]
    EmptyRange,
    /// The stream has a watcher of that id.
    #[error("duplicate watch ID {id} provided on the stream")]
    Duplicate {
        /// The id that was asked for.
        id: WatchId,
    },
    /// The start revision is negative.
    #[error("start revision {start_revision} is negative")]
    NegativeStart {
        /// The revision that was asked for.
        start_revision: i64,
    },
}

/// Why history could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The revisions were compacted while they were being read. The watchers concerned are told.
    #[error("history before revision {compact_revision} is compacted")]
    Compacted {
        /// The compact revision now.
        compact_revision: i64,
    },
    /// The store failed. The watchers stay where they were and are tried again.
    #[error("history cannot be read: {0}")]
    Failed(String),
}
