//! Everything that can go wrong, with the facts of the case.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::order::OrderError;

/// Result of the log's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused something.
    #[error("cannot {op} {path}: {source}")]
    Io {
        /// What was to be done.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// The disk is full. Nothing that was appended is lost: call again when there is space.
    #[error("cannot {op} {path}: {source}; nothing that was appended is lost, try again when there is space")]
    NoSpace {
        /// What was to be done.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// An earlier write or sync failed in a way that leaves the file's contents unknown: this handle takes nothing
    /// more. Opening the log again recovers what is on the disk.
    #[error("the log is closed after an earlier failure ({reason}): open it again")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// A segment is open for writing elsewhere.
    #[error("{path} is locked: another process has this log open")]
    Locked {
        /// The locked file.
        path: PathBuf,
    },
    /// A log is to be created where there is one.
    #[error("{dir} already holds a log")]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// A log is to be created in a directory that holds other things.
    #[error("{dir} is not empty (it holds {name:?}): will not create a log there")]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the files in it.
        name: String,
    },
    /// The directory holds no segment.
    #[error("{dir} is not a log: no segment (<seq>-<index>.wal) in it")]
    NotALog {
        /// The directory.
        dir: PathBuf,
    },
    /// The sequence numbers have a hole.
    #[error("segments {first_seq:#018x} to {last_seq:#018x} are missing in {dir}, before {found}")]
    MissingSegments {
        /// The directory.
        dir: PathBuf,
        /// First missing sequence number.
        first_seq: u64,
        /// Last missing sequence number.
        last_seq: u64,
        /// The segment behind the hole.
        found: String,
    },
    /// Two segments have the same sequence number.
    #[error("{dir} holds two segments with sequence number {seq:#018x}")]
    DoubledSegment {
        /// The directory.
        dir: PathBuf,
        /// The sequence number.
        seq: u64,
    },
    /// The log begins after the snapshot it is to be opened at.
    #[error("no segment in {dir} reaches back to snapshot index {index}: the oldest is {oldest}")]
    SnapshotNotCovered {
        /// The directory.
        dir: PathBuf,
        /// The snapshot's index.
        index: u64,
        /// Name of the oldest segment.
        oldest: String,
    },
    /// The log does not know the snapshot it is opened at.
    #[error("the log in {dir} has no record of a snapshot at index {index}")]
    SnapshotNotFound {
        /// The directory.
        dir: PathBuf,
        /// The snapshot's index.
        index: u64,
    },
    /// The log knows the snapshot with another term.
    #[error("snapshot at index {index} has term {expected}, but {path} says {found} at offset {offset}")]
    SnapshotMismatch {
        /// The segment.
        path: PathBuf,
        /// Offset of the record's frame in bytes.
        offset: u64,
        /// The snapshot's index.
        index: u64,
        /// Term it was opened with.
        expected: u64,
        /// Term in the log.
        found: u64,
    },
    /// A segment without any record. None is ever left behind by a crash: its head is durable before it gets its name.
    #[error(
        "{path} is empty ({len} bytes, no record): remove it if it is the newest segment, else the log is broken"
    )]
    EmptySegment {
        /// The segment.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// A record of a type that is not known: a newer format, or damage.
    #[error("{path} has a record of unknown type {kind} at offset {offset}: written by a newer release?")]
    UnknownRecordType {
        /// The segment.
        path: PathBuf,
        /// Offset of the frame in bytes.
        offset: u64,
        /// The type's number.
        kind: u64,
    },
    /// The log is broken at a place that a crash cannot explain.
    #[error("{path} is damaged at offset {offset}: {damage}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Offset of the frame in bytes.
        offset: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The entry to append does not fit the log. Nothing of the call was taken.
    #[error("refused to append: {0}")]
    Order(#[from] OrderError),
    /// The hard state to append has no term. Nothing of the call was taken.
    #[error("refused to append: a hard state needs a term of at least 1")]
    StateWithoutTerm,
    /// What was committed together with others could not be made durable.
    #[error("the batch was not made durable: {0}")]
    Batch(std::sync::Arc<Error>),
    /// A sync job is under way: finish it first.
    #[error("a sync job is under way: finish it first")]
    SyncInFlight,
}

impl Error {
    /// Wraps a failed call of the file system.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { op, path, source },
            _ => Self::Io { op, path, source },
        }
    }

    /// Whether freeing space and calling again can help.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Batch(error) => error.is_no_space(),
            _ => false,
        }
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The CRC over all payloads up to here is not the one the record carries.
    Crc {
        /// The value computed from the bytes in the file, which the record should carry.
        expected: u32,
        /// The value that the record carries.
        found: u32,
    },
    /// The length field is not one that a writer writes, or a neighbouring value leads to a sound record.
    Length {
        /// The length field as it stands in the file.
        found: u64,
        /// The value with which the record is sound, if one differs in a single bit.
        expected: Option<u64>,
    },
    /// The record is not of the right form.
    Record(&'static str),
    /// The CRC is right, but the payload is not what the record's type says.
    Payload(&'static str),
    /// A segment must begin with a CRC record and the metadata.
    Head(&'static str),
    /// The metadata differs from that of the records before.
    Metadata,
    /// The record is cut off, but more segments follow: a crash only ever cuts the last one.
    Torn(Torn),
    /// The entry does not fit where it stands.
    Order(OrderError),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crc { expected, found } => {
                write!(f, "CRC mismatch: expected {expected:08x}, found {found:08x}")
            }
            Self::Length { found, expected: Some(expected) } => {
                write!(f, "length field is {found:#018x}, but the record behind it fits {expected:#018x}")
            }
            Self::Length { found, expected: None } => write!(f, "impossible length field {found:#018x}"),
            Self::Record(what) | Self::Payload(what) | Self::Head(what) => f.write_str(what),
            Self::Metadata => f.write_str("metadata differs from that at the head of the log"),
            Self::Torn(torn) => write!(f, "{torn}, but more segments follow"),
            Self::Order(error) => error.fmt(f),
        }
    }
}

/// How the last write to a log was cut off: the traces a power cut leaves at the end of the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Torn {
    /// The file ends inside a length field.
    LengthField {
        /// Bytes of it that are there.
        found: u64,
    },
    /// The file ends before the record does.
    Short {
        /// Length of record and padding in bytes, as the length field says.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The record does not add up, and at least one of its sectors was never written.
    UnwrittenSector,
    /// There is a record, but the sector that ends with its length field was never written.
    UnwrittenLengthField,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LengthField { found } => write!(f, "the file ends {found} bytes into a length field"),
            Self::Short { expected, found } => {
                write!(f, "the file ends inside a record: {expected} bytes expected, {found} found")
            }
            Self::UnwrittenSector => f.write_str("a record with a sector that was never written"),
            Self::UnwrittenLengthField => f.write_str("a record whose length field was never written"),
        }
    }
}
