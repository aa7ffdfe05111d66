//! What a ready contains and when it must be synced; pages of committed entries.

use stanchion_raft::{ConfState, Config, Error, MemStorage, Message, MessageType as T, RawNode};

use super::solo::{Solo, append, from};

#[test]
fn nothing_to_do_is_no_ready() {
    let mut n = Solo::new(&[1]);
    assert!(!n.node.has_ready());
    n.tick(5);
    assert!(!n.node.has_ready());
}

#[test]
fn entries_term_and_vote_must_be_synced_and_a_commit_index_need_not() {
    let mut n = Solo::new(&[1]);
    n.node.step(append(2, 2, (1, 1), &[2, 2], 1)).unwrap();
    let ready = n.node.ready().unwrap();
    assert!(ready.must_sync);
    n.node.storage_mut().append(&ready.entries).unwrap();
    n.node.advance(ready).unwrap();
    n.node.step(Message { commit: 3, ..from(2, T::Heartbeat, 2) }).unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!((ready.must_sync, ready.hard_state.unwrap().commit), (false, 3));
    n.node.advance(ready).unwrap();
    n.node.step(Message { index: 9, log_term: 2, ..from(3, T::Vote, 3) }).unwrap();
    let ready = n.node.ready().unwrap();
    assert!(ready.must_sync && ready.entries.is_empty());
    n.node.advance(ready).unwrap();
    n.node.step(Message { context: b"c"[..].into(), ..from(3, T::Heartbeat, 3) }).unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!((ready.must_sync, ready.hard_state), (false, None), "an answer alone");
    n.node.advance(ready).unwrap();
}

#[test]
fn the_soft_state_comes_when_it_changes() {
    let mut n = Solo::new(&[1]);
    n.node.step(from(2, T::Heartbeat, 1)).unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!(ready.soft_state.unwrap().leader, 2);
    n.node.advance(ready).unwrap();
    n.node.step(from(2, T::Heartbeat, 1)).unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!(ready.soft_state, None);
    n.node.advance(ready).unwrap();
}

/// In synchronous mode they may be the same: they came with their commit index.
#[test]
fn a_follower_persists_and_applies_the_same_entries_in_one_ready() {
    let mut n = Solo::new(&[1]);
    n.node.step(append(2, 2, (1, 1), &[2, 2], 3)).unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!((ready.entries.len(), ready.committed_entries.len()), (2, 2));
    n.node.storage_mut().append(&ready.entries).unwrap();
    n.node.advance(ready).unwrap();
    assert_eq!(n.node.status().applied, 3);
}

#[test]
fn a_lone_voter_never_applies_in_the_ready_that_persists() {
    let mut n = Solo::of(&ConfState::new(&[1], &[]), &[1], |_| {});
    n.node.campaign().unwrap();
    n.work();
    n.node.propose("x").unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!((ready.entries.len(), ready.committed_entries.len()), (1, 0));
    n.node.storage_mut().append(&ready.entries).unwrap();
    n.node.advance(ready).unwrap();
    let ready = n.node.ready().unwrap();
    assert_eq!((ready.entries.len(), ready.committed_entries.len()), (0, 1));
    n.node.advance(ready).unwrap();
}

#[test]
fn one_ready_at_a_time() {
    let mut n = Solo::new(&[1]);
    n.node.campaign().unwrap();
    let first = n.node.ready().unwrap();
    assert_eq!(n.node.ready().unwrap_err(), Error::ReadyOutOfOrder { expected: Some(1), found: 2 });
    n.node.advance(first).unwrap();
}

/// (limit in encoded bytes, sizes of the pages). An entry of ten bytes takes 18.
#[test]
fn committed_entries_come_in_pages_of_the_limit_and_at_least_one() {
    for (limit, pages) in [(1, &[1, 1, 1, 1, 1][..]), (36, &[2, 2, 1]), (40, &[2, 2, 1]), (90, &[5])] {
        let mut n = Solo::tuned(&[1], |c| c.max_committed_bytes_per_ready = limit);
        let mut m = append(2, 2, (1, 1), &[2; 5], 6);
        m.entries.iter_mut().for_each(|e| e.data = vec![7; 10].into());
        n.node.step(m).unwrap();
        let mut sizes = Vec::new();
        while n.node.has_ready() {
            let ready = n.node.ready().unwrap();
            n.node.storage_mut().append(&ready.entries).unwrap();
            if let Some(hard_state) = ready.hard_state {
                assert_eq!(hard_state.commit, 6, "the page does not cut the commit index");
            }
            sizes.push(ready.committed_entries.len());
            n.node.advance(ready).unwrap();
        }
        sizes.retain(|n| *n > 0);
        assert_eq!(sizes, pages, "limit {limit}");
    }
}

/// The quota is over everything handed out and not acknowledged, not for each ready.
#[test]
fn asynchronous_pages_wait_for_acknowledgements() {
    let config = Config {
        async_storage_writes: true,
        max_committed_bytes_per_ready: 40,
        pre_vote: false,
        ..Config::new(1)
    };
    let storage = MemStorage::with_conf_state(ConfState::new(&[1], &[]));
    let mut node = RawNode::new(&config, storage).unwrap();
    node.campaign().unwrap();
    let mut applies = Vec::new();
    let mut run = |node: &mut RawNode<MemStorage>| {
        while node.has_ready() {
            for m in node.ready().unwrap().messages {
                if m.msg_type == T::StorageApply {
                    applies.push(m);
                    continue;
                }
                node.storage_mut().append(&m.entries).unwrap();
                m.responses.into_iter().for_each(|r| node.step_response(r).unwrap());
            }
        }
        std::mem::take(&mut applies)
    };
    let empty = run(&mut node);
    empty.into_iter().flat_map(|m| m.responses).for_each(|r| node.step_response(r).unwrap());
    for _ in 0..5 {
        node.propose(vec![7; 10]).unwrap();
    }
    let first = run(&mut node);
    assert_eq!(first.iter().map(|m| m.entries.len()).collect::<Vec<_>>(), [2]);
    first.into_iter().flat_map(|m| m.responses).for_each(|r| node.step_response(r).unwrap());
    assert_eq!(run(&mut node)[0].entries.len(), 2);
}

#[test]
fn rejections_and_pre_votes_wait_for_the_disk_as_well() {
    let mut n = Solo::new(&[1, 2]);
    for m in [
        append(2, 3, (9, 3), &[], 1),
        Message { index: 1, log_term: 1, ..from(2, T::Vote, 4) },
        Message { index: 9, log_term: 2, ..from(2, T::PreVote, 9) },
    ] {
        n.node.step(m).unwrap();
        let ready = n.node.ready().unwrap();
        assert_eq!((ready.messages.len(), ready.messages_after_persist.len()), (0, 1));
        n.node.advance(ready).unwrap();
    }
}

#[test]
fn what_needs_nothing_durable_leaves_at_once() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.node.propose("x").unwrap();
    n.node.tick().unwrap();
    let ready = n.node.ready().unwrap();
    let kinds: Vec<T> = ready.messages.iter().map(|m| m.msg_type).collect();
    assert_eq!(kinds, [T::App, T::App, T::Heartbeat, T::Heartbeat]);
    assert!(ready.messages_after_persist.is_empty());
}
