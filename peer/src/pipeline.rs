//! Single messages by POST: for peers to which no stream is open, and for members that are not peers yet.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use stanchion_raft::{Message, MessageType};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::client::{Connection, Whole, full, read_whole, timed_out};
use crate::codec::SENT_FORM;
use crate::handler::SnapshotOutcome;
use crate::idle::IDLE_LIMIT;
use crate::shared::Shared;
use crate::status::Status;
use crate::url::UrlPick;

/// Messages that wait for a sender.
pub(crate) const PIPELINE_QUEUE: usize = 64;
/// Senders for one peer.
pub(crate) const PIPELINE_SENDERS: usize = 4;
const ANSWER_LIMIT: usize = 64 << 10;

/// Why a post has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("refused with {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("this member was removed from the cluster")]
    Removed,
}

/// Judges the answer to a posted message.
pub(crate) fn judge(answer: &Whole) -> Result<(), PostError> {
    match answer.status {
        StatusCode::NO_CONTENT => Ok(()),
        StatusCode::FORBIDDEN => Err(PostError::Removed),
        status => Err(PostError::Refused { status, text: answer.text() }),
    }
}

/// One of the senders of a peer.
pub(crate) struct Sender {
    pub(crate) peer_id: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: Arc<Status>,
    pub(crate) urls: Arc<UrlPick>,
    pub(crate) queue: Arc<Mutex<mpsc::Receiver<Message>>>,
}

struct Kept {
    connection: Connection,
    used: Instant,
}

impl Sender {
    pub(crate) async fn run(self) {
        let mut kept = None;
        loop {
            let next = self.queue.lock().await.recv().await;
            let Some(message) = next else { return };
            let is_snapshot = message.msg_type == MessageType::Snap;
            match self.post(&mut kept, &message).await {
                Ok(bytes) => {
                    self.status.activate();
                    self.shared.observer.sent(self.peer_id, bytes);
                    if is_snapshot {
                        self.shared.handler.report_snapshot(self.peer_id, SnapshotOutcome::Finished);
                    }
                }
                Err(error) => {
                    kept = None;
                    self.status.deactivate("post to peer", &error);
                    self.shared.observer.send_failed(self.peer_id);
                    self.shared.handler.report_unreachable(self.peer_id);
                    if is_snapshot {
                        self.shared.handler.report_snapshot(self.peer_id, SnapshotOutcome::Failed);
                    }
                    if matches!(error, PostError::Removed) {
                        self.shared.handler.removed_by(self.peer_id);
                    }
                }
            }
        }
    }

    async fn post(&self, kept: &mut Option<Kept>, message: &Message) -> Result<usize, PostError> {
        let body = bytes::Bytes::from(message.encode(SENT_FORM));
        let bytes = body.len();
        let posting = self.post_bytes(kept, body);
        timeout(self.shared.timing.post, posting).await.map_err(|_| timed_out("the post"))??;
        Ok(bytes)
    }

    /// A kept connection may have been closed meanwhile: then a new one gets the same message. Raft takes a message
    /// twice, should the first have arrived.
    async fn post_bytes(&self, kept: &mut Option<Kept>, body: bytes::Bytes) -> Result<(), PostError> {
        let usable = |kept: &Kept| kept.connection.is_open() && kept.used.elapsed() < IDLE_LIMIT;
        if let Some(mut reused) = kept.take().filter(usable)
            && let Ok(answer) = self.ask(&mut reused.connection, body.clone()).await
        {
            *kept = Some(Kept { used: Instant::now(), ..reused });
            return judge(&answer);
        }
        let url = self.urls.pick();
        let asked = async {
            let mut connection = Connection::open(&url, self.shared.waits()).await?;
            let answer = self.ask(&mut connection, body).await?;
            Ok::<_, io::Error>((connection, answer))
        };
        match asked.await {
            Ok((connection, answer)) => {
                *kept = Some(Kept { connection, used: Instant::now() });
                judge(&answer)
            }
            Err(error) => {
                self.urls.failed(&url);
                Err(error.into())
            }
        }
    }

    async fn ask(&self, connection: &mut Connection, body: bytes::Bytes) -> io::Result<Whole> {
        let headers = post_headers(&self.shared, "application/protobuf");
        let response = connection.send(Method::POST, "/raft", headers, full(body)).await?;
        read_whole(response, ANSWER_LIMIT).await
    }
}

/// The headers of a post to a peer.
pub(crate) fn post_headers(shared: &Shared, content_type: &'static str) -> HeaderMap {
    let mut headers = shared.identity.headers();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers
}
