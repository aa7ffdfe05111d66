//! What every part of one transport holds, and its limits.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Waits;
use crate::handler::{Handler, Observer};
use crate::identity::Identity;
use crate::refusals::Refusals;

/// Time limits of a transport. [`Timing::for_election`] gives etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Longest wait for a connection.
    pub dial: Duration,
    /// Longest silence of a stream before it is closed.
    pub read: Duration,
    /// Longest time that a peer may take no bytes.
    pub write: Duration,
    /// Time between heartbeats of a stream.
    pub heartbeat: Duration,
    /// Shortest time between two dials of a stream. Each failure doubles it, up to ten times this.
    pub redial: Duration,
    /// Time between probes.
    pub probe: Duration,
    /// Longest time that one message by the pipeline may take.
    pub post: Duration,
    /// Longest pause in the transfer of a snapshot.
    pub snapshot_stall: Duration,
    /// Most bytes of a snapshot that leave in a second: who catches up may take longer, so that clients do not.
    pub snapshot_rate: u64,
}

impl Timing {
    /// etcd's limits for an election timeout. Snapshots, which etcd sends as fast as it can, leave no faster than a gigabit
    /// network carries them.
    #[must_use]
    pub fn for_election(election: Duration) -> Self {
        Self {
            dial: Duration::from_secs(1) + election,
            read: Duration::from_secs(5),
            write: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5) / 3,
            redial: Duration::from_millis(100),
            probe: Duration::from_secs(4),
            post: Duration::from_secs(5) + election,
            snapshot_stall: Duration::from_secs(30),
            snapshot_rate: 100 << 20,
        }
    }
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) timing: Timing,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) refusals: Refusals,
}

impl Shared {
    pub(crate) fn waits(&self) -> Waits {
        Waits { dial: self.timing.dial, write: self.timing.write }
    }
}
