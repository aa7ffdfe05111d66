//! What happens when: events in order of time, and those of one moment in the order in which they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use stanchion_raft::Message;

/// Something that will happen. Those of a member carry the number of its start: they end with it.
#[derive(Debug)]
pub(crate) enum Event {
    /// A member, in its slot, in its start.
    Member(usize, u64, Work),
    /// A message arrives.
    Deliver(Message),
    /// A database arrives, with the message that announces it.
    Database(Message, Vec<u8>),
    /// A member that is down starts.
    Start(usize),
    /// A client begins its next operation.
    Client(usize),
    /// An operation reaches its member.
    Arrive(u64),
    /// A client's patience is over.
    Timeout(u64),
    /// Somebody who stands for election does the next thing.
    Elector(usize),
    /// A watching client looks whether there is news.
    Watcher(usize),
    /// The next intervention.
    Intervene,
    /// A disk is well again.
    DiskWell(usize),
    /// The network is whole again, if no later partition has come.
    NetworkWell(u64),
    /// A look at everything.
    Inspect,
}

/// What a member has to do.
#[derive(Debug)]
pub(crate) enum Work {
    Tick,
    /// The log writer takes what has gathered.
    Write,
    /// The log's sync is done.
    Sync,
    /// The applier takes the next batch.
    Apply,
    /// Raft and the waiting clients hear of the batch.
    Told,
    /// The committer's turn.
    Commit,
    /// The database is brought up to a release of the log.
    Release,
    /// The primary looks for leases that ran out.
    Leases,
    /// A scan of history for watchers begins.
    CatchUp,
    /// It ends.
    CaughtUp,
    /// A database that was sent to this member has arrived, or has not.
    SnapshotSent(u64, bool),
}

#[derive(Debug)]
struct Planned {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// All that is planned.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Planned>,
    planned: u64,
}

impl Queue {
    /// Plans an event at a time in microseconds.
    pub(crate) fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.heap.push(Planned { at, order: self.planned, event });
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|planned| (planned.at, planned.event))
    }
}
