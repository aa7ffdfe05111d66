//! The streams, their watchers and what waits to be sent; publishing.
//!
//! How a watcher moves between the groups is in `group`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::event::Events;
use crate::group::{Recent, Slow};
use crate::{CreateError, Event, EventKind, KeyRange, RangeIndex, Response, ResponseKind};

/// A stream of this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A watcher of a stream; any `i64`, chosen by the client or by the stream.
pub type WatchId = i64;

/// What a watcher asks for beside its range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The first revision wanted; zero: what comes after the creation.
    pub start_revision: i64,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
    /// Send previous pairs along.
    pub prev_kv: bool,
    /// Tell how far things are while nothing happens.
    pub progress_notify: bool,
    /// Large answers may be split.
    pub fragment: bool,
}

/// Which kinds of events a watcher does not want.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filters {
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
}

impl Filters {
    pub(crate) fn drops(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        }
    }
}

/// Where a watcher stands.
#[derive(Debug)]
pub(crate) enum Group {
    /// It has been given everything up to the current revision: publishing feeds it.
    Synced,
    /// It needs history and waits for a scan.
    Unsynced,
    /// A scan that is under way reads for it.
    Scanned,
    /// Its stream was full; this waits to be queued.
    Victim(Box<Response>),
    /// Its stream is full and it needs history: no scan is made for it before there is room.
    Parked,
    /// It was told that its history is compacted. Only its id still exists.
    Gone,
}

/// One watcher.
///
/// Invariant: every event of its range below `next` has been handed to its stream (or waits in its own
/// [`Group::Victim`]), and none at or above. For a synced watcher that nothing matched lately, `next` lags behind and
/// means "or the current revision + 1, if that is later".
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) stream: StreamId,
    pub(crate) id: WatchId,
    pub(crate) range: Arc<KeyRange>,
    pub(crate) next: i64,
    pub(crate) group: Group,
    /// Told apart from an earlier watcher in the same slot.
    pub(crate) generation: u32,
    pub(crate) filters: Filters,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
    /// Nothing was sent since the last progress tick.
    pub(crate) quiet: bool,
}

impl Watcher {
    pub(crate) fn events(&self, revision: i64, events: Events) -> Response {
        let kind = ResponseKind::Events { events, prev_kv: self.prev_kv, fragment: self.fragment };
        Response { watch_id: self.id, revision, kind }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) watchers: BTreeMap<WatchId, u32>,
    pub(crate) outbox: VecDeque<Response>,
    /// Its watchers in [`Group::Victim`] and [`Group::Parked`], in the order in which they came, with generations;
    /// entries of watchers that have left are skipped.
    pub(crate) waiting: VecDeque<(u32, u32)>,
    next_id: WatchId,
    /// It stands in the list of streams that became ready.
    announced: bool,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Watchers, without those that were told that they are compacted.
    pub watchers: usize,
    /// Watchers that are not synced.
    pub slow_watchers: usize,
    /// Events handed to streams since the start.
    pub events: u64,
}

/// All streams of a member and the state of their watchers.
///
/// Commands ([`create`](Self::create), [`cancel`](Self::cancel), …) and [`publish`](Self::publish) go in; answers
/// come out of [`poll`](Self::poll), stream by stream, in the order in which they must be sent.
/// [`take_ready`](Self::take_ready) names the streams that have something.
///
/// A stream holds at most its capacity of event answers; further ones make their watchers wait (victims), which costs
/// nobody else anything. Answers to the client's own requests are queued whatever the capacity: take no further
/// request of a stream that [`is_full`](Self::is_full).
#[derive(Debug)]
pub struct Hub {
    capacity: usize,
    /// The last published revision.
    pub(crate) current: i64,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    pub(crate) watchers: Vec<Option<Watcher>>,
    free: Vec<u32>,
    generation: u32,
    /// The synced watchers.
    pub(crate) synced: RangeIndex,
    pub(crate) slow: Slow,
    pub(crate) recent: Recent,
    ready: Vec<StreamId>,
    gone: usize,
    events: u64,
    /// Scratch of [`publish`](Self::publish): (watcher, event) pairs of the batch.
    matches: Vec<(u32, u32)>,
}

impl Hub {
    /// Answers that one stream holds, as in etcd.
    pub const STREAM_CAPACITY: usize = 128;

    /// A hub for a store at `current` revision, whose streams hold `capacity` event answers each.
    ///
    /// # Panics
    /// If `capacity` is zero.
    pub fn new(current: i64, capacity: usize) -> Hub {
        assert!(capacity > 0, "a stream must hold at least one answer");
        Hub {
            capacity,
            current,
            streams: BTreeMap::new(),
            next_stream: 0,
            watchers: Vec::new(),
            free: Vec::new(),
            generation: 0,
            synced: RangeIndex::new(),
            slow: Slow::default(),
            recent: Recent::after(current),
            ready: Vec::new(),
            gone: 0,
            events: 0,
            matches: Vec::new(),
        }
    }

    /// Opens a stream.
    pub fn open(&mut self) -> StreamId {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(id, Stream::default());
        id
    }

    /// Closes a stream and forgets its watchers and everything that waited in it.
    pub fn close(&mut self, stream: StreamId) {
        let Some(closed) = self.streams.remove(&stream) else { return };
        for slot in closed.watchers.into_values() {
            self.remove(slot);
        }
    }

    /// Creates a watcher and queues the answer that says so. `id` zero lets the stream choose.
    ///
    /// # Errors
    /// [`CreateError::Duplicate`], [`CreateError::NegativeStart`]. Nothing is queued then: the refusal is the caller's
    /// to word, with [`reply`](Self::reply).
    ///
    /// # Panics
    /// If the stream is not open.
    pub fn create(
        &mut self,
        stream: StreamId,
        id: WatchId,
        range: KeyRange,
        options: Options,
    ) -> Result<WatchId, CreateError> {
        if options.start_revision < 0 {
            return Err(CreateError::NegativeStart { start_revision: options.start_revision });
        }
        let open = self.streams.get_mut(&stream).expect("a watcher is created on an open stream");
        let id = match id {
            0 => {
                while open.watchers.contains_key(&open.next_id) {
                    open.next_id += 1;
                }
                open.next_id += 1;
                open.next_id - 1
            }
            id if open.watchers.contains_key(&id) => return Err(CreateError::Duplicate { id }),
            id => id,
        };
        self.reply(stream, Response { watch_id: id, revision: self.current, kind: ResponseKind::Created });
        let next = if options.start_revision == 0 { self.current + 1 } else { options.start_revision };
        self.generation = self.generation.wrapping_add(1);
        let slot = self.insert(Watcher {
            stream,
            id,
            range: Arc::new(range),
            next,
            group: Group::Scanned,
            generation: self.generation,
            filters: Filters { no_put: options.no_put, no_delete: options.no_delete },
            prev_kv: options.prev_kv,
            fragment: options.fragment,
            progress_notify: options.progress_notify,
            quiet: true,
        });
        self.streams.get_mut(&stream).expect("open above").watchers.insert(id, slot);
        if next > self.current {
            self.enter_synced(slot);
        } else {
            self.enter_unsynced(slot);
        }
        Ok(id)
    }

    /// Removes a watcher and queues the answer that says so; events that were queued before still come first, none
    /// come after. Returns whether there was one; for an unknown id nothing is queued.
    pub fn cancel(&mut self, stream: StreamId, id: WatchId) -> bool {
        let Some(slot) = self.streams.get_mut(&stream).and_then(|open| open.watchers.remove(&id)) else {
            return false;
        };
        self.remove(slot);
        self.reply(stream, Response { watch_id: id, revision: self.current, kind: ResponseKind::Canceled });
        true
    }

    /// Queues an answer of the caller's own making behind what waits already, whatever the capacity.
    pub fn reply(&mut self, stream: StreamId, response: Response) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.outbox.push_back(response);
            self.announce(stream);
        }
    }

    /// Takes the events of one revision, in the order in which they happened, and queues them for every synced watcher
    /// that wants them. Costs O(log n + matches); the events are shared, not copied.
    ///
    /// Publish before the revision can be read, so that nobody who has read it can be told about it too late.
    ///
    /// # Panics
    /// If the revision is not above the current one, or an event is of another revision.
    pub fn publish(&mut self, revision: i64, batch: Arc<[Event]>) {
        assert!(revision > self.current, "revision {revision} published after {}", self.current);
        assert!(
            batch.iter().all(|event| event.revision == revision),
            "a batch of revision {revision} holds events of another"
        );
        self.current = revision;
        let mut matches = std::mem::take(&mut self.matches);
        for (event, n) in batch.iter().zip(0u32..) {
            self.synced.for_each_match(&event.key, |slot| matches.push((slot, n)));
        }
        if batch.len() > 1 {
            matches.sort_unstable();
        }
        for group in matches.chunk_by(|a, b| a.0 == b.0) {
            self.offer(group[0].0, revision, &batch, group.iter().map(|&(_, n)| n));
        }
        matches.clear();
        self.matches = matches;
        self.recent.push(revision, batch);
    }

    /// The next answer of a stream. Watchers that waited for room move up.
    pub fn poll(&mut self, stream: StreamId) -> Option<Response> {
        let response = self.streams.get_mut(&stream)?.outbox.pop_front();
        match response {
            Some(_) => self.readmit(stream),
            None => self.streams.get_mut(&stream)?.announced = false,
        }
        response
    }

    /// The streams that have got something since they were last drained to the end, each once.
    ///
    /// A stream is named again only after [`poll`](Self::poll) has returned `None` for it.
    pub fn take_ready(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.ready)
    }

    /// Whether the stream holds as many answers as it may.
    pub fn is_full(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|open| open.outbox.len() >= self.capacity)
    }

    /// Answers a client's own question how far things are: queued only if every watcher of the stream is synced and
    /// past its start, and there is one; otherwise nothing, and the client must ask again.
    pub fn request_progress(&mut self, stream: StreamId) -> bool {
        let Some(open) = self.streams.get(&stream) else { return false };
        let gone = |slot: u32| matches!(self.watcher(slot).group, Group::Gone);
        let mut slots = open.watchers.values().copied().filter(|&slot| !gone(slot)).peekable();
        let due = slots.peek().is_some() && slots.all(|slot| self.is_caught_up(slot));
        #[cfg(feature = "mutants")]
        let due = due || crate::mutant::active(crate::mutant::Mutant::ProgressAhead);
        if due && !self.is_full(stream) {
            self.reply(
                stream,
                Response { watch_id: -1, revision: self.current, kind: ResponseKind::Progress },
            );
            return true;
        }
        false
    }

    /// Tells one watcher how far things are, unless it is behind or the stream is full; returns whether it was told.
    pub fn notify_progress(&mut self, stream: StreamId, watch_id: WatchId) -> bool {
        let slot = self.streams.get(&stream).and_then(|open| open.watchers.get(&watch_id).copied());
        let due = slot.is_some_and(|slot| self.is_caught_up(slot)) && !self.is_full(stream);
        if due {
            self.reply(stream, Response { watch_id, revision: self.current, kind: ResponseKind::Progress });
        }
        due
    }

    /// Tells every watcher of the stream that asked for it how far things are, unless it got something since the last
    /// tick, is behind, or the stream is full. The caller keeps the interval.
    pub fn progress_tick(&mut self, stream: StreamId) {
        let Some(open) = self.streams.get(&stream) else { return };
        let asked = |slot: &u32| self.watcher(*slot).progress_notify;
        let slots: Vec<u32> = open.watchers.values().copied().filter(asked).collect();
        for slot in slots {
            let due = self.watcher(slot).quiet && self.is_caught_up(slot);
            self.watcher_mut(slot).quiet = true;
            if due && !self.is_full(stream) {
                let watch_id = self.watcher(slot).id;
                self.reply(
                    stream,
                    Response { watch_id, revision: self.current, kind: ResponseKind::Progress },
                );
            }
        }
    }

    /// The last published revision.
    pub fn current(&self) -> i64 {
        self.current
    }

    /// The ids of a stream's watchers, ascending.
    pub fn watch_ids(&self, stream: StreamId) -> Vec<WatchId> {
        self.streams.get(&stream).map(|open| open.watchers.keys().copied().collect()).unwrap_or_default()
    }

    /// Figures for metrics.
    pub fn counts(&self) -> Counts {
        let watchers = self.watchers.len() - self.free.len() - self.gone;
        Counts {
            streams: self.streams.len(),
            watchers,
            slow_watchers: watchers - self.synced.len(),
            events: self.events,
        }
    }

    /// Whether everything up to the current revision was handed out for this watcher, and it wanted some of it.
    fn is_caught_up(&self, slot: u32) -> bool {
        let watcher = self.watcher(slot);
        matches!(watcher.group, Group::Synced) && watcher.next <= self.current + 1
    }

    /// Gives the picked events of a live batch to a synced watcher.
    fn offer(
        &mut self,
        slot: u32,
        revision: i64,
        batch: &Arc<[Event]>,
        picks: impl ExactSizeIterator<Item = u32>,
    ) {
        let watcher = self.watcher_mut(slot);
        if revision < watcher.next {
            return;
        }
        watcher.next = revision + 1;
        let filters = watcher.filters;
        let keep = |n: &u32| !filters.drops(batch[*n as usize].kind);
        // The common case, everything for everybody, allocates nothing.
        let events = if picks.len() == batch.len() && batch.iter().all(|event| !filters.drops(event.kind)) {
            Events::all(batch.clone())
        } else {
            Events::new(batch.clone(), picks.filter(keep).collect())
        };
        if !events.is_empty() {
            let response = watcher.events(revision, events);
            if let Err(response) = self.enqueue(slot, response) {
                #[cfg(feature = "mutants")]
                if crate::mutant::active(crate::mutant::Mutant::FullStreamLoses) {
                    return;
                }
                self.enter_victims(slot, response);
            }
        }
    }

    /// Queues an answer with events, unless the stream is full.
    pub(crate) fn enqueue(&mut self, slot: u32, response: Response) -> Result<(), Response> {
        let stream = self.watcher(slot).stream;
        if self.is_full(stream) {
            return Err(response);
        }
        if let ResponseKind::Events { events, .. } = &response.kind {
            self.events += events.len() as u64;
        }
        self.watcher_mut(slot).quiet = false;
        self.reply(stream, response);
        Ok(())
    }

    fn announce(&mut self, stream: StreamId) {
        let open = self.streams.get_mut(&stream).expect("only open streams are announced");
        if !open.announced {
            open.announced = true;
            self.ready.push(stream);
        }
    }

    fn insert(&mut self, watcher: Watcher) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.watchers[slot as usize] = Some(watcher);
            return slot;
        }
        self.watchers.push(Some(watcher));
        u32::try_from(self.watchers.len() - 1).expect("fewer than 2^32 watchers fit in memory")
    }

    fn remove(&mut self, slot: u32) {
        let watcher = self.watchers[slot as usize].take().expect("a stream's watcher exists");
        match watcher.group {
            Group::Synced => _ = self.synced.remove(&watcher.range, slot),
            Group::Gone => self.gone -= 1,
            Group::Unsynced | Group::Scanned | Group::Victim(_) | Group::Parked => {}
        }
        self.free.push(slot);
    }

    pub(crate) fn enter_gone(&mut self, slot: u32, compact_revision: i64) {
        self.gone += 1;
        let watcher = self.watcher_mut(slot);
        watcher.group = Group::Gone;
        let (stream, watch_id) = (watcher.stream, watcher.id);
        self.reply(
            stream,
            Response { watch_id, revision: 0, kind: ResponseKind::Compacted { compact_revision } },
        );
    }

    pub(crate) fn watcher(&self, slot: u32) -> &Watcher {
        self.watchers[slot as usize].as_ref().expect("a slot in use holds a watcher")
    }

    pub(crate) fn watcher_mut(&mut self, slot: u32) -> &mut Watcher {
        self.watchers[slot as usize].as_mut().expect("a slot in use holds a watcher")
    }

    /// The watcher of a slot, if it is still the one that is meant.
    pub(crate) fn same(&self, slot: u32, generation: u32) -> Option<&Watcher> {
        self.watchers[slot as usize].as_ref().filter(|watcher| watcher.generation == generation)
    }
}
