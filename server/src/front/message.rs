//! One gRPC message in, one out: the whole exchange of a unary call on the wire, without the machinery that streams
//! need. What the messages mean is not known here.

use std::io::{IoSlice, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

/// Compression flag and length before each message.
const PREFIX_LEN: usize = 5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: &str = "grpc-encoding";

/// Receives the one message of a request, of `limit` bytes at most.
pub(super) async fn receive<B>(mut body: B, headers: &HeaderMap, limit: usize) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::internal(format!("the request was cut short: {error}")))?;
        let Ok(data) = frame.into_data() else { break };
        whole = joined(whole, data);
        if let Some(len) = announced(&whole)
            && (len > limit || whole.len() > PREFIX_LEN + len)
        {
            break;
        }
        if body.is_end_stream() {
            break;
        }
    }
    let Some(len) = announced(&whole) else { return Err(Status::internal("Missing request message.")) };
    if len > limit {
        return Err(too_large(len, limit));
    }
    if whole.len() != PREFIX_LEN + len {
        return Err(Status::internal("Unexpected EOF decoding stream."));
    }
    let flag = whole[0];
    whole.advance(PREFIX_LEN);
    match (flag, headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes)) {
        (0, _) => Ok(whole),
        (1, Some(b"gzip")) => unpack(&whole, limit),
        (1, None | Some(b"identity")) => {
            Err(Status::internal("grpc: compressed flag set with identity or empty encoding"))
        }
        (1, Some(other)) => Err(Status::unimplemented(format!(
            "grpc: Decompressor is not installed for grpc-encoding {:?}",
            String::from_utf8_lossy(other)
        ))),
        (flag, _) => Err(Status::internal(format!("grpc: received unexpected payload format {flag}"))),
    }
}

/// What etcd's gRPC says of a message over the limit.
pub(super) fn too_large(len: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({len} vs. {limit})"))
}

/// Nearly every message comes in one piece, which is not copied.
fn joined(whole: Bytes, data: Bytes) -> Bytes {
    if whole.is_empty() {
        return data;
    }
    if data.is_empty() {
        return whole;
    }
    let mut joined = match whole.try_into_mut() {
        Ok(joined) => joined,
        Err(whole) => {
            let mut joined = BytesMut::with_capacity(2 * (whole.len() + data.len()));
            joined.put(whole);
            joined
        }
    };
    joined.put(data);
    joined.freeze()
}

/// The length that the message says it has.
fn announced(whole: &[u8]) -> Option<usize> {
    let length: [u8; 4] = whole.get(1..PREFIX_LEN)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, Status> {
    let mut plain = Vec::new();
    let most = limit as u64 + 1;
    GzDecoder::new(packed).take(most).read_to_end(&mut plain).map_err(|error| {
        Status::internal(format!("grpc: failed to decompress the received message: {error}"))
    })?;
    if plain.len() > limit {
        let text = format!("grpc: received message after decompression larger than max {limit}");
        return Err(Status::resource_exhausted(text));
    }
    Ok(plain.into())
}

/// The response with one message.
pub(super) fn answer(message: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::Message(Some(message)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// What goes back: one message and the good end, or anything else.
pub(super) enum Answer {
    /// A message that is still to be sent; `None`: its trailers are. (Bodies are not asked again after those.)
    Message(Option<Bytes>),
    /// The trailers are sent.
    Ended,
    /// A stream, a refusal, or no gRPC at all.
    Any(Body),
}

/// A message behind its prefix: they leave together, and the message is not copied for that.
pub(super) struct Prefixed {
    prefix: [u8; PREFIX_LEN],
    /// Bytes of the prefix that have left.
    sent: usize,
    message: Bytes,
}

impl Prefixed {
    fn message(message: Bytes) -> Prefixed {
        let mut prefix = [0; PREFIX_LEN];
        // The encoder of streams has the same bound: a message is addressed with 32 bits.
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        prefix[1..].copy_from_slice(&len.to_be_bytes());
        Prefixed { prefix, sent: 0, message }
    }

    fn bare(message: Bytes) -> Prefixed {
        Prefixed { prefix: [0; PREFIX_LEN], sent: PREFIX_LEN, message }
    }
}

impl Buf for Prefixed {
    fn remaining(&self) -> usize {
        PREFIX_LEN - self.sent + self.message.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.sent < PREFIX_LEN { &self.prefix[self.sent..] } else { &self.message }
    }

    fn advance(&mut self, count: usize) {
        let of_prefix = count.min(PREFIX_LEN - self.sent);
        self.sent += of_prefix;
        self.message.advance(count - of_prefix);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [&self.prefix[self.sent..], &self.message[..]];
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts.into_iter().filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }
}

impl HttpBody for Answer {
    type Data = Prefixed;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Prefixed>, Status>>> {
        match &mut *self {
            Answer::Message(message @ Some(_)) => {
                let message = message.take().unwrap_or_default();
                Poll::Ready(Some(Ok(Frame::data(Prefixed::message(message)))))
            }
            Answer::Message(None) => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
                *self = Answer::Ended;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Answer::Ended => Poll::Ready(None),
            Answer::Any(body) => {
                Pin::new(body).poll_frame(context).map_ok(|frame| frame.map_data(Prefixed::bare))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Message(_) => false,
            Answer::Ended => true,
            Answer::Any(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // gRPC announces no length.
            Answer::Message(_) => SizeHint::default(),
            Answer::Ended => SizeHint::with_exact(0),
            Answer::Any(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::{Full, StreamBody};
    use tonic::Code;

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut whole = vec![flag];
        whole.extend((message.len() as u32).to_be_bytes());
        whole.extend(message);
        whole
    }

    fn encoding(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(GRPC_ENCODING), HeaderValue::from_static(name))])
    }

    async fn received(whole: Vec<u8>, headers: &HeaderMap) -> Result<Bytes, Code> {
        receive(Full::new(Bytes::from(whole)), headers, 1000).await.map_err(|status| status.code())
    }

    #[tokio::test]
    async fn a_message_is_found_in_any_pieces() {
        let whole = framed(0, b"some message");
        for piece in 1..=whole.len() {
            let pieces: Vec<_> = whole.chunks(piece).map(Bytes::copy_from_slice).collect();
            let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(piece)));
            let body = StreamBody::new(tokio_stream::iter(frames));
            assert_eq!(receive(body, &HeaderMap::new(), 1000).await.unwrap(), "some message");
        }
        assert_eq!(received(framed(0, b""), &HeaderMap::new()).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn what_is_no_single_message_is_refused() {
        let none = HeaderMap::new();
        for wrong in [vec![], vec![0, 0, 0, 0], framed(0, b"abc")[..7].to_vec(), framed(7, b"abc")] {
            assert_eq!(received(wrong, &none).await, Err(Code::Internal));
        }
        let two = [framed(0, b"a"), framed(0, b"b")].concat();
        assert_eq!(received(two, &none).await, Err(Code::Internal));
        // Its length alone decides: the rest is not waited for.
        assert_eq!(received(vec![0, 0, 0, 3, 233], &none).await, Err(Code::ResourceExhausted));
        assert_eq!(received(vec![0, 255, 255, 255, 255], &none).await, Err(Code::ResourceExhausted));
    }

    #[tokio::test]
    async fn compressed_messages_are_unpacked_within_the_limit() {
        let pack = |plain: &[u8]| {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(plain).unwrap();
            framed(1, &packed.finish().unwrap())
        };
        assert_eq!(received(pack(b"plain"), &encoding("gzip")).await.unwrap(), "plain");
        assert_eq!(received(pack(&[0; 1001]), &encoding("gzip")).await, Err(Code::ResourceExhausted));
        assert_eq!(received(pack(b"plain"), &HeaderMap::new()).await, Err(Code::Internal));
        assert_eq!(received(framed(1, b"no gzip"), &encoding("gzip")).await, Err(Code::Internal));
        assert_eq!(received(pack(b"plain"), &encoding("snappy")).await, Err(Code::Unimplemented));
    }

    #[tokio::test]
    async fn an_answer_is_a_message_and_its_good_end() {
        let mut body = answer(Bytes::from_static(b"abc")).into_body();
        let mut data = body.frame().await.unwrap().unwrap().into_data().ok().unwrap();
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(data.chunks_vectored(&mut slices), 2);
        assert_eq!(data.copy_to_bytes(data.remaining()), b"\0\0\0\0\x03abc"[..]);
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().ok().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }
}
