//! How the leader sends: probe, replicate, snapshot; windows by messages and by bytes (thesis, 10.2.1).

use stanchion_raft::tracker::ProgressState;
use stanchion_raft::{Config, Message, MessageType as T, PeerStatus};

use super::solo::{Solo, from};

fn leader(tune: impl Fn(&mut Config)) -> Solo {
    let mut n = Solo::tuned(&[1], tune);
    n.lead_replicated();
    n
}

fn peer(n: &Solo, id: u64) -> PeerStatus {
    n.node.peer(id).unwrap()
}

fn to(sent: &[Message], id: u64) -> Vec<(u64, usize)> {
    sent.iter().filter(|m| m.to == id && m.msg_type == T::App).map(|m| (m.index, m.entries.len())).collect()
}

#[test]
fn a_probe_sends_one_message_and_waits() {
    let mut n = Solo::new(&[1]);
    let first = n.lead();
    assert_eq!(to(&first, 3), [(1, 1)]);
    assert!(peer(&n, 3).paused);
    assert_eq!(to(&n.propose(b"x"), 3), []);
    let resumed = n.step(from(3, T::HeartbeatResp, 2));
    assert_eq!(to(&resumed, 3), [(1, 2)]);
    assert!(peer(&n, 3).paused);
}

#[test]
fn an_answer_ends_the_probe_also_when_it_only_repeats_the_match() {
    let mut n = leader(|_| {});
    n.node.report_unreachable(3);
    assert_eq!((peer(&n, 3).state, peer(&n, 3).next), (ProgressState::Probe, 3));
    n.step(Message { index: 2, ..from(3, T::AppResp, 2) });
    assert_eq!(peer(&n, 3).state, ProgressState::Replicate);
}

#[test]
fn a_pipeline_moves_on_when_it_sends() {
    let mut n = leader(|_| {});
    for index in 2..8 {
        assert_eq!(to(&n.propose(b"x"), 3), [(index, 1)]);
        assert_eq!(peer(&n, 3).next, index + 2);
    }
    assert_eq!((peer(&n, 3).match_index, peer(&n, 3).inflight_msgs), (2, 6));
}

#[test]
fn the_window_closes_by_messages() {
    let mut n = leader(|c| c.max_inflight_msgs = 2);
    assert_eq!(to(&n.propose(b"a"), 3).len(), 1);
    assert_eq!(to(&n.propose(b"b"), 3).len(), 1);
    assert_eq!(to(&n.propose(b"c"), 3).len(), 0);
    let freed = n.step(Message { index: 3, ..from(3, T::AppResp, 2) });
    // An empty one for the commit index that entry 3 brings, then what the freed place takes.
    assert!(to(&freed, 3).contains(&(4, 1)), "{freed:?}");
}

/// Soft: the message that crosses the limit still goes out.
#[test]
fn the_window_closes_by_payload_bytes() {
    let mut n = leader(|c| (c.max_bytes_per_msg, c.max_inflight_bytes) = (100, 100));
    assert_eq!(to(&n.propose(&[0; 60]), 3).len(), 1);
    assert_eq!(to(&n.propose(&[0; 60]), 3).len(), 1);
    assert_eq!((peer(&n, 3).inflight_bytes, peer(&n, 3).paused), (120, true));
    assert_eq!(to(&n.propose(&[0; 1]), 3).len(), 0);
    // A change of state forgets the bytes, too.
    n.node.report_unreachable(3);
    assert_eq!((peer(&n, 3).inflight_bytes, peer(&n, 3).inflight_msgs), (0, 0));
}

#[test]
fn an_acknowledgement_frees_everything_up_to_it() {
    let mut n = leader(|c| c.max_inflight_msgs = 4);
    (0..4).for_each(|_| drop(n.propose(b"x")));
    assert!(peer(&n, 3).paused);
    n.step(Message { index: 5, ..from(3, T::AppResp, 2) });
    assert_eq!(peer(&n, 3).inflight_msgs, 1);
    n.step(Message { index: 4, ..from(3, T::AppResp, 2) });
    assert_eq!((peer(&n, 3).inflight_msgs, peer(&n, 3).match_index), (1, 5), "old news");
}

#[test]
fn a_closed_window_lets_one_empty_append_out_per_heartbeat_answer() {
    let mut n = leader(|c| c.max_inflight_msgs = 1);
    n.propose(b"a");
    n.propose(b"b");
    for _ in 0..3 {
        let sent = n.step(from(3, T::HeartbeatResp, 2));
        assert_eq!(to(&sent, 3), [(3, 0)]);
        assert_eq!(peer(&n, 3).inflight_msgs, 1, "it frees no place");
    }
}

#[test]
fn a_message_holds_what_its_limit_allows_and_at_least_one_entry() {
    // An entry of 10 bytes takes 18 encoded.
    for (limit, counts) in [(0, &[1, 1, 1, 1, 1][..]), (36, &[2, 2, 1]), (54, &[3, 2]), (1 << 20, &[5])] {
        let mut n = leader(|c| c.max_bytes_per_msg = limit);
        n.node.report_unreachable(3);
        n.step(Message { index: 2, ..from(2, T::AppResp, 2) });
        let proposals = (0..5).map(|_| stanchion_raft::Entry::normal(vec![7; 10])).collect();
        n.node.propose_batch(proposals).unwrap();
        n.work();
        // The probe took the first piece; its acknowledgement opens the pipeline for all others.
        let first = counts[0] as u64;
        let rest = n.step(Message { index: 2 + first, ..from(3, T::AppResp, 2) });
        let sizes: Vec<usize> = to(&rest, 3).iter().map(|(_, n)| *n).filter(|n| *n > 0).collect();
        assert_eq!(sizes, counts[1..], "limit {limit}");
    }
}

#[test]
fn an_unreachable_report_and_a_refusal_go_back_to_the_match() {
    let mut n = leader(|_| {});
    (0..5).for_each(|_| drop(n.propose(b"x")));
    n.node.report_unreachable(3);
    assert_eq!((peer(&n, 3).state, peer(&n, 3).next), (ProgressState::Probe, 3));
    let mut n = leader(|_| {});
    (0..5).for_each(|_| drop(n.propose(b"x")));
    let refusal = Message { index: 6, reject: true, reject_hint: 2, log_term: 2, ..from(3, T::AppResp, 2) };
    let sent = n.step(refusal);
    assert_eq!(to(&sent, 3), [(2, 5)]);
    assert_eq!(peer(&n, 3).state, ProgressState::Probe);
}

#[test]
fn a_refusal_that_is_out_of_date_changes_nothing() {
    let mut n = leader(|_| {});
    (0..3).for_each(|_| drop(n.propose(b"x")));
    n.step(Message { index: 5, ..from(3, T::AppResp, 2) });
    let before = peer(&n, 3);
    let sent = n.step(Message { index: 4, reject: true, reject_hint: 2, ..from(3, T::AppResp, 2) });
    assert_eq!((to(&sent, 3), peer(&n, 3)), (vec![], before));
    // While probing, only the refusal of the probe that is under way counts.
    n.node.report_unreachable(3);
    let next = peer(&n, 3).next;
    n.step(Message { index: 3, reject: true, reject_hint: 2, ..from(3, T::AppResp, 2) });
    assert_eq!(peer(&n, 3).next, next);
}

#[test]
fn reordered_answers_leave_the_next_entry_above_the_match() {
    let mut n = leader(|_| {});
    (0..4).for_each(|_| drop(n.propose(b"x")));
    n.node.report_unreachable(3);
    n.step(from(3, T::HeartbeatResp, 2));
    n.step(Message { index: 6, ..from(3, T::AppResp, 2) });
    n.step(Message { index: 3, ..from(3, T::AppResp, 2) });
    assert_eq!((peer(&n, 3).match_index, peer(&n, 3).next), (6, 7));
}

#[test]
fn a_peer_is_told_a_commit_index_once() {
    let mut n = leader(|_| {});
    n.propose(b"x");
    let sent = n.step(Message { index: 3, ..from(2, T::AppResp, 2) });
    assert_eq!((to(&sent, 2), to(&sent, 3)), (vec![(3, 0)], vec![(3, 0)]));
    let sent = n.step(Message { index: 3, ..from(3, T::AppResp, 2) });
    assert_eq!(sent, [], "node 3 was told already");
}

#[test]
fn heartbeats_carry_no_commit_index_beyond_the_match() {
    let mut n = Solo::new(&[1]);
    n.lead();
    n.ack(2);
    let commits: Vec<(u64, u64)> = n.tick(1).iter().map(|m| (m.to, m.commit)).collect();
    assert_eq!(commits, [(2, 2), (3, 0)]);
}

#[test]
fn an_acknowledgement_of_entries_that_do_not_exist_is_refused() {
    let mut n = leader(|_| {});
    let refusal = n.refuse(Message { index: 99, ..from(3, T::AppResp, 2) });
    assert_eq!(refusal, stanchion_raft::Error::AckBeyondLog { from: 3, index: 99, last: 2 });
}
