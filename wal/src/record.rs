//! Records: their kinds and what their payloads mean.
//!
//! What lives here is pure: bytes in, values out. How a record is framed is `frame`'s business, entries have `entry`.

use bytes::Bytes;

use crate::entry::Entry;
use crate::proto::{Value, put_varint, take_field};

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
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::{ENTRY_NORMAL, EntryRef};
    use crate::frame::parse_record;

    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
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

    proptest! {
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
