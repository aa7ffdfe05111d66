//! The network front: gRPC, the JSON gateway and the plain HTTP endpoints of the client port, over a
//! [`MemberHandle`]. Form, limits and texts are checked here; engines, log and store are not known here.

mod auth;
mod calls;
mod check;
mod cluster;
mod codec;
mod concurrency;
mod crew;
mod debug;
mod door;
mod downgrade;
mod gateway;
mod gathered;
mod grpc;
mod grpc_health;
mod health;
mod http;
mod kv;
mod lanes;
mod lease;
mod maintenance;
mod message;
mod pings;
mod routes;
mod serve;
mod watch;
mod websocket;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::Status;
use tonic_health::server::HealthReporter;

use crate::logging::Control;
use crate::member::{Encoded, MemberHandle};
use crate::metrics::Metrics;

pub use lanes::Lanes;
pub use serve::{Listener, Offer, serve};

/// Limits and intervals of the front, as configured.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `--max-request-bytes`: largest wrapped request in bytes.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-concurrent-streams` per connection.
    pub max_concurrent_streams: u32,
    /// `--experimental-watch-progress-notify-interval` and its successor.
    pub watch_progress_interval: Duration,
    /// Election timeout; streams that need a leader look for one this often.
    pub election_timeout: Duration,
    /// Longest wait of a health check.
    pub request_timeout: Duration,
    /// Gate `StopGRPCServiceOnDefrag`: the health service says no while a defragmentation runs.
    pub stop_on_defrag: bool,
    /// `--warning-unary-request-duration`: calls with one answer that take longer are worth a line.
    pub warn_unary: Duration,
    /// `--grpc-keepalive-min-time`: clients that ping more often are sent away.
    pub keepalive_min: Duration,
    /// Pings to an idle connection; `None` switches them off.
    pub keepalive_interval: Option<Duration>,
    /// How long an answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// `--cors`: allowed origins; empty or `*` = all.
    pub cors: Vec<String>,
    /// `--host-whitelist`: accepted hosts without TLS; empty or `*` = all.
    pub host_whitelist: Vec<String>,
    /// `--enable-grpc-gateway`.
    pub gateway: bool,
}

/// What a message may exceed `--max-request-bytes` by, in bytes.
const GRPC_OVERHEAD: usize = 512 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            watch_progress_interval: Duration::from_secs(600),
            election_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(7),
            stop_on_defrag: false,
            warn_unary: Duration::from_millis(300),
            keepalive_min: Duration::from_secs(5),
            keepalive_interval: Some(Duration::from_secs(7200)),
            keepalive_timeout: Duration::from_secs(20),
            cors: vec!["*".into()],
            host_whitelist: vec!["*".into()],
            gateway: true,
        }
    }
}

impl Limits {
    /// Largest gRPC message that is accepted, and smallest watch response that is split, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes + GRPC_OVERHEAD
    }
}

/// Everything that a request may need.
pub struct Front {
    member: MemberHandle,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// What `grpc.health.v1` says; serving from the start.
    health: HealthReporter,
    lanes: Lanes,
    /// The log of this process, if it has one.
    log: Option<Control>,
}

impl Front {
    /// A front over `member` that serves on `lanes`, counts in `metrics` and shows `log`.
    pub fn new(
        member: MemberHandle,
        limits: Limits,
        metrics: Arc<Metrics>,
        lanes: Lanes,
        log: Option<Control>,
    ) -> Arc<Self> {
        Arc::new(Front { member, limits, metrics, health: HealthReporter::new(), lanes, log })
    }

    /// All metric families in Prometheus' text format, the gauges as of now.
    fn metrics_text(&self) -> Vec<u8> {
        self.member.refresh(&self.metrics);
        self.metrics.render().unwrap_or_else(|error| format!("# {error}\n").into_bytes())
    }
}

/// A request, decoded for checking, beside the bytes that it came in.
#[derive(Debug, Clone)]
struct Raw<M> {
    message: M,
    bytes: Bytes,
}

type Inbound<M> = Pin<Box<dyn Stream<Item = Result<Raw<M>, Status>> + Send>>;
type Outbound<M> = Pin<Box<dyn Stream<Item = Result<Encoded<M>, Status>> + Send>>;
