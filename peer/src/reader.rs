//! The receiving end of a stream: dial the peer, read what it sends, dial again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::client::{Connection, empty, read_whole, timed_out};
use crate::codec::{Frame, StreamDecoder, StreamError, StreamKind};
use crate::identity::{RAFT_TO, streams_fit};
use crate::shared::Shared;
use crate::status::Status;
use crate::url::UrlPick;

/// Longest body of a refusal that is read.
const REFUSAL_LIMIT: usize = 64 << 10;

/// Why there is no stream, or none any more.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Garbled(#[from] StreamError),
    #[error("the peer's release has no such streams")]
    Unsupported,
    #[error("refused with {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("this member was removed from the cluster")]
    Removed,
}

/// Reads one stream of one peer for ever.
pub(crate) struct Reader {
    pub(crate) kind: StreamKind,
    pub(crate) peer_id: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: Arc<Status>,
    pub(crate) urls: Arc<UrlPick>,
    /// Told when the peer was heard of: then it is dialled at once.
    pub(crate) heard: Arc<Notify>,
}

impl Reader {
    pub(crate) async fn run(self) {
        let shortest = self.shared.timing.redial;
        let mut pause = shortest;
        loop {
            let failure = match self.dial().await {
                Ok(body) => {
                    self.status.activate();
                    self.read(body, &mut pause).await
                }
                Err(failure) => failure,
            };
            self.status.deactivate(self.activity(), &failure);
            match failure {
                ReadError::Removed => {
                    self.shared.handler.removed_by(self.peer_id);
                    return;
                }
                ReadError::Garbled(_) => {
                    self.status.garbled(self.activity());
                    self.shared.observer.receive_failed(self.peer_id);
                }
                _ => {}
            }
            self.rest(pause).await;
            pause = (pause * 2).min(shortest * 10);
        }
    }

    /// A peer that dials this member listens itself: a longer pause is cut short then, but never below the shortest.
    async fn rest(&self, pause: Duration) {
        let shortest = self.shared.timing.redial;
        tokio::time::sleep(shortest).await;
        if pause > shortest {
            let _ = timeout(pause - shortest, self.heard.notified()).await;
        }
    }

    fn activity(&self) -> &'static str {
        match self.kind {
            StreamKind::Message => "message stream from peer",
            StreamKind::MsgApp => "msgapp stream from peer",
        }
    }

    async fn dial(&self) -> Result<Incoming, ReadError> {
        let url = self.urls.pick();
        let opened = self.open(&url).await;
        if opened.is_err() {
            self.urls.failed(&url);
        }
        opened
    }

    async fn open(&self, url: &crate::url::PeerUrl) -> Result<Incoming, ReadError> {
        let identity = &self.shared.identity;
        let mut connection = Connection::open(url, self.shared.waits()).await?;
        let mut headers = identity.headers();
        if let Ok(to) = HeaderValue::from_str(&format!("{:x}", self.peer_id)) {
            headers.insert(RAFT_TO, to);
        }
        let path = format!("/raft/stream/{}/{:x}", self.kind.path(), identity.member_id);
        let answering = connection.send(Method::GET, &path, headers, empty());
        let response = timeout(self.shared.timing.read, answering)
            .await
            .map_err(|_| timed_out("the stream's answer"))??;
        if !streams_fit(response.headers()) {
            return Err(ReadError::Unsupported);
        }
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            StatusCode::GONE => Err(ReadError::Removed),
            status => {
                let reading = read_whole(response, REFUSAL_LIMIT);
                let whole = timeout(self.shared.timing.read, reading)
                    .await
                    .map_err(|_| timed_out("the refusal"))??;
                Err(ReadError::Refused { status, text: whole.text() })
            }
        }
    }

    /// Reads until something is wrong. A peer of whom something can be read is dialled again without a longer pause.
    async fn read(&self, mut body: Incoming, pause: &mut Duration) -> ReadError {
        let mut is_readable = false;
        let mut decoder = StreamDecoder::new(self.kind, self.shared.identity.member_id, self.peer_id);
        let mut buf = BytesMut::new();
        loop {
            let piece = match timeout(self.shared.timing.read, body.frame()).await {
                Err(_) => return timed_out("the peer's next sign of life").into(),
                Ok(None) => return io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                Ok(Some(Err(error))) => return io::Error::other(error).into(),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            self.shared.observer.received(self.peer_id, piece.len());
            if buf.is_empty() {
                buf = BytesMut::from(piece);
            } else {
                buf.extend_from_slice(&piece);
            }
            loop {
                let frame = match decoder.decode(&mut buf) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return error.into(),
                };
                if !is_readable {
                    is_readable = true;
                    *pause = self.shared.timing.redial;
                    self.status.readable(self.activity());
                }
                if let Frame::Message(message) = frame {
                    // Refusals are the sender's business only where it waits for an answer.
                    let _ = self.shared.handler.process(*message);
                }
            }
        }
    }
}
