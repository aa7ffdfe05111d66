//! Log replication, snapshots, flow control, restart.

use stanchion_raft::{Error, Message, MessageType, tracker::ProgressState};

use crate::cluster::Cluster;

#[test]
fn proposals_reach_every_node_in_one_order() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    for i in 0..100 {
        c.node(1 + i % 3).propose(format!("{i}")).unwrap();
        c.settle();
    }
    assert_eq!(c.applied(1).len(), 100);
    assert_eq!(c.applied(1), c.applied(2));
    assert_eq!(c.applied(1), c.applied(3));
}

#[test]
fn a_follower_behind_the_compacted_log_gets_a_snapshot() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.isolate(3);
    for i in 0..10 {
        c.node(1).propose(format!("{i}")).unwrap();
        c.settle();
    }
    c.members.get_mut(&1).unwrap().compact();
    c.heal();
    c.tick(1, 1);
    c.settle();
    c.tick(1, 1);
    c.settle();
    assert_eq!(c.node(1).peer(3).unwrap().state, ProgressState::Replicate);
    assert_eq!(c.node(3).status().hard_state.commit, c.node(1).status().hard_state.commit);
    c.node(1).propose("after").unwrap();
    c.settle();
    assert_eq!(c.applied(3), ["after"]);
}

#[test]
fn a_divergent_tail_is_replaced() {
    let mut c = Cluster::with(&[1, 2, 3], &[], |c| (c.check_quorum, c.pre_vote) = (false, false));
    c.elect(1);
    c.isolate(1);
    for i in 0..20 {
        c.node(1).propose(format!("lost{i}")).unwrap();
    }
    c.settle();
    c.elect(2);
    c.node(2).propose("kept").unwrap();
    c.settle();
    c.heal();
    c.tick(2, 1);
    c.settle();
    assert_eq!(c.applied(1), ["kept"]);
    assert_eq!(c.node(1).leader(), 2);
}

#[test]
fn a_batch_in_reverse_order_is_caught_up_with() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    for i in 0..50 {
        c.node(1).propose(format!("{i}")).unwrap();
        c.work();
        c.wire.reverse();
    }
    c.settle();
    c.tick(1, 1);
    c.settle();
    assert_eq!(c.applied(3).len(), 50);
}

#[test]
fn a_restart_continues_from_what_is_stored() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.node(1).propose("a").unwrap();
    c.settle();
    let before = c.node(2).status().hard_state;
    c.restart(2);
    assert_eq!(c.node(2).status().hard_state, before);
    c.node(1).propose("b").unwrap();
    c.settle();
    assert_eq!(c.applied(2), ["a", "b"]);
}

#[test]
fn a_commit_index_beyond_the_log_is_refused() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    let m = Message { from: 1, term: 2, commit: 99, ..Message::new(MessageType::Heartbeat, 2) };
    assert_eq!(c.node(2).step(m), Err(Error::CommitBeyondLog { commit: 99, last: 2 }));
}

#[test]
fn advance_takes_only_the_outstanding_ready() {
    let (mut a, mut b) = (Cluster::new(&[1]), Cluster::new(&[1]));
    a.node(1).campaign().unwrap();
    b.elect(1);
    b.node(1).propose("x").unwrap();
    let (first, other) = (a.node(1).ready().unwrap(), b.node(1).ready().unwrap());
    assert!(matches!(a.node(1).ready(), Err(Error::ReadyOutOfOrder { .. })));
    assert!(matches!(a.node(1).advance(other), Err(Error::ReadyOutOfOrder { .. })));
    a.node(1).advance(first).unwrap();
}
