//! What the threads count and measure, under the names that `metrics` gives it; and the line about what was slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prometheus::Histogram;
use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::response_op::Response;
use stanchion_api::raft_request::{RaftRequest, RequestKind};
use stanchion_raft::Entry;
use stanchion_replica::apply::{Effect, Reply};

use crate::config::format_duration;
use crate::metrics::Metrics;

/// Kinds of requests as `op` and `type` labels spell them; anything that goes through the log can be one.
fn label(kind: RequestKind) -> String {
    format!("{kind:?}")
}

/// What the applier counts.
pub(super) struct ApplyFigures {
    metrics: Arc<Metrics>,
    /// By kind and success: looking a label up for each entry would cost more than the entry.
    durations: BTreeMap<(RequestKind, bool), Histogram>,
    warn_after: Duration,
    /// When the entry before this one was done.
    since: Instant,
}

impl ApplyFigures {
    pub(super) fn new(metrics: Arc<Metrics>, warn_after: Duration) -> ApplyFigures {
        ApplyFigures { metrics, durations: BTreeMap::new(), warn_after, since: Instant::now() }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// An entry is applied.
    pub(super) fn applied(&mut self, entry: &Entry, effect: Option<&Effect>) {
        let now = Instant::now();
        let took = now.duration_since(std::mem::replace(&mut self.since, now));
        let Some(effect) = effect else { return };
        let Some(kind) = effect.kind else { return };
        let success = effect.result.is_ok();
        let metrics = &self.metrics;
        let histogram = self.durations.entry((kind, success)).or_insert_with(|| {
            let labels = ["v3", &label(kind), if success { "true" } else { "false" }];
            metrics.server.apply_duration.with_label_values(&labels)
        });
        histogram.observe(took.as_secs_f64());
        self.count(effect);
        if took > self.warn_after {
            self.metrics.server.slow_apply.inc();
            warn_slow(took, self.warn_after, "", &request_text(entry), &response_text(effect));
        }
    }

    fn count(&self, effect: &Effect) {
        let (mvcc, debugging) = (&self.metrics.mvcc, &self.metrics.debugging);
        debugging.put_size.add(effect.put_bytes.cast_signed());
        match &effect.result {
            Ok(Reply::Put(_)) => mvcc.puts.inc(),
            Ok(Reply::DeleteRange(_)) => mvcc.deletes.inc(),
            Ok(Reply::Range(_)) => mvcc.ranges.inc(),
            Ok(Reply::Txn(txn)) => self.count_txn(txn),
            Ok(Reply::LeaseGrant(granted)) => {
                debugging.leases_granted.inc();
                debugging.lease_ttl.observe(granted.ttl as f64);
            }
            Ok(Reply::LeaseRevoke(_)) => debugging.leases_revoked.inc(),
            Ok(Reply::Alarm(_) | Reply::Compaction(_) | Reply::LeaseCheckpoint(_) | Reply::Done) | Err(_) => {
            }
        }
    }

    fn count_txn(&self, txn: &pb::TxnResponse) {
        let mvcc = &self.metrics.mvcc;
        if txn.responses.len() > 1 {
            mvcc.txns.inc();
        }
        for op in &txn.responses {
            match &op.response {
                Some(Response::ResponsePut(_)) => mvcc.puts.inc(),
                Some(Response::ResponseDeleteRange(_)) => mvcc.deletes.inc(),
                Some(Response::ResponseRange(_)) => mvcc.ranges.inc(),
                Some(Response::ResponseTxn(txn)) => self.count_txn(txn),
                None => {}
            }
        }
    }
}

/// What requests cost as their callers see it: those through the log, and reads beside it.
pub(super) struct RequestFigures {
    metrics: Arc<Metrics>,
    warn_after: Duration,
    proposed: RwLock<BTreeMap<(RequestKind, bool), Histogram>>,
    /// By success.
    ranges: [Histogram; 2],
    range_requests: [Histogram; 2],
    read_txns: [Histogram; 2],
}

impl RequestFigures {
    pub(super) fn new(metrics: Arc<Metrics>, warn_after: Duration) -> RequestFigures {
        let server = &metrics.server;
        let requests = |kind: &str| {
            ["false", "true"].map(|success| server.request_duration.with_label_values(&[kind, success]))
        };
        RequestFigures {
            warn_after,
            proposed: RwLock::default(),
            ranges: ["false", "true"].map(|success| server.range_duration.with_label_values(&[success])),
            range_requests: requests("Range"),
            read_txns: requests("ReadonlyTxn"),
            metrics,
        }
    }

    /// A proposal has its outcome.
    pub(super) fn proposed(&self, kind: RequestKind, began: Instant, success: bool) {
        let took = began.elapsed().as_secs_f64();
        if let Some(histogram) = self.proposed.read().get(&(kind, success)) {
            histogram.observe(took);
            return;
        }
        let labels = [label(kind), success.to_string()];
        let histogram = self.metrics.server.request_duration.with_label_values(&labels);
        histogram.observe(took);
        self.proposed.write().insert((kind, success), histogram);
    }

    /// A range was read; `rows` is `None` if it failed.
    pub(super) fn range(&self, request: &pb::RangeRequest, began: Instant, rows: Option<usize>) {
        let took = began.elapsed();
        let success = usize::from(rows.is_some());
        self.metrics.mvcc.ranges.inc();
        self.ranges[success].observe(took.as_secs_f64());
        self.range_requests[success].observe(took.as_secs_f64());
        if took > self.warn_after {
            self.metrics.server.slow_apply.inc();
            let response = format!("range_response_count:{}", rows.unwrap_or(0));
            warn_slow(took, self.warn_after, "read-only range ", &range_text(request), &response);
        }
    }

    /// A transaction of ranges was read.
    pub(super) fn read_txn(&self, request: &pb::TxnRequest, began: Instant, success: bool) {
        let took = began.elapsed();
        let ops = request.success.len().max(request.failure.len());
        self.metrics.mvcc.ranges.inc_by(ops as u64);
        self.read_txns[usize::from(success)].observe(took.as_secs_f64());
        if took > self.warn_after {
            self.metrics.server.slow_apply.inc();
            warn_slow(took, self.warn_after, "read-only txn ", &format!("ops:{ops}"), "");
        }
    }
}

/// The line that operators look for when a member is slow.
fn warn_slow(took: Duration, expected: Duration, prefix: &str, request: &str, response: &str) {
    let go = |duration: Duration| format_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX));
    let fields = serde_json::json!([
        ["took", go(took)],
        ["expected-duration", go(expected)],
        ["prefix", prefix],
        ["request", request],
        ["response", response],
    ]);
    tracing::warn!(more_fields = fields.to_string(), "apply request took too long");
}

/// The request with sizes in place of values.
fn request_text(entry: &Entry) -> String {
    let Ok(request) = RaftRequest::parse(entry.data.clone()) else { return "?".to_owned() };
    let id = request.id();
    let body = match &request.request {
        Some((RequestKind::Put, bytes)) => pb::PutRequest::decode(bytes.clone()).map_or_else(
            |_| "put".to_owned(),
            |put| format!("put:<key:{:?} value_size:{} >", text(&put.key), put.value.len()),
        ),
        Some((RequestKind::DeleteRange, bytes)) => pb::DeleteRangeRequest::decode(bytes.clone()).map_or_else(
            |_| "delete_range".to_owned(),
            |range| {
                format!("delete_range:<key:{:?} range_end:{:?} >", text(&range.key), text(&range.range_end))
            },
        ),
        Some((kind, bytes)) => format!("{}:<size:{} >", label(*kind), bytes.len()),
        None => "none".to_owned(),
    };
    format!("header:<ID:{id} > {body}")
}

fn range_text(request: &pb::RangeRequest) -> String {
    format!(
        "key:{:?} range_end:{:?} limit:{} revision:{}",
        text(&request.key),
        text(&request.range_end),
        request.limit,
        request.revision
    )
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn response_text(effect: &Effect) -> String {
    match &effect.result {
        Ok(Reply::Put(m)) => format!("size:{}", m.encoded_len()),
        Ok(Reply::DeleteRange(m)) => format!("size:{}", m.encoded_len()),
        Ok(Reply::Txn(m)) => format!("size:{}", m.encoded_len()),
        Ok(_) => "size:0".to_owned(),
        Err(refused) => format!("error:{refused}"),
    }
}
