//! Linearizable reads.

use stanchion_raft::MessageType;

use crate::cluster::Cluster;

#[test]
fn a_read_on_leader_and_follower_returns_the_commit_index() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.node(1).propose("a").unwrap();
    c.settle();
    let commit = c.node(1).status().hard_state.commit;
    c.node(1).read_index("l").unwrap();
    c.node(2).read_index("f").unwrap();
    c.settle();
    for id in 1..=2 {
        assert_eq!(c.members[&id].reads.len(), 1);
        assert_eq!(c.members[&id].reads[0].index, commit);
    }
    assert_eq!(c.node(1).status().pending_reads, 0);
}

#[test]
fn a_leader_that_is_cut_off_answers_no_read() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    c.isolate(1);
    c.node(1).read_index("x").unwrap();
    c.settle();
    assert!(c.members[&1].reads.is_empty());
}

#[test]
fn a_read_before_the_first_commit_of_the_term_waits_for_it() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.node(1).campaign().unwrap();
    while !c.node(1).is_leader() {
        c.work();
        c.deliver();
    }
    c.node(1).read_index("early").unwrap();
    assert_eq!(c.on_wire(MessageType::Heartbeat), 0);
    c.settle();
    assert_eq!(c.members[&1].reads.len(), 1);
    assert!(c.members[&1].reads[0].index >= 1);
}

#[test]
fn a_thousand_reads_share_one_round_of_heartbeats() {
    let mut c = Cluster::new(&[1, 2, 3]);
    c.elect(1);
    for i in 0..1000 {
        c.node(1).read_index(format!("{i}")).unwrap();
    }
    c.work();
    assert_eq!(c.on_wire(MessageType::Heartbeat), 2);
    c.settle();
    assert_eq!(c.members[&1].reads.len(), 1000);
}
