//! The JSON gateway: `/v3/…` routes onto the same functions that gRPC calls, with etcd's JSON, statuses and streams.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stanchion_api::{etcdserverpb as pb, json, v3electionpb as el, v3lockpb as lk};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};

use super::calls::{self, Payload, Route, ServeStream, ServeUnary};
use super::grpc::parse_timeout;
use super::http::{HttpRequest, HttpResponse};
use super::routes::{both_streams, server_streams, unary_methods};
use super::{
    Front, Inbound, Outbound, Raw, auth, cluster, concurrency, downgrade, kv, lease, maintenance, watch,
};
use crate::member::Encoded;
use crate::refusal::Refusal;

/// A request that is read from JSON.
trait FromJson: Payload + DeserializeOwned {}
impl<M: Payload + DeserializeOwned> FromJson for M {}

/// An answer that is written as JSON.
trait ToJson: Payload + Serialize {}
impl<M: Payload + Serialize> ToJson for M {}

/// Serves a path under `/v3/`.
pub(super) async fn serve(front: Arc<Front>, request: HttpRequest) -> HttpResponse {
    macro_rules! dispatch {
        (($how:ident); $($path:literal [$($route:literal)|+] $req:ty, $resp:ty, $learner:literal, $serve:expr;)*) => {
            match request.uri().path() {
                $($($route)|+ => return match post(&request) {
                    Ok(()) => {
                        let route = Route { path: $path, learner: $learner };
                        Box::pin($how::<$req, $resp>(front, request, route, |front, call, request| Box::pin($serve(front, call, request)))).await
                    }
                    Err(refusal) => error(&refusal.into()),
                },)*
                _ => {}
            }
        };
    }
    unary_methods!(dispatch(unary));
    server_streams!(dispatch(server_stream));
    both_streams!(dispatch(both_stream));
    error(&Status::not_found("Not Found"))
}

/// Routes take a body.
fn post(request: &HttpRequest) -> Result<(), Refusal> {
    if request.method() == Method::POST {
        return Ok(());
    }
    Err(Refusal::fixed(Code::Unimplemented, "Method Not Allowed"))
}

async fn unary<Req: FromJson, Resp: ToJson>(
    front: Arc<Front>,
    request: HttpRequest,
    route: Route,
    serve: ServeUnary<Req, Resp>,
) -> HttpResponse {
    match answer(front, request, route, serve).await {
        Ok(body) => ok(Body::new(http_body_util::Full::new(body))),
        Err(status) => error(&status),
    }
}

async fn answer<Req: FromJson, Resp: ToJson>(
    front: Arc<Front>,
    request: HttpRequest,
    route: Route,
    serve: ServeUnary<Req, Resp>,
) -> Result<Bytes, Status> {
    let (parts, body) = request.into_parts();
    let deadline = deadline(&parts.headers)?;
    let message = read_one(&front, body).await?;
    let metadata = metadata(&parts.headers);
    let answer = calls::unary(front, route, &metadata, deadline, message, serve).await?.decode()?;
    Ok(json::write(&answer).map_err(|e| Status::internal(e.to_string()))?.into())
}

async fn server_stream<Req: FromJson, Resp: ToJson>(
    front: Arc<Front>,
    request: HttpRequest,
    route: Route,
    serve: ServeStream<Raw<Req>, Resp>,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let opened = async {
        let message = read_one(&front, body).await?;
        calls::server_stream(front, route, &metadata(&parts.headers), message, serve).await
    };
    match opened.await {
        Ok(answers) => stream(answers).await,
        Err(status) => stream_error(&status),
    }
}

async fn both_stream<Req: FromJson, Resp: ToJson>(
    front: Arc<Front>,
    request: HttpRequest,
    route: Route,
    serve: ServeStream<Inbound<Req>, Resp>,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let limit = front.limits.max_message_bytes();
    let opened = async {
        let (requests, inbound) = mpsc::channel(1);
        tokio::spawn(read_all(body, limit, requests));
        let inbound = Box::pin(ReceiverStream::new(inbound));
        calls::both_stream(front, route, &metadata(&parts.headers), inbound, serve).await
    };
    match opened.await {
        Ok(answers) => stream(answers).await,
        Err(status) => stream_error(&status),
    }
}

/// The metadata that a gateway request carries: the token, and what `Grpc-Metadata-*` names.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let key = match name.as_str() {
            "authorization" => Some(name.clone()),
            other => other
                .strip_prefix("grpc-metadata-")
                .and_then(|key| HeaderName::from_bytes(key.as_bytes()).ok()),
        };
        if let Some(key) = key {
            metadata.append(key, value.clone());
        }
    }
    metadata
}

fn deadline(headers: &HeaderMap) -> Result<Option<std::time::Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    match parse_timeout(&text) {
        Some(deadline) => Ok(Some(deadline)),
        None => Err(Status::invalid_argument(format!("invalid grpc-timeout: {text}"))),
    }
}

fn raw<Req: Message>(message: Req, limit: usize) -> Result<Raw<Req>, Status> {
    let bytes = Bytes::from(message.encode_to_vec());
    if bytes.len() > limit {
        return Err(too_large(bytes.len(), limit));
    }
    Ok(Raw { message, bytes })
}

fn too_large(size: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({size} vs. {limit})"))
}

/// JSON takes at most this many times the room of the message, with base64, names and blanks counted in.
const JSON_ROOM: usize = 4;

async fn read_one<Req: FromJson>(front: &Front, mut body: Body) -> Result<Raw<Req>, Status> {
    let limit = front.limits.max_message_bytes();
    let mut text = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        text.extend_from_slice(&data);
        if text.len() > limit * JSON_ROOM {
            return Err(too_large(text.len(), limit));
        }
    }
    let message = json::read_first(&text).map_err(|e| Status::invalid_argument(e.to_string()))?;
    raw(message, limit)
}

/// Hands on one message after the other as they arrive in the body.
async fn read_all<Req: FromJson>(
    mut body: Body,
    limit: usize,
    requests: mpsc::Sender<Result<Raw<Req>, Status>>,
) {
    let mut text = BytesMut::new();
    loop {
        let mut ended = false;
        match body.frame().await {
            None => ended = true,
            Some(Err(status)) => {
                let _ = requests.send(Err(Status::cancelled(status.to_string()))).await;
                return;
            }
            Some(Ok(frame)) => text.extend_from_slice(&frame.into_data().unwrap_or_default()),
        }
        for message in complete(&mut text, ended, limit) {
            let failed = message.is_err();
            let sent = requests.send(message).await;
            if failed || sent.is_err() {
                return;
            }
        }
        if ended {
            return;
        }
    }
}

/// Takes the whole messages from the front of `text`; a part of one stays until more has come.
fn complete<Req: FromJson>(text: &mut BytesMut, ended: bool, limit: usize) -> Vec<Result<Raw<Req>, Status>> {
    let mut messages = Vec::new();
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Req>();
    let mut taken = 0;
    while let Some(read) = values.next() {
        match read {
            Ok(message) => messages.push(raw(message, limit)),
            Err(error) if error.is_eof() && !ended => break,
            Err(error) => {
                messages.push(Err(Status::invalid_argument(error.to_string())));
                break;
            }
        }
        taken = values.byte_offset();
    }
    let _ = text.split_to(taken);
    if text.len() > limit * JSON_ROOM {
        messages.push(Err(too_large(text.len(), limit)));
    }
    messages
}

/// One line per message; headers go out with the first, so that an early failure still has its status.
async fn stream<Resp: ToJson>(mut answers: Outbound<Resp>) -> HttpResponse {
    let first = match answers.next().await {
        Some(Err(status)) => return stream_error(&status),
        Some(Ok(first)) => Some(Ok(first)),
        None => None,
    };
    let lines = tokio_stream::iter(first).chain(answers).map(|answer| {
        let line = answer.and_then(line).unwrap_or_else(|status| error_line(&status));
        Ok::<_, Status>(http_body::Frame::data(line))
    });
    ok(Body::new(StreamBody::new(lines)))
}

fn line<Resp: ToJson>(answer: Encoded<Resp>) -> Result<Bytes, Status> {
    let text = json::write(&answer.decode()?).map_err(|e| Status::internal(e.to_string()))?;
    let mut line = Vec::with_capacity(text.len() + 12);
    line.extend_from_slice(b"{\"result\":");
    // These three occur inside strings alone, where Go's encoder escapes them.
    for byte in text {
        match byte {
            b'<' => line.extend_from_slice(b"\\u003c"),
            b'>' => line.extend_from_slice(b"\\u003e"),
            b'&' => line.extend_from_slice(b"\\u0026"),
            other => line.push(other),
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

fn error_line(status: &Status) -> Bytes {
    let line = serde_json::json!({"error": error_object(status)});
    format!("{line}\n").into()
}

fn error_object(status: &Status) -> serde_json::Value {
    serde_json::json!({"code": status.code() as i32, "message": status.message()})
}

fn ok(body: Body) -> HttpResponse {
    let mut response = http::Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn error(status: &Status) -> HttpResponse {
    failed(status, error_object(status).to_string().into())
}

fn stream_error(status: &Status) -> HttpResponse {
    failed(status, error_line(status))
}

fn failed(status: &Status, body: Bytes) -> HttpResponse {
    let mut response = http::Response::new(Body::new(http_body_util::Full::new(body)));
    *response.status_mut() = http_status(status.code());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert("www-authenticate", message);
    }
    response
}

fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_into_messages_as_it_arrives() {
        let mut text = BytesMut::from(&br#" {"cancel_request":{"watch_id":1}} {"cancel_requ"#[..]);
        assert_eq!(complete::<pb::WatchRequest>(&mut text, false, 1000).len(), 1);
        text.extend_from_slice(br#"est":{}}"#);
        let second = complete::<pb::WatchRequest>(&mut text, true, 1000);
        assert_eq!(second.len(), 1);
        assert!(second[0].is_ok());
        let mut torn = BytesMut::from(&b"{"[..]);
        assert!(complete::<pb::WatchRequest>(&mut torn, true, 1000)[0].is_err());
    }

    #[test]
    fn only_named_headers_become_metadata() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("t"));
        headers.insert("grpc-metadata-hasleader", HeaderValue::from_static("true"));
        headers.insert("token", HeaderValue::from_static("no"));
        let metadata = metadata(&headers);
        assert_eq!(metadata.len(), 2);
        assert_eq!(metadata["hasleader"], "true");
    }
}
