//! Answers in the form of Go's HTTP server, which is what peers expect to read.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::client::{Body, full};
use crate::identity::{CLUSTER_ID, Identity};

/// A body with its type.
pub(crate) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error as plain text and a line's end.
pub(crate) fn error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = with_type(status, "text/plain; charset=utf-8", format!("{text}\n"));
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(HeaderName::from_static("x-content-type-options"), nosniff);
    response
}

/// The path is there, the method is not.
pub(crate) fn not_allowed(allowed: Option<&'static str>) -> Response<Body> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Some(allowed) = allowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// There is no such path.
pub(crate) fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// The path is another one.
pub(crate) fn redirect(to: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// Says which cluster answers.
pub(crate) fn of_cluster(mut response: Response<Body>, identity: &Identity) -> Response<Body> {
    response.headers_mut().insert(CLUSTER_ID, identity.cluster_header());
    response
}
