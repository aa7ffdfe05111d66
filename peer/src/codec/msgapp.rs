//! The `msgapp` stream ("v2"): appends that continue the one before carry entries and the commit index alone.
//!
//! Both ends keep the term and the index up to which the stream has come. Invariant: after each frame they are equal
//! at both ends, because both derive them from the same frame.

use bytes::{Buf, BytesMut};
use stanchion_raft::{Entry, Message, MessageType};

use super::{Frame, SENT_FORM, StreamError, decode_message, peek_length, put_delimited, take};

const HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const FULL: u8 = 2;

/// Up to where a stream has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    term: u64,
    index: u64,
}

impl Position {
    fn after(message: &Message) -> Position {
        Position {
            term: message.term,
            index: message.entries.last().map_or(message.index, |entry| entry.index),
        }
    }
}

/// Writes the frames of a `msgapp` stream.
#[derive(Debug, Clone, Default)]
pub struct MsgAppEncoder {
    position: Position,
}

impl MsgAppEncoder {
    /// Appends a message's frame: the short one if the message continues the one before it in the current term.
    pub fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        let continues = message.index == self.position.index
            && message.log_term == self.position.term
            && message.log_term == message.term;
        if continues {
            out.push(ENTRIES);
            out.extend_from_slice(&(message.entries.len() as u64).to_be_bytes());
            for entry in &message.entries {
                put_delimited(out, |out| entry.encode_into(out));
            }
            out.extend_from_slice(&message.commit.to_be_bytes());
            self.position.index += message.entries.len() as u64;
        } else {
            out.push(FULL);
            put_delimited(out, |out| message.encode_into(SENT_FORM, out));
            self.position = Position::after(message);
        }
    }

    /// Appends the frame that only says that this end is alive.
    pub fn encode_heartbeat(&self, out: &mut Vec<u8>) {
        out.push(HEARTBEAT);
    }
}

/// What has been read of a short frame: it may hold many entries, which are taken as they come.
#[derive(Debug, Clone)]
struct Short {
    left: u64,
    entries: Vec<Entry>,
    /// Bytes of this frame so far.
    bytes: usize,
}

/// Reads the frames of a `msgapp` stream.
#[derive(Debug, Clone)]
pub struct MsgAppDecoder {
    local: u64,
    remote: u64,
    limit: usize,
    position: Position,
    short: Option<Short>,
}

impl MsgAppDecoder {
    /// Reads what `remote` sends to `local`; refuses frames of more than `limit` bytes.
    #[must_use]
    pub fn new(local: u64, remote: u64, limit: usize) -> Self {
        Self { local, remote, limit, position: Position::default(), short: None }
    }

    /// Takes one frame from the front of `buf`, or nothing if it is not whole yet.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        if self.short.is_some() {
            return self.decode_entries(buf);
        }
        match buf.first() {
            None => Ok(None),
            Some(&HEARTBEAT) => {
                buf.advance(1);
                Ok(Some(Frame::Heartbeat))
            }
            Some(&ENTRIES) => {
                // The count is no length; what it claims is believed entry by entry.
                let Some(left) = peek_length(buf, 1, usize::MAX)? else { return Ok(None) };
                buf.advance(9);
                self.short = Some(Short { left: left as u64, entries: Vec::new(), bytes: 0 });
                self.decode_entries(buf)
            }
            Some(&FULL) => {
                let Some(length) = peek_length(buf, 1, self.limit)? else { return Ok(None) };
                let Some(bytes) = take(buf, 9, length) else { return Ok(None) };
                let message = decode_message(bytes)?;
                self.position = Position::after(&message);
                Ok(Some(Frame::Message(Box::new(message))))
            }
            Some(&found) => Err(StreamError::UnknownType { found }),
        }
    }

    fn decode_entries(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        let Some(short) = &mut self.short else { return Ok(None) };
        while short.left > 0 {
            let Some(length) = peek_length(buf, 0, self.limit)? else { return Ok(None) };
            let total = short.bytes + 8 + length;
            if total > self.limit {
                return Err(StreamError::TooLong { announced: total as u64, limit: self.limit });
            }
            let Some(bytes) = take(buf, 8, length) else { return Ok(None) };
            let entry =
                Entry::decode(bytes).map_err(|source| StreamError::Protobuf { what: "Entry", source })?;
            short.bytes = total;
            short.entries.push(entry);
            short.left -= 1;
        }
        let Some(commit) = buf.get(..8) else { return Ok(None) };
        let commit = commit.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        buf.advance(8);
        let entries = self.short.take().map(|short| short.entries).unwrap_or_default();
        let Position { term, index } = self.position;
        self.position.index = index.saturating_add(entries.len() as u64);
        Ok(Some(Frame::Message(Box::new(Message {
            msg_type: MessageType::App,
            to: self.local,
            from: self.remote,
            term,
            log_term: term,
            index,
            entries,
            commit,
            ..Message::default()
        }))))
    }
}
