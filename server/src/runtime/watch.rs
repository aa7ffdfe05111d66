//! The hub behind one lock, what each stream reads of it, and the thread that reads history.

use std::collections::{HashMap, VecDeque};
use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};
use stanchion_replica::history::History;
use stanchion_watch::{
    Counts, CreateError, Event, EventKind, Hub, KeyRange, Options, Response, ResponseKind, StreamId, WatchId,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::store_cell::StoreCell;
use crate::member::{
    NewWatcher, WATCH_STREAM_CAPACITY, WatchControl, WatchDelivery, WatchStream, WatcherCreated,
    WatcherRefused,
};

/// The hub, and how its streams and the reader of history are woken.
#[derive(Debug)]
pub(super) struct WatchHub {
    state: Mutex<State>,
    /// Woken when a watcher needs history, and at the end.
    behind: Condvar,
    store: Arc<StoreCell>,
    /// Where [`EVENTS_BESIDE`] events and more are made ready.
    workers: Handle,
}

#[derive(Debug)]
struct State {
    hub: Hub,
    /// Only looked up.
    streams: HashMap<StreamId, Reader>,
    stopped: bool,
}

/// Who reads a stream's answers.
#[derive(Debug, Default)]
struct Reader {
    /// To be woken when there are some.
    waker: Option<Waker>,
    /// The watcher whose events a worker makes ready, unless it was cancelled since.
    beside: Option<WatchId>,
}

/// Answers that a stream takes out of the hub at a time; the hub itself holds the rest.
const TAKEN: usize = 16;

/// So many events at once would keep the other calls of a serving thread waiting: each may be read once more.
const EVENTS_BESIDE: usize = 256;

impl WatchHub {
    /// Must be called on the runtime whose workers take what computes for long.
    pub(super) fn new(store: Arc<StoreCell>) -> Arc<WatchHub> {
        let hub = Hub::new(store.now().revision(), WATCH_STREAM_CAPACITY - TAKEN);
        let state = State { hub, streams: HashMap::new(), stopped: false };
        let workers = Handle::current();
        Arc::new(WatchHub { state: Mutex::new(state), behind: Condvar::new(), store, workers })
    }

    pub(super) fn publish(&self, revision: i64, events: Arc<[Event]>) {
        self.with(|state| state.hub.publish(revision, events));
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().hub.counts()
    }

    /// A leader's snapshot has replaced the store: who watches resumes from its history.
    pub(super) fn restore(&self, revision: i64) {
        self.with(|state| state.hub.restore(revision));
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.behind.notify_all();
    }

    /// Runs `f` on the hub and wakes whoever has something to do afterwards.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let ready = state.hub.take_ready();
        let wakers: Vec<Waker> =
            ready.iter().filter_map(|stream| state.streams.get_mut(stream)?.waker.take()).collect();
        if state.hub.needs_catch_up() {
            self.behind.notify_one();
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    pub(super) fn open(self: &Arc<Self>) -> WatchStream {
        let stream = {
            let mut state = self.state.lock();
            let stream = state.hub.open();
            state.streams.insert(stream, Reader::default());
            stream
        };
        let deliveries = Stream { hub: self.clone(), stream, taken: VecDeque::new(), beside: None };
        (Box::new(Control { hub: self.clone(), stream }), Box::pin(deliveries))
    }

    /// Takes the next answers of a stream. Without any, `waker` is woken when there are some.
    fn take(&self, stream: StreamId, taken: &mut VecDeque<Response>, waker: &Waker) {
        self.with(|state| {
            taken.extend(iter::from_fn(|| state.hub.poll(stream)).take(TAKEN));
            if taken.is_empty()
                && let Some(reader) = state.streams.get_mut(&stream)
            {
                reader.waker = Some(waker.clone());
            }
        });
    }

    /// What the front is told for an answer; `None` for what it has said itself.
    fn delivery(&self, response: Response) -> Option<WatchDelivery> {
        let Response { watch_id: id, revision, kind } = response;
        Some(match kind {
            ResponseKind::Created | ResponseKind::Canceled => return None,
            ResponseKind::Progress => WatchDelivery::Progress { id, revision },
            ResponseKind::Compacted { compact_revision } => WatchDelivery::Compacted { id, compact_revision },
            ResponseKind::Events { events, prev_kv, .. } => {
                let encoded =
                    |event: &Event| if prev_kv { self.with_prev(event) } else { event.encoded.clone() };
                WatchDelivery::Events { id, revision, events: events.iter().map(encoded).collect() }
            }
        })
    }

    /// The event with the pair before it, as field 3, if there was one and it can still be read.
    fn with_prev(&self, event: &Event) -> Bytes {
        const PREV_KV: u8 = 3 << 3 | 2;
        if event.created && event.kind == EventKind::Put {
            return event.encoded.clone();
        }
        let Ok(Some(prev)) = self.store.now().get(&event.key, event.revision - 1) else {
            return event.encoded.clone();
        };
        let mut out = BytesMut::with_capacity(event.encoded.len() + prev.len() + 8);
        out.put_slice(&event.encoded);
        out.put_u8(PREV_KV);
        prost::encoding::encode_varint(prev.len() as u64, &mut out);
        out.put_slice(&prev);
        out.freeze()
    }
}

/// The answers of one stream, as the front wants them.
struct Stream {
    hub: Arc<WatchHub>,
    stream: StreamId,
    taken: VecDeque<Response>,
    /// A worker makes events ready; everything else waits for it.
    beside: Option<JoinHandle<Option<WatchDelivery>>>,
}

impl Stream {
    /// Whether a worker should make `response` ready; then it does.
    fn goes_beside(&mut self, response: Response) -> Result<(), Response> {
        if !matches!(&response.kind, ResponseKind::Events { events, .. } if events.len() >= EVENTS_BESIDE) {
            return Err(response);
        }
        let hub = self.hub.clone();
        if let Some(reader) = hub.state.lock().streams.get_mut(&self.stream) {
            reader.beside = Some(response.watch_id);
        }
        let workers = hub.workers.clone();
        self.beside = Some(workers.spawn(async move { hub.delivery(response) }));
        Ok(())
    }

    /// Whether the watcher whose events were made ready is still there.
    fn is_wanted(&self) -> bool {
        let mut state = self.hub.state.lock();
        state.streams.get_mut(&self.stream).is_some_and(|reader| reader.beside.take().is_some())
    }
}

impl tokio_stream::Stream for Stream {
    type Item = WatchDelivery;

    /// Ends when nothing can follow.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchDelivery>> {
        loop {
            if let Some(beside) = &mut self.beside {
                let Ok(delivery) = ready!(Pin::new(beside).poll(context)) else { return Poll::Ready(None) };
                self.beside = None;
                if delivery.is_some() && self.is_wanted() {
                    return Poll::Ready(delivery);
                }
            }
            let Some(response) = self.taken.pop_front() else {
                let this = &mut *self;
                this.hub.take(this.stream, &mut this.taken, context.waker());
                if this.taken.is_empty() {
                    return Poll::Pending;
                }
                continue;
            };
            let Err(response) = self.goes_beside(response) else { continue };
            if let Some(delivery) = self.hub.delivery(response) {
                return Poll::Ready(Some(delivery));
            }
        }
    }
}

/// The thread that reads history for watchers that lag.
pub(super) fn catch_up_loop(watch: Arc<WatchHub>) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        loop {
            let job = {
                let mut state = watch.state.lock();
                loop {
                    if state.stopped {
                        return;
                    }
                    if let Some(job) = state.hub.begin_catch_up() {
                        break job;
                    }
                    watch.behind.wait(&mut state);
                }
            };
            // Taken after the job: it shows everything that was published when the job was made.
            let caught_up = job.run(&History(watch.store.now().read()));
            let failed = caught_up.error.clone();
            watch.with(|state| state.hub.finish_catch_up(caught_up));
            if let Some(error) = failed {
                tracing::warn!(%error, "watchers could not be caught up; trying again");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    })
}

/// The front's hand on one stream.
struct Control {
    hub: Arc<WatchHub>,
    stream: StreamId,
}

impl WatchControl for Control {
    fn create(&mut self, watcher: NewWatcher) -> Result<WatcherCreated, WatcherRefused> {
        let range = KeyRange::new(&watcher.key, &watcher.range_end).map_err(refused)?;
        let options = Options {
            start_revision: watcher.start_revision,
            no_put: watcher.no_put,
            no_delete: watcher.no_delete,
            prev_kv: watcher.prev_kv,
            // The front keeps the timers and asks for each progress answer.
            progress_notify: false,
            fragment: false,
        };
        self.hub.with(|state| {
            let id = state.hub.create(self.stream, watcher.id, range, options).map_err(refused)?;
            Ok(WatcherCreated { id, revision: state.hub.current() })
        })
    }

    fn cancel(&mut self, id: i64) -> bool {
        self.hub.with(|state| {
            if let Some(reader) = state.streams.get_mut(&self.stream) {
                reader.beside.take_if(|watcher| *watcher == id);
            }
            state.hub.cancel(self.stream, id)
        })
    }

    fn request_progress(&mut self, id: i64) {
        self.hub.with(|state| state.hub.notify_progress(self.stream, id));
    }

    fn request_progress_all(&mut self) {
        self.hub.with(|state| state.hub.request_progress(self.stream));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        state.hub.close(self.stream);
        state.streams.remove(&self.stream);
    }
}

fn refused(error: CreateError) -> WatcherRefused {
    match error {
        CreateError::Duplicate { .. } => WatcherRefused::DuplicateId,
        CreateError::EmptyRange | CreateError::NegativeStart { .. } => WatcherRefused::EmptyRange,
    }
}
