//! Connections: accepting, protocol, keep-alive and the orderly end. What a request means is not known here.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::crew::Crew;
use super::gathered::Gathered;
use super::message::Answer;
use super::pings::Guarded;
use super::{Front, grpc, http as plain};

/// Where clients come in.
#[derive(Debug)]
pub enum Listener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// gRPC over HTTP/2, everything else over HTTP/1.1.
    Everything,
    /// gRPC alone.
    Grpc,
    /// The gateway and the plain endpoints alone.
    Http,
    /// `/metrics` and the health endpoints alone.
    Metrics,
}

impl Offer {
    /// What it serves, as etcd's log names it.
    #[must_use]
    pub fn traffic(self) -> &'static str {
        match self {
            Offer::Everything => "grpc+http",
            Offer::Grpc => "grpc",
            Offer::Http => "http",
            Offer::Metrics => "metrics",
        }
    }
}

/// Serves `listener` until `stop` becomes true; then finishes the requests under way and returns.
pub async fn serve(
    front: Arc<Front>,
    listener: Listener,
    offer: Offer,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(socket) => _ = connections.spawn(place(front.clone(), socket, offer, stop.clone())),
                // One caller's fault or a passing lack of descriptors: the listener itself lives on.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept connection");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Resolves when it is time to stop, or when nobody is left who could say so.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // The guard on the value must not live across an await.
    let _ = stop.wait_for(|stop| *stop).await.map(|_| ());
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection of which nothing has been read.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Listener::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }
}

/// How HTTP/2 begins, and no method that is served here.
const HTTP2: &[u8; 2] = b"PR";

impl Socket {
    /// Waits until the client says something; whether it begins as HTTP/2 does. What was said is left to be read.
    async fn begins_http2(&self) -> io::Result<bool> {
        let mut begin = [0; HTTP2.len()];
        let mut look = |socket: BorrowedFd<'_>| Ok(recv(socket, &mut begin, RecvFlags::PEEK)?);
        match self {
            Socket::Tcp(stream) => stream.async_io(Interest::READABLE, || look(stream.as_fd())).await?,
            Socket::Unix(stream) => stream.async_io(Interest::READABLE, || look(stream.as_fd())).await?,
        };
        Ok(&begin == HTTP2)
    }

    fn here(self) -> Box<dyn Stream> {
        match self {
            Socket::Tcp(stream) => Box::new(stream),
            Socket::Unix(stream) => Box::new(stream),
        }
    }

    /// From now on the reactor of `runtime` watches it.
    fn moved(self, runtime: &Handle) -> io::Result<Box<dyn Stream>> {
        let _there = runtime.enter();
        Ok(match self {
            Socket::Tcp(stream) => Box::new(TcpStream::from_std(stream.into_std()?)?),
            Socket::Unix(stream) => Box::new(UnixStream::from_std(stream.into_std()?)?),
        })
    }
}

/// Serves a connection where it belongs: gRPC on a lane, everything else, which may have to make much JSON, on a worker.
/// Whoever says too little at first is served by a worker, whatever comes then.
async fn place(front: Arc<Front>, socket: Socket, offer: Offer, mut stop: watch::Receiver<bool>) {
    let http2 = tokio::select! {
        http2 = socket.begins_http2() => http2,
        () = stopping(&mut stop) => return,
    };
    let placed = match http2 {
        Ok(true) if offer != Offer::Metrics => on_lane(&front, socket, offer, stop).await,
        Ok(_) => {
            connection(front, socket.here(), offer, stop).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = placed {
        tracing::debug!(%error, "a connection ended before it began");
    }
}

async fn on_lane(
    front: &Arc<Front>,
    socket: Socket,
    offer: Offer,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let seat = front.lanes.seat();
    let stream = socket.moved(&seat.runtime)?;
    // A set, because it takes the connection with it when this is dropped.
    let mut there = JoinSet::new();
    there.spawn_on(connection(front.clone(), stream, offer, stop), &seat.runtime);
    there.join_next().await;
    Ok(())
}

async fn connection(
    front: Arc<Front>,
    stream: Box<dyn Stream>,
    offer: Offer,
    mut stop: watch::Receiver<bool>,
) {
    let limits = &front.limits;
    let crew = Crew::default();
    let mut builder = auto::Builder::new(crew.clone());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(std::time::Duration::from_secs(300));
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    let guarded = Guarded::new(Gathered::new(stream), limits.keepalive_min);
    let answering = front.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let front = answering.clone();
        async move { Ok::<_, Infallible>(answer(front, request, offer).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(guarded), service);
    let until_stopped = async {
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = crew.drive(until_stopped).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Over HTTP/2 there is gRPC and nothing else, over HTTP/1.1 everything but gRPC.
async fn answer(front: Arc<Front>, request: http::Request<Incoming>, offer: Offer) -> http::Response<Answer> {
    let http2 = request.version() == http::Version::HTTP_2;
    let plain = match offer {
        Offer::Everything | Offer::Grpc if http2 => return grpc::serve(front, request).await,
        Offer::Everything | Offer::Http if !http2 => plain::serve(front, request.map(Body::new)).await,
        Offer::Metrics => plain::serve_metrics(front, request.map(Body::new)).await,
        _ => plain::not_found(),
    };
    plain.map(Answer::Any)
}
