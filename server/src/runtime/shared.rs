//! What several threads look at: positions, the leader, members, and who waits for which request.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use stanchion_api::etcdserverpb as pb;
use stanchion_raft::Role;
use stanchion_replica::apply::{self, Applier, Reply};
use stanchion_replica::boot::Identity;
use stanchion_replica::consensus::Leadership;
use stanchion_replica::membership::Cluster;
use stanchion_replica::version::Version;
use tokio::sync::oneshot;

use crate::refusal::{self, Refusal};

/// How long a question about a lease waits until what is committed is applied.
const APPLY_WAIT: Duration = Duration::from_secs(1);
const APPLY_LOOK: Duration = Duration::from_millis(2);

/// What a proposer is told.
pub(super) type Outcome = Result<Reply, apply::Refusal>;

/// Seen by all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(super) committed: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) applied_term: AtomicU64,
    /// Linearizable reads may run at once: see `Consensus::reads_are_free`.
    pub(super) reads_are_free: AtomicBool,
    pub(crate) leadership: RwLock<Leadership>,
    pub(crate) view: RwLock<View>,
    /// Proposers by request id. Only looked up.
    waiters: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    /// The releases that other members run, as far as they have said.
    pub(crate) member_versions: Mutex<BTreeMap<u64, Version>>,
    /// Members that the peer layer is connected to, and since when.
    pub(crate) connected_since: Mutex<BTreeMap<u64, Instant>>,
    /// When this member won its last election.
    pub(crate) elected: Mutex<Option<Instant>>,
    /// Becomes true when this member is no member of its cluster any more.
    pub(crate) removed: tokio::sync::watch::Sender<bool>,
    /// Told at every change of leadership.
    pub(super) leader_changes: tokio::sync::watch::Sender<Leadership>,
}

/// What the applier shows after each batch that changed it.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) cluster: Cluster,
    pub(super) cluster_version: Option<String>,
    pub(super) downgrade: pb::DowngradeInfo,
    pub(super) alarms: Vec<pb::AlarmMember>,
}

impl View {
    pub(super) fn of(applier: &Applier) -> View {
        let alarms = applier.alarms().map(|a| pb::AlarmMember { member_id: a.member_id, alarm: a.alarm });
        View {
            cluster: applier.cluster().clone(),
            cluster_version: applier.cluster_version().map(str::to_owned),
            downgrade: pb::DowngradeInfo {
                enabled: applier.downgrade().enabled,
                target_version: applier.downgrade().target_version.clone(),
            },
            alarms: alarms.collect(),
        }
    }
}

impl Shared {
    pub(super) fn new(identity: Identity, applier: &Applier) -> Shared {
        let applied = applier.applied();
        Shared {
            identity,
            committed: AtomicU64::new(applied.index),
            applied: AtomicU64::new(applied.index),
            applied_term: AtomicU64::new(applied.term),
            reads_are_free: AtomicBool::new(false),
            leadership: RwLock::default(),
            view: RwLock::new(View::of(applier)),
            waiters: Mutex::default(),
            member_versions: Mutex::default(),
            connected_since: Mutex::default(),
            elected: Mutex::default(),
            removed: tokio::sync::watch::Sender::new(false),
            leader_changes: tokio::sync::watch::Sender::new(Leadership::default()),
        }
    }

    /// Waits for the outcome of a request that is about to be proposed.
    pub(super) fn wait_for(&self, id: u64) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.lock().insert(id, sender);
        receiver
    }

    pub(super) fn forget(&self, id: u64) {
        self.waiters.lock().remove(&id);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Tells those who wait for these requests, under one lock.
    pub(super) fn tell(&self, outcomes: Vec<(u64, Outcome)>) {
        if outcomes.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        for (id, outcome) in outcomes {
            if let Some(waiter) = waiters.remove(&id) {
                // Who has gone needs no answer.
                let _ = waiter.send(outcome);
            }
        }
    }

    /// How many voters, this member included, have been connected for that long.
    pub(super) fn steady_voters(&self, long: Duration) -> usize {
        let connected = self.connected_since.lock();
        let steady = |id: u64| {
            id == self.identity.member_id || connected.get(&id).is_some_and(|since| since.elapsed() >= long)
        };
        self.view.read().cluster.voters().filter(|voter| steady(voter.id)).count()
    }

    /// Why a request that `began` then, and was proposed, has not been applied in time.
    pub(super) fn why_late(&self, began: Instant, election: Duration) -> Refusal {
        let leader = self.leadership.read().leader;
        let own = self.identity.member_id;
        let connected = self.connected_since.lock();
        let steady = |id: u64| id == own || connected.get(&id).is_some_and(|since| *since <= began);
        let heard = if leader == own {
            let view = self.view.read();
            let reached = view.cluster.voters().filter(|voter| steady(voter.id)).count();
            reached > view.cluster.voters().count() / 2
        } else {
            steady(leader)
        };
        match *self.elected.lock() {
            _ if leader == 0 => refusal::DEADLINE,
            Some(elected) if began < elected && elected - began < election * 2 => {
                refusal::TIMEOUT_LEADER_LOSS
            }
            _ if !heard => refusal::TIMEOUT_CONNECTION_LOST,
            _ => refusal::TIMEOUT,
        }
    }

    pub(super) fn set_leadership(&self, leadership: Leadership) {
        if leadership.role == Role::Leader {
            *self.elected.lock() = Some(Instant::now());
        }
        *self.leadership.write() = leadership;
        self.leader_changes.send_replace(leadership);
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leadership.read().role == Role::Leader
    }

    /// The leader that this member knows; 0 if none.
    pub(crate) fn leader(&self) -> u64 {
        self.leadership.read().leader
    }

    /// The commit index.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The last applied index.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// Waits until everything that is committed by now is applied here.
    ///
    /// # Errors
    /// [`refusal::TIMEOUT_APPLY`].
    pub(crate) async fn catch_up(&self) -> Result<(), Refusal> {
        let committed = self.committed();
        let applied = async {
            while self.applied() < committed {
                tokio::time::sleep(APPLY_LOOK).await;
            }
        };
        tokio::time::timeout(APPLY_WAIT, applied).await.map_err(|_| refusal::TIMEOUT_APPLY)
    }

    /// Entries that are committed and not applied.
    pub(super) fn backlog(&self) -> u64 {
        self.committed.load(Ordering::Relaxed).saturating_sub(self.applied.load(Ordering::Relaxed))
    }
}
