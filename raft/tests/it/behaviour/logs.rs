//! A follower takes entries (paper, 5.3), and how the leader finds out where logs agree.

use stanchion_raft::{Error, Message, MessageType as T};

use super::solo::{Solo, append, from};

#[test]
fn an_append_behind_the_commit_index_is_accepted_with_it() {
    let mut n = Solo::new(&[1, 2, 2]);
    n.step(append(2, 2, (3, 2), &[], 3));
    assert_eq!(n.commit(), 3);
    let sent = n.step(append(2, 2, (1, 1), &[2], 3));
    assert_eq!((sent[0].index, sent[0].reject), (3, false));
}

#[test]
fn entries_that_are_there_stay_and_the_first_conflict_truncates() {
    // What comes behind 2/2, the log afterwards, and the acknowledged index.
    for (terms, log, index) in [
        (&[2][..], &[1, 2, 2, 2, 3][..], 3),
        (&[2, 2], &[1, 2, 2, 2, 3], 4),
        (&[2, 2, 3, 3], &[1, 2, 2, 2, 3, 3], 6),
        (&[2, 4], &[1, 2, 2, 4], 4),
        (&[4], &[1, 2, 4], 3),
        (&[], &[1, 2, 2, 2, 3], 2),
    ] {
        let mut n = Solo::new(&[1, 2, 2, 2, 3]);
        let sent = n.step(append(2, 4, (2, 2), terms, 1));
        assert_eq!((n.terms().as_slice(), sent[0].index, sent[0].reject), (log, index, false), "{terms:?}");
    }
}

#[test]
fn a_stale_append_does_not_cut_what_was_acknowledged() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[2, 2, 2, 2], 1));
    n.step(append(2, 2, (1, 1), &[2], 1));
    assert_eq!(n.last(), 5);
}

#[test]
fn the_commit_index_follows_the_leader_up_to_the_last_new_entry() {
    for (terms, commit, expected) in [(&[2, 2][..], 2, 2), (&[2, 2], 9, 3), (&[], 9, 1), (&[2], 1, 1)] {
        let mut n = Solo::new(&[1]);
        n.step(append(2, 2, (1, 1), terms, commit));
        assert_eq!(n.commit(), expected, "{terms:?} {commit}");
    }
    // Entries that were not part of the message do not count, even if they are there.
    let mut n = Solo::new(&[1, 2, 2, 2]);
    n.step(append(2, 3, (2, 2), &[], 4));
    assert_eq!(n.commit(), 2);
}

/// (own log, previous position of the append, hint, its term): what a refusal suggests.
#[test]
fn a_refusal_hints_at_the_last_entry_whose_term_is_not_above() {
    for (own, prev, hint, term) in [
        (&[1, 2, 2][..], (9, 2), 3, 2),
        (&[1, 2, 2], (3, 3), 3, 2),
        (&[1, 2, 2, 5, 5], (5, 4), 3, 2),
        (&[1, 5, 5, 5], (4, 3), 1, 1),
        (&[1, 1, 3, 3], (4, 2), 2, 1),
    ] {
        let mut n = Solo::new(own);
        let sent = n.step(append(2, 6, prev, &[], 1));
        let m = &sent[0];
        assert_eq!(
            (m.reject, m.index, m.reject_hint, m.log_term),
            (true, prev.0, hint, term),
            "{own:?} {prev:?}"
        );
    }
}

#[test]
fn a_hint_whose_term_is_compacted_is_sent_without_a_term() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 5, (1, 1), &[5, 5, 5, 5], 5));
    n.node.storage_mut().compact(4).unwrap();
    // Everything from the compaction on is of term 5, which is above what the leader of term 6 has at 5.
    let sent = n.step(append(2, 6, (9, 4), &[], 1));
    assert_eq!((sent[0].reject_hint, sent[0].log_term), (3, 0));
}

/// (leader's log, hint and term of the refusal, where it goes on behind).
#[test]
fn the_leader_skips_a_whole_term_at_a_refusal() {
    for (own, hint, log_term, prev) in [
        (&[1, 2, 2, 2, 5, 5][..], 4, 3, 4),
        (&[1, 5, 5, 5, 5, 5], 4, 3, 1),
        (&[1, 2, 3, 3, 3, 3], 5, 2, 2),
        (&[1, 2, 2, 2, 2, 2], 3, 0, 3),
        (&[1, 2, 2, 2, 2, 2], 3, 2, 3),
    ] {
        let mut n = Solo::new(own);
        n.lead();
        let term = n.node.term();
        let refusal =
            Message { index: 6, reject: true, reject_hint: hint, log_term, ..from(3, T::AppResp, term) };
        let sent = n.step(refusal);
        assert_eq!((sent[0].msg_type, sent[0].index), (T::App, prev), "{own:?} {hint}/{log_term}");
    }
}

#[test]
fn a_commit_index_beyond_the_log_is_an_error_that_names_both() {
    let mut n = Solo::new(&[1, 2]);
    let refusal = n.node.step(Message { commit: 9, ..from(2, T::Heartbeat, 2) }).unwrap_err();
    assert_eq!(refusal, Error::CommitBeyondLog { commit: 9, last: 2 });
    assert!(refusal.to_string().contains("corrupted, truncated or lost"));
}

#[test]
fn nothing_reaches_behind_the_commit_index() {
    let mut n = Solo::new(&[1, 2, 2]);
    n.step(append(2, 2, (3, 2), &[], 3));
    // Another leader's entries at 2 and 3 are not even looked at.
    let sent = n.step(append(3, 4, (1, 1), &[4, 4], 3));
    assert_eq!((sent[0].reject, sent[0].index), (false, 3));
    // An append behind the commit index itself must match there.
    assert!(n.step(append(3, 4, (3, 4), &[4], 3))[0].reject);
    assert_eq!(n.terms(), [1, 2, 2]);
    // What follows is open.
    n.step(append(3, 4, (3, 2), &[4], 3));
    assert_eq!(n.terms(), [1, 2, 2, 4]);
}

#[test]
fn a_heartbeats_context_comes_back_as_it_went() {
    for context in [&b""[..], b"x", &[1, 0, 0, 0, 0, 0, 0, 0], &[0xff; 40]] {
        let mut n = Solo::new(&[1]);
        let sent = n.step(Message { context: context.to_vec().into(), ..from(2, T::Heartbeat, 2) });
        assert_eq!((sent[0].msg_type, &sent[0].context[..]), (T::HeartbeatResp, context));
    }
}

/// etcd 3.7 sends the messages of a batch last first: a follower then refuses all but the last that it gets.
#[test]
fn a_batch_in_reverse_order_ends_with_everything_known_to_the_leader() {
    let mut c = crate::cluster::Cluster::new(&[1, 2, 3]);
    c.elect(1);
    for round in 0..40 {
        for i in 0..=round % 5 {
            c.node(1).propose(format!("{round}.{i}")).unwrap();
            c.work();
        }
        c.wire.reverse();
        c.deliver();
        c.work();
        c.wire.reverse();
        c.deliver();
    }
    for _ in 0..4 {
        c.tick(1, 1);
        c.settle();
    }
    let last = c.node(1).status().last_index;
    assert_eq!(c.node(2).status().hard_state.commit, last);
    assert_eq!(c.node(3).status().hard_state.commit, last);
    assert_eq!(c.applied(3), c.applied(1));
}
