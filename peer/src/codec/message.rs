//! The `message` stream: a length of eight bytes, big-endian, then a protobuf message.

use bytes::BytesMut;
use stanchion_raft::{Message, MessageType};

use super::{Frame, SENT_FORM, StreamError, decode_message, peek_length, put_delimited, take};

/// Writes the frames of a `message` stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessageEncoder;

impl MessageEncoder {
    /// Appends a message's frame.
    pub fn encode(&self, message: &Message, out: &mut Vec<u8>) {
        put_delimited(out, |out| message.encode_into(SENT_FORM, out));
    }

    /// Appends a heartbeat of nobody to nobody, in the form of etcd 3.7.
    pub fn encode_heartbeat(&self, out: &mut Vec<u8>) {
        put_delimited(out, |out| out.extend_from_slice(&[8, MessageType::Heartbeat as u8]));
    }
}

/// Reads the frames of a `message` stream.
#[derive(Debug, Clone)]
pub struct MessageDecoder {
    limit: usize,
}

impl MessageDecoder {
    /// Refuses frames of more than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// Takes one frame from the front of `buf`, or nothing if it is not whole yet.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        let Some(length) = peek_length(buf, 0, self.limit)? else { return Ok(None) };
        let Some(bytes) = take(buf, 8, length) else { return Ok(None) };
        let message = decode_message(bytes)?;
        let of_nobody = message.msg_type == MessageType::Heartbeat && message.from == 0 && message.to == 0;
        Ok(Some(if of_nobody { Frame::Heartbeat } else { Frame::Message(Box::new(message)) }))
    }
}
