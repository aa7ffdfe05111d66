//! The member as the front holds it: admission, waiting, and reads beside the threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::{RequestKind, wrap};
use stanchion_lease::{RenewError, Renewal};
use stanchion_mvcc::{KeyRange, Store, schema};
use stanchion_raft::Role;
use stanchion_replica::apply::{Reply, range_options, read_txn};
use stanchion_replica::membership::RequestIds;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::applier::{ApplierInbox, ToApplier};
use super::committer::ToCommitter;
use super::figures::RequestFigures;
use super::proposer::Proposer;
use super::raft_loop::ToRaft;
use super::shared::Shared;
use super::store_cell::StoreCell;
use super::watch::WatchHub;
use super::{RuntimeConfig, answers};
use crate::config::ETCD_VERSION;
use crate::member::{
    Answer, Caller, Encoded, Image, Member, RaftStatus, Space, Standing, Versions, WatchStream,
};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::refusal::{self, Refusal};

/// Entries that may be committed and not applied before requests are refused.
const BACKLOG_MAX: u64 = 5_000;
/// Requests that may wait for their outcome.
const WAITING_MAX: usize = 100_000;

/// A running member.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<StoreCell>,
    pub(super) watch: Arc<WatchHub>,
    pub(super) proposer: Proposer,
    applier: ApplierInbox,
    pub(super) to_committer: Sender<ToCommitter>,
    pub(super) peers: Arc<Peers>,
    ids: Mutex<RequestIds>,
    request_timeout: Duration,
    max_request_bytes: usize,
    pub(super) quota_bytes: Option<u64>,
    pub(super) strict_reconfig_check: bool,
    pub(super) figures: Arc<RequestFigures>,
    pub(super) hold_cluster_version: bool,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}

/// The proposal that a lease's checkpoint counts no longer.
fn clear_checkpoint(header: &pb::RequestHeader, id: i64) -> Bytes {
    let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl: 0 }];
    let request = pb::LeaseCheckpointRequest { checkpoints };
    wrap(header, RequestKind::LeaseCheckpoint, &request.encode_to_vec())
}

pub(super) fn answer<T: Send + 'static>(
    future: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Answer<T> {
    Box::pin(future)
}

impl Handle {
    pub(super) fn new(
        config: &RuntimeConfig,
        store: Arc<StoreCell>,
        watch: Arc<WatchHub>,
        proposer: Proposer,
        (applier, to_committer): (ApplierInbox, Sender<ToCommitter>),
        peers: Arc<Peers>,
        ids: RequestIds,
    ) -> Handle {
        let metrics = proposer.metrics.clone();
        Handle {
            shared: proposer.shared.clone(),
            store,
            watch,
            proposer,
            applier,
            to_committer,
            peers,
            ids: Mutex::new(ids),
            request_timeout: config.request_timeout,
            max_request_bytes: config.max_request_bytes,
            quota_bytes: config.quota_bytes,
            strict_reconfig_check: config.strict_reconfig_check,
            figures: Arc::new(RequestFigures::new(metrics, config.warning_apply_duration)),
            hold_cluster_version: config.hold_cluster_version,
        }
    }

    pub(super) fn store(&self) -> Arc<Store> {
        self.store.now()
    }

    /// Ends the applier and the committer, and the log writer with that.
    pub(super) fn hang_up(&self) {
        let _ = self.to_committer.send(ToCommitter::Stop);
        self.applier.send(ToApplier::Stop);
    }

    /// Longest wait of a request.
    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Proposes without anybody waiting.
    pub(super) fn propose_unwaited(&self, kind: RequestKind, request: &[u8]) {
        let header = pb::RequestHeader { id: self.next_id(), ..Default::default() };
        self.proposer.send(ToRaft::Propose(wrap(&header, kind, request)));
    }

    fn standing_of(shared: &Shared, store: &Store) -> Standing {
        let leadership = *shared.leadership.read();
        let view = shared.view.read();
        let member_id = shared.identity.member_id;
        Standing {
            cluster_id: shared.identity.cluster_id,
            member_id,
            raft_term: shared.applied_term.load(Ordering::Relaxed),
            revision: store.revision(),
            leader: leadership.leader,
            is_learner: view.cluster.member(member_id).is_some_and(|member| member.is_learner),
        }
    }
}

impl Member for Handle {
    fn standing(&self) -> Standing {
        Handle::standing_of(&self.shared, &self.store.now())
    }

    fn versions(&self) -> Versions {
        let storage = schema::storage_version(&self.store.now().read()).ok().flatten();
        let view = self.shared.view.read();
        Versions {
            server: ETCD_VERSION.to_owned(),
            cluster: view.cluster_version.clone(),
            storage,
            downgrade: view.downgrade.clone(),
        }
    }

    fn space(&self) -> Space {
        Space { allocated: self.store.now().size(), quota: self.quota_bytes }
    }

    fn refresh(&self, metrics: &Metrics) {
        self.set_gauges(metrics);
    }

    fn alarms(&self) -> Vec<pb::AlarmMember> {
        self.shared.view.read().alarms.clone()
    }

    fn raft_status(&self) -> RaftStatus {
        let leadership = *self.shared.leadership.read();
        RaftStatus {
            term: leadership.term,
            vote: 0,
            commit: self.shared.committed.load(Ordering::Relaxed),
            applied: self.shared.applied.load(Ordering::Relaxed),
            role: match leadership.role {
                Role::Leader => "StateLeader",
                Role::Follower => "StateFollower",
                Role::Candidate => "StateCandidate",
                Role::PreCandidate => "StatePreCandidate",
            },
        }
    }

    fn next_id(&self) -> u64 {
        self.ids.lock().next_id()
    }

    fn propose(&self, caller: Caller, kind: RequestKind, request: Bytes) -> Answer<Bytes> {
        // Revokes give space back, so they may go a little further.
        let backlog = if kind == RequestKind::LeaseRevoke { 2 * BACKLOG_MAX } else { BACKLOG_MAX };
        if self.shared.backlog() > backlog || self.shared.waiting() > WAITING_MAX {
            return answer(async { Err(refusal::TOO_MANY_REQUESTS) });
        }
        let id = self.next_id();
        let header = pb::RequestHeader { id, username: caller.username, auth_revision: caller.auth_revision };
        let data = wrap(&header, kind, &request);
        if data.len() > self.max_request_bytes {
            return answer(async { Err(refusal::REQUEST_TOO_LARGE) });
        }
        let physical = kind == RequestKind::Compaction
            && pb::CompactionRequest::decode(request).is_ok_and(|r| r.physical);
        let submitted = self.proposer.submit(id, ToRaft::Propose(data));
        let (shared, store) = (self.shared.clone(), self.store.clone());
        let (figures, began) = (self.figures.clone(), Instant::now());
        answer(async move {
            let reply = submitted.await;
            figures.proposed(kind, began, reply.is_ok());
            let reply = reply?;
            while physical && store.now().is_compacting() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(answers::encode(reply, &Handle::standing_of(&shared, &store.now())))
        })
    }

    fn read_barrier(&self) -> Answer<()> {
        answer(self.proposer.barrier())
    }

    fn range(&self, _caller: Caller, request: pb::RangeRequest) -> Answer<Encoded<pb::RangeResponse>> {
        let barrier = (!request.serializable).then(|| self.proposer.barrier());
        let (shared, store, figures) = (self.shared.clone(), self.store.clone(), self.figures.clone());
        answer(async move {
            if let Some(barrier) = barrier {
                barrier.await?;
            }
            let began = Instant::now();
            let store = store.now();
            let options = range_options(&request).map_err(answers::refused)?;
            let image = store.read();
            let result = image
                .range(KeyRange::from_request(&request.key, &request.range_end), &options)
                .map_err(|error| answers::read_failed(error.into()));
            figures.range(&request, began, result.as_ref().map(|result| result.rows.len()).ok());
            let result = result?;
            let standing = Handle::standing_of(&shared, &store);
            Ok(answers::range(result, &standing, image.revision()))
        })
    }

    fn read_txn(&self, _caller: Caller, request: pb::TxnRequest) -> Answer<Encoded<pb::TxnResponse>> {
        use pb::request_op::Request;
        let waits =
            |op: &pb::RequestOp| matches!(&op.request, Some(Request::RequestRange(r)) if !r.serializable);
        let linearizable = request.success.iter().chain(&request.failure).any(waits);
        let barrier = linearizable.then(|| self.proposer.barrier());
        let (shared, store, figures) = (self.shared.clone(), self.store.clone(), self.figures.clone());
        answer(async move {
            if let Some(barrier) = barrier {
                barrier.await?;
            }
            let began = Instant::now();
            let store = store.now();
            let response = read_txn(&mut store.read(), &request).map_err(answers::read_failed);
            figures.read_txn(&request, began, response.is_ok());
            let response = response?;
            let standing = Handle::standing_of(&shared, &store);
            Ok(Encoded::from_bytes(answers::encode(Reply::Txn(response), &standing)))
        })
    }

    fn watch_stream(&self) -> WatchStream {
        self.watch.open()
    }

    fn lease_renew(&self, _caller: Caller, id: i64) -> Answer<i64> {
        let (applier, proposer) = (self.applier.clone(), self.proposer.clone());
        let (shared, wait) = (self.shared.clone(), self.request_timeout);
        if !shared.is_leader() {
            return answer(self.peers.clone().renew_lease(id));
        }
        let header = pb::RequestHeader { id: self.next_id(), ..Default::default() };
        let peers = self.peers.clone();
        let renewing = async move {
            let mut header = Some(header);
            let mut caught_up = false;
            loop {
                let (sender, receiver) = oneshot::channel();
                applier.ask(ToApplier::Renew(id, sender));
                match receiver.await.map_err(|_| refusal::STOPPED)? {
                    Ok(Renewal::Renewed { ttl_seconds }) => return Ok(ttl_seconds),
                    Err(RenewError::NotFound { .. }) if caught_up => return Ok(0),
                    // Another member may have applied its grant already.
                    Err(RenewError::NotFound { .. }) => {
                        shared.catch_up().await?;
                        caught_up = true;
                        continue;
                    }
                    // A new leader counts time from the first entry of its term on.
                    Err(RenewError::NotPrimary) if shared.is_leader() => {}
                    Err(RenewError::NotPrimary) => return peers.renew_lease(id).await,
                    Ok(Renewal::ClearCheckpoint) => {
                        if let Some(header) = header.take() {
                            proposer.send(ToRaft::Propose(clear_checkpoint(&header, id)));
                        }
                    }
                    // It is being revoked: its end is what the caller is told.
                    Err(RenewError::Expired { .. }) => {}
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        answer(async move { timeout(wait, renewing).await.unwrap_or(Err(refusal::TIMEOUT)) })
    }

    fn lease_time_to_live(
        &self,
        _caller: Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse> {
        if !self.shared.is_leader() {
            return answer(self.peers.clone().lease_time_to_live(request));
        }
        let (shared, applier) = (self.shared.clone(), self.applier.clone());
        answer(async move {
            shared.catch_up().await?;
            let (sender, receiver) = oneshot::channel();
            applier.send(ToApplier::TimeToLive(request.id, request.keys, sender));
            let found = receiver.await.map_err(|_| refusal::STOPPED)?;
            Ok(found.unwrap_or_else(|| pb::LeaseTimeToLiveResponse {
                id: request.id,
                ttl: -1,
                ..Default::default()
            }))
        })
    }

    fn lease_ids(&self, _caller: Caller) -> Answer<Vec<i64>> {
        let (sender, receiver) = oneshot::channel();
        self.applier.send(ToApplier::Leases(sender));
        answer(async move { receiver.await.map_err(|_| refusal::STOPPED) })
    }

    fn members(&self, linearizable: bool) -> Answer<Vec<pb::Member>> {
        let barrier = linearizable.then(|| self.proposer.barrier());
        let shared = self.shared.clone();
        answer(async move {
            if let Some(barrier) = barrier {
                barrier.await?;
            }
            Ok(Handle::listed(&shared))
        })
    }

    fn member_add(&self, peer_urls: Vec<String>, learner: bool) -> Answer<(pb::Member, Vec<pb::Member>)> {
        self.add_member(peer_urls, learner)
    }

    fn member_remove(&self, id: u64) -> Answer<Vec<pb::Member>> {
        self.remove_member(id)
    }

    fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Answer<Vec<pb::Member>> {
        self.update_member(id, peer_urls)
    }

    fn member_promote(&self, id: u64) -> Answer<Vec<pb::Member>> {
        self.promote_member(id)
    }

    fn status(&self) -> Answer<pb::StatusResponse> {
        let status = self.show_status();
        answer(async move { Ok(status) })
    }

    fn defragment(&self) -> Answer<()> {
        self.shrink_file()
    }

    fn hash(&self) -> Answer<u32> {
        self.hash_file()
    }

    fn hash_kv(&self, revision: i64) -> Answer<pb::HashKvResponse> {
        self.hash_history(revision)
    }

    fn image(&self) -> Answer<Image> {
        self.open_image()
    }

    fn move_leader(&self, target: u64) -> Answer<()> {
        self.hand_over(target)
    }
}
