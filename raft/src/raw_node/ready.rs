//! Outputs: what is to be stored, sent and applied, and how its completion comes back.

use super::{Outstanding, RawNode};
use crate::error::Error;
use crate::proto::{
    Entry, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, Message, MessageType as T, Snapshot,
};
use crate::raft::{AppliedBatch, SoftState, storage_ack};
use crate::read_only::ReadState;
use crate::storage::Storage;

/// Everything that is due. One at a time; give it back with [`RawNode::advance`] (synchronous mode) or drop it
/// (asynchronous mode).
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
    /// Leader or role, if one has changed.
    pub soft_state: Option<SoftState>,
    /// Term, vote and commit index, if one has changed.
    pub hard_state: Option<HardState>,
    /// Confirmed reads.
    pub read_states: Vec<ReadState>,
    /// Entries to persist.
    pub entries: Vec<Entry>,
    /// Snapshot to persist and apply.
    pub snapshot: Option<Snapshot>,
    /// Entries to apply.
    pub committed_entries: Vec<Entry>,
    /// Messages that may leave at once.
    pub messages: Vec<Message>,
    /// Messages that may leave when the writes of this ready are durable; always empty in asynchronous mode, where
    /// they are responses of the storage message.
    pub messages_after_persist: Vec<Message>,
    /// The writes must be durable before going on. False when only the commit index has moved.
    pub must_sync: bool,
}

impl Ready {
    /// Counts up from 1.
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

    fn keep(&mut self, ready: Ready, own_messages: Vec<Message>) {
        let emptied = |mut messages: Vec<Message>| {
            messages.clear();
            messages
        };
        let (others, own) = (emptied(ready.messages_after_persist), emptied(own_messages));
        let after_append = if others.capacity() > own.capacity() { others } else { own };
        replace(&mut self.messages, ready.messages, Self::MOST);
        replace(&mut self.after_append, after_append, Self::MOST);
        replace(&mut self.entries, ready.entries, Self::MOST);
        replace(&mut self.committed_entries, ready.committed_entries, Self::MOST);
    }
}

fn replace<T>(spare: &mut Vec<T>, mut used: Vec<T>, most: usize) {
    used.clear();
    if (1..=most).contains(&used.capacity()) {
        *spare = used;
    }
}

impl<S: Storage> RawNode<S> {
    /// True when [`ready`](Self::ready) has something to say.
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

    /// Takes what is due.
    ///
    /// # Errors
    /// The previous ready is outstanding, or storage failed; nothing is taken then.
    pub fn ready(&mut self) -> Result<Ready, Error> {
        if let Some(o) = &self.outstanding {
            return Err(Error::ReadyOutOfOrder { expected: Some(o.number), found: self.last_ready + 1 });
        }
        let allow_unstable = !self.async_storage_writes;
        // What can fail comes first, so that a failure loses nothing.
        let mut committed_entries = std::mem::take(&mut self.spare.committed_entries);
        self.raft.log.next_committed(allow_unstable, &mut committed_entries)?;
        let snapshot = self.raft.log.next_snapshot();
        let ack = storage_ack(&self.raft, snapshot.is_some())?;
        let mut entries = std::mem::take(&mut self.spare.entries);
        self.raft.log.next_unstable(&mut entries);

        let (soft, hard) = (self.raft.soft_state(), self.raft.hard_state());
        let must_sync = !entries.is_empty()
            || snapshot.is_some()
            || (hard.term, hard.vote) != (self.handed_hard.term, self.handed_hard.vote);
        self.last_ready += 1;
        let mut ready = Ready {
            number: self.last_ready,
            soft_state: (soft != self.handed_soft).then_some(soft),
            hard_state: (hard != self.handed_hard).then_some(hard),
            read_states: std::mem::take(&mut self.raft.read_states),
            entries,
            snapshot,
            committed_entries,
            messages: self.raft.take_msgs(std::mem::take(&mut self.spare.messages)),
            messages_after_persist: Vec::new(),
            must_sync,
        };
        (self.handed_soft, self.handed_hard) = (soft, hard);
        let spare = std::mem::take(&mut self.spare.after_append);
        let after_append = std::mem::replace(&mut self.raft.msgs_after_append, spare);
        let ack = (ack.index != 0 || ack.snapshot.is_some()).then_some(ack);
        let applied = AppliedBatch::of(&ready.committed_entries);
        if self.async_storage_writes {
            self.push_storage_messages(&mut ready, after_append, ack);
        } else {
            self.keep_for_advance(&mut ready, after_append, ack, applied);
        }
        self.raft.log.accept_unstable();
        if let Some(batch) = &applied {
            self.raft.log.accept_applying(batch.last, batch.encoded_bytes, allow_unstable);
        }
        Ok(ready)
    }

    fn keep_for_advance(
        &mut self,
        ready: &mut Ready,
        after_append: Vec<Message>,
        storage_ack: Option<Message>,
        applied: Option<AppliedBatch>,
    ) {
        let id = self.raft.id;
        // A leader acknowledges to itself, a follower to its leader: mostly it is all one or all the other.
        let (own_messages, others) = if after_append.iter().all(|m| m.to == id) {
            (after_append, Vec::new())
        } else if after_append.iter().all(|m| m.to != id) {
            (Vec::new(), after_append)
        } else {
            after_append.into_iter().partition(|m| m.to == id)
        };
        ready.messages_after_persist = others;
        self.outstanding = Some(Outstanding { number: ready.number, own_messages, storage_ack, applied });
    }

    fn push_storage_messages(&self, ready: &mut Ready, after_append: Vec<Message>, ack: Option<Message>) {
        let id = self.raft.id;
        let writes = !ready.entries.is_empty() || ready.snapshot.is_some() || ready.hard_state.is_some();
        if writes || !after_append.is_empty() {
            let mut m = Message { from: id, ..Message::new(T::StorageAppend, LOCAL_APPEND_THREAD) };
            m.entries = ready.entries.clone();
            m.snapshot = ready.snapshot.clone().map(Box::new);
            if let Some(hs) = ready.hard_state {
                (m.term, m.vote, m.commit) = (hs.term, hs.vote, hs.commit);
            }
            // Own acknowledgements precede the storage's: the leader counts itself, then the log becomes stable.
            m.responses = after_append;
            m.responses.extend(ack);
            ready.messages.push(m);
        }
        if !ready.committed_entries.is_empty() {
            let mut m = Message { from: id, ..Message::new(T::StorageApply, LOCAL_APPLY_THREAD) };
            m.entries = ready.committed_entries.clone();
            let mut done = Message { from: LOCAL_APPLY_THREAD, ..Message::new(T::StorageApplyResp, id) };
            done.entries = ready.committed_entries.clone();
            m.responses = vec![done];
            ready.messages.push(m);
        }
    }

    /// Everything that `ready` asked for is done: written, sent, applied or queued for that in order.
    ///
    /// # Errors
    /// `ready` is not the outstanding one, or the mode is asynchronous.
    pub fn advance(&mut self, ready: Ready) -> Result<(), Error> {
        if self.async_storage_writes {
            return Err(Error::WrongStorageMode { call: "advance", mode: "asynchronous" });
        }
        let done = match self.outstanding.take() {
            Some(o) if o.number == ready.number => o,
            other => {
                let expected = other.as_ref().map(|o| o.number);
                self.outstanding = other;
                return Err(Error::ReadyOutOfOrder { expected, found: ready.number });
            }
        };
        let mut own_messages = done.own_messages;
        for m in own_messages.drain(..) {
            self.raft.step(m)?;
        }
        self.spare.keep(ready, own_messages);
        if let Some(ack) = &done.storage_ack {
            self.raft.stored(ack)?;
        }
        match &done.applied {
            Some(batch) => self.raft.applied(batch),
            None => Ok(()),
        }
    }
}
