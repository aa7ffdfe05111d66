//! One running member: the replica's two halves, its log and its store, and what waits between them.
//!
//! What lives here: the state of one process, and the steps that need nothing of the world. What may not: time, the
//! network, checks.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use stanchion_disk::{Disk, SimDisk};
use stanchion_mvcc::{Store, StoreOptions};
use stanchion_raft::{ConfChange, Message, Snapshot};
use stanchion_replica::apply::{AppliedWork, Applier, Config};
use stanchion_replica::boot::{Bootstrap, Layout, boot, install_database};
use stanchion_replica::consensus::{AppendWork, ApplyWork, Consensus, ConsensusConfig};
use stanchion_replica::journal::{Journal, Retention};
use stanchion_replica::snapshot::of_image;
use stanchion_replica::{Release, ReleasePolicy, Round};
use stanchion_snap::Snapshotter;
use stanchion_wal::{Options, Prepare};
use stanchion_watch::{CaughtUp, Hub};

use crate::check::LeaseClock;
use crate::mutant::{self, Mutant};
use crate::scenario::Scenario;

/// Answers that a watch stream holds: few, so that watchers fall behind.
const STREAM_CAPACITY: usize = 4;
/// The least TTL of a lease, in seconds.
pub(crate) const LEAST_TTL: i64 = 2;
/// Where a member's files are on its disk.
const DATA_DIR: &str = "/data";

/// Why a member goes no further.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It says itself that it must stop; its disk may have failed.
    Stopped(String),
    /// A check does not hold.
    Broken(String),
}

impl From<String> for Trouble {
    fn from(what: String) -> Trouble {
        Trouble::Broken(what)
    }
}

/// What the members' own errors mean.
pub(crate) fn stopped(what: &str) -> impl Fn(&dyn std::error::Error) -> Trouble + '_ {
    move |error| Trouble::Stopped(format!("{what}: {error}"))
}

/// Passes on an error of a member.
macro_rules! or_stop {
    ($result:expr, $what:literal) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(crate::world::node::stopped($what)(&error)),
        }
    };
}
pub(crate) use or_stop;

/// A clock that runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    since: u64,
    base: u64,
    /// Thousandths of the true rate.
    pub(crate) rate: u64,
}

impl Clock {
    pub(crate) fn new(now: u64, rate: u64) -> Clock {
        Clock { since: now, base: 0, rate }
    }

    /// Its own microseconds at a true time.
    pub(crate) fn at(&self, now: u64) -> u64 {
        self.base + (now - self.since) * self.rate / 1000
    }

    pub(crate) fn millis(&self, now: u64) -> u64 {
        self.at(now) / 1000
    }

    /// True microseconds that pass while it counts `own`.
    pub(crate) fn lasts(&self, own: u64) -> u64 {
        own * 1000 / self.rate
    }

    /// Runs at another rate from now on, and leaps ahead.
    pub(crate) fn change(&mut self, now: u64, rate: u64, leap: u64) {
        *self = Clock { since: now, base: self.at(now) + leap, rate };
    }
}

/// One running member.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    /// The number of this start, unlike any other's.
    pub(crate) start: u64,
    pub(crate) consensus: Consensus,
    pub(crate) applier: Applier,
    pub(crate) journal: Journal,
    pub(crate) snapshots: Arc<Snapshotter>,
    disk: Arc<dyn Disk>,
    layout: Layout,
    pub(crate) hub: Hub,
    pub(crate) clock: Clock,
    /// Waits for the log writer.
    pub(crate) to_append: VecDeque<AppendWork>,
    /// Is in the log, not synced.
    pub(crate) appended: Vec<AppendWork>,
    pub(crate) releases: VecDeque<(Release, Box<Snapshot>)>,
    pub(crate) writing: bool,
    /// Waits for the applier.
    pub(crate) to_apply: VecDeque<ApplyWork>,
    /// Is applied; raft and clients do not know yet.
    pub(crate) applied: Option<AppliedWork>,
    pub(crate) applying: bool,
    pub(crate) release: Option<Release>,
    /// Reads by their round.
    pub(crate) reads: BTreeMap<Round, Vec<u64>>,
    /// Confirmed reads by the index that must be applied.
    pub(crate) granted: BTreeMap<u64, Vec<u64>>,
    /// What raft and clients know to be applied.
    pub(crate) told: u64,
    pub(crate) proposals: Vec<Bytes>,
    pub(crate) changes: Vec<ConfChange>,
    pub(crate) leads: Option<u64>,
    pub(crate) opened_term: u64,
    pub(crate) leases: LeaseClock,
    pub(crate) caught_up: Option<CaughtUp>,
    pub(crate) catching_up: bool,
    pub(crate) commit_index: u64,
}

/// How a member is started.
pub(crate) struct StartWith<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) bootstrap: &'a Bootstrap,
    pub(crate) disk: &'a SimDisk,
    pub(crate) start: u64,
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
}

impl Node {
    /// Starts from what is on the disk.
    pub(crate) fn start(with: &StartWith<'_>) -> Result<Node, Trouble> {
        let scenario = with.scenario.with_flags_of(with.start);
        let config = Config {
            quota_bytes: scenario.quota_bytes,
            max_learners: 1,
            persist_lease_checkpoints: true,
            lease: stanchion_lease::Config {
                min_ttl_seconds: LEAST_TTL,
                checkpoint_interval_ms: scenario.checkpoint_ms,
                ..stanchion_lease::Config::default()
            },
        };
        let layout = layout();
        let disk: Arc<dyn Disk> = Arc::new(with.disk.clone());
        let wal = Options::default().segment_size(scenario.segment_bytes).prepare(Prepare::OnDemand);
        let booted =
            or_stop!(boot(disk.clone(), &layout, config, &store_options(), wal, with.bootstrap), "start");
        let id = booted.identity.member_id;
        let consensus_config = ConsensusConfig {
            election_ticks: scenario.election_ticks,
            heartbeat_ticks: 1,
            pre_vote: scenario.pre_vote,
            read_retry_ticks: 5,
            release: ReleasePolicy {
                snapshot_count: scenario.snapshot_count,
                catch_up_entries: scenario.catch_up_entries,
                ..ReleasePolicy::default()
            },
            seed: with.seed,
            start_id: with.start,
        };
        let mut consensus = or_stop!(Consensus::new(id, &booted.start, &consensus_config), "log");
        or_stop!(consensus.start(), "raft");
        let retention = Retention { segments: 1, snapshots: 2 };
        Ok(Node {
            id,
            start: with.start,
            told: booted.start.applied,
            commit_index: consensus.committed(),
            consensus,
            hub: Hub::new(booted.applier.store().revision(), STREAM_CAPACITY),
            applier: booted.applier,
            journal: Journal::new(disk.clone(), booted.wal, booted.snapshots.clone(), retention),
            snapshots: booted.snapshots,
            disk,
            layout,
            clock: with.clock,
            to_append: VecDeque::new(),
            appended: Vec::new(),
            releases: VecDeque::new(),
            writing: false,
            to_apply: VecDeque::new(),
            applied: None,
            applying: false,
            release: None,
            reads: BTreeMap::new(),
            granted: BTreeMap::new(),
            proposals: Vec::new(),
            changes: Vec::new(),
            leads: None,
            opened_term: 0,
            leases: LeaseClock::default(),
            caught_up: None,
            catching_up: false,
        })
    }

    /// Everything applied, committed, as a snapshot and the database's bytes.
    pub(crate) fn database(&self) -> Result<(Snapshot, Vec<u8>), Trouble> {
        let ahead = mutant::active(Mutant::SnapshotAheadOfFile);
        if !ahead {
            or_stop!(self.applier.store().commit(), "commit");
        }
        let image = self.applier.store().read();
        let mut bytes = Vec::new();
        or_stop!(image.write_file_to(&mut bytes), "reading the database");
        let mut snapshot = or_stop!(of_image(&image), "reading the database");
        if ahead {
            let applied = self.applier.applied();
            (snapshot.metadata.index, snapshot.metadata.term) = (applied.index, applied.term);
        }
        Ok((snapshot, bytes))
    }

    /// The snapshot that a release is marked with.
    pub(crate) fn committed(&self) -> Result<Snapshot, Trouble> {
        or_stop!(self.applier.store().commit(), "commit");
        Ok(or_stop!(of_image(&self.applier.store().read()), "reading the database"))
    }

    /// Puts a database beside the own one, for the message that raft is given next.
    pub(crate) fn receive(&mut self, message: &Message, bytes: &[u8]) -> Result<(), Trouble> {
        let Some(snapshot) = &message.snapshot else { return Ok(()) };
        let mut receiver =
            or_stop!(self.snapshots.receive_database(snapshot.metadata.index), "receiving a database");
        or_stop!(receiver.write(bytes), "receiving a database");
        or_stop!(receiver.finish(bytes.len() as u64), "receiving a database");
        Ok(())
    }

    /// A received database takes the place of the own one.
    pub(crate) fn install(&mut self, index: u64) -> Result<(), Trouble> {
        if mutant::active(Mutant::InstallForgotten) {
            return Ok(());
        }
        or_stop!(install_database(&self.snapshots, &self.layout, index), "installing a database");
        let opened = Store::open(self.disk.clone(), &self.layout.db, &store_options());
        let (store, recovered) = or_stop!(opened, "opening a received database");
        or_stop!(self.applier.install(Arc::new(store), &recovered), "taking over a database");
        if !mutant::active(Mutant::WatchNotRestored) {
            self.hub.restore(self.applier.store().revision());
        }
        self.told = self.told.max(self.applier.applied().index);
        Ok(())
    }
}

/// Where a member's files are on its disk.
pub(crate) fn layout() -> Layout {
    Layout::new(Path::new(DATA_DIR), None)
}

/// One thread: the simulation has no other.
fn store_options() -> StoreOptions {
    StoreOptions { restore_threads: 1, ..StoreOptions::default() }
}
