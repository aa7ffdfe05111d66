//! What can go wrong, with the numbers in it.

use std::path::PathBuf;

use bytes::Bytes;

use crate::{DecodeError, Revision};

/// An error of the store.
///
/// [`Future`](Error::Future), [`Compacted`](Error::Compacted), [`KeyNotFound`](Error::KeyNotFound),
/// [`EmptyKey`](Error::EmptyKey) and [`TooLarge`](Error::TooLarge) answer a request and leave the store as it was. The
/// others are about the file: nothing more may be written after one of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision has not been written yet.
    #[error("required revision {requested} is a future revision; the store is at {current}")]
    Future {
        /// Revision of the request.
        requested: i64,
        /// Newest revision of the store.
        current: i64,
    },
    /// The revision is below (for a compaction: at or below) the compact revision.
    #[error("required revision {requested} has been compacted; the compact revision is {compacted}")]
    Compacted {
        /// Revision of the request.
        requested: i64,
        /// Revision of the last accepted compaction, -1 if there was none.
        compacted: i64,
    },
    /// A put that keeps the value or the lease of its key found no such key.
    #[error("key {} not found", key.escape_ascii())]
    KeyNotFound {
        /// The key.
        key: Bytes,
    },
    /// A key must have at least one byte.
    #[error("the key is empty")]
    EmptyKey,
    /// A key or value does not fit into a row.
    #[error("key and value of {len} bytes are over the limit of {max}")]
    TooLarge {
        /// Length of key and value together.
        len: usize,
        /// Most that a row takes.
        max: usize,
    },
    /// One transaction makes more changes than sub revisions exist.
    #[error("a transaction makes more than {max} changes")]
    TooManyChanges {
        /// Most changes that one transaction may make.
        max: u32,
    },
    /// The file's storage version is not one that we can read.
    #[error("storage version {found:?} of {} is not supported; the newest supported one is {supported}", path.display())]
    StorageVersion {
        /// The file.
        path: PathBuf,
        /// Version text in the file.
        found: String,
        /// Newest version that this code reads, as `major.minor`.
        supported: &'static str,
    },
    /// The file's newest revision is beyond what counting up could have reached.
    #[error("the newest revision {found} is above {max}")]
    RevisionRange {
        /// Newest revision in the file.
        found: i64,
        /// Highest one that is believed.
        max: i64,
    },
    /// The index names a row that the file does not have.
    #[error("the row of revision {revision} is in the key index but not in the file")]
    MissingRow {
        /// Revision of the row.
        revision: Revision,
    },
    /// A record of a bucket cannot be read.
    #[error("record {} of bucket {bucket}: {what}", key.escape_ascii())]
    Record {
        /// Bucket name.
        bucket: &'static str,
        /// Key of the record.
        key: Bytes,
        /// What is wrong.
        what: String,
    },
    /// The store was opened for reading only.
    #[error("{} is open for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// An earlier commit failed: what the file holds is not known, so the store must be opened anew.
    #[error("an earlier commit failed; open the store again")]
    Poisoned,
    /// The file itself.
    #[error(transparent)]
    File(#[from] crate::file::FileError),
}

impl Error {
    /// An error about a record.
    pub(crate) fn record(bucket: &'static str, key: &[u8], what: impl ToString) -> Self {
        Self::Record { bucket, key: Bytes::copy_from_slice(key), what: what.to_string() }
    }

    /// An error about a row whose value is not a `KeyValue`.
    pub(crate) fn row(key: &[u8], error: DecodeError) -> Self {
        Self::record("key", key, error)
    }
}

/// Result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
