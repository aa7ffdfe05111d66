//! Start, restart, bootstrap; settings that cannot work; storage that contradicts itself.

use stanchion_raft::{
    ConfChangeError, ConfState, Config, ConfigError, Entry, EntryType, Error, HardState, InitialState,
    MemStorage, Message, MessageType as T, Peer, RawNode, ReadOnlyOption, Snapshot, SnapshotMetadata,
    Storage, StorageError,
};

use super::solo::{Solo, append, entries, from};

fn stored(terms: &[u64], hard_state: HardState) -> MemStorage {
    let mut storage = crate::cluster::founded(&ConfState::new(&[1, 2, 3], &[]));
    storage.append(&entries(0, terms)).unwrap();
    storage.set_hard_state(hard_state);
    storage
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let refused = |tune: fn(&mut Config)| {
        let mut config = Config::new(1);
        tune(&mut config);
        RawNode::new(&config, MemStorage::new()).err()
    };
    let election = ConfigError::ElectionTicks { election: 1, heartbeat: 1 };
    let bytes = ConfigError::MaxInflightBytes { inflight: 9, per_msg: 10 };
    assert_eq!(refused(|c| c.id = 0), Some(ConfigError::Id { id: 0 }.into()));
    assert_eq!(refused(|c| c.id = u64::MAX), Some(ConfigError::Id { id: u64::MAX }.into()));
    assert_eq!(refused(|c| c.id = u64::MAX - 1), Some(ConfigError::Id { id: u64::MAX - 1 }.into()));
    assert_eq!(refused(|c| c.heartbeat_ticks = 0), Some(ConfigError::HeartbeatTicks.into()));
    assert_eq!(refused(|c| c.election_ticks = 1), Some(election.into()));
    assert_eq!(refused(|c| c.max_inflight_msgs = 0), Some(ConfigError::MaxInflightMsgs.into()));
    assert_eq!(refused(|c| (c.max_inflight_bytes, c.max_bytes_per_msg) = (9, 10)), Some(bytes.into()));
    assert_eq!(refused(|c| c.max_pending_reads = 0), Some(ConfigError::MaxPendingReads.into()));
    let lease: fn(&mut Config) = |c| (c.read_only, c.check_quorum) = (ReadOnlyOption::LeaseBased, false);
    assert_eq!(refused(lease), Some(ConfigError::LeaseWithoutCheckQuorum.into()));
    assert_eq!(refused(|_| {}), None);
}

#[test]
fn a_restart_takes_term_vote_commit_and_configuration_from_storage() {
    let hard_state = HardState { term: 4, vote: 3, commit: 2 };
    let mut n = Solo::start(&Config::new(1), stored(&[1, 2, 4], hard_state));
    assert_eq!(n.node.status().hard_state, hard_state);
    assert_eq!((n.node.leader(), n.node.conf_state().voters), (0, vec![1, 2, 3]));
    assert!(n.step(Message { index: 9, log_term: 4, ..from(2, T::Vote, 4) })[0].reject, "it voted already");
    assert_eq!(n.applied.iter().map(|e| e.index).collect::<Vec<_>>(), [2], "what was committed comes again");
}

#[test]
fn entries_up_to_applied_are_not_handed_out_again() {
    let hard_state = HardState { term: 4, vote: 0, commit: 5 };
    let config = Config { applied: 3, ..Config::new(1) };
    let mut n = Solo::start(&config, stored(&[1, 2, 4, 4, 4], hard_state));
    n.work();
    assert_eq!(n.applied.iter().map(|e| e.index).collect::<Vec<_>>(), [4, 5]);
    let beyond = Config { applied: 6, ..Config::new(1) };
    assert_eq!(
        RawNode::new(&beyond, stored(&[1, 2, 4, 4, 4], hard_state)).err(),
        Some(Error::AppliedOutOfRange { index: 6, applied: 1, committed: 5 })
    );
}

#[test]
fn a_commit_index_outside_the_log_is_refused_at_the_start() {
    for commit in [0, 4] {
        let storage = stored(&[1, 2, 2], HardState { term: 2, vote: 0, commit });
        let refusal = RawNode::new(&Config::new(1), storage).err();
        assert_eq!(refusal, Some(Error::CommitBeyondLog { commit, last: 3 }));
    }
}

#[test]
fn the_order_of_a_configurations_nodes_means_nothing_and_a_node_twice_is_refused() {
    let storage = MemStorage::with_conf_state(ConfState::new(&[3, 1, 2], &[5, 4]));
    let node = RawNode::new(&Config::new(1), storage).unwrap();
    assert_eq!(node.conf_state(), ConfState::new(&[1, 2, 3], &[4, 5]));
    let storage = MemStorage::with_conf_state(ConfState::new(&[3, 1, 3], &[]));
    let refusal = RawNode::new(&Config::new(1), storage).err();
    assert!(matches!(refusal, Some(Error::ConfChange(ConfChangeError::InvalidConfState { .. }))));
}

#[test]
fn a_restart_in_a_joint_configuration_keeps_both_halves() {
    let joint = ConfState {
        voters: vec![1, 4],
        learners: vec![5],
        voters_outgoing: vec![1, 2, 3],
        learners_next: vec![3],
        auto_leave: true,
    };
    let node = RawNode::new(&Config::new(1), MemStorage::with_conf_state(joint.clone())).unwrap();
    assert_eq!(node.conf_state(), joint);
}

/// As etcd 3.7 starts: a snapshot with a configuration and nothing else.
#[test]
fn an_initial_snapshot_may_have_only_a_configuration() {
    let mut storage = MemStorage::new();
    let metadata = SnapshotMetadata { conf_state: ConfState::new(&[1], &[]), ..SnapshotMetadata::default() };
    storage.apply_snapshot(Snapshot { metadata, ..Snapshot::default() }).unwrap();
    let mut n = Solo::start(&Config { pre_vote: false, ..Config::new(1) }, storage);
    n.node.campaign().unwrap();
    n.work();
    assert_eq!((n.node.is_leader(), n.commit()), (true, 1));
}

#[test]
fn bootstrap_writes_one_committed_change_per_member() {
    let peers: Vec<Peer> = [3, 1, 2].map(|id| Peer { id, context: vec![id as u8].into() }).to_vec();
    let mut node = RawNode::new(&Config::new(1), MemStorage::new()).unwrap();
    node.bootstrap(&peers).unwrap();
    assert_eq!(node.conf_state().voters, [1, 2, 3], "in force at once");
    assert_eq!(node.bootstrap(&peers), Err(Error::NotEmpty { last: 3 }));
    let ready = node.ready().unwrap();
    assert_eq!(ready.hard_state, Some(HardState { term: 1, vote: 0, commit: 3 }));
    let changes: Vec<(u64, u64, EntryType)> =
        ready.entries.iter().map(|e| (e.index, e.term, e.entry_type)).collect();
    let change = EntryType::ConfChange;
    assert_eq!(changes, [(1, 1, change), (2, 1, change), (3, 1, change)]);
    assert_eq!(ready.committed_entries, ready.entries);
    node.storage_mut().append(&ready.entries).unwrap();
    node.advance(ready).unwrap();
    let empty = RawNode::new(&Config::new(1), MemStorage::new()).unwrap().bootstrap(&[]);
    assert_eq!(empty, Err(Error::EmptyProposal));
}

#[test]
fn a_node_that_joins_knows_nothing_never_campaigns_and_records_its_vote() {
    let mut n = Solo::start(&Config { check_quorum: false, ..Config::new(1) }, MemStorage::new());
    n.node.campaign().unwrap();
    n.tick(100);
    assert_eq!((n.node.term(), n.node.promotable()), (0, false));
    let answer = n.step(Message { index: 3, log_term: 2, ..from(2, T::Vote, 3) });
    assert!(!answer[0].reject);
    assert_eq!(n.node.storage().hard_state(), HardState { term: 3, vote: 2, commit: 0 });
    n.step(append(2, 3, (0, 0), &[1, 2], 1));
    assert_eq!(n.terms(), [1, 2]);
}

/// Storage that lies.
struct Liar {
    truth: MemStorage,
    lie: fn(&mut Vec<Entry>),
}

impl Storage for Liar {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.truth.initial_state()
    }
    fn entries(&self, low: u64, high: u64, max: u64, out: &mut Vec<Entry>) -> Result<(), StorageError> {
        self.truth.entries(low, high, max, out)?;
        (self.lie)(out);
        Ok(())
    }
    fn term(&self, index: u64) -> Result<u64, StorageError> {
        self.truth.term(index)
    }
    fn first_index(&self) -> Result<u64, StorageError> {
        self.truth.first_index()
    }
    fn last_index(&self) -> Result<u64, StorageError> {
        self.truth.last_index()
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.truth.snapshot()
    }
}

#[test]
fn storage_that_answers_out_of_range_is_an_error_and_loses_nothing() {
    let lies: [fn(&mut Vec<Entry>); 4] = [
        Vec::clear,
        |out| out[0].index += 1,
        |out| out.push(Entry { index: 99, ..Entry::default() }),
        |out| out[1].index = 77,
    ];
    for lie in lies {
        let truth = stored(&[1, 2, 2, 2], HardState { term: 2, vote: 0, commit: 3 });
        let mut node = RawNode::new(&Config::new(1), Liar { truth, lie }).unwrap();
        let refusal = node.ready().unwrap_err();
        assert!(matches!(refusal, Error::Storage(StorageError::Inconsistent { .. })), "{refusal}");
        assert_eq!(node.ready().unwrap_err(), refusal, "and again");
    }
}

#[test]
fn storage_whose_positions_contradict_each_other_is_refused_at_the_start() {
    struct Backwards(MemStorage);
    impl Storage for Backwards {
        fn initial_state(&self) -> Result<InitialState, StorageError> {
            self.0.initial_state()
        }
        fn entries(&self, _: u64, _: u64, _: u64, _: &mut Vec<Entry>) -> Result<(), StorageError> {
            Ok(())
        }
        fn term(&self, index: u64) -> Result<u64, StorageError> {
            self.0.term(index)
        }
        fn first_index(&self) -> Result<u64, StorageError> {
            Ok(10)
        }
        fn last_index(&self) -> Result<u64, StorageError> {
            Ok(3)
        }
        fn snapshot(&self) -> Result<Snapshot, StorageError> {
            self.0.snapshot()
        }
    }
    let refusal = RawNode::new(&Config::new(1), Backwards(MemStorage::new())).err();
    assert!(matches!(refusal, Some(Error::Storage(StorageError::Inconsistent { .. }))));
}
