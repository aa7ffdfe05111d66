//! Committed entries become state: the key-value store, leases, alarms, members, the cluster version.
//!
//! What lives here: the one place where a committed request takes effect, exactly once, in log order, with the same
//! verdict on every member. What may not: raft, proposing, waiting, sending.
//!
//! `kv` and `txn` work on an open write transaction; `effect` is what comes out; `error` who is refused and what is
//! fatal; `state` loads everything from the store at start.

mod batch;
mod effect;
mod error;
mod kv;
mod state;
mod txn;
pub(crate) mod v2;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::membershippb;
use stanchion_api::raft_request::{RaftRequest, RequestKind};
use stanchion_lease::Lessor;
use stanchion_mvcc::schema::{self, AlarmRecord, DowngradeRecord, LeaseRecord};
use stanchion_mvcc::{Applied, KeyRange, Recovered, Store, WriteTxn, Written};

pub use batch::AppliedWork;
pub(crate) use effect::watch_event;
pub use effect::{Effect, Reply};
pub use error::{Fatal, Refusal};
pub use kv::range_options;
pub use txn::{ReadFailure, read_txn};

use crate::membership::{Change, Cluster};
use error::Failure;
pub(crate) use state::stored_cluster;
use state::{conf_state_record, member_record};

/// Choices that hold for the life of an [`Applier`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes that the file may take before the alarm is raised; `None`: no limit.
    pub quota_bytes: Option<u64>,
    /// Learners that the cluster may have.
    pub max_learners: usize,
    /// Keep checkpoints of leases through a restart.
    pub persist_lease_checkpoints: bool,
    /// How leases behave.
    pub lease: stanchion_lease::Config,
}

/// Everything that a member's log has made, and how the next entry changes it.
///
/// Invariant: the store, the lessor, the alarms and the members are what all entries up to
/// [`applied`](Self::applied) make, and nothing of later ones.
#[derive(Debug)]
pub struct Applier {
    config: Config,
    store: Arc<Store>,
    lessor: Lessor,
    cluster: Cluster,
    cluster_version: Option<String>,
    downgrade: DowngradeRecord,
    alarms: BTreeSet<AlarmRecord>,
    applied: Applied,
    settings_changed: u64,
}

/// An alarm's kind: the file is over its quota.
pub const NO_SPACE: i32 = pb::AlarmType::Nospace as i32;
/// An alarm's kind: a member's data is corrupt.
pub const CORRUPT: i32 = pb::AlarmType::Corrupt as i32;

/// What a put costs of the quota, in bytes: the pair and an allowance for what is stored around it.
pub(crate) fn put_cost(request: &pb::PutRequest) -> u64 {
    256 + request.key.len() as u64 + request.value.len() as u64
}

/// What a lease costs of the quota, in bytes.
const LEASE_COST: u64 = 64;

/// A request, decoded from its entry.
#[derive(Debug)]
pub(crate) enum Request {
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Range(pb::RangeRequest),
    Txn(pb::TxnRequest),
    Compaction(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    ClusterVersion(membershippb::ClusterVersionSetRequest),
    MemberAttributes(membershippb::ClusterMemberAttrSetRequest),
    Downgrade(membershippb::DowngradeInfoSetRequest),
}

impl Request {
    fn decode(kind: RequestKind, bytes: Bytes) -> Result<Request, Refusal> {
        fn read<M: Message + Default>(kind: RequestKind, bytes: Bytes) -> Result<M, Refusal> {
            M::decode(bytes).map_err(|e| Refusal::Unknown { what: format!("{kind:?}: {e}") })
        }
        Ok(match kind {
            RequestKind::Put => Request::Put(read(kind, bytes)?),
            RequestKind::DeleteRange => Request::DeleteRange(read(kind, bytes)?),
            RequestKind::Range => Request::Range(read(kind, bytes)?),
            RequestKind::Txn => Request::Txn(read(kind, bytes)?),
            RequestKind::Compaction => Request::Compaction(read(kind, bytes)?),
            RequestKind::LeaseGrant => Request::LeaseGrant(read(kind, bytes)?),
            RequestKind::LeaseRevoke => Request::LeaseRevoke(read(kind, bytes)?),
            RequestKind::LeaseCheckpoint => Request::LeaseCheckpoint(read(kind, bytes)?),
            RequestKind::Alarm => Request::Alarm(read(kind, bytes)?),
            RequestKind::ClusterVersionSet => Request::ClusterVersion(read(kind, bytes)?),
            RequestKind::ClusterMemberAttrSet => Request::MemberAttributes(read(kind, bytes)?),
            RequestKind::DowngradeInfoSet => Request::Downgrade(read(kind, bytes)?),
            other => return Err(Refusal::Unknown { what: format!("{other:?} is not built yet") }),
        })
    }

    /// Bytes of the quota.
    fn cost(&self) -> u64 {
        match self {
            Request::Put(request) => put_cost(request),
            Request::Txn(request) => txn::cost(request),
            Request::LeaseGrant(_) => LEASE_COST,
            _ => 0,
        }
    }

    /// Whether the alarm of a corrupt member refuses it.
    fn needs_sound_data(&self) -> bool {
        match self {
            // A transaction is in the log because it writes or nests another; etcd does not look which.
            Request::Txn(_)
            | Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Compaction(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_) => true,
            _ => false,
        }
    }

    /// Whether the alarm of a full file refuses it.
    fn needs_space(&self) -> bool {
        match self {
            Request::Txn(request) => txn::has_put(request),
            Request::Put(_) | Request::LeaseGrant(_) => true,
            _ => false,
        }
    }
}

impl Applier {
    /// Applies a committed entry that is not a membership change. An entry at or below [`applied`](Self::applied) has
    /// no effect, and nobody is told.
    ///
    /// # Errors
    /// [`Fatal::Store`]: the member must stop.
    pub fn apply(
        &mut self,
        now_ms: u64,
        index: u64,
        term: u64,
        data: Bytes,
    ) -> Result<Option<Effect>, Fatal> {
        #[cfg(feature = "mutants")]
        let again = crate::mutant::active(crate::mutant::Mutant::AppliedAgain);
        #[cfg(not(feature = "mutants"))]
        let again = false;
        if index <= self.applied.index && !again {
            return Ok(None);
        }
        let applied = Applied { index, term };
        self.applied = applied;
        if data.is_empty() {
            // A new leader's first entry.
            self.store.set_applied(applied);
            return Ok(None);
        }
        if let Some(request) = v2::read(data.clone()) {
            return self.apply_v2(now_ms, applied, request).map(|()| None);
        }
        let parsed = RaftRequest::parse(data).map_err(|e| Refusal::Unknown { what: e.to_string() });
        let id = parsed.as_ref().map_or(0, RaftRequest::id);
        let kind = parsed.as_ref().ok().and_then(|parsed| parsed.request.as_ref()).map(|(kind, _)| *kind);
        let request = parsed.and_then(|parsed| match parsed.request {
            Some((kind, bytes)) => Request::decode(kind, bytes),
            None => Err(Refusal::Unknown { what: "no request".to_owned() }),
        });
        let mut effect =
            Effect { kind, id, result: Ok(Reply::Done), events: None, raise_no_space: false, put_bytes: 0 };
        match request
            .map_err(Failure::from)
            .and_then(|request| self.run(now_ms, applied, &request, &mut effect))
        {
            Ok(reply) => effect.result = Ok(reply),
            Err(Failure::Store(source)) => return Err(Fatal::Store { index, source }),
            Err(Failure::Refused(refusal)) => {
                self.store.set_applied(applied);
                effect.result = Err(refusal);
            }
        }
        if effect.raise_no_space {
            effect.result = Err(Refusal::NoSpace);
        }
        Ok(Some(effect))
    }

    /// Nobody waits for what an older release proposed before it stopped.
    fn apply_v2(&mut self, now_ms: u64, applied: Applied, request: v2::V2) -> Result<(), Fatal> {
        let v2::V2::Request(request) = request else {
            self.store.set_applied(applied);
            return Ok(());
        };
        let mut effect = Effect::silent();
        match self.execute(now_ms, applied, &request, &mut effect) {
            Err(Failure::Store(source)) => Err(Fatal::Store { index: applied.index, source }),
            Err(Failure::Refused(_)) => {
                self.store.set_applied(applied);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Applies a committed membership change. What does not fit is refused alike on every member, and raft must then be
    /// given an empty change.
    pub fn apply_change(&mut self, index: u64, term: u64, change: &Change) -> Option<Result<(), Refusal>> {
        if index <= self.applied.index {
            return None;
        }
        let applied = Applied { index, term };
        self.applied = applied;
        if let Err(refused) = self.cluster.check(change, self.config.max_learners) {
            self.store.set_applied(applied);
            return Some(Err(refused.into()));
        }
        self.cluster.apply(change);
        self.settings_changed += 1;
        let mut txn = self.store.write();
        txn.set_applied(applied);
        schema::put_conf_state(&mut txn, &conf_state_record(&self.cluster));
        match change {
            Change::Remove(id) => {
                schema::delete_member(&mut txn, *id);
                schema::put_removed_member(&mut txn, *id);
            }
            Change::Add(_) | Change::Promote(_) | Change::Update { .. } => {
                let id = match change {
                    Change::Add(member) => member.id,
                    Change::Promote(id) | Change::Update { id, .. } | Change::Remove(id) => *id,
                };
                let member = self.cluster.member(id).expect("a change that fits leaves its member");
                schema::put_member(&mut txn, &member_record(member));
            }
        }
        _ = txn.end();
        Some(Ok(()))
    }

    /// A leader's snapshot has replaced the database: everything is what that says.
    ///
    /// # Errors
    /// As [`open`](Self::open): the member must stop.
    pub fn install(&mut self, store: Arc<Store>, recovered: &Recovered) -> Result<(), Fatal> {
        *self = Applier::open(self.config.clone(), store, recovered)?;
        Ok(())
    }

    /// Remembers an entry without any effect.
    pub fn skip(&mut self, index: u64, term: u64) {
        if index > self.applied.index {
            self.applied = Applied { index, term };
            self.store.set_applied(self.applied);
        }
    }

    /// Runs one request through the layers that may refuse it, outermost first.
    fn run(
        &mut self,
        now_ms: u64,
        applied: Applied,
        request: &Request,
        effect: &mut Effect,
    ) -> Result<Reply, Failure> {
        if request.needs_sound_data() && self.has_alarm(CORRUPT) {
            return Err(Refusal::Corrupt.into());
        }
        if request.needs_space() && self.has_alarm(NO_SPACE) {
            return Err(Refusal::NoSpace.into());
        }
        // The place where permissions are decided once users exist: see the module's documentation of `state`.
        let fits = self.fits(request.cost());
        let reply = self.execute(now_ms, applied, request, effect)?;
        effect.raise_no_space = !fits;
        Ok(reply)
    }

    fn execute(
        &mut self,
        now_ms: u64,
        applied: Applied,
        request: &Request,
        effect: &mut Effect,
    ) -> Result<Reply, Failure> {
        let store = self.store.clone();
        let mut txn = store.write();
        txn.set_applied(applied);
        let reply = match request {
            Request::Put(request) => Reply::Put(kv::put(&mut txn, &self.lessor, request)?),
            Request::DeleteRange(request) => Reply::DeleteRange(kv::delete_range(&mut txn, request)?),
            Request::Range(request) => Reply::Range(kv::range(&mut txn, request)?),
            Request::Txn(request) => Reply::Txn(txn::txn(&mut txn, &self.lessor, request)?),
            Request::Compaction(request) => {
                txn.compact(request.revision)?;
                Reply::Compaction(pb::CompactionResponse { header: kv::header(txn.revision()) })
            }
            Request::LeaseGrant(request) => self.grant(now_ms, &mut txn, request)?,
            Request::LeaseRevoke(request) => self.revoke(&mut txn, request)?,
            Request::LeaseCheckpoint(request) => self.checkpoint(now_ms, &mut txn, request),
            Request::Alarm(request) => self.alarm(&mut txn, request),
            Request::ClusterVersion(request) => {
                schema::put_cluster_version(&mut txn, &request.ver);
                self.cluster_version = Some(request.ver.clone());
                self.settings_changed += 1;
                Reply::Done
            }
            Request::MemberAttributes(request) => self.publish(&mut txn, request),
            Request::Downgrade(request) => {
                let target_version = if request.enabled { request.ver.clone() } else { String::new() };
                self.downgrade = DowngradeRecord { target_version, enabled: request.enabled };
                self.settings_changed += 1;
                schema::put_downgrade(&mut txn, &self.downgrade);
                Reply::Done
            }
        };
        let written = txn.end();
        self.attach(&written);
        effect.put_bytes = effect::put_bytes(&written);
        effect.events = effect::watch_events(&written);
        Ok(reply)
    }

    /// Keys follow their leases.
    fn attach(&mut self, written: &Written) {
        for event in &written.events {
            if event.lease == 0 || self.lessor.attach(event.lease, &event.key).is_err() {
                // A lease that is gone leaves the key without one.
                self.lessor.detach(&event.key);
            }
        }
    }

    fn grant(
        &mut self,
        now_ms: u64,
        txn: &mut WriteTxn<'_>,
        request: &pb::LeaseGrantRequest,
    ) -> Result<Reply, Failure> {
        let stored = self.lessor.grant(now_ms, request.id, request.ttl)?;
        schema::put_lease(txn, lease_record(stored));
        Ok(Reply::LeaseGrant(pb::LeaseGrantResponse {
            header: kv::header(txn.revision()),
            id: stored.id,
            ttl: stored.ttl_seconds,
            error: String::new(),
        }))
    }

    /// The lease and its keys go in one revision and one commit.
    fn revoke(&mut self, txn: &mut WriteTxn<'_>, request: &pb::LeaseRevokeRequest) -> Result<Reply, Failure> {
        let keys = self.lessor.revoke(request.id)?;
        for key in &keys {
            txn.delete_range(KeyRange::single(key), false)?;
        }
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::RevokedLeaseStays) {
            return Ok(Reply::LeaseRevoke(pb::LeaseRevokeResponse { header: kv::header(txn.revision()) }));
        }
        schema::delete_lease(txn, request.id);
        Ok(Reply::LeaseRevoke(pb::LeaseRevokeResponse { header: kv::header(txn.revision()) }))
    }

    fn checkpoint(
        &mut self,
        now_ms: u64,
        txn: &mut WriteTxn<'_>,
        request: &pb::LeaseCheckpointRequest,
    ) -> Reply {
        for checkpoint in &request.checkpoints {
            // A lease that was revoked meanwhile needs none.
            let Ok(stored) = self.lessor.checkpoint(now_ms, checkpoint.id, checkpoint.remaining_ttl) else {
                continue;
            };
            if self.config.persist_lease_checkpoints {
                schema::put_lease(txn, lease_record(stored));
            }
        }
        Reply::LeaseCheckpoint(pb::LeaseCheckpointResponse { header: kv::header(txn.revision()) })
    }

    fn alarm(&mut self, txn: &mut WriteTxn<'_>, request: &pb::AlarmRequest) -> Reply {
        use pb::alarm_request::AlarmAction;
        let record = AlarmRecord { member_id: request.member_id, alarm: request.alarm };
        let listed = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                let asked = |alarm: &&AlarmRecord| request.alarm == 0 || alarm.alarm == request.alarm;
                self.alarms.iter().filter(asked).copied().collect()
            }
            Ok(AlarmAction::Activate) if request.alarm != 0 => {
                self.settings_changed += 1;
                if self.alarms.insert(record) {
                    schema::put_alarm(txn, record);
                }
                vec![record]
            }
            Ok(AlarmAction::Deactivate) if self.alarms.remove(&record) => {
                self.settings_changed += 1;
                schema::delete_alarm(txn, record);
                vec![record]
            }
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => Vec::new(),
        };
        let alarms =
            listed.into_iter().map(|a| pb::AlarmMember { member_id: a.member_id, alarm: a.alarm }).collect();
        Reply::Alarm(pb::AlarmResponse { header: kv::header(txn.revision()), alarms })
    }

    fn publish(
        &mut self,
        txn: &mut WriteTxn<'_>,
        request: &membershippb::ClusterMemberAttrSetRequest,
    ) -> Reply {
        let attributes = request.member_attributes.clone().unwrap_or_default();
        if self.cluster.publish(request.member_id, &attributes.name, &attributes.client_urls) {
            self.settings_changed += 1;
            let member = self.cluster.member(request.member_id).expect("published, so it exists");
            schema::put_member(txn, &member_record(member));
        }
        Reply::Done
    }

    /// Whether a request of that cost fits into the quota: what costs nothing always does.
    #[must_use]
    pub fn fits(&self, cost: u64) -> bool {
        cost == 0
            || self.config.quota_bytes.is_none_or(|quota| self.store.size().saturating_add(cost) < quota)
    }

    /// Whether an alarm of this kind is on, of any member.
    #[must_use]
    pub fn has_alarm(&self, alarm: i32) -> bool {
        self.alarms.iter().any(|record| record.alarm == alarm)
    }

    /// The alarms that are on.
    pub fn alarms(&self) -> impl Iterator<Item = AlarmRecord> {
        self.alarms.iter().copied()
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// How often members, alarms, the cluster's version or its downgrade have changed since this was opened: whoever
    /// keeps a copy of them compares it.
    #[must_use]
    pub fn settings_changed(&self) -> u64 {
        self.settings_changed
    }

    /// The members as of the applied entry.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The version that all members have agreed on, like `3.7.0`.
    #[must_use]
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// A running or finished downgrade.
    #[must_use]
    pub fn downgrade(&self) -> &DowngradeRecord {
        &self.downgrade
    }

    /// The leases.
    #[must_use]
    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// The leases, for what only the primary does: promotion, renewal, ticks. Granting and revoking go through the log.
    pub fn lessor_mut(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    /// The key-value store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

fn lease_record(stored: stanchion_lease::Stored) -> LeaseRecord {
    let stanchion_lease::Stored { id, ttl_seconds, remaining_seconds } = stored;
    LeaseRecord { id, ttl: ttl_seconds, remaining_ttl: remaining_seconds }
}

#[cfg(test)]
mod tests;
