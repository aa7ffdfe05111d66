//! Every family that dashboards, alert rules and operators read moves when the member does what it counts.

use std::collections::BTreeMap;
use std::time::Instant;

use stanchion_api::etcdserverpb as pb;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use super::process::{PATIENCE, Server};

/// The sum over all labels of each sample name.
fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.split('{').next().unwrap();
        *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
    }
    sums
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: "value".into(), ..Default::default() }
}

async fn work(channel: Channel, server: &Server) {
    use pb::request_op::Request;
    use pb::watch_request::RequestUnion::CreateRequest;
    let mut kv = pb::kv_client::KvClient::new(channel.clone());
    let mut watch = pb::watch_client::WatchClient::new(channel.clone());
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let requests = tokio_stream::iter([pb::WatchRequest { request_union: Some(CreateRequest(create)) }])
        .chain(tokio_stream::pending());
    let mut events = watch.watch(requests).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().unwrap().created);
    kv.put(put("k")).await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().events.len(), 1);
    kv.range(pb::RangeRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    let op = |key| pb::RequestOp { request: Some(Request::RequestPut(put(key))) };
    kv.txn(pb::TxnRequest { success: vec![op("a"), op("b")], ..Default::default() }).await.unwrap();
    kv.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    kv.compact(pb::CompactionRequest { revision: 3, physical: true }).await.unwrap();

    let mut leases = pb::lease_client::LeaseClient::new(channel.clone());
    let grant = pb::LeaseGrantRequest { id: 77, ttl: 600 };
    leases.lease_grant(grant).await.unwrap();
    let renew = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 77 }]);
    let mut renewed = leases.lease_keep_alive(renew).await.unwrap().into_inner();
    assert_eq!(renewed.message().await.unwrap().unwrap().ttl, 600);
    leases.lease_revoke(pb::LeaseRevokeRequest { id: 77 }).await.unwrap();

    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(channel);
    maintenance.hash(pb::HashRequest {}).await.unwrap();
    maintenance.hash_kv(pb::HashKvRequest::default()).await.unwrap();
    let mut image = maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    while image.message().await.unwrap().is_some() {}
    let alarm = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    maintenance.alarm(alarm).await.unwrap();
    assert_eq!(server.get("/health").0, 503);
    assert_eq!(server.get("/readyz").0, 200);
    maintenance.alarm(pb::AlarmRequest { action: 2, ..alarm }).await.unwrap();
    assert_eq!(server.get("/health").0, 200);
}

/// What must have risen.
const RISING: &[&str] = &[
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_slow_apply_total",
    "etcd_server_apply_duration_seconds_count",
    "etcd_server_range_duration_seconds_count",
    "etcd_server_request_duration_seconds_count",
    "etcd_server_client_requests_total",
    "etcd_server_health_success",
    "etcd_server_health_failures",
    "etcd_server_healthchecks_total",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_wal_write_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
    "etcd_disk_backend_commit_duration_seconds_count",
    "etcd_disk_backend_snapshot_duration_seconds_count",
    "etcd_mvcc_range_total",
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_mvcc_hash_duration_seconds_count",
    "etcd_mvcc_hash_rev_duration_seconds_count",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total_count",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "grpc_server_handling_seconds_count",
    "promhttp_metric_handler_requests_total",
];

/// What must be there with a value that is not 0.
const PRESENT: &[&str] = &[
    "etcd_cluster_version",
    "etcd_server_version",
    "etcd_server_id",
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_quota_backend_bytes",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_network_known_peers",
    "process_resident_memory_bytes",
];

#[tokio::test]
async fn families_move_with_what_they_count() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--metrics=extensive", "--warning-apply-duration=1ns"]);
    let before = scrape(&server);
    let channel =
        Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    work(channel, &server).await;
    let value = |of: &BTreeMap<String, f64>, name: &str| of.get(name).copied().unwrap_or(0.0);
    // Some are counted in the background, right after the answer: nobody is told when, so they are asked for again.
    let deadline = Instant::now() + PATIENCE;
    let after = loop {
        let after = scrape(&server);
        let still: Vec<_> =
            RISING.iter().filter(|name| value(&after, name) <= value(&before, name)).collect();
        if still.is_empty() {
            break after;
        }
        assert!(Instant::now() < deadline, "{still:?} did not rise");
    };
    for name in PRESENT {
        assert!(value(&after, name) > 0.0, "{name} shows nothing");
    }
    // The slow line has the request without its value.
    let line = server.wait_for_line("apply request took too long");
    assert!(line.contains("expected-duration"), "{line}");
}
