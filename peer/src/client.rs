//! Connections to peers: HTTP/1.1 over TCP or a Unix socket, with a limit on every wait.
//!
//! What lives here: dialling, one request on one connection, reading a small answer whole. What may not: what is asked.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::io::WriteTimeout;
use crate::url::{PeerUrl, Target};

/// The body of a request or an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    authority: String,
}

/// Limits on waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// For a connection.
    pub(crate) dial: Duration,
    /// For a peer that takes no bytes.
    pub(crate) write: Duration,
}

impl Connection {
    /// Dials `url`.
    pub(crate) async fn open(url: &PeerUrl, waits: Waits) -> io::Result<Connection> {
        let dialling = async {
            match url.target() {
                Target::Tcp { host, port } => {
                    // The brackets of a v6 address belong to the URL alone.
                    let host = host.trim_start_matches('[').trim_end_matches(']');
                    let stream = TcpStream::connect((host, *port)).await?;
                    stream.set_nodelay(true)?;
                    Self::over(stream, url, waits.write).await
                }
                Target::Unix(path) => Self::over(UnixStream::connect(path).await?, url, waits.write).await,
            }
        };
        timeout(waits.dial, dialling).await.map_err(|_| timed_out("dialling"))?
    }

    async fn over<S>(stream: S, url: &PeerUrl, write: Duration) -> io::Result<Connection>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(WriteTimeout::new(stream, write));
        let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        // Ends with the sender and with the body of its last answer; what it says is said to them as well.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, authority: url.authority() })
    }

    /// The other end has not hung up, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Body,
    ) -> io::Result<Response<Incoming>> {
        let host = self.authority.parse().map_err(io::Error::other)?;
        headers.insert(header::HOST, host);
        let mut request = Request::builder().method(method).uri(path).body(body).map_err(io::Error::other)?;
        *request.headers_mut() = headers;
        self.sender.ready().await.map_err(io::Error::other)?;
        self.sender.send_request(request).await.map_err(io::Error::other)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Whole {
    /// The body as an error would show it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(256)]).trim().to_owned()
    }
}

/// Reads an answer to its end, refusing bodies of more than `limit` bytes.
pub(crate) async fn read_whole(response: Response<Incoming>, limit: usize) -> io::Result<Whole> {
    let (head, body) = response.into_parts();
    let body = collect(body, limit).await?;
    Ok(Whole { status: head.status, headers: head.headers, body })
}

/// Reads a body to its end, refusing more than `limit` bytes.
pub(crate) async fn collect(mut body: Incoming, limit: usize) -> io::Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            if whole.len() + data.len() > limit {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the body is longer than its limit"));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

pub(crate) fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"))
}
