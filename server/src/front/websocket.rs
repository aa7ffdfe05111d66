//! Websockets on the gateway's routes, as browsers need them for streams in both directions: what the client sends is a
//! request body without an end, and each line of the answer is a text frame. What requests mean is not known here.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tonic::Status;
use tonic::body::Body;

use super::http::{HttpRequest, HttpResponse, refusal};
use super::{Front, gateway};

/// The subprotocol under which a token comes.
const BEARER: &str = "Bearer";

/// Pieces of the request body that wait for whoever serves it.
const PIECES_AHEAD: usize = 1;

type Pieces = mpsc::Sender<Result<Frame<Bytes>, Status>>;

/// Whether a request wants to go on as a websocket.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers the handshake; what follows is served on a task of its own, as the connection is no HTTP any more.
pub(super) fn serve(front: Arc<Front>, mut request: HttpRequest) -> HttpResponse {
    let headers = request.headers();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| version == Some(b"13")) else {
        let text = "websocket: the handshake needs Sec-WebSocket-Key and Sec-WebSocket-Version: 13\n";
        return refusal(StatusCode::BAD_REQUEST, text);
    };
    let accepted = derive_accept_key(key.as_bytes());
    let protocol_token = protocol_token(headers);
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answered = response.headers_mut();
    answered.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answered.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::try_from(accepted) {
        answered.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    if protocol_token.is_some() {
        answered.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    let (pieces, body) = mpsc::channel(PIECES_AHEAD);
    let mut inner = HttpRequest::new(Body::new(StreamBody::new(ReceiverStream::new(body))));
    *inner.method_mut() = Method::POST;
    *inner.uri_mut() = request.uri().clone();
    *inner.headers_mut() = forwarded(headers, protocol_token);
    tokio::spawn(converse(front, hyper::upgrade::on(&mut request), inner, pieces));
    response
}

/// What the calls see of the handshake's headers.
fn forwarded(headers: &HeaderMap, protocol_token: Option<String>) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for name in [header::ORIGIN, header::REFERER] {
        if let Some(value) = headers.get(&name) {
            forwarded.insert(name, value.clone());
        }
    }
    if let Some(token) = cookie_token(headers).or(protocol_token)
        && let Ok(value) = HeaderValue::try_from(format!("{BEARER} {token}"))
    {
        forwarded.insert(header::AUTHORIZATION, value);
    }
    forwarded
}

/// `Bearer, <token>` in the place of subprotocols: browsers can set no other header.
fn protocol_token(headers: &HeaderMap) -> Option<String> {
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let (bearer, token) = protocols.split_once(',')?;
    (bearer.trim() == BEARER).then(|| token.trim().to_owned())
}

fn cookie_token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("token="))
        .map(str::to_owned)
}

/// Ends when either side does; the call ends with it.
async fn converse(front: Arc<Front>, upgrade: OnUpgrade, request: HttpRequest, pieces: Pieces) {
    let upgraded: Upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a websocket was not opened"),
    };
    let config = WebSocketConfig::default().max_message_size(Some(front.limits.max_message_bytes()));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (frames_out, frames_in) = socket.split();
    let ended = tokio::select! {
        ended = receive(frames_in, pieces) => ended,
        ended = send(gateway::serve(front, request), frames_out) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a websocket ended");
    }
}

/// Makes a body of what comes in, one line a message.
async fn receive(
    mut frames: impl Stream<Item = Result<Message, Error>> + Unpin,
    pieces: Pieces,
) -> Result<(), Error> {
    while let Some(message) = frames.next().await {
        let data = match message? {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(data) => data,
            Message::Close(_) => return Ok(()),
            // Pings are answered by the library.
            _ => continue,
        };
        let mut line = BytesMut::with_capacity(data.len() + 1);
        line.put(data);
        line.put_u8(b'\n');
        if pieces.send(Ok(Frame::data(line.freeze()))).await.is_err() {
            // The call wants no more requests; its answers may go on.
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

/// Sends the lines of the answer.
async fn send(
    answer: impl Future<Output = HttpResponse>,
    mut frames: impl Sink<Message, Error = Error> + Unpin,
) -> Result<(), Error> {
    let mut body = answer.await.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(lines) = frame.into_data() else { continue };
        for line in messages(&lines) {
            frames.send(line).await?;
        }
    }
    frames.close().await
}

fn messages(lines: &[u8]) -> Vec<Message> {
    String::from_utf8_lossy(lines).lines().filter(|line| !line.is_empty()).map(Message::text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_token_comes_as_subprotocol_or_cookie_and_little_else_is_forwarded() {
        let given = headers(&[("sec-websocket-protocol", "Bearer,abc"), ("origin", "o"), ("x", "y")]);
        let seen = forwarded(&given, protocol_token(&given));
        assert_eq!(
            (seen["authorization"].as_bytes(), seen["origin"].as_bytes()),
            (&b"Bearer abc"[..], &b"o"[..])
        );
        assert_eq!(seen.len(), 2);
        let both = headers(&[("sec-websocket-protocol", "Bearer, abc"), ("cookie", "a=b; token=def")]);
        assert_eq!(forwarded(&both, protocol_token(&both))["authorization"], "Bearer def");
        assert_eq!(protocol_token(&headers(&[("sec-websocket-protocol", "chat, abc")])), None);
    }
}
