//! What can go wrong on a simulated disk, besides losing its power.

use std::fmt;
use std::io;

/// Rates and limits of faults; all off by default. Rates are probabilities per call, drawn from the disk's seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// A read fails with EIO.
    pub read_error: f64,
    /// A write fails with EIO; none of its bytes are written.
    pub write_error: f64,
    /// A file's sync fails with EIO; its dirty pages are lost.
    pub sync_error: f64,
    /// Bytes of space on the whole disk, in 4 KiB chunks; writes and allocations beyond it fail with ENOSPC.
    pub space_bytes: Option<u64>,
    /// Every change of files or names fails with EROFS.
    pub read_only: bool,
    /// Virtual time of one call each; [`crate::SimDisk::elapsed_nanos`] adds them up.
    pub latency: Latency,
}

/// Virtual time that calls take. Nothing ever sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Nanoseconds of one read.
    pub read_nanos: u64,
    /// Nanoseconds of one write, allocation or change of a name.
    pub write_nanos: u64,
    /// Nanoseconds of one sync of a file or directory.
    pub sync_nanos: u64,
}

/// The error of every call on a disk that has lost its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut;

impl fmt::Display for PowerCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated disk has lost its power")
    }
}

impl std::error::Error for PowerCut {}

impl PowerCut {
    /// Whether an error, or one it was made from, is a power cut.
    #[must_use]
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}
