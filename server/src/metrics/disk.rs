//! The write-ahead log.

use prometheus::{Histogram, IntGauge, Result};

use super::buckets;
use super::registrar::Registrar;

/// `etcd_disk_wal_*`.
#[derive(Debug)]
pub struct Wal {
    /// Seconds of fsync of the write-ahead log.
    pub fsync_duration: Histogram,
    /// Seconds of writing to the write-ahead log.
    pub write_duration: Histogram,
    /// Bytes written to the write-ahead log.
    pub write_bytes: IntGauge,
}

impl Wal {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            fsync_duration: r.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "Seconds of fsync of the write-ahead log",
                buckets::disk(),
            )?,
            write_duration: r.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "Seconds of writing to the write-ahead log",
                buckets::disk(),
            )?,
            write_bytes: r
                .gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the write-ahead log")?,
        })
    }
}
