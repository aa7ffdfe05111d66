//! One call of a method, whichever way it came in (gRPC or JSON): the door, the deadline, and what is counted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::HeaderMap;
use prost::Message;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::door::Call;
use super::{Front, Inbound, Outbound, Raw};
use crate::member::Encoded;
use crate::metrics::Method;
use crate::refusal::{DEADLINE, Refusal};

/// A method as the tables name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// Its gRPC path.
    pub(super) path: &'static str,
    /// Whether a learner serves it.
    pub(super) learner: bool,
}

/// What every request and every answer is.
pub(super) trait Payload: Message + Default + 'static {}
impl<M: Message + Default + 'static> Payload for M {}

type Serving<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// A function that serves one request with one answer.
pub(super) type ServeUnary<Req, Resp> = fn(Arc<Front>, Call, Raw<Req>) -> Serving<Encoded<Resp>>;

/// A function that serves what comes in, one request or a stream of them, with a stream of answers.
pub(super) type ServeStream<In, Resp> = fn(Arc<Front>, Call, In) -> Serving<Outbound<Resp>>;

/// A call under way. Its end is counted however it ends: without an answer it was cancelled.
struct Counted {
    front: Arc<Front>,
    method: Arc<Method>,
    began: Instant,
    code: Code,
}

impl Counted {
    fn begin(front: &Arc<Front>, route: Route) -> Counted {
        let method = front.metrics.grpc.method(route.path);
        method.started.inc();
        Counted { front: front.clone(), method, began: Instant::now(), code: Code::Cancelled }
    }

    fn received(&self, bytes: usize) {
        self.method.received.inc();
        self.front.metrics.network.client_received_bytes.inc_by(bytes as u64);
    }

    fn sent(&self, bytes: usize) {
        self.method.sent.inc();
        self.front.metrics.network.client_sent_bytes.inc_by(bytes as u64);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.method.handled(self.code as i32, self.began.elapsed().as_secs_f64());
    }
}

/// Serves one request with one answer.
pub(super) async fn unary<Req, Resp: Payload>(
    front: Arc<Front>,
    route: Route,
    metadata: &HeaderMap,
    deadline: Option<Duration>,
    request: Raw<Req>,
    serve: ServeUnary<Req, Resp>,
) -> Result<Encoded<Resp>, Status> {
    let mut counted = Counted::begin(&front, route);
    let size = request.bytes.len();
    counted.received(size);
    let answer = match front.enter(metadata, route.learner, "unary") {
        Ok(call) => within(deadline, serve(front.clone(), call, request)).await,
        Err(refusal) => Err(refusal),
    };
    let answered = match &answer {
        Ok(answer) => {
            counted.code = Code::Ok;
            counted.sent(answer.bytes().len());
            answer.bytes().len()
        }
        Err(refusal) => {
            counted.code = refusal.code;
            0
        }
    };
    let took = counted.began.elapsed();
    if took > front.limits.warn_unary {
        tracing::warn!(
            method = route.path,
            ?took,
            request_size = size,
            response_size = answered,
            "request stats"
        );
    }
    answer.map_err(Status::from)
}

/// Ends a call whose deadline passes.
async fn within<T>(
    deadline: Option<Duration>,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    match deadline {
        None => answer.await,
        Some(deadline) => tokio::time::timeout(deadline, answer).await.unwrap_or(Err(DEADLINE)),
    }
}

/// Serves one request with a stream of answers.
pub(super) async fn server_stream<Req, Resp: Payload>(
    front: Arc<Front>,
    route: Route,
    metadata: &HeaderMap,
    request: Raw<Req>,
    serve: ServeStream<Raw<Req>, Resp>,
) -> Result<Outbound<Resp>, Status> {
    let counted = Counted::begin(&front, route);
    counted.received(request.bytes.len());
    let opened = match front.enter(metadata, route.learner, "stream") {
        Ok(call) => serve(front, call, request).await,
        Err(refusal) => Err(refusal),
    };
    answers(counted, opened)
}

/// Serves a stream of requests with a stream of answers.
pub(super) async fn both_stream<Req: Payload, Resp: Payload>(
    front: Arc<Front>,
    route: Route,
    metadata: &HeaderMap,
    requests: Inbound<Req>,
    serve: ServeStream<Inbound<Req>, Resp>,
) -> Result<Outbound<Resp>, Status> {
    let counted = Counted::begin(&front, route);
    let received = Received {
        method: counted.method.clone(),
        api: if route.path.ends_with("Watch") { "watch" } else { "lease-keepalive" },
        front: front.clone(),
        requests,
    };
    let opened = match front.enter(metadata, route.learner, "stream") {
        Ok(call) => serve(front, call, Box::pin(received)).await,
        Err(refusal) => Err(refusal),
    };
    answers(counted, opened)
}

fn answers<Resp: Payload>(
    mut counted: Counted,
    opened: Result<Outbound<Resp>, Refusal>,
) -> Result<Outbound<Resp>, Status> {
    match opened {
        Ok(answers) => Ok(Box::pin(Answers { counted, answers })),
        Err(refusal) => {
            counted.code = refusal.code;
            Err(refusal.into())
        }
    }
}

/// Requests on a stream, counted.
struct Received<Req> {
    front: Arc<Front>,
    method: Arc<Method>,
    api: &'static str,
    requests: Inbound<Req>,
}

impl<Req> Stream for Received<Req> {
    type Item = Result<Raw<Req>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.requests.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(request))) => {
                self.method.received.inc();
                self.front.metrics.network.client_received_bytes.inc_by(request.bytes.len() as u64);
            }
            Poll::Ready(Some(Err(_))) => {
                self.front.metrics.network.stream_failures.with_label_values(&["receive", self.api]).inc();
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        next
    }
}

/// Answers on a stream, counted.
struct Answers<Resp> {
    counted: Counted,
    answers: Outbound<Resp>,
}

impl<Resp: Payload> Stream for Answers<Resp> {
    type Item = Result<Encoded<Resp>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.answers.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(answer))) => self.counted.sent(answer.bytes().len()),
            Poll::Ready(Some(Err(status))) => self.counted.code = status.code(),
            // An error before it is how the call ended.
            Poll::Ready(None) if self.counted.code == Code::Cancelled => self.counted.code = Code::Ok,
            Poll::Ready(None) | Poll::Pending => {}
        }
        next
    }
}
