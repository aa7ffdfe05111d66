//! What happened: one number for all of it, the last of it per member, or the whole of it for a picture.
//!
//! The hash takes in every record in order. Two runs with equal hashes have done the same.

use std::collections::VecDeque;
use std::fmt;

use stanchion_raft::MessageType;

use crate::random::mix;

/// Records that are kept of each member, for the table of a failure.
const KEPT: usize = 24;

/// What happened to a member, a client or the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A message has come from another member.
    Received(MessageType, u64),
    /// So many entries, up to this index, were written to the log, not yet synced.
    Appended(u64, u64),
    /// The log is durable.
    Synced,
    /// Everything up to this index is applied; the second number is the store's revision.
    Applied(u64, u64),
    /// The store's buffer is in its file.
    Committed,
    /// The member leads this term.
    Leads(u64),
    /// The member follows (0: nobody) in this term.
    Follows(u64, u64),
    /// The member has started from this applied index and revision.
    Started(u64, u64),
    /// The power went; the disk keeps what was synced and some of the rest.
    PowerCut,
    /// The process was killed; the disk keeps everything.
    Killed,
    /// The member stopped because its disk failed.
    DiskFailed,
    /// The process stands still until this time, in microseconds.
    Paused(u64),
    /// The disk is gone, and the member with it.
    DiskLost,
    /// What is on the disk was found damaged and is not served: the member needs another disk.
    Damaged,
    /// A bit of this file turned over, at this offset: 0 for the log, 1 for snapshots.
    BitFlipped(u64, u64),
    /// The member was removed from the cluster and has stopped.
    Removed,
    /// The log was released up to this mark.
    Released(u64),
    /// The database at this index leaves for that member.
    SnapshotSent(u64, u64),
    /// A database at this index was put in place.
    Installed(u64),
    /// A client asks: its number and the operation's.
    Asked(u64, u64),
    /// A client is answered: the operation's number and the revision.
    Answered(u64, u64),
    /// A client's operation was refused; it had no effect.
    Refused(u64),
    /// A client waits no longer: the operation's outcome is unknown.
    TimedOut(u64),
    /// A watcher has got events up to this revision.
    Watched(u64, u64),
    /// An elector was told that it leads, by the key that this revision created.
    Elected(u64, u64),
    /// A fault or another intervention: its number and its kind.
    Intervened(u64, &'static str),
    /// All faults are over.
    Healed,
}

impl What {
    /// The number of the kind and two numbers, for the hash.
    fn numbers(self) -> [u64; 3] {
        match self {
            What::Received(kind, from) => [1, kind as u64, from],
            What::Appended(entries, last) => [2, entries, last],
            What::Synced => [3, 0, 0],
            What::Applied(index, revision) => [4, index, revision],
            What::Committed => [5, 0, 0],
            What::Leads(term) => [6, term, 0],
            What::Follows(leader, term) => [7, leader, term],
            What::Started(applied, revision) => [8, applied, revision],
            What::PowerCut => [9, 0, 0],
            What::Killed => [10, 0, 0],
            What::DiskFailed => [11, 0, 0],
            What::Paused(until) => [12, until, 0],
            What::DiskLost => [13, 0, 0],
            What::Removed => [14, 0, 0],
            What::Released(index) => [15, index, 0],
            What::SnapshotSent(to, index) => [16, to, index],
            What::Installed(index) => [17, index, 0],
            What::Asked(client, op) => [18, client, op],
            What::Answered(op, revision) => [19, op, revision],
            What::Refused(op) => [20, op, 0],
            What::TimedOut(op) => [21, op, 0],
            What::Watched(watcher, revision) => [22, watcher, revision],
            What::Intervened(n, kind) => {
                [23, n, kind.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))]
            }
            What::Healed => [24, 0, 0],
            What::Damaged => [25, 0, 0],
            What::BitFlipped(what, offset) => [26, what, offset],
            What::Elected(elector, created) => [27, elector, created],
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Received(kind, from) => write!(f, "{kind:?} from {from:x}"),
            What::Appended(entries, last) => write!(f, "appends {entries} entries up to {last}"),
            What::Synced => f.write_str("log synced"),
            What::Applied(index, revision) => write!(f, "applied up to {index}, revision {revision}"),
            What::Committed => f.write_str("store committed"),
            What::Leads(term) => write!(f, "LEADS term {term}"),
            What::Follows(0, term) => write!(f, "knows no leader in term {term}"),
            What::Follows(leader, term) => write!(f, "follows {leader:x} in term {term}"),
            What::Started(applied, revision) => write!(f, "STARTED, applied {applied}, revision {revision}"),
            What::PowerCut => f.write_str("POWER CUT"),
            What::Killed => f.write_str("KILLED"),
            What::DiskFailed => f.write_str("STOPPED: disk failed"),
            What::Paused(until) => write!(f, "PAUSED until {}", Seconds(*until)),
            What::DiskLost => f.write_str("DISK LOST"),
            What::Damaged => f.write_str("DAMAGE FOUND, not started"),
            What::BitFlipped(0, offset) => write!(f, "BIT FLIPPED in the log at {offset}"),
            What::BitFlipped(_, offset) => write!(f, "BIT FLIPPED in a snapshot at {offset}"),
            What::Removed => f.write_str("REMOVED"),
            What::Released(index) => write!(f, "log released at {index}"),
            What::SnapshotSent(to, index) => write!(f, "sends database at {index} to {to:x}"),
            What::Installed(index) => write!(f, "database at {index} installed"),
            What::Asked(client, op) => write!(f, "client {client} asks #{op}"),
            What::Answered(op, revision) => write!(f, "#{op} answered at revision {revision}"),
            What::Refused(op) => write!(f, "#{op} refused"),
            What::TimedOut(op) => write!(f, "#{op} timed out"),
            What::Watched(watcher, revision) => write!(f, "watcher {watcher} told up to {revision}"),
            What::Elected(elector, created) => write!(f, "elector {elector} ELECTED by the key of {created}"),
            What::Intervened(n, kind) => write!(f, "intervention {n}: {kind}"),
            What::Healed => f.write_str("all faults are over"),
        }
    }
}

/// Simulated time in seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// One record: simulated microseconds, whom it concerns (`None`: all), what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Simulated microseconds since the start.
    pub at: u64,
    /// The member's slot; `None` for the whole cluster.
    pub slot: Option<usize>,
    /// What happened.
    pub what: What,
}

/// Everything that happened, hashed; the end of it kept.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    last: Vec<VecDeque<Record>>,
    whole: Option<Vec<Record>>,
}

impl Trace {
    /// An empty trace, which keeps the whole story if `whole`.
    #[must_use]
    pub fn new(whole: bool) -> Trace {
        Trace { hash: 0x5374_616e_6368_696f, last: Vec::new(), whole: whole.then(Vec::new) }
    }

    /// Adds a record.
    pub fn add(&mut self, at: u64, slot: Option<usize>, what: What) {
        let [kind, a, b] = what.numbers();
        let place = slot.map_or(0, |slot| slot as u64 + 1);
        self.hash = mix(self.hash ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (kind << 56 | place << 48));
        self.hash = mix(self.hash ^ a.wrapping_mul(3) ^ b.rotate_left(32));
        let record = Record { at, slot, what };
        let row = place as usize;
        if self.last.len() <= row {
            self.last.resize_with(row + 1, VecDeque::new);
        }
        if self.last[row].len() == KEPT {
            self.last[row].pop_front();
        }
        self.last[row].push_back(record);
        if let Some(whole) = &mut self.whole {
            whole.push(record);
        }
    }

    /// The number for everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last records of each member and of the cluster, in order of time.
    #[must_use]
    pub fn last(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.last.iter().flatten().copied().collect();
        records.sort_by_key(|record| record.at);
        records
    }

    /// The whole story, if it was kept.
    #[must_use]
    pub fn whole(&self) -> &[Record] {
        self.whole.as_deref().unwrap_or_default()
    }
}
