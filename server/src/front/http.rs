//! The plain HTTP side of the client port: the rules common to all requests, version, health, metrics, and the way to
//! the gateway.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use stanchion_api::etcdserverpb as pb;
use tonic::body::Body;

use super::Front;
use super::gateway;
use super::grpc::{HttpRequest, HttpResponse};
use crate::member::Caller;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Serves one request of a client listener.
pub(super) async fn serve(front: Arc<Front>, mut request: HttpRequest) -> HttpResponse {
    rewrite_beta(&mut request);
    if let Some(host) = unknown_host(&front, &request) {
        return misdirected(&host);
    }
    let cors = cors(&front, request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        HttpResponse::new(Body::empty())
    } else {
        dispatch(front, request).await
    };
    if let Some(origin) = cors {
        let headers = response.headers_mut();
        headers.insert(
            "access-control-allow-methods",
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        headers.insert("access-control-allow-origin", origin);
        headers.insert(
            "access-control-allow-headers",
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }
    response
}

/// Serves one request of a listener for metrics.
pub(super) async fn serve_metrics(front: Arc<Front>, request: HttpRequest) -> HttpResponse {
    match request.uri().path() {
        "/metrics" => metrics(&front),
        path if path == "/health" || is_check(path) => dispatch(front, request).await,
        _ => not_found(),
    }
}

async fn dispatch(front: Arc<Front>, request: HttpRequest) -> HttpResponse {
    let path = request.uri().path();
    if path.starts_with("/v3/") && front.limits.gateway {
        return gateway::serve(front, request).await;
    }
    if path == "/metrics" {
        return metrics(&front);
    }
    let known = matches!(path, "/version" | "/health" | "/debug/vars") || is_check(path);
    if !known {
        return not_found();
    }
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "Method Not Allowed\n");
        response.headers_mut().insert("allow", HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query::of(&request);
    match path {
        "/version" => version(&front),
        "/debug/vars" => debug_vars(&front),
        "/health" => health(&front, &query).await,
        path => checks(&front, path, &query).await,
    }
}

fn rewrite_beta(request: &mut HttpRequest) {
    let uri = request.uri();
    let Some(rest) = uri.path_and_query().and_then(|p| p.as_str().strip_prefix("/v3beta/")) else { return };
    if let Ok(rewritten) = format!("/v3/{rest}").parse() {
        *request.uri_mut() = rewritten;
    }
}

fn allows_all(list: &[String]) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == "*")
}

/// The host of a request that the whitelist does not know.
fn unknown_host(front: &Front, request: &HttpRequest) -> Option<String> {
    let allowed = &front.limits.host_whitelist;
    if allows_all(allowed) {
        return None;
    }
    let host = request.headers().get("host").map(|h| String::from_utf8_lossy(h.as_bytes()).into_owned());
    let host = host.unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => &host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    (!allowed.iter().any(|entry| entry == name)).then(|| name.to_owned())
}

fn misdirected(host: &str) -> HttpResponse {
    let body = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    );
    text(StatusCode::MISDIRECTED_REQUEST, PLAIN, body)
}

/// The origin that may read the answer, if any.
fn cors(front: &Front, headers: &HeaderMap) -> Option<HeaderValue> {
    let allowed = &front.limits.cors;
    if allows_all(allowed) {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get("origin")?;
    allowed.iter().any(|entry| entry.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// The two parameters that the health endpoints know.
struct Query {
    exclude: Vec<String>,
    serializable: bool,
    verbose: bool,
}

impl Query {
    fn of(request: &HttpRequest) -> Self {
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

fn version(front: &Front) -> HttpResponse {
    let versions = front.member.versions();
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}}"#,
        versions.server,
        versions.cluster.as_deref().unwrap_or("not_decided"),
        versions.storage.as_deref().unwrap_or("unknown"),
    );
    text(StatusCode::OK, JSON, body)
}

fn metrics(front: &Front) -> HttpResponse {
    text(StatusCode::OK, METRICS, (front.metrics)())
}

fn debug_vars(front: &Front) -> HttpResponse {
    let raft = front.member.raft_status();
    let standing = front.member.standing();
    let vars = serde_json::json!({
        "cmdline": std::env::args().collect::<Vec<_>>(),
        "raft.status": {
            "id": format!("{:x}", standing.member_id),
            "term": raft.term,
            "vote": format!("{:x}", raft.vote),
            "commit": raft.commit,
            "lead": format!("{:x}", standing.leader),
            "raftState": raft.role,
            "applied": raft.applied,
            "leadtransferee": "0",
        },
    });
    text(StatusCode::OK, "application/json; charset=utf-8", vars.to_string())
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

async fn health(front: &Front, query: &Query) -> HttpResponse {
    match unhealthy(front, query).await {
        None => text(StatusCode::OK, PLAIN, r#"{"health":"true","reason":""}"#),
        Some(reason) => {
            tracing::warn!(%reason, "serving /health false");
            let body = serde_json::json!({"health": "false", "reason": reason});
            text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{body}\n"))
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

fn is_check(path: &str) -> bool {
    checks_of(path).is_some()
}

async fn checks(front: &Front, path: &str, query: &Query) -> HttpResponse {
    let names = checks_of(path).unwrap_or_default();
    let mut lines = String::new();
    let mut failed = false;
    for name in names.into_iter().filter(|name| !query.exclude.iter().any(|excluded| excluded == name)) {
        match check(front, name).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {reason}\n"));
            }
        }
    }
    let mut response = match (failed, query.verbose) {
        (true, _) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{lines}\n")),
        (false, true) => text(StatusCode::OK, PLAIN, format!("{lines}ok\n")),
        (false, false) => text(StatusCode::OK, PLAIN, "ok\n"),
    };
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
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

/// The answer to a path that nobody knows.
pub(super) fn not_found() -> HttpResponse {
    let mut response = text(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n");
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> HttpResponse {
    let mut response = HttpResponse::new(Body::new(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}
