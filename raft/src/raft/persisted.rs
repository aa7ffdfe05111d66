//! Storage says what is durable, the application what is applied.

use super::Raft;
use crate::error::Error;
use crate::log::{EntryId, encoded_bytes};
use crate::mutant::{self, Mutant};
use crate::proto::{Entry, LOCAL_APPEND_THREAD, Message, MessageType as T};
use crate::storage::Storage;

/// What is remembered of entries that were handed out for apply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppliedBatch {
    pub(crate) last: u64,
    pub(crate) encoded_bytes: u64,
    payload_bytes: u64,
}

impl AppliedBatch {
    /// `None` for no entries.
    pub(crate) fn of(entries: &[Entry]) -> Option<Self> {
        let last = entries.last()?.index;
        let payload_bytes = entries.iter().map(Entry::payload_len).sum();
        Some(Self { last, encoded_bytes: encoded_bytes(entries), payload_bytes })
    }
}

/// What storage acknowledges: carried by a message in asynchronous mode, kept until `advance` in the other.
///
/// `with_snapshot` is the index of the snapshot written along.
pub(crate) fn storage_ack<S: Storage>(raft: &Raft<S>, with_snapshot: bool) -> Result<Message, Error> {
    let mut m = Message::new(T::StorageAppendResp, raft.id);
    (m.from, m.term) = (LOCAL_APPEND_THREAD, raft.term);
    // As long as anything is unstable, every write carries the newest position: an acknowledgement that came too
    // late (see below) is then made good by the next.
    if raft.log.has_unstable() {
        let last = raft.log.last_id()?;
        (m.index, m.log_term) = (last.index, last.term);
    }
    if with_snapshot {
        m.snapshot = raft.log.next_snapshot().map(|mut s| {
            s.data = bytes::Bytes::new();
            Box::new(s)
        });
    }
    Ok(m)
}

impl<S: Storage> Raft<S> {
    /// Everything that was handed out with this acknowledgement is durable.
    pub(crate) fn stored(&mut self, m: &Message) -> Result<(), Error> {
        // Term by term: this write may have been of the same (index, term) as what is unstable now, while a later
        // write of other entries still waits in the queue behind it.
        let same_term = m.term == self.term || mutant::active(Mutant::StaleStorageAck);
        if m.index != 0 && same_term {
            self.log.stable_to(EntryId { index: m.index, term: m.log_term });
        }
        let Some(snapshot) = &m.snapshot else { return Ok(()) };
        let index = snapshot.metadata.index;
        self.log.stable_snapshot_to(index);
        // Restoring a snapshot is applying everything up to it.
        if index > self.log.applied { self.applied_to(index, 0) } else { Ok(()) }
    }

    /// What was handed out before is applied.
    pub(crate) fn applied(&mut self, batch: &AppliedBatch) -> Result<(), Error> {
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(batch.payload_bytes);
        self.applied_to(batch.last.max(self.log.applied), batch.encoded_bytes)
    }

    fn applied_to(&mut self, index: u64, bytes: u64) -> Result<(), Error> {
        self.log.applied_to(index, bytes)?;
        self.maybe_auto_leave()
    }
}
