//! Campaigns and votes (paper, 5.2 and 5.4.1; thesis, 4.2.2 and 9.6).

use stanchion_raft::{ConfChange, ConfChangeType, ConfState, Message, MessageType as T, Role};

use super::solo::{Solo, append, entries, from};

fn request(peer: u64, term: u64, (index, log_term): (u64, u64)) -> Message {
    Message { index, log_term, ..from(peer, T::Vote, term) }
}

#[test]
fn a_vote_needs_a_log_that_is_at_least_as_up_to_date() {
    // The own log ends at 3/2.
    for (end, granted) in [((3, 2), true), ((4, 2), true), ((2, 2), false), ((2, 3), true), ((9, 1), false)] {
        for kind in [T::Vote, T::PreVote] {
            let mut n = Solo::new(&[1, 2, 2]);
            let answer = n.step(Message { msg_type: kind, ..request(2, 5, end) });
            assert_eq!(answer[0].reject, !granted, "{kind:?} {end:?}");
        }
    }
}

#[test]
fn one_vote_a_term_and_the_same_candidate_may_ask_again() {
    let mut n = Solo::new(&[1]);
    assert!(!n.step(request(2, 2, (1, 1)))[0].reject);
    assert!(n.step(request(3, 2, (5, 1)))[0].reject);
    assert!(!n.step(request(2, 2, (1, 1)))[0].reject);
    assert!(!n.step(request(3, 3, (5, 1)))[0].reject);
}

#[test]
fn no_vote_in_a_term_whose_leader_is_known() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[], 1));
    assert!(n.step(request(3, 2, (9, 1)))[0].reject);
}

#[test]
fn learners_and_nodes_outside_the_configuration_grant_votes() {
    for members in [ConfState::new(&[2, 3], &[1]), ConfState::new(&[2, 3], &[])] {
        let mut n = Solo::of(&members, &[1], |_| {});
        assert!(!n.step(request(2, 2, (1, 1)))[0].reject);
        n.node.campaign().unwrap();
        assert_eq!(n.role(), Role::Follower, "but they do not campaign");
        n.step(from(2, T::TimeoutNow, 2));
        assert_eq!(n.role(), Role::Follower, "not even when they are told to");
    }
}

#[test]
fn requests_go_to_the_voters_of_both_halves_in_id_order() {
    let joint = ConfState {
        voters: vec![5, 1, 2],
        voters_outgoing: vec![3, 1],
        learners: vec![4],
        ..ConfState::default()
    };
    let mut n = Solo::of(&joint, &[1], |_| {});
    n.node.campaign().unwrap();
    let to: Vec<u64> = n.work().iter().map(|m| m.to).collect();
    assert_eq!(to, [2, 3, 5]);
}

#[test]
fn a_joint_election_needs_both_majorities_and_is_lost_with_either() {
    let joint = ConfState { voters: vec![1, 2, 3], voters_outgoing: vec![1, 4, 5], ..ConfState::default() };
    let start = || {
        let mut n = Solo::of(&joint, &[1], |_| {});
        n.node.campaign().unwrap();
        n.work();
        n
    };
    let mut n = start();
    n.step(from(2, T::VoteResp, 2));
    n.step(from(3, T::VoteResp, 2));
    assert_eq!(n.role(), Role::Candidate, "three of the incoming, one of the outgoing");
    n.step(from(4, T::VoteResp, 2));
    assert_eq!(n.role(), Role::Leader);
    let mut n = start();
    n.step(from(2, T::VoteResp, 2));
    n.step(Message { reject: true, ..from(4, T::VoteResp, 2) });
    n.step(Message { reject: true, ..from(5, T::VoteResp, 2) });
    assert_eq!(n.role(), Role::Follower);
}

#[test]
fn the_first_answer_of_a_voter_counts() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3, 4, 5], &[]), &[1], |_| {});
    n.node.campaign().unwrap();
    n.work();
    n.step(Message { reject: true, ..from(2, T::VoteResp, 2) });
    n.step(from(2, T::VoteResp, 2));
    n.step(from(3, T::VoteResp, 2));
    n.step(from(3, T::VoteResp, 2));
    assert_eq!(n.role(), Role::Candidate);
    n.step(from(4, T::VoteResp, 2));
    assert_eq!(n.role(), Role::Leader);
}

#[test]
fn late_pre_vote_grants_are_no_votes() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3, 4, 5], &[]), &[1], |c| c.pre_vote = true);
    n.node.campaign().unwrap();
    n.work();
    n.step(from(2, T::PreVoteResp, 2));
    n.step(from(3, T::PreVoteResp, 2));
    assert_eq!(n.role(), Role::Candidate);
    n.step(from(4, T::PreVoteResp, 2));
    n.step(from(5, T::PreVoteResp, 2));
    assert_eq!(n.role(), Role::Candidate);
}

#[test]
fn a_quorum_of_refused_pre_votes_ends_the_attempt_in_the_own_term() {
    let mut n = Solo::tuned(&[1], |c| c.pre_vote = true);
    n.node.campaign().unwrap();
    n.work();
    for peer in [2, 3] {
        n.step(Message { reject: true, ..from(peer, T::PreVoteResp, 1) });
    }
    assert_eq!((n.role(), n.node.term()), (Role::Follower, 1));
}

#[test]
fn a_candidate_follows_whoever_leads_its_term() {
    for m in [append(2, 2, (1, 1), &[], 1), from(2, T::Heartbeat, 2)] {
        for pre_vote in [false, true] {
            let mut n = Solo::tuned(&[1], |c| c.pre_vote = pre_vote);
            n.node.campaign().unwrap();
            n.work();
            n.step(m.clone());
            assert_eq!((n.role(), n.node.leader(), n.node.term()), (Role::Follower, 2, 2));
        }
    }
}

#[test]
fn a_candidate_ignores_an_order_to_campaign() {
    let mut n = Solo::new(&[1]);
    n.node.campaign().unwrap();
    n.work();
    assert_eq!(n.step(from(2, T::TimeoutNow, 2)), []);
    assert_eq!(n.node.term(), 2);
}

#[test]
fn the_own_vote_of_an_earlier_term_does_not_count() {
    let mut n = Solo::new(&[1]);
    n.node.campaign().unwrap();
    // The write of this vote is under way when another term begins.
    let ready = n.node.ready().unwrap();
    n.node.step(from(2, T::HeartbeatResp, 7)).unwrap();
    n.node.advance(ready).unwrap();
    assert_eq!((n.role(), n.node.term()), (Role::Follower, 7));
    assert_eq!(n.work(), []);
}

#[test]
fn committed_changes_that_are_not_applied_hold_back_a_campaign_across_pages() {
    let change = ConfChange::new(ConfChangeType::AddNode, 4).to_entry();
    let mut n = Solo::tuned(&[1], |c| c.max_committed_bytes_per_ready = 1);
    let mut tail = entries(1, &[2; 20]);
    tail[15] = stanchion_raft::Entry { index: 17, term: 2, ..change };
    n.node.step(Message { entries: tail, commit: 21, ..append(2, 2, (1, 1), &[], 1) }).unwrap();
    n.node.campaign().unwrap();
    assert_eq!(n.role(), Role::Follower, "entry 17 is pages away");
    n.node.step(from(2, T::TimeoutNow, 2)).unwrap();
    assert_eq!(n.role(), Role::Follower, "nor for a transfer");
    n.work();
    n.node.campaign().unwrap();
    assert_eq!(n.role(), Role::Candidate);
}

#[test]
fn an_uncommitted_change_holds_nothing_back() {
    let mut n = Solo::new(&[1]);
    let change = ConfChange::new(ConfChangeType::AddNode, 4).to_entry();
    let entry = stanchion_raft::Entry { index: 2, term: 2, ..change };
    n.step(Message { entries: vec![entry], ..append(2, 2, (1, 1), &[], 1) });
    n.node.campaign().unwrap();
    assert_eq!(n.role(), Role::Candidate);
}
