//! Outputs: what is to be stored, sent and applied, and how its completion comes back.

use super::RawNode;
use crate::error::Error;
use crate::proto::{
    Entry, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, Message, MessageType as T, Snapshot,
};
use crate::raft::{AppliedBatch, SoftState, StorageAck};
use crate::read_only::ReadState;
use crate::storage::Storage;

/// Everything that is due: the effects of the rules in the paper's figure 2, in the form of etcd's `Ready`. One at a
/// time; give it back with [`RawNode::advance`] (synchronous mode) or drop it (asynchronous mode).
///
/// The order of work in synchronous mode:
/// 1. send [`messages`](Self::messages): nothing in them rests on this ready's writes;
/// 2. persist [`snapshot`](Self::snapshot), then [`entries`](Self::entries) and [`hard_state`](Self::hard_state); if
///    [`must_sync`](Self::must_sync), wait until they are durable. Writing an entry discards stored ones from its
///    index on;
/// 3. send [`messages_after_persist`](Self::messages_after_persist);
/// 4. apply the snapshot, then [`committed_entries`](Self::committed_entries) in order, configuration changes through
///    [`RawNode::apply_conf_change`];
/// 5. [`RawNode::advance`]. It may come before applying has finished, as long as the next ready's entries are applied
///    after this one's.
///
/// In asynchronous mode everything to store or apply is in messages to
/// [`LOCAL_APPEND_THREAD`] and [`LOCAL_APPLY_THREAD`]; the fields repeat it for whoever wants to look.
#[derive(Debug)]
#[must_use = "a ready holds entries to persist and messages to send"]
pub struct Ready {
    number: u64,
    /// Leader or role (paper, 5.1), if one has changed.
    pub soft_state: Option<SoftState>,
    /// Term, vote and commit index, if one has changed (persistent state: paper, figure 2).
    pub hard_state: Option<HardState>,
    /// Confirmed reads (thesis, 6.4).
    pub read_states: Vec<ReadState>,
    /// Entries to persist (paper, 5.3).
    pub entries: Vec<Entry>,
    /// Snapshot to persist and apply (paper, 7).
    pub snapshot: Option<Box<Snapshot>>,
    /// Entries to apply: they are committed (paper, 5.3).
    pub committed_entries: Vec<Entry>,
    /// Messages that may leave at once; a leader's appends among them, beside its own write (thesis, 10.2.1).
    pub messages: Vec<Message>,
    /// Messages that may leave when the writes of this ready are durable (figure 2: before responding to RPCs); always
    /// empty in asynchronous mode, where they are responses of the storage message.
    pub messages_after_persist: Vec<Message>,
    /// The writes must be durable before going on. False when only the commit index has moved.
    pub must_sync: bool,
}

impl Ready {
    /// Counts up from 1. etcd's library has no number and relies on the order of `Ready` and `Advance`.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// Vectors of the last ready, emptied, for the next one: a node at work then allocates for what it sends alone.
#[derive(Debug, Default)]
pub(super) struct Spare {
    messages: Vec<Message>,
    after_append: Vec<Message>,
    entries: Vec<Entry>,
    committed_entries: Vec<Entry>,
}

impl Spare {
    /// More than this is given back: a burst must not hold its memory for ever.
    const MOST: usize = 4096;

    fn keep(&mut self, ready: &mut Ready, own_messages: &mut Vec<Message>) {
        recycle(&mut self.messages, &mut ready.messages);
        recycle(&mut self.after_append, &mut ready.messages_after_persist);
        recycle(&mut self.after_append, own_messages);
        recycle(&mut self.entries, &mut ready.entries);
        recycle(&mut self.committed_entries, &mut ready.committed_entries);
    }
}

/// Keeps the larger of two vectors' memory.
#[inline]
fn recycle<T>(spare: &mut Vec<T>, used: &mut Vec<T>) {
    if used.capacity() > spare.capacity() && used.capacity() <= Spare::MOST {
        std::mem::swap(spare, used);
        spare.clear();
    }
}

/// What a ready asks storage to write.
struct Writes<'a> {
    entries: &'a [Entry],
    snapshot: Option<&'a Snapshot>,
    hard_state: Option<HardState>,
}

impl<S: Storage> RawNode<S> {
    /// True when [`ready`](Self::ready) has something to say (due effects of the rules in the paper's figure 2).
    #[must_use]
    pub fn has_ready(&self) -> bool {
        let (raft, log) = (&self.raft, &self.raft.log);
        !raft.msgs.is_empty()
            || !raft.msgs_after_append.is_empty()
            || log.has_next_unstable()
            || log.has_next_committed(!self.async_storage_writes)
            || log.has_next_snapshot()
            || !raft.read_states.is_empty()
            || raft.soft_state() != self.handed_soft
            || raft.hard_state() != self.handed_hard
    }

    /// Takes what is due, as etcd's `RawNode.Ready` does (rules for servers: paper, figure 2).
    ///
    /// # Errors
    /// The previous ready is outstanding, or storage failed; nothing is taken then.
    pub fn ready(&mut self) -> Result<Ready, Error> {
        if self.outstanding.is_some() {
            return Err(Error::ReadyOutOfOrder { expected: self.outstanding, found: self.last_ready + 1 });
        }
        let allow_unstable = !self.async_storage_writes;
        // What can fail comes first, so that a failure loses nothing.
        let mut committed_entries = std::mem::take(&mut self.turn.spare.committed_entries);
        let encoded_bytes = self.raft.log.next_committed(allow_unstable, &mut committed_entries)?;
        let ack = StorageAck::next(&self.raft)?;
        let snapshot = self.raft.log.next_snapshot().map(|s| Box::new(s.clone()));
        let mut entries = std::mem::take(&mut self.turn.spare.entries);
        self.raft.log.next_unstable(&mut entries);
        let (soft, hard) = (self.raft.soft_state(), self.raft.hard_state());
        let must_sync = !entries.is_empty()
            || snapshot.is_some()
            || (hard.term, hard.vote) != (self.handed_hard.term, self.handed_hard.vote);
        let soft_state = (soft != self.handed_soft).then_some(soft);
        let hard_state = (hard != self.handed_hard).then_some(hard);
        (self.handed_soft, self.handed_hard) = (soft, hard);
        self.last_ready += 1;

        let mut messages = self.raft.take_msgs(std::mem::take(&mut self.turn.spare.messages));
        let spare = std::mem::take(&mut self.turn.spare.after_append);
        let after_append = std::mem::replace(&mut self.raft.msgs_after_append, spare);
        let applied = AppliedBatch::counted(&committed_entries, encoded_bytes);
        let messages_after_persist = if self.async_storage_writes {
            let writes = Writes { entries: &entries, snapshot: snapshot.as_deref(), hard_state };
            messages.extend(self.append_message(&writes, after_append, ack));
            messages.extend(self.apply_message(&committed_entries));
            Vec::new()
        } else {
            self.keep_for_advance(after_append, ack, applied)
        };
        self.raft.log.accept_unstable();
        if let Some(batch) = &applied {
            self.raft.log.accept_applying(batch.last, batch.encoded_bytes, allow_unstable);
        }
        // Made in one piece where it is returned: it is large enough for a second copy to be noticed.
        Ok(Ready {
            number: self.last_ready,
            soft_state,
            hard_state,
            read_states: std::mem::take(&mut self.raft.read_states),
            entries,
            snapshot,
            committed_entries,
            messages,
            messages_after_persist,
            must_sync,
        })
    }

    /// Answers the messages that others get once the writes are durable.
    fn keep_for_advance(
        &mut self,
        after_append: Vec<Message>,
        storage_ack: StorageAck,
        applied: Option<AppliedBatch>,
    ) -> Vec<Message> {
        let id = self.raft.id;
        // A leader acknowledges to itself, a follower to its leader: mostly it is all one or all the other.
        self.outstanding = Some(self.last_ready);
        self.turn.storage_ack = storage_ack;
        self.turn.applied = applied;
        if after_append.iter().all(|m| m.to == id) {
            self.turn.own_messages = after_append;
            return Vec::new();
        }
        if after_append.iter().all(|m| m.to != id) {
            self.turn.own_messages.clear();
            return after_append;
        }
        let (own_messages, others) = after_append.into_iter().partition(|m| m.to == id);
        self.turn.own_messages = own_messages;
        others
    }

    /// The append thread's work, if there is any.
    fn append_message(
        &self,
        writes: &Writes<'_>,
        after_append: Vec<Message>,
        ack: StorageAck,
    ) -> Option<Message> {
        let id = self.raft.id;
        let any = !writes.entries.is_empty() || writes.snapshot.is_some() || writes.hard_state.is_some();
        if !any && after_append.is_empty() {
            return None;
        }
        let hard_state = writes.hard_state.unwrap_or_default();
        // Own acknowledgements precede the storage's: the leader counts itself, then the log becomes stable.
        let mut responses = after_append;
        responses.extend(ack.into_message(id, writes.snapshot));
        Some(Message {
            from: id,
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
            entries: writes.entries.to_vec(),
            snapshot: writes.snapshot.map(|s| Box::new(s.clone())),
            responses,
            ..Message::new(T::StorageAppend, LOCAL_APPEND_THREAD)
        })
    }

    /// The apply thread's work, if there is any.
    fn apply_message(&self, committed: &[Entry]) -> Option<Message> {
        if committed.is_empty() {
            return None;
        }
        let id = self.raft.id;
        let done = Message {
            from: LOCAL_APPLY_THREAD,
            entries: committed.to_vec(),
            ..Message::new(T::StorageApplyResp, id)
        };
        Some(Message {
            from: id,
            entries: committed.to_vec(),
            responses: vec![done],
            ..Message::new(T::StorageApply, LOCAL_APPLY_THREAD)
        })
    }

    /// Everything that `ready` asked for is done (etcd's `RawNode.Advance`): written, sent, applied or queued for that
    /// in order (`lastApplied`, and stable storage: paper, figure 2).
    ///
    /// # Errors
    /// `ready` is not the outstanding one, or the mode is asynchronous.
    pub fn advance(&mut self, mut ready: Ready) -> Result<(), Error> {
        if self.async_storage_writes {
            return Err(Error::WrongStorageMode { call: "advance", mode: "asynchronous" });
        }
        if self.outstanding != Some(ready.number) {
            return Err(Error::ReadyOutOfOrder { expected: self.outstanding, found: ready.number });
        }
        self.outstanding = None;
        let turn = &mut *self.turn;
        for m in &mut turn.own_messages {
            self.raft.step(m)?;
        }
        turn.spare.keep(&mut ready, &mut turn.own_messages);
        turn.own_messages.clear();
        self.raft.stored(&turn.storage_ack)?;
        match &turn.applied {
            Some(batch) => self.raft.applied(batch),
            None => Ok(()),
        }
    }
}
