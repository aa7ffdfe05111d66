//! Storage says what is durable, the application what is applied.

use super::Raft;
use crate::error::Error;
use crate::log::{EntryId, encoded_bytes};
use crate::mutant::{self, Mutant};
use crate::proto::{Entry, LOCAL_APPEND_THREAD, Message, MessageType as T, Snapshot};
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
        Self::counted(entries, encoded_bytes(entries))
    }

    /// The same for entries whose encoded bytes are known.
    pub(crate) fn counted(entries: &[Entry], encoded_bytes: u64) -> Option<Self> {
        let last = entries.last()?.index;
        let payload_bytes = entries.iter().map(Entry::payload_len).sum();
        Some(Self { last, encoded_bytes, payload_bytes })
    }
}

/// What storage acknowledges: carried by a message in asynchronous mode, kept until `advance` in the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StorageAck {
    term: u64,
    /// Last entry of the log when the write was handed out; all 0 if no entry was unstable.
    last: EntryId,
    /// Index of the snapshot written along, or 0.
    snapshot: u64,
}

impl StorageAck {
    /// For the write that is handed out now.
    pub(crate) fn next<S: Storage>(raft: &Raft<S>) -> Result<Self, Error> {
        // As long as anything is unstable, every write carries the newest position: an acknowledgement that came too
        // late (see `stored`) is then made good by the next.
        let last = if raft.log.has_unstable() { raft.log.last_id()? } else { EntryId::default() };
        let snapshot = raft.log.next_snapshot().map_or(0, |s| s.metadata.index);
        Ok(Self { term: raft.term, last, snapshot })
    }

    pub(crate) fn of(m: &Message) -> Self {
        let snapshot = m.snapshot.as_ref().map_or(0, |s| s.metadata.index);
        Self { term: m.term, last: EntryId { index: m.index, term: m.log_term }, snapshot }
    }

    /// The append thread's answer to `id`, with the snapshot's position; `None` if there is nothing to acknowledge.
    pub(crate) fn into_message(self, id: u64, snapshot: Option<&Snapshot>) -> Option<Message> {
        if self.last.index == 0 && snapshot.is_none() {
            return None;
        }
        let metadata = snapshot.map(|s| s.metadata.clone());
        Some(Message {
            from: LOCAL_APPEND_THREAD,
            term: self.term,
            index: self.last.index,
            log_term: self.last.term,
            snapshot: metadata.map(|metadata| Box::new(Snapshot { metadata, ..Snapshot::default() })),
            ..Message::new(T::StorageAppendResp, id)
        })
    }
}

impl<S: Storage> Raft<S> {
    /// Everything that was handed out with this acknowledgement is durable.
    pub(crate) fn stored(&mut self, ack: &StorageAck) -> Result<(), Error> {
        // Term by term: this write may have been of the same (index, term) as what is unstable now, while a later
        // write of other entries still waits in the queue behind it.
        let same_term = ack.term == self.term || mutant::active(Mutant::StaleStorageAck);
        if ack.last.index != 0 && same_term {
            self.log.stable_to(ack.last);
        }
        if ack.snapshot == 0 {
            return Ok(());
        }
        self.log.stable_snapshot_to(ack.snapshot);
        // Restoring a snapshot is applying everything up to it.
        if ack.snapshot > self.log.applied { self.applied_to(ack.snapshot, 0) } else { Ok(()) }
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
