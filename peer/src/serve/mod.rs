//! The peer port: accepting, HTTP/1.1, and which path goes where.
//!
//! What lives here: connections and routing. What is answered stands in `raft` (streams, posts, snapshots) and `cluster`
//! (everything else).

mod cluster;
mod raft;
mod reply;

pub(crate) use cluster::{HashAnswer, parse_members};

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Body;
use crate::handler::Endpoints;
use crate::io::WriteTimeout;
use crate::probe;
use crate::transport::Transport;

/// Where peers come in.
#[derive(Debug)]
pub enum PeerListener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Longest time until a request's head is there, idle connections included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the peer port.
#[derive(Clone)]
pub struct PeerServer {
    transport: Transport,
    endpoints: Arc<dyn Endpoints>,
}

impl std::fmt::Debug for PeerServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerServer").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl PeerServer {
    /// Answers for `transport` and `endpoints`.
    #[must_use]
    pub fn new(transport: Transport, endpoints: Arc<dyn Endpoints>) -> Self {
        Self { transport, endpoints }
    }

    /// Serves `listener` until `stop` resolves; then all connections end.
    pub async fn serve(self, listener: PeerListener, stop: impl Future<Output = ()>) {
        let (closing, closed) = watch::channel(());
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok(stream) => {
                        connections.spawn(self.clone().connection(stream, closed.clone()));
                    }
                    // One caller's fault or a passing lack of descriptors: the listener itself lives on.
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a peer's connection");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
        }
        // Streams never end by themselves.
        drop(closing);
        connections.shutdown().await;
    }

    async fn connection(self, stream: Box<dyn Stream>, mut closed: watch::Receiver<()>) {
        let write = self.transport.shared().timing.write;
        let stream = TokioIo::new(WriteTimeout::new(stream, write));
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(stream, service);
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "a peer's connection ended");
            },
            _ = closed.changed() => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let is = |method: &Method| request.method() == method;
        match path.as_str() {
            "/raft" if !is(&Method::POST) => reply::not_allowed(Some("POST")),
            "/raft" => raft::message(&self.transport, request).await,
            "/raft/snapshot" if !is(&Method::POST) => reply::not_allowed(Some("POST")),
            "/raft/snapshot" => raft::snapshot(&self.transport, request).await,
            "/raft/probing" => reply::with_type(StatusCode::OK, "text/plain; charset=utf-8", probe::answer()),
            "/raft/stream" => reply::redirect("/raft/stream/"),
            "/version" | "/members" | "/members/hashkv" | "/downgrade/enabled" if !is(&Method::GET) => {
                reply::not_allowed(Some("GET"))
            }
            "/leases" | "/leases/internal" if !is(&Method::POST) => reply::not_allowed(None),
            _ => match path.strip_prefix("/raft/stream/") {
                Some(_) if !is(&Method::GET) => reply::not_allowed(Some("GET")),
                Some(rest) => raft::stream(&self.transport, rest, request.headers()),
                None => cluster::answer(&self.transport, &*self.endpoints, &path, request).await,
            },
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl PeerListener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}
