//! The hub behind one lock, a pump for each stream, and the thread that reads history.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};
use stanchion_replica::history::History;
use stanchion_watch::{
    Counts, CreateError, Event, EventKind, Hub, KeyRange, Options, Response, ResponseKind, StreamId,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinError;

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
    pumps: HashMap<StreamId, Arc<Notify>>,
    stopped: bool,
}

/// Deliveries that wait between hub and front; the hub itself holds the rest.
const CHANNEL: usize = 8;

/// So many events at once would keep the other calls of a serving thread waiting: each may be read once more.
const EVENTS_BESIDE: usize = 256;

impl WatchHub {
    /// Must be called on the runtime whose workers take what computes for long.
    pub(super) fn new(store: Arc<StoreCell>) -> Arc<WatchHub> {
        let hub = Hub::new(store.now().revision(), WATCH_STREAM_CAPACITY - CHANNEL);
        let state = State { hub, pumps: HashMap::new(), stopped: false };
        let workers = Handle::current();
        Arc::new(WatchHub { state: Mutex::new(state), behind: Condvar::new(), store, workers })
    }

    pub(super) fn publish(&self, revision: i64, events: Arc<[Event]>) {
        self.with(|hub| hub.publish(revision, events));
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().hub.counts()
    }

    /// A leader's snapshot has replaced the store: who watches resumes from its history.
    pub(super) fn restore(&self, revision: i64) {
        self.with(|hub| hub.restore(revision));
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.behind.notify_all();
    }

    /// Runs `f` on the hub and wakes whoever has something to do afterwards.
    fn with<T>(&self, f: impl FnOnce(&mut Hub) -> T) -> T {
        let mut state = self.state.lock();
        let result = f(&mut state.hub);
        for stream in state.hub.take_ready() {
            if let Some(pump) = state.pumps.get(&stream) {
                pump.notify_one();
            }
        }
        if state.hub.needs_catch_up() {
            self.behind.notify_one();
        }
        result
    }

    pub(super) fn open(self: &Arc<Self>) -> WatchStream {
        let notify = Arc::new(Notify::new());
        let stream = {
            let mut state = self.state.lock();
            let stream = state.hub.open();
            state.pumps.insert(stream, notify.clone());
            stream
        };
        let (sender, receiver) = mpsc::channel(CHANNEL);
        tokio::spawn(pump(self.clone(), stream, notify, sender));
        (Box::new(Control { hub: self.clone(), stream }), receiver)
    }

    /// As [`delivery`](Self::delivery), on a worker if that may take long. An error means that nothing can follow.
    async fn made_ready(self: &Arc<Self>, response: Response) -> Result<Option<WatchDelivery>, JoinError> {
        if !matches!(&response.kind, ResponseKind::Events { events, .. } if events.len() >= EVENTS_BESIDE) {
            return Ok(self.delivery(response));
        }
        let hub = self.clone();
        self.workers.spawn(async move { hub.delivery(response) }).await
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

/// Carries a stream's answers to the front, as fast as that takes them. Ends when either side is gone.
async fn pump(
    hub: Arc<WatchHub>,
    stream: StreamId,
    notify: Arc<Notify>,
    sender: mpsc::Sender<WatchDelivery>,
) {
    loop {
        let Some(response) = hub.with(|hub| hub.poll(stream)) else {
            tokio::select! {
                () = notify.notified() => {}
                () = sender.closed() => break,
            }
            if !hub.state.lock().pumps.contains_key(&stream) {
                return;
            }
            continue;
        };
        let Ok(delivery) = hub.made_ready(response).await else { break };
        if let Some(delivery) = delivery
            && sender.send(delivery).await.is_err()
        {
            break;
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
            watch.with(|hub| hub.finish_catch_up(caught_up));
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
        self.hub.with(|hub| {
            let id = hub.create(self.stream, watcher.id, range, options).map_err(refused)?;
            Ok(WatcherCreated { id, revision: hub.current() })
        })
    }

    fn cancel(&mut self, id: i64) -> bool {
        self.hub.with(|hub| hub.cancel(self.stream, id))
    }

    fn request_progress(&mut self, id: i64) {
        self.hub.with(|hub| hub.notify_progress(self.stream, id));
    }

    fn request_progress_all(&mut self) {
        self.hub.with(|hub| hub.request_progress(self.stream));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        state.hub.close(self.stream);
        if let Some(pump) = state.pumps.remove(&self.stream) {
            pump.notify_one();
        }
    }
}

fn refused(error: CreateError) -> WatcherRefused {
    match error {
        CreateError::Duplicate { .. } => WatcherRefused::DuplicateId,
        CreateError::EmptyRange | CreateError::NegativeStart { .. } => WatcherRefused::EmptyRange,
    }
}
