//! The threads of a member: loops around the replica's two halves, its log and its store.
//!
//! | thread | file | owns | waits for |
//! |---|---|---|---|
//! | raft | `turns`, `raft_loop` | consensus, waiting reads | its inbox, the next tick |
//! | log writer | `log_writer` | the log | its inbox, `fdatasync` |
//! | applier | `applier` | the store's write side, leases | its inbox |
//! | committer | `committer` | commits, compaction steps | the database's sync |
//! | catch-up | `watch` | scans of history for watchers | its wake-up |
//!
//! What lives here: who wakes whom, and the answer to the front's questions (`handle`, `answers`). What may not: any
//! decision about data. Inboxes have no bound of their own: what may come in is bounded at admission, in `handle`.

mod answers;
mod applier;
mod committer;
mod corruption;
mod figures;
mod gauges;
mod handle;
mod install;
mod log_writer;
mod maintenance;
mod proposer;
mod raft_loop;
mod reconfiguration;
mod shared;
mod store_cell;
mod turns;
mod versions;
mod watch;

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stanchion_disk::{Disk, RealDisk};
use stanchion_mvcc::StoreOptions;
use stanchion_peer::PeerServer;
use stanchion_replica::boot::{BootError, Bootstrap, Layout, boot};
use stanchion_replica::consensus::{Consensus, ConsensusConfig, ConsensusError};
use stanchion_replica::force::force_new_cluster;
use stanchion_replica::journal::{Journal, Retention};
use stanchion_replica::membership::RequestIds;
use stanchion_replica::{ReleasePolicy, apply};

use stanchion_replica::version::Version;

use crate::config::ETCD_VERSION;
use crate::member::{Answer, MemberHandle};
use crate::metrics::Metrics;
use crate::peers::{Peers, PeersConfig, Questions};
use crate::refusal::Refusal;
use applier::ApplierLoop;
pub use corruption::CorruptionChecks;
use handle::Handle;
pub(crate) use raft_loop::ToRaft;
pub(crate) use shared::Shared;
pub(crate) use store_cell::StoreCell;

/// What the threads are told at start.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Root of all state.
    pub data_dir: PathBuf,
    /// The log's own directory, if it is not below `data_dir`.
    pub wal_dir: Option<PathBuf>,
    /// How to begin if the directory is empty.
    pub bootstrap: Bootstrap,
    /// One raft tick.
    pub tick: Duration,
    /// Ticks in an election timeout.
    pub election_ticks: u32,
    /// Longest wait of a request.
    pub request_timeout: Duration,
    /// Largest wrapped request in bytes.
    pub max_request_bytes: usize,
    /// Quota of the database in bytes.
    pub quota_bytes: Option<u64>,
    /// Learners allowed at the same time.
    pub max_learners: usize,
    /// Pre-vote.
    pub pre_vote: bool,
    /// When the log is released.
    pub release: ReleasePolicy,
    /// What is kept of the log and of snapshot files.
    pub retention: Retention,
    /// Longest time before pending writes are committed.
    pub commit_interval: Duration,
    /// Pending operations that trigger a commit.
    pub commit_changes: usize,
    /// Rows that one compaction step looks at.
    pub compaction_batch: usize,
    /// Pause between two compaction steps.
    pub compaction_pause: Duration,
    /// How often checkpoints of leases are made; `None`: never.
    pub lease_checkpoint_interval: Option<Duration>,
    /// Commit the database without syncing it.
    pub unsafe_no_fsync: bool,
    /// Go on alone: every other member goes.
    pub force_new_cluster: bool,
    /// Refuse changes of membership that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// Requests slower than this are counted and logged.
    pub warning_apply_duration: Duration,
    /// Keep the cluster and storage version that was found.
    pub hold_cluster_version: bool,
    /// When stores are compared.
    pub corruption: CorruptionChecks,
    /// Do not wait a whole election timeout at start.
    pub initial_election_tick_advance: bool,
    /// How this member meets others.
    pub peers: PeersConfig,
    /// The time of this start in milliseconds since 1970; makes ids differ from those of earlier starts.
    pub unix_millis: u64,
}

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Its log cannot be written.
    #[error(transparent)]
    Wal(#[from] stanchion_wal::Error),
    /// Its log.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// Its cluster has gone on to a release that we do not know.
    #[error(
        "invalid downgrade; server version is lower than determined cluster version (current-server-version: {ETCD_VERSION}, determined-cluster-version: {cluster})"
    )]
    NewerCluster {
        /// The cluster's version.
        cluster: Version,
    },
    /// Its store is not what other members have.
    #[error(
        "{local:x} found data inconsistency with peers: {members} have another store at the same revision; find out which is right, then remove the member that is wrong and add it again"
    )]
    Inconsistent {
        /// This member.
        local: u64,
        /// The members that differ.
        members: String,
    },
    /// Its store cannot be read.
    #[error(transparent)]
    Store(#[from] stanchion_mvcc::Error),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running member.
#[derive(Debug)]
pub struct Runtime {
    handle: Arc<Handle>,
    peers: Arc<Peers>,
    raft: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    stop: Arc<watch::WatchHub>,
}

impl Runtime {
    /// Takes up or makes the data directory and starts the threads. Must be called within a tokio runtime, on whose
    /// workers long answers to watchers are made ready.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: RuntimeConfig, metrics: &Arc<Metrics>) -> Result<Runtime, StartError> {
        Runtime::start_on(Arc::new(RealDisk), config, metrics).await
    }

    /// As [`start`](Self::start), on a given disk.
    async fn start_on(
        disk: Arc<dyn Disk>,
        config: RuntimeConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Runtime, StartError> {
        let layout = Layout::new(&config.data_dir, config.wal_dir.as_deref());
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let election_ms = millis(config.tick) * u64::from(config.election_ticks);
        let apply_config = apply::Config {
            quota_bytes: config.quota_bytes,
            max_learners: config.max_learners,
            persist_lease_checkpoints: true,
            lease: stanchion_lease::Config {
                min_ttl_seconds: (election_ms * 3 / 2).div_ceil(1000).cast_signed(),
                retry_ms: millis(config.request_timeout),
                checkpoint_interval_ms: config.lease_checkpoint_interval.map(millis),
            },
        };
        let store_options = StoreOptions { sync: !config.unsafe_no_fsync, ..StoreOptions::default() };
        let wal_options = stanchion_wal::Options::default();
        let mut booted =
            boot(disk.clone(), &layout, apply_config, &store_options, wal_options, &config.bootstrap)?;
        if let Some(repair) = booted.recovery.as_ref().and_then(|recovery| recovery.repair.as_ref()) {
            tracing::warn!(?repair, "the log's torn end was cut off");
        }
        if let Some(cluster) = booted.applier.cluster_version().and_then(Version::parse)
            && cluster > versions::own()
        {
            return Err(StartError::NewerCluster { cluster });
        }
        if config.force_new_cluster {
            let gone = force_new_cluster(&mut booted)?;
            let gone: Vec<String> = gone.iter().map(|id| format!("{id:x}")).collect();
            tracing::warn!(removed = gone.join(","), "forcing restart member: this member goes on alone");
        }
        let identity = booted.identity;
        if config.corruption.initial && booted.recovery.is_some() {
            corruption::check_before_serving(identity, &booted.applier, config.request_timeout).await?;
        }
        let consensus_config = ConsensusConfig {
            election_ticks: config.election_ticks,
            heartbeat_ticks: 1,
            pre_vote: config.pre_vote,
            read_retry_ticks: u32::try_from(500 / config.tick.as_millis().max(1)).unwrap_or(1).max(1),
            release: config.release,
            seed: identity.member_id ^ config.unix_millis,
            start_id: config.unix_millis,
        };
        let consensus = Consensus::new(identity.member_id, &booted.start, &consensus_config)?;

        let shared = Arc::new(Shared::new(identity, &booted.applier));
        let store = store_cell::StoreCell::new(booted.applier.store().clone());
        let watch = watch::WatchHub::new(store.clone());
        let (to_raft, raft_inbox) = crossbeam_channel::unbounded();
        let databases = (store.clone(), booted.snapshots.clone());
        let peers =
            Peers::start(config.peers.clone(), shared.clone(), to_raft.clone(), databases, metrics.clone());
        peers.follow(booted.applier.cluster());
        let (to_writer, writer_inbox) = channel();
        let (to_applier, applier_inbox) = crossbeam_channel::unbounded();
        let (to_committer, committer_inbox) = channel();
        let ids = RequestIds::new(identity.member_id, config.unix_millis);
        let clock = Instant::now();
        let applier = Arc::new(Mutex::new(ApplierLoop {
            applier: booted.applier,
            inbox: applier_inbox,
            to_raft: to_raft.clone(),
            shared: shared.clone(),
            watch: watch.clone(),
            peers: peers.clone(),
            handle: Weak::new(),
            clock,
            metrics: metrics.clone(),
            shown: u64::MAX,
            figures: figures::ApplyFigures::new(metrics.clone(), config.warning_apply_duration),
            extend_ms: election_ms,
            leads: None,
            opened_term: 0,
            installer: install::Installer {
                disk: disk.clone(),
                layout,
                options: store_options,
                snapshots: booted.snapshots.clone(),
                store: store.clone(),
            },
        }));
        let raft = raft_loop::RaftLoop::new(
            consensus,
            raft_inbox,
            raft_loop::Outlets {
                writer: to_writer.clone(),
                applier: to_applier.clone(),
                committer: to_committer.clone(),
                peers: peers.clone(),
            },
            shared.clone(),
            config.tick,
            config.request_timeout,
            metrics.clone(),
        );
        let turns = Arc::new(turns::Turns::new(raft, to_raft.clone(), applier.clone()));
        let handle = Arc::new(Handle::new(
            &config,
            store.clone(),
            watch.clone(),
            proposer::Proposer {
                shared: shared.clone(),
                to_raft: to_raft.clone(),
                turns: turns.clone(),
                request_timeout: config.request_timeout,
                election: config.peers.election,
                metrics: metrics.clone(),
            },
            (applier::ApplierInbox { applier: applier.clone(), queue: to_applier.clone() }, to_committer),
            peers.clone(),
            ids,
        ));
        applier.lock().handle = Arc::downgrade(&handle);
        let writer = log_writer::LogWriter {
            journal: Journal::new(disk, booted.wal, booted.snapshots.clone(), config.retention),
            inbox: writer_inbox,
            turns: turns.clone(),
            to_applier,
            metrics: metrics.clone(),
        };
        let committer =
            committer::Committer::new(store, committer_inbox, to_writer, &config, clock, metrics.clone());
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            Builder::new().name(name.to_owned()).spawn(move || {
                let _guard = EndsWithIt;
                run();
            })
        };
        let others = vec![
            spawn("log-writer", Box::new(move || writer.run()))?,
            spawn("applier", Box::new(move || ApplierLoop::run(&applier)))?,
            spawn("committer", Box::new(move || committer.run()))?,
            spawn("catch-up", watch::catch_up_loop(watch.clone()))?,
        ];
        let raft = Some(spawn("raft", Box::new(move || turns.run()))?);
        if config.initial_election_tick_advance {
            tokio::spawn(hasten_election(Arc::downgrade(&handle), config.election_ticks.saturating_sub(2)));
        }
        Ok(Runtime { handle, peers, raft, others, stop: watch })
    }

    /// The member, for the front.
    #[must_use]
    pub fn member(&self) -> MemberHandle {
        self.handle.clone()
    }

    /// What answers on the peer port.
    #[must_use]
    pub fn peer_server(&self) -> PeerServer {
        let questions = Questions::new(self.handle.shared.clone(), self.handle.clone());
        PeerServer::new(self.peers.transport().clone(), Arc::new(questions))
    }

    /// Leadership goes to the voter that has been connected for the longest time, if this member leads and there is one.
    #[must_use]
    pub fn hand_over_leadership(&self) -> Option<Answer<()>> {
        let shared = &self.handle.shared;
        if !shared.is_leader() {
            return None;
        }
        let connected = shared.connected_since.lock().clone();
        let view = shared.view.read();
        let reached = view.cluster.voters().filter_map(|voter| Some((*connected.get(&voter.id)?, voter.id)));
        let (_, steadiest) = reached.min()?;
        drop(view);
        tracing::info!(transferee = %format_args!("{steadiest:x}"), "leadership transfer starting");
        Some(self.handle.hand_over(steadiest))
    }

    /// Resolves when this member is no member of its cluster any more.
    pub fn removed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut removed = self.handle.shared.removed.subscribe();
        async move {
            if removed.wait_for(|removed| *removed).await.is_err() {
                // The member has stopped for another reason.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Looks once at the versions of the cluster and the file, and then keeps an eye on them.
    ///
    /// # Errors
    /// The cluster's version could not be set now; it is tried again.
    pub async fn keep_versions(&self) -> Result<(), Refusal> {
        let looked = versions::look(&self.handle).await;
        tokio::spawn(versions::keep(Arc::downgrade(&self.handle)));
        looked
    }

    /// Compares stores from time to time, as far as that is asked for.
    pub fn keep_comparing(&self, checks: CorruptionChecks) {
        let handle = || Arc::downgrade(&self.handle);
        if let Some(period) = checks.period {
            tokio::spawn(corruption::keep_comparing(handle(), period));
        }
        if let Some(period) = checks.compaction_period {
            tokio::spawn(corruption::keep_comparing_compactions(handle(), period));
        }
    }

    /// Stops the threads: what is acknowledged is on disk already, and the database is committed once more, so that
    /// the next start has less to replay.
    pub fn stop(mut self) {
        self.peers.stop();
        self.handle.proposer.send(ToRaft::Stop);
        if let Some(raft) = self.raft.take()
            && raft.join().is_err()
        {
            tracing::error!("the raft thread had panicked");
        }
        self.stop.stop();
        self.handle.hang_up();
        for thread in self.others.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
        if let Err(error) = self.handle.store().commit() {
            tracing::error!(%error, "the last commit of the database failed");
        }
    }
}

/// Time in which peers may turn up at start, and how often they are counted.
const PEERS_WAIT: Duration = Duration::from_secs(5);
const PEERS_LOOK: Duration = Duration::from_millis(50);

/// A member that has just started and has reached two others without hearing of a leader need not wait a whole election
/// timeout: two ticks are left for a leader that is slow to be heard.
async fn hasten_election(handle: Weak<Handle>, ticks: u32) {
    let deadline = Instant::now() + PEERS_WAIT;
    while Instant::now() < deadline {
        tokio::time::sleep(PEERS_LOOK).await;
        let Some(handle) = handle.upgrade() else { return };
        let active = handle.shared.connected_since.lock().len();
        if active > 1 {
            tracing::info!(
                forward_ticks = ticks,
                active_remote_members = active,
                "initialized peer connections; fast-forwarding election ticks"
            );
            handle.proposer.send(ToRaft::AdvanceElection(ticks));
            return;
        }
    }
}

/// The member cannot go on: after this nothing may be acknowledged. A restart recovers from the log.
fn fatal(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "fatal: {what}");
    // The log's own thread needs a moment to write the line.
    std::thread::sleep(Duration::from_millis(50));
    std::process::exit(1)
}

/// Ends the process when the thread that holds it panics: a member of which one of these threads is gone would take
/// requests and answer none. The panic itself has been printed by then, and what was acknowledged is in the log.
struct EndsWithIt;

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
