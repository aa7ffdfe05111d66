//! Peers and the bytes of clients.

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Result};

use super::buckets;
use super::registrar::Registrar;

/// `etcd_network_*`. Peers are named by member id in hexadecimal.
#[derive(Debug)]
pub struct Network {
    /// 1 for each connected peer. By `Local`, `Remote`.
    pub active_peers: IntGaugeVec,
    /// 1 for each member, this one included. By `Local`, `Remote`.
    pub known_peers: IntGaugeVec,
    /// Disconnects of peers. By `Local`, `Remote`.
    pub disconnected_peers: IntCounterVec,
    /// Bytes sent to a peer. By `To`.
    pub peer_sent_bytes: IntCounterVec,
    /// Bytes received from a peer. By `From`.
    pub peer_received_bytes: IntCounterVec,
    /// Failures of sending to a peer. By `To`.
    pub peer_sent_failures: IntCounterVec,
    /// Failures of receiving from a peer. By `From`.
    pub peer_received_failures: IntCounterVec,
    /// Seconds of a round trip between peers. By `To`.
    pub peer_round_trip: HistogramVec,
    /// Snapshots sent. By `To`.
    pub snapshot_send_success: IntCounterVec,
    /// Snapshots that could not be sent. By `To`.
    pub snapshot_send_failures: IntCounterVec,
    /// Snapshots being sent. By `To`.
    pub snapshot_send_inflights: IntGaugeVec,
    /// Seconds of sending a snapshot. By `To`.
    pub snapshot_send_duration: HistogramVec,
    /// Snapshots received. By `From`.
    pub snapshot_receive_success: IntCounterVec,
    /// Snapshots that could not be received. By `From`.
    pub snapshot_receive_failures: IntCounterVec,
    /// Snapshots being received. By `From`.
    pub snapshot_receive_inflights: IntGaugeVec,
    /// Seconds of receiving a snapshot. By `From`.
    pub snapshot_receive_duration: HistogramVec,
    /// Bytes of encoded answers to clients.
    pub client_sent_bytes: IntCounter,
    /// Bytes of encoded requests of clients.
    pub client_received_bytes: IntCounter,
    /// Broken streams of clients. By `Type`, `API`.
    pub stream_failures: IntCounterVec,
}

impl Network {
    pub(super) fn register(r: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            active_peers: r.gauges(
                "etcd_network_active_peers",
                "1 for each connected peer",
                &["Local", "Remote"],
            )?,
            known_peers: r.gauges(
                "etcd_network_known_peers",
                "1 for each member, this one included",
                &["Local", "Remote"],
            )?,
            disconnected_peers: r.counters(
                "etcd_network_disconnected_peers_total",
                "Disconnects of peers",
                &["Local", "Remote"],
            )?,
            peer_sent_bytes: r.counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes sent to a peer",
                &["To"],
            )?,
            peer_received_bytes: r.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from a peer",
                &["From"],
            )?,
            peer_sent_failures: r.counters(
                "etcd_network_peer_sent_failures_total",
                "Failures of sending to a peer",
                &["To"],
            )?,
            peer_received_failures: r.counters(
                "etcd_network_peer_received_failures_total",
                "Failures of receiving from a peer",
                &["From"],
            )?,
            peer_round_trip: r.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Seconds of a round trip between peers",
                &["To"],
                buckets::round_trip(),
            )?,
            snapshot_send_success: r.counters(
                "etcd_network_snapshot_send_success",
                "Snapshots sent",
                &["To"],
            )?,
            snapshot_send_failures: r.counters(
                "etcd_network_snapshot_send_failures",
                "Snapshots that could not be sent",
                &["To"],
            )?,
            snapshot_send_inflights: r.gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots being sent",
                &["To"],
            )?,
            snapshot_send_duration: r.histograms(
                "etcd_network_snapshot_send_total_duration_seconds",
                "Seconds of sending a snapshot",
                &["To"],
                buckets::snapshot_transfer(),
            )?,
            snapshot_receive_success: r.counters(
                "etcd_network_snapshot_receive_success",
                "Snapshots received",
                &["From"],
            )?,
            snapshot_receive_failures: r.counters(
                "etcd_network_snapshot_receive_failures",
                "Snapshots that could not be received",
                &["From"],
            )?,
            snapshot_receive_inflights: r.gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received",
                &["From"],
            )?,
            snapshot_receive_duration: r.histograms(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Seconds of receiving a snapshot",
                &["From"],
                buckets::snapshot_transfer(),
            )?,
            client_sent_bytes: r.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of encoded answers to clients",
            )?,
            client_received_bytes: r.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of encoded requests of clients",
            )?,
            stream_failures: r.counters(
                "etcd_network_server_stream_failures_total",
                "Broken streams of clients",
                &["Type", "API"],
            )?,
        })
    }
}
