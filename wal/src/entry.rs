//! Log entries: as they are read, and as they are handed in.
//!
//! Knows the fields of a `raftpb.Entry` that the log needs, and nothing of what entries mean.

use bytes::Bytes;

use crate::crc::Chain;
use crate::frame::put_frame;
use crate::proto::{StackBytes, Value, expect_tag, take_field, take_varint};
use crate::record::Kind;

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
    /// An entry that carries data, with all fields in order, in `encoded`, which is a part of `block`. `None` for any
    /// other, which [`Entry::decode`] reads or refuses.
    #[inline]
    pub(crate) fn decode_usual(block: &Bytes, encoded: &[u8]) -> Option<Self> {
        let EntryFields { kind, term, index, data } = EntryFields::in_order(encoded)?;
        (kind == u64::from(ENTRY_NORMAL) && index > 0 && !data.is_empty()).then(|| Self {
            index,
            term,
            kind: ENTRY_NORMAL,
            data: block.slice_ref(data),
            encoded: block.slice_ref(encoded),
        })
    }

    #[inline]
    pub(crate) fn decode(encoded: Bytes) -> Result<Self, &'static str> {
        let EntryFields { kind, term, index, data } = EntryFields::any(&encoded)?;
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
    /// All four fields in order and nothing else. `None` for any other form.
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
    pub(crate) fn to_vec(self) -> Vec<u8> {
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
