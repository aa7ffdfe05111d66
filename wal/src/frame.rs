//! Frames: how a record is laid around its payload, and how one is taken apart again.
//!
//! A frame is an 8-byte little-endian length field, the protobuf record, and zero bytes up to a multiple of 8:
//!
//! ```text
//! length field   bits 0..55 length of the record | bits 56..58 number of pad bytes | bit 63 set if there are any
//! record         1: type (varint)   2: crc (varint)   3: payload (bytes; absent in CRC records)
//! ```
//!
//! What lives here is pure: bytes in, bytes out. Files are read in `segment`, written in `wal`; what a payload means is
//! `record`'s business.

use crate::crc::Chain;
use crate::proto::{StackBytes, expect_tag, take_varint, varint_len};
use crate::record::Kind;

/// Bytes of a frame's length field.
pub(crate) const LENGTH_FIELD_LEN: usize = 8;

/// The longest a record can be beyond its payload: three tags, the type, a 32-bit CRC and the payload's length.
pub(crate) const RECORD_HEAD_MAX: usize = 3 + 1 + 5 + 10;

/// Appends a record's frame. The payload comes in two parts; `None` as the second writes no payload field at all.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    chain: &mut Chain,
    kind: Kind,
    payload_head: &[u8],
    payload: Option<&[u8]>,
) {
    let payload_len = payload_head.len() + payload.map_or(0, <[u8]>::len);
    chain.update(payload_head);
    chain.update(payload.unwrap_or(&[]));
    let crc = u64::from(chain.value());
    let field_len = if payload.is_some() { 1 + varint_len(payload_len as u64) + payload_len } else { 0 };
    let record_len = 2 + 1 + varint_len(crc) + field_len;
    let mut head = StackBytes::<{ LENGTH_FIELD_LEN + RECORD_HEAD_MAX }>::new();
    head.extend(&LengthField::for_record(record_len as u64).to_raw().to_le_bytes());
    head.extend(&[0x08, kind as u8]);
    head.put(0x10, crc);
    if payload.is_some() {
        head.put(0x1a, payload_len as u64);
    }
    out.reserve(LENGTH_FIELD_LEN + record_len + 7);
    out.extend_from_slice(head.as_slice());
    out.extend_from_slice(payload_head);
    out.extend_from_slice(payload.unwrap_or(&[]));
    out.extend_from_slice(&[0; 7][..pad_len(record_len as u64)]);
}

/// Zero bytes after a record of this length.
fn pad_len(record_len: u64) -> usize {
    (record_len.wrapping_neg() % 8) as usize
}

/// A frame's length field, taken apart but not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LengthField {
    /// Length of the record in bytes, below 2⁵⁶.
    pub(crate) record_len: u64,
    /// Number of pad bytes, 0 to 7.
    pub(crate) pad_len: u64,
    /// Whether it is what a writer would write for this length.
    pub(crate) well_formed: bool,
}

impl LengthField {
    fn for_record(record_len: u64) -> Self {
        Self { record_len, pad_len: pad_len(record_len) as u64, well_formed: true }
    }

    fn to_raw(self) -> u64 {
        let pad = if self.pad_len > 0 { 0x80 | self.pad_len } else { 0 };
        self.record_len | pad << 56
    }

    pub(crate) fn from_raw(raw: u64) -> Self {
        let record_len = raw & ((1 << 56) - 1);
        let pad_len = if raw >> 63 == 1 { raw >> 56 & 7 } else { 0 };
        let well_formed = Self::for_record(record_len).to_raw() == raw;
        Self { record_len, pad_len, well_formed }
    }

    /// Length of record and padding.
    pub(crate) fn body_len(self) -> u64 {
        self.record_len + self.pad_len
    }
}

/// A record whose protobuf form is sound; its CRC is not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) kind: u64,
    pub(crate) crc: u32,
    pub(crate) payload: Option<&'a [u8]>,
}

/// Takes a whole record apart.
#[inline]
pub(crate) fn parse_record(bytes: &[u8]) -> Result<RawRecord<'_>, &'static str> {
    let mut rest = bytes;
    let head = parse_head(&mut rest, bytes.len() as u64)?;
    Ok(RawRecord { kind: head.kind, crc: head.crc, payload: head.has_payload.then_some(rest) })
}

/// What stands before a record's payload. Known alone, it lets a reader judge a record before reading all of it.
pub(crate) struct RecordHead {
    pub(crate) kind: u64,
    pub(crate) crc: u32,
    pub(crate) has_payload: bool,
}

/// Takes the head of a record of `record_len` bytes off the front of its first bytes; what must follow is its
/// payload and nothing else.
///
/// All writers set the fields in this order and no others, so anything else is damage and not a newer format.
#[inline]
pub(crate) fn parse_head(bytes: &mut &[u8], record_len: u64) -> Result<RecordHead, &'static str> {
    let before = bytes.len();
    expect_tag(bytes, 0x08).ok_or("no record type")?;
    let kind = take_varint(bytes).ok_or("no record type")?;
    expect_tag(bytes, 0x10).ok_or("no record crc")?;
    let crc = take_varint(bytes).and_then(|crc| u32::try_from(crc).ok()).ok_or("no record crc")?;
    if record_len == (before - bytes.len()) as u64 {
        return Ok(RecordHead { kind, crc, has_payload: false });
    }
    expect_tag(bytes, 0x1a).ok_or("bytes that belong to no field")?;
    let payload_len = take_varint(bytes).ok_or("no payload length")?;
    let left = record_len - (before - bytes.len()) as u64;
    if payload_len == left {
        Ok(RecordHead { kind, crc, has_payload: true })
    } else {
        Err("payload length disagrees with the record's")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::SnapshotMark;
    use crate::record::tests::hex;

    /// The head of a directory that etcd 3.5.1 wrote: crc, metadata, snapshot mark.
    #[test]
    fn frames_are_those_of_etcd() {
        let expected = hex(
            "0400 0000 0000 0084 0804 1000 0000 0000
             1e00 0000 0000 0082 0801 10f1 e6b8 ef0c 1a14 08f8 98f8 a7af e78c cd24 1083 dbf2 f4c9 bef6 856b 0000
             0e00 0000 0000 0082 0805 10c6 d1b7 8d04 1a04 0800 1000 0000",
        );
        let metadata = &expected[0x22..0x36];
        let mut out = Vec::new();
        let mut chain = Chain::from_value(0);
        put_frame(&mut out, &mut chain, Kind::Crc, &[], None);
        put_frame(&mut out, &mut chain, Kind::Metadata, &[], Some(metadata));
        put_frame(&mut out, &mut chain, Kind::Snapshot, &SnapshotMark::default().encode(), Some(&[]));
        assert_eq!(out, expected);
    }

    #[test]
    fn length_fields_are_strict() {
        for len in 1..64_u64 {
            let field = LengthField::for_record(len);
            assert_eq!((len + field.pad_len) % 8, 0);
            assert_eq!(LengthField::from_raw(field.to_raw()), field);
            for bit in 0..64 {
                let flipped = LengthField::from_raw(field.to_raw() ^ 1 << bit);
                assert!(!flipped.well_formed || flipped.record_len != len);
            }
        }
    }

    proptest! {
        #[test]
        fn a_frame_comes_back(
            before: u32,
            head in proptest::collection::vec(any::<u8>(), 0..40),
            tail in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut out = Vec::new();
            let mut chain = Chain::from_value(before);
            put_frame(&mut out, &mut chain, Kind::Metadata, &head, Some(&tail));
            prop_assert_eq!(out.len() % 8, 0);
            let field = LengthField::from_raw(u64::from_le_bytes(out[..8].try_into().unwrap()));
            prop_assert!(field.well_formed);
            prop_assert_eq!(8 + field.body_len(), out.len() as u64);
            let record = parse_record(&out[8..8 + field.record_len as usize]).unwrap();
            let payload = [head, tail].concat();
            prop_assert_eq!(record, RawRecord { kind: 1, crc: chain.value(), payload: Some(&payload) });
        }
    }
}
