//! What one seed means: the cluster, its tuning, the load, and which faults at which rates.
//!
//! Swarm testing: each kind of fault is on or off for a whole run, so that some runs see one kind alone and long, and
//! others many at once. What may not live here: anything that happens during the run.

use serde::{Deserialize, Serialize};

use crate::random::{Random, mix};

/// A kind of trouble that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Messages are lost.
    Loss,
    /// Messages take long, and pass each other.
    Delay,
    /// Messages come twice.
    Duplication,
    /// The network falls into two parts, or loses one direction, or holds together at one member only.
    Partition,
    /// The power of a member goes, at once or in the middle of a change on its disk.
    PowerCut,
    /// The process of a member is killed; its disk keeps all.
    Kill,
    /// Syncs, writes and names fail on a disk for a while.
    DiskError,
    /// A disk is full for a while.
    DiskFull,
    /// Disks are slow.
    SlowDisk,
    /// Clocks run at different rates.
    Clock,
    /// Processes stand still.
    Pause,
    /// Members are added as learners, promoted and removed.
    Membership,
    /// A disk is lost for good and its member replaced.
    DiskLoss,
    /// Leadership is handed over.
    Transfer,
    /// History is compacted.
    Compaction,
    /// The store's file is made shorter while it is in use.
    Shrink,
    /// A bit of a log or snapshot file turns over while its member is down.
    BitFlip,
    /// The alarm of a full file is raised and lifted, and some members have a small quota.
    Alarm,
    /// Members come back with other flags.
    Flags,
    /// Members run releases of different age and come back with newer ones; some hold the cluster's version.
    Upgrade,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 20] = [
        Fault::Loss,
        Fault::Delay,
        Fault::Duplication,
        Fault::Partition,
        Fault::PowerCut,
        Fault::Kill,
        Fault::DiskError,
        Fault::DiskFull,
        Fault::SlowDisk,
        Fault::Clock,
        Fault::Pause,
        Fault::Membership,
        Fault::DiskLoss,
        Fault::Transfer,
        Fault::Compaction,
        Fault::Shrink,
        Fault::BitFlip,
        Fault::Alarm,
        Fault::Flags,
        Fault::Upgrade,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Loss => "loss",
            Fault::Delay => "delay",
            Fault::Duplication => "duplication",
            Fault::Partition => "partition",
            Fault::PowerCut => "power-cut",
            Fault::Kill => "kill",
            Fault::DiskError => "disk-error",
            Fault::DiskFull => "disk-full",
            Fault::SlowDisk => "slow-disk",
            Fault::Clock => "clock",
            Fault::Pause => "pause",
            Fault::Membership => "membership",
            Fault::DiskLoss => "disk-loss",
            Fault::Transfer => "transfer",
            Fault::Compaction => "compaction",
            Fault::Shrink => "shrink",
            Fault::BitFlip => "bit-flip",
            Fault::Alarm => "alarm",
            Fault::Flags => "flags",
            Fault::Upgrade => "upgrade",
        }
    }
}

/// Everything that a run is drawn from, beside the seed itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The seed of every draw.
    pub seed: u64,
    /// Steps of the scheduler until faults stop.
    pub steps: u64,
    /// Members that found the cluster, 1 to 7.
    pub members: usize,
    /// The kinds of faults that are on.
    pub faults: Vec<Fault>,
    /// Interventions that are left out, by number; the shrinker fills it.
    pub skipped: Vec<u64>,
    /// Mean pause between interventions, in microseconds.
    pub intervention_us: u64,
    /// Probability that a message is lost.
    pub loss: f64,
    /// Probability that a message comes twice.
    pub duplication: f64,
    /// Probability that a message takes up to [`delay_us`](Self::delay_us).
    pub late: f64,
    /// The longest a late message takes, in microseconds.
    pub delay_us: u64,
    /// Clients that read and write.
    pub clients: usize,
    /// Clients that watch.
    pub watchers: usize,
    /// Clients that stand for election; none in replay files from before there were elections.
    #[serde(default)]
    pub electors: usize,
    /// Clients that observe the election; none in those files, too.
    #[serde(default)]
    pub observers: usize,
    /// Operations in a hundred that are about leases.
    pub lease_share: u64,
    /// Keys.
    pub keys: u64,
    /// Mean pause between a client's operations, in microseconds.
    pub think_us: u64,
    /// How long a client waits for an answer, in microseconds.
    pub patience_us: u64,
    /// Entries between marks in the log.
    pub snapshot_count: u64,
    /// Entries kept behind a mark.
    pub catch_up_entries: u64,
    /// Size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// Pause between commits of the store, in microseconds.
    pub commit_us: u64,
    /// Rows of one compaction step.
    pub compaction_rows: usize,
    /// Whether elections ask first.
    pub pre_vote: bool,
    /// Ticks until an election: few make many elections.
    pub election_ticks: u32,
    /// The longest sync of a log, in microseconds.
    pub sync_us: u64,
    /// Pause between checkpoints of a lease, in milliseconds; `None`: there are none.
    pub checkpoint_ms: Option<u64>,
    /// Operations in a hundred that are about locks.
    pub lock_share: u64,
    /// Bytes that a store's file may take before its member raises the alarm; `None`: no limit.
    pub quota_bytes: Option<u64>,
}

/// A scenario that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The cluster's size.
    #[error("a cluster has 1 to 7 founding members, not {found}")]
    Members {
        /// What was asked for.
        found: usize,
    },
    /// No steps.
    #[error("a run has at least one step")]
    NoSteps,
    /// No clients.
    #[error("a run without clients proves nothing: at least one is needed")]
    NoClients,
    /// More clients of a kind than there are ids for.
    #[error("{found} {what} are too many: at most {most}")]
    TooMany {
        /// Whom there are too many of.
        what: &'static str,
        /// What was asked for.
        found: usize,
        /// The most.
        most: usize,
    },
    /// A duration or a number of keys of zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// What is zero.
        what: &'static str,
    },
    /// A probability outside of 0 to 1.
    #[error("{what} is a probability, 0 to 1, not {found}")]
    Probability {
        /// What it is of.
        what: &'static str,
        /// What was asked for.
        found: String,
    },
}

/// Clients of each kind that a run may have.
pub const CLIENTS_MAX: usize = 1000;

/// One tick of raft, in microseconds of the member's own clock.
pub const TICK_US: u64 = 100_000;
/// Steps of a run unless told otherwise.
pub const STEPS: u64 = 12_000;

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn of_seed(seed: u64, steps: u64) -> Scenario {
        let mut random = Random::of(seed, "scenario", 0);
        let members = *random.pick(&[1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 7]);
        let calm = random.chance(0.05);
        let density = random.between(10, 60) as f64 / 100.0;
        let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| random.chance(density) && !calm).collect();
        // From a stream of their own: a seed without elections is what it was before there were any.
        let mut election = Random::of(seed, "election", 0);
        let electors = *election.pick(&[0, 0, 0, 0, 2, 3]);
        let observers = if electors > 0 { election.between(1, 2) } else { 0 } as usize;
        let quota = *random.pick(&[None, Some(100 << 10), Some(400 << 10)]);
        Scenario {
            quota_bytes: quota.filter(|_| faults.contains(&Fault::Alarm)),
            checkpoint_ms: *random.pick(&[None, Some(500), Some(2_000)]),
            lock_share: *random.pick(&[0, 0, 10, 30]),
            electors,
            observers,
            seed,
            steps,
            members,
            faults,
            skipped: Vec::new(),
            intervention_us: *random.pick(&[100_000, 300_000, 1_000_000, 3_000_000]),
            loss: *random.pick(&[0.001, 0.01, 0.05, 0.2]),
            duplication: *random.pick(&[0.01, 0.1, 0.3]),
            late: *random.pick(&[0.01, 0.1, 0.5]),
            delay_us: *random.pick(&[20_000, 200_000, 1_500_000]),
            clients: random.between(1, 6) as usize,
            watchers: random.between(0, 3) as usize,
            lease_share: *random.pick(&[0, 0, 5, 20]),
            keys: *random.pick(&[1, 3, 8, 30]),
            think_us: *random.pick(&[2_000, 20_000, 100_000, 400_000]),
            patience_us: *random.pick(&[1_000_000, 5_000_000]),
            snapshot_count: *random.pick(&[5, 20, 100, 1000]),
            catch_up_entries: *random.pick(&[0, 3, 20, 200]),
            segment_bytes: *random.pick(&[4 << 10, 64 << 10, 64 << 10, 1 << 20]),
            commit_us: *random.pick(&[20_000, 100_000, 500_000, 2_000_000]),
            compaction_rows: *random.pick(&[1, 10, 1000]),
            pre_vote: random.chance(0.6),
            election_ticks: *random.pick(&[3, 10, 10]),
            sync_us: *random.pick(&[200, 2_000, 20_000]),
        }
    }

    /// Whether a kind of fault is on.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether clients ask for leases.
    #[must_use]
    pub fn uses_leases(&self) -> bool {
        self.lease_share > 0 || self.lock_share > 0 || self.electors > 0
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn check(&self) -> Result<(), ScenarioError> {
        match self {
            Scenario { members, .. } if !(1..=7).contains(members) => {
                Err(ScenarioError::Members { found: *members })
            }
            Scenario { steps: 0, .. } => Err(ScenarioError::NoSteps),
            Scenario { clients: 0, .. } => Err(ScenarioError::NoClients),
            _ => self.check_numbers(),
        }
    }

    /// Numbers that a replay file could hold and no draw does.
    fn check_numbers(&self) -> Result<(), ScenarioError> {
        let numbers = [
            ("clients", self.clients),
            ("watchers", self.watchers),
            ("electors", self.electors),
            ("observers", self.observers),
        ];
        for (what, found) in numbers {
            if found > CLIENTS_MAX {
                return Err(ScenarioError::TooMany { what, found, most: CLIENTS_MAX });
            }
        }
        if self.election_ticks < 2 {
            return Err(ScenarioError::Zero { what: "election_ticks, beyond the heartbeat's 1," });
        }
        let numbers = [
            ("intervention_us", self.intervention_us),
            ("keys", self.keys),
            ("think_us", self.think_us),
            ("patience_us", self.patience_us),
            ("snapshot_count", self.snapshot_count),
            ("segment_bytes", self.segment_bytes),
            ("commit_us", self.commit_us),
            ("compaction_rows", self.compaction_rows as u64),
        ];
        if let Some((what, _)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Err(ScenarioError::Zero { what });
        }
        let shares = [("loss", self.loss), ("duplication", self.duplication), ("late", self.late)];
        match shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((what, found)) => Err(ScenarioError::Probability { what, found: found.to_string() }),
            None => Ok(()),
        }
    }

    /// The scenario as a member of it is started: with other flags than the last time, if that fault is on.
    #[must_use]
    pub fn with_flags_of(&self, start: u64) -> Scenario {
        let mut flagged = self.clone();
        if self.has(Fault::Flags) {
            let drawn = Scenario::of_seed(mix(self.seed ^ mix(start)), self.steps);
            flagged.snapshot_count = drawn.snapshot_count;
            flagged.catch_up_entries = drawn.catch_up_entries;
            flagged.segment_bytes = drawn.segment_bytes;
            flagged.compaction_rows = drawn.compaction_rows;
            flagged.checkpoint_ms = drawn.checkpoint_ms;
            // Some with PreVote and some without, one of these removed and not told: it raises the term of those who
            // know it for ever, the one who could win never hears of that term, and nobody is elected. etcd's raft
            // has the same trap, so an operator changes this flag only while membership rests.
            if !self.has(Fault::Membership) {
                flagged.pre_vote = drawn.pre_vote;
            }
        }
        flagged
    }
}
