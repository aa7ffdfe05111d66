//! Lock and Election, built on the member's transactions, leases and watches like a client of it. Errors of the inner
//! calls lose their code on the way, as in etcd.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stanchion_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use stanchion_api::etcdserverpb::request_op::Request;
use stanchion_api::etcdserverpb::response_op::Response;
use stanchion_api::mvccpb::{Event, KeyValue, event::EventType};
use stanchion_api::raft_request::RequestKind;
use stanchion_api::{v3electionpb as el, v3lockpb as lk};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::door::Call;
use super::{Front, Outbound, Raw, lease};
use crate::member::{Deliveries, Encoded, MemberHandle, NewWatcher, WatchDelivery};
use crate::refusal::{EMPTY_KEY, Refusal, STOPPED};

/// Seconds of the lease that is granted to callers without one.
const SESSION_TTL: i64 = 60;

const SESSION_EXPIRED: Refusal = Refusal::fixed(Code::Unknown, "mutex: session is expired");
const ELECTION_NO_LEADER: Refusal = Refusal::fixed(Code::Unknown, "election: no leader");
const ELECTION_NOT_LEADER: Refusal = Refusal::fixed(Code::Unknown, "election: not leader");
const LEADER_MISSING: Refusal = Refusal::fixed(Code::Unknown, "\"leader\" field must be provided");

/// Keeps the text of an inner refusal and drops its code.
fn inner(refusal: Refusal) -> Refusal {
    Refusal { code: Code::Unknown, ..refusal }
}

pub(super) async fn lock(
    front: Arc<Front>,
    call: Call,
    request: Raw<lk::LockRequest>,
) -> Result<Encoded<lk::LockResponse>, Refusal> {
    let steps = Steps { front: &front, call: &call };
    let lease = steps.lease_or_new(request.message.lease).await?;
    let place = steps.queue_up(&request.message.name, lease, Bytes::new()).await?;
    steps.wait_for_turn(&place).await?;
    let own = steps.get(&place.key).await?;
    match own.kvs.first() {
        Some(kv) if kv.create_revision == place.revision => {
            Ok(lk::LockResponse { header: own.header, key: place.key }.into())
        }
        _ => Err(SESSION_EXPIRED),
    }
}

pub(super) async fn unlock(
    front: Arc<Front>,
    call: Call,
    request: Raw<lk::UnlockRequest>,
) -> Result<Encoded<lk::UnlockResponse>, Refusal> {
    if request.message.key.is_empty() {
        return Err(inner(EMPTY_KEY));
    }
    let delete = pb::DeleteRangeRequest { key: request.message.key, ..Default::default() };
    let answer = front.propose(call, RequestKind::DeleteRange, delete.encode_to_vec().into()).await;
    let deleted: pb::DeleteRangeResponse = answer.map_err(inner)?.decode()?;
    Ok(lk::UnlockResponse { header: deleted.header }.into())
}

pub(super) async fn campaign(
    front: Arc<Front>,
    call: Call,
    request: Raw<el::CampaignRequest>,
) -> Result<Encoded<el::CampaignResponse>, Refusal> {
    let el::CampaignRequest { name, lease, value } = request.message;
    let steps = Steps { front: &front, call: &call };
    let lease = steps.lease_or_new(lease).await?;
    let place = steps.queue_up(&name, lease, value.clone()).await?;
    if place.value != value {
        let won = steps.guarded(&place.key, place.revision, put(&place.key, value, lease)).await?;
        if !won.succeeded {
            return Err(ELECTION_NOT_LEADER);
        }
    }
    steps.wait_for_turn(&place).await?;
    let leader = el::LeaderKey { name, key: place.key, rev: place.revision, lease };
    Ok(el::CampaignResponse { header: place.header, leader: Some(leader) }.into())
}

pub(super) async fn proclaim(
    front: Arc<Front>,
    call: Call,
    request: Raw<el::ProclaimRequest>,
) -> Result<Encoded<el::ProclaimResponse>, Refusal> {
    let leader = request.message.leader.ok_or(LEADER_MISSING)?;
    let steps = Steps { front: &front, call: &call };
    let write = put(&leader.key, request.message.value, leader.lease);
    let done = steps.guarded(&leader.key, leader.rev, write).await?;
    if !done.succeeded {
        return Err(ELECTION_NOT_LEADER);
    }
    Ok(el::ProclaimResponse { header: done.header }.into())
}

pub(super) async fn resign(
    front: Arc<Front>,
    call: Call,
    request: Raw<el::ResignRequest>,
) -> Result<Encoded<el::ResignResponse>, Refusal> {
    let leader = request.message.leader.ok_or(LEADER_MISSING)?;
    let steps = Steps { front: &front, call: &call };
    let delete = pb::DeleteRangeRequest { key: leader.key.clone(), ..Default::default() };
    let done = steps.guarded(&leader.key, leader.rev, Request::RequestDeleteRange(delete)).await?;
    Ok(el::ResignResponse { header: done.header }.into())
}

pub(super) async fn leader(
    front: Arc<Front>,
    call: Call,
    request: Raw<el::LeaderRequest>,
) -> Result<Encoded<el::LeaderResponse>, Refusal> {
    let steps = Steps { front: &front, call: &call };
    let found = steps.first_under(&prefix(&request.message.name), 0).await?;
    let kv = found.kvs.into_iter().next().ok_or(ELECTION_NO_LEADER)?;
    Ok(el::LeaderResponse { header: found.header, kv: Some(kv) }.into())
}

/// The leader of now and each later one, and each new value of it.
pub(super) async fn observe(
    front: Arc<Front>,
    call: Call,
    request: Raw<el::LeaderRequest>,
) -> Result<Outbound<el::LeaderResponse>, Refusal> {
    let (news, out) = mpsc::channel(1);
    tokio::spawn(async move {
        let steps = Steps { front: &front, call: &call };
        let name = prefix(&request.message.name);
        tokio::select! {
            () = news.closed() => {}
            ended = steps.observe(&name, &news) => if let Err(refusal) = ended {
                // A failed send means that nobody listens any more.
                let _ = news.send(Err(refusal.into())).await;
            },
        }
    });
    Ok(Box::pin(ReceiverStream::new(out)))
}

type News = mpsc::Sender<Result<Encoded<el::LeaderResponse>, Status>>;

/// A key in the queue under one name; whoever has the lowest create revision owns the name.
struct Place {
    key: Bytes,
    prefix: Bytes,
    revision: i64,
    /// The value found there, which differs from the wanted one if the key existed before.
    value: Bytes,
    header: Option<pb::ResponseHeader>,
}

fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// End of the interval of all keys that begin with `prefix`, which ends in a slash.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

fn put(key: &Bytes, value: Bytes, lease: i64) -> Request {
    Request::RequestPut(pb::PutRequest { key: key.clone(), value, lease, ..Default::default() })
}

fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// Removes a key in the queue when its owner goes away while waiting.
struct LeaveOnDrop<'a> {
    member: &'a MemberHandle,
    call: &'a Call,
    key: Option<Bytes>,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let delete = pb::DeleteRangeRequest { key, ..Default::default() }.encode_to_vec();
            let gone = self.member.propose(self.call.caller.clone(), RequestKind::DeleteRange, delete.into());
            tokio::spawn(gone);
        }
    }
}

struct Steps<'a> {
    front: &'a Arc<Front>,
    call: &'a Call,
}

impl Steps<'_> {
    async fn lease_or_new(&self, lease: i64) -> Result<i64, Refusal> {
        if lease != 0 {
            return Ok(lease);
        }
        let grant = pb::LeaseGrantRequest { ttl: SESSION_TTL, id: lease::choose_id(self.front) };
        let bytes = grant.encode_to_vec().into();
        let granted: Encoded<pb::LeaseGrantResponse> =
            self.front.propose(self.call.clone(), RequestKind::LeaseGrant, bytes).await.map_err(inner)?;
        Ok(granted.decode()?.id)
    }

    async fn txn(&self, txn: pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
        let bytes = txn.encode_to_vec().into();
        let answer: Encoded<pb::TxnResponse> =
            self.front.propose(self.call.clone(), RequestKind::Txn, bytes).await.map_err(inner)?;
        answer.decode()
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Refusal> {
        self.front.read(self.call.caller.clone(), request).await.map_err(inner)?.decode()
    }

    async fn get(&self, key: &Bytes) -> Result<pb::RangeResponse, Refusal> {
        self.range(pb::RangeRequest { key: key.clone(), ..Default::default() }).await
    }

    /// The key with the lowest create revision under `prefix`, at `revision` (0 = now).
    async fn first_under(&self, prefix: &Bytes, revision: i64) -> Result<pb::RangeResponse, Refusal> {
        self.range(pb::RangeRequest {
            key: prefix.clone(),
            range_end: prefix_end(prefix),
            limit: 1,
            revision,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        })
        .await
    }

    /// Writes or removes `key` if it is still the one created at `revision`.
    async fn guarded(&self, key: &Bytes, revision: i64, write: Request) -> Result<pb::TxnResponse, Refusal> {
        if key.is_empty() {
            return Err(inner(EMPTY_KEY));
        }
        let compare = vec![created_at(key, revision)];
        self.txn(pb::TxnRequest { compare, success: vec![op(write)], failure: vec![] }).await
    }

    /// Puts the caller's key unless it is there, and says where in the queue it stands.
    async fn queue_up(&self, name: &[u8], lease: i64, value: Bytes) -> Result<Place, Refusal> {
        let prefix = prefix(name);
        let key: Bytes = [prefix.as_ref(), format!("{lease:x}").as_bytes()].concat().into();
        let read = Request::RequestRange(pb::RangeRequest { key: key.clone(), ..Default::default() });
        let answer = self
            .txn(pb::TxnRequest {
                compare: vec![created_at(&key, 0)],
                success: vec![op(put(&key, value.clone(), lease))],
                failure: vec![op(read)],
            })
            .await?;
        let revision = answer.header.unwrap_or_default().revision;
        let existing = answer.responses.into_iter().find_map(|r| match r.response {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
        let (revision, value) = existing.map_or((revision, value), |kv| (kv.create_revision, kv.value));
        Ok(Place { key, prefix, revision, value, header: answer.header })
    }

    /// Waits until no older key is left. Whoever gives up waiting leaves the queue.
    async fn wait_for_turn(&self, place: &Place) -> Result<(), Refusal> {
        let mut leave =
            LeaveOnDrop { member: &self.front.member, call: self.call, key: Some(place.key.clone()) };
        while let (revision, Some(older)) = self.next_older(place).await? {
            self.wait_for_delete(&older.key, revision).await?;
        }
        leave.key = None;
        Ok(())
    }

    /// The youngest key older than `place`, and the revision at which this was seen.
    async fn next_older(&self, place: &Place) -> Result<(i64, Option<KeyValue>), Refusal> {
        let older = self
            .range(pb::RangeRequest {
                key: place.prefix.clone(),
                range_end: prefix_end(&place.prefix),
                limit: 1,
                max_create_revision: place.revision - 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                ..Default::default()
            })
            .await?;
        Ok((older.header.unwrap_or_default().revision, older.kvs.into_iter().next()))
    }

    async fn wait_for_delete(&self, key: &Bytes, seen_at: i64) -> Result<(), Refusal> {
        let mut changes = Changes::of(self.front, key.clone(), Bytes::new(), seen_at + 1)?;
        loop {
            // A compacted watcher may have missed the delete: the caller looks again.
            let Some((_, events)) = changes.next().await? else { return Ok(()) };
            if events.iter().any(|e| e.r#type() == EventType::Delete) {
                return Ok(());
            }
        }
    }

    async fn observe(&self, prefix: &Bytes, news: &News) -> Result<(), Refusal> {
        loop {
            let first = self.first_under(prefix, 0).await?;
            let header = first.header.unwrap_or_default();
            let Some(kv) = first.kvs.into_iter().next() else {
                // Anything that appears under the name is a reason to look again.
                let mut any =
                    Changes::of(self.front, prefix.clone(), prefix_end(prefix), header.revision + 1)?;
                any.next().await?;
                continue;
            };
            let key = kv.key.clone();
            if !tell(news, header, kv).await {
                return Ok(());
            }
            let mut changes = Changes::of(self.front, key, Bytes::new(), header.revision + 1)?;
            'leader: while let Some((revision, events)) = changes.next().await? {
                for event in events {
                    match (event.r#type(), event.kv) {
                        (EventType::Put, Some(kv)) => {
                            let header = self.front.member.standing().header(revision);
                            if !tell(news, header, kv).await {
                                return Ok(());
                            }
                        }
                        _ => break 'leader,
                    }
                }
            }
        }
    }
}

async fn tell(news: &News, header: pb::ResponseHeader, kv: KeyValue) -> bool {
    let message = el::LeaderResponse { header: Some(header), kv: Some(kv) };
    news.send(Ok(message.into())).await.is_ok()
}

/// A watch stream with one watcher.
struct Changes {
    // Dropping the control ends the watcher.
    _control: Box<dyn crate::member::WatchControl>,
    deliveries: Deliveries,
}

impl Changes {
    fn of(front: &Front, key: Bytes, range_end: Bytes, start_revision: i64) -> Result<Self, Refusal> {
        let (mut control, deliveries) = front.member.watch_stream();
        let watcher = NewWatcher {
            id: 0,
            key,
            range_end,
            start_revision,
            no_put: false,
            no_delete: false,
            prev_kv: false,
        };
        control.create(watcher).map_err(Refusal::unknown)?;
        Ok(Changes { _control: control, deliveries })
    }

    /// The next events and their revision; `None` if history is gone.
    async fn next(&mut self) -> Result<Option<(i64, Vec<Event>)>, Refusal> {
        loop {
            match self.deliveries.next().await {
                None => return Err(inner(STOPPED)),
                Some(WatchDelivery::Compacted { .. }) => return Ok(None),
                Some(WatchDelivery::Progress { .. }) => {}
                Some(WatchDelivery::Events { revision, events, .. }) => {
                    let events: Result<Vec<_>, _> = events.into_iter().map(Event::decode).collect();
                    return Ok(Some((revision, events.map_err(Refusal::unknown)?)));
                }
            }
        }
    }
}
