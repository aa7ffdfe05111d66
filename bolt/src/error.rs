//! The crate's error type.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with the facts that name the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{operation} {path:?}: {source}")]
    Io {
        /// What was being done, as a verb: `open`, `write`, `sync`, …
        operation: &'static str,
        /// The database file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Neither meta page has the format's magic number.
    #[error("{path:?} is not a bolt file: no meta page with magic 0xED0CDAED (file has {len} bytes)")]
    NotBolt {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// A meta page is of this format, but of another version.
    #[error("{path:?} has format version {found}, expected 2")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Both meta pages carry the magic number, and neither checksum is right.
    #[error("{path:?}: both meta pages are damaged (meta checksum {found:#018x}, expected {expected:#018x})")]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The stored checksum.
        found: u64,
        /// The checksum of the stored fields.
        expected: u64,
    },
    /// The page size is not a power of two between 1024 and 16 MiB, or not the one its meta page lies at.
    #[error("{path:?} has page size {found}, which is no power of two from 1024 to 16777216")]
    PageSize {
        /// The file.
        path: PathBuf,
        /// The page size found.
        found: u32,
    },
    /// The file ends before the pages its meta page counts.
    #[error("{path:?} has {len} bytes, but its meta page counts {expected} bytes")]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// High-water mark times page size.
        expected: u64,
    },
    /// A page contradicts the format.
    #[error("page {page}: {what}")]
    Corrupt {
        /// Page id (its offset in the file is the id times the page size).
        page: u64,
        /// What is wrong with it, with the numbers found.
        what: String,
    },
    /// Somebody else held the file's lock for as long as the caller was willing to wait.
    #[error("{path:?} is locked by another handle; gave up after {waited:?}")]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// A write was asked of a database opened read-only.
    #[error("the database was opened read-only")]
    ReadOnly,
    /// A sync or the write of a meta page failed earlier: what the file holds is unknown until it is opened again.
    #[error("an earlier sync or meta write failed; open the database again")]
    Poisoned,
    /// Keys must have at least one byte.
    #[error("the key is empty")]
    KeyEmpty,
    /// Bucket names must have at least one byte.
    #[error("the bucket name is empty")]
    BucketNameEmpty,
    /// The key is longer than [`crate::MAX_KEY_SIZE`].
    #[error("the key has {len} bytes, at most {max} are allowed", max = crate::MAX_KEY_SIZE)]
    KeyTooLarge {
        /// Length of the key in bytes.
        len: usize,
    },
    /// The value is longer than [`crate::MAX_VALUE_SIZE`].
    #[error("the value has {len} bytes, at most {max} are allowed", max = crate::MAX_VALUE_SIZE)]
    ValueTooLarge {
        /// Length of the value in bytes.
        len: usize,
    },
    /// The bucket to create (or the target of a move) is there already.
    #[error("bucket {:?} exists", String::from_utf8_lossy(.name))]
    BucketExists {
        /// Its name.
        name: Vec<u8>,
    },
    /// There is no bucket of that name.
    #[error("bucket {:?} not found", String::from_utf8_lossy(.name))]
    BucketNotFound {
        /// Its name.
        name: Vec<u8>,
    },
    /// A bucket was used as a value, or a value as a bucket.
    #[error("{:?} is {found}, not {expected}", String::from_utf8_lossy(.name))]
    IncompatibleValue {
        /// Key or bucket name.
        name: Vec<u8>,
        /// What is stored there: `a bucket` or `a value`.
        found: &'static str,
        /// What the call needs.
        expected: &'static str,
    },
    /// A bucket was to be moved into the bucket that holds it already.
    #[error("bucket {:?} is moved to where it is", String::from_utf8_lossy(.name))]
    SameBucket {
        /// Its name.
        name: Vec<u8>,
    },
    /// The file system gave out while a backup or a compacted copy was written.
    #[error("writing a copy: {0}")]
    Copy(#[source] io::Error),
}

impl Error {
    pub(crate) fn corrupt(page: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { page, what: what.into() }
    }
}
