//! Ticks (thesis, 3.4 and 9.3).

use std::collections::BTreeSet;

use stanchion_raft::{ConfState, Message, MessageType as T, Role};

use super::solo::{Solo, append, from};

fn timeout(n: &Solo) -> u32 {
    n.node.status().randomized_election_timeout
}

#[test]
fn election_timeouts_are_drawn_anew_from_e_to_2e_minus_1() {
    let mut n = Solo::new(&[1]);
    let mut seen = BTreeSet::new();
    for term in 2..600 {
        n.step(append(2, term, (1, 1), &[], 1));
        seen.insert(timeout(&n));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
}

#[test]
fn equal_seeds_of_different_nodes_draw_different_timeouts() {
    use stanchion_raft::{Config, MemStorage, RawNode};
    let draw = |id, seed| {
        let storage = MemStorage::with_conf_state(ConfState::new(&[1, 2, 3], &[]));
        let node =
            RawNode::new(&Config { seed, election_ticks: 1_000_000, ..Config::new(id) }, storage).unwrap();
        node.status().randomized_election_timeout
    };
    assert_ne!(draw(1, 5), draw(2, 5));
    assert_ne!(draw(1, 5), draw(1, 6));
    assert_eq!(draw(1, 5), draw(1, 5));
}

#[test]
fn a_follower_campaigns_when_the_timeout_is_reached_and_not_before() {
    let mut n = Solo::new(&[1]);
    n.node.set_randomized_election_timeout(12);
    n.tick(11);
    assert_eq!(n.role(), Role::Follower);
    n.tick(1);
    assert_eq!((n.role(), n.node.term()), (Role::Candidate, 2));
}

#[test]
fn becoming_pre_candidate_keeps_term_vote_and_timeout() {
    let mut n = Solo::tuned(&[1], |c| c.pre_vote = true);
    n.step(Message { index: 1, log_term: 1, ..from(2, T::Vote, 2) });
    n.node.set_randomized_election_timeout(17);
    n.node.campaign().unwrap();
    let status = n.node.status();
    assert_eq!((n.role(), status.hard_state.term, status.hard_state.vote), (Role::PreCandidate, 2, 2));
    assert_eq!(timeout(&n), 17);
    assert_eq!(n.node.leader(), 0);
}

#[test]
fn a_learner_keeps_counting_and_fires_once_it_is_promoted() {
    let mut n = Solo::of(&ConfState::new(&[2, 3], &[1]), &[1], |_| {});
    n.node.set_randomized_election_timeout(10);
    n.tick(40);
    assert_eq!(n.role(), Role::Follower);
    let promote = stanchion_raft::ConfChange::new(stanchion_raft::ConfChangeType::AddNode, 1);
    n.node.apply_conf_change(promote).unwrap();
    n.tick(1);
    assert_eq!(n.role(), Role::Candidate);
}

#[test]
fn messages_of_the_leader_restart_the_timer() {
    for m in [append(2, 2, (1, 1), &[], 1), from(2, T::Heartbeat, 2)] {
        let mut n = Solo::new(&[1]);
        n.step(from(2, T::Heartbeat, 2));
        n.node.set_randomized_election_timeout(12);
        n.tick(11);
        n.step(m);
        n.tick(11);
        assert_eq!(n.role(), Role::Follower);
    }
}

#[test]
fn a_granted_vote_restarts_the_timer_and_a_granted_pre_vote_does_not() {
    for (kind, restarted) in [(T::Vote, true), (T::PreVote, false)] {
        let mut n = Solo::new(&[1, 2]);
        n.node.set_randomized_election_timeout(99);
        n.tick(5);
        let term = if kind == T::Vote { 2 } else { 3 };
        assert!(!n.step(Message { index: 2, log_term: 2, ..from(2, kind, term) })[0].reject);
        assert_eq!(n.node.status().election_elapsed == 0, restarted, "{kind:?}");
    }
}

#[test]
fn a_leader_sends_heartbeats_every_heartbeat_tick() {
    let mut n = Solo::tuned(&[1], |c| c.heartbeat_ticks = 3);
    n.lead_replicated();
    let beats = |sent: Vec<Message>| sent.iter().filter(|m| m.msg_type == T::Heartbeat).count();
    assert_eq!(beats(n.tick(2)), 0);
    assert_eq!(beats(n.tick(1)), 2);
    assert_eq!(beats(n.tick(6)), 4);
}

#[test]
fn a_leader_without_check_quorum_stays_for_ever() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.tick(500);
    assert_eq!(n.role(), Role::Leader);
}

#[test]
fn loss_of_the_quorum_is_noticed_after_one_to_two_election_timeouts() {
    let mut n = Solo::tuned(&[1], |c| c.check_quorum = true);
    n.lead_replicated();
    n.tick(10);
    assert_eq!(n.role(), Role::Leader, "answers since it became leader count");
    n.tick(9);
    assert_eq!(n.role(), Role::Leader);
    n.tick(1);
    assert_eq!((n.role(), n.node.term(), n.node.leader()), (Role::Follower, 2, 0), "the same term");
}

#[test]
fn one_answer_a_timeout_keeps_a_leader_of_three() {
    let mut n = Solo::tuned(&[1], |c| c.check_quorum = true);
    n.lead_replicated();
    for _ in 0..20 {
        n.tick(10);
        n.step(from(3, T::HeartbeatResp, 2));
    }
    assert_eq!(n.role(), Role::Leader);
}

#[test]
fn a_learners_answers_do_not_keep_a_leader() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3], &[4]), &[1], |c| c.check_quorum = true);
    n.lead_replicated();
    n.tick(10);
    n.step(from(4, T::HeartbeatResp, 2));
    n.tick(10);
    assert_eq!(n.role(), Role::Follower);
}
