//! A member from its configuration to its end: logging, threads, listeners, readiness, signals.
//!
//! What may not live here: what the threads do (`runtime`) and what requests mean (`front`).

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use prost::Message as _;
use stanchion_api::membershippb;
use stanchion_api::raft_request::RequestKind;
use stanchion_disk::RealDisk;
use stanchion_replica::ReleasePolicy;
use stanchion_replica::boot::{Bootstrap, Layout, NewCluster};
use stanchion_replica::journal::Retention;
use stanchion_wal as wal;
use tokio::task::JoinSet;

use crate::auto_compaction;
use crate::config::{Config, ETCD_VERSION, GATES, Notice, Stage};
use crate::discovery;
use crate::front::{Front, Lanes, Limits, serve};
use crate::lifecycle::{Signals, Stop, notify_ready};
use crate::listeners::{self, Bound};
use crate::logging::{Control, Format, Logging, parse_level};
use crate::member::{Caller, MemberHandle};
use crate::metrics::Metrics;
use crate::peers::{self, PeersConfig};
use crate::refusal;
use crate::runtime::{CorruptionChecks, Runtime, RuntimeConfig, StartError};

/// Runs a member until it is told to stop.
///
/// # Errors
/// What keeps it from starting, with what to look at.
pub fn run(config: &Config, notices: &[Notice]) -> Result<Stop> {
    let format = if config.log_format == "console" { Format::Console } else { Format::Json };
    let level =
        parse_level(&config.log_level).with_context(|| format!("unknown log level {}", config.log_level))?;
    let logging = Logging::start(&config.log_outputs, format, level).context("logging cannot start")?;
    notices.iter().for_each(log_notice);
    let tokio =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no worker threads")?;
    tokio.block_on(serve_member(config, logging.control()))
}

fn log_notice(notice: &Notice) {
    let more_fields = serde_json::json!(notice.fields).to_string();
    if notice.warning {
        tracing::warn!(more_fields, "{}", notice.message);
    } else {
        tracing::info!(more_fields, "{}", notice.message);
    }
}

async fn serve_member(config: &Config, log: Control) -> Result<Stop> {
    let mut signals = Signals::install().context("signals cannot be handled")?;
    // Bound before the data is touched: a port in use is found at once.
    let listeners = listeners::bind(config)?;
    let peer_listeners = listeners::bind_for_peers(config)?;
    let metrics = Arc::new(Metrics::new(config.extensive_metrics).context("metrics")?);
    let (bootstrap, acquainted) = begin(config).await?;
    let runtime = Runtime::start(runtime_config(config, bootstrap, acquainted)?, &metrics)
        .await
        .map_err(|error| refused_start(error, &config.data_dir))?;
    let member = runtime.member();
    name_member(&metrics, config, member.standing().member_id);
    for listener in peer_listeners {
        tokio::spawn(runtime.peer_server().serve(listener, std::future::pending()));
    }
    let stopped = tokio::select! {
        published = publish(&member, config) => { published?; None }
        stop = signals.stop() => Some(Ok(stop)),
        () = runtime.removed() => Some(Ok(Stop::Removed)),
        other = peers::await_other_cluster(&member) => Some(Err(other.into())),
    };
    if let Some(stop) = stopped {
        runtime.stop();
        return stop;
    }
    if let Err(error) = runtime.keep_versions().await {
        tracing::warn!(%error, "failed to update cluster version");
    }

    runtime.keep_comparing(corruption_checks(config));
    defragment_at_start(&member, config).await;
    let compacting = tokio::spawn(auto_compaction::run(config.auto_compaction, member.clone()));
    // Clients, peers and the member's own threads need the other cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let lanes = Lanes::start(cores.div_ceil(2)).context("no serving threads")?;
    let front = Front::new(member, limits(config), metrics, lanes, Some(log));
    let (stop_serving, stopping) = tokio::sync::watch::channel(false);
    let mut serving = JoinSet::new();
    tracing::info!("ready to serve client requests");
    let addresses: Vec<String> = listeners.iter().map(|bound| bound.address.clone()).collect();
    for Bound { listener, offer, address } in listeners {
        tracing::info!(
            traffic = offer.traffic(),
            address,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
        serving.spawn(serve(front.clone(), listener, offer, stopping.clone()));
    }
    greet(config, &addresses);
    if let Err(error) = notify_ready() {
        tracing::warn!(%error, "the service manager could not be told");
    }
    let stop = tokio::select! {
        stop = signals.stop() => stop,
        () = runtime.removed() => Stop::Removed,
    };
    tracing::info!(signal = stop.name(), "received signal; shutting down");
    compacting.abort();
    if let Some(handing_over) = runtime.hand_over_leadership() {
        // The others elect one of them anyway, only later.
        let handed = tokio::time::timeout(config.election_timeout * 2, handing_over).await;
        if let Err(error) = handed.unwrap_or(Err(refusal::TRANSFER_TIMEOUT)) {
            tracing::warn!(%error, "leadership could not be handed over");
        }
    }
    // Nobody may listen any more: that ends the wait too.
    let _ = stop_serving.send(true);
    let drained = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(config.request_timeout(), drained).await.is_err() {
        tracing::warn!("clients were still connected at the end");
    }
    runtime.stop();
    Ok(stop)
}

/// What keeps a member from starting on its directory, and what to do about it.
fn refused_start(error: StartError, data_dir: &Path) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let denied = error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
    });
    let advice = if chain.iter().any(|text| text.contains("locked")) {
        "; another process uses this data directory: stop it, or choose another --data-dir"
    } else if denied {
        "; the directory belongs to another user: run as that one, or hand it over (chown -R)"
    } else {
        ""
    };
    error.context(format!("the member cannot start on {}{advice}", data_dir.display()))
}

/// `--bootstrap-defrag-threshold-megabytes`: a file with more free space than that is made smaller before anybody is
/// served.
async fn defragment_at_start(member: &MemberHandle, config: &Config) {
    let threshold = config.bootstrap_defrag_threshold_bytes;
    let free = match member.status().await {
        Ok(status) => u64::try_from(status.db_size - status.db_size_in_use).unwrap_or(0),
        Err(_) => return,
    };
    if threshold == 0 {
        return;
    }
    if free < threshold {
        tracing::info!(free, threshold, "Skipping defragmentation");
    } else if let Err(error) = member.defragment().await {
        tracing::warn!(%error, "failed to defragment at start");
    }
}

/// Somebody who starts a member by hand sees at a glance where it is; harnesses and services read the log.
fn greet(config: &Config, addresses: &[String]) {
    if std::io::stderr().is_terminal() {
        let line = format!(
            "stanchion {ETCD_VERSION} serves on {} with its data in {}; try: etcdctl put greeting hello\n",
            addresses.join(", "),
            config.data_dir.display()
        );
        // A terminal that is gone misses nothing else.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Gauges that stay as they are for the life of the process.
fn name_member(metrics: &Metrics, config: &Config, member_id: u64) {
    metrics.server.version.with_label_values(&[ETCD_VERSION]).set(1);
    metrics.server.id.with_label_values(&[format!("{member_id:x}").as_str()]).set(1);
    for (name, stage, _) in GATES {
        let stage = match stage {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        };
        let on = config.feature_gates.enabled(name);
        metrics.server.feature_enabled.with_label_values(&[name, stage]).set(i64::from(on));
    }
}

/// How a member without a log begins, and whom it knows of: what its cluster says of it if one is running.
async fn begin(config: &Config) -> Result<(Bootstrap, Vec<(u64, Vec<String>)>)> {
    let has_log = wal::exists(&RealDisk, &Layout::new(&config.data_dir, Some(&config.wal_dir)).wal);
    let has_log = has_log.with_context(|| format!("the log {} cannot be read", config.wal_dir.display()))?;
    if has_log {
        return Ok((
            Bootstrap::New(new_cluster(config, &config.initial_cluster, &config.initial_cluster_token)),
            Vec::new(),
        ));
    }
    let (list, token) = discovery::initial_cluster(config).await?;
    let given = new_cluster(config, &list, &token);
    if config.join_existing {
        let joined = peers::join(&given, config.max_learners).await?;
        let id = format!("{:x}", joined.identity.member_id);
        tracing::info!(local_member_id = id, members = joined.others.len() + 1, "joining a running cluster");
        return Ok((Bootstrap::Join(joined.identity), joined.others));
    }
    // A wrong list is refused where it is used.
    let Ok(identity) = given.identity() else { return Ok((Bootstrap::New(given), Vec::new())) };
    peers::check_new(&given, identity.member_id).await?;
    match discovery::await_founders(config, identity.member_id).await {
        Ok(Some(list)) => Ok((Bootstrap::New(new_cluster(config, &list, &token)), Vec::new())),
        Ok(None) => Ok((Bootstrap::New(given), Vec::new())),
        Err(error) => {
            tracing::warn!(token, "failed to bootstrap; discovery token was already used");
            tracing::warn!("do not reuse discovery token; generate a new one to bootstrap a cluster");
            Err(anyhow::Error::from(error).context("failed to join discovery cluster"))
        }
    }
}

fn runtime_config(
    config: &Config,
    bootstrap: Bootstrap,
    acquainted: Vec<(u64, Vec<String>)>,
) -> Result<RuntimeConfig> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let checkpoints = config.feature_gates.enabled("LeaseCheckpoint");
    Ok(RuntimeConfig {
        data_dir: config.data_dir.clone(),
        wal_dir: config.dedicated_wal_dir.then(|| config.wal_dir.clone()),
        bootstrap,
        tick: config.heartbeat_interval,
        election_ticks: u32::try_from(config.election_ticks()).context("--election-timeout")?,
        request_timeout: config.request_timeout(),
        max_request_bytes: config.max_request_bytes,
        quota_bytes: config.quota_backend_bytes,
        max_learners: config.max_learners,
        pre_vote: config.pre_vote,
        release: ReleasePolicy {
            snapshot_count: config.snapshot_count,
            catch_up_entries: config.snapshot_catchup_entries,
            ..ReleasePolicy::default()
        },
        retention: Retention { segments: count(config.max_wals), snapshots: count(config.max_snapshots) },
        commit_interval: config.backend_batch_interval,
        commit_changes: config.backend_batch_limit,
        compaction_batch: config.compaction_batch_limit,
        compaction_pause: config.compaction_sleep_interval,
        lease_checkpoint_interval: checkpoints.then_some(Duration::from_secs(300)),
        unsafe_no_fsync: config.unsafe_no_fsync,
        force_new_cluster: config.force_new_cluster,
        strict_reconfig_check: config.strict_reconfig_check,
        warning_apply_duration: config.warning_apply_duration,
        hold_cluster_version: config.hold_cluster_version,
        corruption: corruption_checks(config),
        initial_election_tick_advance: config.initial_election_tick_advance,
        peers: PeersConfig {
            advertised: config.initial_advertise_peer_urls.iter().map(ToString::to_string).collect(),
            acquainted,
            election: config.election_timeout,
            request_timeout: config.request_timeout(),
        },
        unix_millis: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
    })
}

fn corruption_checks(config: &Config) -> CorruptionChecks {
    let gates = &config.feature_gates;
    CorruptionChecks {
        initial: gates.enabled("InitialCorruptCheck"),
        period: (!config.corrupt_check_time.is_zero()).then_some(config.corrupt_check_time),
        compaction_period: gates.enabled("CompactHashCheck").then_some(config.compact_hash_check_time),
    }
}

/// A count of files; beyond what can be counted is as good as all.
fn count(files: u64) -> usize {
    usize::try_from(files).unwrap_or(usize::MAX)
}

/// `name=url,name=url,…`; a name that comes again adds a URL to its member.
fn new_cluster(config: &Config, list: &str, token: &str) -> NewCluster {
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    for (name, url) in list.split(',').filter_map(|item| item.trim().split_once('=')) {
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, urls)) => urls.push(url.to_owned()),
            None => members.push((name.to_owned(), vec![url.to_owned()])),
        }
    }
    NewCluster { token: token.to_owned(), members, name: config.name.clone() }
}

fn limits(config: &Config) -> Limits {
    let set = |duration: Duration| (!duration.is_zero()).then_some(duration);
    Limits {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        max_concurrent_streams: config.max_concurrent_streams,
        watch_progress_interval: config.watch_progress_notify_interval,
        election_timeout: config.election_timeout,
        request_timeout: config.request_timeout(),
        stop_on_defrag: config.feature_gates.enabled("StopGRPCServiceOnDefrag"),
        warn_unary: config.warning_unary_request_duration,
        keepalive_min: config.grpc_keepalive_min_time,
        keepalive_interval: set(config.grpc_keepalive_interval),
        keepalive_timeout: set(config.grpc_keepalive_timeout).unwrap_or(Duration::from_secs(20)),
        cors: config.cors.clone(),
        host_whitelist: config.host_whitelist.clone(),
        gateway: config.enable_grpc_gateway,
    }
}

/// Tells the cluster this member's name and client URLs through the log, until that is applied. Only then are
/// clients served.
async fn publish(member: &MemberHandle, config: &Config) -> Result<()> {
    let attributes = membershippb::Attributes {
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
    };
    let member_id = member.standing().member_id;
    let request =
        membershippb::ClusterMemberAttrSetRequest { member_id, member_attributes: Some(attributes) }
            .encode_to_vec();
    while let Err(refusal) =
        member.propose(Caller::default(), RequestKind::ClusterMemberAttrSet, request.clone().into()).await
    {
        tracing::warn!(error = %refusal, "failed to publish local member to cluster through raft");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tracing::info!("published local member to cluster through raft");
    Ok(())
}
