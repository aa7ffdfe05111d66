//! The payload of membership entries, `raftpb.ConfChange`.
//!
//! Joint changes (`ConfChangeV2`) are never proposed by etcd and refused here.

use bytes::Bytes;
use prost::Message;

use crate::membership::{Change, ChangeContext};

/// The kind of an entry that holds a [`ConfChange`].
pub const ENTRY_CONF_CHANGE: u8 = 1;

/// What a change does to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// Adds a voter, or makes a learner one.
    AddNode,
    /// Removes it.
    RemoveNode,
    /// Changes what is known of it, not the quorum.
    UpdateNode,
    /// Adds a learner.
    AddLearner,
}

/// A membership change as it travels through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// The request id under which the proposer waits; 0 for bootstrap entries.
    pub id: u64,
    /// What is to be done.
    pub kind: ChangeType,
    /// To which node.
    pub node_id: u64,
    /// A [`ChangeContext`] as JSON; empty for a removal.
    pub context: Bytes,
}

/// Why a payload is no membership change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("membership entry of {len} bytes: {what}")]
pub struct ChangeDecodeError {
    /// Length of the payload.
    pub len: usize,
    /// What is wrong.
    pub what: String,
}

/// The message on the wire; every scalar is written, as etcd's encoder does.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint64, optional, tag = "1")]
    id: Option<u64>,
    #[prost(int32, optional, tag = "2")]
    kind: Option<i32>,
    #[prost(uint64, optional, tag = "3")]
    node_id: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    context: Option<Bytes>,
}

impl ConfChange {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let kind = match self.kind {
            ChangeType::AddNode => 0,
            ChangeType::RemoveNode => 1,
            ChangeType::UpdateNode => 2,
            ChangeType::AddLearner => 3,
        };
        let context = (!self.context.is_empty()).then(|| self.context.clone());
        let wire = Wire { id: Some(self.id), kind: Some(kind), node_id: Some(self.node_id), context };
        wire.encode_to_vec().into()
    }

    /// The reverse.
    ///
    /// # Errors
    /// [`ChangeDecodeError`].
    pub fn decode(payload: &Bytes) -> Result<ConfChange, ChangeDecodeError> {
        let wrong = |what: String| ChangeDecodeError { len: payload.len(), what };
        let wire = Wire::decode(payload.clone()).map_err(|e| wrong(e.to_string()))?;
        let kind = match wire.kind.unwrap_or(0) {
            0 => ChangeType::AddNode,
            1 => ChangeType::RemoveNode,
            2 => ChangeType::UpdateNode,
            3 => ChangeType::AddLearner,
            other => return Err(wrong(format!("unknown type {other}"))),
        };
        let (id, node_id) = (wire.id.unwrap_or(0), wire.node_id.unwrap_or(0));
        Ok(ConfChange { id, kind, node_id, context: wire.context.unwrap_or_default() })
    }

    /// What it means for the list of members.
    ///
    /// # Errors
    /// [`ChangeDecodeError`] if the context cannot be read or names another node.
    pub fn meaning(&self) -> Result<Change, ChangeDecodeError> {
        if self.kind == ChangeType::RemoveNode {
            return Ok(Change::Remove(self.node_id));
        }
        let wrong = |what: String| ChangeDecodeError { len: self.context.len(), what };
        let context = ChangeContext::from_json(&self.context).map_err(wrong)?;
        if context.member.id != self.node_id {
            let what = format!("node {:x}, but member {:x} in its context", self.node_id, context.member.id);
            return Err(wrong(what));
        }
        Ok(Change::from_context(context, self.kind == ChangeType::UpdateNode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Member;

    #[test]
    fn reads_back_and_means_what_it_says() {
        let member = Member { id: 7, peer_urls: vec!["http://a:1".into()], ..Member::default() };
        let context = ChangeContext { member: member.clone(), is_promote: false };
        let add =
            ConfChange { id: 3, kind: ChangeType::AddNode, node_id: 7, context: context.to_json().into() };
        assert_eq!(ConfChange::decode(&add.encode()), Ok(add.clone()));
        assert_eq!(add.meaning(), Ok(Change::Add(member)));
        let removal = ConfChange { kind: ChangeType::RemoveNode, context: Bytes::new(), ..add.clone() };
        assert_eq!(&removal.encode()[..], [0x08, 3, 0x10, 1, 0x18, 7]);
        assert_eq!(removal.meaning(), Ok(Change::Remove(7)));
        assert!(ConfChange { node_id: 8, ..add }.meaning().is_err());
        assert!(ConfChange::decode(&Bytes::from_static(b"\x10\x09")).is_err());
    }
}
