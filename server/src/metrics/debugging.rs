//! What etcd publishes for debugging: the store, watches, leases, alarms.

use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec, Result};

use super::buckets;
use super::registrar::Registrar;

/// `etcd_debugging_*`, but for the parts of a commit, which stand with the backend.
#[derive(Debug)]
pub struct Debugging {
    /// Revision of the auth store.
    pub auth_revision: IntGauge,
    /// Revision of the store.
    pub current_revision: IntGauge,
    /// Revision of the last compaction, -1 before the first.
    pub compact_revision: IntGauge,
    /// Live keys.
    pub keys: IntGauge,
    /// Sum of the sizes of all puts seen by this member, in bytes.
    pub put_size: IntGauge,
    /// Events sent to watchers.
    pub events: IntCounter,
    /// Events that wait to be sent.
    pub pending_events: IntGauge,
    /// Watchers that are behind.
    pub slow_watchers: IntGauge,
    /// Open watch streams.
    pub watch_streams: IntGauge,
    /// Watchers.
    pub watchers: IntGauge,
    /// Milliseconds of a pause for compacting the index.
    pub index_compaction_pause: Histogram,
    /// Milliseconds of a pause for one batch of a compaction.
    pub compaction_pause: Histogram,
    /// Milliseconds of a whole compaction.
    pub compaction_duration: Histogram,
    /// Unix time of the last compaction, in seconds.
    pub compaction_last: IntGauge,
    /// Revisions removed by compactions.
    pub compaction_keys: IntCounter,
    /// Granted leases.
    pub leases_granted: IntCounter,
    /// Renewals seen by the leader.
    pub leases_renewed: IntCounter,
    /// Revoked leases.
    pub leases_revoked: IntCounter,
    /// Seconds of granted leases.
    pub lease_ttl: Histogram,
    /// Expired leases.
    pub leases_expired: IntCounter,
    /// 1 for each raised alarm. By `server_id`, `alarm_type`.
    pub alarms: IntGaugeVec,
    /// Seconds of sending one answer of a watch.
    pub watch_send: Histogram,
    /// Seconds of sending one event of a watch.
    pub watch_send_per_event: Histogram,
    /// Seconds of sending a created or canceled watch.
    pub watch_control: Histogram,
    /// Seconds of sending progress of a watch.
    pub watch_progress: Histogram,
}

impl Debugging {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        let families = Self {
            auth_revision: r.gauge("etcd_debugging_auth_revision", "Revision of the auth store")?,
            current_revision: r.gauge("etcd_debugging_mvcc_current_revision", "Revision of the store")?,
            compact_revision: r.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "Revision of the last compaction, -1 before the first",
            )?,
            keys: r.gauge("etcd_debugging_mvcc_keys_total", "Live keys")?,
            put_size: r.gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Sum of the sizes of all puts seen by this member, in bytes",
            )?,
            events: r.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers")?,
            pending_events: r
                .gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent")?,
            slow_watchers: r.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind")?,
            watch_streams: r.gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams")?,
            watchers: r.gauge("etcd_debugging_mvcc_watcher_total", "Watchers")?,
            index_compaction_pause: r.histogram(
                "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                "Milliseconds of a pause for compacting the index",
                buckets::index_compaction_ms(),
            )?,
            compaction_pause: r.histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Milliseconds of a pause for one batch of a compaction",
                buckets::compaction_pause_ms(),
            )?,
            compaction_duration: r.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Milliseconds of a whole compaction",
                buckets::compaction_total_ms(),
            )?,
            compaction_last: r.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "Unix time of the last compaction, in seconds",
            )?,
            compaction_keys: r.counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Revisions removed by compactions",
            )?,
            leases_granted: r.counter("etcd_debugging_lease_granted_total", "Granted leases")?,
            leases_renewed: r.counter("etcd_debugging_lease_renewed_total", "Renewals seen by the leader")?,
            leases_revoked: r.counter("etcd_debugging_lease_revoked_total", "Revoked leases")?,
            lease_ttl: r.histogram(
                "etcd_debugging_lease_ttl_total",
                "Seconds of granted leases",
                buckets::lease_ttl(),
            )?,
            leases_expired: r.counter("etcd_debugging_server_lease_expired_total", "Expired leases")?,
            alarms: r.gauges(
                "etcd_debugging_server_alarms",
                "1 for each raised alarm",
                &["server_id", "alarm_type"],
            )?,
            watch_send: r.histogram(
                "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
                "Seconds of sending one answer of a watch",
                buckets::disk(),
            )?,
            watch_send_per_event: r.histogram(
                "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
                "Seconds of sending one event of a watch",
                buckets::disk(),
            )?,
            watch_control: r.histogram(
                "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
                "Seconds of sending a created or canceled watch",
                buckets::disk(),
            )?,
            watch_progress: r.histogram(
                "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
                "Seconds of sending progress of a watch",
                buckets::disk(),
            )?,
        };
        families.compact_revision.set(-1);
        Ok(families)
    }
}
