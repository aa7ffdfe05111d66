//! What must hold at every moment, whatever the network, the disks and the crashes do.
//!
//! The oracle sees every node after every step and every message that leaves. It remembers the whole history: leaders,
//! votes, committed and applied entries, configurations. Each check returns what it saw when it does not hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use stanchion_raft::{ConfState, Entry, MemStorage, Message, MessageType, ReadState, Role, Storage};

use crate::cluster::Node;

/// A broken invariant, in words.
pub type Check = Result<(), String>;

macro_rules! hold {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}

/// What is remembered of one node between two looks.
#[derive(Clone, Debug, Default)]
struct Seen {
    incarnation: u32,
    commit: u64,
    term: u64,
    leading: Option<(u64, u64)>,
}

/// History of one schedule.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Term of each committed entry by index.
    committed: BTreeMap<u64, u64>,
    /// Term and payload of each applied entry by index.
    applied: BTreeMap<u64, (u64, Bytes)>,
    /// Configuration after each applied change by index.
    configurations: BTreeMap<u64, ConfState>,
    /// Who led a term, in which incarnation.
    leaders: BTreeMap<u64, (u64, u32)>,
    /// Whom a node voted for in a term.
    votes: BTreeMap<(u64, u64), u64>,
    /// Commit index that a read must reach, by context.
    reads: BTreeMap<u64, u64>,
    seen: BTreeMap<u64, Seen>,
}

impl Oracle {
    /// Starts with what all founders have: a snapshot at `index`.
    pub fn founded(index: u64, term: u64, configuration: &ConfState) -> Self {
        let mut this = Self::default();
        this.committed.insert(index, term);
        this.configurations.insert(index, configuration.clone());
        this
    }

    /// Highest index known to be committed.
    pub fn committed_index(&self) -> u64 {
        self.committed.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// Configuration at an applied index.
    pub fn configuration_at(&self, index: u64) -> ConfState {
        self.configurations.range(..=index).next_back().map(|(_, c)| c.clone()).unwrap_or_default()
    }

    /// A read is issued: its answer must be at least what is committed now.
    pub fn read_issued(&mut self, context: u64) {
        self.reads.insert(context, self.committed_index());
    }

    pub fn read_answered(&self, id: u64, read: &ReadState) -> Check {
        let context = u64::from_le_bytes(read.context[..].try_into().map_err(|_| "a read lost its context")?);
        let least = self.reads.get(&context).ok_or("an answer to a read that nobody asked for")?;
        hold!(
            read.index >= *least,
            "node {id} answers a read with {}, {least} was committed before",
            read.index
        );
        Ok(())
    }

    /// Looks at a node after a step. `durable` tells the term of an entry on each node's disk.
    pub fn look(
        &mut self,
        node: &Node,
        incarnation: u32,
        durable: &dyn Fn(u64, u64) -> Option<u64>,
    ) -> Check {
        let status = node.status();
        let (id, term, commit) = (status.id, status.hard_state.term, status.hard_state.commit);
        let mut seen = self.seen.remove(&id).unwrap_or_default();
        if seen.incarnation != incarnation {
            // What was not durable is forgotten, the term too.
            seen = Seen { incarnation, ..Seen::default() };
        }
        hold!(commit >= seen.commit, "node {id}: commit went from {} to {commit}", seen.commit);
        hold!(term >= seen.term, "node {id}: term went from {} to {term}", seen.term);
        hold!(
            status.applied <= commit && commit <= status.last_index,
            "node {id}: applied {}, committed {commit}, last {}",
            status.applied,
            status.last_index
        );
        self.check_commit(node, seen.commit, commit, durable)?;
        if status.soft_state.role == Role::Leader {
            self.check_leader(node, incarnation, term, &mut seen)?;
            for peer in node.peers() {
                hold!(peer.match_index < peer.next, "leader {id}: peer {} next {}", peer.id, peer.next);
            }
        } else {
            seen.leading = None;
        }
        (seen.commit, seen.term) = (commit, term);
        self.seen.insert(id, seen);
        Ok(())
    }

    /// Log matching below the commit index, and durability on a quorum of whoever commits first.
    fn check_commit(
        &mut self,
        node: &Node,
        from: u64,
        to: u64,
        durable: &dyn Fn(u64, u64) -> Option<u64>,
    ) -> Check {
        for index in from + 1..=to {
            let Some(term) = node.entry_term(index) else { continue };
            match self.committed.get(&index) {
                Some(known) => hold!(
                    *known == term,
                    "node {} commits term {term} at {index}, others term {known}",
                    node.id()
                ),
                None => {
                    let configuration = node.conf_state();
                    let stored = |id: &u64| durable(*id, index).is_some_and(|found| found == term);
                    for half in [&configuration.voters, &configuration.voters_outgoing] {
                        let count = half.iter().filter(|id| stored(id)).count();
                        hold!(
                            half.is_empty() || count > half.len() / 2,
                            "node {} commits {index} of term {term}: durable on {count} of {half:?}",
                            node.id()
                        );
                    }
                    self.committed.insert(index, term);
                }
            }
        }
        Ok(())
    }

    /// One leader a term, complete, a voter, and it only appends.
    fn check_leader(&mut self, node: &Node, incarnation: u32, term: u64, seen: &mut Seen) -> Check {
        let (id, last) = (node.id(), node.status().last_index);
        let known = *self.leaders.entry(term).or_insert((id, incarnation));
        hold!(
            known == (id, incarnation),
            "term {term} has two leaders: {known:?} and {:?}",
            (id, incarnation)
        );
        match seen.leading {
            Some((same, before)) if same == term => {
                hold!(last >= before, "leader {id} cut its log from {before} to {last}");
            }
            _ => {
                let configuration = node.conf_state();
                hold!(
                    configuration.voters.contains(&id) || configuration.voters_outgoing.contains(&id),
                    "node {id} leads and is no voter of {configuration:?}"
                );
                for (index, committed) in &self.committed {
                    let held = node.entry_term(*index);
                    hold!(
                        *index <= last && held.is_none_or(|t| t == *committed),
                        "leader {id} of term {term} lacks {index} of term {committed}: {held:?}, last {last}"
                    );
                }
            }
        }
        seen.leading = Some((term, last));
        Ok(())
    }

    /// An entry is applied: the next one, committed, the same everywhere.
    pub fn applied(&mut self, id: u64, previous: u64, entry: &Entry) -> Check {
        let (index, term) = (entry.index, entry.term);
        hold!(index == previous + 1, "node {id} applies {index} after {previous}");
        hold!(
            self.committed.get(&index) == Some(&term),
            "node {id} applies {index} of term {term}: not committed"
        );
        let known = self.applied.entry(index).or_insert((term, entry.data.clone()));
        hold!(*known == (term, entry.data.clone()), "node {id} applies another entry at {index}");
        Ok(())
    }

    /// A configuration change is applied: the same everywhere.
    pub fn configured(&mut self, id: u64, index: u64, configuration: &ConfState) -> Check {
        let known = self.configurations.entry(index).or_insert_with(|| configuration.clone());
        hold!(
            known.equivalent(configuration),
            "node {id} has {configuration:?} after {index}, others {known:?}"
        );
        Ok(())
    }

    /// A snapshot is installed: committed, with the configuration of its index.
    pub fn restored(&self, id: u64, index: u64, term: u64, configuration: &ConfState) -> Check {
        hold!(
            self.committed.get(&index) == Some(&term),
            "node {id} restores {index} of term {term}: not committed"
        );
        let known = self.configuration_at(index);
        hold!(
            known.equivalent(configuration),
            "node {id} restores {configuration:?}, at {index} it was {known:?}"
        );
        Ok(())
    }

    /// A message leaves: what it vouches for is durable, and an acknowledged entry is the one of the leader, `receiver`.
    pub fn sent(&mut self, message: &Message, disk: &MemStorage, receiver: Option<&Node>) -> Check {
        let (id, hard) = (message.from, disk.hard_state());
        match message.msg_type {
            MessageType::VoteResp if !message.reject => {
                hold!(
                    hard.term > message.term || (hard.term, hard.vote) == (message.term, message.to),
                    "node {id} votes for {} in term {} with {hard:?} on disk",
                    message.to,
                    message.term
                );
                self.vote(id, message.term, message.to)
            }
            MessageType::Vote => {
                hold!(
                    hard.term >= message.term,
                    "node {id} campaigns in term {} with {hard:?} on disk",
                    message.term
                );
                self.vote(id, message.term, id)
            }
            MessageType::AppResp if !message.reject => {
                // In a later term the entry may have been overwritten since: what matters is that it was accepted
                // before, and that this later state is durable.
                let last = disk.last_index().map_err(|e| e.to_string())?;
                hold!(
                    hard.term > message.term || message.index <= last,
                    "node {id} acknowledges {} in term {}, {last} is durable in term {}",
                    message.index,
                    message.term,
                    hard.term
                );
                let leader = receiver.filter(|node| node.is_leader() && node.term() == message.term);
                let (own, its) =
                    (disk.term(message.index).ok(), leader.and_then(|node| node.entry_term(message.index)));
                hold!(
                    hard.term > message.term || own.is_none() || its.is_none() || own == its,
                    "node {id} acknowledges {} to a leader of term {}: it has {own:?}, the leader {its:?}",
                    message.index,
                    message.term
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn vote(&mut self, id: u64, term: u64, candidate: u64) -> Check {
        let known = *self.votes.entry((id, term)).or_insert(candidate);
        hold!(known == candidate, "node {id} votes for {known} and for {candidate} in term {term}");
        Ok(())
    }
}
