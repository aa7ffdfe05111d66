//! What raft needs: streams that peers open, messages that they post, databases that they send.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use stanchion_raft::{Message, MessageType};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::reply;
use crate::client::{Body, empty, timed_out};
use crate::codec::{FRAME_LIMIT, StreamKind};
use crate::handler::SnapshotSink;
use crate::identity::{Identity, RAFT_TO, SERVER_VERSION, sender_id, sender_urls};
use crate::transport::Transport;
use crate::writer::never;

/// Largest message before a database.
const ENVELOPE_LIMIT: u64 = 64 << 20;
/// Pieces between the socket and the thread that writes: memory stays at a few of hyper's read buffers.
const PIECES: usize = 4;

/// A peer opens a stream.
pub(super) fn stream(transport: &Transport, rest: &str, headers: &HeaderMap) -> Response<Body> {
    let identity = transport.identity();
    let answered = open_stream(transport, rest, headers);
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => refuse(transport, headers, "stream", refusal),
    };
    if let Ok(version) = HeaderValue::from_str(&identity.version.to_string()) {
        response.headers_mut().insert(SERVER_VERSION, version);
    }
    reply::of_cluster(response, identity)
}

/// Logs a refusal, unless that was said, and answers with it.
fn refuse(
    transport: &Transport,
    headers: &HeaderMap,
    request: &'static str,
    (status, text): (StatusCode, String),
) -> Response<Body> {
    transport.shared().refusals.say(sender_id(headers).unwrap_or(0), request, &text);
    reply::error(status, &text)
}

/// The checks come in etcd's order.
fn open_stream(
    transport: &Transport,
    rest: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, (StatusCode, String)> {
    let identity = transport.identity();
    identity.check(headers).map_err(|mismatch| (StatusCode::PRECONDITION_FAILED, mismatch.to_string()))?;
    let (kind, from) = rest.rsplit_once('/').unwrap_or((rest, ""));
    let kind = match kind {
        "message" => StreamKind::Message,
        "msgapp" => StreamKind::MsgApp,
        _ => return Err((StatusCode::NOT_FOUND, "invalid path".to_owned())),
    };
    let invalid = |_| (StatusCode::NOT_FOUND, "invalid from".to_owned());
    let from = u64::from_str_radix(from, 16).map_err(invalid)?;
    if transport.shared().handler.is_removed(from) {
        return Err((StatusCode::GONE, "removed member".to_owned()));
    }
    let unknown = || (StatusCode::NOT_FOUND, "error sender not found".to_owned());
    if !transport.peer_ids().contains(&from) {
        if let Some(urls) = sender_urls(headers) {
            transport.add_remote(from, &urls);
        }
        return Err(unknown());
    }
    let own = format!("{:x}", identity.member_id);
    if headers.get(RAFT_TO).is_none_or(|to| to.as_bytes() != own.as_bytes()) {
        return Err((StatusCode::PRECONDITION_FAILED, "to field mismatch".to_owned()));
    }
    let body = transport.attach(from, kind).ok_or_else(unknown)?;
    transport.shared().refusals.forget(from);
    Ok(Response::new(body.map_err(never).boxed_unsync()))
}

/// A peer posts a message.
pub(super) async fn message(transport: &Transport, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let identity = transport.identity();
    let taken = match admit(transport, &head.headers) {
        Err(refusal) => Err(refusal),
        Ok(from) => take_message(transport, from, body).await,
    };
    let response = taken.unwrap_or_else(|refusal| refuse(transport, &head.headers, "message", refusal));
    reply::of_cluster(response, identity)
}

/// Checks a post and remembers its sender. Gives the sender's id, 0 if it has not introduced itself.
fn admit(transport: &Transport, headers: &HeaderMap) -> Result<u64, (StatusCode, String)> {
    let checked = transport.identity().check(headers);
    checked.map_err(|mismatch| (StatusCode::PRECONDITION_FAILED, mismatch.to_string()))?;
    let Some((from, urls)) = Identity::sender(headers) else { return Ok(0) };
    if !transport.shared().handler.is_removed(from) {
        transport.add_remote(from, &urls);
    }
    Ok(from)
}

async fn take_message(
    transport: &Transport,
    from: u64,
    body: Incoming,
) -> Result<Response<Body>, (StatusCode, String)> {
    let shared = transport.shared();
    let bad = |text: &str| {
        shared.observer.receive_failed(from);
        (StatusCode::BAD_REQUEST, text.to_owned())
    };
    let mut pieces = Pieces { body, pause: shared.timing.read };
    let read = pieces.read_all(FRAME_LIMIT).await;
    let bytes = read.map_err(|_| bad("error reading raft message"))?;
    shared.observer.received(from, bytes.len());
    let message = Message::decode(bytes).map_err(|_| bad("error unmarshalling raft message"))?;
    Ok(process(transport, message, |_| "error processing raft message".to_owned()))
}

/// Hands a message to raft. etcd means to answer a refusal with 403 and answers 500, and so closes the connection.
fn process(
    transport: &Transport,
    message: Message,
    text: impl FnOnce(&dyn std::fmt::Display) -> String,
) -> Response<Body> {
    // Types that never travel are taken and forgotten.
    if message.msg_type.is_local() && message.to != 0 {
        return no_content();
    }
    let from = message.from;
    match transport.shared().handler.process(message) {
        Ok(()) => no_content(),
        Err(refused) => {
            transport.shared().refusals.say(from, "message", &refused.to_string());
            let mut response = reply::error(StatusCode::INTERNAL_SERVER_ERROR, &text(&refused));
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A peer sends a database.
pub(super) async fn snapshot(transport: &Transport, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let taken = match admit(transport, &head.headers) {
        Err(refusal) => Err(refusal),
        Ok(from) => {
            let shared = transport.shared();
            let started = Instant::now();
            shared.observer.snapshot_receive_started(from);
            let result = take_snapshot(transport, from, body).await;
            shared.observer.snapshot_receive_ended(from, started.elapsed(), result.is_ok());
            if result.is_err() {
                shared.observer.receive_failed(from);
            }
            result
        }
    };
    let response = taken.unwrap_or_else(|refusal| refuse(transport, &head.headers, "snapshot", refusal));
    reply::of_cluster(response, transport.identity())
}

async fn take_snapshot(
    transport: &Transport,
    from: u64,
    body: Incoming,
) -> Result<Response<Body>, (StatusCode, String)> {
    let shared = transport.shared();
    let mut pieces = Pieces { body, pause: shared.timing.snapshot_stall };
    let undecoded = |what: &str| (StatusCode::BAD_REQUEST, format!("failed to decode raft message ({what})"));
    let mut buf = BytesMut::new();
    pieces.fill(&mut buf, 8).await.map_err(|_| undecoded("EOF"))?;
    let length = buf.split_to(8).iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let length = usize::try_from(length).ok().filter(|length| *length as u64 <= ENVELOPE_LIMIT);
    let length = length.ok_or_else(|| undecoded("rafthttp: error limit exceeded"))?;
    pieces.fill(&mut buf, length).await.map_err(|_| undecoded("unexpected EOF"))?;
    let message = Message::decode(buf.split_to(length).freeze()).map_err(|e| undecoded(&e.to_string()))?;
    if message.msg_type != MessageType::Snap {
        return Err((StatusCode::BAD_REQUEST, "wrong raft message type".to_owned()));
    }
    let unsaved = |error: io::Error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to save KV snapshot ({error})"))
    };
    let sink = shared.handler.receive_snapshot(&message).map_err(unsaved)?;
    let written = store(sink, buf.freeze(), &mut pieces).await.map_err(unsaved)?;
    shared.observer.received(from, usize::try_from(written).unwrap_or(usize::MAX));
    tracing::info!(peer = %format_args!("{from:x}"), bytes = written, "received and saved database snapshot");
    Ok(process(transport, message, |refused| format!("failed to process raft message ({refused})")))
}

/// Writes a database as it comes, on a thread that may block. Gives its size in bytes.
async fn store(mut sink: Box<dyn SnapshotSink>, first: Bytes, pieces: &mut Pieces) -> io::Result<u64> {
    let (sender, mut receiver) = mpsc::channel::<Option<Bytes>>(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        let mut written = 0;
        while let Some(next) = receiver.blocking_recv() {
            let Some(piece) = next else {
                sink.finish()?;
                return Ok(written);
            };
            sink.write(&piece)?;
            written += piece.len() as u64;
        }
        // The sender has gone without saying that everything is there.
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    });
    let feeding = async {
        let mut next = Some(first);
        while let Some(piece) = next {
            if sender.send(Some(piece)).await.is_err() {
                // The writer has failed and says why itself.
                return Ok(());
            }
            next = pieces.next().await?;
        }
        let _ = sender.send(None).await;
        Ok(())
    };
    let fed: io::Result<()> = feeding.await;
    drop(sender);
    let written = writing.await.map_err(io::Error::other)?;
    fed.and(written)
}

/// A body whose pauses are limited.
struct Pieces {
    body: Incoming,
    pause: Duration,
}

impl Pieces {
    /// The next piece; nothing at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match timeout(self.pause, self.body.frame()).await.map_err(|_| timed_out("the next piece"))? {
            None => Ok(None),
            Some(frame) => Ok(Some(frame.map_err(io::Error::other)?.into_data().unwrap_or_default())),
        }
    }

    /// Reads until `buf` has at least `length` bytes.
    async fn fill(&mut self, buf: &mut BytesMut, length: usize) -> io::Result<()> {
        while buf.len() < length {
            let piece = self.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn read_all(&mut self, limit: usize) -> io::Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}
