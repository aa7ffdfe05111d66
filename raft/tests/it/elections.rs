//! Elections, pre-vote, check-quorum, transfer.

use stanchion_raft::{DropReason, Error, Message, MessageType, Role};

use crate::cluster::Cluster;

#[test]
fn a_single_voter_elects_itself_and_commits() {
    let mut c = Cluster::new(&[1]);
    c.elect(1);
    c.node(1).propose("a").unwrap();
    c.settle();
    assert_eq!(c.applied(1), ["a"]);
}

#[test]
fn an_election_timeout_makes_one_leader_of_three() {
    let mut c = Cluster::new(&[1, 2, 3]);
    for _ in 0..40 {
        for id in 1..=3 {
            c.tick(id, 1);
        }
        c.settle();
    }
    let leaders: Vec<u64> = (1..=3).filter(|id| c.node(*id).is_leader()).collect();
    assert_eq!(leaders.len(), 1);
    assert!((1..=3).all(|id| c.node(id).leader() == leaders[0]));
}

#[test]
fn a_log_that_is_behind_wins_no_vote() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.isolate(3);
    c.node(1).propose("a").unwrap();
    c.settle();
    c.heal();
    for id in 1..=2 {
        c.node(id).forget_leader();
    }
    c.tick(2, 10);
    c.node(3).campaign().unwrap();
    c.settle();
    assert!(!c.node(3).is_leader());
}

#[test]
fn a_partitioned_node_does_not_depose_the_leader_when_it_returns() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    let term = c.node(1).term();
    c.isolate(3);
    c.tick(3, 100);
    c.settle();
    c.heal();
    c.tick(3, 30);
    c.settle();
    c.tick(1, 1);
    c.settle();
    assert!(c.node(1).is_leader());
    assert_eq!(c.node(1).term(), term);
    assert_eq!(c.node(3).leader(), 1);
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.isolate(1);
    c.tick(1, 25);
    c.settle();
    assert_eq!(c.node(1).status().soft_state.role, Role::Follower);
    assert_eq!(c.node(1).leader(), 0);
}

#[test]
fn leadership_moves_to_a_voter_that_has_caught_up() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.node(1).transfer_leader(2).unwrap();
    assert_eq!(c.node(1).propose("x"), Err(Error::ProposalDropped(DropReason::Transferring)));
    c.settle();
    assert!(c.node(2).is_leader());
}

#[test]
fn a_transfer_to_a_silent_node_is_given_up() {
    let mut c = Cluster::with(&[1, 2, 3], &[], |c| c.check_quorum = false);
    c.elect(1);
    c.isolate(2);
    c.node(1).transfer_leader(2).unwrap();
    c.tick(1, 10);
    c.settle();
    assert_eq!(c.node(1).status().transferee, 0);
    c.node(1).propose("x").unwrap();
}

#[test]
fn local_messages_and_strangers_are_refused() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    let hup = Message { from: 2, ..Message::new(MessageType::Hup, 1) };
    assert!(matches!(c.node(1).step(hup), Err(Error::LocalMessage { .. })));
    let ack = Message { from: 9, term: 2, index: 1, ..Message::new(MessageType::AppResp, 1) };
    assert!(matches!(c.node(1).step(ack), Err(Error::UnknownPeer { from: 9, .. })));
    let own = Message { from: 1, term: 2, index: 1, ..Message::new(MessageType::AppResp, 1) };
    assert!(matches!(c.node(1).step(own), Err(Error::LocalMessage { .. })));
    let far = Message { from: 2, term: u64::MAX, ..Message::new(MessageType::Heartbeat, 1) };
    assert!(matches!(c.node(1).step(far), Err(Error::Malformed { .. })));
}
