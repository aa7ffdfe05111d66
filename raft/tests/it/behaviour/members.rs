//! Membership changes (thesis, chapter 4), as far as one node shows them.

use stanchion_raft::tracker::ProgressState;
use stanchion_raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType as Op, ConfChangeV2, ConfState,
    EntryType, Message, MessageType as T, Role,
};

use super::solo::{Solo, append, from};

fn change(transition: ConfChangeTransition, changes: &[(Op, u64)]) -> ConfChangeV2 {
    let single = |&(change_type, node_id): &(Op, u64)| ConfChangeSingle { change_type, node_id };
    ConfChangeV2::new(transition, changes.iter().map(single).collect())
}

fn leader() -> Solo {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n
}

#[test]
fn a_change_takes_effect_when_it_is_applied() {
    let mut n = leader();
    n.node.propose_conf_change(&ConfChange::new(Op::AddNode, 4)).unwrap();
    n.work();
    assert_eq!(n.node.conf_state().voters, [1, 2, 3]);
    n.ack(2);
    assert_eq!(n.node.conf_state().voters, [1, 2, 3, 4]);
}

#[test]
fn a_new_peer_is_probed_from_the_end_of_the_log_and_counts_as_heard() {
    let mut n = leader();
    n.node.apply_conf_change(ConfChange::new(Op::AddNode, 4)).unwrap();
    let peer = n.node.peer(4).unwrap();
    assert_eq!(
        (peer.state, peer.match_index, peer.next, peer.recent_active),
        (ProgressState::Probe, 0, 2, true)
    );
    let mut n = Solo::tuned(&[1], |c| c.check_quorum = true);
    n.lead_replicated();
    for id in 4..=7 {
        n.node.apply_conf_change(ConfChange::new(Op::AddNode, id)).unwrap();
    }
    n.tick(10);
    assert_eq!(n.role(), Role::Leader, "four newcomers had no chance to answer yet");
}

#[test]
fn simple_and_joint_paths_follow_the_transition() {
    use ConfChangeTransition::{Auto, JointExplicit, JointImplicit};
    let one: &[(Op, u64)] = &[(Op::AddNode, 4)];
    let two: &[(Op, u64)] = &[(Op::AddNode, 4), (Op::RemoveNode, 3)];
    for (transition, changes, joint, auto_leave) in [
        (Auto, one, false, false),
        (JointImplicit, one, true, true),
        (JointExplicit, one, true, false),
        (Auto, two, true, true),
        (JointImplicit, two, true, true),
        (JointExplicit, two, true, false),
    ] {
        let mut n = Solo::new(&[1]);
        let state = n.node.apply_conf_change(change(transition, changes)).unwrap();
        assert_eq!(
            (!state.voters_outgoing.is_empty(), state.auto_leave),
            (joint, auto_leave),
            "{transition:?}"
        );
    }
}

#[test]
fn operations_on_node_zero_and_updates_change_nothing() {
    let mut n = leader();
    let before = n.node.conf_state();
    for (op, id) in [(Op::AddNode, 0), (Op::RemoveNode, 0), (Op::AddLearnerNode, 0), (Op::UpdateNode, 2)] {
        assert_eq!(n.node.apply_conf_change(ConfChange::new(op, id)).unwrap(), before);
    }
}

#[test]
fn adding_removing_promoting_and_demoting_are_idempotent() {
    let mut n = leader();
    for (op, id) in [(Op::AddNode, 4), (Op::AddLearnerNode, 4), (Op::AddNode, 4), (Op::RemoveNode, 4)] {
        let once = n.node.apply_conf_change(ConfChange::new(op, id)).unwrap();
        assert_eq!(n.node.apply_conf_change(ConfChange::new(op, id)).unwrap(), once, "{op:?}");
    }
    assert_eq!(n.node.conf_state(), ConfState::new(&[1, 2, 3], &[]));
}

#[test]
fn a_demoted_voter_keeps_its_progress_and_waits_for_the_leave() {
    let mut n = leader();
    let demote = change(ConfChangeTransition::JointExplicit, &[(Op::AddLearnerNode, 3)]);
    let state = n.node.apply_conf_change(demote).unwrap();
    assert_eq!((state.voters, state.learners, state.learners_next), (vec![1, 2], vec![], vec![3]));
    assert_eq!((n.node.peer(3).unwrap().match_index, n.node.peer(3).unwrap().is_learner), (2, false));
    let state = n.node.apply_conf_change(ConfChangeV2::default()).unwrap();
    assert_eq!((state.learners, state.learners_next), (vec![3], vec![]));
    assert_eq!((n.node.peer(3).unwrap().match_index, n.node.peer(3).unwrap().is_learner), (2, true));
}

/// The leave of a joint configuration, proposed by whoever leads.
fn leaves(n: &Solo) -> usize {
    let mut stored = Vec::new();
    let last = n.node.status().last_index;
    stanchion_raft::Storage::entries(n.node.storage(), 2, last + 1, u64::MAX, &mut stored).unwrap();
    stored.iter().filter(|e| e.entry_type == EntryType::ConfChangeV2 && e.data.is_empty()).count()
}

#[test]
fn the_leave_is_proposed_once_however_often_something_is_applied() {
    let mut n = leader();
    let swap = change(ConfChangeTransition::Auto, &[(Op::AddNode, 4), (Op::RemoveNode, 3)]);
    n.node.propose_conf_change_v2(&swap).unwrap();
    n.work();
    n.ack(2);
    assert_eq!(leaves(&n), 1);
    for _ in 0..3 {
        n.propose(b"x");
    }
    n.step(Message { index: 3, ..from(2, T::AppResp, 2) });
    assert_eq!(leaves(&n), 1);
    n.ack(2);
    assert_eq!(n.node.conf_state(), ConfState::new(&[1, 2, 4], &[]));
    n.propose(b"y");
    n.ack(2);
    assert_eq!(leaves(&n), 1);
}

#[test]
fn a_leave_that_a_transfer_holds_up_is_proposed_later() {
    let mut n = leader();
    let swap = change(ConfChangeTransition::Auto, &[(Op::AddNode, 4), (Op::RemoveNode, 3)]);
    n.node.propose_conf_change_v2(&swap).unwrap();
    n.propose(b"x");
    n.node.transfer_leader(2).unwrap();
    n.step(Message { index: 3, ..from(3, T::AppResp, 2) });
    assert_eq!((n.node.status().applied, leaves(&n)), (3, 0), "applied during a transfer");
    n.tick(10);
    assert_eq!(n.node.status().transferee, 0);
    n.step(Message { index: 4, ..from(2, T::AppResp, 2) });
    assert_eq!(leaves(&n), 1, "with the next applied entry");
}

#[test]
fn a_new_leader_proposes_the_leave_that_its_predecessor_did_not() {
    let swap = change(ConfChangeTransition::Auto, &[(Op::AddNode, 4), (Op::RemoveNode, 3)]);
    let mut n = Solo::new(&[1]);
    let entry = stanchion_raft::Entry { index: 2, term: 2, ..swap.to_entry() };
    n.step(Message { entries: vec![entry], commit: 2, ..append(2, 2, (1, 1), &[], 2) });
    assert!(n.node.conf_state().auto_leave);
    n.node.campaign().unwrap();
    n.work();
    n.step(from(2, T::VoteResp, 3));
    assert_eq!((n.role(), leaves(&n)), (Role::Leader, 0));
    n.ack(2);
    assert_eq!(leaves(&n), 1);
}

#[test]
fn a_leader_that_is_removed_or_demoted_steps_down_if_it_is_told_to() {
    for op in [Op::RemoveNode, Op::AddLearnerNode] {
        for step_down in [false, true] {
            let mut n = Solo::tuned(&[1], |c| c.step_down_on_removal = step_down);
            n.lead_replicated();
            n.node.apply_conf_change(ConfChange::new(op, 1)).unwrap();
            let role = if step_down { Role::Follower } else { Role::Leader };
            assert_eq!((n.role(), n.node.term()), (role, 2), "{op:?}, the same term");
            let beats = n.tick(1).iter().filter(|m| m.msg_type == T::Heartbeat).count();
            assert_eq!(beats, if step_down { 0 } else { 2 });
        }
    }
}

#[test]
fn a_removed_leader_does_not_count_itself() {
    let mut n = leader();
    n.propose(b"x");
    n.node.apply_conf_change(ConfChange::new(Op::RemoveNode, 1)).unwrap();
    n.ack(2);
    assert_eq!(n.commit(), 2);
    n.ack(3);
    assert_eq!(n.commit(), 3);
}

#[test]
fn answers_of_a_removed_node_are_refused() {
    let mut n = leader();
    n.node.apply_conf_change(ConfChange::new(Op::RemoveNode, 3)).unwrap();
    let refusal = n.refuse(Message { index: 2, ..from(3, T::AppResp, 2) });
    assert_eq!(refusal, stanchion_raft::Error::UnknownPeer { msg_type: T::AppResp, from: 3 });
}
