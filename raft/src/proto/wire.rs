//! Protobuf's wire format: varints, tags, a reader that shares its input. It knows no message.

use bytes::Bytes;

/// Why bytes are not a message of `raftpb`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("message ends inside a value at byte {at}")]
    Truncated {
        /// Offset in the innermost message.
        at: usize,
    },
    /// A varint is longer than ten bytes or exceeds 64 bits.
    #[error("varint at byte {at} exceeds 64 bits")]
    VarintOverflow {
        /// Offset in the innermost message.
        at: usize,
    },
    /// A field number is zero, or a wire type does not exist.
    #[error("invalid tag {tag:#x} at byte {at}")]
    BadTag {
        /// The tag.
        tag: u64,
        /// Offset in the innermost message.
        at: usize,
    },
    /// A known field has another wire type than its own.
    #[error("field {field} of {message} has wire type {wire_type}")]
    WrongWireType {
        /// Message type.
        message: &'static str,
        /// Field number.
        field: u64,
        /// Wire type found.
        wire_type: u8,
    },
    /// An enumeration has no such value.
    #[error("{name} has no value {value}")]
    UnknownEnum {
        /// Enumeration.
        name: &'static str,
        /// Value found.
        value: u64,
    },
    /// Messages nested deeper than any real one.
    #[error("messages are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
}

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
pub(super) const FIXED32: u8 = 5;

/// Nesting that a reader follows: a storage message, its responses, a snapshot, metadata, configuration, and air.
pub(super) const MAX_DEPTH: u32 = 16;

pub(super) fn varint_len(v: u64) -> usize {
    // 7 payload bits a byte; `| 1` because zero takes a byte too.
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v as u8) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u8) {
    put_varint(out, u64::from(field << 3) | u64::from(wire_type));
}

pub(super) fn put_uint(out: &mut Vec<u8>, field: u32, v: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, v);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, v: &[u8]) {
    put_tag(out, field, LENGTH);
    put_varint(out, v.len() as u64);
    out.extend_from_slice(v);
}

/// Bytes that [`put_uint`] writes, for fields below 16.
pub(super) fn uint_len(v: u64) -> usize {
    1 + varint_len(v)
}

/// Bytes that a length-delimited field below 16 takes.
pub(super) fn delimited_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// A cursor over one message's bytes. Values that are bytes share the input.
pub(super) struct Reader {
    buf: Bytes,
    pos: usize,
    depth: u32,
}

/// One field's number and wire type.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub(super) field: u64,
    pub(super) wire_type: u8,
}

impl Reader {
    pub(super) fn new(buf: Bytes) -> Self {
        Self { buf, pos: 0, depth: 0 }
    }

    pub(super) fn next_tag(&mut self) -> Result<Option<Tag>, DecodeError> {
        if self.pos == self.buf.len() {
            return Ok(None);
        }
        let at = self.pos;
        let tag = self.varint()?;
        let (field, wire_type) = (tag >> 3, (tag & 7) as u8);
        if field == 0 || field > (1 << 29) - 1 || wire_type > FIXED32 {
            return Err(DecodeError::BadTag { tag, at });
        }
        Ok(Some(Tag { field, wire_type }))
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.pos;
        let mut v = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&b) = self.buf.get(self.pos) else {
                return Err(DecodeError::Truncated { at: start });
            };
            self.pos += 1;
            if shift == 63 && b > 1 {
                return Err(DecodeError::VarintOverflow { at: start });
            }
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(DecodeError::VarintOverflow { at: start })
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let at = self.pos;
        let len = self.varint()?;
        let rest = self.buf.len() - self.pos;
        let len = usize::try_from(len).ok().filter(|l| *l <= rest).ok_or(DecodeError::Truncated { at })?;
        let v = self.buf.slice(self.pos..self.pos + len);
        self.pos += len;
        Ok(v)
    }

    /// A reader over an embedded message.
    pub(super) fn embedded(&mut self) -> Result<Self, DecodeError> {
        if self.depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
        }
        Ok(Self { buf: self.bytes()?, pos: 0, depth: self.depth + 1 })
    }

    /// Adds one value of a repeated integer, or a packed run of them.
    pub(super) fn repeated_uint(
        &mut self,
        message: &'static str,
        tag: Tag,
        out: &mut Vec<u64>,
    ) -> Result<(), DecodeError> {
        match tag.wire_type {
            VARINT => out.push(self.varint()?),
            LENGTH => {
                let mut packed = self.embedded()?;
                while packed.pos < packed.buf.len() {
                    out.push(packed.varint()?);
                }
            }
            wire_type => return Err(DecodeError::WrongWireType { message, field: tag.field, wire_type }),
        }
        Ok(())
    }

    pub(super) fn expect(message: &'static str, tag: Tag, wire_type: u8) -> Result<(), DecodeError> {
        if tag.wire_type == wire_type {
            return Ok(());
        }
        Err(DecodeError::WrongWireType { message, field: tag.field, wire_type: tag.wire_type })
    }

    /// Passes over a field that nobody here knows.
    pub(super) fn skip(&mut self, tag: Tag) -> Result<(), DecodeError> {
        match tag.wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.advance(8),
            FIXED32 => self.advance(4),
            LENGTH => self.bytes().map(drop),
            GROUP_START => self.skip_group(tag.field),
            _ => Err(DecodeError::BadTag { tag: tag.field << 3 | u64::from(tag.wire_type), at: self.pos }),
        }
    }

    fn skip_group(&mut self, field: u64) -> Result<(), DecodeError> {
        let mut open = vec![field];
        while let Some(&innermost) = open.last() {
            let at = self.pos;
            let Some(tag) = self.next_tag()? else {
                return Err(DecodeError::Truncated { at });
            };
            match tag.wire_type {
                GROUP_START if open.len() as u32 >= MAX_DEPTH => {
                    return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
                }
                GROUP_START => open.push(tag.field),
                GROUP_END if tag.field == innermost => drop(open.pop()),
                _ => self.skip(tag)?,
            }
        }
        Ok(())
    }

    fn advance(&mut self, n: usize) -> Result<(), DecodeError> {
        if self.buf.len() - self.pos < n {
            return Err(DecodeError::Truncated { at: self.pos });
        }
        self.pos += n;
        Ok(())
    }
}
