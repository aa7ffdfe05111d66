//! Calls by gRPC method, code and kind of stream.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Result};

use super::buckets;
use super::registrar::Registrar;

/// gRPC's status codes in numeric order, as metrics spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Methods that are shown before they are first called; unary unless [`stream_kind`] knows better.
const KNOWN: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV", &["Range", "RangeStream", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
    ),
    ("etcdserverpb.Cluster", &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"]),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &["Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade"],
    ),
    ("grpc.health.v1.Health", &["Check", "List", "Watch"]),
];

fn stream_kind(service: &str, method: &str) -> &'static str {
    match (service, method) {
        ("etcdserverpb.Watch", "Watch") | ("etcdserverpb.Lease", "LeaseKeepAlive") => "bidi_stream",
        ("etcdserverpb.KV", "RangeStream")
        | ("etcdserverpb.Maintenance", "Snapshot")
        | ("grpc.health.v1.Health", "Watch")
        | ("v3electionpb.Election", "Observe") => "server_stream",
        _ => "unary",
    }
}

/// `grpc_server_*`.
pub struct Grpc {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    seconds: Option<HistogramVec>,
    /// Handles by path, only looked up; looking up label values for each call would hash them four times.
    methods: RwLock<HashMap<String, Arc<Method>>>,
}

/// The handles of one method.
pub struct Method {
    /// Calls begun.
    pub started: IntCounter,
    /// Messages of the client.
    pub received: IntCounter,
    /// Messages to the client.
    pub sent: IntCounter,
    handled: [IntCounter; 17],
    seconds: Option<Histogram>,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("methods", &self.methods.read().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("started", &self.started.get()).finish_non_exhaustive()
    }
}

impl Method {
    /// Counts the end of a call by its numeric gRPC code (what is not one counts as `Unknown`) and, in the extensive
    /// mode, its duration in seconds.
    pub fn handled(&self, code: i32, seconds: f64) {
        const UNKNOWN: usize = 2;
        let code = usize::try_from(code).ok().filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN);
        self.handled[code].inc();
        if let Some(histogram) = &self.seconds {
            histogram.observe(seconds);
        }
    }
}

impl Grpc {
    pub(super) fn register(r: &Registrar<'_>, extensive: bool) -> Result<Self> {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        let with_code = ["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        let seconds = extensive.then(|| {
            r.histograms(
                "grpc_server_handling_seconds",
                "Seconds of a call on the server.",
                &labels,
                buckets::grpc(),
            )
        });
        let families = Self {
            started: r.counters("grpc_server_started_total", "Calls started on the server.", &labels)?,
            handled: r.counters(
                "grpc_server_handled_total",
                "Calls completed on the server, regardless of success or failure.",
                &with_code,
            )?,
            received: r.counters(
                "grpc_server_msg_received_total",
                "Messages received from clients on the server.",
                &labels,
            )?,
            sent: r.counters(
                "grpc_server_msg_sent_total",
                "Messages sent to clients by the server.",
                &labels,
            )?,
            seconds: seconds.transpose()?,
            methods: RwLock::default(),
        };
        for (service, methods) in KNOWN {
            for method in *methods {
                let _ = families.method(&format!("/{service}/{method}"));
            }
        }
        Ok(families)
    }

    /// The handles of the method with this request path (`/etcdserverpb.KV/Put`).
    ///
    /// Call it for methods that exist only: each path that it is given is kept for ever.
    #[must_use]
    pub fn method(&self, path: &str) -> Arc<Method> {
        if let Some(method) = self.methods.read().get(path) {
            return method.clone();
        }
        let made = Arc::new(self.make(path));
        self.methods.write().entry(path.to_owned()).or_insert(made).clone()
    }

    fn make(&self, path: &str) -> Method {
        let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or(("unknown", path));
        let kind = stream_kind(service, method);
        let labels = [method, service, kind];
        Method {
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: CODES.map(|code| self.handled.with_label_values(&[code, method, service, kind])),
            seconds: self.seconds.as_ref().map(|histograms| histograms.with_label_values(&labels)),
        }
    }
}
