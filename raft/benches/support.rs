//! A group of nodes in memory that commits what is proposed, without any delay in between.

use bytes::Bytes;
use stanchion_raft::{ConfState, Config, Entry, MemStorage, Message, RawNode, Storage};

/// Nodes 1..=n in one process; node 1 leads.
pub struct Group {
    nodes: Vec<RawNode<MemStorage>>,
    wire: Vec<Message>,
}

impl Group {
    pub fn new(n: u64) -> Self {
        let ids: Vec<u64> = (1..=n).collect();
        let conf_state = ConfState::new(&ids, &[]);
        let node = |id: &u64| {
            let storage = MemStorage::with_conf_state(conf_state.clone());
            RawNode::new(&Config::new(*id), storage).expect("settings are valid")
        };
        let mut group = Self { nodes: ids.iter().map(node).collect(), wire: Vec::new() };
        group.nodes[0].campaign().expect("memory does not fail");
        group.settle();
        assert!(group.nodes[0].is_leader());
        group
    }

    /// Proposes `count` entries, each by a call of its own, and works until every node has applied them.
    pub fn commit(&mut self, count: usize, payload: &Bytes) {
        for _ in 0..count {
            self.nodes[0].propose(payload.clone()).expect("the leader takes it");
        }
        self.settle();
        self.compact();
    }

    /// Asks for `count` reads and works until all are confirmed.
    pub fn read(&mut self, count: usize) -> usize {
        for _ in 0..count {
            self.nodes[0].read_index(&b"request"[..]).expect("the leader takes it");
        }
        self.settle()
    }

    pub fn applied(&self) -> u64 {
        self.nodes[0].status().applied
    }

    /// Works and delivers until nothing moves; counts confirmed reads.
    fn settle(&mut self) -> usize {
        let mut reads = 0;
        loop {
            for node in &mut self.nodes {
                while node.has_ready() {
                    let mut ready = node.ready().expect("memory does not fail");
                    self.wire.append(&mut ready.messages);
                    let storage = node.storage_mut();
                    storage.append(&ready.entries).expect("no gap");
                    if let Some(hard_state) = ready.hard_state {
                        storage.set_hard_state(hard_state);
                    }
                    self.wire.append(&mut ready.messages_after_persist);
                    reads += ready.read_states.len();
                    node.advance(ready).expect("it is the outstanding one");
                }
            }
            if self.wire.is_empty() {
                return reads;
            }
            for m in self.wire.drain(..) {
                self.nodes[m.to as usize - 1].step(m).expect("honest peers");
            }
        }
    }

    /// Rarely, and then everything: what forgetting costs belongs to a storage, and is not what is measured.
    fn compact(&mut self) {
        for node in &mut self.nodes {
            let (first, applied) = (node.storage().first_index().expect("memory"), node.status().applied);
            if applied - first > 20_000 {
                node.storage_mut().compact(applied).expect("it is held");
            }
        }
    }
}

/// A follower that never campaigns.
pub fn idle() -> RawNode<MemStorage> {
    let config = Config { election_ticks: 1 << 30, ..Config::new(1) };
    let storage = MemStorage::with_conf_state(ConfState::new(&[1, 2, 3], &[]));
    RawNode::new(&config, storage).expect("settings are valid")
}

/// A million entries of term 1.
pub fn long_log() -> MemStorage {
    let entries: Vec<Entry> =
        (1..=1_000_000).map(|index| Entry { term: 1, index, ..Entry::default() }).collect();
    let mut storage = MemStorage::new();
    storage.append(&entries).expect("no gap");
    storage
}

pub fn term(log: &MemStorage, index: u64) -> u64 {
    log.term(index).expect("it is there")
}

/// Replaces the upper half by one entry.
pub fn truncate(log: &mut MemStorage) {
    log.append(&[Entry { term: 2, index: 500_000, ..Entry::default() }]).expect("no gap");
}
