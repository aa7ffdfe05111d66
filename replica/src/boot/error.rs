//! Why a member cannot start, with what to look at.

use std::path::PathBuf;

use crate::apply::Fatal;
use crate::older::OlderError;

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The name is not in the list of first members.
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotAmongMembers {
        /// The name.
        name: String,
    },
    /// Two first members have the same URLs.
    #[error("member {id:x} exists twice in the initial cluster configuration")]
    EqualIds {
        /// The id that both get.
        id: u64,
    },
    /// There is a log but no database: what the log has released is lost.
    #[error("the database {} is missing although the log {} exists", db.display(), wal.display())]
    MissingDatabase {
        /// The database.
        db: PathBuf,
        /// The log.
        wal: PathBuf,
    },
    /// The database does not reach up to where the log begins.
    #[error(
        "the database is applied up to {applied}, but the log begins after snapshot {snapshot}, of which there is no file"
    )]
    DatabaseTooOld {
        /// The database's applied index.
        applied: u64,
        /// The newest snapshot's index.
        snapshot: u64,
    },
    /// The log has a snapshot but the database knows no members, as in directories of 3.5 and before that were never
    /// served by 3.6.
    #[error(
        "the database knows no members although entries up to {applied} are applied: start etcd 3.6 on it once"
    )]
    NoMembers {
        /// The database's applied index.
        applied: u64,
    },
    /// The log's head does not say whose it is.
    #[error("the log {} does not name its member: {what}", wal.display())]
    Metadata {
        /// The log.
        wal: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The log failed.
    #[error(transparent)]
    Wal(#[from] stanchion_wal::Error),
    /// A snapshot file, or the directory of them, failed.
    #[error(transparent)]
    Snapshot(#[from] stanchion_snap::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] stanchion_mvcc::Error),
    /// The stored state cannot be loaded.
    #[error(transparent)]
    State(#[from] Fatal),
    /// The members that an older release left cannot be read.
    #[error(transparent)]
    Older(#[from] OlderError),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
}
