//! One record: its kinds, its frame, encoding and parsing.
//!
//! A frame is an 8-byte little-endian length field, the protobuf record, and zero bytes up to a multiple of 8:
//!
//! ```text
//! length field   bits 0..55 length of the record | bits 56..58 number of pad bytes | bit 63 set if there are any
//! record         1: type (varint)   2: crc (varint)   3: payload (bytes; absent in CRC records)
//! ```
//!
//! What lives here is pure: bytes in, bytes out. Files are read in `segment`, written in `wal`.

use bytes::Bytes;

use crate::crc::Chain;
use crate::proto::{Value, put_varint, take_field, take_varint, varint_len};

/// Bytes of a frame's length field.
pub(crate) const LENGTH_FIELD_LEN: usize = 8;

/// The longest a record can be beyond its payload: three tags, the type, a 32-bit CRC and the payload's length.
pub(crate) const RECORD_HEAD_MAX: usize = 3 + 1 + 5 + 10;

/// The kinds of records, numbered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl Kind {
    #[inline]
    fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Metadata,
            2 => Self::Entry,
            3 => Self::State,
            4 => Self::Crc,
            5 => Self::Snapshot,
            _ => return None,
        })
    }
}

/// What a raft node must remember of itself, as `raftpb.HardState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term the node has seen. At least 1 in every state that is written.
    pub term: u64,
    /// Id of the node it has voted for in that term, 0 for none.
    pub vote: u64,
    /// Index up to which entries are known to be committed.
    pub commit: u64,
}

impl HardState {
    /// Whether it says nothing (all fields 0): such a state is not written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `raftpb.HardState` with all fields present, as every etcd release writes it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(33);
        for (tag, value) in [(0x08, self.term), (0x10, self.vote), (0x18, self.commit)] {
            out.push(tag);
            put_varint(&mut out, value);
        }
        out
    }

    /// The reverse; absent fields are 0. Nothing but these three fields is taken for a state: the CRC does not cover
    /// a record's type, and an entry must not pass for a state.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut state = Self::default();
        while !bytes.is_empty() {
            match take_field(&mut bytes) {
                Some((1, Value::Varint(v))) => state.term = v,
                Some((2, Value::Varint(v))) => state.vote = v,
                Some((3, Value::Varint(v))) => state.commit = v,
                _ => return Err("not a hard state"),
            }
        }
        if state.term == 0 && !state.is_empty() { Err("a hard state without a term") } else { Ok(state) }
    }
}

/// A mark that a snapshot of the state at `index` exists, as `walpb.Snapshot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Index of the last entry that the snapshot covers.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The membership at that index (an encoded `raftpb.ConfState`), opaque here. etcd 3.4 wrote none.
    pub conf_state: Option<Bytes>,
}

impl SnapshotMark {
    /// A mark without a membership.
    #[must_use]
    pub fn new(index: u64, term: u64) -> Self {
        Self { index, term, conf_state: None }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.conf_state.as_ref().map_or(0, Bytes::len));
        for (tag, value) in [(0x08, self.index), (0x10, self.term)] {
            out.push(tag);
            put_varint(&mut out, value);
        }
        if let Some(conf_state) = &self.conf_state {
            out.push(0x1a);
            put_varint(&mut out, conf_state.len() as u64);
            out.extend_from_slice(conf_state);
        }
        out
    }

    pub(crate) fn decode(payload: &Bytes) -> Result<Self, &'static str> {
        let mut mark = Self::default();
        let mut rest = &payload[..];
        while !rest.is_empty() {
            match take_field(&mut rest) {
                Some((1, Value::Varint(v))) => mark.index = v,
                Some((2, Value::Varint(v))) => mark.term = v,
                Some((3, Value::Bytes(b))) => mark.conf_state = Some(payload.slice_ref(b)),
                Some((number, _)) if number > 3 => {}
                _ => return Err("not a snapshot mark"),
            }
        }
        Ok(mark)
    }
}

/// The kind of a log entry that carries data. Other kinds (1, 2) change the membership; the log passes them on.
pub const ENTRY_NORMAL: u8 = 0;

/// An entry as it is read: what the log must know of it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term in which it was proposed; never lower than that of the entry before it.
    pub term: u64,
    /// `raftpb.EntryType`: 0 normal, 1 and 2 membership changes.
    pub kind: u8,
    /// What the writer put in; empty when it put in nothing. Shares memory with `encoded`.
    pub data: Bytes,
    /// The whole `raftpb.Entry`, as it stands in the file. It pins the block it was read in (about 1 MiB) until it
    /// is dropped; copy it to keep few for long.
    pub encoded: Bytes,
}

impl Entry {
    #[inline]
    pub(crate) fn decode(encoded: Bytes) -> Result<Self, &'static str> {
        let EntryFields { kind, term, index, data } =
            EntryFields::in_order(&encoded).map_or_else(|| EntryFields::any(&encoded), Ok)?;
        if kind > 2 {
            return Err("an entry of unknown type");
        }
        if index == 0 {
            return Err("an entry without an index");
        }
        // The CRC does not cover a record's type: a hard state must not pass for an entry. Every membership change has
        // a term and data; only the one that leaves a joint configuration (2) has no data.
        if kind != u64::from(ENTRY_NORMAL) && (term == 0 || (kind == 1 && data.is_empty())) {
            return Err("not a membership change");
        }
        let data = if data.is_empty() { Bytes::new() } else { encoded.slice_ref(data) };
        Ok(Self { index, term, kind: kind as u8, data, encoded })
    }
}

/// The fields of a `raftpb.Entry`, as they stand.
struct EntryFields<'a> {
    kind: u64,
    term: u64,
    index: u64,
    data: &'a [u8],
}

impl<'a> EntryFields<'a> {
    /// The form that nearly every entry has: all four fields in order and nothing else. `None` for any other.
    #[inline]
    fn in_order(mut bytes: &'a [u8]) -> Option<Self> {
        let rest = &mut bytes;
        expect_tag(rest, 0x08)?;
        let kind = take_varint(rest)?;
        expect_tag(rest, 0x10)?;
        let term = take_varint(rest)?;
        expect_tag(rest, 0x18)?;
        let index = take_varint(rest)?;
        expect_tag(rest, 0x22)?;
        let len = take_varint(rest)?;
        (len == rest.len() as u64).then_some(Self { kind, term, index, data: rest })
    }

    /// Any form that protobuf allows.
    fn any(mut rest: &'a [u8]) -> Result<Self, &'static str> {
        let mut fields = Self { kind: 0, term: 0, index: 0, data: &[] };
        while !rest.is_empty() {
            match take_field(&mut rest) {
                Some((1, Value::Varint(v))) => fields.kind = v,
                Some((2, Value::Varint(v))) => fields.term = v,
                Some((3, Value::Varint(v))) => fields.index = v,
                Some((4, Value::Bytes(b))) => fields.data = b,
                Some((number, _)) if number > 4 => {}
                _ => return Err("not an entry"),
            }
        }
        Ok(fields)
    }
}

/// An entry to append. The bytes are copied once, into the log's write buffer.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term in which it was proposed.
    pub term: u64,
    body: Body<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Body<'a> {
    Encoded(&'a [u8]),
    Parts { kind: u8, data: &'a [u8] },
}

impl<'a> EntryRef<'a> {
    /// An entry of this kind ([`ENTRY_NORMAL`], or 1 and 2 for membership changes) with this data.
    ///
    /// Written with all fields, as etcd up to 3.6 writes them; later releases read both forms.
    #[must_use]
    pub fn new(index: u64, term: u64, kind: u8, data: &'a [u8]) -> Self {
        Self { index, term, body: Body::Parts { kind, data } }
    }

    /// An entry that is already a `raftpb.Entry`. Its bytes are written as they are; index and term must be the ones
    /// inside.
    #[must_use]
    pub fn encoded(index: u64, term: u64, bytes: &'a [u8]) -> Self {
        Self { index, term, body: Body::Encoded(bytes) }
    }

    /// Appends the entry's frame.
    pub(crate) fn put(&self, out: &mut Vec<u8>, chain: &mut Chain) {
        match self.body {
            Body::Encoded(bytes) => put_frame(out, chain, Kind::Entry, &[], Some(bytes)),
            Body::Parts { kind, data } => {
                let head = entry_head(self.index, self.term, kind, data);
                put_frame(out, chain, Kind::Entry, head.as_slice(), Some(data));
            }
        }
    }

    /// The `raftpb.Entry` that is written.
    #[cfg(test)]
    fn to_vec(self) -> Vec<u8> {
        match self.body {
            Body::Encoded(bytes) => bytes.to_vec(),
            Body::Parts { kind, data } => {
                [entry_head(self.index, self.term, kind, data).as_slice(), data].concat()
            }
        }
    }
}

/// All of a `raftpb.Entry` but its data: three tagged varints, a tag and the data's length.
fn entry_head(index: u64, term: u64, kind: u8, data: &[u8]) -> StackBytes<{ 4 * 11 }> {
    let mut head = StackBytes::new();
    head.put(0x08, u64::from(kind));
    head.put(0x10, term);
    head.put(0x18, index);
    // An entry without data has no data field, as a new leader's first entry.
    if !data.is_empty() {
        head.put(0x22, data.len() as u64);
    }
    head
}

/// Up to `N` bytes on the stack: the small pieces of a frame, put together before they go to the log's buffer.
struct StackBytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> StackBytes<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends a tag and a varint.
    fn put(&mut self, tag: u8, mut value: u64) {
        self.push(tag);
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

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

#[inline]
fn expect_tag(bytes: &mut &[u8], tag: u8) -> Option<()> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    (*first == tag).then_some(())
}

/// A checked record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// What the creator of the log wrote about it; the same in every segment.
    Metadata(Bytes),
    /// A log entry.
    Entry(Entry),
    /// A hard state; the last one counts.
    State(HardState),
    /// The running CRC at the head of a segment.
    Crc(u32),
    /// A mark that a snapshot exists.
    Snapshot(SnapshotMark),
}

/// Why a record whose CRC is right could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    UnknownKind(u64),
    Payload(&'static str),
}

impl Record {
    #[inline]
    pub(crate) fn from_parts(kind: u64, crc: u32, payload: Option<Bytes>) -> Result<Self, BadRecord> {
        let known = Kind::from_number(kind).ok_or(BadRecord::UnknownKind(kind))?;
        let has_payload = payload.is_some();
        let payload = payload.unwrap_or_default();
        let record = match known {
            Kind::Metadata => Ok(Self::Metadata(payload)),
            Kind::Entry => Entry::decode(payload).map(Self::Entry),
            Kind::State => HardState::decode(&payload).map(Self::State),
            Kind::Crc if has_payload => Err("a crc record with a payload"),
            Kind::Crc => Ok(Self::Crc(crc)),
            Kind::Snapshot => SnapshotMark::decode(&payload).map(Self::Snapshot),
        };
        record.map_err(BadRecord::Payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

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

    /// The same directory's first hard state, and the entry that etcd 3.7 writes for a new leader.
    #[test]
    fn both_forms_of_messages_are_read() {
        let state = HardState { term: 1, vote: 0, commit: 1 };
        assert_eq!(state.encode(), hex("0801 1000 1801"));
        assert_eq!(HardState::decode(&hex("0801 1801")), Ok(state));
        let entry = Entry::decode(hex("1002 1802").into()).unwrap();
        assert_eq!((entry.index, entry.term, entry.kind, entry.data.len()), (2, 2, 0, 0));
        assert_eq!(EntryRef::new(2, 2, ENTRY_NORMAL, b"").to_vec(), hex("0800 1002 1802"));
        let full = EntryRef::new(300, 2, 1, b"xy").to_vec();
        let entry = Entry::decode(full.clone().into()).unwrap();
        assert_eq!((entry.index, entry.term, entry.kind, &entry.data[..]), (300, 2, 1, &b"xy"[..]));
        assert_eq!(&entry.encoded[..], &full[..]);
    }

    #[test]
    fn an_entry_does_not_pass_for_a_state() {
        assert!(HardState::decode(&EntryRef::new(7, 2, ENTRY_NORMAL, b"").to_vec()).is_err());
        assert!(HardState::decode(&EntryRef::new(7, 2, 1, b"x").to_vec()).is_err());
        assert!(HardState::decode(&hex("1002 1802")).is_err());
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

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_record(&bytes);
            let _ = HardState::decode(&bytes);
            let bytes = Bytes::from(bytes);
            let _ = SnapshotMark::decode(&bytes);
            let _ = Entry::decode(bytes);
        }
    }
}
