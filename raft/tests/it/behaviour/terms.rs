//! What a message's term means (paper, 5.1; thesis, 6.2 and 9.6).

use stanchion_raft::{Message, MessageType as T, Role};

use super::solo::{Solo, append, from};

fn vote_request(msg_type: T, term: u64) -> Message {
    Message { index: 9, log_term: term - 1, ..from(2, msg_type, term) }
}

#[test]
fn a_request_without_a_term_is_treated_as_local() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    let prop = Message { entries: vec![stanchion_raft::Entry::normal("x")], ..from(2, T::Prop, 0) };
    assert_eq!(n.step(prop).len(), 2);
    assert_eq!(n.node.term(), 2);
}

#[test]
fn votes_are_ignored_silently_while_a_leader_is_known_and_its_lease_runs() {
    for kind in [T::Vote, T::PreVote] {
        let mut n = Solo::tuned(&[1], |c| c.check_quorum = true);
        n.step(append(2, 2, (1, 1), &[], 1));
        assert_eq!(n.step(vote_request(kind, 5)), []);
        assert_eq!(n.node.term(), 2);
        n.node.set_randomized_election_timeout(99);
        n.tick(10);
        let answer = n.step(vote_request(kind, 5));
        assert_eq!((answer.len(), answer[0].reject), (1, false), "{kind:?} after the lease");
    }
}

#[test]
fn a_campaign_for_a_transfer_overrides_the_lease() {
    let mut n = Solo::tuned(&[1], |c| c.check_quorum = true);
    n.step(append(3, 2, (1, 1), &[], 1));
    let request = Message { context: b"CampaignTransfer"[..].into(), ..vote_request(T::Vote, 3) };
    assert!(!n.step(request)[0].reject);
    assert_eq!(n.node.term(), 3);
}

#[test]
fn a_pre_vote_of_a_higher_term_does_not_change_the_own() {
    let mut n = Solo::new(&[1]);
    let answer = n.step(vote_request(T::PreVote, 7));
    assert_eq!((answer[0].term, answer[0].reject, n.node.term()), (7, false, 1));
    assert_eq!(n.node.status().hard_state.vote, 0);
}

#[test]
fn a_granted_pre_vote_answer_does_not_change_the_term_and_a_refusal_of_a_higher_term_does() {
    let mut n = Solo::tuned(&[1], |c| c.pre_vote = true);
    n.node.campaign().unwrap();
    n.work();
    n.step(from(2, T::PreVoteResp, 9));
    assert_eq!((n.node.term(), n.role()), (2, Role::Candidate), "the grant counts, its term does not");
    n.step(Message { reject: true, ..from(3, T::PreVoteResp, 9) });
    assert_eq!((n.node.term(), n.role()), (9, Role::Follower));
}

#[test]
fn a_higher_term_makes_a_follower_of_the_sender_only_if_it_leads() {
    for (kind, leader) in
        [(T::App, 2), (T::Heartbeat, 2), (T::AppResp, 0), (T::VoteResp, 0), (T::TimeoutNow, 0)]
    {
        let mut n = Solo::new(&[1]);
        n.lead_replicated();
        n.node.step(Message { index: 1, log_term: 1, ..from(2, kind, 9) }).unwrap();
        // A TimeoutNow of a later term is still an order to campaign.
        if kind == T::TimeoutNow {
            assert_eq!((n.node.term(), n.role()), (10, Role::Candidate));
        } else {
            assert_eq!((n.node.term(), n.role(), n.node.leader()), (9, Role::Follower, leader), "{kind:?}");
        }
    }
}

#[test]
fn an_append_or_heartbeat_of_a_lower_term_is_answered_with_the_own_term() {
    for kind in [T::App, T::Heartbeat] {
        for (pre_vote, check_quorum) in [(false, true), (true, false)] {
            let mut n = Solo::tuned(&[1, 5], |c| (c.pre_vote, c.check_quorum) = (pre_vote, check_quorum));
            let sent = n.step(from(2, kind, 3));
            assert_eq!((sent.len(), sent[0].msg_type, sent[0].term), (1, T::AppResp, 5));
        }
        assert_eq!(Solo::new(&[1, 5]).step(from(2, kind, 3)), [], "without either it is ignored");
    }
}

#[test]
fn a_pre_vote_of_a_lower_term_is_refused_at_the_own_term() {
    let mut n = Solo::tuned(&[1, 5], |c| c.pre_vote = true);
    let sent = n.step(vote_request(T::PreVote, 3));
    assert_eq!((sent[0].msg_type, sent[0].reject, sent[0].term), (T::PreVoteResp, true, 5));
}

#[test]
fn anything_else_of_a_lower_term_is_ignored() {
    let mut n = Solo::tuned(&[1, 5], |c| (c.pre_vote, c.check_quorum) = (true, true));
    for kind in [T::Vote, T::VoteResp, T::AppResp, T::HeartbeatResp, T::TimeoutNow] {
        assert_eq!(n.step(from(2, kind, 3)), [], "{kind:?}");
    }
    assert_eq!((n.node.term(), n.role()), (5, Role::Follower));
}

#[test]
fn changing_the_term_clears_the_vote_and_a_role_change_in_the_term_does_not() {
    let mut n = Solo::new(&[1]);
    n.step(vote_request(T::Vote, 2));
    assert_eq!(n.node.status().hard_state.vote, 2);
    n.step(append(3, 2, (1, 1), &[], 1));
    assert_eq!(n.node.status().hard_state.vote, 2, "another leader of the same term");
    n.step(append(3, 3, (1, 1), &[], 1));
    assert_eq!(n.node.status().hard_state.vote, 0);
}

/// A node that came back with a higher term and a shorter log, and one with a lower term and a longer log, each with
/// pre-vote on: one must get the other's vote in the end.
#[test]
fn mixed_terms_and_logs_do_not_block_each_other_for_ever() {
    let mut long = Solo::tuned(&[1, 2, 2], |c| c.pre_vote = true);
    long.node.campaign().unwrap();
    let asked = long.work();
    assert_eq!(asked[0].term, 3);
    // The other side is in term 9 already and says so.
    let refusal = Message { reject: true, ..from(2, T::PreVoteResp, 9) };
    long.step(refusal);
    assert_eq!((long.role(), long.node.term()), (Role::Follower, 9));
    long.node.campaign().unwrap();
    assert_eq!(long.work()[0].term, 10, "now it asks for a term that counts");
}
