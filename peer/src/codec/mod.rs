//! The two framings of endless streams, as bytes in and messages out.
//!
//! What lives here: frames, their limits, and the state that both ends of a `msgapp` stream keep. What may not: sockets,
//! HTTP, and what a message means to raft.
//!
//! Decoders are fed with whatever has arrived and take whole frames from its front. They hold no memory of their own
//! beyond those bytes: a frame that announces more than the limit is refused at its length, before anything of it is
//! waited for. Payloads share the buffer that they came in.

mod message;
mod msgapp;

use bytes::{Buf, Bytes, BytesMut};
use stanchion_raft::{DecodeError, Message, WireForm};

pub use message::{MessageDecoder, MessageEncoder};
pub use msgapp::{MsgAppDecoder, MsgAppEncoder};

/// Largest frame of any stream in bytes; etcd's limit on the `message` stream.
pub const FRAME_LIMIT: usize = 512 << 20;

/// The form of messages that is sent: the smallest, and one that every release reads.
pub const SENT_FORM: WireForm = WireForm::Etcd37;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Any message, each with its length before it.
    Message,
    /// Appends of a leader, in a framing that leaves out what both ends know ("v2").
    MsgApp,
}

impl StreamKind {
    /// The path element below `/raft/stream/`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::MsgApp => "msgapp",
        }
    }
}

/// Why a stream cannot be read on. Nothing can be found again inside a stream: it is closed and dialled anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A frame is longer than the limit.
    #[error("a frame announces {announced} bytes, the limit is {limit}")]
    TooLong {
        /// The length that was read.
        announced: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A frame of a type that does not exist.
    #[error("unknown frame type {found:#04x}")]
    UnknownType {
        /// The first byte of the frame.
        found: u8,
    },
    /// What a frame holds is not what it should be.
    #[error("{what} cannot be decoded: {source}")]
    Protobuf {
        /// `Message` or `Entry`.
        what: &'static str,
        /// What the decoder says.
        source: DecodeError,
    },
}

/// One frame of either stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The other end is alive.
    Heartbeat,
    /// A message.
    Message(Box<Message>),
}

/// The decoder of either stream.
#[derive(Debug)]
pub enum StreamDecoder {
    /// Of the `message` stream.
    Message(MessageDecoder),
    /// Of the `msgapp` stream.
    MsgApp(MsgAppDecoder),
}

impl StreamDecoder {
    /// For a stream of `kind` that member `local` has opened at member `remote`.
    #[must_use]
    pub fn new(kind: StreamKind, local: u64, remote: u64) -> Self {
        match kind {
            StreamKind::Message => Self::Message(MessageDecoder::new(FRAME_LIMIT)),
            StreamKind::MsgApp => Self::MsgApp(MsgAppDecoder::new(local, remote, FRAME_LIMIT)),
        }
    }

    /// Takes one frame from the front of `buf`, or nothing if it is not whole yet.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is lost.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        match self {
            Self::Message(decoder) => decoder.decode(buf),
            Self::MsgApp(decoder) => decoder.decode(buf),
        }
    }
}

/// The encoder of either stream.
#[derive(Debug)]
pub enum StreamEncoder {
    /// Of the `message` stream.
    Message(MessageEncoder),
    /// Of the `msgapp` stream.
    MsgApp(MsgAppEncoder),
}

impl StreamEncoder {
    /// For a stream of `kind`.
    #[must_use]
    pub fn new(kind: StreamKind) -> Self {
        match kind {
            StreamKind::Message => Self::Message(MessageEncoder),
            StreamKind::MsgApp => Self::MsgApp(MsgAppEncoder::default()),
        }
    }

    /// Appends a message's frame.
    pub fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        match self {
            Self::Message(encoder) => encoder.encode(message, out),
            Self::MsgApp(encoder) => encoder.encode(message, out),
        }
    }

    /// Appends the frame that only says that this end is alive.
    pub fn encode_heartbeat(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Message(encoder) => encoder.encode_heartbeat(out),
            Self::MsgApp(encoder) => encoder.encode_heartbeat(out),
        }
    }
}

/// Appends a length of eight bytes and then what `write` writes.
fn put_delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    write(out);
    let len = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&len.to_be_bytes());
}

/// The length at `at`, if its bytes are there; refused above `limit`.
fn peek_length(buf: &[u8], at: usize, limit: usize) -> Result<Option<usize>, StreamError> {
    let Some(bytes) = buf.get(at..at + 8) else { return Ok(None) };
    let mut number = [0; 8];
    number.copy_from_slice(bytes);
    let announced = u64::from_be_bytes(number);
    match usize::try_from(announced) {
        Ok(length) if length <= limit => Ok(Some(length)),
        _ => Err(StreamError::TooLong { announced, limit }),
    }
}

/// Takes `length` bytes that follow `skip` others from the front, or nothing if they are not there yet.
fn take(buf: &mut BytesMut, skip: usize, length: usize) -> Option<Bytes> {
    if buf.len() < skip + length {
        return None;
    }
    buf.advance(skip);
    Some(buf.split_to(length).freeze())
}

fn decode_message(bytes: Bytes) -> Result<Message, StreamError> {
    Message::decode(bytes).map_err(|source| StreamError::Protobuf { what: "Message", source })
}
