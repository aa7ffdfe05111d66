//! What applying an entry gave: the answer for whoever waits, events for watchers, changes for the rest of the member.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use stanchion_mvcc::{KeyValueRef, Written};

use super::Refusal;

/// The answer to a committed request. Headers hold the revision alone; the rest of a header is the front's to fill in.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a put.
    Put(pb::PutResponse),
    /// To a delete.
    DeleteRange(pb::DeleteRangeResponse),
    /// To a transaction.
    Txn(pb::TxnResponse),
    /// To a range that went through the log.
    Range(pb::RangeResponse),
    /// To a compaction: its revision is accepted, rows are removed in the background.
    Compaction(pb::CompactionResponse),
    /// To a lease grant.
    LeaseGrant(pb::LeaseGrantResponse),
    /// To a lease revoke.
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// To a checkpoint of leases.
    LeaseCheckpoint(pb::LeaseCheckpointResponse),
    /// To an alarm request.
    Alarm(pb::AlarmResponse),
    /// To a request that only has an effect.
    Done,
}

/// What one applied entry did.
#[derive(Debug)]
pub struct Effect {
    /// What was asked for; `None` for a membership change, or if it cannot be read.
    pub kind: Option<RequestKind>,
    /// The id under which the proposer waits; 0 if nobody can.
    pub id: u64,
    /// The answer for the proposer.
    pub result: Result<Reply, Refusal>,
    /// The revision's events for watchers, if the entry made a revision.
    pub events: Option<(i64, Arc<[stanchion_watch::Event]>)>,
    /// The file was found over its quota: propose that the alarm is raised.
    pub raise_no_space: bool,
    /// Keys and values that it has put, in bytes.
    pub put_bytes: u64,
}

impl Effect {
    /// Nothing done, and nobody who waits.
    pub(super) fn silent() -> Effect {
        Effect {
            kind: None,
            id: 0,
            result: Ok(Reply::Done),
            events: None,
            raise_no_space: false,
            put_bytes: 0,
        }
    }
}

/// The events of a write as watchers are told, each encoded as an `mvccpb.Event` once.
pub(super) fn watch_events(written: &Written) -> Option<(i64, Arc<[stanchion_watch::Event]>)> {
    if written.events.is_empty() {
        return None;
    }
    Some((written.revision, written.events.iter().map(watch_event).collect()))
}

/// Sizes of the keys and values that a write has put.
pub(super) fn put_bytes(written: &Written) -> u64 {
    let size = |event: &stanchion_mvcc::Event| {
        KeyValueRef::decode(&event.kv).map_or(0, |kv| (kv.key.len() + kv.value.len()) as u64)
    };
    written.events.iter().filter(|event| !event.delete).map(size).sum()
}

/// One event as watchers are told.
pub(crate) fn watch_event(event: &stanchion_mvcc::Event) -> stanchion_watch::Event {
    use stanchion_watch::EventKind;
    stanchion_watch::Event {
        revision: event.revision.main,
        kind: if event.delete { EventKind::Delete } else { EventKind::Put },
        created: event.created,
        key: event.key.clone(),
        encoded: encode_event(event.delete, &event.kv),
    }
}

/// `mvccpb.Event { type, kv }` around an encoded `KeyValue`, which is copied once and never decoded.
fn encode_event(delete: bool, kv: &Bytes) -> Bytes {
    const TYPE_DELETE: [u8; 2] = [1 << 3, 1];
    const KV_KEY: u8 = 2 << 3 | 2;
    let head = if delete { &TYPE_DELETE[..] } else { &[] };
    let mut out = BytesMut::with_capacity(head.len() + 1 + encoded_len_varint(kv.len() as u64) + kv.len());
    out.put_slice(head);
    out.put_u8(KV_KEY);
    encode_varint(kv.len() as u64, &mut out);
    out.put_slice(kv);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use stanchion_api::mvccpb;

    use super::*;

    #[test]
    fn an_event_is_what_the_generated_code_would_encode() {
        let kv = mvccpb::KeyValue { key: "k".into(), mod_revision: 7, ..Default::default() };
        for delete in [false, true] {
            let event = mvccpb::Event { r#type: i32::from(delete), kv: Some(kv.clone()), prev_kv: None };
            assert_eq!(encode_event(delete, &kv.encode_to_vec().into()), event.encode_to_vec());
        }
    }
}
