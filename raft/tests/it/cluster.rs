//! A few nodes in synchronous mode and the messages between them. Delivery is explicit: a test decides what arrives.

#![allow(unreachable_pub, reason = "helpers of the other modules of this binary")]

use std::collections::BTreeMap;

use stanchion_raft::{
    ConfChangeV2, ConfState, Config, Entry, EntryType, HardState, MemStorage, Message, MessageType, RawNode,
    ReadState, Snapshot, SnapshotMetadata, Storage,
};

pub type Node = RawNode<MemStorage>;

/// A node and what its application has seen.
pub struct Member {
    pub raw: Node,
    pub config: Config,
    pub applied: Vec<Entry>,
    pub reads: Vec<ReadState>,
    pub conf_errors: usize,
}

pub struct Cluster {
    pub members: BTreeMap<u64, Member>,
    /// Messages that have left and not arrived.
    pub wire: Vec<Message>,
    /// Pairs (from, to) that lose everything.
    pub cut: Vec<(u64, u64)>,
}

/// A log that begins behind a snapshot at index 1, so that whoever joins later learns the founders from it.
pub fn founded(cs: &ConfState) -> MemStorage {
    let mut storage = MemStorage::new();
    let metadata = SnapshotMetadata { conf_state: cs.clone(), index: 1, term: 1 };
    storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() }).unwrap();
    storage.set_hard_state(HardState { term: 1, vote: 0, commit: 1 });
    storage
}

impl Cluster {
    pub fn new(voters: &[u64]) -> Self {
        Self::with(voters, &[], |_| {})
    }

    pub fn with(voters: &[u64], learners: &[u64], tune: impl Fn(&mut Config)) -> Self {
        let cs = ConfState::new(voters, learners);
        let members = voters.iter().chain(learners).map(|&id| {
            let mut config = Config::new(id);
            tune(&mut config);
            (id, Member::start(config, founded(&cs)))
        });
        Self { members: members.collect(), wire: Vec::new(), cut: Vec::new() }
    }

    pub fn join(&mut self, id: u64) {
        self.members.insert(id, Member::start(Config::new(id), MemStorage::new()));
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        &mut self.members.get_mut(&id).unwrap().raw
    }

    /// Handles every ready of every node once; true if there was one.
    pub fn work(&mut self) -> bool {
        let mut any = false;
        for m in self.members.values_mut() {
            while m.raw.has_ready() {
                m.work(&mut self.wire);
                any = true;
            }
        }
        any
    }

    /// Delivers what is on the wire; true if there was anything.
    pub fn deliver(&mut self) -> bool {
        let wire = std::mem::take(&mut self.wire);
        let any = !wire.is_empty();
        for m in wire {
            if self.cut.contains(&(m.from, m.to)) {
                continue;
            }
            if let Some(to) = self.members.get_mut(&m.to) {
                // Refusals are part of what is tested: their effect is seen in the states.
                let _refused = to.raw.step(m);
            }
        }
        any
    }

    /// Works and delivers until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let worked = self.work();
            if !self.deliver() && !worked {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    pub fn tick(&mut self, id: u64, times: u32) {
        for _ in 0..times {
            self.node(id).tick().unwrap();
        }
    }

    pub fn elect(&mut self, id: u64) {
        self.node(id).campaign().unwrap();
        self.settle();
        assert!(self.node(id).is_leader(), "{:?}", self.node(id).status());
    }

    pub fn isolate(&mut self, id: u64) {
        let others: Vec<u64> = self.members.keys().copied().filter(|o| *o != id).collect();
        self.cut.extend(others.iter().flat_map(|&o| [(id, o), (o, id)]));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Payloads that `id` has applied, empty entries left out.
    pub fn applied(&self, id: u64) -> Vec<String> {
        let normal = |e: &&Entry| e.entry_type == EntryType::Normal && !e.data.is_empty();
        let text = |e: &Entry| String::from_utf8(e.data.to_vec()).unwrap();
        self.members[&id].applied.iter().filter(normal).map(text).collect()
    }

    /// Stops `id` and starts it from what it has stored.
    pub fn restart(&mut self, id: u64) {
        let m = self.members.get_mut(&id).unwrap();
        let storage = m.raw.storage().clone();
        let config = m.config.clone();
        *m = Member::start(config, storage);
    }

    pub fn on_wire(&self, msg_type: MessageType) -> usize {
        self.wire.iter().filter(|m| m.msg_type == msg_type).count()
    }
}

impl Member {
    fn start(config: Config, storage: MemStorage) -> Self {
        let raw = RawNode::new(&config, storage).unwrap();
        Self { raw, config, applied: Vec::new(), reads: Vec::new(), conf_errors: 0 }
    }

    fn work(&mut self, wire: &mut Vec<Message>) {
        let mut ready = self.raw.ready().unwrap();
        wire.append(&mut ready.messages);
        let storage = self.raw.storage_mut();
        if let Some(s) = ready.snapshot.take() {
            storage.apply_snapshot(*s).unwrap();
        }
        storage.append(&ready.entries).unwrap();
        if let Some(hs) = ready.hard_state {
            storage.set_hard_state(hs);
        }
        wire.append(&mut ready.messages_after_persist);
        self.reads.append(&mut ready.read_states);
        for e in std::mem::take(&mut ready.committed_entries) {
            if let Some(change) = ConfChangeV2::from_entry(&e).unwrap()
                && self.raw.apply_conf_change(change).is_err()
            {
                self.conf_errors += 1;
            }
            self.applied.push(e);
        }
        self.raw.advance(ready).unwrap();
    }

    /// Snapshots the applied state and forgets the log before it.
    pub fn compact(&mut self) {
        let applied = self.raw.status().applied;
        let cs = self.raw.conf_state();
        let storage = self.raw.storage_mut();
        storage.create_snapshot(applied, cs, &b"state"[..]).unwrap();
        storage.compact(applied).unwrap();
        assert_eq!(storage.first_index().unwrap(), applied + 1);
    }
}
