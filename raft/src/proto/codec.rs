//! The raftpb encoding of every type, to the byte as the Go generations write it; decoding takes all of them.
//!
//! Fields are written in ascending order. Go code up to raft 3.6 writes every scalar, zero or not; raft 3.7 writes
//! what its code has set. Unknown fields are skipped. Memory stays proportional to the input.

use bytes::Bytes;

use super::wire::{
    DecodeError, LENGTH, Reader, VARINT, delimited_len, put_bytes, put_tag, put_uint, put_varint, uint_len,
};
use super::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};

/// Which generation of etcd's bytes [`Message::encode`] writes (the RPCs of the paper's figures 2 and 13 in
/// bytes). Every generation reads all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireForm {
    /// etcd up to 3.5: all scalars, and a snapshot in every message.
    Etcd35,
    /// etcd 3.6: all scalars, the vote included; a snapshot only where there is one.
    #[default]
    Etcd36,
    /// etcd 3.7: only the fields that the message type uses.
    Etcd37,
}

/// Declares `TryFrom<u64>` for a dense enumeration.
macro_rules! wire_enum {
    ($name:ident, [$($value:expr),+ $(,)?]) => {
        impl $name {
            fn from_wire(value: u64) -> Result<Self, DecodeError> {
                let all = [$($value),+];
                let found = usize::try_from(value).ok().and_then(|i| all.get(i).copied());
                found.ok_or(DecodeError::UnknownEnum { name: stringify!($name), value })
            }
        }
    };
}

wire_enum!(EntryType, [Self::Normal, Self::ConfChange, Self::ConfChangeV2]);
wire_enum!(ConfChangeType, [Self::AddNode, Self::RemoveNode, Self::UpdateNode, Self::AddLearnerNode]);
wire_enum!(ConfChangeTransition, [Self::Auto, Self::JointImplicit, Self::JointExplicit]);

impl MessageType {
    fn from_wire(value: u64) -> Result<Self, DecodeError> {
        let found = usize::try_from(value).ok().and_then(|i| Self::ALL.get(i).copied());
        found.ok_or(DecodeError::UnknownEnum { name: "MessageType", value })
    }
}

impl Entry {
    /// Length of [`encode`](Self::encode)'s output; what the size limits on messages count (batching: thesis,
    /// 10.2.2).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        2 + uint_len(self.term)
            + uint_len(self.index)
            + if self.data.is_empty() { 0 } else { delimited_len(self.data.len()) }
    }

    /// Appends `raftpb.Entry` in its always-present form, the one of the write-ahead log.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_uint(out, 1, self.entry_type as u64);
        put_uint(out, 2, self.term);
        put_uint(out, 3, self.index);
        if !self.data.is_empty() {
            put_bytes(out, 4, &self.data);
        }
    }

    /// `raftpb.Entry` in its always-present form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out
    }

    fn encode_sparse(&self, out: &mut Vec<u8>) {
        if self.entry_type != EntryType::Normal {
            put_uint(out, 1, self.entry_type as u64);
        }
        // An entry has no position until a leader gives it one, and then both numbers are set.
        if (self.term, self.index) != (0, 0) {
            put_uint(out, 2, self.term);
            put_uint(out, 3, self.index);
        }
        if !self.data.is_empty() {
            put_bytes(out, 4, &self.data);
        }
    }

    fn encode_as(&self, form: WireForm, out: &mut Vec<u8>) {
        match form {
            WireForm::Etcd37 => self.encode_sparse(out),
            WireForm::Etcd35 | WireForm::Etcd36 => self.encode_into(out),
        }
    }

    /// Reads `raftpb.Entry` in any generation's form; `data` shares `buf`.
    ///
    /// # Errors
    /// The bytes are not an entry.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(buf))
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        const NAME: &str = "Entry";
        let mut e = Self::default();
        while let Some(tag) = r.next_tag()? {
            match tag.field {
                1..=3 => Reader::expect(NAME, tag, VARINT)?,
                4 => Reader::expect(NAME, tag, LENGTH)?,
                _ => {}
            }
            match tag.field {
                1 => e.entry_type = EntryType::from_wire(r.varint()?)?,
                2 => e.term = r.varint()?,
                3 => e.index = r.varint()?,
                4 => e.data = r.bytes()?,
                _ => r.skip(tag)?,
            }
        }
        Ok(e)
    }
}

impl ConfState {
    /// The raftpb bytes, integers unpacked.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (field, ids) in
            [(1, &self.voters), (2, &self.learners), (3, &self.voters_outgoing), (4, &self.learners_next)]
        {
            for &id in ids {
                put_uint(&mut out, field, id);
            }
        }
        put_uint(&mut out, 5, u64::from(self.auto_leave));
        out
    }

    /// Reads `raftpb.ConfState` in any generation's form.
    ///
    /// # Errors
    /// The bytes are not a configuration.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        let mut cs = Self::default();
        cs.merge(&mut Reader::new(buf))?;
        Ok(cs)
    }

    fn merge(&mut self, r: &mut Reader) -> Result<(), DecodeError> {
        const NAME: &str = "ConfState";
        while let Some(tag) = r.next_tag()? {
            match tag.field {
                1 => r.repeated_uint(NAME, tag, &mut self.voters)?,
                2 => r.repeated_uint(NAME, tag, &mut self.learners)?,
                3 => r.repeated_uint(NAME, tag, &mut self.voters_outgoing)?,
                4 => r.repeated_uint(NAME, tag, &mut self.learners_next)?,
                5 => {
                    Reader::expect(NAME, tag, VARINT)?;
                    self.auto_leave = r.varint()? != 0;
                }
                _ => r.skip(tag)?,
            }
        }
        Ok(())
    }
}

impl SnapshotMetadata {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &self.conf_state.encode());
        put_uint(&mut out, 2, self.index);
        put_uint(&mut out, 3, self.term);
        out
    }

    fn merge(&mut self, r: &mut Reader) -> Result<(), DecodeError> {
        const NAME: &str = "SnapshotMetadata";
        while let Some(tag) = r.next_tag()? {
            match tag.field {
                1 => Reader::expect(NAME, tag, LENGTH)?,
                2 | 3 => Reader::expect(NAME, tag, VARINT)?,
                _ => {}
            }
            match tag.field {
                1 => self.conf_state.merge(&mut r.embedded()?)?,
                2 => self.index = r.varint()?,
                3 => self.term = r.varint()?,
                _ => r.skip(tag)?,
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// The raftpb bytes; all generations agree on them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 64);
        if !self.data.is_empty() {
            put_bytes(&mut out, 1, &self.data);
        }
        put_bytes(&mut out, 2, &self.metadata.encode());
        out
    }

    /// Reads `raftpb.Snapshot` in any generation's form; `data` shares `buf`.
    ///
    /// # Errors
    /// The bytes are not a snapshot.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        let mut s = Self::default();
        s.merge(&mut Reader::new(buf))?;
        Ok(s)
    }

    fn merge(&mut self, r: &mut Reader) -> Result<(), DecodeError> {
        const NAME: &str = "Snapshot";
        while let Some(tag) = r.next_tag()? {
            if matches!(tag.field, 1 | 2) {
                Reader::expect(NAME, tag, LENGTH)?;
            }
            match tag.field {
                1 => self.data = r.bytes()?,
                2 => self.metadata.merge(&mut r.embedded()?)?,
                _ => r.skip(tag)?,
            }
        }
        Ok(())
    }
}

impl HardState {
    /// The raftpb bytes; all generations agree on them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(33);
        put_uint(&mut out, 1, self.term);
        put_uint(&mut out, 2, self.vote);
        put_uint(&mut out, 3, self.commit);
        out
    }

    /// Reads `raftpb.HardState` in any generation's form.
    ///
    /// # Errors
    /// The bytes are not a hard state.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        let mut hs = Self::default();
        let mut r = Reader::new(buf);
        while let Some(tag) = r.next_tag()? {
            if matches!(tag.field, 1..=3) {
                Reader::expect("HardState", tag, VARINT)?;
            }
            match tag.field {
                1 => hs.term = r.varint()?,
                2 => hs.vote = r.varint()?,
                3 => hs.commit = r.varint()?,
                _ => r.skip(tag)?,
            }
        }
        Ok(hs)
    }
}

impl ConfChange {
    /// The raftpb bytes, always-present form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.context.len());
        put_uint(&mut out, 1, self.id);
        put_uint(&mut out, 2, self.change_type as u64);
        put_uint(&mut out, 3, self.node_id);
        if !self.context.is_empty() {
            put_bytes(&mut out, 4, &self.context);
        }
        out
    }

    /// Reads `raftpb.ConfChange` in any generation's form; `context` shares `buf`.
    ///
    /// # Errors
    /// The bytes are not a configuration change.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        let mut cc = Self::default();
        let mut r = Reader::new(buf);
        while let Some(tag) = r.next_tag()? {
            match tag.field {
                1..=3 => Reader::expect("ConfChange", tag, VARINT)?,
                4 => Reader::expect("ConfChange", tag, LENGTH)?,
                _ => {}
            }
            match tag.field {
                1 => cc.id = r.varint()?,
                2 => cc.change_type = ConfChangeType::from_wire(r.varint()?)?,
                3 => cc.node_id = r.varint()?,
                4 => cc.context = r.bytes()?,
                _ => r.skip(tag)?,
            }
        }
        Ok(cc)
    }
}

impl ConfChangeSingle {
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let mut c = Self::default();
        while let Some(tag) = r.next_tag()? {
            if matches!(tag.field, 1 | 2) {
                Reader::expect("ConfChangeSingle", tag, VARINT)?;
            }
            match tag.field {
                1 => c.change_type = ConfChangeType::from_wire(r.varint()?)?,
                2 => c.node_id = r.varint()?,
                _ => r.skip(tag)?,
            }
        }
        Ok(c)
    }
}

impl ConfChangeV2 {
    /// The raftpb bytes, always-present form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, 1, self.transition as u64);
        for c in &self.changes {
            put_tag(&mut out, 2, LENGTH);
            put_varint(&mut out, (2 + uint_len(c.node_id)) as u64);
            put_uint(&mut out, 1, c.change_type as u64);
            put_uint(&mut out, 2, c.node_id);
        }
        if !self.context.is_empty() {
            put_bytes(&mut out, 3, &self.context);
        }
        out
    }

    /// Reads `raftpb.ConfChangeV2` in any generation's form; `context` shares `buf`.
    ///
    /// # Errors
    /// The bytes are not a configuration change.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        const NAME: &str = "ConfChangeV2";
        let mut cc = Self::default();
        let mut r = Reader::new(buf);
        while let Some(tag) = r.next_tag()? {
            match tag.field {
                1 => Reader::expect(NAME, tag, VARINT)?,
                2 | 3 => Reader::expect(NAME, tag, LENGTH)?,
                _ => {}
            }
            match tag.field {
                1 => cc.transition = ConfChangeTransition::from_wire(r.varint()?)?,
                2 => cc.changes.push(ConfChangeSingle::read(&mut r.embedded()?)?),
                3 => cc.context = r.bytes()?,
                _ => r.skip(tag)?,
            }
        }
        Ok(cc)
    }
}

/// Which scalar fields of a message are written.
struct Present {
    term: bool,
    log_term: bool,
    index: bool,
    commit: bool,
    reject: bool,
    reject_hint: bool,
    vote: bool,
}

impl Present {
    fn of(m: &Message, form: WireForm) -> Self {
        use MessageType as T;
        let all = form != WireForm::Etcd37;
        let t = m.msg_type;
        // A non-zero value is written whatever the type says: nothing that was set gets lost.
        let uses = |set: bool, value: u64| all || set || value != 0;
        let positioned = matches!(t, T::App | T::Vote | T::PreVote);
        let answer = matches!(t, T::AppResp) && (m.reject || m.index != 0);
        Self {
            term: uses(!matches!(t, T::Prop | T::ReadIndex), m.term),
            log_term: uses(positioned || (t == T::AppResp && m.reject), m.log_term),
            index: uses(positioned || answer || t == T::ReadIndexResp, m.index),
            commit: uses(matches!(t, T::App | T::Heartbeat), m.commit),
            reject: all || m.reject,
            reject_hint: uses(t == T::AppResp && m.reject, m.reject_hint),
            vote: form == WireForm::Etcd36 || m.vote != 0,
        }
    }
}

impl Message {
    /// The raftpb bytes in `form`.
    #[must_use]
    pub fn encode(&self, form: WireForm) -> Vec<u8> {
        let payload: usize = self.entries.iter().map(|e| e.encoded_len() + 6).sum();
        let snapshot = self.snapshot.as_ref().map_or(0, |s| s.data.len() + 64);
        let mut out = Vec::with_capacity(96 + payload + snapshot + self.context.len());
        self.encode_into(form, &mut out);
        out
    }

    /// Appends the raftpb bytes in `form`.
    pub fn encode_into(&self, form: WireForm, out: &mut Vec<u8>) {
        let present = Present::of(self, form);
        put_uint(out, 1, self.msg_type as u64);
        put_uint(out, 2, self.to);
        put_uint(out, 3, self.from);
        let uint = |out: &mut Vec<u8>, written: bool, field: u32, v: u64| {
            if written {
                put_uint(out, field, v);
            }
        };
        uint(out, present.term, 4, self.term);
        uint(out, present.log_term, 5, self.log_term);
        uint(out, present.index, 6, self.index);
        for e in &self.entries {
            put_tag(out, 7, LENGTH);
            put_embedded(out, |out| e.encode_as(form, out));
        }
        uint(out, present.commit, 8, self.commit);
        match &self.snapshot {
            Some(s) => put_bytes(out, 9, &s.encode()),
            None if form == WireForm::Etcd35 => put_bytes(out, 9, &Snapshot::default().encode()),
            None => {}
        }
        uint(out, present.reject, 10, u64::from(self.reject));
        uint(out, present.reject_hint, 11, self.reject_hint);
        if !self.context.is_empty() {
            put_bytes(out, 12, &self.context);
        }
        uint(out, present.vote, 13, self.vote);
        for m in &self.responses {
            put_tag(out, 14, LENGTH);
            put_embedded(out, |out| m.encode_into(form, out));
        }
    }

    /// Reads `raftpb.Message` in any generation's form; payloads share `buf`. An empty snapshot, which old generations put into every
    /// message, is read as none.
    ///
    /// # Errors
    /// The bytes are not a message, or are one of a type that this generation does not know.
    pub fn decode(buf: Bytes) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(buf))
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        const NAME: &str = "Message";
        let mut m = Self::default();
        while let Some(tag) = r.next_tag()? {
            match tag.field {
                1..=6 | 8 | 10 | 11 | 13 => Reader::expect(NAME, tag, VARINT)?,
                7 | 9 | 12 | 14 => Reader::expect(NAME, tag, LENGTH)?,
                _ => {}
            }
            match tag.field {
                1 => m.msg_type = MessageType::from_wire(r.varint()?)?,
                2 => m.to = r.varint()?,
                3 => m.from = r.varint()?,
                4 => m.term = r.varint()?,
                5 => m.log_term = r.varint()?,
                6 => m.index = r.varint()?,
                7 => m.entries.push(Entry::read(&mut r.embedded()?)?),
                8 => m.commit = r.varint()?,
                9 => m.snapshot.get_or_insert_default().merge(&mut r.embedded()?)?,
                10 => m.reject = r.varint()? != 0,
                11 => m.reject_hint = r.varint()?,
                12 => m.context = r.bytes()?,
                13 => m.vote = r.varint()?,
                14 => m.responses.push(Self::read(&mut r.embedded()?)?),
                _ => r.skip(tag)?,
            }
        }
        if m.snapshot.as_deref().is_some_and(|s| *s == Snapshot::default()) {
            m.snapshot = None;
        }
        Ok(m)
    }
}

/// Writes a length and then what `write` writes, without computing the length beforehand.
fn put_embedded(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    // Room for the length of nearly every entry; a longer one moves the body by a few bytes.
    out.extend_from_slice(&[0, 0]);
    write(out);
    let len = out.len() - at - 2;
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, len as u64);
    out.splice(at..at + 2, prefix);
}
