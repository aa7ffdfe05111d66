//! [`Config`]: every setting under its own type, defaults filled in. Rules between settings are in `validate`.

use std::path::PathBuf;
use std::time::Duration;

use super::gates::{self, FeatureGates};
use super::settings::Settings;
use super::urls::{self, Endpoint};
use super::{Refusal, duration};
use crate::discovery::registry::Discovery;

/// How automatic compaction chooses what to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// No automatic compaction.
    Off,
    /// Keep this much history by time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

/// A member's checked configuration. Field names are etcd's flag names.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this member.
    pub name: String,
    /// Root of all state.
    pub data_dir: PathBuf,
    /// Directory of the write-ahead log: its own, or `<data-dir>/member/wal`.
    pub wal_dir: PathBuf,
    /// `wal_dir` was given separately.
    pub dedicated_wal_dir: bool,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot.
    pub snapshot_catchup_entries: u64,
    /// One raft tick.
    pub heartbeat_interval: Duration,
    /// Election timeout.
    pub election_timeout: Duration,
    /// Skip forward to one tick before the election timeout at boot.
    pub initial_election_tick_advance: bool,
    /// Where peers are accepted.
    pub listen_peer_urls: Vec<Endpoint>,
    /// Where clients are accepted.
    pub listen_client_urls: Vec<Endpoint>,
    /// Listeners for HTTP alone; empty: HTTP is served beside gRPC.
    pub listen_client_http_urls: Vec<Endpoint>,
    /// Extra listeners for metrics and health.
    pub listen_metrics_urls: Vec<Endpoint>,
    /// Snapshot files kept; 0 keeps all.
    pub max_snapshots: u64,
    /// WAL segments kept; 0 keeps all.
    pub max_wals: u64,
    /// Quota in bytes; `None`: no quota.
    pub quota_backend_bytes: Option<u64>,
    /// Longest time before pending writes are committed.
    pub backend_batch_interval: Duration,
    /// Pending operations that trigger a commit.
    pub backend_batch_limit: usize,
    /// Operations in one list of a transaction.
    pub max_txn_ops: usize,
    /// Largest request in bytes.
    pub max_request_bytes: usize,
    /// HTTP/2 streams per connection.
    pub max_concurrent_streams: u32,
    /// Shortest period of client pings that is tolerated.
    pub grpc_keepalive_min_time: Duration,
    /// Period of server pings; zero: off.
    pub grpc_keepalive_interval: Duration,
    /// Wait for a ping's answer; zero: off.
    pub grpc_keepalive_timeout: Duration,
    /// `SO_REUSEPORT`.
    pub socket_reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub socket_reuse_address: bool,
    /// Serve the JSON gateway.
    pub enable_grpc_gateway: bool,
    /// Feature gates.
    pub feature_gates: FeatureGates,
    /// Keep the cluster and storage version that was found.
    pub hold_cluster_version: bool,
    /// Peer URLs told to the others.
    pub initial_advertise_peer_urls: Vec<Endpoint>,
    /// `name=url,…` as given, or made from name and advertised URLs.
    pub initial_cluster: String,
    /// The member joins a running cluster.
    pub join_existing: bool,
    /// Salt of ids.
    pub initial_cluster_token: String,
    /// The registry in which founders meet.
    pub discovery: Option<Discovery>,
    /// The domain whose SRV records name the founders.
    pub discovery_srv: Option<String>,
    /// Suffix of the SRV services' names; may be empty.
    pub discovery_srv_name: String,
    /// Client URLs published to the cluster.
    pub advertise_client_urls: Vec<Endpoint>,
    /// Refuse membership changes that would lose the quorum.
    pub strict_reconfig_check: bool,
    /// Raft pre-vote.
    pub pre_vote: bool,
    /// Automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// Learners allowed at the same time.
    pub max_learners: usize,
    /// Rewrite the membership to this node alone.
    pub force_new_cluster: bool,
    /// Allowed CORS origins; `*` alone allows all.
    pub cors: Vec<String>,
    /// Host names accepted in HTTP requests; `*` alone accepts all.
    pub host_whitelist: Vec<String>,
    /// Life of simple tokens.
    pub auth_token_ttl: Duration,
    /// Log targets.
    pub log_outputs: Vec<String>,
    /// Least severe level logged.
    pub log_level: String,
    /// `json` or `console`.
    pub log_format: String,
    /// Serve latency histograms per RPC.
    pub extensive_metrics: bool,
    /// Revisions deleted per compaction batch.
    pub compaction_batch_limit: usize,
    /// Pause between compaction batches.
    pub compaction_sleep_interval: Duration,
    /// Period of watch progress notifications.
    pub watch_progress_notify_interval: Duration,
    /// Warn when applying takes longer.
    pub warning_apply_duration: Duration,
    /// Warn when a request takes longer.
    pub warning_unary_request_duration: Duration,
    /// Defragment at start when at least this much would be freed; 0 = never.
    pub bootstrap_defrag_threshold_bytes: u64,
    /// Period of the full hash comparison; zero: off.
    pub corrupt_check_time: Duration,
    /// Period of the comparison of compaction hashes.
    pub compact_hash_check_time: Duration,
    /// Period of the downgrade monitor.
    pub downgrade_check_time: Duration,
    /// Never sync: a crash loses data.
    pub unsafe_no_fsync: bool,
}

impl Config {
    /// How long a request waits at most: 5 s and two election timeouts.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Ticks in an election timeout.
    #[must_use]
    pub fn election_ticks(&self) -> usize {
        usize::try_from(self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1))
            .unwrap_or(usize::MAX)
    }

    pub(crate) fn from_settings(s: &Settings) -> Result<Self, Refusal> {
        let name = s.text("name");
        let data_dir = PathBuf::from(or(s.text("data-dir"), || format!("{name}.etcd")));
        let wal_dir = s.text("wal-dir");
        let advertised_peers = endpoints(s, "initial-advertise-peer-urls")?;
        let initial_cluster = if s.is_set("initial-cluster") {
            s.text("initial-cluster")
        } else {
            advertised_peers.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
        };
        Ok(Self {
            dedicated_wal_dir: !wal_dir.is_empty(),
            wal_dir: if wal_dir.is_empty() { data_dir.join("member/wal") } else { wal_dir.into() },
            name,
            data_dir,
            snapshot_count: default_if_zero(s.uint("snapshot-count"), 10_000),
            snapshot_catchup_entries: default_if_zero(s.uint("snapshot-catchup-entries"), 5_000),
            heartbeat_interval: Duration::from_millis(s.uint("heartbeat-interval")),
            election_timeout: Duration::from_millis(s.uint("election-timeout")),
            initial_election_tick_advance: s.bool("initial-election-tick-advance"),
            listen_peer_urls: endpoints(s, "listen-peer-urls")?,
            listen_client_urls: endpoints(s, "listen-client-urls")?,
            listen_client_http_urls: endpoints(s, "listen-client-http-urls")?,
            listen_metrics_urls: endpoints(s, "listen-metrics-urls")?,
            max_snapshots: s.uint("max-snapshots"),
            max_wals: s.uint("max-wals"),
            quota_backend_bytes: match s.int("quota-backend-bytes") {
                0 => Some(2 << 30),
                n => u64::try_from(n).ok(),
            },
            backend_batch_interval: positive(s, "backend-batch-interval", Duration::from_millis(100)),
            backend_batch_limit: positive_count(s, "backend-batch-limit", 10_000),
            max_txn_ops: to_usize(s.uint("max-txn-ops")),
            max_request_bytes: to_usize(s.uint("max-request-bytes")),
            max_concurrent_streams: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
            grpc_keepalive_min_time: positive(s, "grpc-keepalive-min-time", Duration::ZERO),
            grpc_keepalive_interval: positive(s, "grpc-keepalive-interval", Duration::ZERO),
            grpc_keepalive_timeout: positive(s, "grpc-keepalive-timeout", Duration::ZERO),
            socket_reuse_port: s.bool("socket-reuse-port"),
            socket_reuse_address: s.bool("socket-reuse-address"),
            enable_grpc_gateway: s.bool("enable-grpc-gateway"),
            feature_gates: FeatureGates::new(
                gates::parse(&s.text("feature-gates")).map_err(Refusal::verify)?,
            ),
            hold_cluster_version: s.bool("hold-cluster-version"),
            initial_advertise_peer_urls: advertised_peers,
            initial_cluster,
            join_existing: s.text("initial-cluster-state") == "existing",
            initial_cluster_token: s.text("initial-cluster-token"),
            discovery: s.is_set("discovery-endpoints").then(|| discovery(s)),
            discovery_srv: Some(s.text("discovery-srv")).filter(|domain| !domain.is_empty()),
            discovery_srv_name: s.text("discovery-srv-name"),
            advertise_client_urls: endpoints(s, "advertise-client-urls")?,
            strict_reconfig_check: s.bool("strict-reconfig-check"),
            pre_vote: s.bool("pre-vote"),
            auto_compaction: auto_compaction(
                &s.text("auto-compaction-mode"),
                &s.text("auto-compaction-retention"),
            )?,
            max_learners: usize::try_from(s.int("max-learners")).unwrap_or(0),
            force_new_cluster: s.bool("force-new-cluster"),
            cors: words(&s.text("cors")),
            host_whitelist: words(&s.text("host-whitelist")),
            auth_token_ttl: Duration::from_secs(s.uint("auth-token-ttl")),
            log_outputs: s.list("log-outputs"),
            log_level: s.text("log-level"),
            log_format: s.text("log-format"),
            extensive_metrics: s.text("metrics") == "extensive",
            compaction_batch_limit: positive_count(s, "compaction-batch-limit", 1_000),
            compaction_sleep_interval: positive(s, "compaction-sleep-interval", Duration::from_millis(10)),
            watch_progress_notify_interval: positive(
                s,
                "watch-progress-notify-interval",
                Duration::from_secs(600),
            )
            .max(Duration::from_millis(100)),
            warning_apply_duration: positive(s, "warning-apply-duration", Duration::ZERO),
            warning_unary_request_duration: positive(
                s,
                "warning-unary-request-duration",
                Duration::from_millis(300),
            ),
            bootstrap_defrag_threshold_bytes: s
                .uint("bootstrap-defrag-threshold-megabytes")
                .saturating_mul(1 << 20),
            corrupt_check_time: positive(s, "corrupt-check-time", Duration::ZERO),
            compact_hash_check_time: positive(s, "compact-hash-check-time", Duration::ZERO),
            downgrade_check_time: positive(s, "downgrade-check-time", Duration::ZERO),
            unsafe_no_fsync: s.bool("unsafe-no-fsync"),
        })
    }
}

fn discovery(s: &Settings) -> Discovery {
    let (user, password) = (s.text("discovery-user"), s.text("discovery-password"));
    let user = match user.split_once(':') {
        Some((name, password)) => Some((name.to_owned(), password.to_owned())),
        None if user.is_empty() => None,
        None => Some((user, password)),
    };
    Discovery {
        endpoints: s.list("discovery-endpoints"),
        token: s.text("discovery-token"),
        dial_timeout: positive(s, "discovery-dial-timeout", Duration::from_secs(2)),
        request_timeout: positive(s, "discovery-request-timeout", Duration::from_secs(5)),
        keepalive: (
            positive(s, "discovery-keepalive-time", Duration::from_secs(2)),
            positive(s, "discovery-keepalive-timeout", Duration::from_secs(6)),
        ),
        user,
    }
}

fn or(text: String, default: impl FnOnce() -> String) -> String {
    if text.is_empty() { default() } else { text }
}

fn default_if_zero(n: u64, default: u64) -> u64 {
    if n == 0 { default } else { n }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A duration; zero and negative ones stand for `default`.
fn positive(s: &Settings, name: &str, default: Duration) -> Duration {
    match u64::try_from(s.nanos(name)) {
        Ok(0) | Err(_) => default,
        Ok(nanos) => Duration::from_nanos(nanos),
    }
}

fn positive_count(s: &Settings, name: &str, default: usize) -> usize {
    match usize::try_from(s.int(name)) {
        Ok(0) | Err(_) => default,
        Ok(n) => n,
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn endpoints(s: &Settings, name: &str) -> Result<Vec<Endpoint>, Refusal> {
    urls::parse_list(&s.list(name)).map_err(Refusal::verify)
}

fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, Refusal> {
    match mode {
        "periodic" | "revision" => {}
        "" => return Err(Refusal::verify("undefined auto-compaction-mode")),
        other => return Err(Refusal::verify(format!("unknown auto-compaction-mode {other:?}"))),
    }
    if retention.is_empty() {
        return Ok(AutoCompaction::Off);
    }
    // A plain number counts hours or revisions; anything else is a duration, in either mode.
    let nanos = match (retention.parse::<i64>(), mode) {
        (Ok(n), "revision") => n,
        (Ok(hours), _) => hours.saturating_mul(3600 * duration::SECOND),
        (Err(_), _) => duration::parse(retention).map_err(|e| {
            Refusal::fatal("discovery failed")
                .with("error", format!("error parsing CompactionRetention: {e}"))
        })?,
    };
    Ok(match (u64::try_from(nanos), mode) {
        (Ok(0) | Err(_), _) => AutoCompaction::Off,
        (Ok(_), "revision") => AutoCompaction::Revision(nanos),
        (Ok(nanos), _) => AutoCompaction::Periodic(Duration::from_nanos(nanos)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_hours_a_duration_or_revisions() {
        let hour = Duration::from_secs(3600);
        for (mode, retention, expected) in [
            ("periodic", "0", AutoCompaction::Off),
            ("periodic", "", AutoCompaction::Off),
            ("periodic", "2", AutoCompaction::Periodic(2 * hour)),
            ("periodic", "30m", AutoCompaction::Periodic(hour / 2)),
            ("revision", "1000", AutoCompaction::Revision(1000)),
            ("revision", "1h", AutoCompaction::Revision(3_600_000_000_000)),
        ] {
            assert_eq!(auto_compaction(mode, retention).unwrap(), expected, "{mode} {retention}");
        }
        let err = auto_compaction("periodic", "foo").unwrap_err();
        assert_eq!(err.fields[0].1, "error parsing CompactionRetention: time: invalid duration \"foo\"");
        assert_eq!(
            auto_compaction("foo", "1").unwrap_err().fields[0].1,
            "unknown auto-compaction-mode \"foo\""
        );
    }
}
