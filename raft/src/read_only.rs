//! Linearizable reads that wait for their leader's confirmation.
//!
//! Requests are numbered per leadership. A heartbeat carries the number of the newest one, eight bytes little-endian;
//! an answer that echoes it confirms everything up to that number, so that lost rounds heal with the next heartbeat.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mutant::{self, Mutant};
use crate::proto::Message;
use crate::tracker::Configuration;

/// A confirmed read (thesis, 6.4, steps 3 and 4): apply up to `index`, then read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// Commit index at the time of the request, or later.
    pub index: u64,
    /// The request's bytes, as given to `read_index`.
    pub context: Bytes,
}

/// A request and the commit index when it came.
#[derive(Clone, Debug)]
pub(crate) struct ReadRequest {
    pub(crate) index: u64,
    pub(crate) request: Message,
}

/// The queue of one leadership.
///
/// Invariant: `queue[i]` has number `first + i`, and no voter has acknowledged more than was handed out.
#[derive(Clone, Debug)]
pub(crate) struct ReadQueue {
    queue: VecDeque<ReadRequest>,
    first: u64,
    /// Highest number echoed by each peer, in ID order.
    acks: Vec<(u64, u64)>,
}

impl Default for ReadQueue {
    fn default() -> Self {
        // Numbers begin at 1: 0 is "acknowledged nothing".
        Self { queue: VecDeque::new(), first: 1, acks: Vec::new() }
    }
}

impl ReadQueue {
    /// Number of the newest request.
    fn newest(&self) -> u64 {
        self.first + self.queue.len() as u64 - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn push(&mut self, index: u64, request: Message) {
        self.queue.push_back(ReadRequest { index, request });
    }

    /// What heartbeats carry while requests wait; empty when none does.
    pub(crate) fn context(&self) -> Bytes {
        if self.queue.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.newest().to_le_bytes())
    }

    /// Takes `from`'s echo of `context`. Bytes that were never sent count for nothing.
    pub(crate) fn acknowledge(&mut self, from: u64, context: &[u8]) {
        let Ok(bytes) = <[u8; 8]>::try_from(context) else { return };
        let mut number = u64::from_le_bytes(bytes);
        if number > self.newest() {
            return;
        }
        if mutant::active(Mutant::ReadAckOfAnyRound) {
            number = self.newest();
        }
        match self.acks.binary_search_by_key(&from, |(id, _)| *id) {
            Ok(at) => self.acks[at].1 = number.max(self.acks[at].1),
            Err(at) => self.acks.insert(at, (from, number)),
        }
    }

    /// Takes out the requests that quorums of voters have confirmed; `leader` confirms its own.
    pub(crate) fn take_confirmed(&mut self, config: &Configuration, leader: u64) -> Vec<ReadRequest> {
        let newest = self.newest();
        let acked = |id: u64| match self.acks.binary_search_by_key(&id, |(peer, _)| *peer) {
            _ if id == leader => newest,
            Ok(at) => self.acks[at].1,
            Err(_) => 0,
        };
        let confirmed = if mutant::active(Mutant::ReadWithoutQuorum) {
            newest
        } else {
            config.voters.committed_index(acked).min(newest)
        };
        let n = (confirmed + 1).saturating_sub(self.first) as usize;
        self.first += n as u64;
        self.queue.drain(..n).collect()
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn drain_all(&mut self) -> Vec<ReadRequest> {
        self.queue.drain(..).collect()
    }
}
