//! A member in memory, just enough for the front: one map, no log, no history.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::mvccpb::{Event, KeyValue, event::EventType};
use stanchion_api::raft_request::RequestKind;
use stanchion_server::member::*;
use stanchion_server::metrics::Metrics;
use stanchion_server::refusal::{LEASE_NOT_FOUND, Refusal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) standing: Standing,
    pub(crate) keys: BTreeMap<Bytes, KeyValue>,
    pub(crate) proposed: Vec<(RequestKind, Bytes)>,
    pub(crate) space: Option<Space>,
    /// What the next defragmentation waits for.
    pub(crate) defragmentation: Option<tokio::sync::oneshot::Receiver<()>>,
    /// What the next range of several keys keeps its thread waiting for, and whom it tells that it does.
    pub(crate) long_range: Option<(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>)>,
    watchers: Vec<(i64, Bytes, mpsc::Sender<WatchDelivery>)>,
    ids: u64,
}

#[derive(Clone)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn new() -> Self {
        let standing =
            Standing { cluster_id: 1, member_id: 2, raft_term: 3, revision: 1, leader: 2, is_learner: false };
        Fake(Arc::new(Mutex::new(State { standing, ..Default::default() })))
    }
}

fn done<T: Send + 'static>(result: Result<T, Refusal>) -> Answer<T> {
    Box::pin(ready(result))
}

fn not_faked<T: Send + 'static>() -> Answer<T> {
    done(Err(Refusal::unknown("not faked")))
}

impl State {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.standing.header(self.standing.revision))
    }

    fn publish(&mut self, event: Event) {
        let key = event.kv.clone().unwrap_or_default().key;
        let events = vec![Bytes::from(event.encode_to_vec())];
        for (id, watched, deliveries) in &self.watchers {
            if *watched == key {
                let revision = self.standing.revision;
                let _ =
                    deliveries.try_send(WatchDelivery::Events { id: *id, revision, events: events.clone() });
            }
        }
    }

    fn put(&mut self, put: pb::PutRequest) -> pb::PutResponse {
        self.standing.revision += 1;
        let old = self.keys.get(&put.key);
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value,
            mod_revision: self.standing.revision,
            create_revision: old.map_or(self.standing.revision, |kv| kv.create_revision),
            version: old.map_or(1, |kv| kv.version + 1),
            lease: put.lease,
        };
        self.keys.insert(put.key, kv.clone());
        self.publish(Event { kv: Some(kv), ..Default::default() });
        pb::PutResponse { header: self.header(), prev_kv: None }
    }

    fn delete(&mut self, key: &Bytes) -> pb::DeleteRangeResponse {
        let deleted = self.keys.remove(key).is_some();
        if deleted {
            self.standing.revision += 1;
            let kv =
                KeyValue { key: key.clone(), mod_revision: self.standing.revision, ..Default::default() };
            self.publish(Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None });
        }
        pb::DeleteRangeResponse { header: self.header(), deleted: deleted.into(), prev_kvs: vec![] }
    }

    pub(crate) fn range(&self, r: &pb::RangeRequest) -> pb::RangeResponse {
        let within = |kv: &&KeyValue| match &r.range_end[..] {
            b"" => kv.key == r.key,
            b"\0" => kv.key >= r.key,
            end => kv.key >= r.key && &kv.key[..] < end,
        };
        let mut kvs: Vec<KeyValue> = self.keys.values().filter(within).cloned().collect();
        let count = kvs.len() as i64;
        kvs.retain(|kv| r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision);
        if r.sort_target() == pb::range_request::SortTarget::Create {
            kvs.sort_by_key(|kv| kv.create_revision);
        }
        if r.sort_order() == pb::range_request::SortOrder::Descend {
            kvs.reverse();
        }
        let more = r.limit > 0 && kvs.len() as i64 > r.limit;
        if more {
            kvs.truncate(r.limit as usize);
        }
        pb::RangeResponse { header: self.header(), kvs, more, count }
    }

    /// Compares of create revisions alone, which is what locks and elections use.
    fn txn(&mut self, txn: pb::TxnRequest) -> pb::TxnResponse {
        use pb::compare::TargetUnion::CreateRevision;
        use pb::{request_op::Request, response_op::Response};
        let succeeded = txn.compare.iter().all(|c| {
            let created = self.keys.get(&c.key).map_or(0, |kv| kv.create_revision);
            c.target_union == Some(CreateRevision(created))
        });
        let ops = if succeeded { txn.success } else { txn.failure };
        let responses = ops.into_iter().filter_map(|op| op.request).map(|request| {
            let response = match request {
                Request::RequestRange(r) => Response::ResponseRange(self.range(&r)),
                Request::RequestPut(r) => Response::ResponsePut(self.put(r)),
                Request::RequestDeleteRange(r) => Response::ResponseDeleteRange(self.delete(&r.key)),
                Request::RequestTxn(r) => Response::ResponseTxn(self.txn(r)),
            };
            pb::ResponseOp { response: Some(response) }
        });
        let responses = responses.collect();
        pb::TxnResponse { header: self.header(), succeeded, responses }
    }
}

struct Control {
    fake: Fake,
    used: Vec<i64>,
    deliveries: mpsc::Sender<WatchDelivery>,
}

impl WatchControl for Control {
    fn create(&mut self, watcher: NewWatcher) -> Result<WatcherCreated, WatcherRefused> {
        if !watcher.range_end.is_empty() && watcher.range_end != "\0" && watcher.range_end <= watcher.key {
            return Err(WatcherRefused::EmptyRange);
        }
        let free = (0..).find(|id| !self.used.contains(id)).unwrap_or_default();
        let id = if watcher.id == 0 { free } else { watcher.id };
        if self.used.contains(&id) {
            return Err(WatcherRefused::DuplicateId);
        }
        self.used.push(id);
        let mut state = self.fake.0.lock().unwrap();
        state.watchers.push((id, watcher.key, self.deliveries.clone()));
        Ok(WatcherCreated { id, revision: state.standing.revision })
    }

    fn cancel(&mut self, id: i64) -> bool {
        let known = self.used.contains(&id);
        self.used.retain(|used| *used != id);
        let deliveries = &self.deliveries;
        self.fake.0.lock().unwrap().watchers.retain(|(w, _, to)| *w != id || !to.same_channel(deliveries));
        known
    }

    fn request_progress(&mut self, id: i64) {
        let revision = self.fake.0.lock().unwrap().standing.revision;
        let _ = self.deliveries.try_send(WatchDelivery::Progress { id, revision });
    }

    fn request_progress_all(&mut self) {
        if !self.used.is_empty() {
            self.request_progress(-1);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let deliveries = &self.deliveries;
        self.fake.0.lock().unwrap().watchers.retain(|(_, _, to)| !to.same_channel(deliveries));
    }
}

impl Member for Fake {
    fn standing(&self) -> Standing {
        self.0.lock().unwrap().standing
    }
    fn versions(&self) -> Versions {
        Versions {
            server: "3.7.1".into(),
            cluster: Some("3.7.0".into()),
            storage: Some("3.7.0".into()),
            downgrade: pb::DowngradeInfo::default(),
        }
    }
    fn space(&self) -> Space {
        self.0.lock().unwrap().space.unwrap_or(Space { allocated: 0, quota: None })
    }
    fn refresh(&self, _: &Metrics) {}
    fn alarms(&self) -> Vec<pb::AlarmMember> {
        vec![]
    }
    fn raft_status(&self) -> RaftStatus {
        RaftStatus { role: "StateLeader", ..Default::default() }
    }
    fn next_id(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        state.ids += 1;
        0xabc0 + state.ids
    }
    fn propose(&self, _: Caller, kind: RequestKind, request: Bytes) -> Answer<Bytes> {
        let mut state = self.0.lock().unwrap();
        state.proposed.push((kind, request.clone()));
        let answer = match kind {
            RequestKind::Put => match pb::PutRequest::decode(request).unwrap() {
                put if put.lease == 404 => return done(Err(LEASE_NOT_FOUND)),
                put => state.put(put).encode_to_vec(),
            },
            RequestKind::DeleteRange => {
                state.delete(&pb::DeleteRangeRequest::decode(request).unwrap().key).encode_to_vec()
            }
            RequestKind::Txn => state.txn(pb::TxnRequest::decode(request).unwrap()).encode_to_vec(),
            RequestKind::LeaseGrant => {
                let grant = pb::LeaseGrantRequest::decode(request).unwrap();
                let header = state.header();
                pb::LeaseGrantResponse { header, id: grant.id, ttl: grant.ttl, error: String::new() }
                    .encode_to_vec()
            }
            RequestKind::Alarm => {
                pb::AlarmResponse { header: state.header(), alarms: vec![] }.encode_to_vec()
            }
            _ => return not_faked(),
        };
        done(Ok(answer.into()))
    }
    fn read_barrier(&self) -> Answer<()> {
        done(Ok(()))
    }
    fn range(&self, _: Caller, request: pb::RangeRequest) -> Answer<Encoded<pb::RangeResponse>> {
        let mut state = self.0.lock().unwrap();
        let answer = Ok(state.range(&request).into());
        let long = (!request.range_end.is_empty()).then(|| state.long_range.take()).flatten();
        Box::pin(async move {
            if let Some((began, end)) = long {
                began.send(()).unwrap();
                // The other end is dropped.
                end.recv().unwrap_err();
            }
            answer
        })
    }
    fn read_txn(&self, _: Caller, request: pb::TxnRequest) -> Answer<Encoded<pb::TxnResponse>> {
        done(Ok(self.0.lock().unwrap().txn(request).into()))
    }
    fn watch_stream(&self) -> WatchStream {
        let (deliveries, out) = mpsc::channel(WATCH_STREAM_CAPACITY);
        (
            Box::new(Control { fake: self.clone(), used: vec![], deliveries }),
            Box::pin(ReceiverStream::new(out)),
        )
    }
    fn lease_renew(&self, _: Caller, id: i64) -> Answer<i64> {
        done(Ok(if id == 7 { 30 } else { 0 }))
    }
    fn lease_time_to_live(
        &self,
        _: Caller,
        r: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse> {
        done(Ok(pb::LeaseTimeToLiveResponse { id: r.id, ttl: -1, ..Default::default() }))
    }
    fn lease_ids(&self, _: Caller) -> Answer<Vec<i64>> {
        done(Ok(vec![7]))
    }
    fn members(&self, _: bool) -> Answer<Vec<pb::Member>> {
        done(Ok(vec![pb::Member { id: 2, ..Default::default() }]))
    }
    fn member_add(&self, _: Vec<String>, _: bool) -> Answer<(pb::Member, Vec<pb::Member>)> {
        not_faked()
    }
    fn member_remove(&self, _: u64) -> Answer<Vec<pb::Member>> {
        not_faked()
    }
    fn member_update(&self, _: u64, _: Vec<String>) -> Answer<Vec<pb::Member>> {
        not_faked()
    }
    fn member_promote(&self, _: u64) -> Answer<Vec<pb::Member>> {
        not_faked()
    }
    fn status(&self) -> Answer<pb::StatusResponse> {
        done(Ok(pb::StatusResponse { version: "3.7.1".into(), ..Default::default() }))
    }
    fn defragment(&self) -> Answer<()> {
        let until = self.0.lock().unwrap().defragmentation.take();
        Box::pin(async move {
            if let Some(until) = until {
                until.await.unwrap();
            }
            Ok(())
        })
    }
    fn hash(&self) -> Answer<u32> {
        done(Ok(9))
    }
    fn hash_kv(&self, _: i64) -> Answer<pb::HashKvResponse> {
        done(Ok(pb::HashKvResponse::default()))
    }
    fn image(&self) -> Answer<Image> {
        let (pieces, out) = mpsc::channel(2);
        let _ = pieces.try_send(Ok(Bytes::from(vec![5; 40_000])));
        done(Ok(Image { size: 40_000, version: "3.7.0".into(), pieces: out }))
    }
    fn move_leader(&self, _: u64) -> Answer<()> {
        done(Ok(()))
    }
}
