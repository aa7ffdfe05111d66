//! The same group as `support.rs`, made of TiKV's `raft`.

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, Storage};

/// Nodes 1..=n in one process; node 1 leads.
pub struct Group {
    nodes: Vec<RawNode<MemStorage>>,
    wire: Vec<Message>,
}

impl Group {
    pub fn new(n: u64) -> Self {
        let ids: Vec<u64> = (1..=n).collect();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id: &u64| {
            let config = Config {
                id: *id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 512,
                check_quorum: true,
                pre_vote: true,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((ids.clone(), vec![]));
            RawNode::new(&config, storage, &logger).expect("settings are valid")
        };
        let mut group = Self { nodes: ids.iter().map(node).collect(), wire: Vec::new() };
        group.nodes[0].campaign().expect("memory does not fail");
        group.settle();
        assert_eq!(group.nodes[0].raft.leader_id, 1);
        group
    }

    pub fn commit(&mut self, count: usize, payload: &[u8]) {
        for _ in 0..count {
            self.nodes[0].propose(vec![], payload.to_vec()).expect("the leader takes it");
        }
        self.settle();
        self.compact();
    }

    pub fn read(&mut self, count: usize) -> usize {
        for i in 0..count {
            // It refuses a second request with the same context, so each has its own.
            self.nodes[0].read_index((i as u64).to_le_bytes().to_vec());
        }
        self.settle()
    }

    pub fn applied(&self) -> u64 {
        self.nodes[0].raft.raft_log.applied
    }

    fn settle(&mut self) -> usize {
        let mut reads = 0;
        loop {
            for node in &mut self.nodes {
                while node.has_ready() {
                    let mut ready = node.ready();
                    self.wire.append(&mut ready.take_messages());
                    {
                        let store = node.raft.raft_log.store.clone();
                        store.wl().append(ready.entries()).expect("no gap");
                        if let Some(hs) = ready.hs() {
                            store.wl().set_hardstate(hs.clone());
                        }
                    }
                    self.wire.append(&mut ready.take_persisted_messages());
                    reads += ready.read_states().len();
                    drop(ready.take_committed_entries());
                    let mut light = node.advance(ready);
                    if let Some(commit) = light.commit_index() {
                        node.raft.raft_log.store.wl().mut_hard_state().set_commit(commit);
                    }
                    self.wire.append(&mut light.take_messages());
                    drop(light.take_committed_entries());
                    node.advance_apply();
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

    /// As `support.rs` does: rarely, and then everything.
    fn compact(&mut self) {
        for node in &mut self.nodes {
            let applied = node.raft.raft_log.applied;
            let store = &node.raft.raft_log.store;
            if applied - store.first_index().expect("memory") > 20_000 {
                store.wl().compact(applied).expect("it is held");
            }
        }
    }
}

/// A follower that never campaigns.
pub fn idle() -> RawNode<MemStorage> {
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let config = Config {
        id: 1,
        election_tick: 1 << 30,
        heartbeat_tick: 1,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 512,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
    RawNode::new(&config, storage, &logger).expect("settings are valid")
}

/// A million entries of term 1.
pub fn long_log() -> MemStorage {
    let storage = MemStorage::new();
    let entry = |index| Entry { term: 1, index, ..Entry::default() };
    storage.wl().append(&(1..=1_000_000).map(entry).collect::<Vec<_>>()).expect("no gap");
    storage
}

pub fn term(log: &MemStorage, index: u64) -> u64 {
    log.term(index).expect("it is there")
}

/// Replaces the upper half by one entry.
pub fn truncate(log: &MemStorage) {
    log.wl().append(&[Entry { term: 2, index: 500_000, ..Entry::default() }]).expect("no gap");
}
