//! Counts what happens between members under etcd's names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_peer::Observer;

use crate::metrics::Metrics;
use crate::runtime::Shared;

pub(super) struct Counts {
    local: String,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Counts {
    pub(super) fn new(local: String, shared: Arc<Shared>, metrics: Arc<Metrics>) -> Counts {
        Counts { local, shared, metrics }
    }
}

/// Peers have hexadecimal names; one that has not introduced itself has 0, as in etcd.
fn name(peer_id: u64) -> String {
    format!("{peer_id:x}")
}

impl Observer for Counts {
    fn active(&self, peer_id: u64) {
        self.shared.connected_since.lock().insert(peer_id, Instant::now());
        self.metrics.network.active_peers.with_label_values(&[&self.local, &name(peer_id)]).set(1);
    }

    fn inactive(&self, peer_id: u64) {
        self.shared.connected_since.lock().remove(&peer_id);
        let labels = [&self.local, &name(peer_id)];
        self.metrics.network.active_peers.with_label_values(&labels).set(0);
        self.metrics.network.disconnected_peers.with_label_values(&labels).inc();
    }

    fn sent(&self, peer_id: u64, bytes: usize) {
        self.metrics.network.peer_sent_bytes.with_label_values(&[&name(peer_id)]).inc_by(bytes as u64);
    }

    fn received(&self, peer_id: u64, bytes: usize) {
        self.metrics.network.peer_received_bytes.with_label_values(&[&name(peer_id)]).inc_by(bytes as u64);
    }

    fn send_failed(&self, peer_id: u64) {
        self.metrics.network.peer_sent_failures.with_label_values(&[&name(peer_id)]).inc();
    }

    fn receive_failed(&self, peer_id: u64) {
        self.metrics.network.peer_received_failures.with_label_values(&[&name(peer_id)]).inc();
    }

    fn round_trip(&self, peer_id: u64, time: Duration) {
        self.metrics.network.peer_round_trip.with_label_values(&[&name(peer_id)]).observe(time.as_secs_f64());
    }

    fn snapshot_send_started(&self, peer_id: u64) {
        self.metrics.network.snapshot_send_inflights.with_label_values(&[&name(peer_id)]).inc();
    }

    fn snapshot_send_ended(&self, peer_id: u64, time: Duration, succeeded: bool) {
        let (network, peer) = (&self.metrics.network, name(peer_id));
        network.snapshot_send_inflights.with_label_values(&[&peer]).dec();
        let counter =
            if succeeded { &network.snapshot_send_success } else { &network.snapshot_send_failures };
        counter.with_label_values(&[&peer]).inc();
        network.snapshot_send_duration.with_label_values(&[&peer]).observe(time.as_secs_f64());
    }

    fn snapshot_receive_started(&self, peer_id: u64) {
        self.metrics.network.snapshot_receive_inflights.with_label_values(&[&name(peer_id)]).inc();
    }

    fn snapshot_receive_ended(&self, peer_id: u64, time: Duration, succeeded: bool) {
        let (network, peer) = (&self.metrics.network, name(peer_id));
        network.snapshot_receive_inflights.with_label_values(&[&peer]).dec();
        let counter =
            if succeeded { &network.snapshot_receive_success } else { &network.snapshot_receive_failures };
        counter.with_label_values(&[&peer]).inc();
        network.snapshot_receive_duration.with_label_values(&[&peer]).observe(time.as_secs_f64());
    }
}
