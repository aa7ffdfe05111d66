//! One node whose peers are played by the test.

use stanchion_raft::{
    ConfChangeV2, ConfState, Config, Entry, Error, HardState, MemStorage, Message, MessageType as T, RawNode,
    ReadState, Role,
};

use crate::cluster::{Node, founded};

pub struct Solo {
    pub node: Node,
    pub applied: Vec<Entry>,
    pub reads: Vec<ReadState>,
}

/// A message to node 1.
pub fn from(peer: u64, msg_type: T, term: u64) -> Message {
    Message { from: peer, term, ..Message::new(msg_type, 1) }
}

/// Entries of these terms behind `index`.
pub fn entries(index: u64, terms: &[u64]) -> Vec<Entry> {
    (index + 1..).zip(terms).map(|(index, &term)| Entry { index, term, ..Entry::default() }).collect()
}

/// An append of entries with these terms behind `index`/`log_term`.
pub fn append(peer: u64, term: u64, (index, log_term): (u64, u64), terms: &[u64], commit: u64) -> Message {
    Message { index, log_term, entries: entries(index, terms), commit, ..from(peer, T::App, term) }
}

impl Solo {
    /// Node 1 of `members`, whose log has entries of these terms from index 1 on; entry 1 is the founding.
    pub fn of(members: &ConfState, terms: &[u64], tune: impl Fn(&mut Config)) -> Self {
        let mut storage = founded(members);
        storage.append(&entries(0, terms)).unwrap();
        let term = terms.last().copied().unwrap_or(1);
        storage.set_hard_state(HardState { term, vote: 0, commit: 1 });
        let mut config = Config { pre_vote: false, check_quorum: false, ..Config::new(1) };
        tune(&mut config);
        Self::start(&config, storage)
    }

    /// One of three.
    pub fn new(terms: &[u64]) -> Self {
        Self::of(&ConfState::new(&[1, 2, 3], &[]), terms, |_| {})
    }

    pub fn tuned(terms: &[u64], tune: impl Fn(&mut Config)) -> Self {
        Self::of(&ConfState::new(&[1, 2, 3], &[]), terms, tune)
    }

    pub fn start(config: &Config, storage: MemStorage) -> Self {
        let node = RawNode::new(config, storage).unwrap();
        Self { node, applied: Vec::new(), reads: Vec::new() }
    }

    /// Does what the node asks for; answers with what it sends.
    pub fn work(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while self.node.has_ready() {
            let mut ready = self.node.ready().unwrap();
            sent.append(&mut ready.messages);
            let storage = self.node.storage_mut();
            if let Some(snapshot) = ready.snapshot.take() {
                storage.apply_snapshot(*snapshot).unwrap();
            }
            storage.append(&ready.entries).unwrap();
            if let Some(hard_state) = ready.hard_state {
                storage.set_hard_state(hard_state);
            }
            sent.append(&mut ready.messages_after_persist);
            self.reads.append(&mut ready.read_states);
            for entry in std::mem::take(&mut ready.committed_entries) {
                if let Some(change) = ConfChangeV2::from_entry(&entry).unwrap() {
                    self.node.apply_conf_change(change).unwrap();
                }
                self.applied.push(entry);
            }
            self.node.advance(ready).unwrap();
        }
        sent
    }

    /// Takes a message and answers with what the node sends upon it.
    pub fn step(&mut self, m: Message) -> Vec<Message> {
        self.node.step(m).unwrap();
        self.work()
    }

    /// Takes a message that must be refused, and sends nothing upon it.
    pub fn refuse(&mut self, m: Message) -> Error {
        let refusal = self.node.step(m).unwrap_err();
        assert_eq!(self.work(), []);
        refusal
    }

    /// Wins an election by node 2's vote; its first entry is not acknowledged by anybody.
    pub fn lead(&mut self) -> Vec<Message> {
        self.node.campaign().unwrap();
        self.work();
        if self.role() == Role::PreCandidate {
            self.step(from(2, T::PreVoteResp, self.node.term() + 1));
        }
        let sent = if self.role() == Role::Leader {
            Vec::new()
        } else {
            self.step(from(2, T::VoteResp, self.node.term()))
        };
        assert_eq!(self.role(), Role::Leader);
        sent
    }

    /// Leads, and everybody has everything.
    pub fn lead_replicated(&mut self) {
        self.lead();
        self.ack_all();
    }

    /// Every peer acknowledges the whole log.
    pub fn ack_all(&mut self) {
        let peers: Vec<u64> = self.node.peers().map(|p| p.id).filter(|&id| id != 1).collect();
        peers.into_iter().for_each(|peer| drop(self.ack(peer)));
    }

    /// `peer` acknowledges the whole log.
    pub fn ack(&mut self, peer: u64) -> Vec<Message> {
        let (index, term) = (self.node.status().last_index, self.node.term());
        self.step(Message { index, ..from(peer, T::AppResp, term) })
    }

    /// Proposes and answers with what is sent.
    pub fn propose(&mut self, data: &[u8]) -> Vec<Message> {
        self.node.propose(data.to_vec()).unwrap();
        self.work()
    }

    pub fn tick(&mut self, times: u32) -> Vec<Message> {
        let mut sent = Vec::new();
        for _ in 0..times {
            self.node.tick().unwrap();
            sent.append(&mut self.work());
        }
        sent
    }

    pub fn role(&self) -> Role {
        self.node.status().soft_state.role
    }

    pub fn commit(&self) -> u64 {
        self.node.status().hard_state.commit
    }

    pub fn last(&self) -> u64 {
        self.node.status().last_index
    }

    pub fn terms(&self) -> Vec<u64> {
        (1..=self.last()).map(|index| self.node.entry_term(index).unwrap()).collect()
    }
}
