//! Leadership transfer (thesis, 3.10) and its edges.

use stanchion_raft::{
    ConfChange, ConfChangeType, ConfState, DropReason, Error, Message, MessageType as T, Role,
};

use super::solo::{Solo, append, from};

fn leader() -> Solo {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3], &[4]), &[1], |_| {});
    n.lead_replicated();
    n
}

fn transferee(n: &Solo) -> u64 {
    n.node.status().transferee
}

#[test]
fn a_target_that_has_everything_is_told_at_once() {
    let mut n = leader();
    n.node.transfer_leader(2).unwrap();
    let sent = n.work();
    assert_eq!((sent.len(), sent[0].to, sent[0].msg_type), (1, 2, T::TimeoutNow));
}

#[test]
fn a_target_that_lags_is_told_when_it_has_caught_up() {
    let mut n = leader();
    n.propose(b"x");
    n.node.transfer_leader(3).unwrap();
    assert!(n.work().iter().all(|m| m.msg_type == T::App));
    assert!(n.ack(3).iter().any(|m| m.msg_type == T::TimeoutNow && m.to == 3));
}

#[test]
fn a_target_behind_a_snapshot_is_told_after_it() {
    let mut n = Solo::new(&[1]);
    n.lead();
    n.ack(2);
    n.node.storage_mut().create_snapshot(2, ConfState::new(&[1, 2, 3], &[]), &b""[..]).unwrap();
    n.node.storage_mut().compact(2).unwrap();
    assert_eq!(n.step(from(3, T::HeartbeatResp, 2))[0].msg_type, T::Snap);
    n.node.transfer_leader(3).unwrap();
    assert_eq!(n.work(), []);
    assert!(n.ack(3).iter().any(|m| m.msg_type == T::TimeoutNow));
}

#[test]
fn learners_strangers_and_the_leader_itself_are_no_targets() {
    for target in [4, 9, 1] {
        let mut n = leader();
        n.node.transfer_leader(target).unwrap();
        assert_eq!((transferee(&n), n.work()), (0, vec![]), "{target}");
    }
}

#[test]
fn the_same_target_again_changes_nothing_and_another_one_replaces_it() {
    let mut n = leader();
    n.node.transfer_leader(2).unwrap();
    n.work();
    n.tick(5);
    n.node.transfer_leader(2).unwrap();
    assert_eq!(n.work(), []);
    assert_eq!(n.node.status().election_elapsed, 5, "it gets no more time");
    n.node.transfer_leader(3).unwrap();
    assert_eq!((transferee(&n), n.work()[0].to), (3, 3));
    assert_eq!(n.node.status().election_elapsed, 0);
}

#[test]
fn back_to_the_leader_ends_the_transfer() {
    let mut n = leader();
    n.node.transfer_leader(2).unwrap();
    n.node.transfer_leader(1).unwrap();
    assert_eq!(transferee(&n), 0);
    assert_eq!(n.node.propose("x"), Ok(()));
}

#[test]
fn proposals_are_refused_meanwhile_and_taken_after_an_election_timeout() {
    let mut n = leader();
    n.node.transfer_leader(2).unwrap();
    assert_eq!(n.node.propose("x"), Err(Error::ProposalDropped(DropReason::Transferring)));
    n.tick(9);
    assert_eq!(transferee(&n), 2);
    n.tick(1);
    assert_eq!((transferee(&n), n.node.propose("x")), (0, Ok(())));
}

#[test]
fn removing_or_demoting_the_target_ends_the_transfer() {
    for op in [ConfChangeType::RemoveNode, ConfChangeType::AddLearnerNode] {
        let mut n = leader();
        n.node.transfer_leader(2).unwrap();
        n.node.apply_conf_change(ConfChange::new(op, 2)).unwrap();
        assert_eq!(transferee(&n), 0, "{op:?}");
    }
}

#[test]
fn a_higher_term_ends_the_transfer() {
    let mut n = leader();
    n.node.transfer_leader(2).unwrap();
    n.step(append(3, 9, (2, 2), &[], 2));
    assert_eq!((transferee(&n), n.role()), (0, Role::Follower));
}

#[test]
fn the_target_campaigns_at_once_without_pre_vote() {
    let mut n = Solo::tuned(&[1], |c| (c.pre_vote, c.check_quorum) = (true, true));
    n.step(append(2, 2, (1, 1), &[], 1));
    let sent = n.step(from(2, T::TimeoutNow, 2));
    assert_eq!((n.role(), n.node.term()), (Role::Candidate, 3));
    assert!(sent.iter().all(|m| m.msg_type == T::Vote && &m.context[..] == b"CampaignTransfer"));
}

#[test]
fn a_follower_passes_the_request_on_with_the_target_as_sender() {
    let mut n = Solo::new(&[1]);
    n.node.transfer_leader(3).unwrap();
    assert_eq!(n.work(), [], "no leader is known");
    n.step(append(2, 2, (1, 1), &[], 1));
    n.node.transfer_leader(3).unwrap();
    let sent = n.work();
    assert_eq!((sent[0].msg_type, sent[0].to, sent[0].from), (T::TransferLeader, 2, 3));
}

#[test]
fn a_remote_request_is_served_whatever_term_it_lacks() {
    let mut n = leader();
    n.step(Message { ..from(3, T::TransferLeader, 0) });
    assert_eq!(transferee(&n), 3);
}

/// The entries that are committed meanwhile must not be forgotten: the target wins only with them.
#[test]
fn transferring_back_and_forth_loses_nothing() {
    let mut c = crate::cluster::Cluster::new(&[1, 2, 3]);
    c.elect(1);
    for round in 0..10 {
        let (from, to) = (1 + round % 3, 1 + (round + 1) % 3);
        c.node(from).propose(format!("{round}")).unwrap();
        c.node(from).transfer_leader(to).unwrap();
        c.settle();
        assert!(c.node(to).is_leader(), "round {round}");
    }
    assert_eq!(c.applied(1), (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(c.applied(1), c.applied(2));
}
