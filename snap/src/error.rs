//! Everything that can go wrong, with the facts of the case.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused something. Nothing that was there before is lost.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// A snapshot to be saved holds nothing; such a file could not be told from a torn one.
    #[error("a snapshot of term {term} and index {index} without data cannot be saved")]
    NoData {
        /// Its term.
        term: u64,
        /// Its index.
        index: u64,
    },
    /// The database that belongs to a snapshot is not there.
    #[error(
        "no database for the snapshot at index {index}: {} is missing; restore the member from a backup or let it \
         join anew",
        path.display()
    )]
    NoDatabase {
        /// The snapshot's index.
        index: u64,
        /// Where the database should be.
        path: PathBuf,
    },
    /// A received database is not the one that was sent.
    #[error(
        "the database received for index {index} has {found} bytes, {expected} were announced; it is discarded"
    )]
    WrongSize {
        /// The snapshot's index.
        index: u64,
        /// Bytes announced.
        expected: u64,
        /// Bytes received.
        found: u64,
    },
}

impl Error {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, path: path.to_owned(), source }
    }
}

/// Why a snapshot file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Nothing in it, or no payload, or no CRC.
    #[error("empty snapshot")]
    Empty,
    /// Not the message it should be.
    #[error("malformed snapshot message")]
    Malformed,
    /// The payload changed.
    #[error("CRC mismatch: the file says {expected:08x}, its data has {found:08x}")]
    Crc {
        /// As stored.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// Larger than any snapshot file is.
    #[error("{size} bytes are too many for a snapshot file")]
    TooLarge {
        /// The file's size in bytes.
        size: u64,
    },
}
