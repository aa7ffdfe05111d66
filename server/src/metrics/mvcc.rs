//! The store as its users count it.

use prometheus::{Histogram, IntCounter, IntGauge, Result};

use super::buckets;
use super::registrar::Registrar;

/// `etcd_mvcc_*`.
#[derive(Debug)]
pub struct Mvcc {
    /// Size of the database file in bytes.
    pub db_size: IntGauge,
    /// Size of the database without free pages in bytes.
    pub db_size_in_use: IntGauge,
    /// Open read transactions of the database.
    pub open_read_transactions: IntGauge,
    /// Ranges seen by this member.
    pub ranges: IntCounter,
    /// Puts seen by this member.
    pub puts: IntCounter,
    /// Deletes seen by this member.
    pub deletes: IntCounter,
    /// Transactions seen by this member.
    pub txns: IntCounter,
    /// Seconds of hashing the whole database.
    pub hash_duration: Histogram,
    /// Seconds of hashing up to a revision.
    pub hash_rev_duration: Histogram,
}

impl Mvcc {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            db_size: r.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the database file in bytes")?,
            db_size_in_use: r.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Size of the database without free pages in bytes",
            )?,
            open_read_transactions: r
                .gauge("etcd_mvcc_db_open_read_transactions", "Open read transactions of the database")?,
            ranges: r.counter("etcd_mvcc_range_total", "Ranges seen by this member")?,
            puts: r.counter("etcd_mvcc_put_total", "Puts seen by this member")?,
            deletes: r.counter("etcd_mvcc_delete_total", "Deletes seen by this member")?,
            txns: r.counter("etcd_mvcc_txn_total", "Transactions seen by this member")?,
            hash_duration: r.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Seconds of hashing the whole database",
                buckets::hash(),
            )?,
            hash_rev_duration: r.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Seconds of hashing up to a revision",
                buckets::hash(),
            )?,
        })
    }
}
