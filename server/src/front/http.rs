//! The plain HTTP side of the client port: the rules common to all requests, version, metrics, and the way to the gateway.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use tonic::body::Body;

use super::{Front, debug, gateway, health, websocket};

pub(super) type HttpRequest = http::Request<Body>;
pub(super) type HttpResponse = http::Response<Body>;

pub(super) const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
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
        "/metrics" => metrics(&front, request.headers()),
        path if path == "/health" || health::is_check(path) => dispatch(front, request).await,
        _ => not_found(),
    }
}

async fn dispatch(front: Arc<Front>, request: HttpRequest) -> HttpResponse {
    let path = request.uri().path();
    if let Some(cleaned) = cleaned(path) {
        return redirect(&request, &cleaned);
    }
    if path.starts_with("/v3/") && front.limits.gateway {
        if websocket::is_asked_for(request.headers()) {
            return websocket::serve(front, request);
        }
        return gateway::serve(front, request).await;
    }
    if path == "/metrics" {
        return metrics(&front, request.headers());
    }
    if path == "/config/local/log"
        && let Some(log) = &front.log
    {
        return debug::set_log_level(log, request).await;
    }
    let known = matches!(path, "/version" | "/health" | "/debug/vars") || health::is_check(path);
    if !known {
        return not_found();
    }
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    let query = health::Query::of(&request);
    match path {
        "/version" => version(&front),
        "/debug/vars" => debug::vars(&front),
        "/health" => health::health(&front, &query).await,
        path => health::checks(&front, path, &query).await,
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
    refusal(StatusCode::MISDIRECTED_REQUEST, body)
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

/// Compressed for those who can read it: scrapes are large and alike.
fn metrics(front: &Front, headers: &HeaderMap) -> HttpResponse {
    let plain = front.metrics_text();
    let accepted = headers.get_all("accept-encoding").iter().filter_map(|value| value.to_str().ok());
    if !accepted.flat_map(|value| value.split(',')).any(|coding| coding.trim() == "gzip") {
        return text(StatusCode::OK, METRICS, plain);
    }
    let mut packed = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    match packed.write_all(&plain).and_then(|()| packed.finish()) {
        Ok(packed) => {
            let mut response = text(StatusCode::OK, METRICS, packed);
            response.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
    }
}

pub(super) fn method_not_allowed(allowed: &'static str) -> HttpResponse {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert("allow", HeaderValue::from_static(allowed));
    response
}

/// The answer to a path that nobody knows.
pub(super) fn not_found() -> HttpResponse {
    refusal(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A refusal in plain text, with the header that Go's HTTP server gives such answers.
pub(super) fn refusal(status: StatusCode, body: impl Into<bytes::Bytes>) -> HttpResponse {
    let mut response = text(status, PLAIN, body);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// A path without doubled slashes and dots, if that is another path. A slash at the end stays.
fn cleaned(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut cleaned = format!("/{}", parts.join("/"));
    if path.ends_with('/') && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    (cleaned != path).then_some(cleaned)
}

/// Sends the client to the cleaned path, as Go's HTTP server does.
fn redirect(request: &HttpRequest, cleaned: &str) -> HttpResponse {
    let location = match request.uri().query() {
        Some(query) => format!("{cleaned}?{query}"),
        None => cleaned.to_owned(),
    };
    let Ok(value) = HeaderValue::from_str(&location) else { return not_found() };
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        let body = format!("<a href=\"{}\">Temporary Redirect</a>.\n\n", escaped(&location));
        text(StatusCode::TEMPORARY_REDIRECT, HTML, body)
    } else {
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        response
    };
    response.headers_mut().insert("location", value);
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

pub(super) fn text(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> HttpResponse {
    let mut response = HttpResponse::new(Body::new(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::cleaned;

    #[test]
    fn only_paths_with_something_to_clean_are_redirected() {
        for path in ["/", "/v3/kv/range", "/v3/kv/range/", "/version"] {
            assert_eq!(cleaned(path), None, "{path}");
        }
        for (path, clean) in [
            ("/v3//kv/range", "/v3/kv/range"),
            ("//", "/"),
            ("/v3/./kv/../kv/range/", "/v3/kv/range/"),
            ("/../../version", "/version"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
    }
}
