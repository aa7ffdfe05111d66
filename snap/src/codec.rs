//! The bytes of a `.snap` file, and the little that is read out of its payload.
//!
//! A file is one protobuf message `snappb.snapshot`: field 1 `crc` (varint), field 2 `data` (bytes). `data` is a
//! `raftpb.Snapshot`, passed through untouched; only the index and term in its metadata (field 2, there fields 2 and
//! 3) are looked at. Decoding takes fields in any order, skips unknown ones and takes an absent number for 0.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};

use crate::Damage;

const CRC: u64 = 1;
const DATA: u64 = 2;
const METADATA: u64 = 2;
const INDEX: u64 = 2;
const TERM: u64 = 3;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

fn crc32c(bytes: &[u8]) -> u32 {
    // A 32-bit CRC: the upper half is zero.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// What stands before the payload in a file: the CRC, and the payload's tag and length.
pub(crate) fn header(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    put_varint(&mut out, CRC << 3 | VARINT);
    put_varint(&mut out, u64::from(crc32c(data)));
    put_varint(&mut out, DATA << 3 | BYTES);
    put_varint(&mut out, data.len() as u64);
    out
}

/// The payload of a file, checked.
pub(crate) fn decode(file: &Bytes) -> Result<Bytes, Damage> {
    if file.is_empty() {
        return Err(Damage::Empty);
    }
    let (mut crc, mut data) = (0, Bytes::new());
    let mut fields = Fields { rest: file };
    while let Some(field) = fields.next()? {
        match field {
            Field { number: CRC, value: Value::Varint(value) } => {
                // Bits beyond the 32 of the field are a flipped bit, not a CRC.
                crc = u32::try_from(value).map_err(|_| Damage::Malformed)?;
            }
            Field { number: DATA, value: Value::Bytes(bytes) } => data = file.slice_ref(bytes),
            _ => {}
        }
    }
    if data.is_empty() || crc == 0 {
        return Err(Damage::Empty);
    }
    match crc32c(&data) {
        found if found == crc => Ok(data),
        found => Err(Damage::Crc { expected: crc, found }),
    }
}

/// `(term, index)` of a `raftpb.Snapshot`.
pub(crate) fn term_and_index(data: &[u8]) -> Result<(u64, u64), Damage> {
    let (mut term, mut index) = (0, 0);
    let mut fields = Fields { rest: data };
    while let Some(field) = fields.next()? {
        let Field { number: METADATA, value: Value::Bytes(metadata) } = field else { continue };
        let mut inner = Fields { rest: metadata };
        while let Some(field) = inner.next()? {
            match field {
                Field { number: INDEX, value: Value::Varint(value) } => index = value,
                Field { number: TERM, value: Value::Varint(value) } => term = value,
                _ => {}
            }
        }
    }
    Ok((term, index))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Skipped,
}

/// A walk over the fields of one message.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Damage> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Value::Varint(self.varint()?),
            BYTES => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Skipped)?,
            FIXED32 => self.take(4).map(|_| Value::Skipped)?,
            _ => return Err(Damage::Malformed),
        };
        if tag >> 3 == 0 {
            return Err(Damage::Malformed);
        }
        Ok(Some(Field { number: tag >> 3, value }))
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(Damage::Malformed)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Damage> {
        let len = usize::try_from(len).map_err(|_| Damage::Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Damage::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata with index 11 and term 2, and a payload beside it.
    fn payload() -> Bytes {
        Bytes::from_static(b"\x0a\x03abc\x12\x08\x0a\x02\x28\x00\x10\x0b\x18\x02")
    }

    fn file(data: &[u8]) -> Bytes {
        [&header(data)[..], data].concat().into()
    }

    #[test]
    fn reads_back_what_it_wrote() {
        assert_eq!(decode(&file(&payload())), Ok(payload()));
        assert_eq!(term_and_index(&payload()), Ok((2, 11)));
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = file(&payload());
        for len in 0..whole.len() {
            assert!(decode(&whole.slice(..len)).is_err(), "cut to {len}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_beyond_the_file_are_malformed() {
        assert_eq!(
            decode(&Bytes::from_static(b"\x08\x01\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f")),
            Err(Damage::Malformed)
        );
        assert_eq!(decode(&Bytes::from_static(b"\x12\x01a")), Err(Damage::Empty), "a CRC of 0 is no CRC");
        assert_eq!(term_and_index(b"\x12\x05\x10"), Err(Damage::Malformed));
    }
}
