//! Configuration changes: simple, joint, learners, removal.

use stanchion_raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, DropReason,
    Error,
};

use crate::cluster::Cluster;

fn single(change_type: ConfChangeType, node_id: u64) -> ConfChangeSingle {
    ConfChangeSingle { change_type, node_id }
}

#[test]
fn a_node_that_joins_catches_up_from_a_snapshot() {
    let mut c = Cluster::new(&[1]);
    c.elect(1);
    c.node(1).propose("a").unwrap();
    c.settle();
    c.node(1).propose_conf_change(&ConfChange::new(ConfChangeType::AddNode, 2)).unwrap();
    c.settle();
    c.members.get_mut(&1).unwrap().compact();
    c.join(2);
    c.tick(1, 1);
    c.settle();
    assert_eq!(c.node(2).conf_state(), ConfState::new(&[1, 2], &[]));
    c.node(2).propose("b").unwrap();
    c.settle();
    assert_eq!(c.applied(2), ["b"]);
}

#[test]
fn a_joint_configuration_is_left_by_itself() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.join(4);
    let changes = vec![single(ConfChangeType::AddNode, 4), single(ConfChangeType::RemoveNode, 3)];
    c.node(1).propose_conf_change_v2(&ConfChangeV2::new(ConfChangeTransition::Auto, changes)).unwrap();
    for _ in 0..5 {
        c.settle();
        c.tick(1, 1);
    }
    assert_eq!(c.node(1).conf_state(), ConfState::new(&[1, 2, 4], &[]));
    assert!(c.members.values().all(|m| m.conf_errors == 0));
}

#[test]
fn an_explicit_joint_configuration_waits_for_its_leave() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    let changes = vec![single(ConfChangeType::AddLearnerNode, 3)];
    c.node(1)
        .propose_conf_change_v2(&ConfChangeV2::new(ConfChangeTransition::JointExplicit, changes))
        .unwrap();
    c.settle();
    let cs = c.node(1).conf_state();
    assert_eq!((cs.voters_outgoing, cs.learners_next), (vec![1, 2, 3], vec![3]));
    c.node(1).propose_conf_change_v2(&ConfChangeV2::default()).unwrap();
    c.settle();
    assert_eq!(c.node(1).conf_state(), ConfState::new(&[1, 2], &[3]));
}

#[test]
fn a_second_change_before_the_first_is_applied_becomes_an_empty_entry() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.node(1).propose_conf_change(&ConfChange::new(ConfChangeType::AddLearnerNode, 4)).unwrap();
    c.node(1).propose_conf_change(&ConfChange::new(ConfChangeType::AddLearnerNode, 5)).unwrap();
    c.settle();
    assert_eq!(c.node(1).conf_state().learners, [4]);
}

#[test]
fn the_last_voter_cannot_be_removed() {
    let mut c = Cluster::new(&[1]);
    c.elect(1);
    c.node(1).propose_conf_change(&ConfChange::new(ConfChangeType::RemoveNode, 1)).unwrap();
    c.settle();
    assert_eq!(c.members[&1].conf_errors, 1);
    assert_eq!(c.node(1).conf_state().voters, [1]);
}

#[test]
fn a_removed_leader_takes_no_proposal() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.node(1).propose_conf_change(&ConfChange::new(ConfChangeType::RemoveNode, 1)).unwrap();
    c.settle();
    assert_eq!(c.node(1).propose("x"), Err(Error::ProposalDropped(DropReason::NotMember)));
    for _ in 0..40 {
        c.tick(2, 1);
        c.tick(3, 1);
        c.settle();
    }
    assert!(c.node(2).is_leader() || c.node(3).is_leader());
}
