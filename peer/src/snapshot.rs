//! Sending a snapshot: one request whose body is the message, with its length before it, and then the database as it is
//! read.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use crate::client::{Connection, read_whole, timed_out};
use crate::codec::SENT_FORM;
use crate::handler::{OutgoingSnapshot, SnapshotOutcome};
use crate::pipeline::{PostError, judge, post_headers};
use crate::shared::Shared;
use crate::status::Status;
use crate::url::UrlPick;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Pieces between the reading thread and the socket: with the one that each holds, 1.5 MiB a transfer.
const PIECES: usize = 4;
const ANSWER_LIMIT: usize = 64 << 10;

/// Sends a snapshot and reports how that went.
pub(crate) async fn send(
    shared: Arc<Shared>,
    status: Arc<Status>,
    urls: Arc<UrlPick>,
    snapshot: OutgoingSnapshot,
) {
    let (peer_id, size) = (snapshot.message.to, snapshot.size);
    let started = Instant::now();
    shared.observer.snapshot_send_started(peer_id);
    let url = urls.pick();
    let result = transfer(&shared, &url, snapshot).await;
    shared.observer.snapshot_send_ended(peer_id, started.elapsed(), result.is_ok());
    let peer = format!("{peer_id:x}");
    match result {
        Ok(()) => {
            tracing::info!(peer, bytes = size, took = ?started.elapsed(), "sent database snapshot");
            status.activate();
            shared.observer.sent(peer_id, usize::try_from(size).unwrap_or(usize::MAX));
            shared.handler.report_snapshot(peer_id, SnapshotOutcome::Finished);
        }
        Err(error) => {
            tracing::warn!(peer, bytes = size, %error, "failed to send database snapshot");
            urls.failed(&url);
            status.deactivate("snapshot to peer", &error);
            shared.observer.send_failed(peer_id);
            shared.handler.report_unreachable(peer_id);
            shared.handler.report_snapshot(peer_id, SnapshotOutcome::Failed);
            if matches!(error, PostError::Removed) {
                shared.handler.removed_by(peer_id);
            }
        }
    }
}

async fn transfer(
    shared: &Shared,
    url: &crate::url::PeerUrl,
    snapshot: OutgoingSnapshot,
) -> Result<(), PostError> {
    let mut connection = Connection::open(url, shared.waits()).await?;
    let headers = post_headers(shared, "application/octet-stream");
    let body = DatabaseBody::start(snapshot, shared.timing.snapshot_rate).boxed_unsync();
    let response = connection.send(Method::POST, "/raft/snapshot", headers, body).await?;
    let reading = read_whole(response, ANSWER_LIMIT);
    let answer = tokio::time::timeout(shared.timing.read, reading).await;
    judge(&answer.map_err(|_| timed_out("the answer"))??)
}

/// The head of a transfer: the message with its length before it.
fn envelope(snapshot: &OutgoingSnapshot) -> Bytes {
    let message = snapshot.message.encode(SENT_FORM);
    let mut head = Vec::with_capacity(8 + message.len());
    head.extend_from_slice(&(message.len() as u64).to_be_bytes());
    head.extend_from_slice(&message);
    head.into()
}

/// Pieces from a thread that reads the database.
struct DatabaseBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
}

impl DatabaseBody {
    fn start(snapshot: OutgoingSnapshot, rate: u64) -> DatabaseBody {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let head = envelope(&snapshot);
            if sender.blocking_send(Ok(head)).is_err() {
                return;
            }
            if let Err(error) = send_all(snapshot, rate, &sender) {
                // Breaks the request off: without a length on the wire nothing else tells the receiver.
                let _ = sender.blocking_send(Err(error));
            }
        });
        DatabaseBody { pieces }
    }
}

/// Hands the database on in pieces, so many bytes in a second at most. Its size must be the one that was announced.
fn send_all(snapshot: OutgoingSnapshot, rate: u64, to: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut pieces = Pieces { to, piece: BytesMut::with_capacity(PIECE), sent: 0, rate, due: Instant::now() };
    (snapshot.database)(&mut pieces)?;
    pieces.flush()?;
    if pieces.sent == snapshot.size {
        return Ok(());
    }
    let what = format!("the database has {} bytes, {} were announced", pieces.sent, snapshot.size);
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
}

/// Gathers what is written into pieces for the socket, and waits when that is slow or the database is sent too fast.
struct Pieces<'a> {
    to: &'a mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
    sent: u64,
    rate: u64,
    /// When the next piece may leave. A pause earns nothing.
    due: Instant,
}

impl Pieces<'_> {
    fn pace(&mut self, bytes: usize) {
        let now = Instant::now();
        self.due = self.due.max(now) + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        std::thread::sleep(self.due - now);
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&data[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE)).freeze();
        let bytes = piece.len();
        self.sent += bytes as u64;
        if bytes > 0 {
            self.to.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.pace(bytes);
        }
        Ok(())
    }
}

impl Body for DatabaseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
