//! What a member knows of itself: leader, proposals, requests, health.

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::buckets;
use super::registrar::Registrar;

/// `etcd_server_*` and `etcd_cluster_version`.
#[derive(Debug)]
pub struct Server {
    /// Which version is running. 1 for the agreed cluster version. By `cluster_version`.
    pub cluster_version: IntGaugeVec,
    /// Which version is running. 1 for this server. By `server_version`.
    pub version: IntGaugeVec,
    /// Server or member ID in hexadecimal format. 1 for this member. By `server_id`.
    pub id: IntGaugeVec,
    /// Whether a feature gate is on. 1 is on, 0 is off. By `name`, `stage`.
    pub feature_enabled: IntGaugeVec,
    /// Whether or not a leader exists. 1 is existence, 0 is not.
    pub has_leader: IntGauge,
    /// Whether or not this member is a leader. 1 if it is, 0 otherwise.
    pub is_leader: IntGauge,
    /// Whether or not this member is a learner. 1 if it is, 0 otherwise.
    pub is_learner: IntGauge,
    /// The number of leader changes seen.
    pub leader_changes_seen: IntCounter,
    /// Learner promotions while this member was leader.
    pub learner_promote_successes: IntCounter,
    /// Refused learner promotions while this member was leader. By `Reason`.
    pub learner_promote_failures: IntCounterVec,
    /// Heartbeats that an overloaded leader sent late.
    pub heartbeat_send_failures: IntCounter,
    /// 1 while a received snapshot is applied, 0 otherwise.
    pub snapshot_apply_in_progress: IntGauge,
    /// The index up to which proposals are committed.
    pub proposals_committed: IntGauge,
    /// The index up to which proposals are applied.
    pub proposals_applied: IntGauge,
    /// The number of pending proposals to commit.
    pub proposals_pending: IntGauge,
    /// The number of failed proposals seen.
    pub proposals_failed: IntCounter,
    /// Backend storage quota in bytes, -1 without one.
    pub quota_backend_bytes: IntGauge,
    /// Applied requests slower than the warning threshold.
    pub slow_apply: IntCounter,
    /// Read confirmations that needed a retry.
    pub slow_read_indexes: IntCounter,
    /// Failed read confirmations.
    pub read_indexes_failed: IntCounter,
    /// Seconds to apply an operation. By `version`, `op`, `success`.
    pub apply_duration: HistogramVec,
    /// Seconds to execute a range. By `success`.
    pub range_duration: HistogramVec,
    /// Seconds from a proposal to its result. By `type`, `success`.
    pub request_duration: HistogramVec,
    /// Requests by version of the client API. By `type`, `client_api_version`.
    pub client_requests: IntCounterVec,
}

impl Server {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            cluster_version: r.gauges(
                "etcd_cluster_version",
                "Which version is running. 1 for the agreed cluster version",
                &["cluster_version"],
            )?,
            version: r.gauges(
                "etcd_server_version",
                "Which version is running. 1 for this server",
                &["server_version"],
            )?,
            id: r.gauges(
                "etcd_server_id",
                "Server or member ID in hexadecimal format. 1 for this member",
                &["server_id"],
            )?,
            feature_enabled: r.gauges(
                "etcd_server_feature_enabled",
                "Whether a feature gate is on. 1 is on, 0 is off",
                &["name", "stage"],
            )?,
            has_leader: r.gauge(
                "etcd_server_has_leader",
                "Whether or not a leader exists. 1 is existence, 0 is not",
            )?,
            is_leader: r.gauge(
                "etcd_server_is_leader",
                "Whether or not this member is a leader. 1 if it is, 0 otherwise",
            )?,
            is_learner: r.gauge(
                "etcd_server_is_learner",
                "Whether or not this member is a learner. 1 if it is, 0 otherwise",
            )?,
            leader_changes_seen: r
                .counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen")?,
            learner_promote_successes: r.counter(
                "etcd_server_learner_promote_successes",
                "Learner promotions while this member was leader",
            )?,
            learner_promote_failures: r.counters(
                "etcd_server_learner_promote_failures",
                "Refused learner promotions while this member was leader",
                &["Reason"],
            )?,
            heartbeat_send_failures: r.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that an overloaded leader sent late",
            )?,
            snapshot_apply_in_progress: r.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a received snapshot is applied, 0 otherwise",
            )?,
            proposals_committed: r.gauge(
                "etcd_server_proposals_committed_total",
                "The index up to which proposals are committed",
            )?,
            proposals_applied: r.gauge(
                "etcd_server_proposals_applied_total",
                "The index up to which proposals are applied",
            )?,
            proposals_pending: r
                .gauge("etcd_server_proposals_pending", "The number of pending proposals to commit")?,
            proposals_failed: r
                .counter("etcd_server_proposals_failed_total", "The number of failed proposals seen")?,
            quota_backend_bytes: r
                .gauge("etcd_server_quota_backend_bytes", "Backend storage quota in bytes, -1 without one")?,
            slow_apply: r.counter(
                "etcd_server_slow_apply_total",
                "Applied requests slower than the warning threshold",
            )?,
            slow_read_indexes: r
                .counter("etcd_server_slow_read_indexes_total", "Read confirmations that needed a retry")?,
            read_indexes_failed: r
                .counter("etcd_server_read_indexes_failed_total", "Failed read confirmations")?,
            apply_duration: r.histograms(
                "etcd_server_apply_duration_seconds",
                "Seconds to apply an operation",
                &["version", "op", "success"],
                buckets::apply(),
            )?,
            range_duration: r.histograms(
                "etcd_server_range_duration_seconds",
                "Seconds to execute a range",
                &["success"],
                buckets::apply(),
            )?,
            request_duration: r.histograms(
                "etcd_server_request_duration_seconds",
                "Seconds from a proposal to its result",
                &["type", "success"],
                buckets::disk(),
            )?,
            client_requests: r.counters(
                "etcd_server_client_requests_total",
                "Requests by version of the client API",
                &["type", "client_api_version"],
            )?,
        })
    }
}

/// Results of `/health`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct Health {
    /// The number of successful health checks.
    pub successes: IntCounter,
    /// The number of failed health checks.
    pub failures: IntCounter,
    /// The last result of a health check. 1 is success, 0 is failure. By `type`, `name`.
    pub check: IntGaugeVec,
    /// Results of health checks. By `type`, `name`, `status`.
    pub checks: IntCounterVec,
}

impl Health {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            successes: r.counter("etcd_server_health_success", "The number of successful health checks")?,
            failures: r.counter("etcd_server_health_failures", "The number of failed health checks")?,
            check: r.gauges(
                "etcd_server_healthcheck",
                "The last result of a health check. 1 is success, 0 is failure",
                &["type", "name"],
            )?,
            checks: r.counters(
                "etcd_server_healthchecks_total",
                "Results of health checks",
                &["type", "name", "status"],
            )?,
        })
    }
}
