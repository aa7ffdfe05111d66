//! What kube-apiserver asks of its etcd: guarded puts, reads of single objects, paged lists at a pinned revision, watches with
//! the previous value and progress, events under leases that many of them share.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stanchion_api::etcdserverpb::watch_request::RequestUnion;
use stanchion_api::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse, request_op,
};

use super::lease::grant;
use super::range::Summary;
use super::txn::{compare_and_swap, get, unchanged_since};
use super::{Common, Data, DataArgs, list, wrong_answer};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::keys::below;
use crate::wire::{Connection, Method, Stream};

/// Objects in a page, as client-go asks for.
const PAGE: i64 = 500;
/// kube-apiserver puts up to this many events under one lease.
const LEASE_OBJECTS_MAX: u64 = 1000;
/// Seconds that an event is kept.
const EVENT_TTL: i64 = 3600;
/// How often a watch cache asks for progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The kinds, by their place; the share of each in a hundred requests.
const UPDATE: usize = 0;
const GET: usize = 1;
const EVENT: usize = 2;
const LIST: usize = 3;
const WATCHED: usize = 4;
const UPDATES_IN_100: u64 = 50;
const GETS_IN_100: u64 = 35;
const EVENTS_IN_100: u64 = 14;

/// Flags of `load kube`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KubeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Watches over all objects, each with the previous value and progress
    #[arg(long, default_value_t = 4)]
    watches: usize,
}

/// Of a hundred operations 50 are guarded updates, 35 reads of an object, 14 events under a lease, and one is a whole list.
pub(crate) struct Kube {
    data: Data,
    watches: usize,
    events: String,
}

impl KubeArgs {
    pub(crate) fn workload(&self, common: &Common) -> Kube {
        Kube {
            data: self.data.data(common),
            watches: self.watches,
            events: format!("{}events/", common.prefix),
        }
    }
}

/// An API server's connection, with the lease that its events share.
pub(crate) struct ApiServer {
    connection: Connection,
    number: u64,
    lease: i64,
    lease_objects: u64,
    events: u64,
}

impl Kube {
    /// Reads an object and writes it back if nobody was faster, again until it is done.
    async fn update(&self, thread: &Thread, client: &ApiServer) -> Result<(), Failure> {
        let (key, value) = self.data.draw(thread);
        let mut mod_revision = 0;
        loop {
            let (done, seen) =
                compare_and_swap(&client.connection, &key, value.clone(), mod_revision).await?;
            if done {
                return Ok(());
            }
            mod_revision = seen;
        }
    }

    async fn get(&self, thread: &Thread, client: &ApiServer) -> Result<(), Failure> {
        let (key, _) = self.data.draw(thread);
        let question = RangeRequest { key, ..Default::default() };
        let answer: Summary = client.connection.unary(Method::Range, &question).await?;
        match answer.count {
            1 => Ok(()),
            count => Err(wrong_answer(thread, format!("{count} objects under one key"))),
        }
    }

    /// Creates an event under the lease that is in use.
    async fn event(&self, thread: &Thread, client: &mut ApiServer) -> Result<(), Failure> {
        if client.lease_objects == 0 {
            client.lease = grant(&client.connection, EVENT_TTL).await?.0;
        }
        client.lease_objects = (client.lease_objects + 1) % LEASE_OBJECTS_MAX;
        client.events += 1;
        let key = Bytes::from(format!("{}{}/{}", self.events, client.number, client.events));
        let (_, value) = self.data.draw(thread);
        let put = PutRequest { key: key.clone(), value, lease: client.lease, ..Default::default() };
        let txn = TxnRequest {
            compare: vec![unchanged_since(key.clone(), 0)],
            success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
            failure: vec![get(key)],
        };
        // An event of an earlier run may stand there; the request costs the same.
        client.connection.unary::<TxnResponse>(Method::Txn, &txn).await.map(|_| ())
    }
}

/// Takes events until the run is over; how long after its put an object's event came is not known here.
async fn watch_cache(thread: Rc<Thread>, mut stream: Stream) {
    let mut progress_asked = Instant::now();
    loop {
        match stream.next::<WatchResponse>().await {
            Ok(Some(response)) if !response.canceled => {
                thread.recorder.borrow_mut().add("events", Instant::now(), response.events.len() as u64);
                let updates =
                    response.events.iter().filter_map(|event| event.kv.as_ref()).filter(|kv| kv.version > 1);
                if updates.count() != response.events.iter().filter(|event| event.prev_kv.is_some()).count() {
                    return thread
                        .stop(wrong_answer(&thread, "an update without its previous value".to_owned()));
                }
            }
            Ok(_) => return thread.stop(wrong_answer(&thread, "a watch ended".to_owned())),
            Err(failure) => return thread.stop(failure),
        }
        if progress_asked.elapsed() >= PROGRESS_EVERY {
            progress_asked = Instant::now();
            let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
            if let Err(failure) = stream.send(&WatchRequest { request_union: Some(ask) }, false) {
                return thread.stop(failure);
            }
            thread.recorder.borrow_mut().add("progress requests", progress_asked, 1);
        }
    }
}

impl Workload for Kube {
    type Client = ApiServer;

    fn kinds(&self) -> Vec<&'static str> {
        let mut kinds = vec![""; WATCHED];
        (kinds[UPDATE], kinds[GET], kinds[EVENT], kinds[LIST]) = ("update", "get", "create event", "list");
        kinds
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.fill(&self.data.keys, &self.data.values).await.map(|_| ())
    }

    async fn beside(&self, thread: &Rc<Thread>) -> Result<(), Failure> {
        for number in (thread.number..self.watches).step_by(thread.threads) {
            let connection = &thread.connections[number % thread.connections.len()];
            let mut stream = connection.stream(Method::Watch).await?;
            let create = WatchCreateRequest {
                key: self.data.keys.at(0),
                range_end: self.data.keys.end(),
                prev_kv: true,
                progress_notify: true,
                ..Default::default()
            };
            stream.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }, false)?;
            stream.next::<WatchResponse>().await?;
            tokio::task::spawn_local(watch_cache(thread.clone(), stream));
        }
        Ok(())
    }

    async fn client(&self, thread: &Thread, connection: &Connection) -> Result<ApiServer, Failure> {
        let number = thread.next_client();
        Ok(ApiServer { connection: connection.clone(), number, lease: 0, lease_objects: 0, events: 0 })
    }

    async fn operate(
        &self,
        thread: &Thread,
        client: &mut ApiServer,
        _due: Instant,
    ) -> Result<usize, Failure> {
        let drawn = below(&mut thread.random.borrow_mut(), 100);
        if drawn < UPDATES_IN_100 {
            self.update(thread, client).await?;
            return Ok(UPDATE);
        }
        if drawn < UPDATES_IN_100 + GETS_IN_100 {
            self.get(thread, client).await?;
            return Ok(GET);
        }
        if drawn < UPDATES_IN_100 + GETS_IN_100 + EVENTS_IN_100 {
            self.event(thread, client).await?;
            return Ok(EVENT);
        }
        list::pages(thread, &client.connection, &self.data, PAGE, &Cell::new(0)).await?;
        Ok(LIST)
    }
}
