//! The sending end of a stream: the peer has dialled, and the answer's body is the stream.

use std::convert::Infallible;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;
use stanchion_raft::Message;
use tokio::time::{Instant, Sleep};

use crate::codec::{StreamEncoder, StreamKind};
use crate::queue::{Pushed, Queue};
use crate::shared::Shared;
use crate::status::Status;

/// Encoding stops here and what there is leaves; a larger message is not split.
const CHUNK_BYTES: usize = 256 << 10;

/// Where messages for one stream of one peer go: to the stream that the peer opened last.
pub(crate) struct Writer {
    kind: StreamKind,
    peer_id: u64,
    shared: Arc<Shared>,
    status: Arc<Status>,
    queue: Mutex<Option<Arc<Queue>>>,
}

impl Writer {
    pub(crate) fn new(kind: StreamKind, peer_id: u64, shared: Arc<Shared>, status: Arc<Status>) -> Arc<Self> {
        Arc::new(Self { kind, peer_id, shared, status, queue: Mutex::default() })
    }

    /// Queues a message if there is a stream; without one it counts as closed.
    pub(crate) fn push(&self, message: Message) -> Pushed {
        match &*self.queue.lock() {
            Some(queue) => queue.push(message),
            None => Pushed::Closed(message),
        }
    }

    /// The peer has opened a stream: it takes the place of the one before.
    pub(crate) fn attach(self: &Arc<Self>) -> StreamBody {
        let queue = Arc::new(Queue::default());
        let before = self.queue.lock().replace(queue.clone());
        if let Some(before) = before {
            self.end(&before);
        }
        self.status.activate();
        self.shared.observer.stream_opened(self.peer_id, self.kind);
        StreamBody {
            encoder: StreamEncoder::new(self.kind),
            beat: Box::pin(tokio::time::sleep(self.shared.timing.heartbeat)),
            queue,
            writer: self.clone(),
        }
    }

    /// Closes the stream, if there is one.
    pub(crate) fn close(&self) {
        let queue = self.queue.lock().take();
        if let Some(queue) = queue {
            self.end(&queue);
            self.shared.observer.stream_closed(self.peer_id, self.kind);
        }
    }

    fn end(&self, queue: &Queue) {
        if queue.close() > 0 {
            self.shared.handler.report_unreachable(self.peer_id);
        }
    }

    /// The stream of `queue` is broken.
    fn detach(&self, queue: &Arc<Queue>) {
        let was_current = {
            let mut current = self.queue.lock();
            let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, queue));
            if is_current {
                *current = None;
            }
            is_current
        };
        self.end(queue);
        if was_current {
            self.shared.observer.stream_closed(self.peer_id, self.kind);
            self.status.deactivate("stream to peer", &"closed");
        }
    }
}

/// The endless body: what has gathered in the queue goes out as one piece, and a heartbeat now and then.
pub(crate) struct StreamBody {
    encoder: StreamEncoder,
    beat: Pin<Box<Sleep>>,
    queue: Arc<Queue>,
    writer: Arc<Writer>,
}

impl StreamBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = Vec::new();
        let mut ended = false;
        while out.len() < CHUNK_BYTES {
            match self.queue.poll_next(cx) {
                Poll::Ready(Some(message)) => self.encoder.encode(&message, &mut out),
                Poll::Ready(None) => {
                    ended = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        // Regardless of other traffic, as the other end may count on it.
        while self.beat.as_mut().poll(cx).is_ready() {
            self.encoder.encode_heartbeat(&mut out);
            self.beat.as_mut().reset(Instant::now() + self.writer.shared.timing.heartbeat);
        }
        match (out.is_empty(), ended) {
            (false, _) => Poll::Ready(Some(out.into())),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = std::task::ready!(self.poll_chunk(cx));
        if let Some(chunk) = &chunk {
            self.writer.shared.observer.sent(self.writer.peer_id, chunk.len());
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.writer.detach(&self.queue);
    }
}

/// The body's errors as those of other bodies.
pub(crate) fn never(error: Infallible) -> io::Error {
    match error {}
}
