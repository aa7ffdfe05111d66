//! What can go wrong on a simulated disk, besides losing its power.

use std::fmt;
use std::io;

/// Rates and limits of faults; all off by default. Rates are probabilities per call, drawn from the disk's seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// A read fails with EIO.
    pub read_error: f64,
    /// A write fails with EIO after a part of its bytes, or none.
    pub write_error: f64,
    /// A sync fails with EIO. A file's dirty pages are lost; a directory's changes stay visible and are not durable.
    pub sync_error: f64,
    /// Creating, renaming or removing a name fails with EIO and does nothing.
    pub name_error: f64,
    /// A read finds one bit of what it reads turned over, on the medium and for all later reads.
    pub bit_flip: f64,
    /// Bytes of space on the whole disk, in 4 KiB chunks. A write beyond it puts down what fits and fails with ENOSPC;
    /// an allocation beyond it does nothing and fails.
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
