//! Fan-out: from a put to the event in the hands of every watcher.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use stanchion_api::etcdserverpb::watch_request::RequestUnion;
use stanchion_api::etcdserverpb::{PutRequest, PutResponse, WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::oneshot;

use super::{Common, value_size, wrong_answer};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload, share};
use crate::error::Failure;
use crate::keys::below;
use crate::record::Recorder;
use crate::wire::{Connection, Method, Stream};

/// The kinds, by their place.
const ALL_TOLD: usize = 0;
const PUT: usize = 1;
const EVENT: usize = 2;

/// Longest wait for the last watcher of a put.
const PATIENCE: Duration = Duration::from_secs(30);
/// Watchers that are created before their answers are read: both sides keep what the other has not taken yet.
const CREATED_AT_ONCE: usize = 500;
/// The number of a put and the moment when it was due, in nanoseconds since the run's epoch.
const STAMP_BYTES: usize = 16;

/// Flags of `load watch`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// Number of watchers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    watchers: u32,
    /// Streams that the watchers share; as many as watchers give each its own
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    streams: u32,
    /// Keys that the watchers are spread over; as many as watchers give each its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    watched_keys: u32,
    /// Bytes in a value, at least 16
    #[arg(long, default_value_t = 256, value_parser = value_size)]
    value_size: usize,
}

/// Each operation puts a watched key and waits until all its watchers know.
pub(crate) struct Watch {
    args: WatchArgs,
    prefix: String,
    epoch: Instant,
    next: AtomicU64,
    /// Puts that not all watchers have been told of.
    open: Arc<Mutex<BTreeMap<u64, Open>>>,
}

struct Open {
    missing: usize,
    last: Option<oneshot::Sender<()>>,
}

impl WatchArgs {
    pub(crate) fn workload(&self, common: &Common) -> Result<Watch, Failure> {
        let WatchArgs { watchers, streams, watched_keys, value_size } = *self;
        if streams > watchers || watched_keys > watchers {
            return Err(Failure::Settings(format!(
                "{streams} streams and {watched_keys} keys for {watchers} watchers: each wants at least one"
            )));
        }
        if value_size < STAMP_BYTES {
            return Err(Failure::Settings(format!(
                "values carry a stamp of {STAMP_BYTES} bytes; {value_size} are too few"
            )));
        }
        Ok(Watch {
            args: self.clone(),
            prefix: format!("{}watch/", common.prefix),
            epoch: Instant::now(),
            next: AtomicU64::new(0),
            open: Arc::default(),
        })
    }
}

impl Watch {
    fn key(&self, place: usize) -> Bytes {
        Bytes::from(format!("{}{place:06}", self.prefix))
    }

    /// Opens the streams of one thread with their watchers, then listens on each.
    async fn open_streams(&self, thread: &Rc<Thread>) -> Result<(), Failure> {
        let streams = self.args.streams as usize;
        for stream_number in (thread.number..streams).step_by(thread.threads) {
            let connection = &thread.connections[stream_number / thread.threads % thread.connections.len()];
            let mut stream = connection.stream(Method::Watch).await?;
            let watchers = share(self.args.watchers as usize, stream_number, streams);
            // Watcher w of all, the one at w / streams of its stream, watches key w modulo the number of keys.
            let keys = (0..watchers)
                .map(|at| self.key((stream_number + at * streams) % self.args.watched_keys as usize));
            let keys: Vec<Bytes> = keys.collect();
            for some in keys.chunks(CREATED_AT_ONCE) {
                for key in some {
                    let create = WatchCreateRequest { key: key.clone(), ..Default::default() };
                    stream.send(
                        &WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) },
                        false,
                    )?;
                }
                for _ in some {
                    let answer = stream.next::<WatchResponse>().await?;
                    if !answer.is_some_and(|answer| answer.created && !answer.canceled) {
                        return Err(wrong_answer(thread, "a watcher was not created".to_owned()));
                    }
                }
            }
            tokio::task::spawn_local(listen(thread.clone(), stream, self.open.clone(), self.epoch));
        }
        Ok(())
    }
}

/// Takes events as they come until the run is over.
async fn listen(
    thread: Rc<Thread>,
    mut stream: Stream,
    open: Arc<Mutex<BTreeMap<u64, Open>>>,
    epoch: Instant,
) {
    loop {
        let response = match stream.next::<WatchResponse>().await {
            Ok(Some(response)) if !response.canceled => response,
            Ok(_) => return thread.stop(wrong_answer(&thread, "a watch ended".to_owned())),
            Err(failure) => return thread.stop(failure),
        };
        let now = Instant::now();
        for event in response.events {
            let Some(mut stamp) = event.kv.map(|kv| kv.value).filter(|value| value.len() >= STAMP_BYTES)
            else {
                return thread
                    .stop(wrong_answer(&thread, "an event without the value that was put".to_owned()));
            };
            let (put, due) = (stamp.get_u64(), epoch + Duration::from_nanos(stamp.get_u64()));
            thread.recorder.borrow_mut().took(EVENT, due, now.saturating_duration_since(due));
            told(&open, put);
        }
    }
}

/// One more watcher knows of a put.
fn told(open: &Mutex<BTreeMap<u64, Open>>, put: u64) {
    let mut open = open.lock().expect("no thread panics while it holds this");
    let Some(entry) = open.get_mut(&put) else { return };
    entry.missing -= 1;
    if entry.missing == 0 {
        let last = open.remove(&put).and_then(|mut entry| entry.last.take());
        // Nobody waits if the run was cut short.
        let _ = last.map(|last| last.send(()));
    }
}

impl Workload for Watch {
    type Client = Connection;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["put to last event", "+ put", "+ event"]
    }

    async fn prepare(&self, _cluster: &Cluster) -> Result<(), Failure> {
        Ok(())
    }

    async fn beside(&self, thread: &Rc<Thread>) -> Result<(), Failure> {
        self.open_streams(thread).await
    }

    async fn client(&self, _thread: &Thread, connection: &Connection) -> Result<Connection, Failure> {
        Ok(connection.clone())
    }

    async fn operate(
        &self,
        thread: &Thread,
        client: &mut Connection,
        due: Instant,
    ) -> Result<usize, Failure> {
        let keys = u64::from(self.args.watched_keys);
        let place = below(&mut thread.random.borrow_mut(), keys) as usize;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (last, all_told) = oneshot::channel();
        let entry = Open {
            missing: share(self.args.watchers as usize, place, self.args.watched_keys as usize),
            last: Some(last),
        };
        self.open.lock().expect("no thread panics while it holds this").insert(number, entry);
        let mut value = BytesMut::zeroed(self.args.value_size);
        let mut stamp = &mut value[..];
        stamp.put_u64(number);
        stamp.put_u64(due.duration_since(self.epoch).as_nanos() as u64);
        let question = PutRequest { key: self.key(place), value: value.freeze(), ..Default::default() };
        client.unary::<PutResponse>(Method::Put, &question).await?;
        thread.recorder.borrow_mut().took(PUT, due, due.elapsed());
        match tokio::time::timeout(PATIENCE, all_told).await {
            Ok(_) => Ok(ALL_TOLD),
            Err(_) => {
                Err(wrong_answer(thread, format!("not every watcher was told of a put within {PATIENCE:?}")))
            }
        }
    }

    fn figures(&self, recorder: &Recorder, seconds: f64) -> Vec<(String, f64)> {
        let events = recorder.histogram(EVENT).len() as f64;
        vec![
            ("events a second".to_owned(), events / seconds.max(1e-9)),
            ("watchers".to_owned(), f64::from(self.args.watchers)),
        ]
    }
}
