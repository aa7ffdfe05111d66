//! `/health`, `/livez` and `/readyz`: alarms, leader, and reads that prove that the member works.

use http::{HeaderValue, StatusCode};
use stanchion_api::etcdserverpb as pb;

use super::Front;
use super::http::{HttpRequest, HttpResponse};
use super::http::{PLAIN, refusal, text};
use crate::member::Caller;

/// The two parameters that the health endpoints know.
pub(super) struct Query {
    exclude: Vec<String>,
    serializable: bool,
    verbose: bool,
}

impl Query {
    pub(super) fn of(request: &HttpRequest) -> Self {
        let mut query = Query { exclude: Vec::new(), serializable: false, verbose: false };
        for (name, value) in url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()) {
            match name.as_ref() {
                "exclude" => query.exclude.push(value.into_owned()),
                "serializable" => query.serializable = value == "true",
                "verbose" => query.verbose = true,
                _ => {}
            }
        }
        query
    }
}

/// One read that proves that the member works; the key need not exist.
async fn probe(front: &Front, serializable: bool) -> Result<(), String> {
    let request = pb::RangeRequest {
        key: "health".into(),
        keys_only: true,
        limit: 1,
        serializable,
        ..Default::default()
    };
    let read = front.member.range(Caller::default(), request);
    match tokio::time::timeout(front.limits.request_timeout, read).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refusal)) => Err(refusal.to_string()),
        Err(_) => Err("context deadline exceeded".into()),
    }
}

pub(super) async fn health(front: &Front, query: &Query) -> HttpResponse {
    match unhealthy(front, query).await {
        None => {
            front.metrics.health.successes.inc();
            text(StatusCode::OK, PLAIN, r#"{"health":"true","reason":""}"#)
        }
        Some(reason) => {
            front.metrics.health.failures.inc();
            tracing::warn!(%reason, "serving /health false");
            let body = serde_json::json!({"health": "false", "reason": reason});
            refusal(StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n"))
        }
    }
}

async fn unhealthy(front: &Front, query: &Query) -> Option<String> {
    for alarm in front.member.alarms() {
        let name = match alarm.alarm() {
            pb::AlarmType::Nospace => "NOSPACE",
            pb::AlarmType::Corrupt => "CORRUPT",
            pb::AlarmType::None => "UNKNOWN",
        };
        if !query.exclude.iter().any(|excluded| excluded == name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !query.serializable && front.member.standing().leader == 0 {
        return Some("RAFT NO LEADER".into());
    }
    probe(front, query.serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

const LIVE: &[&str] = &["serializable_read"];
const READY: &[&str] = &["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

/// The checks behind a path: all of a root or the one that the path names.
fn checks_of(path: &str) -> Option<Vec<&'static str>> {
    for (root, names) in [("/livez", LIVE), ("/readyz", READY)] {
        if path == root {
            return Some(names.to_vec());
        }
        let named = path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = named.and_then(|named| names.iter().find(|name| **name == named)) {
            return Some(vec![name]);
        }
    }
    None
}

pub(super) fn is_check(path: &str) -> bool {
    checks_of(path).is_some()
}

pub(super) async fn checks(front: &Front, path: &str, query: &Query) -> HttpResponse {
    let names = checks_of(path).unwrap_or_default();
    let mut lines = String::new();
    let mut failed = false;
    for name in names.into_iter().filter(|name| !query.exclude.iter().any(|excluded| excluded == name)) {
        let outcome = check(front, name).await;
        count(front, path, name, outcome.is_ok());
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {reason}\n"));
            }
        }
    }
    let mut response = match (failed, query.verbose) {
        (true, _) => refusal(StatusCode::SERVICE_UNAVAILABLE, format!("{lines}\n")),
        (false, true) => text(StatusCode::OK, PLAIN, format!("{lines}ok\n")),
        (false, false) => text(StatusCode::OK, PLAIN, "ok\n"),
    };
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn count(front: &Front, path: &str, name: &str, success: bool) {
    let kind = if path.starts_with("/livez") { "livez" } else { "readyz" };
    let families = &front.metrics.health;
    families.check.with_label_values(&[kind, name]).set(i64::from(success));
    let status = if success { "success" } else { "error" };
    families.checks.with_label_values(&[kind, name, status]).inc();
}

async fn check(front: &Front, name: &str) -> Result<(), String> {
    match name {
        "data_corruption" => {
            let corrupt = front.member.alarms().iter().any(|a| a.alarm() == pb::AlarmType::Corrupt);
            if corrupt { Err("alarm activated: CORRUPT".into()) } else { Ok(()) }
        }
        "non_learner" if front.member.standing().is_learner => Err("not supported for learner".into()),
        "non_learner" => Ok(()),
        "linearizable_read" => probe(front, false).await,
        _ => probe(front, true).await,
    }
}
