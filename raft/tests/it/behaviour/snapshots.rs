//! Snapshots (paper, section 7).

use stanchion_raft::tracker::ProgressState;
use stanchion_raft::{
    ConfState, Config, Entry, Error, InitialState, MemStorage, Message, MessageType as T, RawNode, Role,
    Snapshot, SnapshotMetadata, Storage, StorageError,
};

use super::solo::{Solo, append, from};

fn snapshot(index: u64, term: u64, conf_state: ConfState) -> Message {
    let metadata = SnapshotMetadata { conf_state, index, term };
    let snapshot = Snapshot { data: b"state"[..].into(), metadata };
    Message { snapshot: Some(Box::new(snapshot)), ..from(2, T::Snap, term) }
}

fn three() -> ConfState {
    ConfState::new(&[1, 2, 3], &[])
}

/// A leader whose log is compacted and that knows nothing of node 3.
fn compacted() -> Solo {
    let mut n = Solo::new(&[1]);
    n.lead();
    n.ack(2);
    n.propose(b"x");
    n.ack(2);
    let applied = n.node.status().applied;
    n.node.storage_mut().create_snapshot(applied, three(), &b""[..]).unwrap();
    n.node.storage_mut().compact(applied).unwrap();
    n
}

#[test]
fn a_peer_gets_a_snapshot_only_while_it_is_heard() {
    let mut n = compacted();
    assert!(!n.node.peer(3).unwrap().recent_active);
    n.node.report_unreachable(3);
    assert!(n.propose(b"y").iter().all(|m| m.to == 2));
    let sent = n.step(from(3, T::HeartbeatResp, 2));
    assert_eq!((sent[0].to, sent[0].msg_type), (3, T::Snap));
    let peer = n.node.peer(3).unwrap();
    assert_eq!((peer.state, peer.pending_snapshot, peer.next), (ProgressState::Snapshot, 3, 4));
    assert!(n.propose(b"z").iter().all(|m| m.to == 2), "nothing follows while it is under way");
}

#[test]
fn a_delivered_snapshot_goes_on_behind_it_and_a_failed_one_at_the_match() {
    for (delivered, next) in [(true, 4), (false, 1)] {
        let mut n = compacted();
        n.step(from(3, T::HeartbeatResp, 2));
        n.node.report_snapshot(3, delivered);
        let peer = n.node.peer(3).unwrap();
        assert_eq!((peer.state, peer.next, peer.paused), (ProgressState::Probe, next, true));
        assert!(n.propose(b"y").iter().all(|m| m.to == 2), "until the next heartbeat answer");
        assert!(n.step(from(3, T::HeartbeatResp, 2)).iter().any(|m| m.to == 3));
    }
}

#[test]
fn reports_about_peers_without_a_snapshot_change_nothing() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    let before = n.node.peer(3);
    n.node.report_snapshot(3, false);
    n.node.report_snapshot(9, true);
    n.node.report_unreachable(9);
    assert_eq!(n.node.peer(3), before);
}

/// Storage that is making its snapshot.
struct Busy(MemStorage);

impl Storage for Busy {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.0.initial_state()
    }
    fn entries(&self, low: u64, high: u64, max: u64, out: &mut Vec<Entry>) -> Result<(), StorageError> {
        self.0.entries(low, high, max, out)
    }
    fn term(&self, index: u64) -> Result<u64, StorageError> {
        self.0.term(index)
    }
    fn first_index(&self) -> Result<u64, StorageError> {
        self.0.first_index()
    }
    fn last_index(&self) -> Result<u64, StorageError> {
        self.0.last_index()
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::SnapshotTemporarilyUnavailable)
    }
}

#[test]
fn a_snapshot_that_is_not_ready_is_asked_for_again() {
    let mut storage = crate::cluster::founded(&ConfState::new(&[1, 2], &[]));
    storage.append(&super::solo::entries(1, &[1, 1, 1])).unwrap();
    storage.set_hard_state(stanchion_raft::HardState { term: 1, vote: 0, commit: 4 });
    storage.compact(4).unwrap();
    let config = Config { pre_vote: false, ..Config::new(1) };
    let mut node = RawNode::new(&config, Busy(storage)).unwrap();
    let work = |node: &mut RawNode<Busy>| {
        let mut sent = Vec::new();
        while node.has_ready() {
            let mut ready = node.ready().unwrap();
            sent.append(&mut ready.messages);
            node.storage_mut().0.append(&ready.entries).unwrap();
            node.advance(ready).unwrap();
        }
        sent
    };
    node.campaign().unwrap();
    work(&mut node);
    node.step(from(2, T::VoteResp, 2)).unwrap();
    work(&mut node);
    // Its log is empty: what it needs is compacted, and there is no snapshot at hand.
    let refusal = Message { index: 4, reject: true, reject_hint: 0, ..from(2, T::AppResp, 2) };
    node.step(refusal).unwrap();
    assert_eq!(work(&mut node), []);
    assert_eq!(node.peer(2).unwrap().state, ProgressState::Probe);
    assert!(node.is_leader());
}

#[test]
fn an_empty_snapshot_is_an_error_of_the_application() {
    let mut n = Solo::of(&three(), &[1], |_| {});
    n.lead();
    n.ack(2);
    // Compacted without a snapshot of the state: nobody can be caught up any more.
    *n.node.storage_mut() = {
        let mut storage = MemStorage::new();
        storage.append(&super::solo::entries(0, &[1, 2])).unwrap();
        storage.compact(2).unwrap();
        storage
    };
    let refusal = n.node.step(Message { index: 1, reject: true, reject_hint: 0, ..from(3, T::AppResp, 2) });
    assert_eq!(refusal, Err(Error::EmptySnapshot { to: 3 }));
}

#[test]
fn a_snapshot_replaces_log_configuration_and_commit_index() {
    let mut n = Solo::new(&[1, 1, 1]);
    let members = ConfState::new(&[1, 2, 4], &[5]);
    let sent = n.step(snapshot(9, 3, members.clone()));
    assert_eq!((sent[0].msg_type, sent[0].index, sent[0].reject), (T::AppResp, 9, false));
    assert_eq!((n.last(), n.commit(), n.node.conf_state()), (9, 9, members));
    assert_eq!(n.node.status().applied, 9);
}

#[test]
fn its_answer_waits_until_it_is_durable() {
    let mut n = Solo::new(&[1]);
    n.node.step(snapshot(9, 3, three())).unwrap();
    let ready = n.node.ready().unwrap();
    assert!(ready.must_sync && ready.snapshot.is_some());
    assert_eq!((ready.messages.len(), ready.messages_after_persist.len()), (0, 1));
    assert!(ready.committed_entries.is_empty());
    n.node.campaign().unwrap();
    assert_eq!(n.role(), Role::Follower, "a pending snapshot holds back a campaign");
}

#[test]
fn a_snapshot_that_has_nothing_new_is_answered_with_the_commit_index() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[2, 2, 2], 3));
    let before = n.last();
    let sent = n.step(Message { term: 2, ..snapshot(3, 2, three()) });
    assert_eq!((sent[0].index, n.last()), (3, before));
    // One that the log has already, beyond the commit index: the log stays, the commit index rises.
    let sent = n.step(Message { term: 2, ..snapshot(4, 2, three()) });
    assert_eq!((sent[0].index, n.last(), n.commit()), (4, before, 4));
}

#[test]
fn a_snapshot_without_this_node_is_not_installed_unless_it_is_an_outgoing_voter() {
    let mut n = Solo::new(&[1]);
    let sent = n.step(snapshot(9, 3, ConfState::new(&[2, 3], &[])));
    assert_eq!((sent[0].index, n.last()), (1, 1));
    let outgoing = ConfState { voters: vec![2, 3], voters_outgoing: vec![1, 2], ..ConfState::default() };
    n.step(snapshot(9, 3, outgoing));
    assert_eq!(n.last(), 9);
}

#[test]
fn a_voter_becomes_a_learner_by_snapshot_and_a_learner_a_voter() {
    let mut n = Solo::new(&[1]);
    n.step(snapshot(9, 3, ConfState::new(&[2, 3], &[1])));
    assert!(!n.node.promotable());
    n.step(Message { term: 3, ..snapshot(12, 3, three()) });
    assert!(n.node.promotable());
}

#[test]
fn an_impossible_configuration_in_a_snapshot_is_refused_and_nothing_is_given_up() {
    let mut n = Solo::new(&[1, 1]);
    for members in [
        ConfState { learners: vec![1], ..three() },
        ConfState { voters: vec![1, 1], ..ConfState::default() },
        ConfState { auto_leave: true, ..three() },
        ConfState { learners_next: vec![2], ..three() },
    ] {
        assert!(matches!(n.node.step(snapshot(9, 3, members)), Err(Error::ConfChange(_))));
        assert_eq!((n.last(), n.node.conf_state()), (2, three()));
    }
}
