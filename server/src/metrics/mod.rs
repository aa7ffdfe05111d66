//! Metrics under etcd's names, types and labels, so that its dashboards and alert rules work unchanged.
//!
//! What lives here: the families and how they are rendered. What may not: when something is counted; that is said
//! where it happens. Go's runtime families (`go_*`) are left out: no stock dashboard or rule reads them, and invented
//! values would mislead.

mod backend;
mod buckets;
mod debugging;
mod disk;
mod grpc;
mod mvcc;
mod network;
mod process;
mod registrar;
mod server;

pub use backend::{Backend, Snap};
pub use debugging::Debugging;
pub use disk::Wal;
pub use grpc::{Grpc, Method};
pub use mvcc::Mvcc;
pub use network::Network;
pub use server::{Health, Server};

use prometheus::{Encoder as _, IntCounterVec, IntGauge, Registry, TextEncoder};

use registrar::Registrar;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// All families of one member. Handles are shared: cloning a counter counts the same thing.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `etcd_server_*` and `etcd_cluster_version`.
    pub server: Server,
    /// Results of `/health`, `/livez` and `/readyz`.
    pub health: Health,
    /// `etcd_disk_wal_*`.
    pub wal: Wal,
    /// `etcd_disk_backend_*`.
    pub backend: Backend,
    /// `etcd_snap_*`.
    pub snap: Snap,
    /// `etcd_mvcc_*`.
    pub mvcc: Mvcc,
    /// `etcd_network_*`.
    pub network: Network,
    /// `etcd_debugging_*`.
    pub debugging: Debugging,
    /// `grpc_server_*`.
    pub grpc: Grpc,
    scrapes_in_flight: IntGauge,
    scrapes: IntCounterVec,
}

impl Metrics {
    /// Registers every family. With `extensive` (`--metrics=extensive`) gRPC latencies are kept too.
    ///
    /// # Errors
    /// Two families share a name: a mistake in this module.
    pub fn new(extensive: bool) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = Registrar::new(&registry);
        registry.register(Box::new(process::Process::new()?))?;
        let scrapes = r.counters(
            "promhttp_metric_handler_requests_total",
            "Total number of scrapes by HTTP status code.",
            &["code"],
        )?;
        for code in ["200", "500", "503"] {
            scrapes.with_label_values(&[code]);
        }
        Ok(Self {
            server: Server::register(&r)?,
            health: Health::register(&r)?,
            wal: Wal::register(&r)?,
            backend: Backend::register(&r)?,
            snap: Snap::register(&r)?,
            mvcc: Mvcc::register(&r)?,
            network: Network::register(&r)?,
            debugging: Debugging::register(&r)?,
            grpc: Grpc::register(&r, extensive)?,
            scrapes_in_flight: r.gauge(
                "promhttp_metric_handler_requests_in_flight",
                "Current number of scrapes being served.",
            )?,
            scrapes,
            registry,
        })
    }

    /// All families that have a value, in Prometheus' text format.
    ///
    /// # Errors
    /// A family that cannot be written.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        self.scrapes_in_flight.inc();
        let mut text = Vec::with_capacity(64 << 10);
        let result = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        self.scrapes_in_flight.dec();
        self.scrapes.with_label_values(&[if result.is_ok() { "200" } else { "500" }]).inc();
        result.map(|()| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    /// What the stock dashboards and alert rules select, with the type that their functions need.
    const DASHBOARDS_AND_ALERTS: &[(&str, &str)] = &[
        ("etcd_server_has_leader", "gauge"),
        ("etcd_server_leader_changes_seen_total", "counter"),
        ("etcd_server_proposals_committed_total", "gauge"),
        ("etcd_server_proposals_applied_total", "gauge"),
        ("etcd_server_proposals_pending", "gauge"),
        ("etcd_server_proposals_failed_total", "counter"),
        ("etcd_server_quota_backend_bytes", "gauge"),
        ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
        ("etcd_disk_backend_commit_duration_seconds", "histogram"),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge"),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"),
        ("etcd_network_peer_sent_bytes_total", "counter"),
        ("etcd_network_peer_received_bytes_total", "counter"),
        ("etcd_network_peer_sent_failures_total", "counter"),
        ("etcd_network_peer_round_trip_time_seconds", "histogram"),
        ("etcd_network_client_grpc_sent_bytes_total", "counter"),
        ("etcd_network_client_grpc_received_bytes_total", "counter"),
        ("grpc_server_started_total", "counter"),
        ("grpc_server_handled_total", "counter"),
        ("grpc_server_handling_seconds", "histogram"),
        ("process_resident_memory_bytes", "gauge"),
    ];

    #[test]
    fn all_that_dashboards_and_alerts_read_is_there_with_its_type() {
        let metrics = Metrics::new(true).unwrap();
        metrics.network.peer_sent_bytes.with_label_values(&["a1"]).inc();
        metrics.network.peer_received_bytes.with_label_values(&["a1"]).inc();
        metrics.network.peer_sent_failures.with_label_values(&["a1"]).inc();
        metrics.network.peer_round_trip.with_label_values(&["a1"]).observe(0.001);
        let text = rendered(&metrics);
        for (name, kind) in DASHBOARDS_AND_ALERTS {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is not a {kind}");
        }
    }

    #[test]
    fn labelled_families_are_absent_until_used() {
        let metrics = Metrics::new(false).unwrap();
        assert!(!rendered(&metrics).contains("etcd_network_active_peers"));
        metrics.network.active_peers.with_label_values(&["1", "2"]).set(1);
        assert!(rendered(&metrics).contains("etcd_network_active_peers{Local=\"1\",Remote=\"2\"} 1\n"));
    }

    #[test]
    fn grpc_methods_are_known_before_their_first_call_with_all_codes() {
        let text = rendered(&Metrics::new(false).unwrap());
        let puts = text.lines().filter(|line| {
            line.starts_with("grpc_server_handled_total{") && line.contains("grpc_method=\"Put\"")
        });
        assert_eq!(puts.count(), 17);
        assert!(text.contains(
            "grpc_server_started_total{grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0\n"
        ));
        // Lock and Election appear with their first call, latencies only in the extensive mode.
        assert!(!text.contains("v3lockpb.Lock"));
        assert!(!text.contains("grpc_server_handling_seconds"));
    }

    #[test]
    fn a_call_is_counted_where_its_method_is() {
        let metrics = Metrics::new(true).unwrap();
        let lock = metrics.grpc.method("/v3lockpb.Lock/Lock");
        lock.started.inc();
        lock.handled(5, 0.25);
        let text = rendered(&metrics);
        let labels = "grpc_method=\"Lock\",grpc_service=\"v3lockpb.Lock\",grpc_type=\"unary\"";
        assert!(text.contains(&format!("grpc_server_started_total{{{labels}}} 1\n")));
        assert!(text.contains(
            "grpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"Lock\",grpc_service=\"v3lockpb.Lock\",grpc_type=\"unary\"} 1\n"
        ));
        assert!(text.contains(&format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.25\"}} 1\n")));
        assert!(text.contains(&format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.1\"}} 0\n")));
    }

    #[test]
    fn a_scrape_counts_itself_for_the_next_one() {
        let metrics = Metrics::new(false).unwrap();
        assert!(rendered(&metrics).contains("promhttp_metric_handler_requests_total{code=\"200\"} 0\n"));
        assert!(rendered(&metrics).contains("promhttp_metric_handler_requests_total{code=\"200\"} 1\n"));
    }
}
