//! Just enough protobuf to read and write the messages that are stored: varints and length-delimited fields.
//!
//! What lives here: the wire format. What may not: any message.

use bytes::BufMut;

/// Why bytes are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field at byte {at}")]
    Truncated {
        /// Offset in the message.
        at: usize,
    },
    /// A varint is longer than ten bytes.
    #[error("the varint at byte {at} is longer than ten bytes")]
    Varint {
        /// Offset in the message.
        at: usize,
    },
    /// A field has a wire type that the message does not use for it, or one that no longer exists.
    #[error("field {field} before byte {at} has wire type {wire_type}")]
    WireType {
        /// Field number.
        field: u64,
        /// Wire type found.
        wire_type: u8,
        /// Offset in the message.
        at: usize,
    },
}

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width value; no stored message has one, so it is only ever skipped.
    Fixed,
}

/// Reads the fields of a message in the order in which they stand.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = tag >> 3;
        let value = match (tag & 7) as u8 {
            0 => Value::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.skip(4)?,
            wire_type => return Err(DecodeError::WireType { field, wire_type, at: self.at }),
        };
        Ok(Some((field, value)))
    }

    fn skip(&mut self, len: u64) -> Result<Value<'a>, DecodeError> {
        self.take(len)?;
        Ok(Value::Fixed)
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(DecodeError::Truncated { at: self.at }),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let mut value = 0u64;
        for (i, &byte) in self.bytes[start..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at = start + i + 1;
                return Ok(value);
            }
        }
        if self.bytes.len() - start >= 10 {
            Err(DecodeError::Varint { at: start })
        } else {
            Err(DecodeError::Truncated { at: start })
        }
    }
}

impl<'a> Value<'a> {
    /// The value as an integer field.
    pub(crate) fn int(self, field: u64) -> Result<i64, DecodeError> {
        match self {
            Value::Varint(v) => Ok(v.cast_signed()),
            Value::Bytes(_) => Err(DecodeError::WireType { field, wire_type: 2, at: 0 }),
            Value::Fixed => Err(DecodeError::WireType { field, wire_type: 5, at: 0 }),
        }
    }

    /// The value as a bytes, string or message field.
    pub(crate) fn bytes(self, field: u64) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) => Err(DecodeError::WireType { field, wire_type: 0, at: 0 }),
            Value::Fixed => Err(DecodeError::WireType { field, wire_type: 5, at: 0 }),
        }
    }
}

/// Number of bytes of a varint.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    // 9/64 is 1/7 rounded so that every width from 1 to 64 bits gives its exact number of 7-bit groups.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

/// Writes a varint.
#[inline]
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes that [`put_int`] writes; fields above 15 are not used by any stored message.
pub(crate) fn int_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value.cast_unsigned()) }
}

/// Writes an integer field; zero is left out, as proto3 does.
pub(crate) fn put_int(out: &mut impl BufMut, field: u8, value: i64) {
    if value != 0 {
        out.put_u8(field << 3);
        put_varint(out, value.cast_unsigned());
    }
}

/// Bytes that [`put_bytes`] writes.
pub(crate) fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
}

/// Writes a bytes or string field; an empty one is left out, as proto3 does.
pub(crate) fn put_bytes(out: &mut impl BufMut, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

/// Writes a length-delimited field even when it is empty, as messages and elements of lists are.
pub(crate) fn put_message(out: &mut impl BufMut, field: u8, bytes: &[u8]) {
    out.put_u8(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_as_long_as_it_says_and_reads_back() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1u64 << bits) - 1, u64::MAX >> bits] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                let mut reader = Reader::new(&out);
                assert_eq!(reader.varint(), Ok(value));
            }
        }
    }

    #[test]
    fn broken_messages_are_errors_with_an_offset() {
        assert_eq!(Reader::new(&[0x0a, 5, 1]).next(), Err(DecodeError::Truncated { at: 2 }));
        assert_eq!(Reader::new(&[0x10]).next(), Err(DecodeError::Truncated { at: 1 }));
        assert_eq!(Reader::new(&[0xff; 11]).next(), Err(DecodeError::Varint { at: 0 }));
        assert_eq!(Reader::new(&[0x0b]).next(), Err(DecodeError::WireType { field: 1, wire_type: 3, at: 1 }));
    }
}
