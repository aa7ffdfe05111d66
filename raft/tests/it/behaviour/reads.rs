//! Linearizable reads (thesis, 6.4).

use bytes::Bytes;
use stanchion_raft::{
    ConfState, Config, Entry, Error, Message, MessageType as T, ReadOnlyOption, ReadState, Role,
};

use super::solo::{Solo, append, from};

fn leader(tune: impl Fn(&mut Config)) -> Solo {
    let mut n = Solo::tuned(&[1], tune);
    n.lead_replicated();
    n
}

fn round(n: u64) -> Bytes {
    n.to_le_bytes().to_vec().into()
}

fn request(peer: u64, context: &'static [u8]) -> Message {
    Message { entries: vec![Entry::normal(context)], ..from(peer, T::ReadIndex, 0) }
}

fn echo(peer: u64, number: u64) -> Message {
    Message { context: round(number), ..from(peer, T::HeartbeatResp, 2) }
}

#[test]
fn the_context_is_the_number_of_the_newest_request_in_eight_bytes() {
    let mut n = leader(|_| {});
    n.node.read_index("a").unwrap();
    assert!(n.work().iter().all(|m| m.context == round(1)));
    n.node.read_index("b").unwrap();
    assert!(n.work().iter().all(|m| m.msg_type == T::Heartbeat && m.context == round(2)));
    assert!(n.tick(1).iter().all(|m| m.context == round(2)), "every heartbeat asks again");
}

#[test]
fn an_echo_confirms_everything_up_to_its_number() {
    let mut n = leader(|_| {});
    for context in ["a", "b", "c"] {
        n.node.read_index(context).unwrap();
        n.work();
    }
    n.step(echo(2, 2));
    let got: Vec<&[u8]> = n.reads.iter().map(|r| &r.context[..]).collect();
    assert_eq!(got, [b"a", b"b"]);
    assert_eq!(n.node.status().pending_reads, 1, "confirmed ones are forgotten");
}

#[test]
fn the_index_is_the_commit_index_when_the_request_came() {
    let mut n = leader(|_| {});
    n.node.read_index("a").unwrap();
    n.propose(b"x");
    n.ack(2);
    assert_eq!(n.commit(), 3);
    n.step(echo(2, 1));
    assert_eq!(n.reads, [ReadState { index: 2, context: Bytes::from_static(b"a") }]);
}

#[test]
fn echoes_of_others_than_voters_and_of_unknown_rounds_do_not_count() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3], &[4]), &[1], |_| {});
    n.lead_replicated();
    n.node.read_index("a").unwrap();
    n.work();
    n.step(echo(4, 1));
    n.step(echo(2, 77));
    n.step(Message { context: Bytes::from_static(b"other"), ..echo(2, 0) });
    n.step(Message { context: Bytes::new(), ..echo(2, 0) });
    assert_eq!(n.reads, []);
    n.step(echo(2, 1));
    assert_eq!(n.reads.len(), 1);
}

#[test]
fn both_halves_of_a_joint_configuration_must_confirm() {
    let joint = ConfState { voters: vec![1, 2, 3], voters_outgoing: vec![1, 4, 5], ..ConfState::default() };
    let mut n = Solo::of(&joint, &[1], |_| {});
    n.node.campaign().unwrap();
    n.work();
    n.step(from(2, T::VoteResp, 2));
    n.step(from(4, T::VoteResp, 2));
    n.ack_all();
    n.node.read_index("a").unwrap();
    n.work();
    n.step(echo(2, 1));
    n.step(echo(3, 1));
    assert_eq!(n.reads, []);
    n.step(echo(5, 1));
    assert_eq!(n.reads.len(), 1);
}

#[test]
fn a_request_from_a_follower_or_learner_is_answered_to_it() {
    let mut n = Solo::of(&ConfState::new(&[1, 2, 3], &[4]), &[1], |_| {});
    n.lead_replicated();
    for peer in [2, 4] {
        n.step(request(peer, b"its"));
    }
    let sent = n.step(echo(3, 2));
    let answers: Vec<_> =
        sent.iter().map(|m| (m.msg_type, m.to, m.index, m.entries[0].data.clone())).collect();
    let its = Bytes::from_static(b"its");
    assert_eq!(answers, [(T::ReadIndexResp, 2, 2, its.clone()), (T::ReadIndexResp, 4, 2, its)]);
    assert_eq!(n.reads, []);
}

#[test]
fn a_follower_forwards_with_the_asker_as_sender_and_without_a_term() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[], 1));
    let sent = n.step(request(3, b"far"));
    assert_eq!((sent[0].msg_type, sent[0].from, sent[0].to, sent[0].term), (T::ReadIndex, 3, 2, 0));
}

#[test]
fn without_a_leader_and_while_campaigning_a_request_is_dropped() {
    let mut n = Solo::new(&[1]);
    n.node.read_index("x").unwrap();
    assert_eq!(n.work(), []);
    n.node.campaign().unwrap();
    n.work();
    n.node.read_index("x").unwrap();
    assert_eq!((n.work(), n.reads.len()), (vec![], 0));
}

#[test]
fn an_answer_of_the_leader_becomes_a_read_state() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[], 1));
    let answer = Message { index: 7, entries: vec![Entry::normal("mine")], ..from(2, T::ReadIndexResp, 2) };
    n.step(answer);
    assert_eq!(n.reads, [ReadState { index: 7, context: Bytes::from_static(b"mine") }]);
}

#[test]
fn a_read_before_the_first_commit_of_the_term_waits_for_it() {
    let mut n = Solo::new(&[1, 2]);
    n.lead();
    n.node.read_index("early").unwrap();
    assert_eq!((n.work(), n.node.status().pending_reads), (vec![], 1));
    let sent = n.ack(2);
    assert!(sent.iter().any(|m| m.msg_type == T::Heartbeat && m.context == round(1)));
    n.step(Message { term: n.node.term(), ..echo(2, 1) });
    assert_eq!(n.reads, [ReadState { index: 3, context: Bytes::from_static(b"early") }]);
}

#[test]
fn a_new_term_drops_what_waits_for_confirmation_and_keeps_what_is_parked() {
    let mut n = leader(|_| {});
    n.node.read_index("old").unwrap();
    n.work();
    n.step(append(2, 3, (2, 2), &[], 2));
    assert_eq!(n.node.status().pending_reads, 0);
    n.lead();
    n.ack(2);
    n.step(Message { term: 4, ..echo(2, 1) });
    assert_eq!(n.reads, [], "an echo of the last leadership's round finds nothing");
    // Parked requests wait for the next leadership of this node.
    let mut n = Solo::new(&[1]);
    n.lead();
    n.node.read_index("parked").unwrap();
    n.work();
    n.step(append(2, 3, (1, 1), &[3], 1));
    assert_eq!(n.node.status().pending_reads, 1);
    n.lead();
    n.ack(2);
    n.step(Message { term: 4, ..echo(2, 1) });
    assert_eq!(n.reads.len(), 1);
}

#[test]
fn a_lone_voter_answers_at_once_but_not_before_its_first_commit() {
    let mut n = Solo::of(&ConfState::new(&[1], &[2]), &[1, 1], |_| {});
    n.node.campaign().unwrap();
    let ready = n.node.ready().unwrap();
    n.node.storage_mut().set_hard_state(ready.hard_state.unwrap());
    n.node.advance(ready).unwrap();
    assert_eq!((n.role(), n.commit()), (Role::Leader, 1));
    n.node.read_index("too early").unwrap();
    assert_eq!(n.node.status().pending_reads, 1, "entry 2 may have been acknowledged before the crash");
    n.work();
    assert_eq!(n.reads, [ReadState { index: 3, context: Bytes::from_static(b"too early") }]);
}

#[test]
fn with_a_lease_a_leader_answers_alone_after_its_first_commit() {
    let lease = |c: &mut Config| (c.check_quorum, c.read_only) = (true, ReadOnlyOption::LeaseBased);
    let mut n = Solo::tuned(&[1], lease);
    n.lead();
    n.node.read_index("early").unwrap();
    assert_eq!(n.work(), []);
    n.ack(2);
    assert_eq!(n.reads, [ReadState { index: 2, context: Bytes::from_static(b"early") }]);
    n.node.read_index("a").unwrap();
    assert!(n.work().is_empty());
    assert_eq!(n.reads.len(), 2);
}

/// What the lease rests on: bounded drift. A leader whose process stood still for longer than an election timeout
/// answers from the past. The safe mode does not.
#[test]
fn a_lease_read_after_an_unbounded_pause_is_stale_and_a_safe_one_is_not() {
    for (option, stale) in [(ReadOnlyOption::LeaseBased, true), (ReadOnlyOption::Safe, false)] {
        let mut c = crate::cluster::Cluster::with(&[1, 2, 3], &[], |c| c.read_only = option);
        c.elect(1);
        c.isolate(1);
        for id in [2, 3] {
            c.node(id).set_randomized_election_timeout(10 * id as u32);
            c.tick(id, 10);
        }
        c.settle();
        for _ in 0..20 {
            c.tick(2, 1);
            c.tick(3, 1);
            c.settle();
        }
        let newer = [2, 3].into_iter().find(|id| c.node(*id).is_leader()).unwrap();
        c.node(newer).propose("new").unwrap();
        c.settle();
        let committed = c.node(newer).status().hard_state.commit;
        c.node(1).read_index("r").unwrap();
        c.settle();
        let answered = c.members[&1].reads.iter().any(|r| r.index < committed);
        assert_eq!(answered, stale, "{option:?}");
    }
}

#[test]
fn the_queue_is_bounded_and_a_confirmation_makes_room() {
    let mut n = leader(|c| c.max_pending_reads = 2);
    n.node.read_index("a").unwrap();
    n.step(request(2, b"b"));
    assert_eq!(n.node.read_index("c"), Err(Error::TooManyReads { limit: 2 }));
    assert_eq!(n.refuse(request(3, b"d")), Error::TooManyReads { limit: 2 });
    n.step(echo(2, 2));
    assert_eq!(n.node.read_index("c"), Ok(()));
    // Requests that wait for the first commit of the term count as well.
    let mut n = Solo::tuned(&[1], |c| c.max_pending_reads = 1);
    n.lead();
    n.node.read_index("a").unwrap();
    assert_eq!(n.node.read_index("b"), Err(Error::TooManyReads { limit: 1 }));
}

#[test]
fn a_request_needs_exactly_one_entry() {
    let mut n = leader(|_| {});
    let two = vec![Entry::normal("a"), Entry::normal("b")];
    for entries in [vec![], two] {
        let refusal = n.refuse(Message { entries, ..from(2, T::ReadIndex, 0) });
        assert!(matches!(refusal, Error::Malformed { .. }));
    }
}
