//! The database file and snapshot files.

use prometheus::{Histogram, IntGauge, Result};

use super::buckets;
use super::registrar::Registrar;

/// `etcd_disk_backend_*`.
#[derive(Debug)]
pub struct Backend {
    /// Seconds of a commit of the database.
    pub commit_duration: Histogram,
    /// Seconds of a defragmentation.
    pub defrag_duration: Histogram,
    /// Seconds of streaming a snapshot of the database.
    pub snapshot_duration: Histogram,
    /// 1 while a defragmentation runs, 0 otherwise.
    pub defrag_inflight: IntGauge,
    /// Seconds of rebalancing in a commit.
    pub commit_rebalance_duration: Histogram,
    /// Seconds of laying out pages in a commit.
    pub commit_spill_duration: Histogram,
    /// Seconds of writing pages in a commit.
    pub commit_write_duration: Histogram,
}

impl Backend {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            commit_duration: r.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "Seconds of a commit of the database",
                buckets::disk(),
            )?,
            defrag_duration: r.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "Seconds of a defragmentation",
                buckets::defragmentation(),
            )?,
            snapshot_duration: r.histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "Seconds of streaming a snapshot of the database",
                buckets::backend_snapshot(),
            )?,
            defrag_inflight: r
                .gauge("etcd_disk_defrag_inflight", "1 while a defragmentation runs, 0 otherwise")?,
            commit_rebalance_duration: r.histogram(
                "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
                "Seconds of rebalancing in a commit",
                buckets::disk(),
            )?,
            commit_spill_duration: r.histogram(
                "etcd_debugging_disk_backend_commit_spill_duration_seconds",
                "Seconds of laying out pages in a commit",
                buckets::disk(),
            )?,
            commit_write_duration: r.histogram(
                "etcd_debugging_disk_backend_commit_write_duration_seconds",
                "Seconds of writing pages in a commit",
                buckets::disk(),
            )?,
        })
    }
}

/// `etcd_snap_*`.
#[derive(Debug)]
pub struct Snap {
    /// Seconds of fsync of a snapshot file.
    pub fsync_duration: Histogram,
    /// Seconds of fsync of a received database.
    pub db_fsync_duration: Histogram,
    /// Seconds of saving a received database.
    pub db_save_duration: Histogram,
    /// Seconds of encoding a snapshot file.
    pub marshalling_duration: Histogram,
    /// Seconds of saving a snapshot file.
    pub save_duration: Histogram,
}

impl Snap {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            fsync_duration: r.histogram(
                "etcd_snap_fsync_duration_seconds",
                "Seconds of fsync of a snapshot file",
                buckets::disk(),
            )?,
            db_fsync_duration: r.histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "Seconds of fsync of a received database",
                buckets::disk(),
            )?,
            db_save_duration: r.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "Seconds of saving a received database",
                buckets::snapshot_transfer(),
            )?,
            marshalling_duration: r.histogram(
                "etcd_debugging_snap_save_marshalling_duration_seconds",
                "Seconds of encoding a snapshot file",
                buckets::disk(),
            )?,
            save_duration: r.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "Seconds of saving a snapshot file",
                buckets::disk(),
            )?,
        })
    }
}
