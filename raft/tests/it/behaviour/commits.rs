//! What is committed, and when (paper, 5.4.2; thesis, 10.2.1).

use stanchion_raft::{ConfChange, ConfChangeType, ConfState, Message, MessageType as T, Role};

use super::solo::{Solo, append, from};

#[test]
fn entries_of_earlier_terms_commit_only_with_one_of_the_own() {
    let mut n = Solo::new(&[1, 2, 2]);
    n.lead();
    let term = n.node.term();
    n.step(Message { index: 3, ..from(2, T::AppResp, term) });
    assert_eq!(n.commit(), 1, "on a quorum, but of an earlier term");
    n.step(Message { index: 4, ..from(2, T::AppResp, term) });
    assert_eq!(n.commit(), 4);
}

#[test]
fn a_leader_begins_with_an_empty_entry_that_no_limit_refuses() {
    let mut n = Solo::tuned(&[1, 2], |c| c.max_uncommitted_bytes = 1);
    let sent = n.lead();
    assert_eq!((sent[0].entries.len(), sent[0].entries[0].data.len(), n.last()), (1, 0, 3));
    assert_eq!(n.node.status().uncommitted_bytes, 0);
}

#[test]
fn the_leader_counts_itself_only_up_to_what_is_durable() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3], &[]), &[1], |_| {});
    n.lead_replicated();
    n.node.propose("x").unwrap();
    let ready = n.node.ready().unwrap();
    n.node.step(Message { index: 3, ..from(2, T::AppResp, 2) }).unwrap();
    assert_eq!(n.commit(), 2, "on node 2's disk alone");
    n.node.storage_mut().append(&ready.entries).unwrap();
    n.node.advance(ready).unwrap();
    assert_eq!(n.commit(), 3);
}

#[test]
fn a_quorum_of_followers_commits_what_the_leader_has_not_written() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.node.propose("x").unwrap();
    let ready = n.node.ready().unwrap();
    for peer in [2, 3] {
        n.node.step(Message { index: 3, ..from(peer, T::AppResp, 2) }).unwrap();
    }
    assert_eq!(n.commit(), 3);
    n.node.storage_mut().append(&ready.entries).unwrap();
    n.node.advance(ready).unwrap();
}

#[test]
fn learners_do_not_count() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3], &[4, 5]), &[1], |_| {});
    n.lead();
    for learner in [4, 5] {
        n.step(Message { index: 2, ..from(learner, T::AppResp, 2) });
    }
    assert_eq!(n.commit(), 1);
}

#[test]
fn both_halves_of_a_joint_configuration_commit() {
    let joint = ConfState { voters: vec![1, 2, 3], voters_outgoing: vec![1, 4, 5], ..ConfState::default() };
    let mut n = Solo::of(&joint, &[1], |_| {});
    n.node.campaign().unwrap();
    n.work();
    for peer in [2, 4] {
        n.step(from(peer, T::VoteResp, 2));
    }
    assert_eq!(n.role(), Role::Leader);
    for (peer, committed) in [(2, 1), (3, 1), (4, 2)] {
        n.ack(peer);
        assert_eq!(n.commit(), committed, "after node {peer}");
    }
}

#[test]
fn removing_a_voter_can_commit_and_everybody_is_told() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3, 4], &[]), &[1], |_| {});
    n.node.campaign().unwrap();
    n.work();
    n.step(from(2, T::VoteResp, 2));
    n.step(from(3, T::VoteResp, 2));
    n.ack_all();
    n.propose(b"x");
    n.ack(2);
    assert_eq!(n.commit(), 2, "two of four");
    n.node.apply_conf_change(ConfChange::new(ConfChangeType::RemoveNode, 4)).unwrap();
    assert_eq!(n.commit(), 3, "two of three");
    let told: Vec<(u64, u64)> = n.work().iter().map(|m| (m.to, m.commit)).collect();
    assert_eq!(told, [(2, 3), (3, 3)]);
}

#[test]
fn the_commit_index_never_goes_back() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[2, 2, 2], 4));
    n.step(append(2, 2, (4, 2), &[], 2));
    n.step(Message { commit: 3, ..from(2, T::Heartbeat, 2) });
    assert_eq!(n.commit(), 4);
}
