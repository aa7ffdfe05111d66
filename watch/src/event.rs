//! What travels: events, made once and shared, and the answers that carry them.

use std::sync::Arc;

use bytes::Bytes;

use crate::WatchId;

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or updated.
    Put,
    /// It was deleted, by a request or with its lease.
    Delete,
}

/// One change of one key.
///
/// Cloning shares the bytes. Whatever the encoding is, it is made once, before publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The main revision of the change.
    pub revision: i64,
    /// Put or delete.
    pub kind: EventKind,
    /// Whether the key did not exist before: then there is no previous pair to look up.
    pub created: bool,
    /// The key.
    pub key: Bytes,
    /// The event as it goes to clients (without a previous pair).
    pub encoded: Bytes,
}

/// Some events of a shared batch, in the order in which they happened.
#[derive(Debug, Clone)]
pub struct Events {
    batch: Arc<[Event]>,
    /// Which of the batch, ascending; `None`: all.
    picks: Option<Box<[u32]>>,
}

impl Events {
    pub(crate) fn new(batch: Arc<[Event]>, picks: Vec<u32>) -> Events {
        debug_assert!(picks.is_sorted() && picks.last().is_none_or(|&last| (last as usize) < batch.len()));
        let picks = (picks.len() < batch.len()).then(|| picks.into_boxed_slice());
        Events { batch, picks }
    }

    pub(crate) fn all(batch: Arc<[Event]>) -> Events {
        Events { batch, picks: None }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.picks.as_ref().map_or(self.batch.len(), |picks| picks.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        (0..self.len()).map(|n| match &self.picks {
            None => &self.batch[n],
            Some(picks) => &self.batch[picks[n] as usize],
        })
    }
}

/// One answer to the client of a stream.
#[derive(Debug, Clone)]
pub struct Response {
    /// The watcher that it is for; −1 where no watcher exists or all of a stream are meant.
    pub watch_id: WatchId,
    /// The store's revision to be put into the header.
    pub revision: i64,
    /// What it says.
    pub kind: ResponseKind,
}

/// What a [`Response`] says.
#[derive(Debug, Clone)]
pub enum ResponseKind {
    /// The watcher exists now. Always before anything else of that watcher.
    Created,
    /// Events of one revision (live) or several (catching up), never part of a revision.
    Events {
        /// The events.
        events: Events,
        /// The client wants the previous pairs: those at the revision before each event's own.
        prev_kv: bool,
        /// The client accepts the answer in pieces (see [`fragments`](crate::fragments)).
        fragment: bool,
    },
    /// Every event up to `revision` has been sent before.
    Progress,
    /// The watcher is gone, as the client asked.
    Canceled,
    /// The watcher is gone, because events that it needed are compacted. `revision` is zero, as in etcd.
    Compacted {
        /// The first revision that can still be watched.
        compact_revision: i64,
    },
}
