//! gRPC on the bare `h2` crate, because the client shares the cores with the server that it measures: no buffer task, no
//! task per request. What the requests mean is not known here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use prost::Message;
use tokio::net::TcpStream;

use crate::error::Failure;

/// Longest wait for a connection to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Windows wide enough that a large answer never waits for this side.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// A gRPC message's head: one byte of flags, four of length.
const MESSAGE_HEAD: usize = 5;
/// Larger messages are refused: no etcd answer comes near.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

macro_rules! methods {
    ($($name:ident = $path:literal,)*) => {
        /// A method of etcd's services.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Method { $($name),* }

        impl Method {
            const ALL: &[Method] = &[$(Method::$name),*];

            pub(crate) fn path(self) -> &'static str {
                match self { $(Method::$name => $path),* }
            }
        }
    };
}

methods! {
    Put = "/etcdserverpb.KV/Put",
    Range = "/etcdserverpb.KV/Range",
    Txn = "/etcdserverpb.KV/Txn",
    DeleteRange = "/etcdserverpb.KV/DeleteRange",
    Compact = "/etcdserverpb.KV/Compact",
    Watch = "/etcdserverpb.Watch/Watch",
    LeaseGrant = "/etcdserverpb.Lease/LeaseGrant",
    LeaseKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive",
    MemberList = "/etcdserverpb.Cluster/MemberList",
    MemberAdd = "/etcdserverpb.Cluster/MemberAdd",
    MemberRemove = "/etcdserverpb.Cluster/MemberRemove",
    Defragment = "/etcdserverpb.Maintenance/Defragment",
    Snapshot = "/etcdserverpb.Maintenance/Snapshot",
    Status = "/etcdserverpb.Maintenance/Status",
    Authenticate = "/etcdserverpb.Auth/Authenticate",
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: String,
    /// By the place of the method in [`Method::ALL`]: building a URI costs more than cloning one.
    uris: Vec<Uri>,
    headers: HeaderMap,
}

impl Connection {
    /// Connects to `endpoint` (`host:port`); the connection is driven by a task on the caller's runtime.
    pub(crate) async fn open(endpoint: &str, token: Option<&str>) -> Result<Connection, Failure> {
        let unreachable = |reason: String| Failure::Unreachable { endpoint: endpoint.to_owned(), reason };
        let address = resolve(endpoint).await?;
        let connected = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await;
        let tcp = connected
            .map_err(|_| unreachable(format!("no connection within {CONNECT_PATIENCE:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) =
            builder.handshake(tcp).await.map_err(|error| unreachable(error.to_string()))?;
        // Its end shows in every call that is under way.
        tokio::spawn(async move { drop(connection.await) });
        let uri = |method: &Method| {
            format!("http://{endpoint}{}", method.path())
                .parse()
                .map_err(|error| unreachable(format!("not an address: {error}")))
        };
        let uris = Method::ALL.iter().map(uri).collect::<Result<_, _>>()?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(token) = token {
            let token = HeaderValue::from_str(token).map_err(|_| Failure::Foreign {
                endpoint: endpoint.to_owned(),
                what: "a token that is no header".to_owned(),
            })?;
            headers.insert("token", token);
        }
        Ok(Connection { sender, shared: Arc::new(Shared { endpoint: endpoint.to_owned(), uris, headers }) })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// One request, one answer.
    pub(crate) async fn unary<A: Message + Default>(
        &self,
        method: Method,
        question: &impl Message,
    ) -> Result<A, Failure> {
        let mut stream = self.stream(method).await?;
        stream.send(question, true)?;
        let answer = stream.next().await?.ok_or_else(|| stream.foreign("an empty answer"))?;
        // The status comes after the message.
        if stream.next::<A>().await?.is_some() {
            return Err(stream.foreign("two answers to one request"));
        }
        Ok(answer)
    }

    /// Opens a call; nothing is sent of it yet but its head.
    pub(crate) async fn stream(&self, method: Method) -> Result<Stream, Failure> {
        let lost = |error: h2::Error| self.lost(&error);
        let mut sender = self.sender.clone().ready().await.map_err(lost)?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.shared.uris[method as usize].clone();
        *request.headers_mut() = self.shared.headers.clone();
        let (response, send) = sender.send_request(request, false).map_err(lost)?;
        Ok(Stream {
            method,
            shared: self.shared.clone(),
            send,
            receive: Receive::Head(response),
            buffer: Bytes::new(),
        })
    }

    fn lost(&self, error: &h2::Error) -> Failure {
        Failure::Lost { endpoint: self.shared.endpoint.clone(), reason: error.to_string() }
    }
}

async fn resolve(endpoint: &str) -> Result<SocketAddr, Failure> {
    let unreachable = |reason: String| Failure::Unreachable { endpoint: endpoint.to_owned(), reason };
    let mut found =
        tokio::net::lookup_host(endpoint).await.map_err(|error| unreachable(error.to_string()))?;
    found.next().ok_or_else(|| unreachable("the name has no address".to_owned()))
}

enum Receive {
    Head(ResponseFuture),
    Body(RecvStream),
    Done,
}

/// One call that is under way.
pub(crate) struct Stream {
    method: Method,
    shared: Arc<Shared>,
    send: SendStream<Bytes>,
    receive: Receive,
    /// What has come of the next messages.
    buffer: Bytes,
}

impl Stream {
    /// Sends one message, the last one if `end`. Never waits: what the window has no room for is kept by h2.
    pub(crate) fn send(&mut self, message: &impl Message, end: bool) -> Result<(), Failure> {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(MESSAGE_HEAD + length);
        frame.put_u8(0);
        frame.put_u32(
            u32::try_from(length).map_err(|_| Failure::Settings("a request above 4 GiB".to_owned()))?,
        );
        message.encode(&mut frame).expect("a BytesMut grows");
        self.send.send_data(frame.freeze(), end).map_err(|error| self.lost(&error))
    }

    /// The next message; nothing after the last one if the status is OK.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        match self.next_bytes().await? {
            Some(bytes) => A::decode(bytes).map(Some).map_err(|error| self.foreign(&error.to_string())),
            None => Ok(None),
        }
    }

    /// The next message as it came.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match &mut self.receive {
                Receive::Head(response) => {
                    let head = response.await.map_err(|error| self.lost(&error))?;
                    self.begin_body(head)?;
                }
                Receive::Body(body) => match body.data().await {
                    Some(Ok(data)) => {
                        let released = body.flow_control().release_capacity(data.len());
                        released.map_err(|error| self.lost(&error))?;
                        self.append(data);
                    }
                    Some(Err(error)) => return Err(self.lost(&error)),
                    None => {
                        let trailers = body.trailers().await.map_err(|error| self.lost(&error))?;
                        self.receive = Receive::Done;
                        let trailers = trailers.ok_or_else(|| self.foreign("an answer without a status"))?;
                        self.check_status(&trailers)?;
                    }
                },
                Receive::Done if self.buffer.is_empty() => return Ok(None),
                Receive::Done => return Err(self.foreign("half a message at the end")),
            }
        }
    }

    fn begin_body(&mut self, head: Response<RecvStream>) -> Result<(), Failure> {
        let (parts, body) = head.into_parts();
        self.receive = if body.is_end_stream() { Receive::Done } else { Receive::Body(body) };
        if parts.status != http::StatusCode::OK {
            return Err(self.foreign(&format!("HTTP status {}", parts.status)));
        }
        // A refusal may come as head alone.
        if parts.headers.contains_key("grpc-status") {
            self.check_status(&parts.headers)?;
        }
        Ok(())
    }

    fn check_status(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match text("grpc-status").and_then(|code| code.parse().ok()) {
            Some(0) => Ok(()),
            Some(code) => {
                let message = percent_decoded(text("grpc-message").unwrap_or_default());
                Err(Failure::from_status(self.method.path(), code, message))
            }
            None => Err(self.foreign("an answer without a status")),
        }
    }

    fn append(&mut self, data: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = data;
            return;
        }
        // The parts of one message come one after the other; growing in place keeps a large one from being copied each time.
        let mut joined = match std::mem::take(&mut self.buffer).try_into_mut() {
            Ok(mut owned) => {
                owned.reserve(data.len());
                owned
            }
            Err(shared) => {
                let mut copy = BytesMut::with_capacity(shared.len() + data.len());
                copy.extend_from_slice(&shared);
                copy
            }
        };
        joined.extend_from_slice(&data);
        self.buffer = joined.freeze();
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((head, rest)) = self.buffer.split_at_checked(MESSAGE_HEAD) else { return Ok(None) };
        if head[0] != 0 {
            return Err(self.foreign("a compressed message that was not asked for"));
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(self.foreign(&format!("a message of {length} bytes")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(MESSAGE_HEAD);
        Ok(Some(self.buffer.split_to(length)))
    }

    fn lost(&self, error: &h2::Error) -> Failure {
        Failure::Lost { endpoint: self.shared.endpoint.clone(), reason: error.to_string() }
    }

    fn foreign(&self, what: &str) -> Failure {
        Failure::Foreign {
            endpoint: self.shared.endpoint.clone(),
            what: format!("{}: {what}", self.method.path()),
        }
    }
}

/// `%41` is `A`; whatever is not of that form stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn messages_of_a_status_are_read_as_they_were_meant() {
        assert_eq!(percent_decoded("etcdserver: no space%21 100%"), "etcdserver: no space! 100%");
        assert_eq!(percent_decoded("%C3%A9%zz"), "é%zz");
    }
}
